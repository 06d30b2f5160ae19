//! Several paths of a prefix on one session (RFC 7911), in and out.

use std::net::{IpAddr, Ipv4Addr};

use bgpd::config::NeighborKey;
use bgpd::policy::Policy;
use bgpd::rib::{NotTold, Outgoing, PathStatus, PeerId, PeerSettings, Rib, RibSettings, Totals, Withheld};
use bgpd::wire::{AsPath, Attributes, Community, Family, FamilySet, NextHop, Prefix};

use crate::listener::Listener;

const LOCAL_AS: u32 = 64512;
const V4: Family = Family::Ipv4Unicast;
const NET: &str = "10.9.0.0/16";

fn rib() -> Rib {
    Rib::new(RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1)))
}

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn v4() -> FamilySet {
    [V4].into_iter().collect()
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

/// A peer within our AS that sends path identifiers.
fn sender(last: u8) -> PeerSettings {
    PeerSettings {
        add_path_receive: v4(),
        ..settings(last, LOCAL_AS)
    }
}

/// A client that takes several paths.
fn client(last: u8, limit: Option<u16>) -> PeerSettings {
    PeerSettings {
        add_path_send: v4(),
        add_path_limit: limit,
        route_reflector_client: true,
        ..settings(last, LOCAL_AS)
    }
}

/// A route via 10.1.0.`hop`, the better the higher its preference.
fn route(hop: u8, local_pref: u32) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([65001]),
        local_pref: Some(local_pref),
        ..Attributes::originated(NextHop::V4(Ipv4Addr::new(10, 1, 0, hop)))
    }
}

fn send(rib: &mut Rib, peer: PeerId, path_id: u32, attributes: Attributes) {
    rib.update_paths(peer, attributes, [(net(NET), path_id)]);
}

/// The last octets of the next hops that a peer with add-path knows of the prefix, with the identifiers.
fn known(listener: &Listener, peer: PeerId) -> Vec<(u8, u32)> {
    let paths = listener.paths.get(&peer).into_iter().flatten();
    let mut known: Vec<(u8, u32)> = paths
        .map(|((_, path_id), attributes)| (last_octet(attributes), *path_id))
        .collect();
    known.sort_unstable();
    known
}

fn last_octet(attributes: &Attributes) -> u8 {
    match attributes.next_hop {
        NextHop::V4(address) => address.octets()[3],
        NextHop::V6 { .. } => panic!("an IPv4 route"),
    }
}

fn hops(listener: &Listener, peer: PeerId) -> Vec<u8> {
    known(listener, peer).into_iter().map(|(hop, _)| hop).collect()
}

#[test]
fn a_peer_has_a_path_for_each_identifier() {
    let mut rib = rib();
    let peer = rib.peer_up(sender(2));
    for (path_id, hop) in [(7, 1), (0, 2), (u32::MAX, 3)] {
        send(&mut rib, peer, path_id, route(hop, 100));
    }
    assert_eq!((rib.totals().prefixes, rib.totals().paths), (1, 3));
    assert_eq!(
        rib.received_count(peer, V4),
        3,
        "each counts towards the limit of routes"
    );
    let received = |rib: &Rib| -> Vec<(u32, u8)> {
        let mut views = rib.received(peer, V4);
        views.sort_by_key(|view| view.path_id);
        let views = views.iter();
        views
            .map(|view| (view.path_id.unwrap(), last_octet(&view.attributes)))
            .collect()
    };
    assert_eq!(received(&rib), [(0, 2), (7, 1), (u32::MAX, 3)]);
    // RFC 7911 section 5: an announcement replaces the path with the same identifier, and no other.
    send(&mut rib, peer, 7, route(9, 100));
    assert_eq!(received(&rib), [(0, 2), (7, 9), (u32::MAX, 3)]);
    rib.withdraw_paths(peer, [(net(NET), 0), (net(NET), 5)]);
    assert_eq!(received(&rib), [(7, 9), (u32::MAX, 3)]);
    assert_eq!(rib.received_count(peer, V4), 2);
    rib.peer_down(peer, FamilySet::EMPTY);
    Listener::default().hear_all(&mut rib);
    assert_eq!(rib.totals(), Totals::default());
    assert_eq!(rib.memory().table_bytes, 0);
}

/// Without add-path on the session, identifiers mean nothing.
#[test]
fn a_plain_peer_has_one_path() {
    let mut rib = rib();
    let peer = rib.peer_up(settings(2, LOCAL_AS));
    send(&mut rib, peer, 1, route(1, 100));
    send(&mut rib, peer, 2, route(2, 100));
    assert_eq!(rib.totals().paths, 1);
    assert_eq!(rib.received(peer, V4)[0].path_id, None);
}

/// Equal paths of one reflector are used together, and the lower identifier is the best where nothing else
/// tells paths apart.
#[test]
fn paths_of_one_peer_are_installed_together() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let peer = rib.peer_up(sender(2));
    for (path_id, hop) in [(3, 3), (1, 1), (2, 2)] {
        send(&mut rib, peer, path_id, route(hop, 100));
    }
    send(&mut rib, peer, 4, route(4, 50));
    listener.hear_all(&mut rib);
    let hops: Vec<String> = listener.fib[&net(NET)].iter().map(ToString::to_string).collect();
    assert_eq!(hops, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
    let texts: Vec<String> = rib
        .explain(net(NET))
        .iter()
        .map(|view| view.status.to_string())
        .collect();
    assert_eq!(
        texts,
        [
            "best: lower path identifier",
            "multipath: equal to the best path",
            "multipath: equal to the best path",
            "not best: 10.0.0.2 has higher LOCAL_PREF"
        ]
    );
    rib.withdraw_paths(peer, [(net(NET), 1)]);
    listener.hear_all(&mut rib);
    assert_eq!(listener.fib[&net(NET)].len(), 2);
}

#[test]
fn each_is_told_as_many_paths_as_it_wants() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(sender(2));
    let other = rib.peer_up(settings(3, 65003));
    let all = rib.peer_up(client(10, None));
    let two = rib.peer_up(client(11, Some(2)));
    let plain = rib.peer_up(PeerSettings {
        add_path_send: FamilySet::EMPTY,
        ..client(12, None)
    });
    send(&mut rib, from, 1, route(1, 300));
    send(&mut rib, from, 2, route(2, 200));
    rib.update(
        other,
        Attributes {
            as_path: AsPath::sequence([65003]),
            ..route(3, 0)
        },
        [net(NET)],
    );
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, all), [1, 2, 3]);
    assert_eq!(hops(&listener, two), [1, 2]);
    let told = |listener: &Listener| last_octet(&listener.peers[&plain][&net(NET)]);
    assert_eq!(told(&listener), 1);
    // What a path is called does not change with its rank, nor with others that come and go.
    let before = known(&listener, all);
    send(&mut rib, from, 3, route(4, 400));
    rib.withdraw_paths(from, [(net(NET), 1)]);
    listener.hear_all(&mut rib);
    let after = known(&listener, all);
    assert_eq!(hops(&listener, all), [2, 3, 4]);
    assert_eq!(after[..2], before[1..]);
    assert_eq!(hops(&listener, two), [2, 4]);
    assert_eq!(told(&listener), 4);
    assert_eq!(listener.idle_messages, 0);
    assert_eq!(rib.counters(all, V4).advertised, 3);
    let beyond = rib.told(&net(NET));
    let beyond: Vec<_> = beyond
        .iter()
        .filter(|view| view.told == Err(NotTold::Beyond))
        .collect();
    assert_eq!(beyond.len(), 1, "the third path, to who takes two");
    rib.peer_down(from, FamilySet::EMPTY);
    rib.peer_down(other, FamilySet::EMPTY);
    listener.hear_all(&mut rib);
    assert_eq!((hops(&listener, all), hops(&listener, two)), (vec![], vec![]));
    assert_eq!(listener.idle_messages, 0);
}

/// A change that leaves the best path alone is no news to a peer without add-path.
#[test]
fn plain_peers_hear_of_best_paths_alone() {
    let mut rib = rib();
    let from = rib.peer_up(sender(2));
    let several = rib.peer_up(client(10, None));
    let plain = rib.peer_up(PeerSettings {
        add_path_send: FamilySet::EMPTY,
        ..client(11, None)
    });
    send(&mut rib, from, 1, route(1, 300));
    while rib.poll_transmit().is_some() {}
    send(&mut rib, from, 2, route(2, 200));
    let mut told = Vec::new();
    while let Some(transmit) = rib.poll_transmit() {
        assert!(matches!(&transmit.outgoing, Outgoing::Announce { path_ids, .. } if path_ids.len() == 1));
        told.extend(transmit.peers);
    }
    assert_eq!(told, [several]);
    rib.withdraw_paths(from, [(net(NET), 1)]);
    let mut told = Vec::new();
    while let Some(transmit) = rib.poll_transmit() {
        if transmit.peers == [plain] {
            told.push(transmit.outgoing);
        }
    }
    assert!(matches!(told.as_slice(), [Outgoing::Announce { path_ids, .. }] if path_ids.is_empty()));
}

/// A path does not go back to who sent it, and is reflected by RFC 4456 section 6, each by itself.
#[test]
fn rules_of_export_are_for_each_path() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let with_add_path = |settings: PeerSettings| PeerSettings {
        add_path_receive: v4(),
        add_path_send: v4(),
        ..settings
    };
    let one = rib.peer_up(with_add_path(client(2, None)));
    let two = rib.peer_up(with_add_path(client(3, None)));
    let inside = rib.peer_up(with_add_path(settings(4, LOCAL_AS)));
    let beside = rib.peer_up(with_add_path(settings(5, LOCAL_AS)));
    send(&mut rib, one, 1, route(1, 300));
    send(&mut rib, one, 2, route(2, 100));
    send(&mut rib, two, 1, route(3, 200));
    send(&mut rib, inside, 1, route(4, 250));
    send(&mut rib, inside, 2, {
        let mut held_back = route(5, 400);
        held_back.communities = vec![Community::NO_ADVERTISE];
        held_back
    });
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, one), [3, 4]);
    assert_eq!(hops(&listener, two), [1, 2, 4]);
    assert_eq!(hops(&listener, inside), [1, 2, 3]);
    assert_eq!(
        hops(&listener, beside),
        [1, 2, 3],
        "inside is no client, and neither is this"
    );
    let told = rib.told(&net(NET));
    let to_one: Vec<_> = told
        .iter()
        .filter(|view| view.peer == client(2, None).key)
        .collect();
    assert_eq!(to_one.len(), 5, "all are explained");
    let own = |view: &&&bgpd::rib::ToldView| view.told == Err(NotTold::Withheld(Withheld::ItsOwn));
    assert_eq!(to_one.iter().filter(own).count(), 2);
}

/// RFC 4724 section 4.2, path by path.
#[test]
fn stale_paths_go_with_the_end_of_rib() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let to = rib.peer_up(client(10, None));
    let peer = rib.peer_up(sender(2));
    for path_id in 1..=3 {
        send(&mut rib, peer, path_id, route(path_id as u8, 100));
    }
    rib.peer_down(peer, v4());
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [1, 2, 3]);
    assert_eq!(rib.counters(peer, V4).stale, 3);
    let back = rib.peer_up(sender(2));
    assert_eq!(back, peer);
    send(&mut rib, peer, 2, route(2, 100));
    send(&mut rib, peer, 4, route(4, 100));
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [1, 2, 3, 4]);
    rib.end_of_rib(peer, V4);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [2, 4]);
    assert_eq!(rib.received_count(peer, V4), 2);
    // Back without add-path: what it had with it stays until its End-of-RIB too.
    rib.peer_down(peer, v4());
    let peer = rib.peer_up(settings(2, LOCAL_AS));
    rib.update(peer, route(7, 100), [net(NET)]);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [2, 4, 7]);
    rib.end_of_rib(peer, V4);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [7]);
}

/// RFC 9494 section 4.2, path by path.
#[test]
fn long_lived_stale_paths_keep_their_identifiers() {
    let mut rib = rib();
    let peer = rib.peer_up(sender(2));
    send(&mut rib, peer, 1, route(1, 100));
    send(&mut rib, peer, 2, {
        let mut dropped = route(2, 100);
        dropped.communities = vec![Community::NO_LLGR];
        dropped
    });
    send(&mut rib, peer, 3, route(3, 100));
    rib.peer_down(peer, v4());
    rib.keep_long_lived(peer, V4);
    let views = rib.received(peer, V4);
    let mut kept: Vec<u32> = views.iter().filter_map(|view| view.path_id).collect();
    kept.sort_unstable();
    assert_eq!(kept, [1, 3]);
    assert!(
        views
            .iter()
            .all(|view| view.stale && view.attributes.has_community(Community::LLGR_STALE))
    );
    rib.sweep_stale(peer, V4);
    assert_eq!(rib.totals().paths, 0);
}

/// What a slow peer missed is told as it is then, and what it knew and is gone is withdrawn by identifier.
#[test]
fn who_falls_behind_ends_with_the_same_paths() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(sender(2));
    let (quick, slow) = (rib.peer_up(client(10, None)), rib.peer_up(client(11, None)));
    for path_id in 1..=3 {
        send(&mut rib, from, path_id, route(path_id as u8, 100));
    }
    listener.hear_all(&mut rib);
    rib.pause(slow);
    rib.withdraw_paths(from, [(net(NET), 1)]);
    listener.hear_all(&mut rib);
    // Its number may be given to another path.
    send(&mut rib, from, 9, route(9, 100));
    listener.hear_all(&mut rib);
    rib.withdraw_paths(from, [(net(NET), 2)]);
    send(&mut rib, from, 3, route(33, 100));
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, slow), [1, 2, 3]);
    rib.resume(slow);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, slow), [9, 33]);
    assert_eq!(known(&listener, slow), known(&listener, quick));
    // RFC 2918: the whole table once more.
    rib.refresh(slow, V4);
    listener.hear_all(&mut rib);
    assert_eq!(known(&listener, slow), known(&listener, quick));
    rib.pause(slow);
    rib.peer_down(from, FamilySet::EMPTY);
    listener.hear_all(&mut rib);
    rib.resume(slow);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, slow), [0u8; 0]);
}

/// The number of paths is our affair: the session stays, and the difference is told.
#[test]
fn another_limit_is_told_as_a_difference() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(sender(2));
    let to = rib.peer_up(client(10, Some(1)));
    for path_id in 1..=4 {
        send(&mut rib, from, path_id, route(path_id as u8, 500 - path_id));
    }
    listener.hear_all(&mut rib);
    for (limit, expected) in [
        (Some(3), vec![1, 2, 3]),
        (Some(2), vec![1, 2]),
        (None, vec![1, 2, 3, 4]),
        (Some(1), vec![1]),
    ] {
        rib.reconfigure(to, client(10, limit));
        listener.hear_all(&mut rib);
        assert_eq!(hops(&listener, to), expected);
    }
}

/// A next hop that is lost takes its paths from all, not only where it was the best.
#[test]
fn paths_with_a_lost_next_hop_are_withdrawn() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(sender(2));
    let to = rib.peer_up(client(10, None));
    for path_id in 1..=3 {
        send(&mut rib, from, path_id, route(path_id as u8, 500 - path_id));
    }
    let hop: IpAddr = "10.1.0.2".parse().unwrap();
    listener.hear_all(&mut rib);
    rib.set_next_hops([(hop, bgpd::rib::NextHopState::Unreachable)]);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [1, 3]);
    rib.set_next_hops([(hop, bgpd::rib::NextHopState::reachable(0))]);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [1, 2, 3]);
    let lost = rib.explain(net(NET));
    assert!(matches!(lost[2].status, PathStatus::Lost { .. }));
}

/// What a reflector writes into routes depends on their source: when that changes, who takes several paths hears it.
#[test]
fn a_source_that_changes_is_told_again() {
    let mut rib = rib();
    let mut listener = Listener::default();
    let from = rib.peer_up(sender(2));
    let other = rib.peer_up(settings(4, LOCAL_AS));
    let to = rib.peer_up(PeerSettings {
        add_path_send: v4(),
        ..settings(10, LOCAL_AS)
    });
    send(&mut rib, from, 1, route(1, 300));
    rib.update(other, route(2, 200), [net(NET)]);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [0u8; 0], "nobody is a client");
    let as_client = PeerSettings {
        route_reflector_client: true,
        ..sender(2)
    };
    rib.reconfigure(from, as_client);
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [1]);
    rib.reconfigure(from, sender(2));
    listener.hear_all(&mut rib);
    assert_eq!(hops(&listener, to), [0u8; 0]);
}
