//! Links: network interfaces.

use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use std::os::fd::AsRawFd;

use crate::{Connection, Error, NetNs, connection::Message};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
/// IFNAMSIZ without the final zero.
const NAME_BYTES_MAX: usize = 15;

/// A link-layer address of six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mac, Error> {
        let invalid = || Error::Invalid {
            field: "MAC address",
            value: text.into(),
            reason: "six pairs of hexadecimal digits with colons between them are needed",
        };
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() {
            Err(invalid())
        } else {
            Ok(Mac(mac))
        }
    }
}

/// A network interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its index, unique in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, as `veth` or `bridge`; nothing for hardware and loopback.
    pub kind: Option<String>,
    /// Its link-layer address, when that has six bytes.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// An administrator set it up.
    pub up: bool,
    /// The cable is there and the other end is up.
    pub carrier: bool,
    /// Up, with carrier, and not waiting for anything (RFC 2863 operational state up or unknown).
    pub running: bool,
    /// It is a loopback interface.
    pub loopback: bool,
    /// The bridge (or other master) that it belongs to.
    pub master: Option<u32>,
    /// The index of a veth's other end, in that end's namespace.
    pub peer: Option<u32>,
}

impl Link {
    pub(crate) fn parse(payload: &[u8]) -> Result<Link, Error> {
        let message = LinkMessage::parse(payload).map_err(|e| Error::Malformed {
            action: "read a link".into(),
            reason: e.to_string(),
        })?;
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            kind: None,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            running: flags.contains(LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            master: None,
            peer: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = (master != 0).then_some(master),
                LinkAttribute::Link(peer) => link.peer = Some(peer),
                LinkAttribute::OperState(state) => {
                    link.running &= matches!(state, State::Up | State::Unknown);
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok(link)
    }
}

/// A pair of virtual Ethernet interfaces to be made.
#[derive(Debug, Clone)]
pub struct VethSpec<'a> {
    /// This end's name, in the connection's namespace.
    pub name: &'a str,
    /// The other end's name.
    pub peer_name: &'a str,
    /// Where the other end goes; the same namespace otherwise. It is made there at once, so its name
    /// may be taken here.
    pub peer_netns: Option<&'a NetNs>,
    /// This end's link-layer address; random otherwise.
    pub mac: Option<Mac>,
    /// The other end's link-layer address; random otherwise.
    pub peer_mac: Option<Mac>,
    /// The MTU of both ends; 1500 otherwise.
    pub mtu: Option<u32>,
}

impl<'a> VethSpec<'a> {
    /// A pair with the kernel's defaults.
    pub fn new(name: &'a str, peer_name: &'a str) -> VethSpec<'a> {
        VethSpec {
            name,
            peer_name,
            peer_netns: None,
            mac: None,
            peer_mac: None,
            mtu: None,
        }
    }
}

fn checked_name(name: &str) -> Result<LinkAttribute, Error> {
    let legal = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0');
    if !legal {
        let reason = "an interface's name has 1 to 15 bytes without space, slash or colon";
        return Err(Error::Invalid {
            field: "interface name",
            value: name.into(),
            reason,
        });
    }
    Ok(LinkAttribute::IfName(name.into()))
}

fn message(kind: u16, flags: u16, link: &LinkMessage) -> Message {
    let mut payload = vec![0; link.buffer_len()];
    link.emit(&mut payload);
    Message { kind, flags, payload }
}

fn change(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

impl Connection {
    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let request = message(RTM_GETLINK, 0, &LinkMessage::default());
        self.dump("list links", &request, |kind, payload, found| {
            if kind == RTM_NEWLINK {
                match Link::parse(payload) {
                    Ok(link) => found.push(link),
                    Err(error) => tracing::warn!(%error, "a link is passed over"),
                }
            }
            Ok(())
        })
    }

    /// The link of a name; nothing if there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut request = LinkMessage::default();
        request.attributes.push(checked_name(name)?);
        self.one_link(format!("look up link {name}"), &request)
    }

    /// The link of an index; nothing if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, Error> {
        self.one_link(format!("look up link {index}"), &change(index))
    }

    fn one_link(&mut self, action: String, request: &LinkMessage) -> Result<Option<Link>, Error> {
        let mut found = None;
        let outcome = self.query(
            || action,
            &message(RTM_GETLINK, 0, request),
            |kind, payload| {
                if kind == RTM_NEWLINK {
                    found = Some(Link::parse(payload)?);
                }
                Ok(())
            },
        );
        match outcome {
            Ok(()) => Ok(found),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index of a link that must be there.
    pub fn index_of(&mut self, name: &str) -> Result<u32, Error> {
        self.link(name)?
            .map(|link| link.index)
            .ok_or_else(|| Error::Invalid {
                field: "interface name",
                value: name.into(),
                reason: "there is no such interface in this namespace",
            })
    }

    /// Make a pair of veth interfaces; both are down.
    pub fn create_veth(&mut self, spec: &VethSpec) -> Result<(), Error> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(checked_name(spec.peer_name)?);
        peer.attributes
            .extend(spec.peer_mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        peer.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        peer.attributes.extend(
            spec.peer_netns
                .map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())),
        );
        let mut link = LinkMessage::default();
        link.attributes.push(checked_name(spec.name)?);
        link.attributes
            .extend(spec.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        link.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let action = || format!("create veth pair {} and {}", spec.name, spec.peer_name);
        self.call(action, &message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link))
    }

    /// Make a bridge; it is down.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), Error> {
        let mut link = LinkMessage::default();
        link.attributes.push(checked_name(name)?);
        link.attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        let action = || format!("create bridge {name}");
        self.call(action, &message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link))
    }

    /// Delete a link; a veth's other end goes with it.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        self.call(
            || format!("delete link {index}"),
            &message(RTM_DELLINK, 0, &change(index)),
        )
    }

    /// Set a link up.
    pub fn set_up(&mut self, index: u32) -> Result<(), Error> {
        self.set_flag(index, LinkFlags::Up, "up")
    }

    /// Set a link down.
    pub fn set_down(&mut self, index: u32) -> Result<(), Error> {
        self.set_flag(index, LinkFlags::empty(), "down")
    }

    fn set_flag(&mut self, index: u32, flags: LinkFlags, word: &str) -> Result<(), Error> {
        let mut link = change(index);
        link.header.flags = flags;
        link.header.change_mask = LinkFlags::Up;
        self.call(
            || format!("set link {index} {word}"),
            &message(RTM_SETLINK, 0, &link),
        )
    }

    fn set_attribute(&mut self, index: u32, what: String, attribute: LinkAttribute) -> Result<(), Error> {
        let mut link = change(index);
        link.attributes.push(attribute);
        self.call(
            || format!("set link {index}'s {what}"),
            &message(RTM_SETLINK, 0, &link),
        )
    }

    /// Rename a link (before Linux 6.2 only while it is down).
    pub fn rename(&mut self, index: u32, name: &str) -> Result<(), Error> {
        let name_attribute = checked_name(name)?;
        self.set_attribute(index, format!("name to {name}"), name_attribute)
    }

    /// Set a link's MTU in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), Error> {
        self.set_attribute(index, format!("MTU to {mtu}"), LinkAttribute::Mtu(mtu))
    }

    /// Set a link's link-layer address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> Result<(), Error> {
        self.set_attribute(
            index,
            format!("address to {mac}"),
            LinkAttribute::Address(mac.0.to_vec()),
        )
    }

    /// Make a link a port of a bridge, or of nothing.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<(), Error> {
        let master = master.unwrap_or(0);
        self.set_attribute(
            index,
            format!("master to {master}"),
            LinkAttribute::Controller(master),
        )
    }

    /// Move a link to another namespace; it is down there, without addresses.
    pub fn move_to(&mut self, index: u32, netns: &NetNs) -> Result<(), Error> {
        self.set_attribute(
            index,
            "namespace".into(),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
        )
    }
}
