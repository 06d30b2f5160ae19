//! What a workload needs of its host besides policy: an interface that is up, routes, a neighbour, sysctls.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink::{Connection, Hop, Link, Mac, Neighbour, Route, RouteFilter, RouteKind, sysctl, table};
use rustc_hash::FxHashMap;

use crate::config::Config;
use crate::status::RouteConflict;
use crate::{Error, address};

/// Settings of a workload's interface: (path below `net/`, with `{}` for the interface; value; whether a failure counts).
const SYSCTLS: &[(&str, &str, bool)] = &[
    ("ipv4/conf/{}/route_localnet", "1", true),
    ("ipv4/neigh/{}/proxy_delay", "0", false),
    ("ipv4/conf/{}/proxy_arp", "1", true),
    ("ipv4/conf/{}/forwarding", "1", true),
    // Sources are checked by the programs.
    ("ipv4/conf/{}/rp_filter", "0", true),
    ("ipv6/conf/{}/accept_dad", "0", false),
    ("ipv6/conf/{}/disable_ipv6", "0", false),
    ("ipv6/conf/{}/accept_ra", "0", false),
    ("ipv6/conf/{}/proxy_ndp", "1", true),
    ("ipv6/conf/{}/forwarding", "1", true),
];

/// What an endpoint's interface should have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// Host routes.
    pub(crate) addresses: BTreeSet<IpNet>,
    /// The workload's own link-layer address.
    pub(crate) mac: Option<[u8; 6]>,
}

/// Writes what differs. IPv6 may be switched off in the kernel.
fn set(name: &str, value: &str) -> Result<(), Error> {
    match sysctl::read(name) {
        Ok(current) if current == value => Ok(()),
        Ok(_) => Ok(sysctl::write(name, value)?),
        Err(error) if error.is_not_found() && name.starts_with("net/ipv6/") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Switches forwarding on. Interfaces that take routes from router advertisements go on doing so.
pub(crate) fn enable_forwarding(links: &[Link], prefix: &str) -> Result<(), Error> {
    const ALL_V6: &str = "net/ipv6/conf/all/forwarding";
    let off = sysctl::read(ALL_V6).is_ok_and(|value| value == "0");
    if off {
        let names = links
            .iter()
            .map(|link| link.name.as_str())
            .filter(|name| !name.starts_with(prefix));
        for name in names.chain(["default"]) {
            let accept = format!("net/ipv6/conf/{name}/accept_ra");
            if sysctl::read(&accept).is_ok_and(|value| value == "1") {
                set(&accept, "2")?;
            }
        }
    }
    set("net/ipv4/ip_forward", "1")?;
    set(ALL_V6, "1")
}

/// The sysctls of a workload's interface.
pub(crate) fn set_sysctls(interface: &str) -> Result<(), Error> {
    for (path, value, counts) in SYSCTLS {
        let outcome = set(&format!("net/{}", path.replace("{}", interface)), value);
        if *counts {
            outcome?;
        }
    }
    Ok(())
}

/// Routes and neighbours of one interface as they should be; conflicts are added to `conflicts`.
pub(crate) fn reconcile(
    nl: &mut Connection,
    config: &Config,
    link: &Link,
    wanted: &Wanted,
    tables: Option<&Tables>,
    conflicts: &mut Vec<RouteConflict>,
) -> Result<(), Error> {
    let own;
    let tables = match tables {
        Some(tables) => tables,
        None => {
            own = Tables::of_interface(nl, link.index)?;
            &own
        }
    };
    let routes = tables
        .routes
        .get(&link.index)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let neighbours = tables
        .neighbours
        .get(&link.index)
        .map(Vec::as_slice)
        .unwrap_or_default();
    reconcile_routes(nl, config, link.index, routes, &wanted.addresses, conflicts)?;
    reconcile_neighbours(nl, link.index, neighbours, wanted)
}

/// Routes of the main table and neighbours, by interface.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    routes: FxHashMap<u32, Vec<Route>>,
    neighbours: FxHashMap<u32, Vec<Neighbour>>,
}

impl Tables {
    /// Of all interfaces: one walk through the tables, for when many are looked at.
    pub(crate) fn of_all(nl: &mut Connection) -> Result<Self, Error> {
        Self::read(nl, None)
    }

    fn of_interface(nl: &mut Connection, ifindex: u32) -> Result<Self, Error> {
        Self::read(nl, Some(ifindex))
    }

    fn read(nl: &mut Connection, interface: Option<u32>) -> Result<Self, Error> {
        let mut tables = Self::default();
        let filter = RouteFilter {
            table: Some(table::MAIN),
            interface,
            ..RouteFilter::default()
        };
        for route in nl.routes(&filter)? {
            if let Some(index) = route.hops.first().and_then(|hop| hop.interface) {
                tables.routes.entry(index).or_default().push(route);
            }
        }
        for neighbour in nl.neighbours()? {
            tables
                .neighbours
                .entry(neighbour.interface)
                .or_default()
                .push(neighbour);
        }
        Ok(tables)
    }
}

fn is_kernels(route: &Route) -> bool {
    // fe80::/64, ff00::/8 and what comes with an address.
    route.protocol == netlink::protocol::KERNEL
        || matches!(route.destination, IpNet::V6(net) if net.addr().is_multicast() || net.addr().is_unicast_link_local())
}

fn reconcile_routes(
    nl: &mut Connection,
    config: &Config,
    ifindex: u32,
    there: &[Route],
    wanted: &BTreeSet<IpNet>,
    conflicts: &mut Vec<RouteConflict>,
) -> Result<(), Error> {
    let is_right = |route: &Route| {
        wanted.contains(&route.destination)
            && route.protocol == config.route_protocol
            && route.metric == config.route_metric
            && route.kind == RouteKind::Unicast
            && matches!(route.hops.as_slice(), [hop] if hop.interface == Some(ifindex) && hop.gateway.is_none())
    };
    let present: BTreeSet<IpNet> = there
        .iter()
        .filter(|r| is_right(r))
        .map(|r| r.destination)
        .collect();
    for destination in wanted.difference(&present) {
        let route = Route::new(*destination)
            .hop(Hop::dev(ifindex))
            .protocol(config.route_protocol)
            .metric(config.route_metric);
        add(nl, config, &route, conflicts)?;
    }
    for route in there
        .iter()
        .filter(|route| !is_right(route) && !is_kernels(route))
        .filter(|route| route.protocol != config.learned_route_protocol)
    {
        let ours = route.protocol == config.route_protocol;
        if ours || config.remove_external_routes {
            absent_is_fine(nl.delete_route(route))?;
        } else {
            conflicts.push(RouteConflict {
                destination: route.destination,
                holder: route.to_string(),
            });
        }
    }
    Ok(())
}

/// Adds a route; a holder of its place gives way only if it is at a workload's interface.
fn add(
    nl: &mut Connection,
    config: &Config,
    route: &Route,
    conflicts: &mut Vec<RouteConflict>,
) -> Result<(), Error> {
    match nl.add_route(route) {
        Err(error) if error.is_exists() => {}
        outcome => return Ok(outcome?),
    }
    let holders = nl.routes_to(route.destination, route.table)?;
    let Some(holder) = holders.iter().find(|holder| holder.metric == route.metric) else {
        return Ok(nl.add_route(route)?);
    };
    let at_workload = match holder.hops.as_slice() {
        [
            Hop {
                interface: Some(index),
                ..
            },
        ] => nl
            .link_by_index(*index)?
            .is_some_and(|link| link.name.starts_with(&config.interface_prefix)),
        _ => false,
    };
    if at_workload && (holder.protocol == config.route_protocol || config.remove_external_routes) {
        return Ok(nl.replace_route(route)?);
    }
    conflicts.push(RouteConflict {
        destination: route.destination,
        holder: holder.to_string(),
    });
    Ok(())
}

fn reconcile_neighbours(
    nl: &mut Connection,
    ifindex: u32,
    there: &[Neighbour],
    wanted: &Wanted,
) -> Result<(), Error> {
    let wanted: Vec<_> = wanted
        .mac
        .iter()
        .flat_map(|mac| {
            wanted
                .addresses
                .iter()
                .map(|net| Neighbour::permanent(ifindex, net.addr(), Mac(*mac)))
        })
        .collect();
    for neighbour in wanted.iter().filter(|neighbour| !there.contains(neighbour)) {
        nl.set_neighbour(neighbour)?;
    }
    for neighbour in there {
        if neighbour.permanent
            && !wanted.iter().any(|w| w.address == neighbour.address)
            && !is_group(neighbour)
        {
            absent_is_fine(nl.delete_neighbour(neighbour))?;
        }
    }
    Ok(())
}

fn is_group(neighbour: &Neighbour) -> bool {
    neighbour.address.is_multicast()
}

fn absent_is_fine(outcome: Result<(), netlink::Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The blackhole routes of this host's blocks. A block of one address gets none: it would be the workload's own route.
pub(crate) fn reconcile_blocks(
    nl: &mut Connection,
    config: &Config,
    blocks: &BTreeSet<IpNet>,
    conflicts: &mut Vec<RouteConflict>,
) -> Result<(), Error> {
    let there = nl.routes(&RouteFilter::owned(table::MAIN, config.block_route_protocol))?;
    let there: Vec<_> = there
        .into_iter()
        .filter(|route| route.kind == RouteKind::Blackhole)
        .collect();
    let is_right =
        |route: &Route| blocks.contains(&route.destination) && route.metric == config.block_route_metric;
    for block in blocks.iter().filter(|block| !address::is_host(block)) {
        if there
            .iter()
            .any(|route| is_right(route) && route.destination == *block)
        {
            continue;
        }
        let route = Route::new(*block)
            .blackhole()
            .protocol(config.block_route_protocol)
            .metric(config.block_route_metric);
        match nl.add_route(&route) {
            Err(error) if error.is_exists() => {
                let holders = nl.routes_to(*block, table::MAIN)?;
                let holder = holders.iter().find(|holder| holder.metric == route.metric);
                let holder =
                    holder.map_or_else(|| "a route that has just gone".to_owned(), ToString::to_string);
                conflicts.push(RouteConflict {
                    destination: *block,
                    holder,
                });
            }
            outcome => outcome?,
        }
    }
    for route in there
        .iter()
        .filter(|route| !is_right(route) || address::is_host(&route.destination))
    {
        absent_is_fine(nl.delete_route(route))?;
    }
    Ok(())
}
