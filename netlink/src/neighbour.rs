//! Neighbours: link-layer addresses of the hosts on a link.

use std::net::IpAddr;

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use crate::{Connection, Error, Family, Mac, Request, connection::Message, request::RTM_NEWNEIGH};

const RTM_GETNEIGH: u16 = 30;

/// An entry of the neighbour table (ARP, ND).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The interface's index.
    pub interface: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its link-layer address, if known.
    pub mac: Option<Mac>,
    /// The entry stays until it is deleted.
    pub permanent: bool,
}

impl Neighbour {
    /// A permanent entry.
    pub fn permanent(interface: u32, address: IpAddr, mac: Mac) -> Neighbour {
        Neighbour {
            interface,
            address,
            mac: Some(mac),
            permanent: true,
        }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::from(Family::of(self.address).number());
        message.header.ifindex = self.interface;
        message.header.state = if self.permanent {
            NeighbourState::Permanent
        } else {
            NeighbourState::Reachable
        };
        message
            .attributes
            .push(NeighbourAttribute::Destination(self.address.into()));
        if let Some(mac) = self.mac {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        }
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Neighbour>, Error> {
        let message = NeighbourMessage::parse(payload).map_err(|e| Error::Malformed {
            action: "read a neighbour".into(),
            reason: e.to_string(),
        })?;
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some((*a).into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some((*a).into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok().map(Mac);
                }
                _ => {}
            }
        }
        Ok(address.map(|address| Neighbour {
            interface: message.header.ifindex,
            address,
            mac,
            permanent: message.header.state == NeighbourState::Permanent,
        }))
    }
}

impl std::fmt::Display for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(mac) = self.mac {
            write!(f, " at {mac}")?;
        }
        write!(f, " on interface {}", self.interface)
    }
}

impl Connection {
    /// All neighbours of both families, on all interfaces.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let mut neighbours = Vec::new();
        for family in [Family::V4, Family::V6] {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::from(family.number());
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            let message = Message {
                kind: RTM_GETNEIGH,
                flags: 0,
                payload: bytes,
            };
            neighbours.extend(self.dump("list neighbours", &message, |kind, payload, found| {
                if kind == RTM_NEWNEIGH {
                    found.extend(Neighbour::parse(payload)?);
                }
                Ok(())
            })?);
        }
        Ok(neighbours)
    }

    /// Create or change a neighbour.
    pub fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), Error> {
        self.apply(&Request::SetNeighbour(neighbour.clone()))
    }

    /// Delete a neighbour.
    pub fn delete_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), Error> {
        self.apply(&Request::DeleteNeighbour(neighbour.clone()))
    }
}
