//! What the dataplane tells about endpoints and its last changes.

use std::net::IpAddr;
use std::time::Duration;

use ebpf_common::event::Reason;
use ipnet::IpNet;
use policy_engine::output::{Direction, EndpointId, RuleId};

/// How far an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointState {
    /// Its interface does not exist yet, or has no carrier: everything is in place, but the kernel carries no packets
    /// before both ends of the link are up.
    WaitingForInterface,
    /// Programs, policy, link, routes and neighbour are in place.
    Up,
    /// Something is missing; it is tried again at the next change or resync. What could be enforced is enforced,
    /// and an interface without its policy drops everything.
    Error(String),
}

/// An endpoint and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Who it is.
    pub id: EndpointId,
    /// Its interface's name.
    pub interface: String,
    /// How far it is.
    pub state: EndpointState,
}

/// A route that should be ours and is held by someone else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {
    /// The prefix.
    pub destination: IpNet,
    /// The holder, as `ip route` would show it.
    pub holder: String,
}

/// The outcome of a change or a resync.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyReport {
    /// Endpoints whose state differs from what was reported before, and new ones.
    pub changed: Vec<EndpointStatus>,
    /// Endpoints that are gone.
    pub removed: Vec<EndpointId>,
    /// All routes that are held by others now.
    pub conflicts: Vec<RouteConflict>,
    /// Failures that belong to no single endpoint; what they concern is tried again at the next resync.
    pub errors: Vec<String>,
}

/// How full a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapUsage {
    /// The map's name.
    pub map: &'static str,
    /// Entries in use.
    pub used: u32,
    /// Entries that fit.
    pub size: u32,
}

/// Counters of the programs, summed over the CPUs, since the maps were made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets by reason.
    pub reasons: Vec<(Reason, u64)>,
    /// Tracked flows at the last sweep.
    pub flows: u64,
    /// Half-open flows at the last sweep.
    pub new_flows: u64,
    /// How full the maps of policies are.
    pub maps: Vec<MapUsage>,
}

impl Counters {
    /// Packets of one reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.reasons
            .iter()
            .find(|(r, _)| *r == reason)
            .map_or(0, |&(_, packets)| packets)
    }
}

/// How often a rule decided, passed on or logged, since this process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleHits {
    /// The rule.
    pub rule: RuleId,
    /// Which list of the policy its index is in.
    pub direction: Direction,
    /// New flows and denied packets.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}

/// The outcome of a conntrack sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Flows that stay.
    pub flows: u64,
    /// Half-open flows that stay.
    pub new_flows: u64,
    /// Expired flows that were removed.
    pub removed: u64,
}

/// A tracked flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowEntry {
    /// The side that opened the flow.
    pub source: IpAddr,
    /// The other side.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Or the identifier of an ICMP echo.
    pub source_port: u16,
    /// Or the identifier of an ICMP echo.
    pub destination_port: u16,
    /// Packets of the opener and of the other side.
    pub packets: [u64; 2],
    /// Bytes of the opener and of the other side.
    pub bytes: [u64; 2],
    /// Since when it has been idle.
    pub idle: Duration,
    /// How old it is.
    pub age: Duration,
    /// Whether both sides have spoken (TCP: the handshake is complete).
    pub established: bool,
}
