//! A host with uplinks, each to a router in a namespace of its own. Namespaces have no names: nothing
//! is left however a test ends.

use std::net::IpAddr;
use std::time::Duration;

use bgpd::fib::{Fib, FibSettings, FibStatus};
use bgpd::rib::{FibAction, FibChange, FibRoute, Gateway};
use netlink::{Connection, NetNs, Route, RouteFilter, RouteKind, VethSpec, table};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) host: NetNs,
    pub(crate) routers: Vec<NetNs>,
    pub(crate) links: Vec<u32>,
    pub(crate) nl: Connection,
}

impl World {
    /// Uplink n is `up{n}`, 10.0.n.1/24 and fd00:n::1/64; its router has the same with 2.
    pub(crate) fn new(uplinks: usize) -> World {
        let host = NetNs::unnamed().unwrap();
        let mut nl = Connection::open_in(&host).unwrap();
        set_up(&mut nl, "lo", &[]);
        let mut world = World {
            host,
            routers: Vec::new(),
            links: Vec::new(),
            nl,
        };
        for n in 0..uplinks {
            world.routers.push(NetNs::unnamed().unwrap());
            world.links.push(0);
            world.connect(n);
        }
        world
    }

    /// Makes uplink n, which there is none of.
    pub(crate) fn connect(&mut self, n: usize) {
        let (router, name) = (&self.routers[n], format!("up{n}"));
        let spec = VethSpec {
            peer_netns: Some(router),
            ..VethSpec::new(&name, "down")
        };
        self.nl.create_veth(&spec).unwrap();
        set_up(
            &mut Connection::open_in(router).unwrap(),
            "down",
            &addresses(n, 2),
        );
        self.links[n] = set_up(&mut self.nl, &name, &addresses(n, 1));
    }

    /// A driver that does not look by itself for the length of a test.
    pub(crate) fn start_deaf_to_time(&self) -> Fib {
        let never = Duration::from_secs(3600);
        self.start_with(FibSettings {
            read_back_interval: never,
            lookup_interval: never,
            ..FibSettings::default()
        })
    }

    pub(crate) fn start(&self) -> Fib {
        let settings = FibSettings {
            read_back_interval: Duration::from_millis(500),
            lookup_interval: Duration::from_millis(200),
            ..FibSettings::default()
        };
        self.start_with(settings)
    }

    pub(crate) fn start_with(&self, settings: FibSettings) -> Fib {
        Fib::start_in(settings, &self.host).unwrap()
    }

    /// Our routes, as `PREFIX via A,B`, sorted. Groups are followed to their members.
    pub(crate) fn ours(&mut self) -> Vec<String> {
        // Routes and objects are two questions: between them a group may come or go.
        for _ in 0..20 {
            let objects = self.nl.next_hops().unwrap();
            let filter = RouteFilter::owned(table::MAIN, bgpd::fib::PROTOCOL);
            let found = self.nl.routes(&filter).unwrap();
            let found = found.iter().map(|route| self.describe(route, &objects));
            if let Some(mut found) = found.collect::<Option<Vec<String>>>() {
                found.sort();
                return found;
            }
        }
        panic!("routes of ours refer to groups that are not there");
    }

    fn describe(&self, route: &Route, objects: &[netlink::NextHop]) -> Option<String> {
        let mut gateways = Vec::new();
        // A link-local address says nothing without its link.
        let mut add = |gateway: IpAddr, interface: u32| match gateway {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                let link = self.links.iter().position(|link| *link == interface);
                gateways.push(format!(
                    "{gateway}%{}",
                    link.map_or("?".into(), |n| format!("up{n}"))
                ));
            }
            _ => gateways.push(gateway.to_string()),
        };
        match route.next_hop_id {
            Some(id) => {
                let group = objects.iter().find(|object| object.id == id)?;
                let netlink::NextHopKind::Group { members } = &group.kind else {
                    panic!("{group}")
                };
                for (id, _) in members {
                    let member = objects.iter().find(|object| object.id == *id)?;
                    let netlink::NextHopKind::Gateway {
                        gateway, interface, ..
                    } = member.kind
                    else {
                        panic!("{member}")
                    };
                    add(gateway, interface);
                }
            }
            None if route.kind == RouteKind::Blackhole => {
                return Some(format!("{} blackhole metric {}", route.destination, route.metric));
            }
            None => {
                for hop in &route.hops {
                    add(hop.gateway.unwrap(), hop.interface.unwrap());
                }
            }
        }
        gateways.sort();
        let by = if route.next_hop_id.is_some() {
            "group"
        } else {
            "via"
        };
        Some(format!(
            "{} {by} {} metric {}",
            route.destination,
            gateways.join(","),
            route.metric
        ))
    }

    /// Wait until our routes are these.
    pub(crate) fn wait_for(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen = self.ours();
            if seen == expected {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(seen, expected);
    }

    /// Wait until the kernel is as wanted.
    pub(crate) fn wait_until(&mut self, wanted: impl Fn(&mut World) -> bool) {
        for _ in 0..200 {
            if wanted(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not so in time; our routes: {:?}", self.ours());
    }

    pub(crate) fn router(&self, n: usize) -> Connection {
        Connection::open_in(&self.routers[n]).unwrap()
    }
}

fn addresses(n: usize, host: u8) -> [String; 2] {
    [format!("10.0.{n}.{host}/24"), format!("fd00:{n}::{host}/64")]
}

pub(crate) fn set_up(nl: &mut Connection, name: &str, addresses: &[String]) -> u32 {
    let index = nl.index_of(name).unwrap();
    nl.set_up(index).unwrap();
    for address in addresses {
        nl.add_address(index, address.parse().unwrap()).unwrap();
    }
    index
}

/// A selection as the RIB gives it. No next hop: nothing is selected.
pub(crate) fn want(prefix: &str, next_hops: &[&str]) -> FibChange {
    want_with(prefix, next_hops, None)
}

pub(crate) fn want_with(prefix: &str, next_hops: &[&str], local_pref: Option<u32>) -> FibChange {
    let gateway = |next_hop: &&str| Gateway::from(next_hop.parse::<IpAddr>().unwrap());
    let action = FibAction::Forward(next_hops.iter().map(gateway).collect());
    want_route(
        prefix,
        (!next_hops.is_empty()).then_some(FibRoute { action, local_pref }),
    )
}

pub(crate) fn want_route(prefix: &str, route: Option<FibRoute>) -> FibChange {
    let prefix = prefix.parse().unwrap();
    FibChange { prefix, route }
}

pub(crate) fn settle(fib: &Fib) -> FibStatus {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(LIMIT, fib.settled()).await })
        .expect("not settled in time");
    fib.status()
}

pub(crate) fn refusals(status: &FibStatus) -> Vec<String> {
    status
        .refused_routes
        .iter()
        .map(|route| format!("{}: {}", route.prefix, route.reason))
        .collect()
}

/// Read the status until it is as wanted.
pub(crate) fn wait_status(fib: &Fib, wanted: impl Fn(&FibStatus) -> bool) -> FibStatus {
    for _ in 0..200 {
        let status = fib.status();
        if wanted(&status) {
            return status;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{:?}", fib.status());
}
