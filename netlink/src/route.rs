//! Routes: what the kernel forwards by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
        RouteProtocol, RouteScope, RouteType, RouteVia,
    },
};

use crate::{Error, Family};

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

    fn header(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family_of(self.destination.addr());
        header.destination_prefix_length = self.destination.prefix_len();
        header.protocol = RouteProtocol::from(self.protocol);
        header.kind = self.kind.number();
        header.scope = self.scope();
        // The header's field has one byte; the attribute holds any number.
        header.table = u8::try_from(self.table).unwrap_or(0);
        message.attributes.push(RouteAttribute::Table(self.table));
        message
            .attributes
            .push(RouteAttribute::Destination(self.destination.addr().into()));
        if self.metric != 0 {
            message.attributes.push(RouteAttribute::Priority(self.metric));
        }
        message
    }

    pub(crate) fn payload(&self) -> Result<Vec<u8>, Error> {
        let mut message = self.header();
        if let Some(source) = self.source {
            message.attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        if let Some(mtu) = self.mtu {
            message
                .attributes
                .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        match (self.next_hop_id, self.hops.as_slice()) {
            (Some(id), _) => message.attributes.push(RouteAttribute::NhId(id)),
            (None, []) => {}
            (None, [hop]) => {
                if hop.onlink {
                    message.header.flags |= RouteFlags::Onlink;
                }
                if let Some(interface) = hop.interface {
                    message.attributes.push(RouteAttribute::Oif(interface));
                }
                message
                    .attributes
                    .extend(hop.gateway.map(|gateway| self.gateway(gateway)));
            }
            (None, hops) => {
                let hops = hops
                    .iter()
                    .map(|hop| self.multipath_hop(hop))
                    .collect::<Result<_, _>>()?;
                message.attributes.push(RouteAttribute::MultiPath(hops));
            }
        }
        Ok(emitted(&message))
    }

    fn multipath_hop(&self, hop: &Hop) -> Result<RouteNextHop, Error> {
        let weight = u8::try_from(hop.weight.wrapping_sub(1)).map_err(|_| Error::Invalid {
            field: "weight",
            value: hop.weight.to_string(),
            reason: "a next hop's weight is 1 to 256",
        })?;
        let mut next_hop = RouteNextHop::default();
        next_hop.hops = weight;
        next_hop.interface_index = hop.interface.unwrap_or(0);
        if hop.onlink {
            next_hop.flags |= RouteNextHopFlags::Onlink;
        }
        next_hop
            .attributes
            .extend(hop.gateway.map(|gateway| self.gateway(gateway)));
        Ok(next_hop)
    }

    fn gateway(&self, gateway: IpAddr) -> RouteAttribute {
        match (self.destination, gateway) {
            (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            _ => RouteAttribute::Gateway(gateway.into()),
        }
    }

    /// What names a route for deletion: everything but the ways out.
    pub(crate) fn key_payload(&self) -> Vec<u8> {
        let mut message = self.header();
        message.header.scope = RouteScope::NoWhere; // any scope
        emitted(&message)
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

pub(crate) fn emitted(message: &RouteMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}
