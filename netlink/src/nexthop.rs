//! Next-hop objects and groups (`ip nexthop`, linux/nexthop.h). The message library has none, so
//! they are written here; the tests hold bytes captured from iproute2.

use std::net::IpAddr;

use crate::attribute::attribute;
use crate::{Connection, Error, Family, Request, connection::Message, request::RTM_NEWNEXTHOP};

const RTM_GETNEXTHOP: u16 = 106;
const HEADER_BYTES: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTNH_F_LINKDOWN: u32 = 16;
/// Bits of an attribute's type that are flags.
const TYPE_MASK: u16 = 0x3fff;

/// A next-hop object: routes refer to it by id, and changing it is one update whatever their number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The id, unique in the network namespace across families.
    pub id: u32,
    /// Who put it there.
    pub protocol: u8,
    /// What it is.
    pub kind: NextHopKind,
    /// The kernel says that it is not used now. Ignored in requests.
    pub unusable: bool,
}

/// What a next-hop object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NextHopKind {
    /// A router on an interface. Its family is the gateway's; an IPv4 route may use an IPv6 one.
    Gateway {
        /// The router's address.
        gateway: IpAddr,
        /// The interface's index.
        interface: u32,
        /// The gateway is on the link although no address there covers it.
        onlink: bool,
    },
    /// Neighbours on an interface.
    Interface {
        /// For routes of this family.
        family: Family,
        /// The interface's index.
        interface: u32,
    },
    /// Drops packets.
    Blackhole {
        /// For routes of this family.
        family: Family,
    },
    /// A hash-threshold group: flows are spread over the members by weight.
    Group {
        /// Ids of objects and weights of 1 to 256, in ascending id order when read back as ours.
        members: Vec<(u32, u16)>,
    },
}

impl NextHop {
    fn family(&self) -> u8 {
        match &self.kind {
            NextHopKind::Gateway { gateway, .. } => Family::of(*gateway).number(),
            NextHopKind::Interface { family, .. } | NextHopKind::Blackhole { family } => family.number(),
            NextHopKind::Group { .. } => 0,
        }
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let onlink = matches!(self.kind, NextHopKind::Gateway { onlink: true, .. });
        let mut bytes = header(
            self.family(),
            self.protocol,
            if onlink { RTNH_F_ONLINK } else { 0 },
        );
        attribute(&mut bytes, NHA_ID, &self.id.to_ne_bytes());
        match &self.kind {
            NextHopKind::Gateway {
                gateway, interface, ..
            } => {
                match gateway {
                    IpAddr::V4(gateway) => attribute(&mut bytes, NHA_GATEWAY, &gateway.octets()),
                    IpAddr::V6(gateway) => attribute(&mut bytes, NHA_GATEWAY, &gateway.octets()),
                }
                attribute(&mut bytes, NHA_OIF, &interface.to_ne_bytes());
            }
            NextHopKind::Interface { interface, .. } => {
                attribute(&mut bytes, NHA_OIF, &interface.to_ne_bytes())
            }
            NextHopKind::Blackhole { .. } => attribute(&mut bytes, NHA_BLACKHOLE, &[]),
            NextHopKind::Group { members } => {
                let mut group = Vec::with_capacity(members.len() * 8);
                for (id, weight) in members {
                    group.extend_from_slice(&id.to_ne_bytes());
                    // struct nexthop_grp: the weight minus one, in one byte (and since 6.12 a high byte).
                    group.extend_from_slice(&[weight.saturating_sub(1).min(255) as u8, 0, 0, 0]);
                }
                attribute(&mut bytes, NHA_GROUP, &group);
            }
        }
        bytes
    }

    pub(crate) fn id_payload(id: u32) -> Vec<u8> {
        let mut bytes = header(0, 0, 0);
        attribute(&mut bytes, NHA_ID, &id.to_ne_bytes());
        bytes
    }

    /// Read a message; nothing for kinds that we do not know.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<NextHop>, Error> {
        let malformed = |reason: &str| Error::Malformed {
            action: "read a next hop".into(),
            reason: reason.into(),
        };
        let Some((&[family, _scope, protocol, _, f0, f1, f2, f3], mut rest)) =
            payload.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(malformed("the header is cut short"));
        };
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let (mut id, mut interface, mut gateway, mut blackhole, mut members) =
            (None, None, None, false, None);
        while let Some((&[l0, l1, k0, k1], _)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let value = rest
                .get(4..length)
                .ok_or_else(|| malformed("an attribute is cut short"))?;
            match u16::from_ne_bytes([k0, k1]) & TYPE_MASK {
                NHA_ID => id = number(value),
                NHA_OIF => interface = number(value),
                NHA_BLACKHOLE => blackhole = true,
                NHA_GATEWAY => {
                    gateway = <[u8; 4]>::try_from(value)
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
                        .ok();
                }
                NHA_GROUP => {
                    let (entries, _) = value.as_chunks::<8>();
                    let member = |&[a, b, c, d, low, high, _, _]: &[u8; 8]| {
                        (
                            u32::from_ne_bytes([a, b, c, d]),
                            u16::from_ne_bytes([low, high]).saturating_add(1),
                        )
                    };
                    members = Some(entries.iter().map(member).collect());
                }
                _ => {}
            }
            rest = rest.get(length.div_ceil(4) * 4..).unwrap_or_default();
        }
        let id = id.ok_or_else(|| malformed("it has no id"))?;
        let kind = match (members, gateway, interface, Family::from_number(family)) {
            (Some(members), ..) => NextHopKind::Group { members },
            (_, Some(gateway), Some(interface), _) => NextHopKind::Gateway {
                gateway,
                interface,
                onlink: flags & RTNH_F_ONLINK != 0,
            },
            (_, None, _, Some(family)) if blackhole => NextHopKind::Blackhole { family },
            (_, None, Some(interface), Some(family)) => NextHopKind::Interface { family, interface },
            _ => return Ok(None),
        };
        let unusable = flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0;
        Ok(Some(NextHop {
            id,
            protocol,
            kind,
            unusable,
        }))
    }
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "id {}", self.id)?;
        match &self.kind {
            NextHopKind::Gateway {
                gateway, interface, ..
            } => write!(f, " via {gateway} dev {interface}")?,
            NextHopKind::Interface { interface, .. } => write!(f, " dev {interface}")?,
            NextHopKind::Blackhole { .. } => f.write_str(" blackhole")?,
            NextHopKind::Group { members } => {
                f.write_str(" group")?;
                for (id, weight) in members {
                    write!(f, " {id}*{weight}")?;
                }
            }
        }
        write!(f, " proto {}", self.protocol)
    }
}

fn header(family: u8, protocol: u8, flags: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&[family, 0, protocol, 0]);
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

impl Connection {
    /// All next-hop objects and groups of the namespace.
    pub fn next_hops(&mut self) -> Result<Vec<NextHop>, Error> {
        let message = Message {
            kind: RTM_GETNEXTHOP,
            flags: 0,
            payload: header(0, 0, 0),
        };
        self.dump("list next hops", &message, |kind, payload, found| {
            if kind == RTM_NEWNEXTHOP {
                found.extend(NextHop::parse(payload)?);
            }
            Ok(())
        })
    }

    /// Create a next-hop object; an error of `EEXIST` when the id is taken.
    pub fn add_next_hop(&mut self, next_hop: &NextHop) -> Result<(), Error> {
        self.apply(&Request::AddNextHop(next_hop.clone()))
    }

    /// Create or change a next-hop object.
    pub fn replace_next_hop(&mut self, next_hop: &NextHop) -> Result<(), Error> {
        self.apply(&Request::ReplaceNextHop(next_hop.clone()))
    }

    /// Delete a next-hop object, and with it the routes that depend on it alone.
    pub fn delete_next_hop(&mut self, id: u32) -> Result<(), Error> {
        self.apply(&Request::DeleteNextHop(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u8 = 201;

    /// What iproute2 6.1 sends, taken with
    /// `strace -e trace=sendmsg -e write=3 ip nexthop add …` in a namespace with a veth of index 3;
    /// the netlink header (16 bytes) left out.
    #[test]
    fn messages_are_those_of_iproute2() {
        let gateway = |id, gateway: &str, onlink| NextHop {
            id,
            protocol: OURS,
            kind: NextHopKind::Gateway {
                gateway: gateway.parse().unwrap(),
                interface: 3,
                onlink,
            },
            unusable: false,
        };
        let plain = |id, kind| NextHop {
            id,
            protocol: OURS,
            kind,
            unusable: false,
        };
        let cases = [
            (
                "id 71 via 10.0.0.2 dev v0 proto 201",
                gateway(71, "10.0.0.2", false),
                "0200c900000000000800010047000000080006000a0000020800050003000000",
            ),
            (
                "id 72 via fd00::2 dev v0 proto 201",
                gateway(72, "fd00::2", false),
                "0a00c90000000000080001004800000014000600fd0000000000000000000000000000020800050003000000",
            ),
            (
                "id 73 dev v0 proto 201",
                plain(
                    73,
                    NextHopKind::Interface {
                        family: Family::V4,
                        interface: 3,
                    },
                ),
                "0200c9000000000008000100490000000800050003000000",
            ),
            (
                "id 74 blackhole proto 201",
                plain(74, NextHopKind::Blackhole { family: Family::V4 }),
                "0200c90000000000080001004a00000004000400",
            ),
            (
                "id 75 via 192.0.2.1 dev v0 onlink proto 201",
                gateway(75, "192.0.2.1", true),
                "0200c90004000000080001004b00000008000600c00002010800050003000000",
            ),
            (
                "id 80 group 71,3/72,1 proto 201",
                plain(
                    80,
                    NextHopKind::Group {
                        members: vec![(71, 3), (72, 1)],
                    },
                ),
                "0000c9000000000008000100500000001400020047000000020000004800000000000000",
            ),
        ];
        for (command, object, golden) in cases {
            let golden = bytes(golden);
            assert_eq!(object.payload(), golden, "ip nexthop add {command}");
            assert_eq!(
                NextHop::parse(&golden).unwrap(),
                Some(object),
                "ip nexthop add {command}"
            );
        }
    }

    #[test]
    fn cut_messages_are_errors_and_never_panics() {
        let whole = NextHop {
            id: 80,
            protocol: OURS,
            kind: NextHopKind::Group {
                members: vec![(71, 3), (72, 1)],
            },
            unusable: false,
        }
        .payload();
        for length in 0..whole.len() {
            // Where an attribute just ends, what is left may be whole in itself.
            let _ = NextHop::parse(&whole[..length]);
        }
        assert!(NextHop::parse(&whole[..7]).is_err());
        assert!(NextHop::parse(&whole[..8]).is_err());
        assert!(NextHop::parse(&whole[..17]).is_ok_and(|found| found.is_none()));
        assert!(NextHop::parse(&whole[..30]).is_err());
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }
}
