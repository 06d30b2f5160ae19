//! Rules one by one, with the texts that `explain` gives.

use std::net::{IpAddr, Ipv4Addr};

use bgpd::config::{NeighborKey, Network, NextHopMode, Selection};
use bgpd::policy::{Match, Policy, Rule, RuleAction, Verdict};
use bgpd::rib::{
    Counters, NextHopInterest, NextHopState, Outgoing, PeerId, PeerSettings, Rib, RibSettings, Transmit,
};
use bgpd::wire::{AsPath, Attributes, Community, Family, FamilySet, NextHop, Origin, Prefix};

use crate::listener::Listener;

const LOCAL_AS: u32 = 64512;
const V4: Family = Family::Ipv4Unicast;

pub(crate) fn rib() -> Rib {
    Rib::new(RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1)))
}

pub(crate) fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) fn settings(last: u8, remote_as: u32) -> PeerSettings {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    PeerSettings {
        router_id: Ipv4Addr::new(192, 0, 2, last),
        local_address: "10.0.0.1".parse().unwrap(),
        self_next_hop: [Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))), None],
        cluster_id: Ipv4Addr::new(192, 0, 2, 1),
        import: Policy::Accept,
        export: Policy::Accept,
        ..PeerSettings::new(NeighborKey::new(address, 179), remote_as, LOCAL_AS)
    }
}

fn client(last: u8) -> PeerSettings {
    PeerSettings {
        route_reflector_client: true,
        ..settings(last, LOCAL_AS)
    }
}

/// A route as the peer 10.0.0.`last` sends it.
pub(crate) fn route(last: u8, path: &[u32]) -> Attributes {
    let next_hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, last));
    Attributes {
        as_path: AsPath::sequence(path.iter().copied()),
        ..Attributes::originated(next_hop)
    }
}

fn explanations(rib: &Rib, prefix: &str) -> Vec<String> {
    let line = |view: bgpd::rib::PathView| {
        let from = view.peer.map_or("local".to_owned(), |peer| peer.to_string());
        format!("{from} {}", view.status)
    };
    rib.explain(net(prefix)).into_iter().map(line).collect()
}

pub(crate) fn drain(rib: &mut Rib) -> Vec<Transmit> {
    std::iter::from_fn(|| rib.poll_transmit()).collect()
}

/// What one peer is told of one prefix.
fn told(rib: &mut Rib, peer: PeerId) -> Option<Attributes> {
    drain(rib);
    rib.advertised(peer, V4)
        .first()
        .map(|route| Attributes::clone(&route.attributes))
}

#[test]
fn each_step_decides_and_says_so() {
    let base = || route(2, &[65002]);
    let ibgp = |attributes: Attributes| Attributes {
        as_path: AsPath::default(),
        ..attributes
    };
    // The change that makes the route of 10.0.0.3 lose (or win) against that of 10.0.0.2, and the step.
    type Change = fn(&mut Attributes);
    let cases: [(&str, u32, Change, &str); 8] = [
        (
            "LOCAL_PREF",
            LOCAL_AS,
            |a| a.local_pref = Some(50),
            "higher LOCAL_PREF",
        ),
        (
            "AS_PATH",
            LOCAL_AS,
            |a| a.as_path.prepend(65003, 2),
            "shorter AS_PATH",
        ),
        ("ORIGIN", LOCAL_AS, |a| a.origin = Origin::Egp, "lower ORIGIN"),
        ("MED", LOCAL_AS, |a| a.med = Some(5), "lower MULTI_EXIT_DISC"),
        ("router id", LOCAL_AS, |_| {}, "lower router id"),
        (
            "originator",
            LOCAL_AS,
            |a| a.originator_id = Some(Ipv4Addr::new(192, 0, 2, 200)),
            "lower router id",
        ),
        (
            "cluster list",
            LOCAL_AS,
            |a| {
                a.originator_id = Some(Ipv4Addr::new(192, 0, 2, 2));
                a.cluster_list = vec![Ipv4Addr::new(192, 0, 2, 77)];
            },
            "shorter CLUSTER_LIST",
        ),
        (
            "address",
            LOCAL_AS,
            |a| a.originator_id = Some(Ipv4Addr::new(192, 0, 2, 2)),
            "lower peer address",
        ),
    ];
    for (name, remote_as, change, step) in cases {
        let mut rib = Rib::new(RibSettings {
            selection: Selection {
                multipath_max: 1,
                ..Selection::default()
            },
            ..rib_settings()
        });
        let (two, three) = (
            rib.peer_up(settings(2, LOCAL_AS)),
            rib.peer_up(settings(3, remote_as)),
        );
        let mut worse = ibgp(base());
        worse.next_hop = NextHop::V4(Ipv4Addr::new(10, 0, 0, 3));
        change(&mut worse);
        rib.update(three, worse, [net("10.9.0.0/16")]);
        rib.update(two, ibgp(base()), [net("10.9.0.0/16")]);
        assert_eq!(
            explanations(&rib, "10.9.0.0/16"),
            [
                format!("10.0.0.2 best: {step}"),
                format!("10.0.0.3 not best: 10.0.0.2 has {step}")
            ],
            "{name}"
        );
    }
}

fn rib_settings() -> RibSettings {
    RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1))
}

#[test]
fn external_paths_nearer_next_hops_and_our_own_prefixes_win() {
    let mut rib = rib();
    let internal = rib.peer_up(settings(2, LOCAL_AS));
    let external = rib.peer_up(settings(3, 65003));
    rib.update(internal, route(2, &[65009]), [net("10.9.0.0/16")]);
    rib.update(external, route(3, &[65003]), [net("10.9.0.0/16")]);
    let step = "external before internal";
    assert_eq!(
        explanations(&rib, "10.9.0.0/16"),
        [
            format!("10.0.0.3 best: {step}"),
            format!("10.0.0.2 not best: 10.0.0.3 has {step}")
        ]
    );
    let near = rib.peer_up(settings(4, 65004));
    rib.update(near, route(4, &[65004]), [net("10.9.0.0/16")]);
    assert_eq!(
        explanations(&rib, "10.9.0.0/16")[1],
        "10.0.0.4 multipath: equal to the best path"
    );
    rib.set_next_hops([("10.0.0.3".parse::<IpAddr>().unwrap(), NextHopState::reachable(20))]);
    assert_eq!(
        explanations(&rib, "10.9.0.0/16")[0],
        "10.0.0.4 best: nearer next hop"
    );
    rib.originate(&Network::from(net("10.9.0.0/16")));
    assert_eq!(
        explanations(&rib, "10.9.0.0/16")[..2],
        [
            "local best: local origin",
            "10.0.0.2 not best: our own prefix has local origin"
        ]
    );
    assert_eq!(
        rib.poll_fib(10)[0].route,
        None,
        "our own prefixes are not installed"
    );
}

#[test]
fn med_compares_within_an_as_only_and_in_no_order() {
    // The paths of RFC 3345's kind: with pairwise comparison, the winner would depend on the order.
    let paths = [(2, 65001, Some(10)), (3, 65001, Some(5)), (4, 65002, None)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut rib = Rib::new(RibSettings {
            selection: Selection {
                multipath_max: 1,
                ..Selection::default()
            },
            ..rib_settings()
        });
        for at in order {
            let (last, asn, med) = paths[at];
            let peer = rib.peer_up(settings(last, asn));
            rib.update(
                peer,
                Attributes {
                    med,
                    ..route(last, &[asn])
                },
                [net("10.9.0.0/16")],
            );
        }
        assert_eq!(
            explanations(&rib, "10.9.0.0/16"),
            [
                "10.0.0.3 best: lower router id",
                "10.0.0.2 not best: 10.0.0.3 has lower MULTI_EXIT_DISC",
                "10.0.0.4 not best: 10.0.0.3 has lower router id",
            ]
        );
    }
}

#[test]
fn unusable_paths_say_why() {
    let mut rib = Rib::new(RibSettings {
        assume_reachable: false,
        ..rib_settings()
    });
    let mut strict = settings(2, LOCAL_AS);
    strict.import = Policy::rules(
        [Rule::inside(net("10.6.0.0/16"), RuleAction::Reject)],
        Verdict::Accept,
    );
    let peer = rib.peer_up(strict);
    let id = |last| Ipv4Addr::new(192, 0, 2, last);
    let base = route(2, &[65001]);
    let cases = [
        (
            "10.1.0.0/16",
            route(2, &[65001, LOCAL_AS]),
            "loop: our AS is in AS_PATH",
        ),
        (
            "10.2.0.0/16",
            Attributes {
                originator_id: Some(id(1)),
                ..base.clone()
            },
            "loop: ORIGINATOR_ID is our router id",
        ),
        (
            "10.3.0.0/16",
            Attributes {
                cluster_list: vec![id(9), id(1)],
                ..base.clone()
            },
            "loop: our cluster id is in CLUSTER_LIST",
        ),
        (
            "10.4.0.0/16",
            route(1, &[65001]),
            "the next hop is our own address",
        ),
        ("10.5.0.0/16", base.clone(), "the next hop is unreachable"),
        ("10.6.0.0/16", base, "rejected by the import policy"),
    ];
    for (prefix, attributes, reason) in cases {
        rib.update(peer, attributes, [net(prefix)]);
        assert_eq!(
            explanations(&rib, prefix),
            [format!("10.0.0.2 not usable: {reason}")]
        );
    }
    let counters = rib.counters(peer, V4);
    assert_eq!(
        counters,
        Counters {
            received: 6,
            accepted: 1,
            ..Counters::default()
        }
    );
    // Only next hops of accepted routes are asked for.
    let next_hop: IpAddr = "10.0.0.2".parse().unwrap();
    assert_eq!(rib.poll_next_hops(), [NextHopInterest::Resolve(next_hop.into())]);
    rib.set_next_hops([(next_hop, NextHopState::reachable(0))]);
    assert_eq!(
        explanations(&rib, "10.5.0.0/16"),
        ["10.0.0.2 best: the only usable path"]
    );
    rib.withdraw(peer, [net("10.5.0.0/16")]);
    assert_eq!(rib.poll_next_hops(), [NextHopInterest::Forget(next_hop.into())]);
}

#[test]
fn our_own_as_is_allowed_as_often_as_configured() {
    for (allowed, occurrences, usable) in [(0, 1, false), (1, 1, true), (1, 2, false), (2, 2, true)] {
        let mut rib = rib();
        let peer = rib.peer_up(PeerSettings {
            allow_own_as: allowed,
            ..settings(2, 65001)
        });
        let path: Vec<u32> = std::iter::once(65001)
            .chain(std::iter::repeat_n(LOCAL_AS, occurrences))
            .collect();
        rib.update(peer, route(2, &path), [net("10.9.0.0/16")]);
        assert_eq!(
            rib.counters(peer, V4).accepted == 1,
            usable,
            "{allowed} {occurrences}"
        );
    }
}

#[test]
fn what_an_external_peer_is_told() {
    let mut rib = rib();
    let from = rib.peer_up(settings(2, 65002));
    let inside = rib.peer_up(settings(5, LOCAL_AS));
    let to = rib.peer_up(settings(3, 65003));
    let mut received = route(2, &[65002]);
    (received.med, received.local_pref) = (Some(7), Some(700));
    rib.update(from, received, [net("10.9.0.0/16")]);
    let out = told(&mut rib, to).unwrap();
    assert_eq!(out.as_path.to_string(), "64512 65002");
    assert_eq!(
        (out.med, out.local_pref, out.next_hop.to_string().as_str()),
        (None, None, "10.0.0.1")
    );
    // An internal peer gets the next hop as it is, and a LOCAL_PREF of ours, not the external peer's.
    let out = told(&mut rib, inside).unwrap();
    assert_eq!(out.as_path.to_string(), "65002");
    assert_eq!(
        (out.med, out.local_pref, out.next_hop.to_string().as_str()),
        (Some(7), Some(100), "10.0.0.2")
    );
    // Not back to where it came from.
    assert_eq!(told(&mut rib, from), None);
}

#[test]
fn next_hops_by_mode() {
    let mut rib = rib();
    let mode = |last, asn, next_hop| PeerSettings {
        next_hop,
        ..settings(last, asn)
    };
    let from = rib.peer_up(settings(2, 65002));
    let shared = PeerSettings {
        shared_subnet: Some(net("10.0.0.0/24")),
        ..settings(8, 65008)
    };
    let peers = [
        (mode(3, 65003, NextHopMode::Auto), "10.0.0.1"),
        (mode(4, 65004, NextHopMode::Keep), "10.0.0.2"),
        (mode(5, LOCAL_AS, NextHopMode::Auto), "10.0.0.2"),
        (mode(6, LOCAL_AS, NextHopMode::SelfAddress), "10.0.0.1"),
        (shared, "10.0.0.2"),
    ];
    let peers: Vec<_> = peers
        .into_iter()
        .map(|(settings, expected)| (rib.peer_up(settings), expected))
        .collect();
    rib.update(from, route(2, &[65002]), [net("10.9.0.0/16")]);
    for (peer, expected) in &peers {
        assert_eq!(told(&mut rib, *peer).unwrap().next_hop.to_string(), *expected);
    }
    rib.withdraw(from, [net("10.9.0.0/16")]);
    rib.originate(&Network::from(net("10.8.0.0/16")));
    for (peer, _) in &peers {
        assert_eq!(
            told(&mut rib, *peer).unwrap().next_hop.to_string(),
            "10.0.0.1",
            "our own"
        );
    }
    // Without an address of ours in the family there is nothing to say.
    let mut mute = settings(9, 65009);
    mute.self_next_hop = [None, None];
    let mute = rib.peer_up(mute);
    assert_eq!(told(&mut rib, mute), None);
}

#[test]
fn communities_that_hold_a_route_back() {
    for (community, external, internal) in [
        (Community::NO_EXPORT, false, true),
        (Community::NO_EXPORT_SUBCONFED, false, true),
        (Community::NO_ADVERTISE, false, false),
        (Community::new(1, 1), true, true),
    ] {
        let mut rib = rib();
        let from = rib.peer_up(settings(2, 65002));
        let (outside, inside) = (
            rib.peer_up(settings(3, 65003)),
            rib.peer_up(settings(4, LOCAL_AS)),
        );
        let communities = vec![community];
        rib.update(
            from,
            Attributes {
                communities,
                ..route(2, &[65002])
            },
            [net("10.9.0.0/16")],
        );
        let told = [
            told(&mut rib, outside).is_some(),
            told(&mut rib, inside).is_some(),
        ];
        assert_eq!(told, [external, internal], "{community}");
    }
}

#[test]
fn reflection_is_from_clients_to_all_and_from_others_to_clients() {
    let mut rib = rib();
    let (one, two) = (rib.peer_up(client(2)), rib.peer_up(client(3)));
    let (three, four) = (
        rib.peer_up(settings(4, LOCAL_AS)),
        rib.peer_up(settings(5, LOCAL_AS)),
    );
    let outside = rib.peer_up(settings(6, 65006));
    rib.update(one, route(2, &[]), [net("10.2.0.0/16")]);
    rib.update(three, route(4, &[]), [net("10.4.0.0/16")]);
    drain(&mut rib);
    let prefixes = |peer| -> Vec<String> {
        rib.advertised(peer, V4)
            .iter()
            .map(|route| route.prefix.to_string())
            .collect()
    };
    assert_eq!(prefixes(one), ["10.4.0.0/16"]);
    assert_eq!(prefixes(two), ["10.2.0.0/16", "10.4.0.0/16"]);
    assert_eq!(prefixes(three), ["10.2.0.0/16"]);
    assert_eq!(prefixes(four), ["10.2.0.0/16"]);
    assert_eq!(prefixes(outside), ["10.2.0.0/16", "10.4.0.0/16"]);
    let reflected = &rib.advertised(two, V4)[0].attributes;
    assert_eq!(reflected.originator_id, Some(Ipv4Addr::new(192, 0, 2, 2)));
    assert_eq!(reflected.cluster_list, [Ipv4Addr::new(192, 0, 2, 1)]);
    assert_eq!(reflected.next_hop.to_string(), "10.0.0.2");
    let left = &rib.advertised(outside, V4)[0].attributes;
    assert_eq!((left.originator_id, left.cluster_list.len()), (None, 0));
}

#[test]
fn peers_with_the_same_policy_share_messages() {
    let mut rib = rib();
    let from = rib.peer_up(settings(2, 65002));
    let same: Vec<PeerId> = (10..20)
        .map(|last| rib.peer_up(settings(last, 65000 + u32::from(last))))
        .collect();
    let other = rib.peer_up(PeerSettings {
        encoding: 7,
        ..settings(30, 65030)
    });
    let dumps = drain(&mut rib);
    let ends = dumps.iter().filter(|t| t.outgoing == Outgoing::EndOfRib);
    assert_eq!(ends.map(|t| t.peers.len()).sum::<usize>(), 12);
    rib.update(from, route(2, &[65002]), ["10.1.0.0/16", "10.2.0.0/16"].map(net));
    let sent = drain(&mut rib);
    assert_eq!(
        sent.len(),
        2,
        "one message for the ten, one for the other: {sent:?}"
    );
    let to_all = sent.iter().find(|t| t.peers == same).unwrap();
    let Outgoing::Announce { prefixes, .. } = &to_all.outgoing else {
        panic!("{to_all:?}")
    };
    assert_eq!(prefixes.len(), 2);
    assert!(sent.iter().any(|t| t.peers == [other]));
    assert_eq!(rib.totals().groups, 2);
}

#[test]
fn changes_between_two_messages_are_sent_once() {
    let mut rib = rib();
    let (from, to) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    drain(&mut rib);
    for med in 0..100 {
        rib.update(
            from,
            Attributes {
                med: Some(med),
                ..route(2, &[65002, med])
            },
            [net("10.9.0.0/16")],
        );
    }
    let sent = drain(&mut rib);
    assert_eq!(sent.len(), 1);
    assert_eq!(told(&mut rib, to).unwrap().as_path.to_string(), "64512 65002 99");
    // There and back is nothing.
    rib.update(from, route(2, &[65002, 1]), [net("10.9.0.0/16")]);
    rib.update(from, route(2, &[65002, 99]), [net("10.9.0.0/16")]);
    rib.update(from, route(2, &[65002]), [net("10.8.0.0/16")]);
    rib.withdraw(from, [net("10.8.0.0/16")]);
    assert_eq!(drain(&mut rib), []);
    let fib = rib.poll_fib(usize::MAX);
    assert_eq!(fib.len(), 2);
}

#[test]
fn a_slow_peer_misses_messages_but_no_state() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(settings(2, 65002));
    let (slow, quick) = (rib.peer_up(settings(3, 65003)), rib.peer_up(settings(4, 65004)));
    rib.update(from, route(2, &[65002]), ["10.1.0.0/16", "10.2.0.0/16"].map(net));
    listener.hear_all(&mut rib);
    rib.pause(slow);
    for round in 0..50 {
        rib.update(
            from,
            route(2, &[65002, round]),
            [net("10.1.0.0/16"), net("10.3.0.0/16")],
        );
        listener.hear_all(&mut rib);
    }
    rib.withdraw(from, [net("10.2.0.0/16"), net("10.3.0.0/16")]);
    listener.hear_all(&mut rib);
    assert_eq!(listener.peers[&slow].len(), 2);
    assert_eq!(listener.peers[&quick].len(), 1);
    rib.resume(slow);
    let sent = drain(&mut rib);
    assert_eq!(sent.len(), 2, "one withdrawal and one announcement: {sent:?}");
    assert!(sent.iter().all(|t| t.peers == [slow]));
    assert_eq!(rib.advertised(slow, V4), rib.advertised(quick, V4));
}

#[test]
fn a_restart_holds_everything_back_until_it_is_over() {
    let mut rib = rib();
    rib.defer_selection([V4].into_iter().collect());
    let (from, to) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    rib.originate(&Network::from(net("10.8.0.0/16")));
    rib.update(from, route(2, &[65002]), [net("10.9.0.0/16")]);
    assert_eq!(drain(&mut rib), [], "neither routes nor End-of-RIB");
    assert_eq!(rib.poll_fib(10), []);
    let waits = "10.0.0.2 selection waits for the peers after our restart";
    assert_eq!(explanations(&rib, "10.9.0.0/16"), [waits]);
    assert!(!rib.has_end_of_rib(from, V4));
    rib.end_of_rib(from, V4);
    assert!(rib.has_end_of_rib(from, V4));
    rib.finish_deferral(V4);
    let sent = drain(&mut rib);
    let ends = |t: &Transmit| t.outgoing == Outgoing::EndOfRib;
    assert!(sent.iter().rev().take_while(|t| ends(t)).count() == sent.iter().filter(|t| ends(t)).count());
    assert_eq!(rib.advertised(to, V4).len(), 2);
    assert_eq!(rib.poll_fib(10).len(), 2);
}

#[test]
fn stale_routes_are_kept_and_swept() {
    let mut rib = rib();
    let (from, to) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    rib.update(from, route(2, &[65002]), ["10.1.0.0/16", "10.2.0.0/16"].map(net));
    drain(&mut rib);
    rib.peer_down(from, [V4].into_iter().collect());
    assert_eq!(drain(&mut rib), [], "nobody notices");
    assert_eq!(
        rib.counters(from, V4),
        Counters {
            received: 2,
            accepted: 2,
            selected: 2,
            stale: 2,
            dampened: 0,
            advertised: 0
        }
    );
    assert_eq!(rib.peer_up(settings(2, 65002)), from);
    rib.update(from, route(2, &[65002]), [net("10.1.0.0/16")]);
    assert!(
        drain(&mut rib).iter().all(|t| t.peers == [from]),
        "only the returned peer's End-of-RIB"
    );
    rib.end_of_rib(from, V4);
    assert_eq!(rib.counters(from, V4).received, 1);
    assert_eq!(rib.counters(from, V4).stale, 0);
    drain(&mut rib);
    assert_eq!(rib.advertised(to, V4).len(), 1);
    // Gone for good: the timer sweeps, and nothing is left of the peer.
    rib.peer_down(from, [V4].into_iter().collect());
    rib.sweep_stale(from, V4);
    assert_eq!(rib.peer(settings(2, 65002).key), None);
    drain(&mut rib);
    assert_eq!(rib.advertised(to, V4).len(), 0);
}

#[test]
fn route_refresh_sends_all_again_and_a_new_policy_only_the_difference() {
    let mut rib = rib();
    let (from, to) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    rib.update(
        from,
        route(2, &[65002]),
        ["10.1.0.0/16", "10.2.0.0/16", "fd00::/64"].map(net),
    );
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    rib.refresh(to, V4);
    listener.hear_all(&mut rib);
    assert_eq!(listener.idle_messages, 2);
    let less = Policy::rules(
        [Rule::inside(net("10.1.0.0/16"), RuleAction::Reject)],
        Verdict::Accept,
    );
    let settings = rib.settings_of(to).unwrap().clone();
    rib.reconfigure(
        to,
        PeerSettings {
            export: less,
            ..settings
        },
    );
    listener.hear_all(&mut rib);
    let known: Vec<String> = listener.peers[&to].keys().map(ToString::to_string).collect();
    assert_eq!(known, ["10.2.0.0/16"]);
    assert_eq!(listener.idle_messages, 2, "nothing that it knows already");
    assert_eq!(listener.ends_of_rib[&(to, V4)], 1);
}

#[test]
fn a_large_table_goes_out_in_steps_with_full_messages() {
    let mut rib = rib();
    let from = rib.peer_up(settings(2, 65002));
    let early = rib.peer_up(settings(3, 65003));
    let all = |n: u32| Prefix::new(IpAddr::V4(Ipv4Addr::from(0x0a40_0000 + n * 256)), 24).unwrap();
    // Ten sets of attributes, their prefixes interleaved.
    for n in 0..70_000 {
        rib.update(from, route(2, &[65002, n % 10]), [all(n)]);
    }
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    let late = rib.peer_up(settings(4, 65004));
    let sent = drain(&mut rib);
    assert!(sent.iter().all(|t| t.peers == [late]));
    assert!(sent.len() < 30, "ten for each of two steps, not {}", sent.len());
    assert!(matches!(sent.last().unwrap().outgoing, Outgoing::EndOfRib));
    assert_eq!(rib.advertised(late, V4), rib.advertised(early, V4));
    assert_eq!((listener.idle_messages, rib.totals().attribute_sets), (0, 10));
    rib.peer_down(from, FamilySet::EMPTY);
    drain(&mut rib);
    assert_eq!(rib.totals().attribute_sets, 0);
}

#[test]
fn policies_may_ask_for_the_link_that_a_route_leads_out_of() {
    let only = |name: &str| {
        let matches = Match {
            interface: name.parse().ok(),
            ..Match::default()
        };
        Policy::rules([Rule::new(matches, RuleAction::Accept)], Verdict::Reject)
    };
    let mut rib = rib();
    let from = rib.peer_up(PeerSettings {
        import: only("eth*"),
        ..settings(2, 65002)
    });
    let to = rib.peer_up(PeerSettings {
        export: only("eth1"),
        ..settings(3, 65003)
    });
    let mut listener = Listener::default();
    let prefix = "10.1.0.0/16";
    rib.update(from, route(2, &[65002]), [net(prefix)]);
    // As long as nobody knows the link, the route is not taken; but its next hop is asked for.
    let refused = ["10.0.0.2 not usable: rejected by the import policy"];
    assert_eq!(explanations(&rib, prefix), refused);
    let hop: IpAddr = "10.0.0.2".parse().unwrap();
    assert_eq!(rib.poll_next_hops(), [NextHopInterest::Resolve(hop.into())]);
    let best = ["10.0.0.2 best: the only usable path"];
    for (link, is_taken, is_told) in [
        ("eth0", true, false),
        ("eth1", true, true),
        ("eth0", true, false),
        ("eth1", true, true),
        ("lan0", false, false),
        ("eth1", true, true),
    ] {
        let state = NextHopState::Reachable {
            metric: 0,
            interface: link.parse().ok(),
        };
        rib.set_next_hops([(hop, state)]);
        listener.hear_all(&mut rib);
        assert_eq!(explanations(&rib, prefix) == best, is_taken, "{link}");
        assert_eq!(explanations(&rib, prefix) == refused, !is_taken, "{link}");
        let told = listener.peers.get(&to).is_some_and(|known| !known.is_empty());
        assert_eq!(told, is_told, "{link}");
        let explained = rib.explain_export(to, net(prefix));
        assert_eq!(explained.is_some_and(|why| why.is_ok()), is_told, "{link}");
        assert_eq!(rib.poll_next_hops(), [], "{link}");
    }
    rib.withdraw(from, [net(prefix)]);
    listener.hear_all(&mut rib);
    assert_eq!(rib.poll_next_hops(), [NextHopInterest::Forget(hop.into())]);
    assert_eq!((rib.totals().attribute_sets, rib.totals().next_hops), (0, 0));
}
