//! What others do is heard of: here nothing is read back by time.

use std::time::Duration;

use bgpd::fib::PROTOCOL;
use bgpd::rib::NextHopInterest;
use netlink::{Hop, Route, VethSpec};

use crate::world::{World, refusals, set_up, settle, wait_status, want};

fn ours(net: &str) -> Route {
    Route::new(net.parse().unwrap()).protocol(PROTOCOL).metric(1024)
}

fn foreign(net: &str) -> Route {
    Route::new(net.parse().unwrap()).protocol(4)
}

#[test]
fn what_others_do_to_our_routes_is_undone() {
    let mut world = World::new(2);
    let fib = world.start_deaf_to_time();
    fib.apply(vec![
        want("10.8.0.0/16", &["10.0.0.2"]),
        want("10.9.0.0/16", &["10.0.0.2", "10.0.1.2"]),
        want("fd09::/64", &["fd00:0::2"]),
    ]);
    for family in bgpd::wire::Family::ALL {
        fib.sweep(family);
    }
    settle(&fib);
    let whole = [
        "10.8.0.0/16 via 10.0.0.2 metric 1024",
        "10.9.0.0/16 group 10.0.0.2,10.0.1.2 metric 1024",
        "fd09::/64 via fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    let elsewhere = Hop::via("10.0.1.2".parse().unwrap()).on(world.links[1]);
    for net in ["10.8.0.0/16", "10.9.0.0/16", "fd09::/64"] {
        world.nl.delete_route(&ours(net)).unwrap();
        world.wait_for(&whole);
    }
    world
        .nl
        .replace_route(&ours("10.8.0.0/16").hop(elsewhere))
        .unwrap();
    world.wait_for(&whole);
    // A route with our mark that nobody wants.
    world.nl.add_route(&ours("10.99.0.0/16").hop(elsewhere)).unwrap();
    world.wait_for(&whole);
    let group = world.nl.next_hops().unwrap().iter().map(|object| object.id).max();
    world.nl.delete_next_hop(group.unwrap()).unwrap();
    world.wait_for(&whole);
    let status = wait_status(&fib, |status| status.pending == 0 && status.repairs >= 5);
    assert_eq!((status.refused, status.resyncs), (0, 0));
}

#[test]
fn our_routes_make_way_for_others_and_come_back() {
    let mut world = World::new(1);
    world.nl.create_veth(&VethSpec::new("cali1", "eth0")).unwrap();
    let workload = set_up(&mut world.nl, "cali1", &[]);
    set_up(&mut world.nl, "eth0", &[]);
    let fib = world.start_deaf_to_time();
    fib.apply(vec![
        want("10.9.0.0/26", &["10.0.0.2"]),
        want("10.9.1.5/32", &["10.0.0.2"]),
        want("fd09::/64", &["fd00:0::2"]),
    ]);
    settle(&fib);
    let whole = [
        "10.9.0.0/26 via 10.0.0.2 metric 1024",
        "10.9.1.5/32 via 10.0.0.2 metric 1024",
        "fd09::/64 via fd00::2 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    let local = Route::new("10.9.1.5/32".parse().unwrap())
        .dev(workload)
        .metric(20);
    let block = foreign("10.9.0.0/26").protocol(80).metric(77).blackhole();
    world.nl.add_route(&local).unwrap();
    world.wait_for(&[whole[0], whole[2]]);
    world.nl.add_route(&block).unwrap();
    world.wait_for(&whole[2..]);
    let status = wait_status(&fib, |status| status.refused == 2);
    assert_eq!(
        refusals(&status),
        [
            "10.9.0.0/26: protocol 80 has a blackhole or unreachable route to this prefix",
            "10.9.1.5/32: it is a workload's address, on cali1",
        ]
    );
    world.nl.delete_route(&local).unwrap();
    world.nl.delete_route(&block).unwrap();
    world.wait_for(&whole);
    // Somebody takes the place itself.
    let taken = foreign("10.9.0.0/26")
        .metric(1024)
        .via("10.0.0.9".parse().unwrap());
    world.nl.replace_route(&taken).unwrap();
    world.wait_for(&whole[1..]);
    let status = wait_status(&fib, |status| status.refused == 1);
    assert_eq!(
        refusals(&status),
        ["10.9.0.0/26: protocol 4 has a route with this prefix and metric"]
    );
    world.nl.delete_route(&taken).unwrap();
    world.wait_for(&whole);
}

#[test]
fn what_was_there_before_a_change_is_seen_before_it_is_installed() {
    let mut world = World::new(1);
    let fib = world.start_deaf_to_time();
    for round in 0..20 {
        let net = format!("10.9.{round}.0/24");
        world.nl.add_route(&foreign(&net).blackhole()).unwrap();
        fib.apply(vec![want(&net, &["10.0.0.2"])]);
        let status = settle(&fib);
        assert_eq!((status.installed, status.refused), (0, round + 1), "{net}");
    }
    assert_eq!(world.ours(), [""; 0]);
}

#[test]
fn a_next_hop_behind_a_route_follows_that_route() {
    let mut world = World::new(2);
    let hop = |world: &World, n: usize| Hop::via(format!("10.0.{n}.2").parse().unwrap()).on(world.links[n]);
    let by = |hop| foreign("192.0.2.0/24").metric(9).hop(hop);
    world.nl.add_route(&by(hop(&world, 0))).unwrap();
    let fib = world.start_deaf_to_time();
    let far: std::net::IpAddr = "192.0.2.1".parse().unwrap();
    fib.track(vec![NextHopInterest::Resolve(far.into())]);
    fib.apply(vec![want("10.9.0.0/16", &["192.0.2.1"])]);
    settle(&fib);
    assert_eq!(world.ours(), ["10.9.0.0/16 via 10.0.0.2 metric 1024"]);
    world.nl.replace_route(&by(hop(&world, 1))).unwrap();
    world.wait_for(&["10.9.0.0/16 via 10.0.1.2 metric 1024"]);
    world.nl.delete_route(&by(hop(&world, 1))).unwrap();
    world.wait_for(&[]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.ours(), [""; 0]);
}
