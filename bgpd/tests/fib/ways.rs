//! Next hops that are link-local or of the other family, and routes that lead nowhere.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgpd::rib::{FibAction, FibChange, FibRoute, Gateway};
use bgpd::wire::Family;

use crate::world::{World, refusals, set_up, settle, wait_status, want, want_route};

const ROUTER: &str = "fe80::2";

/// A route to our routers' link-local address, over these uplinks.
fn over(world: &World, prefix: &str, uplinks: &[usize]) -> FibChange {
    let gateway = |n: &usize| Gateway {
        address: ROUTER.parse().unwrap(),
        interface: Some(world.links[*n]),
    };
    let action = FibAction::Forward(uplinks.iter().map(gateway).collect());
    want_route(
        prefix,
        Some(FibRoute {
            action,
            local_pref: None,
        }),
    )
}

/// The routers have the address on their links, and a destination behind each.
fn with_routers(uplinks: usize) -> World {
    let world = World::new(uplinks);
    for n in 0..uplinks {
        set_up(&mut world.router(n), "down", &[format!("{ROUTER}/64")]);
        set_up(
            &mut world.router(n),
            "lo",
            &["10.9.0.1/32".to_owned(), "fd09::1/128".to_owned()],
        );
    }
    world
}

const PACKETS: usize = 64;

/// Whether all of 64 packets to an address arrive, in one of several attempts: the first may wait for neighbours
/// and for addresses that are not checked yet.
fn all_arrive(world: &World, to: &str) -> bool {
    (0..20).any(|_| arriving(world, to) == PACKETS)
}

/// How many of 64 packets to an address arrive.
fn arriving(world: &World, to: &str) -> usize {
    let to: IpAddr = to.parse().unwrap();
    let receive = |router: &netlink::NetNs| {
        let bound = router.run(|| std::net::UdpSocket::bind((to, 7777)));
        let socket = bound.unwrap().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sinks: Vec<_> = world.routers.iter().map(receive).collect();
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for _ in 0..PACKETS {
        let socket = world
            .host
            .run(|| std::net::UdpSocket::bind(from))
            .unwrap()
            .unwrap();
        // A refusal is one that does not arrive.
        let _ = socket.send_to(b"x", (to, 7777));
    }
    let (mut seen, until) = (0, Instant::now() + Duration::from_millis(500));
    while seen < PACKETS && Instant::now() < until {
        for sink in &sinks {
            while sink.recv(&mut [0; 8]).is_ok() {
                seen += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

#[test]
fn routes_of_both_families_lead_over_link_local_next_hops() {
    let mut world = with_routers(2);
    let fib = world.start();
    fib.apply(vec![
        over(&world, "10.8.0.0/16", &[1]),
        over(&world, "10.9.0.0/16", &[0, 1]),
        over(&world, "fd09::/64", &[1, 0]),
    ]);
    let status = settle(&fib);
    assert_eq!((status.refused, status.next_hop_objects), (0, 3), "{status:?}");
    let whole = [
        "10.8.0.0/16 via fe80::2%up1 metric 1024",
        "10.9.0.0/16 group fe80::2%up0,fe80::2%up1 metric 1024",
        "fd09::/64 group fe80::2%up0,fe80::2%up1 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    assert!(all_arrive(&world, "10.9.0.1"), "IPv4 over IPv6 next hops");
    assert!(all_arrive(&world, "fd09::1"));
    // One of two links with the same address on it is lost.
    let second = Gateway {
        address: ROUTER.parse().unwrap(),
        interface: Some(world.links[1]),
    };
    fib.suspend(second);
    settle(&fib);
    assert_eq!(
        world.ours()[1..],
        [
            "10.9.0.0/16 group fe80::2%up0 metric 1024",
            "fd09::/64 group fe80::2%up0 metric 1024"
        ]
    );
    fib.resume(second);
    settle(&fib);
    assert_eq!(world.ours(), whole);
    // What is read back is as it should be, and so it is for another run.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(fib.status().repairs, 0);
    drop(fib);
    let fib = world.start();
    fib.apply(vec![
        over(&world, "10.8.0.0/16", &[1]),
        over(&world, "10.9.0.0/16", &[0, 1]),
    ]);
    let status = settle(&fib);
    assert_eq!((status.stale, status.repairs), (1, 0));
    assert_eq!(world.ours(), whole);
}

#[test]
fn an_interface_that_is_removed_and_made_again_gets_its_routes_back() {
    let mut world = with_routers(2);
    let fib = world.start();
    let all = |world: &World| {
        vec![
            over(world, "10.8.0.0/16", &[1]),
            over(world, "10.9.0.0/16", &[0, 1]),
        ]
    };
    fib.apply(all(&world));
    settle(&fib);
    let whole = [
        "10.8.0.0/16 via fe80::2%up1 metric 1024",
        "10.9.0.0/16 group fe80::2%up0,fe80::2%up1 metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    let gone = world.links[1];
    world.nl.delete_link(gone).unwrap();
    world.wait_for(&["10.9.0.0/16 via fe80::2%up0 metric 1024"]);
    let status = wait_status(&fib, |status| status.refused == 1);
    assert_eq!(
        refusals(&status),
        ["10.8.0.0/16: next hop fe80::2 is not reachable"]
    );
    world.connect(1);
    assert_ne!(world.links[1], gone);
    // The session over the new interface says so of its routes.
    fib.apply(all(&world));
    world.wait_for(&whole);
    assert_eq!(wait_status(&fib, |status| status.pending == 0).refused, 0);
}

#[test]
fn an_ipv4_route_leads_over_a_global_ipv6_next_hop() {
    let mut world = with_routers(1);
    let fib = world.start();
    fib.apply(vec![want("10.9.0.0/16", &["fd00::2"])]);
    settle(&fib);
    assert_eq!(world.ours(), ["10.9.0.0/16 via fd00::2 metric 1024"]);
    assert!(all_arrive(&world, "10.9.0.1"));
}

/// RFC 4632 section 5.1 and RFC 7999.
#[test]
fn discarded_prefixes_are_blackholes_of_ours() {
    let discard = |prefix: &str| {
        let action = FibAction::Discard;
        let local_pref = None;
        want_route(prefix, Some(FibRoute { action, local_pref }))
    };
    let mut world = with_routers(1);
    let fib = world.start();
    fib.apply(vec![
        discard("10.9.0.0/16"),
        want("10.9.0.1/32", &["10.0.0.2"]),
        discard("fd09::/64"),
    ]);
    let status = settle(&fib);
    assert_eq!((status.refused, status.next_hop_objects), (0, 0));
    let whole = [
        "10.9.0.0/16 blackhole metric 1024",
        "10.9.0.1/32 via 10.0.0.2 metric 1024",
        "fd09::/64 blackhole metric 1024",
    ];
    assert_eq!(world.ours(), whole);
    assert!(all_arrive(&world, "10.9.0.1"), "the longer prefix has a way");
    assert_eq!(arriving(&world, "fd09::1"), 0);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!((fib.status().repairs, world.ours().len()), (0, 3));
    // Adopted, and swept when nobody wants them.
    drop(fib);
    let fib = world.start();
    fib.apply(vec![want("10.9.0.0/16", &["10.0.0.2"])]);
    for family in Family::ALL {
        fib.sweep(family);
    }
    settle(&fib);
    assert_eq!(world.ours(), ["10.9.0.0/16 via 10.0.0.2 metric 1024"]);
    fib.apply(vec![discard("10.9.0.0/16")]);
    settle(&fib);
    assert_eq!(world.ours(), whole[..1]);
    fib.apply(vec![want("10.9.0.0/16", &[])]);
    settle(&fib);
    assert_eq!(world.ours(), [""; 0]);
}
