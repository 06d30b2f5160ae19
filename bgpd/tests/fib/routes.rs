//! What ends up in the kernel.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgpd::fib::{Fib, FibSettings, Metric, PRIORITY_MAX};
use bgpd::rib::{Gateway, NextHopInterest, NextHopState};
use bgpd::wire::Family;
use netlink::{Hop, NextHop, NextHopKind, Route, RouteFilter, VethSpec, table};

use crate::world::{World, refusals, set_up, settle, wait_status, want, want_with};

const V4: &str = "10.9.0.0/16 via 10.0.0.2 metric 1024";

fn sweep(fib: &Fib) {
    fib.sweep(Family::Ipv4Unicast);
    fib.sweep(Family::Ipv6Unicast);
}

#[test]
fn routes_follow_what_is_wanted() {
    let mut world = World::new(2);
    let fib = world.start();
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.0.2"]),
        want("fd09::/64", &["fd00:0::2"]),
    ]);
    let status = settle(&fib);
    assert_eq!(world.ours(), [V4, "fd09::/64 via fd00::2 metric 1024"]);
    assert_eq!((status.installed, status.pending, status.refused), (2, 0, 0));

    let both = [
        want("10.9.0.0/16", &["10.0.1.2", "10.0.0.2"]),
        want("fd09::/64", &["fd00::2", "fd00:1::2"]),
    ];
    fib.apply(both.to_vec());
    let status = settle(&fib);
    let ecmp = [
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
        "fd09::/64 group fd00:1::2,fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), ecmp);
    assert_eq!(status.next_hop_objects, 6);
    let mode = netlink::sysctl::read_in(&world.host, "net/ipv4/nexthop_compat_mode").unwrap();
    assert_eq!(mode, "0");

    fib.apply(vec![want("10.9.0.0/16", &["10.0.1.2"]), want("fd09::/64", &[])]);
    let status = settle(&fib);
    assert_eq!(world.ours(), ["10.9.0.0/16 via 10.0.1.2 metric 1024"]);
    assert_eq!((status.installed, status.next_hop_objects), (1, 0));
    assert_eq!(world.nl.next_hops().unwrap(), []);

    // The routes stay without us.
    drop(fib);
    assert_eq!(world.ours(), ["10.9.0.0/16 via 10.0.1.2 metric 1024"]);
}

#[test]
fn packets_take_every_path_of_a_group() {
    let world = World::new(2);
    let fib = world.start();
    for n in 0..2 {
        set_up(&mut world.router(n), "lo", &["10.9.0.1/32".to_owned()]);
    }
    fib.apply(vec![want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"])]);
    settle(&fib);
    let receive = |n: usize| {
        let socket = world.routers[n]
            .run(|| std::net::UdpSocket::bind("10.9.0.1:7777"))
            .unwrap()
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sinks = [receive(0), receive(1)];
    netlink::sysctl::write_in(&world.host, &[("net/ipv4/fib_multipath_hash_policy", "1")]).unwrap();
    let mut seen = [0, 0];
    for _ in 0..64 {
        let socket = world
            .host
            .run(|| std::net::UdpSocket::bind("0.0.0.0:0"))
            .unwrap()
            .unwrap();
        socket.send_to(b"x", "10.9.0.1:7777").unwrap();
    }
    let until = Instant::now() + Duration::from_secs(5);
    while seen[0] + seen[1] < 64 && Instant::now() < until {
        for (n, sink) in sinks.iter().enumerate() {
            while sink.recv(&mut [0; 8]).is_ok() {
                seen[n] += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(seen[0] + seen[1], 64);
    assert!(seen[0] > 8 && seen[1] > 8, "{seen:?}");
}

#[test]
fn groups_do_without_a_suspended_next_hop_until_it_is_resumed() {
    let mut world = World::new(2);
    let fib = world.start();
    fib.apply(vec![
        want("10.8.0.0/16", &["10.0.1.2"]),
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd09::/64", &["fd00:0::2", "fd00:1::2"]),
    ]);
    settle(&fib);
    let whole = world.ours();
    fib.suspend(gateway("10.0.1.2"));
    settle(&fib);
    let without = [
        "10.8.0.0/16 via 10.0.1.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2 metric 1024",
        "fd09::/64 group fd00:1::2,fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), without);
    // What is read back is as it should be.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(
        (fib.status().repairs, world.ours()),
        (0, without.map(str::to_owned).to_vec())
    );
    fib.resume(gateway("10.0.1.2"));
    settle(&fib);
    assert_eq!(world.ours(), whole);
}

#[test]
fn a_lost_carrier_moves_routes_and_its_return_brings_them_back() {
    let mut world = World::new(2);
    let fib = world.start();
    fib.track(vec![NextHopInterest::Resolve(gateway("10.0.1.2"))]);
    fib.apply(vec![
        want("10.8.0.0/16", &["10.0.1.2"]),
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd09::/64", &["fd00:0::2", "fd00:1::2"]),
    ]);
    settle(&fib);
    let whole = [
        "10.8.0.0/16 via 10.0.1.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
        "fd09::/64 group fd00:1::2,fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    let mut router = world.router(1);
    let link = router.index_of("down").unwrap();
    let address: IpAddr = "10.0.1.2".parse().unwrap();
    let reachable = NextHopState::Reachable {
        metric: 0,
        interface: "up1".parse().ok(),
    };
    wait_told(&fib, address, reachable);
    for _ in 0..3 {
        router.set_down(link).unwrap();
        world.wait_for(&[V4, "fd09::/64 via fd00::2 metric 1024"]);
        wait_told(&fib, address, NextHopState::Unreachable);
        let status = wait_status(&fib, |status| status.refused == 1);
        assert_eq!(
            refusals(&status),
            ["10.8.0.0/16: next hop 10.0.1.2 is not reachable"]
        );
        router.set_up(link).unwrap();
        world.wait_for(&whole);
        wait_told(&fib, address, reachable);
    }
}

#[test]
fn an_interface_that_is_set_down_or_loses_its_address_gets_its_routes_back() {
    let mut world = World::new(1);
    let fib = world.start();
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.0.2"]),
        want("fd09::/64", &["fd00:0::2"]),
    ]);
    settle(&fib);
    let whole = [V4, "fd09::/64 via fd00::2 metric 1024"];
    assert_eq!(world.ours(), whole);
    let link = world.links[0];
    world.nl.set_down(link).unwrap();
    // The kernel takes routes and IPv6 addresses away.
    assert_eq!(world.ours(), [""; 0]);
    wait_status(&fib, |status| status.refused == 2);
    world.nl.set_up(link).unwrap();
    world.nl.add_address(link, "fd00::1/64".parse().unwrap()).unwrap();
    world.wait_for(&whole);
    world
        .nl
        .delete_address(link, "10.0.0.1/24".parse().unwrap())
        .unwrap();
    world.wait_for(&whole[1..]);
    world
        .nl
        .add_address(link, "10.0.0.1/24".parse().unwrap())
        .unwrap();
    world.wait_for(&whole);
}

/// Wait until the driver says this of a next hop.
fn gateway(address: &str) -> Gateway {
    Gateway::from(address.parse::<IpAddr>().unwrap())
}

fn wait_told(fib: &Fib, address: IpAddr, wanted: NextHopState) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let told = async { while !fib.next_hop_changes().await.contains(&(address.into(), wanted)) {} };
        tokio::time::timeout(Duration::from_secs(10), told)
            .await
            .expect("not told in time");
    });
}

#[test]
fn links_that_flap_while_nobody_looks_are_repaired_at_the_next_start() {
    let mut world = World::new(2);
    let wanted = [
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("10.8.0.0/16", &["10.0.1.2"]),
    ];
    let fib = world.start();
    fib.apply(wanted.to_vec());
    settle(&fib);
    let whole = [
        "10.8.0.0/16 via 10.0.1.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    drop(fib);
    for n in 0..2 {
        let mut router = world.router(n);
        let link = router.index_of("down").unwrap();
        router.set_down(link).unwrap();
        // The kernel acts on a lost carrier within a second or so.
        world.wait_until(|world| world.nl.next_hops().unwrap().len() == [2, 0][n]);
        router.set_up(link).unwrap();
    }
    // The kernel has dropped the group with its last member, and the route with it.
    world.wait_for(&["10.8.0.0/16 via 10.0.1.2 metric 1024"]);
    let fib = world.start();
    fib.apply(wanted.to_vec());
    settle(&fib);
    world.wait_for(&whole);
}

#[test]
fn what_a_former_run_left_is_adopted_and_swept_only_when_told() {
    let mut world = World::new(2);
    let fib = world.start();
    fib.apply(vec![
        want("10.7.0.0/16", &["10.0.0.2"]),
        want("10.8.0.0/16", &["10.0.0.2"]),
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd08::/64", &["fd00:0::2"]),
    ]);
    settle(&fib);
    let before = world.ours();
    let objects = world.nl.next_hops().unwrap();
    drop(fib);

    let fib = world.start();
    let status = fib.status();
    assert_eq!((status.installed, status.stale), (4, 4));
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.1.2", "10.0.0.2"]),
        want("10.8.0.0/16", &["10.0.1.2"]),
    ]);
    // Long enough for read-backs and lookups.
    std::thread::sleep(Duration::from_millis(1200));
    let status = settle(&fib);
    assert_eq!((status.installed, status.stale), (4, 2));
    assert_eq!(
        world.nl.next_hops().unwrap(),
        objects,
        "the group was taken over as it was"
    );
    assert_eq!(world.ours().len(), before.len());
    fib.sweep(Family::Ipv4Unicast);
    settle(&fib);
    let left = [
        "10.8.0.0/16 via 10.0.1.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
        "fd08::/64 via fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), left);
    fib.sweep(Family::Ipv6Unicast);
    let status = settle(&fib);
    assert_eq!(world.ours(), left[..2]);
    assert_eq!(status.stale, 0);
}

#[test]
fn what_is_not_ours_is_left_alone_and_reported() {
    let mut world = World::new(1);
    let hop = Hop::via("10.0.0.2".parse().unwrap()).on(world.links[0]);
    let foreign = |net: &str| Route::new(net.parse().unwrap()).protocol(4).metric(1024);
    let theirs = [
        foreign("10.7.0.0/16").hop(hop),
        foreign("10.8.0.0/16").metric(77).blackhole(),
        foreign("10.9.0.0/26").blackhole().protocol(80),
        foreign("fd09::/64").hop(Hop::via("fd00:0::9".parse().unwrap()).on(world.links[0])),
        // In our range of ids, and a route of nobody's concern.
        foreign("10.11.0.0/16").hop(hop),
    ];
    for route in &theirs {
        world.nl.add_route(route).unwrap();
    }
    let object = NextHop {
        id: bgpd::fib::NEXT_HOP_ID_FIRST,
        protocol: 4,
        kind: NextHopKind::Gateway {
            gateway: hop.gateway.unwrap(),
            interface: world.links[0],
            onlink: false,
        },
        unusable: false,
    };
    world.nl.add_next_hop(&object).unwrap();
    let all = |world: &mut World| {
        let main = RouteFilter {
            table: Some(table::MAIN),
            ..RouteFilter::default()
        };
        let mut all = world.nl.routes(&main).unwrap();
        all.sort_by_key(|route| route.to_string());
        all
    };
    let before = all(&mut world);
    let fib = world.start();
    sweep(&fib);
    let wanted = ["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/26"].map(|net| want(net, &["10.0.0.2"]));
    fib.apply(
        wanted
            .into_iter()
            .chain([want("fd09::/64", &["fd00:0::2"])])
            .collect(),
    );
    let status = settle(&fib);
    assert_eq!(all(&mut world), before);
    assert_eq!(
        refusals(&status),
        [
            "10.7.0.0/16: protocol 4 has a route with this prefix and metric",
            "10.8.0.0/16: protocol 4 has a blackhole or unreachable route to this prefix",
            "10.9.0.0/26: protocol 80 has a blackhole or unreachable route to this prefix",
            "fd09::/64: protocol 4 has a route with this prefix and metric",
        ]
    );
    // When they go, ours come.
    for route in &theirs {
        world.nl.delete_route(route).unwrap();
    }
    world.wait_for(&[
        "10.7.0.0/16 via 10.0.0.2 metric 1024",
        "10.8.0.0/16 via 10.0.0.2 metric 1024",
        "10.9.0.0/26 via 10.0.0.2 metric 1024",
        "fd09::/64 via fd00::2 metric 1024",
    ]);
    fib.apply(
        ["10.7.0.0/16", "10.8.0.0/16", "10.9.0.0/26", "fd09::/64"]
            .map(|net| want(net, &[]))
            .to_vec(),
    );
    settle(&fib);
    assert_eq!(world.ours(), [""; 0]);
    assert_eq!(world.nl.next_hops().unwrap(), [object]);
}

#[test]
fn a_workload_on_this_host_wins_unless_the_route_is_preferred_on_purpose() {
    let mut world = World::new(1);
    world.nl.create_veth(&VethSpec::new("cali1", "eth0")).unwrap();
    let workload = set_up(&mut world.nl, "cali1", &[]);
    set_up(&mut world.nl, "eth0", &[]);
    world
        .nl
        .add_route(
            &Route::new("10.9.0.5/32".parse().unwrap())
                .dev(workload)
                .metric(1024),
        )
        .unwrap();
    let fib = world.start_with(FibSettings {
        metric: Metric::FromLocalPref(1024),
        lookup_interval: Duration::from_millis(200),
        ..FibSettings::default()
    });
    let normal = Some(PRIORITY_MAX - 1024);
    fib.apply(vec![
        want_with("10.9.0.5/32", &["10.0.0.2"], Some(PRIORITY_MAX - 2000)),
        want_with("10.9.0.6/32", &["10.0.0.2"], normal),
        want_with("10.9.0.7/32", &["10.0.0.2"], None),
        want_with("10.9.0.8/32", &["10.0.0.2"], Some(100)),
    ]);
    let status = settle(&fib);
    assert_eq!(
        refusals(&status),
        ["10.9.0.5/32: it is a workload's address, on cali1"]
    );
    let others = [
        "10.9.0.6/32 via 10.0.0.2 metric 1024",
        "10.9.0.7/32 via 10.0.0.2 metric 1024",
        "10.9.0.8/32 via 10.0.0.2 metric 2147483547",
    ];
    assert_eq!(world.ours(), others);
    // Live migration: the workload runs elsewhere already.
    fib.apply(vec![want_with(
        "10.9.0.5/32",
        &["10.0.0.2"],
        Some(PRIORITY_MAX - 512),
    )]);
    settle(&fib);
    assert_eq!(world.ours()[0], "10.9.0.5/32 via 10.0.0.2 metric 512");
    // A workload that comes later takes the place of the learned route.
    fib.apply(vec![want_with("10.9.0.5/32", &[], None)]);
    settle(&fib);
    world
        .nl
        .add_route(
            &Route::new("10.9.0.6/32".parse().unwrap())
                .dev(workload)
                .metric(20),
        )
        .unwrap();
    world.wait_for(&others[1..]);
}

#[test]
fn a_route_that_someone_removes_or_changes_is_put_back() {
    let mut world = World::new(2);
    let fib = world.start();
    fib.apply(vec![
        want("10.8.0.0/16", &["10.0.0.2"]),
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
    ]);
    settle(&fib);
    let whole = [
        "10.8.0.0/16 via 10.0.0.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    sweep(&fib);
    settle(&fib);
    let ours = |net: &str| {
        Route::new(net.parse().unwrap())
            .protocol(bgpd::fib::PROTOCOL)
            .metric(1024)
    };
    world.nl.delete_route(&ours("10.8.0.0/16")).unwrap();
    world.wait_for(&whole);
    world
        .nl
        .replace_route(&ours("10.8.0.0/16").via("10.0.1.2".parse().unwrap()))
        .unwrap();
    world.wait_for(&whole);
    // A route with our mark that nobody wants.
    world
        .nl
        .add_route(&ours("10.99.0.0/16").via("10.0.1.2".parse().unwrap()))
        .unwrap();
    world.wait_for(&whole);
    // The group goes, and its routes with it.
    for object in world.nl.next_hops().unwrap() {
        // The group goes with its last member.
        let gone = world.nl.delete_next_hop(object.id);
        assert!(gone.is_ok() || gone.is_err_and(|error| error.is_not_found()));
    }
    world.wait_for(&whole);
    assert!(wait_status(&fib, |status| status.pending == 0).repairs >= 3);
}

#[test]
fn next_hops_resolve_by_link_then_by_lookup_but_not_by_each_other() {
    let mut world = World::new(1);
    let hop = Hop::via("10.0.0.2".parse().unwrap()).on(world.links[0]);
    world
        .nl
        .add_route(
            &Route::new("192.0.2.0/24".parse().unwrap())
                .protocol(4)
                .metric(9)
                .hop(hop),
        )
        .unwrap();
    let fib = world.start();
    let addresses = ["10.0.0.2", "10.0.0.1", "192.0.2.1", "198.51.100.1", "10.9.0.1"];
    fib.track(addresses.map(|a| NextHopInterest::Resolve(gateway(a))).to_vec());
    settle(&fib);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let told = runtime.block_on(fib.next_hop_changes());
    let states: Vec<String> = addresses
        .iter()
        .map(|a| {
            told.iter()
                .find(|(b, _)| b.to_string() == **a)
                .map(|(_, state)| format!("{a} {state:?}"))
                .unwrap()
        })
        .collect();
    assert_eq!(
        states,
        [
            "10.0.0.2 Reachable { metric: 0, interface: Some(\"up0\") }",
            "10.0.0.1 Unreachable",
            "192.0.2.1 Reachable { metric: 10, interface: Some(\"up0\") }",
            "198.51.100.1 Unreachable",
            "10.9.0.1 Unreachable",
        ]
    );
    // 10.9.0.1 by a learned route on a link, and what leans on it in turn; not 10.8.0.1 by itself.
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.0.2"]),
        want("10.10.0.0/16", &["10.9.0.1"]),
        want("10.8.0.0/16", &["10.8.0.1"]),
        want("10.11.0.0/16", &["10.10.0.1"]),
        want("10.12.0.0/16", &["192.0.2.1"]),
    ]);
    let installed = [
        "10.10.0.0/16 via 10.0.0.2 metric 1024",
        "10.12.0.0/16 via 10.0.0.2 metric 1024",
        "10.9.0.0/16 via 10.0.0.2 metric 1024",
    ];
    world.wait_for(&installed);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(world.ours(), installed);
    let status = wait_status(&fib, |status| status.refused == 2);
    assert_eq!(
        refusals(&status),
        [
            "10.8.0.0/16: next hop 10.8.0.1 is not reachable",
            "10.11.0.0/16: next hop 10.10.0.1 is not reachable"
        ]
    );
    // What it leans on goes.
    fib.apply(vec![want("10.9.0.0/16", &[])]);
    world.wait_for(&installed[1..2]);
}

#[test]
fn plain_multipath_where_objects_are_not_wanted() {
    let mut world = World::new(2);
    let fib = world.start_with(FibSettings {
        next_hop_objects: false,
        ..FibSettings::default()
    });
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd09::/64", &["fd00:0::2", "fd00:1::2"]),
    ]);
    settle(&fib);
    let whole = [
        "10.9.0.0/16 via 10.0.0.2,10.0.1.2 metric 1024",
        "fd09::/64 via fd00:1::2,fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    assert_eq!(world.nl.next_hops().unwrap(), []);
    drop(fib);
    // Another start prefers groups, and changes over without a gap in the table.
    let fib = world.start();
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd09::/64", &["fd00:0::2", "fd00:1::2"]),
    ]);
    settle(&fib);
    world.wait_for(&[
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
        "fd09::/64 group fd00:1::2,fd00::2 metric 1024",
    ]);
    fib.apply(vec![
        want("10.9.0.0/16", &["10.0.1.2"]),
        want("fd09::/64", &["fd00:1::2"]),
    ]);
    settle(&fib);
    assert_eq!(
        world.ours(),
        [
            "10.9.0.0/16 via 10.0.1.2 metric 1024",
            "fd09::/64 via fd00:1::2 metric 1024"
        ]
    );
}

#[test]
fn ten_thousand_routes() {
    const COUNT: u32 = 10_000;
    let mut world = World::new(2);
    let fib = world.start_with(FibSettings::default());
    let prefix = |n: u32| format!("{}/32", std::net::Ipv4Addr::from(0x0a40_0000 + n));
    let all = |next_hops: &[&str]| {
        (0..COUNT)
            .map(|n| want(&prefix(n), next_hops))
            .collect::<Vec<_>>()
    };
    let timed = |what: &str, changes: Vec<_>| {
        let started = Instant::now();
        fib.apply(changes);
        let status = settle(&fib);
        eprintln!("{COUNT} routes {what}: {:?}", started.elapsed());
        status
    };
    let status = timed("added", all(&["10.0.0.2"]));
    assert_eq!((status.installed, status.refused), (COUNT as usize, 0));
    timed("moved to a group", all(&["10.0.0.2", "10.0.1.2"]));
    assert_eq!(world.ours().len(), COUNT as usize);
    assert_eq!(world.nl.next_hops().unwrap().len(), 3);
    let started = Instant::now();
    drop(fib);
    let fib2 = world.start_with(FibSettings::default());
    fib2.apply(all(&["10.0.0.2", "10.0.1.2"]));
    let status = settle(&fib2);
    eprintln!("{COUNT} routes adopted: {:?}", started.elapsed());
    assert_eq!(
        (status.installed, status.stale, status.repairs),
        (COUNT as usize, 0, 0)
    );
    fib2.apply(all(&[]));
    settle(&fib2);
    assert_eq!(world.ours(), [""; 0]);
    assert_eq!(world.nl.next_hops().unwrap(), []);
}
