//! Asking the kernel for routes, and changing one at a time.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType},
};
use nix::errno::Errno;

use crate::{
    Connection, Error, Family, Refusal, Request, Route, RouteKind,
    connection::Message,
    request::RTM_NEWROUTE,
    route::{emitted, family_of},
};

const RTM_GETROUTE: u16 = 26;

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
            let found =
                self.dump_routes(filter, family, |route, found: &mut Vec<Route>| found.push(route))?;
            routes.extend(found);
        }
        Ok(routes)
    }

    /// The same, one by one: they may be more than should be held. A route may be given more than once, if others
    /// change routes meanwhile.
    pub fn each_route(&mut self, filter: &RouteFilter, mut each: impl FnMut(Route)) -> Result<(), Error> {
        for family in [Family::V4, Family::V6] {
            self.dump_routes(filter, family, |route, _: &mut ()| each(route))?;
        }
        Ok(())
    }

    fn dump_routes<T: Default>(
        &mut self,
        filter: &RouteFilter,
        family: Family,
        mut each: impl FnMut(Route, &mut T),
    ) -> Result<T, Error> {
        if filter.family.is_some_and(|wanted| wanted != family) {
            return Ok(T::default());
        }
        let found = self.gather("list routes", &filter.request(family), |kind, payload, found| {
            if kind == RTM_NEWROUTE {
                match Route::parse(payload) {
                    Ok(Some(route)) if filter.matches(&route) => each(route, found),
                    Ok(_) => {}
                    // A route that we cannot read is not one that we wrote.
                    Err(error) => tracing::warn!(%error, "a route in the kernel's table is passed over"),
                }
            }
            Ok(())
        });
        match found {
            // A table exists once it has had a route.
            Err(error) if filter.table.is_some() && error.is_not_found() => Ok(T::default()),
            // IPv6 is switched off.
            Err(error) if family == Family::V6 && error.errno() == Some(Errno::EOPNOTSUPP) => {
                Ok(T::default())
            }
            found => found,
        }
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
