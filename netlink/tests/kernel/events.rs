//! Subscriptions against the kernel.

use std::time::Duration;

use crate::pair::Pair;
use netlink::{Connection, Event, Group, Monitor, Request, Route};

const LIMIT: Duration = Duration::from_secs(5);

/// Read until an event of a kind comes, at most 100 of them.
fn wait_for<T>(monitor: &mut Monitor, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    for _ in 0..100 {
        let event = monitor.next_within(LIMIT).unwrap().expect("no event in time");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
    panic!("100 events, none of them wanted");
}

#[test]
fn changes_are_told_as_they_happen() {
    let pair = Pair::new();
    let groups = [
        Group::Links,
        Group::RoutesV4,
        Group::RoutesV6,
        Group::Addresses,
        Group::Neighbours,
    ];
    let mut monitor = Monitor::open_in(&pair.east, &groups).unwrap();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    for destination in ["10.1.0.0/16", "fd01::/64"] {
        let route = Route::new(destination.parse().unwrap()).metric(1024).blackhole();
        nl.add_route(&route).unwrap();
        let new = wait_for(&mut monitor, |e| match e {
            Event::Route(route) if route.kind.is_dead_end() => Some(route),
            _ => None,
        });
        assert_eq!(new, route);
        nl.delete_route(&route).unwrap();
        let gone = wait_for(&mut monitor, |e| match e {
            Event::RouteGone(route) => Some(route),
            _ => None,
        });
        assert_eq!(gone, route);
    }
    // The other end goes down: our carrier is gone.
    Connection::open_in(&pair.west)
        .unwrap()
        .set_down(pair.west_link)
        .unwrap();
    let link = wait_for(&mut monitor, |e| match e {
        Event::Link(link) if !link.carrier => Some(link),
        _ => None,
    });
    assert_eq!((link.index, link.up), (pair.east_link, true));
    nl.delete_link(pair.east_link).unwrap();
    let gone = wait_for(&mut monitor, |e| match e {
        Event::LinkGone(link) => Some(link),
        _ => None,
    });
    assert_eq!(gone.name, "east");
}

#[test]
fn lost_events_are_told_of() {
    let pair = Pair::new();
    let mut monitor = Monitor::open_in(&pair.east, &[Group::RoutesV4]).unwrap();
    let mut nl = Connection::open_in(&pair.east).unwrap();
    // More than the receive queue holds: each event takes about 1 KiB of it.
    let requests: Vec<_> = (0..40_000u32)
        .map(|n| ipnet::Ipv4Net::new(std::net::Ipv4Addr::from(0x0a40_0000 + n), 32).unwrap())
        .map(|net| Request::AddRoute(Route::new(net.into()).metric(1024).blackhole()))
        .collect();
    assert!(nl.batch(&requests).unwrap().iter().all(Result::is_ok));
    let mut seen = 0;
    let resync = loop {
        match monitor.next_within(Duration::from_millis(500)).unwrap() {
            Some(Event::Resync) => break true,
            Some(_) => seen += 1,
            None => break false,
        }
    };
    assert!(
        resync,
        "{seen} of {} events and no word of a loss",
        requests.len()
    );
    // It goes on after that.
    while monitor.next_within(Duration::from_millis(50)).unwrap().is_some() {}
    let last = Route::new("192.0.2.0/24".parse().unwrap())
        .metric(1024)
        .blackhole();
    nl.add_route(&last).unwrap();
    assert_eq!(monitor.next_within(LIMIT).unwrap(), Some(Event::Route(last)));
}

#[test]
fn a_monitor_can_be_awaited() {
    let pair = Pair::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut monitor = Monitor::open_in(&pair.east, &[Group::RoutesV4])
            .unwrap()
            .into_async()
            .unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), monitor.next()).await;
        assert!(early.is_err(), "{early:?}");
        let mut nl = Connection::open_in(&pair.east).unwrap();
        let route = Route::new("10.1.0.0/16".parse().unwrap())
            .metric(1024)
            .blackhole();
        nl.add_route(&route).unwrap();
        let event = tokio::time::timeout(LIMIT, monitor.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(event, Event::Route(route));
    });
}
