//! Two sessions with each other.

use std::time::Duration;

use bgpd::session::{DownReason, Event, Settings, State, StopReason};
use proptest::prelude::*;

use crate::bench::{seconds, settings};
use crate::network::Network;

fn theirs() -> Settings {
    Settings {
        local_as: 65002,
        remote_as: 65001.into(),
        router_id: [10, 0, 0, 2].into(),
        ..settings()
    }
}

fn network() -> Network {
    Network::new([settings(), theirs()], Duration::from_millis(10))
}

#[test]
fn both_active_end_with_one_connection() {
    let mut network = network();
    network.start();
    network.pass(seconds(5));
    assert!(network.is_established());
    assert_eq!(
        (network.open_connections(), network.established_by()),
        (1, 1),
        "10.0.0.2 is higher"
    );
    network.pass(seconds(3600));
    assert!(network.is_established());
    assert!(
        network
            .nodes
            .iter()
            .all(|node| node.ups == 1 && node.downs.is_empty())
    );
}

#[test]
fn one_may_be_passive() {
    let mut network = Network::new(
        [
            Settings {
                passive: true,
                ..settings()
            },
            theirs(),
        ],
        Duration::from_millis(10),
    );
    network.start();
    network.pass(seconds(5));
    assert!(network.is_established());
    assert_eq!(network.established_by(), 1);
}

#[test]
fn a_cut_ends_with_the_hold_time_and_heals() {
    let mut network = network();
    network.start();
    network.pass(seconds(100));
    network.cut = true;
    network.pass(seconds(60));
    assert!(network.is_established(), "not before the hold time");
    network.pass(seconds(31));
    assert!(!network.states().contains(&State::Established));
    for node in &network.nodes {
        let [DownReason::Sent(notification)] = node.downs.as_slice() else {
            panic!("{:?}", node.downs)
        };
        assert_eq!((notification.code, notification.subcode), (4, 0));
    }
    network.pass(seconds(60));
    network.cut = false;
    network.pass(seconds(20));
    assert!(network.is_established());
    assert_eq!(network.open_connections(), 1);
}

#[test]
fn a_refused_neighbor_is_found_soon_after_it_is_there() {
    let mut network = network();
    network.nodes[1].listens = false;
    network.event(0, Event::Start);
    network.pass(seconds(300));
    assert_eq!(network.nodes[0].session.last_error(), Some("connect: refused"));
    network.nodes[1].listens = true;
    network.nodes[0].listens = false;
    network.event(1, Event::Start);
    network.pass(seconds(6));
    assert!(network.is_established());
}

#[test]
fn a_stop_reaches_the_other_side() {
    let mut network = network();
    network.start();
    network.pass(seconds(60));
    network.event(0, Event::Stop(StopReason::Shutdown));
    network.pass(seconds(1));
    let [DownReason::Received(notification)] = network.nodes[1].downs.as_slice() else {
        panic!()
    };
    // RFC 8538: both would keep routes over a NOTIFICATION, so it is a Hard Reset, the shutdown inside.
    assert_eq!((notification.code, notification.subcode), (6, 9));
    assert_eq!(notification.data, [6, 2]);
    network.pass(seconds(60));
    assert_eq!(network.states()[0], State::Idle);
    network.event(0, Event::Start);
    network.pass(seconds(10));
    assert!(network.is_established());
}

#[test]
fn a_restart_looks_like_a_lost_connection() {
    let mut network = network();
    network.start();
    network.pass(seconds(60));
    network.event(0, Event::Stop(StopReason::Restart));
    network.pass(seconds(1));
    assert!(matches!(
        network.nodes[1].downs.as_slice(),
        [DownReason::Closed(_)]
    ));
}

#[test]
fn keepalives_are_not_more_than_needed() {
    let mut network = network();
    network.start();
    network.pass(seconds(10));
    let before = network.nodes[0].keepalives_at.len();
    network.pass(seconds(900));
    let sent = network.nodes[0].keepalives_at.len() - before;
    assert!(
        (30..=41).contains(&sent),
        "{sent} in 900 s at an interval of 22.5 to 30 s"
    );
}

proptest! {
    /// Whatever the latency, the order of starts and the times of cuts: in the end, both are up on
    /// one connection.
    #[test]
    fn they_always_come_together(
        latency_ms in 0u64..1500,
        late_ms in 0u64..8000,
        cuts in prop::collection::vec((1u64..200, 1u64..200), 0..4),
        seed_as in 0u32..3,
    ) {
        let mut ours = settings();
        let mut other = theirs();
        (ours.remote_as, other.local_as) = ((65000 + seed_as).into(), 65000 + seed_as);
        let mut network = Network::new([ours, other], Duration::from_millis(latency_ms));
        network.event(0, Event::Start);
        network.pass(Duration::from_millis(late_ms));
        network.event(1, Event::Start);
        for (up, cut) in cuts {
            network.pass(seconds(up));
            network.cut = true;
            network.pass(seconds(cut));
            network.cut = false;
        }
        network.pass(seconds(300));
        prop_assert!(network.is_established(), "{:?}", network.states());
        network.established_by();
        let ups = [network.nodes[0].ups, network.nodes[1].ups];
        network.pass(seconds(600));
        prop_assert_eq!(ups, [network.nodes[0].ups, network.nodes[1].ups], "and stay so");
        prop_assert_eq!(network.open_connections(), 1);
    }
}
