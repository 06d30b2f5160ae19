//! What BIRD 2.0.12, FRR 8.4.4 and GoBGP 3.10 sent to a neighbour, captured by `goldens/capture.sh`.
//! What is expected here is what `tshark -V` shows of the same packets.

use bgpd::wire::{
    Aggregator, AttributeFault, Attributes, Community, ExtendedCommunity, Family, LargeCommunity, Message,
    NextHop, Open, Origin, SegmentKind, Update,
};

use crate::{codec, messages, prefix, update};

fn stream(hex: &str) -> Vec<Message> {
    let digits: Vec<u8> = hex
        .trim()
        .bytes()
        .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
        .collect();
    let octets: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    messages(&octets, codec())
}

fn open(messages: &[Message]) -> &Open {
    let Message::Open(open) = &messages[0] else {
        unreachable!("{:?} is no OPEN", messages[0])
    };
    assert_eq!((open.asn, open.router_id), (4_200_000_002, [10, 0, 0, 2].into()));
    assert_eq!(open.capabilities.four_octet_as, Some(4_200_000_002));
    assert!(open.capabilities.route_refresh);
    open
}

/// The announcements of a stream, in which nothing is wrong.
fn announced(messages: &[Message]) -> Vec<(&Attributes, Vec<String>)> {
    let updates = messages
        .iter()
        .filter(|message| matches!(message, Message::Update(_)))
        .map(update);
    let faults: Vec<&AttributeFault> = updates.clone().flat_map(|update| &update.faults).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let announced = updates.flat_map(|update| &update.announced);
    announced
        .map(|a| {
            (
                &a.attributes,
                a.prefixes.iter().map(ToString::to_string).collect(),
            )
        })
        .collect()
}

fn ends_of_rib(messages: &[Message]) -> Vec<Family> {
    let end = |message: &Message| match message {
        Message::Update(Update { end_of_rib, .. }) => *end_of_rib,
        _ => None,
    };
    messages.iter().filter_map(end).collect()
}

const TAGS: [Community; 2] = [Community::new(65000, 1), Community::NO_EXPORT];
const LARGE: LargeCommunity = LargeCommunity {
    global: 4_200_000_002,
    local1: 7,
    local2: 8,
};
const TARGET: ExtendedCommunity = ExtendedCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 99]);

#[test]
fn bird() {
    for (hex, family, prefixes) in [
        (
            include_str!("goldens/bird-v4.hex"),
            Family::Ipv4Unicast,
            vec!["0.0.0.0/0", "198.51.100.0/24", "203.0.113.128/25"],
        ),
        (
            include_str!("goldens/bird-v6.hex"),
            Family::Ipv6Unicast,
            vec!["2001:db8:3::/52", "2001:db8:2::/48"],
        ),
    ] {
        let messages = stream(hex);
        let open = open(&messages);
        assert_eq!(
            (
                open.hold_time_s,
                open.capabilities.families.iter().collect::<Vec<_>>()
            ),
            (240, vec![family])
        );
        let restart = open.capabilities.graceful_restart.as_ref().unwrap();
        assert!(restart.families.is_empty() && !restart.restarted && restart.restart_time_s == 120);
        assert!(open.capabilities.enhanced_route_refresh && open.capabilities.unknown.is_empty());
        assert!(
            open.capabilities.long_lived.is_empty(),
            "offered, but for no family"
        );
        assert_eq!(messages[1], Message::Keepalive);
        let announced = announced(&messages);
        let [(attributes, shown)] = announced.as_slice() else {
            panic!("{announced:?}")
        };
        assert_eq!(*shown, prefixes);
        assert_eq!(attributes.as_path.to_string(), "4200000002 4200000009 65010");
        assert_eq!(
            (attributes.origin, attributes.med),
            (Origin::Incomplete, Some(77))
        );
        assert_eq!(
            (
                attributes.communities.as_slice(),
                attributes.large_communities.as_slice()
            ),
            (&TAGS[..], &[LARGE][..])
        );
        assert_eq!(attributes.extended_communities, [TARGET]);
        match attributes.next_hop {
            NextHop::V4(address) => assert_eq!(address.to_string(), "10.0.0.2"),
            NextHop::V6 { global, link_local } => {
                assert_eq!(global.to_string(), "fd00::2");
                assert!(link_local.unwrap().is_unicast_link_local());
            }
        }
        assert_eq!(ends_of_rib(&messages), [family]);
        let Some(Message::Notification(cease)) = messages.last() else {
            panic!()
        };
        assert_eq!((cease.code, cease.subcode), (6, 2));
    }
}

#[test]
fn frr() {
    let messages = stream(include_str!("goldens/frr-v4.hex"));
    let open = open(&messages);
    assert!(open.capabilities.extended_message && open.hold_time_s == 180);
    let announced = announced(&messages);
    let [(host, host_prefixes), (aggregate, aggregate_prefixes)] = announced.as_slice() else {
        panic!("{announced:?}")
    };
    assert_eq!(*host_prefixes, ["198.51.100.0/24", "203.0.113.1/32"]);
    assert_eq!(*aggregate_prefixes, ["203.0.112.0/20"]);
    assert_eq!(
        (host.origin, host.as_path.to_string().as_str()),
        (Origin::Igp, "4200000002 65010")
    );
    assert!(!host.atomic_aggregate && aggregate.atomic_aggregate);
    let by = Aggregator {
        asn: 4_200_000_002,
        router_id: [10, 0, 0, 2].into(),
    };
    assert_eq!((host.aggregator, aggregate.aggregator), (None, Some(by)));
    assert_eq!(
        (host.communities.as_slice(), host.large_communities.as_slice()),
        (&TAGS[..], &[LARGE][..])
    );

    let messages = stream(include_str!("goldens/frr-v6.hex"));
    assert_eq!(ends_of_rib(&messages), [Family::Ipv6Unicast]);
    let announced = self::announced(&messages);
    let [(attributes, prefixes)] = announced.as_slice() else {
        panic!("{announced:?}")
    };
    assert_eq!(
        (attributes.next_hop.to_string().as_str(), attributes.med),
        ("fd00::2", Some(77))
    );
    assert_eq!(*prefixes, ["2001:db8:2::/48"]);
}

#[test]
fn gobgp() {
    let messages = stream(include_str!("goldens/gobgp-v4.hex"));
    let open = open(&messages);
    assert_eq!(open.capabilities.families, Family::ALL.into_iter().collect());
    assert_eq!(
        open.capabilities
            .graceful_restart
            .as_ref()
            .unwrap()
            .restart_time_s,
        90
    );
    let mut ends = ends_of_rib(&messages);
    ends.sort();
    assert_eq!(ends, Family::ALL);
    let announced = announced(&messages);
    let (v4, v4_prefixes) = announced
        .iter()
        .find(|(a, _)| matches!(a.next_hop, NextHop::V4(_)))
        .unwrap();
    assert_eq!(*v4_prefixes, [prefix("198.51.100.0/24").to_string()]);
    assert_eq!(v4.as_path.to_string(), "4200000002 65010 {65011,4200000012}");
    assert_eq!(v4.as_path.segments[1].kind, SegmentKind::Set);
    assert_eq!(
        (v4.as_path.hop_count(), v4.as_path.neighbor_as()),
        (3, Some(4_200_000_002))
    );
    assert_eq!(
        (v4.origin, v4.med, v4.aggregator.unwrap().asn),
        (Origin::Egp, Some(77), 4_200_000_002)
    );
    assert_eq!(v4.extended_communities, [TARGET]);
    let (v6, v6_prefixes) = announced
        .iter()
        .find(|(a, _)| matches!(a.next_hop, NextHop::V6 { .. }))
        .unwrap();
    assert_eq!(
        (v6.next_hop.to_string().as_str(), v6_prefixes.as_slice()),
        ("fd00::2", &["2001:db8:2::/48".to_owned()][..])
    );
    let Some(Message::Notification(cease)) = messages.last() else {
        panic!()
    };
    assert_eq!(
        (cease.code, cease.subcode, cease.to_string().as_str()),
        (6, 3, "peer de-configured (6/3)")
    );
}
