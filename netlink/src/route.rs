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

use nix::errno::Errno;

use crate::{Connection, Error, Family, Refusal, Request, connection::Message, request::RTM_NEWROUTE};

const RTM_GETROUTE: u16 = 26;

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
    fn number(self) -> RouteType {
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

fn family_of(address: IpAddr) -> AddressFamily {
    AddressFamily::from(Family::of(address).number())
}

fn emitted(message: &RouteMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

/// What a lookup that meets no route, or a dead end, is answered with. A question that the kernel
/// does not take has words with it.
fn is_dead_end(refusal: &Refusal) -> bool {
    let errors = [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EINVAL,
        Errno::EACCES,
        Errno::EAGAIN,
    ];
    refusal.message.is_none() && errors.contains(&refusal.errno)
}

/// Which routes a dump is to give. What is not set is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteFilter {
    /// Only this family; both otherwise.
    pub family: Option<Family>,
    /// Only this table; all tables otherwise.
    pub table: Option<u32>,
    /// Only this protocol.
    pub protocol: Option<u8>,
    /// Only routes whose (first) way out is this interface.
    pub interface: Option<u32>,
    /// Only this kind.
    pub kind: Option<RouteKind>,
}

impl RouteFilter {
    /// Routes of one table and protocol.
    pub fn owned(table: u32, protocol: u8) -> RouteFilter {
        RouteFilter {
            table: Some(table),
            protocol: Some(protocol),
            ..RouteFilter::default()
        }
    }

    fn matches(&self, route: &Route) -> bool {
        self.family.is_none_or(|family| family == route.family())
            && self.table.is_none_or(|table| table == route.table)
            && self.protocol.is_none_or(|protocol| protocol == route.protocol)
            && self
                .interface
                .is_none_or(|i| route.hops.iter().any(|hop| hop.interface == Some(i)))
    }

    fn request(&self, family: Family) -> Message {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::from(family.number());
        message.header.protocol = RouteProtocol::from(self.protocol.unwrap_or(0));
        message.header.kind = self.kind.map_or(RouteType::Unspec, RouteKind::number);
        if let Some(table) = self.table {
            message.header.table = u8::try_from(table).unwrap_or(0);
            message.attributes.push(RouteAttribute::Table(table));
        }
        if let Some(interface) = self.interface {
            message.attributes.push(RouteAttribute::Oif(interface));
        }
        Message {
            kind: RTM_GETROUTE,
            flags: 0,
            payload: emitted(&message),
        }
    }
}

impl Connection {
    /// The routes that match. The kernel filters too, so asking for one protocol in a table of a
    /// million others is cheap.
    pub fn routes(&mut self, filter: &RouteFilter) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            if filter.family.is_some_and(|wanted| wanted != family) {
                continue;
            }
            let found = self.dump("list routes", &filter.request(family), |kind, payload, found| {
                if kind == RTM_NEWROUTE {
                    match Route::parse(payload) {
                        Ok(route) => found.extend(route.filter(|route| filter.matches(route))),
                        // A route that we cannot read is not one that we wrote.
                        Err(error) => tracing::warn!(%error, "a route in the kernel's table is passed over"),
                    }
                }
                Ok(())
            });
            match found {
                Ok(found) => routes.extend(found),
                // A table exists once it has had a route.
                Err(error) if filter.table.is_some() && error.is_not_found() => {}
                // IPv6 is switched off.
                Err(error) if family == Family::V6 && error.errno() == Some(Errno::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(routes)
    }

    /// The routes of exactly this prefix in one table, whoever put them there.
    pub fn routes_to(&mut self, destination: IpNet, table: u32) -> Result<Vec<Route>, Error> {
        let family = Some(Family::of(destination.addr()));
        let mut routes = self.routes(&RouteFilter {
            family,
            table: Some(table),
            ..RouteFilter::default()
        })?;
        routes.retain(|route| route.destination == destination.trunc());
        Ok(routes)
    }

    /// The route that the kernel would use for packets to `address` from here; nothing if there is
    /// none. Dead ends are given as what they are.
    pub fn lookup(&mut self, address: IpAddr) -> Result<Option<Route>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.header.flags = RouteFlags::FibMatch;
        if address.is_ipv4() {
            // The table of the route; IPv6 tells it always and refuses the question.
            message.header.flags |= RouteFlags::LookupTable;
        }
        message
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        let message = Message {
            kind: RTM_GETROUTE,
            flags: 0,
            payload: emitted(&message),
        };
        let mut found = None;
        let outcome = self.query(
            || format!("look up the route to {address}"),
            &message,
            |kind, payload| {
                if kind == RTM_NEWROUTE {
                    found = Route::parse(payload)?;
                }
                Ok(())
            },
        );
        match outcome {
            Ok(()) => Ok(found),
            Err(Error::Refused { refusal, .. }) if is_dead_end(&refusal) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Create a route; an error of `EEXIST` when its (prefix, table, metric) is taken.
    pub fn add_route(&mut self, route: &Route) -> Result<(), Error> {
        self.apply(&Request::AddRoute(route.clone()))
    }

    /// Create a route or take the place of whatever is there ([`Request::ReplaceRoute`]).
    pub fn replace_route(&mut self, route: &Route) -> Result<(), Error> {
        self.apply(&Request::ReplaceRoute(route.clone()))
    }

    /// Delete a route ([`Request::DeleteRoute`]).
    pub fn delete_route(&mut self, route: &Route) -> Result<(), Error> {
        self.apply(&Request::DeleteRoute(route.clone()))
    }
}
