//! What a neighbour's options do to its routes, one by one.

use std::net::{IpAddr, Ipv4Addr};

use bgpd::config::{
    Aggregate, ExportOptions, ImportOptions, NeighborKey, Network, PrivateAs, Routing, Selection,
};
use bgpd::policy::{Match, Policy, Rule, RuleAction, Verdict};
use bgpd::rib::{FibAction, PeerId, PeerSettings, Rib, RibSettings};
use bgpd::wire::{
    AsPath, Attributes, Community, ExtendedCommunity, Family, LargeCommunity, NextHop, Prefix, Role,
};

use crate::listener::Listener;

const LOCAL_AS: u32 = 64512;
const V4: Family = Family::Ipv4Unicast;
const NET: &str = "10.9.0.0/16";

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn rib_with(selection: Selection) -> Rib {
    Rib::new(RibSettings {
        selection,
        ..RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1))
    })
}

fn rib() -> Rib {
    rib_with(Selection::default())
}

fn settings(last: u8, remote_as: u32) -> PeerSettings {
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

fn with_import(settings: PeerSettings, import: ImportOptions) -> PeerSettings {
    let routing = Routing {
        import,
        ..Routing::default()
    };
    PeerSettings { routing, ..settings }
}

fn with_export(settings: PeerSettings, export: ExportOptions) -> PeerSettings {
    let routing = Routing {
        export,
        ..Routing::default()
    };
    PeerSettings { routing, ..settings }
}

fn route(last: u8, path: &[u32]) -> Attributes {
    Attributes {
        as_path: AsPath::sequence(path.iter().copied()),
        ..Attributes::originated(NextHop::V4(Ipv4Addr::new(10, 0, 0, last)))
    }
}

fn tagged(last: u8, path: &[u32], community: Community) -> Attributes {
    Attributes {
        communities: vec![community],
        ..route(last, path)
    }
}

fn told(rib: &mut Rib, peer: PeerId) -> Option<Attributes> {
    while rib.poll_transmit().is_some() {}
    let advertised = rib.advertised(peer, V4);
    advertised
        .first()
        .map(|route| Attributes::clone(&route.attributes))
}

/// The statuses of a prefix's paths, the best first.
fn statuses(rib: &Rib) -> Vec<String> {
    let views = rib.explain(net(NET)).into_iter();
    views
        .map(|view| format!("{} {}", view.peer.unwrap(), view.status))
        .collect()
}

/// What one peer is told of a route of another.
fn passed_on(from: PeerSettings, attributes: Attributes, to: PeerSettings) -> Option<Attributes> {
    let mut rib = rib();
    let (from, to) = (rib.peer_up(from), rib.peer_up(to));
    rib.update(from, attributes, [net(NET)]);
    told(&mut rib, to)
}

#[test]
fn weight_comes_before_local_pref_and_stays_here() {
    let mut rib = rib();
    let heavy = ImportOptions {
        weight: Some(10),
        ..ImportOptions::default()
    };
    let (one, two) = (
        rib.peer_up(settings(2, LOCAL_AS)),
        rib.peer_up(with_import(settings(3, LOCAL_AS), heavy)),
    );
    let preferred = Attributes {
        local_pref: Some(500),
        ..route(2, &[])
    };
    rib.update(one, preferred, [net(NET)]);
    rib.update(two, route(3, &[]), [net(NET)]);
    assert_eq!(statuses(&rib)[0], "10.0.0.3 best: higher weight");
    // A change of the weight alone, with the session up.
    rib.reconfigure(two, settings(3, LOCAL_AS));
    assert_eq!(statuses(&rib)[0], "10.0.0.2 best: higher LOCAL_PREF");
    let outside = rib.peer_up(settings(4, 65004));
    assert_eq!(told(&mut rib, outside).unwrap().weight, None);
}

#[test]
fn long_lived_stale_paths_are_the_last_resort() {
    let mut rib = rib();
    let (one, two) = (
        rib.peer_up(settings(2, LOCAL_AS)),
        rib.peer_up(settings(3, LOCAL_AS)),
    );
    let mut stale = tagged(2, &[], Community::LLGR_STALE);
    stale.local_pref = Some(500);
    rib.update(one, stale, [net(NET)]);
    rib.update(two, route(3, &[65001, 65002]), [net(NET)]);
    assert_eq!(
        statuses(&rib),
        [
            "10.0.0.3 best: no LLGR_STALE",
            "10.0.0.2 not best: 10.0.0.3 has no LLGR_STALE"
        ]
    );
    rib.withdraw(two, [net(NET)]);
    assert_eq!(statuses(&rib), ["10.0.0.2 best: the only usable path"]);
}

#[test]
fn graceful_shutdown_lowers_routes_of_other_ases_alone() {
    let internal = || settings(9, LOCAL_AS);
    let shut = Community::GRACEFUL_SHUTDOWN;
    let keep = ImportOptions {
        honor_graceful_shutdown: false,
        local_pref: Some(120),
        ..ImportOptions::default()
    };
    // A policy must not undo it.
    let mut raised = Rule::new(Match::default(), RuleAction::Accept);
    raised.changes.local_pref = Some(bgpd::policy::Number::Set(900));
    let raised = PeerSettings {
        import: Policy::rules([raised], Verdict::Reject),
        ..settings(2, 65002)
    };
    let client = PeerSettings {
        route_reflector_client: true,
        ..settings(2, LOCAL_AS)
    };
    for (from, local_pref) in [
        (settings(2, 65002), 0),
        (raised, 0),
        (with_import(settings(2, 65002), keep), 120),
        (client, 100),
    ] {
        let out = passed_on(from, tagged(2, &[65002], shut), internal()).unwrap();
        assert_eq!(out.local_pref, Some(local_pref));
        assert_eq!(out.communities, [shut]);
    }
}

#[test]
fn drain_moves_traffic_away_in_both_directions_without_a_reset() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let (outside, inside) = (
        rib.peer_up(settings(2, 65002)),
        rib.peer_up(settings(3, LOCAL_AS)),
    );
    rib.originate(&Network::from(net("10.8.0.0/16")));
    rib.update(outside, route(2, &[65002]), [net(NET)]);
    listener.hear_all(&mut rib);
    let drained = |settings: PeerSettings| PeerSettings {
        routing: Routing {
            drain: true,
            ..Routing::default()
        },
        ..settings
    };
    rib.reconfigure(outside, drained(settings(2, 65002)));
    rib.reconfigure(inside, drained(settings(3, LOCAL_AS)));
    listener.hear_all(&mut rib);
    let shut = Community::GRACEFUL_SHUTDOWN;
    let own = &listener.peers[&outside][&net("10.8.0.0/16")];
    assert_eq!(
        (own.communities.as_slice(), own.local_pref),
        ([shut].as_slice(), None)
    );
    let learned = &listener.peers[&inside][&net(NET)];
    assert_eq!(
        (learned.communities.as_slice(), learned.local_pref),
        ([shut].as_slice(), Some(0))
    );
    rib.reconfigure(outside, settings(2, 65002));
    rib.reconfigure(inside, settings(3, LOCAL_AS));
    listener.hear_all(&mut rib);
    assert_eq!(listener.peers[&inside][&net(NET)].local_pref, Some(100));
    assert!(
        listener.peers[&outside][&net("10.8.0.0/16")]
            .communities
            .is_empty()
    );
}

#[test]
fn blackhole_routes_need_leave_and_do_not_spread() {
    let blackhole = || tagged(2, &[65002], Community::BLACKHOLE);
    assert_eq!(
        passed_on(settings(2, 65002), blackhole(), settings(3, LOCAL_AS)),
        None
    );
    let allowed = || {
        let accept = ImportOptions {
            accept_blackhole: true,
            ..ImportOptions::default()
        };
        with_import(settings(2, 65002), accept)
    };
    let inside = passed_on(allowed(), blackhole(), settings(3, LOCAL_AS)).unwrap();
    assert_eq!(inside.communities, [Community::BLACKHOLE, Community::NO_EXPORT]);
    assert_eq!(passed_on(allowed(), blackhole(), settings(3, 65003)), None);
}

/// RFC 7999 section 3.3.
#[test]
fn what_goes_to_an_accepted_blackhole_route_is_dropped() {
    let accept = ImportOptions {
        accept_blackhole: true,
        ..ImportOptions::default()
    };
    let mut rib = rib();
    let from = rib.peer_up(with_import(settings(2, 65002), accept));
    let action = |rib: &mut Rib| rib.poll_fib(usize::MAX).pop().unwrap().route.unwrap().action;
    rib.update(from, tagged(2, &[65002], Community::BLACKHOLE), [net(NET)]);
    assert_eq!(action(&mut rib), FibAction::Discard);
    rib.update(from, route(2, &[65002]), [net(NET)]);
    assert!(matches!(action(&mut rib), FibAction::Forward(_)));
}

#[test]
fn the_first_as_is_enforced_where_that_is_asked() {
    let strict = ImportOptions {
        enforce_first_as: true,
        ..ImportOptions::default()
    };
    let to = || settings(3, LOCAL_AS);
    for (path, strict_passes) in [
        (&[65002, 65009][..], true),
        (&[65009, 65002], false),
        (&[], false),
    ] {
        assert!(passed_on(settings(2, 65002), route(2, path), to()).is_some());
        let strict = with_import(settings(2, 65002), strict.clone());
        assert_eq!(
            passed_on(strict, route(2, path), to()).is_some(),
            strict_passes,
            "{path:?}"
        );
    }
}

/// RFC 9234 section 5, all rules of ingress and egress.
#[test]
fn only_to_customer() {
    let role = |last, asn, role| PeerSettings {
        role,
        ..settings(last, asn)
    };
    let with_otc = |otc| Attributes {
        otc,
        ..route(2, &[65002])
    };
    // Our role to the sender, OTC as received, and as it is inside; nothing where it is a leak.
    let ingress = [
        (Some(Role::Provider), Some(65009), None),
        (Some(Role::RouteServer), Some(65009), None),
        (Some(Role::Provider), None, Some(None)),
        (Some(Role::Peer), Some(65009), None),
        (Some(Role::Peer), Some(65002), Some(Some(65002))),
        (Some(Role::Peer), None, Some(Some(65002))),
        (Some(Role::Customer), None, Some(Some(65002))),
        (Some(Role::Customer), Some(65009), Some(Some(65009))),
        (Some(Role::RouteServerClient), None, Some(Some(65002))),
        (None, Some(65009), Some(Some(65009))),
        (None, None, Some(None)),
    ];
    for (ours, otc, expected) in ingress {
        let inside = passed_on(role(2, 65002, ours), with_otc(otc), settings(3, LOCAL_AS));
        assert_eq!(inside.map(|route| route.otc), expected, "{ours:?} {otc:?}");
    }
    // Our role to the receiver, OTC inside, and as it is sent; nothing where it is not.
    let egress = [
        (Some(Role::Provider), None, Some(Some(LOCAL_AS))),
        (Some(Role::Provider), Some(65009), Some(Some(65009))),
        (Some(Role::RouteServer), None, Some(Some(LOCAL_AS))),
        (Some(Role::Peer), None, Some(Some(LOCAL_AS))),
        (Some(Role::Peer), Some(65009), None),
        (Some(Role::Customer), Some(65009), None),
        (Some(Role::Customer), None, Some(None)),
        (Some(Role::RouteServerClient), Some(65009), None),
        (None, Some(65009), Some(Some(65009))),
    ];
    for (ours, otc, expected) in egress {
        let outside = passed_on(settings(2, 65002), with_otc(otc), role(3, 65003, ours));
        assert_eq!(outside.map(|route| route.otc), expected, "{ours:?} {otc:?}");
    }
    // Within our AS a role means nothing.
    let inside = passed_on(
        settings(2, 65002),
        with_otc(Some(65009)),
        role(3, LOCAL_AS, Some(Role::Peer)),
    );
    assert_eq!(inside.unwrap().otc, Some(65009));
}

#[test]
fn long_lived_stale_routes_are_confined_where_they_are_not_understood() {
    let stale = Attributes {
        communities: vec![Community::LLGR_STALE],
        local_pref: Some(200),
        ..route(2, &[65002])
    };
    let to = |remote_as, long_lived, long_lived_stale| {
        let mut to = settings(3, remote_as);
        to.long_lived = long_lived;
        to.routing.export.long_lived_stale = long_lived_stale;
        let told = passed_on(settings(2, 65002), stale.clone(), to)?;
        Some((told.communities, told.local_pref))
    };
    let marked = vec![Community::LLGR_STALE];
    let confined = vec![Community::LLGR_STALE, Community::NO_EXPORT];
    for (told, expected) in [
        (to(LOCAL_AS, false, false), None),
        (to(LOCAL_AS, false, true), Some((confined, Some(0)))),
        (to(LOCAL_AS, true, true), Some((marked.clone(), Some(100)))),
        // RFC 9494 section 4.6 is for neighbours within the AS alone.
        (to(65003, false, true), None),
        (to(65003, true, false), Some((marked, None))),
    ] {
        assert_eq!(told, expected);
    }
}

#[test]
fn ases_are_overridden_removed_and_replaced() {
    let path = &[65002, 65003, 3356, 4_200_000_001];
    let export = |as_override, private_as| ExportOptions {
        as_override,
        private_as,
        ..ExportOptions::default()
    };
    for (options, expected) in [
        (
            export(false, PrivateAs::Keep),
            "64512 65002 65003 3356 4200000001",
        ),
        (export(true, PrivateAs::Keep), "64512 65002 64512 3356 4200000001"),
        (export(false, PrivateAs::Remove), "64512 3356"),
        (export(false, PrivateAs::Replace), "64512 64512 64512 3356 64512"),
    ] {
        let to = with_export(settings(3, 65003), options.clone());
        let out = passed_on(settings(2, 65002), route(2, path), to).unwrap();
        assert_eq!(out.as_path.to_string(), expected, "{options:?}");
    }
    // Within our AS, paths stay as they are.
    let to = with_export(settings(3, LOCAL_AS), export(true, PrivateAs::Remove));
    let out = passed_on(settings(2, 65002), route(2, path), to).unwrap();
    assert_eq!(out.as_path.to_string(), "65002 65003 3356 4200000001");
}

#[test]
fn another_as_on_a_session_may_be_shown_beside_the_global_one() {
    let local = |last, remote_as| PeerSettings {
        local_as: 65100,
        global_as: LOCAL_AS,
        ..settings(last, remote_as)
    };
    let both = ExportOptions {
        prepend_global_as: true,
        ..ExportOptions::default()
    };
    for (to, expected) in [
        (local(3, 65003), "65100 65002"),
        (with_export(local(3, 65003), both), "65100 64512 65002"),
    ] {
        let out = passed_on(settings(2, 65002), route(2, &[65002]), to).unwrap();
        assert_eq!(out.as_path.to_string(), expected);
    }
    let prepend = ImportOptions {
        prepend_local_as: true,
        ..ImportOptions::default()
    };
    for (from, expected) in [
        (local(2, 65002), "65002"),
        (with_import(local(2, 65002), prepend), "65100 65002"),
    ] {
        let inside = passed_on(from, route(2, &[65002]), settings(3, LOCAL_AS)).unwrap();
        assert_eq!(inside.as_path.to_string(), expected);
    }
}

#[test]
fn kinds_of_communities_are_left_out() {
    let all = Attributes {
        communities: vec![Community::new(1, 1)],
        extended_communities: vec![ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1])],
        large_communities: vec![LargeCommunity {
            global: 1,
            local1: 1,
            local2: 1,
        }],
        ..route(2, &[65002])
    };
    let send = |communities, extended_communities, large_communities| ExportOptions {
        communities,
        extended_communities,
        large_communities,
        ..ExportOptions::default()
    };
    for (kinds, expected) in [
        (send(true, true, true), (1, 1, 1)),
        (send(false, true, true), (0, 1, 1)),
        (send(true, false, true), (1, 0, 1)),
        (send(true, true, false), (1, 1, 0)),
    ] {
        let out = passed_on(
            settings(2, 65002),
            all.clone(),
            with_export(settings(3, 65003), kinds),
        )
        .unwrap();
        let sent = (
            out.communities.len(),
            out.extended_communities.len(),
            out.large_communities.len(),
        );
        assert_eq!(sent, expected);
    }
}

#[test]
fn clients_that_are_meshed_are_not_reflected_to_one_another() {
    let client = |last, client_to_client| {
        let export = ExportOptions {
            client_to_client,
            ..ExportOptions::default()
        };
        PeerSettings {
            route_reflector_client: true,
            ..with_export(settings(last, LOCAL_AS), export)
        }
    };
    assert!(passed_on(client(2, true), route(2, &[]), client(3, true)).is_some());
    assert!(passed_on(client(2, false), route(2, &[]), client(3, false)).is_none());
    assert!(passed_on(settings(2, LOCAL_AS), route(2, &[]), client(3, false)).is_some());
    assert!(passed_on(client(2, false), route(2, &[]), settings(3, LOCAL_AS)).is_some());
}

#[test]
fn med_may_be_compared_always_and_missing_ones_be_the_worst() {
    let with_med = |last, asn, med| Attributes {
        med,
        ..route(last, &[asn])
    };
    let one = |always_compare_med, missing_med_worst| Selection {
        multipath_max: 1,
        always_compare_med,
        missing_med_worst,
        ..Selection::default()
    };
    // MED and AS of 10.0.0.2 and of 10.0.0.3, and which is the best.
    let cases = [
        (
            one(false, false),
            (Some(9), 65002),
            (Some(1), 65003),
            "10.0.0.2 best: lower router id",
        ),
        (
            one(true, false),
            (Some(9), 65002),
            (Some(1), 65003),
            "10.0.0.3 best: lower MULTI_EXIT_DISC",
        ),
        (
            one(false, false),
            (None, 65002),
            (Some(1), 65002),
            "10.0.0.2 best: lower MULTI_EXIT_DISC",
        ),
        (
            one(false, true),
            (None, 65002),
            (Some(1), 65002),
            "10.0.0.3 best: lower MULTI_EXIT_DISC",
        ),
    ];
    for (selection, two, three, expected) in cases {
        let mut rib = rib_with(selection.clone());
        for (last, (med, asn)) in [(2, two), (3, three)] {
            let peer = rib.peer_up(settings(last, asn));
            rib.update(peer, with_med(last, asn, med), [net(NET)]);
        }
        assert_eq!(statuses(&rib)[0], expected, "{selection:?}");
        // And when it is set while routes are there.
        rib.set_selection(&Selection::default());
        rib.set_selection(&selection);
        assert_eq!(statuses(&rib)[0], expected);
    }
}

#[test]
fn internal_paths_are_used_beside_external_ones_where_that_is_asked() {
    let with = |multipath_eibgp| {
        let mut rib = rib_with(Selection {
            multipath_eibgp,
            ..Selection::default()
        });
        for (last, asn) in [(2, 65002), (3, LOCAL_AS), (4, LOCAL_AS)] {
            let peer = rib.peer_up(settings(last, asn));
            // The internal one at 10.0.0.4 has come further.
            let path: &[u32] = if last == 4 { &[65002, 65009] } else { &[65002] };
            rib.update(peer, route(last, path), [net(NET)]);
        }
        statuses(&rib)
    };
    assert_eq!(
        with(false)[1],
        "10.0.0.3 not best: 10.0.0.2 has external before internal"
    );
    assert_eq!(
        with(true),
        [
            "10.0.0.2 best: external before internal",
            "10.0.0.3 multipath: equal to the best path",
            "10.0.0.4 not best: 10.0.0.2 has shorter AS_PATH",
        ]
    );
}

#[test]
fn decisions_are_explained() {
    let mut rib = rib();
    let none_of_it = Rule::inside(net(NET), RuleAction::Reject).named("none of it");
    let strict = PeerSettings {
        import: Policy::rules([none_of_it.clone()], Verdict::Accept),
        ..settings(2, 65002)
    };
    let deaf = PeerSettings {
        export: Policy::rules([none_of_it], Verdict::Accept),
        ..settings(4, 65004)
    };
    let (strict, open) = (rib.peer_up(strict), rib.peer_up(settings(3, 65003)));
    let (deaf, inside, quiet) = (
        rib.peer_up(deaf),
        rib.peer_up(settings(5, LOCAL_AS)),
        rib.peer_up(settings(6, 65006)),
    );
    rib.update(strict, route(2, &[65002]), [net(NET)]);
    assert_eq!(
        rib.explain_import(strict, net(NET), None).unwrap().to_string(),
        "rejected by rule 1 \"none of it\""
    );
    assert_eq!(rib.explain_export(deaf, net(NET)), None, "there is no best path");
    rib.update(open, route(3, &[65003]), [net(NET)]);
    while rib.poll_transmit().is_some() {}
    let why = |rib: &Rib, peer| match rib.explain_export(peer, net(NET)).unwrap() {
        Ok(explanation) => explanation.to_string(),
        Err(withheld) => withheld.to_string(),
    };
    assert_eq!(
        why(&rib, deaf),
        "export policy: rejected by rule 1 \"none of it\""
    );
    assert_eq!(why(&rib, inside), "accepted by the policy for all routes");
    assert_eq!(why(&rib, open), "the neighbor sent it, or is its next hop");
    rib.update(open, tagged(3, &[65003], Community::NO_EXPORT), [net(NET)]);
    assert_eq!(why(&rib, quiet), "its community 65535:65281 holds it back");
}

/// RFC 4271 section 9.2.2.2, without AS_SET (RFC 9774).
#[test]
fn an_aggregate_is_there_as_long_as_a_route_inside_it() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let (from, to) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    let whole = net("10.0.0.0/8");
    let mut aggregate = Aggregate::from(whole);
    aggregate.communities = vec![Community::new(1, 1)];
    rib.set_aggregates(&[aggregate]);
    listener.hear_all(&mut rib);
    assert!(listener.peers[&to].is_empty(), "there is nothing inside");
    rib.originate(&Network::from(net("10.1.0.0/16")));
    listener.hear_all(&mut rib);
    let told = listener.peers[&to][&whole].clone();
    assert_eq!(
        (told.as_path.to_string().as_str(), told.atomic_aggregate),
        ("64512", false)
    );
    assert_eq!(told.aggregator.map(|a| a.asn), Some(LOCAL_AS));
    assert_eq!(told.communities, [Community::new(1, 1)]);
    let mut worse = route(2, &[65002]);
    worse.origin = bgpd::wire::Origin::Incomplete;
    rib.update(from, worse, [net(NET)]);
    listener.hear_all(&mut rib);
    let told = listener.peers[&to][&whole].clone();
    assert_eq!(
        (told.origin, told.atomic_aggregate),
        (bgpd::wire::Origin::Incomplete, true)
    );
    assert_eq!(told.as_path.to_string(), "64512", "its path is left out");
    assert_eq!(
        listener.fib.get(&whole),
        Some(&vec![]),
        "what has no route inside it is dropped"
    );
    rib.retract(net("10.1.0.0/16"));
    rib.withdraw(from, [net(NET)]);
    listener.hear_all(&mut rib);
    assert!(listener.peers[&to].is_empty());
    assert_eq!(listener.fib.get(&whole), None);
}

#[test]
fn a_summary_stands_for_what_lies_inside_it() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let whole = net("10.0.0.0/8");
    let summary = |last, asn| PeerSettings {
        summarized: [whole].into(),
        ..settings(last, asn)
    };
    let (from, to) = (rib.peer_up(summary(2, 65002)), rib.peer_up(summary(3, 65003)));
    rib.set_aggregates(&[whole.into()]);
    rib.update(
        from,
        route(2, &[65002]),
        ["10.9.0.0/16", "10.8.0.0/16", "192.0.2.0/24"].map(net),
    );
    listener.hear_all(&mut rib);
    let known = |listener: &Listener| -> Vec<String> {
        listener.peers[&to].keys().map(ToString::to_string).collect()
    };
    assert_eq!(known(&listener), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(
        rib.explain_export(to, net(NET)).unwrap().unwrap_err().to_string(),
        "it is part of the aggregate 10.0.0.0/8"
    );
    rib.set_aggregates(&[]);
    rib.reconfigure(from, settings(2, 65002));
    rib.reconfigure(to, settings(3, 65003));
    listener.hear_all(&mut rib);
    assert_eq!(known(&listener), ["10.8.0.0/16", "10.9.0.0/16", "192.0.2.0/24"]);
}

fn v6_route(next_hop: NextHop, interface: Option<u32>) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([65002]),
        interface,
        ..Attributes::originated(next_hop)
    }
}

/// RFC 8950 section 4: who has not offered to take such a route is not told it.
#[test]
fn an_ipv4_route_with_an_ipv6_next_hop_goes_to_who_takes_it() {
    let next_hop = NextHop::from("fd00::2".parse::<IpAddr>().unwrap());
    let route = || v6_route(next_hop, None);
    let client = |extended_next_hop| PeerSettings {
        extended_next_hop,
        ..settings(3, LOCAL_AS)
    };
    let out = passed_on(settings(2, 65002), route(), client(true)).unwrap();
    assert_eq!(out.next_hop, next_hop);
    assert_eq!(passed_on(settings(2, 65002), route(), client(false)), None);
    // With ourselves as next hop, it is an IPv4 address again.
    let out = passed_on(settings(2, 65002), route(), settings(3, 65003)).unwrap();
    assert_eq!(out.next_hop, NextHop::V4(Ipv4Addr::new(10, 0, 0, 1)));
}

/// RFC 2545 section 3.
#[test]
fn link_local_next_hops_stay_on_their_link() {
    let (global, link_local) = ("fd00::2".parse().unwrap(), "fe80::2".parse().unwrap());
    let both = NextHop::V6 {
        global,
        link_local: Some(link_local),
    };
    let client = || PeerSettings {
        extended_next_hop: true,
        ..settings(3, LOCAL_AS)
    };
    // On a link of ours, it is ourselves that others have to ask.
    for next_hop in [NextHop::link_local(link_local), both] {
        let out = passed_on(settings(2, 65002), v6_route(next_hop, Some(7)), client()).unwrap();
        assert_eq!(out.next_hop, NextHop::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(out.interface, None);
    }
    // The global address goes on alone.
    let out = passed_on(settings(2, 65002), v6_route(both, None), client()).unwrap();
    assert_eq!(out.next_hop, NextHop::from(IpAddr::V6(global)));
    // Equal addresses on two links are two next hops.
    let mut rib = rib();
    let (one, two) = (rib.peer_up(settings(2, 65002)), rib.peer_up(settings(3, 65003)));
    for (peer, interface) in [(one, 7), (two, 8)] {
        rib.update(
            peer,
            v6_route(NextHop::link_local(link_local), Some(interface)),
            [net(NET)],
        );
    }
    let mut gateways: Vec<String> = rib
        .poll_next_hops()
        .into_iter()
        .filter_map(|interest| match interest {
            bgpd::rib::NextHopInterest::Resolve(gateway) => Some(gateway.to_string()),
            bgpd::rib::NextHopInterest::Forget(_) => None,
        })
        .collect();
    gateways.sort_unstable();
    assert_eq!(gateways, ["fe80::2%7", "fe80::2%8"]);
}
