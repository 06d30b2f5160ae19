//! Routes, next-hop objects, lookups and batches against the kernel.

use std::{net::IpAddr, time::Instant};

use crate::pair::Pair;
use netlink::{
    Background, Connection, Event, Family, Group, Hop, Monitor, NetNs, NextHop, NextHopKind, Request, Route,
    RouteFilter, RouteKind, table,
};

const OURS: u8 = 201;

fn ours(nl: &mut Connection) -> Vec<Route> {
    nl.routes(&RouteFilter::owned(table::MAIN, OURS)).unwrap()
}

fn route(destination: &str) -> Route {
    Route::new(destination.parse().unwrap())
        .protocol(OURS)
        .metric(1024)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn routes_of_every_shape_are_read_back_as_written() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let link = pair.east_link;
    let shapes = [
        route("10.1.0.0/16").hop(Hop::via(ip("10.0.0.2")).on(link)),
        route("10.2.0.0/16").dev(link),
        route("10.3.0.0/16").blackhole(),
        Route {
            kind: RouteKind::Unreachable,
            ..route("10.4.0.0/16")
        },
        Route {
            kind: RouteKind::Prohibit,
            ..route("10.5.0.0/16")
        },
        Route {
            kind: RouteKind::Throw,
            ..route("10.6.0.0/16")
        },
        route("10.7.0.0/16").hop(Hop {
            onlink: true,
            ..Hop::via(ip("192.0.2.1")).on(link)
        }),
        route("10.8.0.0/16").hop(Hop::via(ip("fd00::2")).on(link)),
        route("10.9.0.0/16")
            .hop(Hop::via(ip("10.0.0.2")).on(link))
            .hop(Hop {
                weight: 7,
                ..Hop::via(ip("10.0.0.3")).on(link)
            }),
        Route {
            mtu: Some(1300),
            ..route("10.10.0.0/16")
                .source(ip("10.0.0.1"))
                .hop(Hop::via(ip("10.0.0.2")).on(link))
        },
        route("0.0.0.0/0").hop(Hop::via(ip("10.0.0.2")).on(link)),
        route("fd01::/64").hop(Hop::via(ip("fd00::2")).on(link)),
        route("fd02::/64").dev(link),
        route("fd03::/64").blackhole(),
        route("fd09::/64")
            .hop(Hop::via(ip("fd00::2")).on(link))
            .hop(Hop::via(ip("fd00::3")).on(link)),
        route("::/0").hop(Hop::via(ip("fd00::2")).on(link)),
    ];
    for shape in &shapes {
        nl.add_route(shape).unwrap_or_else(|e| panic!("{e}"));
    }
    let mut seen = ours(&mut nl);
    for shape in &shapes {
        let at = seen
            .iter()
            .position(|route| route.destination == shape.destination)
            .unwrap();
        assert_eq!(&seen.swap_remove(at), shape);
    }
    assert_eq!(seen, []);
    for shape in &shapes {
        nl.delete_route(shape).unwrap();
    }
    assert_eq!(ours(&mut nl), []);
    let error = nl.delete_route(&shapes[0]).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn other_tables_and_owners_are_told_apart() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    assert_eq!(nl.routes(&RouteFilter::owned(10_000, OURS)).unwrap(), []);
    nl.add_route(&route("10.1.0.0/16").blackhole().table(10_000))
        .unwrap();
    nl.add_route(&route("10.1.0.0/16").blackhole().protocol(99))
        .unwrap();
    assert_eq!(ours(&mut nl), []);
    let found = nl.routes(&RouteFilter::owned(10_000, OURS)).unwrap();
    assert_eq!(found, [route("10.1.0.0/16").blackhole().table(10_000)]);
    let taken = nl.add_route(&route("10.1.0.0/16").blackhole()).unwrap_err();
    assert!(taken.is_exists(), "{taken}");
    // Not ours, so a deletion that names our protocol leaves it.
    assert!(
        nl.delete_route(&route("10.1.0.0/16").blackhole())
            .unwrap_err()
            .is_not_found()
    );
    let holder = nl.routes_to("10.1.0.0/16".parse().unwrap(), table::MAIN).unwrap();
    assert_eq!(holder, [route("10.1.0.0/16").blackhole().protocol(99)]);
    nl.replace_route(&route("10.1.0.0/16").blackhole()).unwrap();
    assert_eq!(ours(&mut nl).len(), 1);
    let on_link = RouteFilter {
        interface: Some(pair.east_link),
        family: Some(Family::V4),
        ..RouteFilter::default()
    };
    let connected = nl
        .routes(&RouteFilter {
            table: Some(table::MAIN),
            ..on_link
        })
        .unwrap();
    assert_eq!(
        connected
            .iter()
            .map(|r| r.destination.to_string())
            .collect::<Vec<_>>(),
        ["10.0.0.0/24"]
    );
}

#[test]
fn lookups_give_the_matching_route() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let link = pair.east_link;
    nl.add_route(&route("10.1.0.0/16").hop(Hop::via(ip("10.0.0.2")).on(link)))
        .unwrap();
    nl.add_route(&route("fd01::/64").hop(Hop::via(ip("fd00::2")).on(link)))
        .unwrap();
    nl.add_route(&route("10.1.2.0/24").blackhole()).unwrap();
    nl.add_route(&route("fd01::/80").blackhole()).unwrap();
    for (address, destination) in [
        ("10.1.1.1", "10.1.0.0/16"),
        ("fd01::1:0:0:1", "fd01::/64"),
        ("10.0.0.9", "10.0.0.0/24"),
    ] {
        let found = nl.lookup(ip(address)).unwrap().unwrap();
        assert_eq!(found.destination, destination.parse().unwrap());
        assert_eq!(found.hops[0].interface, Some(link));
    }
    for address in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(nl.lookup(ip(address)).unwrap(), None, "{address}");
    }
    for address in ["10.1.2.1", "fd01::1"] {
        assert!(
            nl.lookup(ip(address))
                .unwrap()
                .is_none_or(|route| route.kind.is_dead_end()),
            "{address}"
        );
    }
    assert_eq!(nl.lookup(ip("10.0.0.1")).unwrap().unwrap().kind, RouteKind::Local);
}

#[test]
fn next_hop_objects_and_groups_carry_routes() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let link = pair.east_link;
    let gateway = |id, gateway: &str| NextHop {
        id,
        protocol: OURS,
        kind: NextHopKind::Gateway {
            gateway: ip(gateway),
            interface: link,
            onlink: false,
        },
        unusable: false,
    };
    let plain = |id, kind| NextHop {
        id,
        protocol: OURS,
        kind,
        unusable: false,
    };
    let objects = [
        gateway(71, "10.0.0.2"),
        gateway(72, "10.0.0.3"),
        gateway(73, "fd00::2"),
        plain(74, NextHopKind::Blackhole { family: Family::V4 }),
        plain(
            75,
            NextHopKind::Interface {
                family: Family::V6,
                interface: link,
            },
        ),
        plain(
            80,
            NextHopKind::Group {
                members: vec![(71, 3), (72, 1)],
            },
        ),
    ];
    for object in &objects {
        nl.add_next_hop(object).unwrap_or_else(|e| panic!("{e}"));
    }
    assert_eq!(nl.next_hops().unwrap(), objects);
    assert!(nl.add_next_hop(&objects[0]).unwrap_err().is_exists());
    nl.add_route(&route("10.1.0.0/16").next_hop(80)).unwrap();
    nl.add_route(&route("10.2.0.0/16").next_hop(73)).unwrap();
    nl.add_route(&route("fd01::/64").next_hop(73)).unwrap();
    let found = ours(&mut nl);
    assert_eq!(
        found.iter().map(|r| r.next_hop_id).collect::<Vec<_>>(),
        [Some(80), Some(73), Some(73)]
    );
    // Changing the object changes the routes.
    nl.replace_next_hop(&gateway(71, "10.0.0.4")).unwrap();
    nl.replace_next_hop(&plain(
        80,
        NextHopKind::Group {
            members: vec![(71, 1)],
        },
    ))
    .unwrap();
    let found = nl.lookup(ip("10.1.0.1")).unwrap().unwrap();
    assert_eq!(
        found.hops.iter().map(|h| h.gateway).collect::<Vec<_>>(),
        [Some(ip("10.0.0.4"))]
    );
    // Deleting one takes the routes that depend on it alone.
    nl.delete_next_hop(80).unwrap();
    nl.delete_next_hop(73).unwrap();
    assert_eq!(ours(&mut nl), []);
    let error = nl
        .add_route(&route("10.1.0.0/16").next_hop(80))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "add route 10.1.0.0/16 nhid 80 proto 201 metric 1024: Nexthop id does not exist (EINVAL: Invalid argument)"
    );
}

#[test]
fn a_batch_tells_the_outcome_of_each_request() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let link = pair.east_link;
    let good = |n: u32| {
        let net = ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(0x0a40_0000 + n * 256), 24).unwrap();
        Route::new(net.into())
            .protocol(OURS)
            .metric(1024)
            .hop(Hop::via(ip("10.0.0.2")).on(link))
    };
    const COUNT: u32 = 10_000;
    let requests: Vec<_> = (0..COUNT)
        .map(|n| match n % 100 {
            7 => Request::AddRoute(Route {
                hops: vec![Hop::via(ip("203.0.113.1"))],
                ..good(n)
            }),
            8 => Request::AddRoute(good(n - 3)),
            9 => Request::DeleteRoute(good(n)),
            _ => Request::AddRoute(good(n)),
        })
        .collect();
    let started = Instant::now();
    let outcomes = nl.batch(&requests).unwrap();
    eprintln!("{COUNT} requests in {:?}", started.elapsed());
    assert_eq!(outcomes.len(), requests.len());
    for (n, outcome) in outcomes.iter().enumerate() {
        let text = outcome.as_ref().map_err(ToString::to_string);
        match n % 100 {
            7 => assert_eq!(
                text,
                Err("Nexthop has invalid gateway (ENETUNREACH: Network is unreachable)".into())
            ),
            8 => assert!(outcome.as_ref().is_err_and(|e| e.is_exists()), "{n}: {text:?}"),
            9 => assert!(outcome.as_ref().is_err_and(|e| e.is_not_found()), "{n}: {text:?}"),
            _ => assert_eq!(text, Ok(&()), "{n}"),
        }
    }
    assert_eq!(ours(&mut nl).len(), (COUNT as usize) * 97 / 100);
    assert_eq!(nl.batch(&[]).unwrap(), []);
    // The connection is in step after all that.
    assert_eq!(nl.link("east").unwrap().unwrap().index, link);
    let gone: Vec<_> = ours(&mut nl).into_iter().map(Request::DeleteRoute).collect();
    assert!(nl.batch(&gone).unwrap().iter().all(Result::is_ok));
    assert_eq!(ours(&mut nl), []);
}

#[test]
fn a_batch_refused_throughout_loses_no_answer() {
    let netns = NetNs::unnamed().unwrap();
    let mut nl = Connection::open_in(&netns).unwrap();
    let requests: Vec<_> = (0..20_000).map(Request::DeleteNextHop).collect();
    let outcomes = nl.batch(&requests).unwrap();
    assert_eq!(outcomes.len(), 20_000);
    assert!(outcomes.iter().all(Result::is_err));
}

#[test]
fn a_weight_out_of_range_is_refused_before_anything_is_sent() {
    let pair = Pair::new();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    let hop = |weight| Hop {
        weight,
        ..Hop::via(ip("10.0.0.2"))
    };
    for weight in [0, 257] {
        let bad = route("10.2.0.0/16").hop(hop(1)).hop(hop(weight));
        let error = nl.batch(&[
            Request::AddRoute(route("10.1.0.0/16").blackhole()),
            Request::AddRoute(bad),
        ]);
        let error = error.unwrap_err().to_string();
        assert_eq!(
            error,
            format!("weight `{weight}`: a next hop's weight is 1 to 256")
        );
        assert_eq!(ours(&mut nl), []);
    }
}

#[test]
fn batches_in_the_background_are_carried_out_in_order() {
    let pair = Pair::new();
    let mut background = Background::open_in(&pair.east, "test-send").unwrap();
    let mut monitor = Monitor::open_in(&pair.east, &[Group::RoutesV4]).unwrap();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    monitor.ignore([nl.port(), background.port()]).unwrap();
    assert_eq!(background.outcomes().unwrap(), [], "nothing is under way");
    const COUNT: u32 = 3000;
    let all: Vec<Route> = (0..COUNT)
        .map(|n| route(&format!("10.{}.{}.0/24", 64 + n / 256, n % 256)).blackhole())
        .collect();
    let added = || all.iter().cloned().map(Request::AddRoute);
    // There already, as the one of the first batch is carried out before.
    background.submit(added()).unwrap();
    background.submit(added().take(5)).unwrap();
    background
        .submit(all.iter().skip(10).cloned().map(Request::DeleteRoute))
        .unwrap();
    let first = background.outcomes().unwrap();
    assert!(first.len() == COUNT as usize && first.iter().all(Result::is_ok));
    let again = background.outcomes().unwrap();
    let is_exists = |outcome: &netlink::Outcome| outcome.as_ref().is_err_and(netlink::Refusal::is_exists);
    assert!(again.len() == 5 && again.iter().all(is_exists), "{again:?}");
    let gone = background.outcomes().unwrap();
    assert!(gone.len() == COUNT as usize - 10 && gone.iter().all(Result::is_ok));
    let left = ours(&mut nl);
    assert_eq!(left.len(), 10);
    // Neither connection's changes are told, and others' are.
    nl.batch(left.iter().cloned().map(Request::DeleteRoute)).unwrap();
    let mut other = Connection::open_in(&pair.east).unwrap();
    other.add_route(&all[0]).unwrap();
    let told = monitor.next_within(std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(told, Some(Event::Route(all[0].clone())));
    // What is under way when it is dropped is sent.
    background
        .submit(all.iter().skip(1).cloned().map(Request::AddRoute))
        .unwrap();
    drop(background);
    assert_eq!(ours(&mut nl).len(), COUNT as usize);
}
