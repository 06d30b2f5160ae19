//! Route refresh, ours to a peer and a peer's to us.

use bgpd::rib::{Outgoing, PeerId, PeerSettings, Rib, Transmit};
use bgpd::wire::{Attributes, Family, FamilySet, Prefix, RefreshKind};

use crate::cases::{drain, net, rib, route, settings};
use crate::listener::Listener;

const V4: Family = Family::Ipv4Unicast;

fn enhanced(last: u8) -> PeerSettings {
    PeerSettings {
        enhanced_refresh: true,
        ..settings(last, 65000 + u32::from(last))
    }
}

/// The table of a peer that has announced these.
fn fed(prefixes: &[&str]) -> (Rib, PeerId) {
    let mut rib = rib();
    let from = rib.peer_up(settings(2, 65002));
    rib.update(
        from,
        route(2, &[65002]),
        prefixes.iter().map(|prefix| net(prefix)),
    );
    (rib, from)
}

/// What was sent, in short.
fn story(sent: &[Transmit]) -> Vec<&'static str> {
    let word = |transmit: &Transmit| match transmit.outgoing {
        Outgoing::Announce { .. } => "routes",
        Outgoing::Withdraw { .. } => "gone",
        Outgoing::EndOfRib => "end",
        Outgoing::Refresh(RefreshKind::Begin) => "BoRR",
        Outgoing::Refresh(RefreshKind::End) => "EoRR",
        Outgoing::Refresh(RefreshKind::Request) => "request",
    };
    sent.iter().map(word).collect()
}

#[test]
fn what_is_sent_again_has_a_beginning_and_an_end() {
    let (mut rib, _) = fed(&["10.1.0.0/16", "10.2.0.0/16"]);
    let to = rib.peer_up(enhanced(3));
    let plain = rib.peer_up(settings(4, 65004));
    drain(&mut rib);
    rib.refresh(to, V4);
    let sent = drain(&mut rib);
    assert_eq!(story(&sent), ["BoRR", "routes", "EoRR"]);
    assert!(sent.iter().all(|transmit| transmit.peers == [to]));
    rib.refresh(plain, V4);
    assert_eq!(story(&drain(&mut rib)), ["routes"], "not understood, not sent");
    rib.refresh(to, Family::Ipv6Unicast);
    assert!(drain(&mut rib).is_empty(), "not negotiated");
}

#[test]
fn an_empty_table_is_sent_again_too() {
    let mut rib = rib();
    let to = rib.peer_up(enhanced(3));
    drain(&mut rib);
    rib.refresh(to, V4);
    assert_eq!(story(&drain(&mut rib)), ["BoRR", "EoRR"]);
}

/// RFC 7313 section 4: no beginning before End-of-RIB.
#[test]
fn a_request_before_end_of_rib_waits_for_it() {
    let (mut rib, _) = fed(&["10.1.0.0/16"]);
    let to = rib.peer_up(enhanced(3));
    (0..5).for_each(|_| rib.refresh(to, V4));
    let expected = ["routes", "end", "BoRR", "routes", "EoRR"];
    assert_eq!(story(&drain(&mut rib)), expected, "and five requests are one");
}

#[test]
fn while_a_refresh_is_under_way_one_more_follows_at_most() {
    let (mut rib, from) = fed(&[]);
    let to = rib.peer_up(enhanced(3));
    let prefix = |n: u32| Prefix::new(std::net::Ipv4Addr::from(0x0a40_0000 + n * 256).into(), 24).unwrap();
    rib.update(from, route(2, &[65002]), (0..100_000).map(prefix));
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    rib.refresh(to, V4);
    let mut sent = vec![rib.poll_transmit().unwrap(), rib.poll_transmit().unwrap()];
    assert_eq!(story(&sent), ["BoRR", "routes"], "the first step of two");
    (0..1000).for_each(|_| rib.refresh(to, V4));
    // What changes meanwhile is told as it is then, and once.
    rib.withdraw(from, [prefix(1), prefix(99_999)]);
    sent.extend(drain(&mut rib));
    let told = story(&sent);
    let marks: Vec<_> = told.iter().filter(|word| word.ends_with("RR")).collect();
    assert_eq!(marks, [&"BoRR", &"EoRR", &"BoRR", &"EoRR"], "{told:?}");
    assert_eq!((told.first(), told.last()), (Some(&"BoRR"), Some(&"EoRR")));
    assert_eq!(rib.advertised(to, V4).len(), 99_998);
}

#[test]
fn a_paused_peer_keeps_its_refresh() {
    let (mut rib, from) = fed(&["10.1.0.0/16"]);
    let to = rib.peer_up(enhanced(3));
    drain(&mut rib);
    rib.pause(to);
    rib.refresh(to, V4);
    rib.update(from, route(2, &[65002]), [net("10.2.0.0/16")]);
    let before = drain(&mut rib);
    rib.resume(to);
    let told = [story(&before), story(&drain(&mut rib))].concat();
    assert_eq!(told, ["BoRR", "routes", "EoRR"]);
}

fn received(rib: &Rib, from: PeerId) -> Vec<(String, bool)> {
    let routes = rib.received(from, V4).into_iter();
    routes
        .map(|route| (route.prefix.to_string(), route.stale))
        .collect()
}

#[test]
fn what_a_refresh_does_not_bring_again_is_gone() {
    let (mut rib, from) = fed(&["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"]);
    let to = rib.peer_up(settings(3, 65003));
    rib.end_of_rib(from, V4);
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    assert!(rib.end_refresh(from, V4).is_empty(), "nothing has begun");
    rib.begin_refresh(from, V4);
    rib.update(from, route(2, &[65002]), [net("10.1.0.0/16")]);
    rib.update(from, route(2, &[65002, 7]), [net("10.2.0.0/16")]);
    assert_eq!(
        received(&rib, from),
        [
            ("10.1.0.0/16", false),
            ("10.2.0.0/16", false),
            ("10.3.0.0/16", true)
        ]
        .map(|(prefix, stale)| (prefix.to_owned(), stale))
    );
    rib.end_of_rib(from, V4);
    assert_eq!(
        rib.received_count(from, V4),
        3,
        "End-of-RIB is not the end of a refresh"
    );
    listener.hear_all(&mut rib);
    assert_eq!(listener.peers[&to].len(), 3, "stale routes are used");
    assert_eq!(rib.end_refresh(from, V4), [(net("10.3.0.0/16"), 0)]);
    assert!(rib.end_refresh(from, V4).is_empty(), "a second end");
    listener.hear_all(&mut rib);
    let known: Vec<String> = listener.peers[&to].keys().map(Prefix::to_string).collect();
    assert_eq!(known, ["10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(
        listener.idle_messages, 0,
        "what came again unchanged is not told again"
    );
}

/// A session that is lost in the middle of a refresh keeps all of its routes for the neighbour's restart.
#[test]
fn a_restart_in_the_middle_of_a_refresh_keeps_everything() {
    let (mut rib, from) = fed(&["10.1.0.0/16", "10.2.0.0/16"]);
    rib.end_of_rib(from, V4);
    rib.begin_refresh(from, V4);
    rib.update(from, Attributes::clone(&route(2, &[65002])), [net("10.1.0.0/16")]);
    rib.peer_down(from, [V4].into_iter().collect::<FamilySet>());
    assert_eq!(rib.received_count(from, V4), 2);
    let again = rib.peer_up(settings(2, 65002));
    assert_eq!(again, from);
    assert!(rib.end_refresh(from, V4).is_empty(), "it ended with the session");
    assert_eq!(rib.received_count(from, V4), 2);
    rib.end_of_rib(from, V4);
    assert_eq!(rib.received_count(from, V4), 0, "stale by the restart");
}
