//! Default routes that a neighbour is told whether or not there is one.

use std::net::{IpAddr, Ipv4Addr};

use bgpd::config::{ExportOptions, NeighborKey, Network};
use bgpd::policy::{Changes, Match, Policy, Rule, RuleAction, Verdict};
use bgpd::rib::{Outgoing, PeerId, PeerSettings, Rib, RibSettings};
use bgpd::wire::{AsPath, Attributes, Community, Family, FamilySet, NextHop, Prefix, RefreshKind};

use crate::listener::Listener;

const LOCAL_AS: u32 = 64512;
const V4: Family = Family::Ipv4Unicast;
const V6: Family = Family::Ipv6Unicast;

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn rib() -> Rib {
    Rib::new(RibSettings::new(LOCAL_AS, Ipv4Addr::new(192, 0, 2, 1)))
}

/// An external peer, which is told default routes of these families and whose export policy rejects everything.
fn settings(last: u8, families: &[Family]) -> PeerSettings {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let mut settings = PeerSettings::new(NeighborKey::new(address, 179), 65000 + u32::from(last), LOCAL_AS);
    settings.families = Family::ALL.into_iter().collect();
    settings.self_next_hop = ["10.0.0.1", "fd00::1"].map(|text| Some(text.parse::<IpAddr>().unwrap().into()));
    settings.import = Policy::Accept;
    settings.routing.export = ExportOptions {
        default_originate: families.iter().copied().collect(),
        ..ExportOptions::default()
    };
    settings
}

fn told(rib: &Rib, id: PeerId, family: Family) -> Vec<(Prefix, Attributes)> {
    let routes = rib.advertised(id, family).into_iter();
    routes
        .map(|route| (route.prefix, Attributes::clone(&route.attributes)))
        .collect()
}

fn ours(next_hop: &str) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([LOCAL_AS]),
        ..Attributes::originated(NextHop::from(next_hop.parse::<IpAddr>().unwrap()))
    }
}

/// Everything that is sent, in its order, to one peer.
fn transmits(rib: &mut Rib) -> Vec<(Family, Outgoing)> {
    std::iter::from_fn(|| rib.poll_transmit())
        .map(|transmit| (transmit.family, transmit.outgoing))
        .collect()
}

fn announcement(prefix: &str, attributes: Attributes) -> Outgoing {
    Outgoing::Announce {
        attributes: attributes.into(),
        prefixes: vec![net(prefix)],
        path_ids: Vec::new(),
    }
}

#[test]
fn it_comes_before_end_of_rib_and_again_with_a_refresh() {
    let mut rib = rib();
    let mut peer = settings(2, &[V4, V6]);
    peer.enhanced_refresh = true;
    let id = rib.peer_up(peer);
    let sent = transmits(&mut rib);
    for (family, prefix, next_hop) in [(V4, "0.0.0.0/0", "10.0.0.1"), (V6, "::/0", "fd00::1")] {
        let of_family: Vec<_> = sent.iter().filter(|(of, _)| *of == family).collect();
        let expected = [announcement(prefix, ours(next_hop)), Outgoing::EndOfRib];
        assert!(
            of_family.iter().map(|(_, what)| what).eq(&expected),
            "{of_family:?}"
        );
        assert_eq!(rib.counters(id, family).advertised, 1);
    }
    rib.refresh(id, V4);
    let expected = [
        Outgoing::Refresh(RefreshKind::Begin),
        announcement("0.0.0.0/0", ours("10.0.0.1")),
        Outgoing::Refresh(RefreshKind::End),
    ];
    assert_eq!(transmits(&mut rib), expected.map(|what| (V4, what)));
}

#[test]
fn others_are_not_told_and_the_one_in_the_table_is_no_matter() {
    let mut rib = rib();
    let with = rib.peer_up(settings(2, &[V4]));
    let mut other = settings(3, &[]);
    other.export = Policy::Accept;
    let other = rib.peer_up(other);
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    assert_eq!(told(&rib, with, V4), [(net("0.0.0.0/0"), ours("10.0.0.1"))]);
    assert_eq!(told(&rib, with, V6), []);
    assert_eq!(told(&rib, other, V4), []);

    // Nobody but those who have none of ours hears of that of the table, in whichever order.
    let mut network = Network::from(net("0.0.0.0/0"));
    network.communities.push(Community::new(1, 1));
    rib.originate(&network);
    let changes = transmits(&mut rib);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(told(&rib, with, V4), [(net("0.0.0.0/0"), ours("10.0.0.1"))]);
    assert_eq!(told(&rib, other, V4)[0].1.communities, [Community::new(1, 1)]);
    let views = rib.told(&net("0.0.0.0/0"));
    let export = |at: usize| views[at].export.as_ref().unwrap().to_string();
    assert_eq!(export(0), "accepted because of default-originate");
    assert_eq!(export(1), "accepted by the policy for all routes");
    rib.retract(net("0.0.0.0/0"));
    assert_eq!(transmits(&mut rib).len(), 1);
    assert_eq!(told(&rib, with, V4), [(net("0.0.0.0/0"), ours("10.0.0.1"))]);
}

#[test]
fn a_change_of_the_configuration_is_told_on_the_session_that_is_there() {
    let mut rib = rib();
    let id = rib.peer_up(settings(2, &[]));
    transmits(&mut rib);
    rib.reconfigure(id, settings(2, &[V4]));
    assert_eq!(
        transmits(&mut rib),
        [(V4, announcement("0.0.0.0/0", ours("10.0.0.1")))]
    );

    let mark = Rule {
        changes: Changes {
            add_communities: vec![Community::new(7, 7)],
            ..Changes::default()
        },
        ..Rule::new(Match::default(), RuleAction::Accept)
    };
    let mut marked = settings(2, &[V4]);
    marked.routing.export.default_policy = Policy::rules([mark.named("mark")], Verdict::Reject);
    rib.reconfigure(id, marked.clone());
    let expected = Attributes {
        communities: vec![Community::new(7, 7)],
        ..ours("10.0.0.1")
    };
    assert_eq!(transmits(&mut rib), [(V4, announcement("0.0.0.0/0", expected))]);
    let explained = rib.explain_export(id, net("0.0.0.0/0")).unwrap().unwrap();
    assert_eq!(explained.to_string(), "accepted by rule 1 \"mark\"");

    marked.routing.export.default_policy = Policy::Reject;
    rib.reconfigure(id, marked);
    let withdrawal = Outgoing::Withdraw {
        prefixes: vec![net("0.0.0.0/0")],
        path_ids: Vec::new(),
    };
    assert_eq!(transmits(&mut rib), [(V4, withdrawal.clone())]);
    rib.reconfigure(id, settings(2, &[V4]));
    transmits(&mut rib);

    // With the end of it, the one of the table counts again, if the policy lets it.
    rib.reconfigure(id, settings(2, &[]));
    assert_eq!(transmits(&mut rib), [(V4, withdrawal)]);
    rib.peer_down(id, FamilySet::EMPTY);
    assert_eq!(rib.places(V4), 0, "nothing stays in store");
}

#[test]
fn with_add_path_it_is_the_only_path() {
    let mut rib = rib();
    let mut sender = settings(2, &[]);
    sender.add_path_receive = [V4].into_iter().collect();
    let sender = rib.peer_up(sender);
    let mut peer = settings(3, &[V4]);
    (peer.add_path_send, peer.export) = ([V4].into_iter().collect(), Policy::Accept);
    let id = rib.peer_up(peer);
    for path_id in 1..3 {
        let mut attributes = ours("10.0.0.2");
        attributes.as_path = AsPath::sequence([65002]);
        rib.update_paths(sender, attributes, [(net("0.0.0.0/0"), path_id)]);
    }
    let mut listener = Listener::default();
    listener.hear_all(&mut rib);
    assert_eq!(told(&rib, id, V4), [(net("0.0.0.0/0"), ours("10.0.0.1"))]);
    assert!(listener.paths[&id].values().eq([&ours("10.0.0.1")]));
    assert_eq!(listener.idle_messages, 0);
}

#[test]
fn peers_with_it_share_a_group() {
    let mut rib = rib();
    for last in 2..6 {
        rib.peer_up(settings(last, if last < 4 { &[V4] } else { &[] }));
    }
    // One of each kind for IPv4, and one for IPv6, where none is told a default route.
    assert_eq!(rib.totals().groups, 3);
}
