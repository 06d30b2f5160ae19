//! Routes that flap are kept from use for a while (RFC 2439).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bgpd::config::{Dampening, ImportOptions, NeighborKey};
use bgpd::policy::Policy;
use bgpd::rib::{Ineligible, PathStatus, PeerId, PeerSettings, Rib, RibSettings};
use bgpd::session::Timestamp;
use bgpd::wire::{AsPath, Attributes, Family, FamilySet, NextHop, Prefix};
use proptest::prelude::*;

use crate::listener::Listener;

const LOCAL_AS: u32 = 64512;
const V4: Family = Family::Ipv4Unicast;
const NET: &str = "10.9.0.0/16";

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp(Duration::from_secs(second))
}

/// Two withdrawals in a row suppress a route for half an hour.
fn parameters() -> Dampening {
    Dampening {
        suppress: 1500,
        reuse: 500,
        ..Dampening::default()
    }
}

fn settings(last: u8, remote_as: u32, dampening: Option<Dampening>) -> PeerSettings {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let mut settings = PeerSettings::new(NeighborKey::new(address, 179), remote_as, LOCAL_AS);
    (settings.import, settings.export) = (Policy::Accept, Policy::Accept);
    settings.self_next_hop = [Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))), None];
    settings.routing.import = ImportOptions {
        dampening,
        ..ImportOptions::default()
    };
    settings
}

fn route(path: &[u32]) -> Attributes {
    Attributes {
        as_path: AsPath::sequence(path.iter().copied()),
        ..Attributes::originated(NextHop::V4(Ipv4Addr::new(10, 0, 0, 2)))
    }
}

/// A RIB with one neighbour in AS 65002, and one that listens.
struct Fabric {
    rib: Rib,
    id: PeerId,
    listener: Listener,
    other: PeerId,
}

impl Fabric {
    fn new(settings_of: PeerSettings) -> Self {
        let mut rib = Rib::new(RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1)));
        let id = rib.peer_up(settings_of);
        let other = rib.peer_up(settings(3, 65003, None));
        Self {
            rib,
            id,
            listener: Listener::default(),
            other,
        }
    }

    fn announce(&mut self, path: &[u32], second: u64) {
        self.rib.advance(at(second));
        self.rib.update(self.id, route(path), [net(NET)]);
    }

    fn withdraw(&mut self, second: u64) {
        self.rib.advance(at(second));
        self.rib.withdraw(self.id, [net(NET)]);
    }

    fn flap(&mut self, second: u64) {
        self.withdraw(second);
        self.announce(&[65002], second);
    }

    /// Whether the route is used, installed and told to the other neighbour: all of it or nothing.
    fn is_used(&mut self, second: u64) -> bool {
        self.rib.advance(at(second));
        self.listener.hear_all(&mut self.rib);
        let told = &self.listener.peers.get(&self.other);
        let is_told = told.is_some_and(|told| told.contains_key(&net(NET)));
        assert_eq!(self.listener.fib.contains_key(&net(NET)), is_told);
        is_told
    }

    fn status(&self) -> PathStatus {
        self.rib.explain(net(NET)).remove(0).status
    }

    fn penalty(&self) -> Option<(u32, Option<u64>)> {
        let view = self.rib.explain(net(NET)).into_iter().next()?.dampening?;
        Some((view.penalty, view.reuse_in.map(|time| time.as_secs())))
    }
}

fn dampened() -> Fabric {
    let mut fabric = Fabric::new(settings(2, 65002, Some(parameters())));
    fabric.announce(&[65002], 0);
    fabric
}

#[test]
fn a_route_that_flaps_is_not_used_and_comes_back_by_itself() {
    let mut fabric = dampened();
    assert_eq!(fabric.penalty(), None);
    fabric.flap(10);
    assert!(fabric.is_used(10));
    assert_eq!(fabric.penalty(), Some((1000, None)));
    fabric.flap(10);
    assert!(!fabric.is_used(10));
    assert_eq!(fabric.status(), PathStatus::Ineligible(Ineligible::Dampened));
    // From 2000 to 500 in two half-lives.
    assert_eq!(fabric.penalty(), Some((2000, Some(1801))));
    let counters = fabric.rib.counters(fabric.id, V4);
    assert_eq!(
        (counters.received, counters.accepted, counters.dampened),
        (1, 0, 1)
    );
    assert!(!fabric.is_used(1810));
    assert_eq!(fabric.rib.dampening_deadline(), Some(at(1811)));
    assert!(fabric.is_used(1811));
    assert!(matches!(fabric.status(), PathStatus::Best { .. }));
    // The penalty is still there for a while.
    fabric.flap(1812);
    assert!(fabric.is_used(1812));
    fabric.flap(1813);
    assert!(!fabric.is_used(1813));
}

#[test]
fn it_may_be_away_when_its_time_comes() {
    let mut fabric = dampened();
    fabric.flap(10);
    fabric.flap(10);
    fabric.withdraw(20);
    fabric.rib.advance(at(2000));
    assert!(!fabric.is_used(2000), "away, and not yet forgotten");
    fabric.rib.advance(at(3600));
    fabric.announce(&[65002], 3600);
    assert!(fabric.is_used(3600));
}

#[test]
fn other_attributes_cost_half_and_the_same_nothing() {
    let mut fabric = dampened();
    for second in 1..9 {
        fabric.announce(&[65002], second);
    }
    assert_eq!(fabric.penalty(), None);
    for (path, penalty) in [(65008, 500), (65009, 1000), (65008, 1500)] {
        fabric.announce(&[65002, path], 10);
        assert_eq!(fabric.penalty(), Some((penalty, None)));
    }
    fabric.announce(&[65002], 10);
    assert!(!fabric.is_used(10), "2000");
}

#[test]
fn the_end_of_a_session_is_no_flap_and_penalties_outlive_it() {
    let mut fabric = dampened();
    fabric.flap(10);
    for retain in [FamilySet::EMPTY, [V4].into_iter().collect()] {
        fabric.rib.peer_down(fabric.id, retain);
        fabric.id = fabric.rib.peer_up(settings(2, 65002, Some(parameters())));
        // Another route than before the restart, too.
        fabric.announce(&[65002, 65009], 10);
        fabric.rib.end_of_rib(fabric.id, V4);
        assert_eq!(fabric.penalty(), Some((1000, None)));
        fabric.announce(&[65002], 10);
        fabric.rib.clear_dampening(None, None);
        fabric.flap(10);
    }
    fabric.flap(10);
    assert!(!fabric.is_used(10));
    fabric.rib.peer_down(fabric.id, FamilySet::EMPTY);
    fabric.id = fabric.rib.peer_up(settings(2, 65002, Some(parameters())));
    fabric.announce(&[65002], 11);
    assert!(!fabric.is_used(11), "it is still suppressed");
    // A stale route that goes with End-of-RIB has not flapped either.
    fabric.rib.clear_dampening(None, None);
    fabric.rib.peer_down(fabric.id, [V4].into_iter().collect());
    fabric.id = fabric.rib.peer_up(settings(2, 65002, Some(parameters())));
    fabric.rib.end_of_rib(fabric.id, V4);
    fabric.announce(&[65002], 12);
    assert_eq!(fabric.penalty(), None);
}

#[test]
fn within_our_as_and_without_the_setting_nothing_is_counted() {
    for settings_of in [
        settings(2, LOCAL_AS, Some(parameters())),
        settings(2, 65002, None),
    ] {
        let mut fabric = Fabric::new(settings_of);
        for _ in 0..9 {
            fabric.flap(10);
        }
        assert!(fabric.is_used(10));
        assert!(!fabric.rib.dampens());
    }
}

#[test]
fn a_change_of_the_configuration_counts_at_once() {
    let mut fabric = dampened();
    (0..2).for_each(|_| fabric.flap(10));
    assert!(!fabric.is_used(10));
    let longer = Dampening {
        half_life: Duration::from_secs(3600),
        suppress_time: Duration::from_secs(7200),
        ..parameters()
    };
    fabric
        .rib
        .reconfigure(fabric.id, settings(2, 65002, Some(longer)));
    assert_eq!(fabric.penalty(), Some((2000, Some(7201))));
    fabric.rib.reconfigure(fabric.id, settings(2, 65002, None));
    assert!(fabric.is_used(10));
    assert_eq!(fabric.penalty(), None);
    fabric
        .rib
        .reconfigure(fabric.id, settings(2, 65002, Some(parameters())));
    assert!(fabric.is_used(10), "what was is forgotten");
    // What import rejects is rejected for that.
    (0..2).for_each(|_| fabric.flap(10));
    let mut rejecting = settings(2, 65002, Some(parameters()));
    rejecting.import = Policy::Reject;
    fabric.rib.reconfigure(fabric.id, rejecting);
    assert_eq!(fabric.status(), PathStatus::Ineligible(Ineligible::Policy));
    fabric
        .rib
        .reconfigure(fabric.id, settings(2, 65002, Some(parameters())));
    assert_eq!(fabric.status(), PathStatus::Ineligible(Ineligible::Dampened));
}

#[test]
fn penalties_can_be_forgotten() {
    let mut fabric = dampened();
    (0..2).for_each(|_| fabric.flap(10));
    let key = settings(2, 65002, None).key;
    let none = fabric
        .rib
        .clear_dampening(Some(settings(3, 65003, None).key), None);
    assert_eq!(none, (Vec::new(), 0));
    assert_eq!(
        fabric.rib.clear_dampening(Some(key), Some(net("10.0.0.0/8"))),
        (Vec::new(), 0)
    );
    assert!(!fabric.is_used(10));
    let freed = fabric.rib.clear_dampening(Some(key), Some(net(NET)));
    assert_eq!(freed, (vec![(key, vec![(net(NET), 0)])], 1));
    assert!(fabric.is_used(10));
    assert_eq!(fabric.penalty(), None);
}

#[test]
fn with_add_path_each_path_has_a_penalty_of_its_own() {
    let mut with_ids = settings(2, 65002, Some(parameters()));
    with_ids.add_path_receive = [V4].into_iter().collect();
    let mut fabric = Fabric::new(with_ids);
    fabric.rib.advance(at(1));
    for path_id in [1, 2] {
        let attributes = route(&[65002, 65000 + path_id]);
        fabric
            .rib
            .update_paths(fabric.id, attributes, [(net(NET), path_id)]);
    }
    for _ in 0..2 {
        fabric.rib.withdraw_paths(fabric.id, [(net(NET), 1)]);
        fabric
            .rib
            .update_paths(fabric.id, route(&[65002]), [(net(NET), 1)]);
    }
    let views = fabric.rib.explain(net(NET));
    let seen: Vec<_> = views
        .iter()
        .map(|view| (view.path_id, view.dampening.map(|dampening| dampening.penalty)))
        .collect();
    assert_eq!(seen, [(Some(2), None), (Some(1), Some(2000))]);
    assert_eq!(views[1].status, PathStatus::Ineligible(Ineligible::Dampened));
}

/// A route from scratch: what has happened to it, and what follows.
#[derive(Default)]
struct Alone {
    path: Option<u32>,
    penalty: f64,
    second: u64,
    suppressed: bool,
}

impl Alone {
    fn later(&mut self, second: u64) {
        let half_lives = (second - self.second) as f64 / parameters().half_life.as_secs_f64();
        self.penalty *= (-half_lives).exp2();
        self.second = second;
        // Reuse is looked at in whole seconds, after the time has come.
        let step = (-1.0 / parameters().half_life.as_secs_f64()).exp2();
        if self.penalty < 500.0 * step {
            self.suppressed = false;
        }
        // Then it is forgotten.
        if self.penalty < 250.0 * step {
            self.penalty = 0.0;
        }
    }

    fn announced(&mut self, path: u32, second: u64) {
        self.later(second);
        if self.path.is_some_and(|before| before != path) {
            self.penalty = (self.penalty + 500.0).min(parameters().ceiling());
        }
        self.path = Some(path);
        self.suppressed |= self.penalty > 1500.0;
    }

    fn withdrawn(&mut self, second: u64) {
        self.later(second);
        if self.path.take().is_some() {
            self.penalty = (self.penalty + 1000.0).min(parameters().ceiling());
        }
    }

    /// It is so close to being used again that the step of a second decides.
    fn is_close(&self) -> bool {
        [250.0, 500.0, 1500.0]
            .iter()
            .any(|edge| (self.penalty - edge).abs() < 2.0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens to several routes in whatever order, each is used, or not, as it follows from what has
    /// happened to it alone.
    #[test]
    fn any_history_ends_as_computed_from_scratch(
        ops in prop::collection::vec((0..3usize, prop::option::weighted(0.6, 65010..65013u32), 0..600u64), 1..60),
    ) {
        let prefixes = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"].map(net);
        let mut fabric = Fabric::new(settings(2, 65002, Some(parameters())));
        let mut alone: BTreeMap<usize, Alone> = BTreeMap::new();
        let mut second = 0;
        for (which, path, after) in ops {
            second += after;
            fabric.rib.advance(at(second));
            let of = alone.entry(which).or_default();
            match path {
                Some(path) => {
                    fabric.rib.update(fabric.id, route(&[65002, path]), [prefixes[which]]);
                    of.announced(path, second);
                }
                None => {
                    fabric.rib.withdraw(fabric.id, [prefixes[which]]);
                    of.withdrawn(second);
                }
            }
            alone.values_mut().for_each(|of| of.later(second));
            if alone.values().any(Alone::is_close) {
                return Ok(());
            }
            fabric.listener.hear_all(&mut fabric.rib);
            for (which, of) in &alone {
                let used = fabric.listener.fib.contains_key(&prefixes[*which]);
                prop_assert_eq!(used, of.path.is_some() && !of.suppressed, "{} at {}", which, second);
            }
        }
    }
}
