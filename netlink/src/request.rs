//! Requests that can be batched.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use crate::{Address, Error, Neighbour, NextHop, Route, connection::Message};

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;

/// One change for [`Connection::batch`](crate::Connection::batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Create a route; refused with `EEXIST` when its (prefix, table, metric) is taken.
    AddRoute(Route),
    /// Create a route or take the place of whatever has its (prefix, table, metric), **whoever put it
    /// there**: read the holder first.
    ReplaceRoute(Route),
    /// Delete the route of this prefix, table, metric, kind and protocol (those that are set).
    /// Next hops are not compared.
    DeleteRoute(Route),
    /// Create a next-hop object or group; refused with `EEXIST` when the id is taken.
    AddNextHop(NextHop),
    /// Create or change a next-hop object or group.
    ReplaceNextHop(NextHop),
    /// Delete a next-hop object by id, and with it the routes that depend on it alone.
    DeleteNextHop(u32),
    /// Create or change a neighbour.
    SetNeighbour(Neighbour),
    /// Delete a neighbour.
    DeleteNeighbour(Neighbour),
    /// Create an address; refused with `EEXIST` when it is there.
    AddAddress(Address),
    /// Create or change an address.
    ReplaceAddress(Address),
    /// Delete an address.
    DeleteAddress(Address),
}

impl Request {
    pub(crate) fn message(&self) -> Result<Message, Error> {
        let mut payload = Vec::new();
        let (kind, flags) = self.write(&mut payload)?;
        Ok(Message { kind, flags, payload })
    }

    /// Append what follows the netlink header; gives the message's type and its flags besides `NLM_F_REQUEST`.
    /// Routes come by the million: nothing is allocated for them.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Result<(u16, u16), Error> {
        const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
        const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
        let (kind, flags, payload) = match self {
            Request::AddRoute(route) => {
                route.write(bytes)?;
                return Ok((RTM_NEWROUTE, ADD));
            }
            Request::ReplaceRoute(route) => {
                route.write(bytes)?;
                return Ok((RTM_NEWROUTE, REPLACE));
            }
            Request::DeleteRoute(route) => {
                route.write_key(bytes);
                return Ok((RTM_DELROUTE, 0));
            }
            Request::AddNextHop(hop) => (RTM_NEWNEXTHOP, ADD, hop.payload()),
            Request::ReplaceNextHop(hop) => (RTM_NEWNEXTHOP, REPLACE, hop.payload()),
            Request::DeleteNextHop(id) => (RTM_DELNEXTHOP, 0, NextHop::id_payload(*id)),
            Request::SetNeighbour(neighbour) => (RTM_NEWNEIGH, REPLACE, neighbour.payload()),
            Request::DeleteNeighbour(neighbour) => (RTM_DELNEIGH, 0, neighbour.payload()),
            Request::AddAddress(address) => (RTM_NEWADDR, ADD, address.payload()),
            Request::ReplaceAddress(address) => (RTM_NEWADDR, REPLACE, address.payload()),
            Request::DeleteAddress(address) => (RTM_DELADDR, 0, address.payload()),
        };
        bytes.extend_from_slice(&payload);
        Ok((kind, flags))
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::AddRoute(route) => write!(f, "add route {route}"),
            Request::ReplaceRoute(route) => write!(f, "replace route {route}"),
            Request::DeleteRoute(route) => write!(f, "delete route {route}"),
            Request::AddNextHop(hop) => write!(f, "add next hop {hop}"),
            Request::ReplaceNextHop(hop) => write!(f, "replace next hop {hop}"),
            Request::DeleteNextHop(id) => write!(f, "delete next hop id {id}"),
            Request::SetNeighbour(neighbour) => write!(f, "set neighbour {neighbour}"),
            Request::DeleteNeighbour(neighbour) => write!(f, "delete neighbour {neighbour}"),
            Request::AddAddress(address) => write!(f, "add address {address}"),
            Request::ReplaceAddress(address) => write!(f, "replace address {address}"),
            Request::DeleteAddress(address) => write!(f, "delete address {address}"),
        }
    }
}

impl crate::Connection {
    /// Carry out one request and wait for its outcome.
    pub fn apply(&mut self, request: &Request) -> Result<(), Error> {
        let message = request.message()?;
        self.call(|| request.to_string(), &message)
    }
}
