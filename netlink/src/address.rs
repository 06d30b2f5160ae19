//! Addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope},
};

use crate::{Connection, Error, Family, Request, connection::Message, request::RTM_NEWADDR};

const RTM_GETADDR: u16 = 22;

/// An interface's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    /// The address with the length of its subnet.
    pub address: IpNet,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// IPv6: used at once, without duplicate address detection. Set by [`Address::new`].
    pub no_dad: bool,
    /// The kernel makes no route for the subnet.
    pub no_prefix_route: bool,
    /// IPv6: duplicate address detection is not over. Ignored in requests.
    pub tentative: bool,
    /// Its scope: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Who made it (`IFA_PROTO`): 0 for nobody in particular, 1 to 3 for the kernel. Kernels below 5.18 do not keep it.
    pub protocol: u8,
}

impl Address {
    /// An address with the scope that its kind has; duplicate address detection is left out.
    pub fn new(interface: u32, address: IpNet) -> Address {
        let scope = match address.addr() {
            IpAddr::V4(a) if a.is_loopback() => AddressScope::Host,
            IpAddr::V6(a) if a.is_loopback() => AddressScope::Host,
            IpAddr::V6(a) if a.is_unicast_link_local() => AddressScope::Link,
            _ => AddressScope::Universe,
        };
        let scope = scope.into();
        Address {
            interface,
            address,
            peer: None,
            no_dad: true,
            no_prefix_route: false,
            tentative: false,
            scope,
            protocol: 0,
        }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::from(Family::of(self.address.addr()).number());
        message.header.prefix_len = self.address.prefix_len();
        message.header.index = self.interface;
        message.header.scope = AddressScope::from(self.scope);
        message
            .attributes
            .push(AddressAttribute::Local(self.address.addr()));
        message.attributes.push(AddressAttribute::Address(
            self.peer.unwrap_or(self.address.addr()),
        ));
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, self.no_dad && self.address.addr().is_ipv6());
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        if self.protocol != 0 {
            let protocol = AddressProtocol::from(self.protocol);
            message.attributes.push(AddressAttribute::Protocol(protocol));
        }
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Address>, Error> {
        let malformed = |reason: String| Error::Malformed {
            action: "read an address".into(),
            reason,
        };
        let message = AddressMessage::parse(payload).map_err(|e| malformed(e.to_string()))?;
        let (mut local, mut address, mut protocol) = (None, None, 0);
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(a) => local = Some(*a),
                AddressAttribute::Address(a) => address = Some(*a),
                AddressAttribute::Flags(f) => flags = *f,
                AddressAttribute::Protocol(p) => protocol = u8::from(*p),
                _ => {}
            }
        }
        // With a peer, `Local` is ours and `Address` the other end; IPv6 sends `Address` alone else.
        let Some(own) = local.or(address) else {
            return Ok(None);
        };
        let address_of =
            IpNet::new(own, message.header.prefix_len).map_err(|e| malformed(format!("{own}: {e}")))?;
        Ok(Some(Address {
            interface: message.header.index,
            address: address_of,
            peer: address.filter(|a| *a != own),
            no_dad: flags.contains(AddressFlags::Nodad),
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
            tentative: flags.contains(AddressFlags::Tentative),
            scope: message.header.scope.into(),
            protocol,
        }))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on interface {}", self.address, self.interface)
    }
}

impl Connection {
    /// All addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let mut bytes = vec![0; AddressMessage::default().buffer_len()];
        AddressMessage::default().emit(&mut bytes);
        let message = Message {
            kind: RTM_GETADDR,
            flags: 0,
            payload: bytes,
        };
        self.dump("list addresses", &message, |kind, payload, found| {
            if kind == RTM_NEWADDR {
                found.extend(Address::parse(payload)?);
            }
            Ok(())
        })
    }

    /// Give an interface an address; an error of `EEXIST` when it has it.
    pub fn add_address(&mut self, interface: u32, address: IpNet) -> Result<(), Error> {
        self.apply(&Request::AddAddress(Address::new(interface, address)))
    }

    /// Take an address from an interface.
    pub fn delete_address(&mut self, interface: u32, address: IpNet) -> Result<(), Error> {
        self.apply(&Request::DeleteAddress(Address::new(interface, address)))
    }
}
