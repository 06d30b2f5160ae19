//! Routes into the kernel: the driver against a bare loop that sends batches of the same requests.
//!
//! `cargo bench -p bgpd --bench fib -- [ROUTES]` prints routes a second of both, for plain routes and for next-hop
//! groups, and how long it takes to take one of two next hops out of use. Needs root: it works in network namespaces
//! of its own.

#![expect(clippy::unwrap_used, reason = "a benchmark ends with its first error")]
#![expect(clippy::expect_used, clippy::panic, reason = "shared with the tests")]

#[path = "../tests/fib/world.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod world;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use bgpd::fib::{FibSettings, METRIC_NORMAL, PROTOCOL};
use bgpd::rib::{FibAction, FibChange, FibRoute, Gateway};
use bgpd::wire::Prefix;
use netlink::{Hop, NextHop as Object, NextHopKind, Request, Route};
use world::{World, settle};

const ROUTES_DEFAULT: u32 = 200_000;
/// Requests that the bare loop sends at once.
const BATCH_REQUESTS: usize = 1024;
/// Prefixes that the driver is given at once, as the RIB gives them.
const CHANGES_PER_CALL: usize = 4096;
const GATEWAYS: [[u8; 4]; 2] = [[10, 0, 0, 2], [10, 0, 1, 2]];

fn main() {
    // What cargo itself passes begins with a dash.
    let routes = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let routes = routes.map_or(ROUTES_DEFAULT, |routes| {
        routes.parse().expect("a number of routes")
    });
    for (name, gateways) in [("plain", 1), ("group of 2", 2)] {
        let bare = bare(routes, gateways);
        let driver = driver(routes, gateways);
        println!(
            "{routes} routes, {name}: bare loop {bare:.0}/s, driver {driver:.0}/s, ratio {:.2}",
            driver / bare
        );
    }
}

/// /24s.
fn prefix(n: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from(0x2000_0000 + (n << 8)).into(), 24).unwrap()
}

fn bare(routes: u32, gateways: usize) -> f64 {
    let mut world = World::new(2);
    let objects = |(n, gateway): (usize, &[u8; 4])| {
        Request::AddNextHop(Object {
            id: n as u32 + 1,
            protocol: PROTOCOL,
            kind: NextHopKind::Gateway {
                gateway: (*gateway).into(),
                interface: world.links[n],
                onlink: false,
            },
            unusable: false,
        })
    };
    let mut setup: Vec<Request> = GATEWAYS.iter().enumerate().map(objects).collect();
    setup.push(Request::AddNextHop(Object {
        id: 3,
        protocol: PROTOCOL,
        kind: NextHopKind::Group {
            members: vec![(1, 1), (2, 1)],
        },
        unusable: false,
    }));
    let request = |n: u32| {
        let route = Route::new(prefix(n)).protocol(PROTOCOL).metric(METRIC_NORMAL);
        Request::AddRoute(match gateways {
            1 => route.hop(Hop::via(GATEWAYS[0].into()).on(world.links[0])),
            _ => route.next_hop(3),
        })
    };
    let requests: Vec<Request> = (0..routes).map(request).collect();
    assert!(world.nl.batch(&setup).unwrap().iter().all(Result::is_ok));
    let started = Instant::now();
    for batch in requests.chunks(BATCH_REQUESTS) {
        assert!(world.nl.batch(batch).unwrap().iter().all(Result::is_ok));
    }
    f64::from(routes) / started.elapsed().as_secs_f64()
}

fn driver(routes: u32, gateways: usize) -> f64 {
    let world = World::new(2);
    let fib = world.start_with(FibSettings::default());
    let gateway = |gateway: &[u8; 4]| Gateway::from(IpAddr::from(*gateway));
    let route = FibRoute {
        action: FibAction::Forward(GATEWAYS.iter().take(gateways).map(gateway).collect()),
        local_pref: None,
    };
    let started = Instant::now();
    let mut next = 0;
    while next < routes {
        let end = routes.min(next + CHANGES_PER_CALL as u32);
        let change = |n| FibChange {
            prefix: prefix(n),
            route: Some(route.clone()),
        };
        fib.apply((next..end).map(change).collect());
        next = end;
    }
    let status = settle(&fib);
    let took = started.elapsed();
    assert_eq!(status.installed, routes as usize, "{status:?}");
    f64::from(routes) / took.as_secs_f64()
}
