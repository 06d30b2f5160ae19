//! Routes: what the kernel forwards by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
        RouteScope, RouteType, RouteVia,
    },
};

use crate::attribute::{attribute, finish, nested};
use crate::{Error, Family};

/// linux/rtnetlink.h; the C library's list ends before these.
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;

/// Route protocol numbers (who put a route there), as `/etc/iproute2/rt_protos` has them.
pub mod protocol {
    /// Put there by the kernel with an address.
    pub const KERNEL: u8 = 2;
    /// Put there at boot, by default by `ip route`.
    pub const BOOT: u8 = 3;
    /// Put there by an administrator.
    pub const STATIC: u8 = 4;
    /// BIRD.
    pub const BIRD: u8 = 12;
}

/// Routing table numbers.
pub mod table {
    /// The table of ordinary routes.
    pub const MAIN: u32 = 254;
    /// The host's own addresses, kept by the kernel.
    pub const LOCAL: u32 = 255;
}

/// What happens to packets of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RouteKind {
    /// Forwarded to a next hop or an interface.
    #[default]
    Unicast,
    /// Delivered here.
    Local,
    /// Dropped in silence.
    Blackhole,
    /// Refused with ICMP host unreachable.
    Unreachable,
    /// Refused with ICMP administratively prohibited.
    Prohibit,
    /// The lookup goes on in the next table.
    Throw,
    /// Another kind, by its number.
    Other(u8),
}

impl RouteKind {
    pub(crate) fn number(self) -> RouteType {
        match self {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Local => RouteType::Local,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
            RouteKind::Throw => RouteType::Throw,
            RouteKind::Other(number) => RouteType::from(number),
        }
    }

    fn from_number(kind: RouteType) -> RouteKind {
        match kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::BlackHole => RouteKind::Blackhole,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::Prohibit => RouteKind::Prohibit,
            RouteType::Throw => RouteKind::Throw,
            other => RouteKind::Other(other.into()),
        }
    }

    /// Whether packets are refused or dropped instead of forwarded or delivered.
    pub fn is_dead_end(self) -> bool {
        matches!(
            self,
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit
        )
    }
}

/// One way out of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// The router, of either family (an IPv4 route may have an IPv6 gateway, RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The interface's index.
    pub interface: Option<u32>,
    /// The share of flows in a multipath route, 1 to 256.
    pub weight: u16,
    /// The gateway is on the link although no address there covers it.
    pub onlink: bool,
    /// The kernel says that this hop is not used now (its link is down or has no carrier).
    /// Ignored in requests.
    pub unusable: bool,
}

impl Default for Hop {
    fn default() -> Hop {
        Hop {
            gateway: None,
            interface: None,
            weight: 1,
            onlink: false,
            unusable: false,
        }
    }
}

impl Hop {
    /// Through a router; the kernel finds the interface.
    pub fn via(gateway: IpAddr) -> Hop {
        Hop {
            gateway: Some(gateway),
            ..Hop::default()
        }
    }

    /// Directly on an interface.
    pub fn dev(interface: u32) -> Hop {
        Hop {
            interface: Some(interface),
            ..Hop::default()
        }
    }

    /// The same with an interface.
    pub fn on(self, interface: u32) -> Hop {
        Hop {
            interface: Some(interface),
            ..self
        }
    }
}

/// A route. [`Route::new`] and the methods after it build one; `..` on a default is fine too.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The prefix, with host bits zero.
    pub destination: IpNet,
    /// The table ([`table::MAIN`]).
    pub table: u32,
    /// Who put it there.
    pub protocol: u8,
    /// The kernel's priority: lower wins. IPv6 turns 0 into 1024.
    pub metric: u32,
    /// What it does with packets.
    pub kind: RouteKind,
    /// The ways out; several make a multipath route. Empty with a next-hop object or a dead end.
    pub hops: Vec<Hop>,
    /// A next-hop object or group in place of `hops`. Routes read back may have both.
    pub next_hop_id: Option<u32>,
    /// The source address that local sockets prefer.
    pub source: Option<IpAddr>,
    /// The path's MTU.
    pub mtu: Option<u32>,
}

impl Route {
    /// A unicast route in the main table with protocol `boot` and the kernel's default metric.
    pub fn new(destination: IpNet) -> Route {
        Route {
            destination: destination.trunc(),
            table: table::MAIN,
            protocol: protocol::BOOT,
            metric: 0,
            kind: RouteKind::Unicast,
            hops: Vec::new(),
            next_hop_id: None,
            source: None,
            mtu: None,
        }
    }

    /// Add a way out through a router.
    pub fn via(self, gateway: IpAddr) -> Route {
        self.hop(Hop::via(gateway))
    }

    /// Add a way out on an interface.
    pub fn dev(self, interface: u32) -> Route {
        self.hop(Hop::dev(interface))
    }

    /// Add a way out.
    pub fn hop(mut self, hop: Hop) -> Route {
        self.hops.push(hop);
        self
    }

    /// By a next-hop object or group.
    pub fn next_hop(self, id: u32) -> Route {
        Route {
            next_hop_id: Some(id),
            ..self
        }
    }

    /// Drop packets.
    pub fn blackhole(self) -> Route {
        Route {
            kind: RouteKind::Blackhole,
            ..self
        }
    }

    /// Set who put it there.
    pub fn protocol(self, protocol: u8) -> Route {
        Route { protocol, ..self }
    }

    /// Set the metric.
    pub fn metric(self, metric: u32) -> Route {
        Route { metric, ..self }
    }

    /// Set the table.
    pub fn table(self, table: u32) -> Route {
        Route { table, ..self }
    }

    /// Set the preferred source address.
    pub fn source(self, source: IpAddr) -> Route {
        Route {
            source: Some(source),
            ..self
        }
    }

    /// The family of the destination.
    pub fn family(&self) -> Family {
        Family::of(self.destination.addr())
    }

    fn scope(&self) -> RouteScope {
        if self.kind == RouteKind::Local {
            return RouteScope::Host;
        }
        // An IPv4 route without a gateway is to neighbours on the link; IPv6 has no scopes.
        let direct = self.kind == RouteKind::Unicast
            && self.next_hop_id.is_none()
            && self.hops.iter().all(|hop| hop.gateway.is_none());
        if direct && self.family() == Family::V4 {
            RouteScope::Link
        } else {
            RouteScope::Universe
        }
    }

    /// `struct rtmsg` and what names a route.
    fn key(&self, scope: RouteScope, flags: RouteFlags, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[
            self.family().number(),
            self.destination.prefix_len(),
            0, // no prefix of the source
            0, // any type of service
            // The header's field has one byte; for more there is an attribute.
            u8::try_from(self.table).unwrap_or(0),
            self.protocol,
            scope.into(),
            self.kind.number().into(),
        ]);
        bytes.extend_from_slice(&flags.bits().to_ne_bytes());
        if u8::try_from(self.table).is_err() {
            attribute(bytes, libc::RTA_TABLE, &self.table.to_ne_bytes());
        }
        address_attribute(bytes, libc::RTA_DST, self.destination.addr());
        if self.metric != 0 {
            attribute(bytes, libc::RTA_PRIORITY, &self.metric.to_ne_bytes());
        }
    }

    /// Written here and not by the message library, which is slower than the kernel is at small routes.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let flags = match (self.next_hop_id, self.hops.as_slice()) {
            (None, [hop]) if hop.onlink => RouteFlags::Onlink,
            _ => RouteFlags::empty(),
        };
        self.key(self.scope(), flags, bytes);
        if let Some(source) = self.source {
            address_attribute(bytes, libc::RTA_PREFSRC, source);
        }
        if let Some(mtu) = self.mtu {
            nested(bytes, libc::RTA_METRICS, |bytes| {
                attribute(bytes, RTAX_MTU, &mtu.to_ne_bytes());
            });
        }
        match (self.next_hop_id, self.hops.as_slice()) {
            (Some(id), _) => attribute(bytes, RTA_NH_ID, &id.to_ne_bytes()),
            (None, []) => {}
            (None, [hop]) => {
                if let Some(interface) = hop.interface {
                    attribute(bytes, libc::RTA_OIF, &interface.to_ne_bytes());
                }
                self.gateway(hop, bytes);
            }
            (None, hops) => {
                let weight = |hop: &Hop| u8::try_from(hop.weight.wrapping_sub(1)).is_ok();
                if let Some(hop) = hops.iter().find(|hop| !weight(hop)) {
                    return Err(Error::Invalid {
                        field: "weight",
                        value: hop.weight.to_string(),
                        reason: "a next hop's weight is 1 to 256",
                    });
                }
                nested(bytes, libc::RTA_MULTIPATH, |bytes| {
                    hops.iter().for_each(|hop| self.multipath_hop(hop, bytes));
                });
            }
        }
        Ok(())
    }

    /// `struct rtnexthop` (linux/rtnetlink.h).
    fn multipath_hop(&self, hop: &Hop, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let flags = if hop.onlink {
            RouteNextHopFlags::Onlink
        } else {
            RouteNextHopFlags::empty()
        };
        let weight = hop.weight.wrapping_sub(1) as u8;
        bytes.extend_from_slice(&[0, 0, flags.bits(), weight]);
        bytes.extend_from_slice(&hop.interface.unwrap_or(0).to_ne_bytes());
        self.gateway(hop, bytes);
        finish(bytes, start);
    }

    fn gateway(&self, hop: &Hop, bytes: &mut Vec<u8>) {
        match (self.destination, hop.gateway) {
            (_, None) => {}
            // `struct rtvia`: RTA_GATEWAY is of the route's own family.
            (IpNet::V4(_), Some(IpAddr::V6(gateway))) => nested(bytes, libc::RTA_VIA, |bytes| {
                bytes.extend_from_slice(&u16::from(Family::V6.number()).to_ne_bytes());
                bytes.extend_from_slice(&gateway.octets());
            }),
            (_, Some(gateway)) => address_attribute(bytes, libc::RTA_GATEWAY, gateway),
        }
    }

    /// What names a route for deletion: everything but the ways out.
    pub(crate) fn write_key(&self, bytes: &mut Vec<u8>) {
        // In any scope.
        self.key(RouteScope::NoWhere, RouteFlags::empty(), bytes);
    }

    /// Read a message; nothing for routes of families that we do not handle.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Route>, Error> {
        let message = RouteMessage::parse(payload).map_err(|e| Error::Malformed {
            action: "read a route".into(),
            reason: e.to_string(),
        })?;
        let unspecified: IpAddr = match message.header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return Ok(None),
        };
        let mut address = unspecified;
        let mut route = Route {
            table: message.header.table.into(),
            protocol: message.header.protocol.into(),
            kind: RouteKind::from_number(message.header.kind),
            ..Route::new(IpNet::from(unspecified))
        };
        let mut single = Hop {
            unusable: unusable(message.header.flags.bits()),
            ..Hop::default()
        };
        single.onlink = message.header.flags.contains(RouteFlags::Onlink);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(a) => address = plain(a).unwrap_or(unspecified),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::PrefSource(a) => route.source = plain(a),
                RouteAttribute::NhId(id) => route.next_hop_id = Some(*id),
                RouteAttribute::Oif(interface) => single.interface = Some(*interface),
                RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => single.gateway = gateway_of(attribute),
                RouteAttribute::MultiPath(hops) => route.hops.extend(hops.iter().map(parse_hop)),
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|m| match m {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        if route.hops.is_empty() && (single.gateway.is_some() || single.interface.is_some()) {
            // A dead end of IPv6 is shown on the loopback interface: that is not a way out.
            if !route.kind.is_dead_end() {
                route.hops.push(single);
            }
        }
        route.destination =
            IpNet::new(address, message.header.destination_prefix_length).map_err(|e| Error::Malformed {
                action: "read a route".into(),
                reason: e.to_string(),
            })?;
        Ok(Some(route))
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            kind => write!(f, "{} ", format!("{kind:?}").to_lowercase())?,
        }
        write!(f, "{}", self.destination)?;
        if let Some(id) = self.next_hop_id {
            write!(f, " nhid {id}")?;
        }
        for hop in &self.hops {
            match hop.gateway {
                Some(gateway) => write!(f, " via {gateway}")?,
                None => f.write_str(" direct")?,
            }
            if let Some(interface) = hop.interface {
                write!(f, " dev {interface}")?;
            }
        }
        if self.table != table::MAIN {
            write!(f, " table {}", self.table)?;
        }
        write!(f, " proto {} metric {}", self.protocol, self.metric)
    }
}

fn parse_hop(next_hop: &RouteNextHop) -> Hop {
    Hop {
        gateway: next_hop.attributes.iter().find_map(gateway_of),
        interface: (next_hop.interface_index != 0).then_some(next_hop.interface_index),
        weight: u16::from(next_hop.hops) + 1,
        onlink: next_hop.flags.contains(RouteNextHopFlags::Onlink),
        unusable: unusable(next_hop.flags.bits().into()),
    }
}

fn unusable(flags: u32) -> bool {
    flags & (RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown).bits() as u32 != 0
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => plain(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    }
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

pub(crate) fn family_of(address: IpAddr) -> AddressFamily {
    AddressFamily::from(Family::of(address).number())
}

fn address_attribute(bytes: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => attribute(bytes, kind, &address.octets()),
        IpAddr::V6(address) => attribute(bytes, kind, &address.octets()),
    }
}

pub(crate) fn emitted(message: &RouteMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message library reads what is written here.
    #[test]
    fn messages_are_read_as_they_were_meant() {
        let v4: IpNet = "10.9.8.0/22".parse().unwrap();
        let v6: IpNet = "2001:db8:9::/48".parse().unwrap();
        let (near, far): (IpAddr, IpAddr) = ("10.0.0.2".parse().unwrap(), "fe80::2".parse().unwrap());
        let hop = Hop::via(near).on(3);
        let onlink = Hop { onlink: true, ..hop };
        let heavy = Hop {
            weight: 256,
            ..Hop::via(far).on(4)
        };
        let base = Route::new(v4).protocol(201).metric(1024);
        let routes = [
            base.clone().hop(hop),
            base.clone().hop(onlink),
            base.clone().hop(Hop::via(far).on(70_000)),
            base.clone().hop(onlink).hop(heavy),
            base.clone().dev(3).source(near),
            base.clone().table(70_000).next_hop(0xc900_0001),
            base.clone().blackhole().metric(0),
            Route {
                kind: RouteKind::Local,
                mtu: Some(1400),
                ..base.clone().dev(1)
            },
            Route::new(v6).via(far).metric(7),
            Route::new(v6)
                .hop(heavy)
                .hop(Hop::via("fd00::2".parse().unwrap()).on(9)),
        ];
        for route in routes {
            let mut payload = Vec::new();
            route.write(&mut payload).unwrap();
            assert_eq!(Route::parse(&payload).unwrap().unwrap(), route, "{route}");
        }
        let too_heavy = base.hop(hop).hop(Hop { weight: 257, ..hop });
        assert!(too_heavy.write(&mut Vec::new()).is_err());
    }
}
