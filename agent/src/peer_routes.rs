//! Static routes to BGP peers that are reached by a gateway (`reachableBy` of BGPPeer): host routes with a protocol
//! number of their own, reconciled with what the kernel has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink::{Connection, Error, Route, RouteFilter, table};

/// Protocol number of these routes. Those of learned routes and of the dataplane are others.
pub(crate) const PROTOCOL: u8 = 202;
/// What IPv6 makes of 0.
const METRIC: u32 = 1024;
/// How often the kernel is looked at when nothing changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How soon it is tried again when something is missing.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Peers by address, each with its gateway.
pub(crate) type Wanted = BTreeMap<IpAddr, IpAddr>;

/// What the routes should be, and what stands in the way.
#[derive(Debug, Default)]
pub(crate) struct PeerRoutes {
    /// What was asked for last.
    asked: Option<Wanted>,
    due: Option<Instant>,
    /// Written by the last attempt.
    problems: Arc<Mutex<Vec<String>>>,
}

impl PeerRoutes {
    /// Has the kernel have these routes and no others of this protocol. Does not wait for it.
    pub(crate) fn keep(&mut self, wanted: &Wanted) {
        let now = Instant::now();
        let changed = self.asked.as_ref() != Some(wanted);
        // Where there are none and never were any, there is nothing to look at.
        let idle = wanted.is_empty() && self.asked.is_some();
        if !changed && (idle || self.due.is_some_and(|due| now < due)) {
            return;
        }
        self.asked = Some(wanted.clone());
        let failing = !self.problems().is_empty();
        self.due = Some(now + if failing { RETRY_INTERVAL } else { CHECK_INTERVAL });
        let (wanted, problems) = (wanted.clone(), Arc::clone(&self.problems));
        tokio::task::spawn_blocking(move || {
            let outcome = Connection::open().and_then(|mut connection| reconcile(&mut connection, &wanted));
            let found =
                outcome.unwrap_or_else(|error| vec![format!("routes to BGP peers (reachableBy): {error}")]);
            *problems.lock().unwrap_or_else(PoisonError::into_inner) = found;
        });
    }

    /// Why routes are missing.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Makes the kernel's routes so; gives what it refuses.
fn reconcile(connection: &mut Connection, wanted: &Wanted) -> Result<Vec<String>, Error> {
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

    fn wanted(pairs: &[(&str, &str)]) -> Wanted {
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
            let problems = reconcile(&mut connection, &wanted(pairs)).unwrap();
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
}
