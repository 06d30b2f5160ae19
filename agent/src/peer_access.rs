//! What BGP peers need of this host's kernel, reconciled with what is there: static routes to peers that are reached by
//! a gateway (`reachableBy` of BGPPeer), and addresses of this host at the interfaces of workloads that are peers
//! (`localWorkloadSelector`). Both are marked with a protocol number of their own.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink::{Address, Connection, Error, Request, Route, RouteFilter, table};

/// Protocol number of these routes and addresses. Those of learned routes and of the dataplane are others.
pub(crate) const PROTOCOL: u8 = 202;
/// What IPv6 makes of 0.
const METRIC: u32 = 1024;
/// How often the kernel is looked at when nothing changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is tried again when something is missing.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// What is to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Peers by address, each with its gateway.
    pub(crate) routes: BTreeMap<IpAddr, IpAddr>,
    /// Addresses of this host, by interface.
    pub(crate) addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// What should be, and what stands in the way.
#[derive(Debug, Default)]
pub(crate) struct PeerAccess {
    /// What was asked for last.
    asked: Option<Wanted>,
    due: Option<Instant>,
    /// Written by the last attempt.
    problems: Arc<Mutex<Vec<String>>>,
}

impl PeerAccess {
    /// Has the kernel have these and no others of this protocol. Does not wait for it.
    pub(crate) fn keep(&mut self, wanted: &Wanted) {
        let now = Instant::now();
        let changed = self.asked.as_ref() != Some(wanted);
        // Where there is nothing and never was, there is nothing to look at.
        let idle = *wanted == Wanted::default() && self.asked.is_some();
        if !changed && (idle || self.due.is_some_and(|due| now < due)) {
            return;
        }
        self.asked = Some(wanted.clone());
        let failing = !self.problems().is_empty();
        self.due = Some(now + if failing { RETRY_INTERVAL } else { CHECK_INTERVAL });
        let (wanted, problems) = (wanted.clone(), Arc::clone(&self.problems));
        tokio::task::spawn_blocking(move || {
            let outcome = Connection::open().and_then(|mut connection| {
                let mut found = reconcile_addresses(&mut connection, &wanted.addresses)?;
                found.extend(reconcile_routes(&mut connection, &wanted.routes)?);
                Ok(found)
            });
            let found = outcome.unwrap_or_else(|error| vec![format!("access to BGP peers: {error}")]);
            *problems.lock().unwrap_or_else(PoisonError::into_inner) = found;
        });
    }

    /// Why something is missing.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Makes the kernel's addresses so; gives what it refuses. An address that somebody else has put there does as well,
/// and stays.
fn reconcile_addresses(
    connection: &mut Connection,
    wanted: &BTreeMap<String, BTreeSet<IpAddr>>,
) -> Result<Vec<String>, Error> {
    let mut problems = Vec::new();
    let mut missing: HashSet<(u32, IpNet)> = HashSet::new();
    for (interface, addresses) in wanted {
        match connection.index_of(interface) {
            Ok(index) => missing.extend(addresses.iter().map(|a| (index, IpNet::from(*a)))),
            Err(error) => problems.push(format!(
                "addresses for a workload that is a BGP peer: {interface}: {error}"
            )),
        }
    }
    for there in connection.addresses()? {
        let is_wanted = missing.remove(&(there.interface, there.address));
        if is_wanted || there.protocol != PROTOCOL {
            continue;
        }
        match connection.delete_address(there.interface, there.address) {
            Err(error) if !error.is_not_found() => problems.push(format!("address {there}: {error}")),
            _ => {}
        }
    }
    for (index, address) in missing {
        let address = Address {
            protocol: PROTOCOL,
            // The same address is at several interfaces: it alone is local, and leads nowhere.
            no_prefix_route: true,
            ..Address::new(index, address)
        };
        match connection.apply(&Request::AddAddress(address.clone())) {
            Err(error) if !error.is_exists() => problems.push(format!(
                "address {address} for a workload that is a BGP peer: {error}"
            )),
            _ => {}
        }
    }
    Ok(problems)
}

/// Makes the kernel's routes so; gives what it refuses.
fn reconcile_routes(
    connection: &mut Connection,
    wanted: &BTreeMap<IpAddr, IpAddr>,
) -> Result<Vec<String>, Error> {
    let there = connection.routes(&RouteFilter::owned(table::MAIN, PROTOCOL))?;
    let wanted: BTreeMap<IpNet, IpAddr> = wanted
        .iter()
        .map(|(peer, gateway)| (IpNet::from(*peer), *gateway))
        .collect();
    let is_right = |route: &Route| {
        let gateways: Vec<Option<IpAddr>> = route.hops.iter().map(|hop| hop.gateway).collect();
        wanted
            .get(&route.destination)
            .is_some_and(|gateway| gateways == [Some(*gateway)])
    };
    let mut problems = Vec::new();
    for route in there.iter().filter(|route| !is_right(route)) {
        match connection.delete_route(route) {
            Err(error) if !error.is_not_found() => {
                problems.push(format!("route to {}: {error}", route.destination))
            }
            _ => {}
        }
    }
    for (destination, gateway) in &wanted {
        if there
            .iter()
            .any(|route| route.destination == *destination && is_right(route))
        {
            continue;
        }
        let route = Route::new(*destination)
            .via(*gateway)
            .protocol(PROTOCOL)
            .metric(METRIC);
        if let Err(error) = connection.add_route(&route) {
            problems.push(format!(
                "route to BGP peer {destination} via {gateway} (reachableBy): {error}"
            ));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::{NetNs, VethSpec};

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<IpAddr, IpAddr> {
        let address = |text: &str| text.parse().unwrap();
        pairs
            .iter()
            .map(|(peer, gateway)| (address(peer), address(gateway)))
            .collect()
    }

    #[test]
    fn the_kernel_has_the_wanted_routes_and_strangers_keep_theirs() {
        let netns = NetNs::unnamed().unwrap();
        let far = NetNs::unnamed().unwrap();
        let mut connection = Connection::open_in(&netns).unwrap();
        connection
            .create_veth(&VethSpec {
                peer_netns: Some(&far),
                ..VethSpec::new("up0", "up1")
            })
            .unwrap();
        let index = connection.index_of("up0").unwrap();
        connection
            .add_address(index, "10.0.0.2/24".parse().unwrap())
            .unwrap();
        connection.set_up(index).unwrap();
        let stranger = Route::new("10.9.0.9/32".parse().unwrap()).via("10.0.0.1".parse().unwrap());
        connection.add_route(&stranger).unwrap();
        let mut routes = |pairs: &[(&str, &str)]| {
            let problems = reconcile_routes(&mut connection, &wanted(pairs)).unwrap();
            let there = connection
                .routes(&RouteFilter::owned(table::MAIN, PROTOCOL))
                .unwrap();
            let text = |route: &Route| format!("{} {:?}", route.destination, route.hops[0].gateway);
            (there.iter().map(text).collect::<Vec<_>>(), problems)
        };
        let (there, problems) = routes(&[("10.1.0.1", "10.0.0.1"), ("10.1.0.2", "10.0.0.1")]);
        assert_eq!((there.len(), problems), (2, vec![]));
        let (there, problems) = routes(&[("10.1.0.1", "10.0.0.3"), ("10.1.0.3", "192.0.2.1")]);
        assert_eq!(there, ["10.1.0.1/32 Some(10.0.0.3)"]);
        assert!(
            problems.len() == 1 && problems[0].starts_with("route to BGP peer 10.1.0.3/32 via 192.0.2.1"),
            "{problems:?}"
        );
        assert_eq!(routes(&[]), (vec![], vec![]));
        assert_eq!(
            connection
                .routes_to("10.9.0.9/32".parse().unwrap(), table::MAIN)
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn addresses_are_put_at_workload_interfaces_and_those_of_others_stay() {
        let netns = NetNs::unnamed().unwrap();
        let mut connection = Connection::open_in(&netns).unwrap();
        for (name, far) in [("cali1", "far1"), ("cali2", "far2")] {
            connection.create_veth(&VethSpec::new(name, far)).unwrap();
            let index = connection.index_of(name).unwrap();
            connection.set_up(index).unwrap();
        }
        let first = connection.index_of("cali1").unwrap();
        connection
            .add_address(first, "192.0.2.1/32".parse().unwrap())
            .unwrap();
        let mut addresses = |wanted: &[(&str, &[&str])]| {
            let wanted = wanted
                .iter()
                .map(|(interface, addresses)| {
                    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
                    ((*interface).to_owned(), addresses)
                })
                .collect();
            let problems = reconcile_addresses(&mut connection, &wanted).unwrap();
            let there = connection.addresses().unwrap().into_iter();
            let mut there: Vec<String> = there
                .filter(|a| a.scope == 0)
                .map(|a| format!("{} {}", a.address, a.interface == first))
                .collect();
            there.sort();
            (there, problems)
        };
        let both: &[&str] = &["169.254.2.1", "fd00:ffff::1"];
        let (there, problems) = addresses(&[("cali1", both), ("cali2", &["169.254.2.1"]), ("cali3", both)]);
        assert_eq!(
            there,
            [
                "169.254.2.1/32 false",
                "169.254.2.1/32 true",
                "192.0.2.1/32 true",
                "fd00:ffff::1/128 true"
            ]
        );
        assert!(
            problems.len() == 1 && problems[0].contains("cali3"),
            "{problems:?}"
        );
        // What was wanted and is not any more goes; a stranger's address, wanted or not, stays.
        let stranger: &[&str] = &["169.254.2.2", "192.0.2.1"];
        let (there, problems) = addresses(&[("cali1", stranger)]);
        assert_eq!(
            (there, problems),
            (
                vec!["169.254.2.2/32 true".into(), "192.0.2.1/32 true".into()],
                vec![]
            )
        );
        assert_eq!(addresses(&[]).0, ["192.0.2.1/32 true"]);
    }
}
