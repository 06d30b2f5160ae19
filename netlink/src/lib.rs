//! Linux routing netlink for Margay's drivers: links, addresses, neighbours, routes, next-hop
//! objects, events, network namespaces and their sysctls.
//!
//! The crate knows nothing of BGP, policies or workloads. It is synchronous: a [`Connection`] is a
//! socket with a time limit on every answer, so an asynchronous caller gives it a thread of its own
//! (or `spawn_blocking`); a [`Background`] has one of its own for batches. Events are the exception: a [`Monitor`] can be awaited as well as polled.
//!
//! ```no_run
//! use netlink::{Connection, NetNs, Route, RouteFilter, VethSpec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = NetNs::unnamed()?; // lives as long as something refers to it
//! let workload = NetNs::unnamed()?;
//! let mut nl = Connection::open_in(&host)?;
//! nl.create_veth(&VethSpec { mtu: Some(1450), peer_netns: Some(&workload), ..VethSpec::new("cali1", "eth0") })?;
//! let link = nl.link("cali1")?.ok_or("no link")?;
//! nl.add_address(link.index, "10.0.0.1/24".parse()?)?;
//! nl.set_up(link.index)?;
//! // Many requests, one system call, an outcome for each:
//! let routes: Vec<_> = (0..200u8)
//!     .map(|n| Route::new(format!("10.9.{n}.0/24").parse().unwrap()).via("10.0.0.2".parse().unwrap()))
//!     .map(netlink::Request::AddRoute)
//!     .collect();
//! for (request, outcome) in routes.iter().zip(nl.batch(&routes)?) {
//!     if let Err(refusal) = outcome {
//!         eprintln!("{request}: {refusal}");
//!     }
//! }
//! let mine = nl.routes(&RouteFilter { protocol: Some(netlink::protocol::BOOT), ..RouteFilter::default() })?;
//! # let _ = mine;
//! # Ok(()) }
//! ```

mod address;
mod attribute;
mod background;
mod connection;
mod error;
mod link;
mod monitor;
mod neighbour;
pub mod netns;
mod nexthop;
mod request;
mod route;
mod route_queries;
mod sys;
pub mod sysctl;

pub use address::Address;
pub use background::Background;
pub use connection::{ANSWER_TIME_LIMIT, Connection, Outcome};
pub use error::{Error, Refusal};
pub use link::{Link, Mac, VethSpec};
pub use monitor::{AsyncMonitor, Event, Group, Monitor};
pub use neighbour::Neighbour;
pub use netns::NetNs;
pub use nexthop::{NextHop, NextHopKind};
pub use request::Request;
pub use route::{Hop, Route, RouteKind, protocol, table};
pub use route_queries::RouteFilter;

/// An address family of routes, neighbours and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: std::net::IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The `AF_` number, as netlink headers hold it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::V4 => libc::AF_INET as u8,
            Family::V6 => libc::AF_INET6 as u8,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Family> {
        match i32::from(number) {
            libc::AF_INET => Some(Family::V4),
            libc::AF_INET6 => Some(Family::V6),
            _ => None,
        }
    }
}
