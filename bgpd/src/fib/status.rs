//! What the driver reports.

use std::fmt;
use std::net::IpAddr;

use crate::wire::Prefix;

/// Refused routes that are listed; all of them are counted.
pub(super) const REFUSED_LISTED_MAX: usize = 1000;

/// Where the driver stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibStatus {
    /// Routes of ours in the kernel.
    pub installed: usize,
    /// Of these, adopted at the start and not confirmed since.
    pub stale: usize,
    /// Prefixes whose route is still to be changed.
    pub pending: usize,
    /// Wanted routes that are not installed.
    pub refused: usize,
    /// The first of them, with reasons.
    pub refused_routes: Vec<RefusedRoute>,
    /// Next-hop objects and groups of ours in the kernel.
    pub next_hop_objects: usize,
    /// Whether multipath routes use next-hop objects.
    pub uses_next_hop_objects: bool,
    /// Times that the kernel was found to differ from what we had put there, and was repaired.
    pub repairs: u64,
    /// Times that the kernel told of changes faster than they were read, so that everything was read again.
    pub resyncs: u64,
    /// Changes of the selection that wait for the driver; the RIB keeps more.
    pub waiting: usize,
    /// The last failure to talk to the kernel, if the latest attempt failed.
    pub error: Option<String>,
    /// How many calls have been carried out.
    pub(super) done: u64,
}

/// A wanted route that is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRoute {
    /// Its prefix.
    pub prefix: Prefix,
    /// Why.
    pub reason: Refusal,
}

/// Why a wanted route is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else has a route with this prefix and metric.
    Foreign {
        /// That route's protocol number.
        protocol: u8,
    },
    /// Somebody else drops or refuses packets to this prefix (an own block's blackhole, for one).
    DeadEnd {
        /// That route's protocol number.
        protocol: u8,
    },
    /// It is the address of a workload on this host.
    Workload {
        /// The workload's interface.
        interface: String,
    },
    /// No way to its next hops is known.
    NextHop {
        /// The best path's next hop.
        next_hop: IpAddr,
    },
    /// The kernel does not take it.
    Kernel {
        /// The kernel's words.
        reason: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { protocol } => {
                write!(f, "protocol {protocol} has a route with this prefix and metric")
            }
            Self::DeadEnd { protocol } => {
                write!(
                    f,
                    "protocol {protocol} has a blackhole or unreachable route to this prefix"
                )
            }
            Self::Workload { interface } => write!(f, "it is a workload's address, on {interface}"),
            Self::NextHop { next_hop } => write!(f, "next hop {next_hop} is not reachable"),
            Self::Kernel { reason } => write!(f, "the kernel refuses it: {reason}"),
        }
    }
}
