//! What we write is what is read again, in messages that are not too long.

use bgpd::wire::{
    AS_TRANS, Aggregator, AsPath, Attributes, Codec, Community, EncodeError, ExtendedCommunity, Family,
    LargeCommunity, Message, NextHop, Origin, Prefix, Segment, SegmentKind, UnknownAttribute, decode,
    encode_announcement, encode_end_of_rib, encode_withdrawal, frame,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{codec, messages, prefix, update};

fn announce(attributes: &Attributes, prefixes: &[Prefix], codec: Codec) -> Vec<u8> {
    let mut octets = Vec::new();
    encode_announcement(attributes, prefixes, codec, &mut octets).unwrap();
    octets
}

fn plain(next_hop: &str) -> Attributes {
    let address: std::net::IpAddr = next_hop.parse().unwrap();
    Attributes {
        as_path: AsPath::sequence([65001]),
        ..Attributes::originated(address.into())
    }
}

/// The announced prefixes and attributes of a stream of any number of UPDATEs.
fn read(octets: &[u8], codec: Codec) -> (Vec<Attributes>, Vec<Prefix>, Vec<Prefix>) {
    let messages = messages(octets, codec);
    let updates: Vec<_> = messages.iter().map(update).collect();
    assert!(
        updates.iter().all(|update| update.faults.is_empty()),
        "{updates:?}"
    );
    let announced = updates.iter().flat_map(|update| &update.announced);
    let mut attributes: Vec<Attributes> = announced.clone().map(|a| a.attributes.clone()).collect();
    attributes.dedup();
    let prefixes = announced
        .flat_map(|announcement| announcement.prefixes.clone())
        .collect();
    (
        attributes,
        prefixes,
        updates
            .iter()
            .flat_map(|update| update.withdrawn.clone())
            .collect(),
    )
}

#[test]
fn long_announcements_are_split_at_the_limit() {
    let v4: Vec<Prefix> = (0..5000u32)
        .map(|n| IpNet::V4(Ipv4Net::new((0x0a00_0000 + n * 256).into(), 24).unwrap()))
        .collect();
    let v6: Vec<Prefix> = (0..5000u128)
        .map(|n| IpNet::V6(Ipv6Net::new((0x2001_0db8 << 96 | n << 64).into(), 64).unwrap()))
        .collect();
    for extended_message in [false, true] {
        let codec = Codec {
            extended_message,
            ..codec()
        };
        for (prefixes, next_hop) in [(&v4, "10.0.0.1"), (&v6, "fd00::1")] {
            let octets = announce(&plain(next_hop), prefixes, codec);
            let (attributes, announced, _) = read(&octets, codec);
            assert_eq!(
                (attributes.as_slice(), &announced),
                (&[plain(next_hop)][..], prefixes)
            );
            let mut withdrawals = Vec::new();
            encode_withdrawal(prefixes, codec, &mut withdrawals);
            assert_eq!(&read(&withdrawals, codec).2, prefixes);
            for octets in [&octets, &withdrawals] {
                let first = frame(octets, codec).unwrap().unwrap();
                let limit = codec.message_max_bytes();
                let whole = octets.len() <= limit;
                assert!(
                    first <= limit && (whole || first > limit - 17),
                    "{first} of {limit}"
                );
            }
        }
    }
}

#[test]
fn attributes_that_fill_a_message_are_refused() {
    let mut attributes = plain("10.0.0.1");
    attributes.communities = (0..1100).map(Community).collect();
    let mut octets = Vec::new();
    let result = encode_announcement(&attributes, &[prefix("10.0.0.0/8")], codec(), &mut octets);
    assert!(
        matches!(
            result,
            Err(EncodeError::TooLong {
                message_max_bytes: 4096,
                ..
            })
        ) && octets.is_empty()
    );
    let extended = Codec {
        extended_message: true,
        ..codec()
    };
    assert_eq!(
        read(
            &announce(&attributes, &[prefix("10.0.0.0/8")], extended),
            extended
        )
        .0,
        [attributes]
    );
    let result = encode_announcement(&plain("10.0.0.1"), &[prefix("fd00::/8")], codec(), &mut octets);
    assert_eq!(result, Err(EncodeError::NextHopFamily));
}

#[test]
fn ends_of_rib_are_read_as_such() {
    for family in Family::ALL {
        let mut octets = Vec::new();
        encode_end_of_rib(family, &mut octets);
        let messages = messages(&octets, codec());
        assert_eq!(update(&messages[0]).end_of_rib, Some(family));
    }
}

/// RFC 6793: the AS_PATH of an old speaker has AS_TRANS, and AS4_PATH has the rest.
#[test]
fn four_octet_ases_pass_through_old_speakers() {
    let old = Codec {
        four_octet_as: false,
        ..codec()
    };
    let mut attributes = plain("10.0.0.1");
    attributes.as_path = AsPath::sequence([65001, 4_200_000_001, 65002, 4_200_000_002]);
    attributes.aggregator = Some(Aggregator {
        asn: 4_200_000_002,
        router_id: [10, 0, 0, 9].into(),
    });
    let octets = announce(&attributes, &[prefix("10.0.0.0/8")], old);
    let trans = (AS_TRANS as u16).to_be_bytes();
    assert!(
        octets
            .windows(8)
            .any(|window| window == [&[0xfd, 0xe9][..], &trans, &[0xfd, 0xea], &trans].concat())
    );
    assert_eq!(read(&octets, old).0, [attributes.clone()]);
    // An old speaker in between has prepended its own AS to AS_PATH alone.
    let longer = |octets: &[u8]| {
        let at = octets.windows(4).position(|w| w == [0x40, 2, 10, 2]).unwrap();
        let mut longer = octets[..at].to_vec();
        longer.extend([0x40, 2, 12, 2, 5, 0xfd, 0xf3]);
        longer.extend(&octets[at + 5..]);
        let length = longer.len() as u8;
        longer[17] = length;
        longer[22] += 2;
        longer
    };
    let prepended = longer(&octets);
    assert_eq!(
        read(&prepended, old).0[0].as_path.to_string(),
        "65011 65001 4200000001 65002 4200000002"
    );
}

/// RFC 6793 section 4.2.3: AGGREGATOR says that AS4_PATH is old only where AS4_AGGREGATOR is there too.
#[test]
fn an_aggregator_of_two_octets_does_not_cost_the_path() {
    let old = Codec {
        four_octet_as: false,
        ..codec()
    };
    let mut attributes = plain("10.0.0.1");
    attributes.as_path = AsPath::sequence([65001, 4_200_000_001]);
    attributes.aggregator = Some(Aggregator {
        asn: 65001,
        router_id: [10, 0, 0, 9].into(),
    });
    let mut octets = announce(&attributes, &[prefix("10.0.0.0/8")], old);
    assert_eq!(read(&octets, old).0, [attributes.clone()]);
    // With AS4_AGGREGATOR, somebody aggregated after the last four-octet speaker.
    let as4_aggregator = [0xc0, 18, 8, 0xfa, 0x56, 0xea, 1, 10, 0, 0, 9];
    octets.splice(octets.len() - 2..octets.len() - 2, as4_aggregator);
    octets[17] += as4_aggregator.len() as u8;
    octets[22] += as4_aggregator.len() as u8;
    attributes.as_path = AsPath::sequence([65001, AS_TRANS]);
    assert_eq!(read(&octets, old).0, [attributes]);
}

/// RFC 4271 section 5: nobody takes a partial bit off again.
#[test]
fn partial_bits_stay() {
    let mut attributes = plain("10.0.0.1");
    attributes.communities = vec![Community::NO_EXPORT];
    attributes.otc = Some(65001);
    let octets = announce(&attributes, &[prefix("10.0.0.0/8")], codec());
    let at = octets.windows(3).position(|w| w == [0xc0, 8, 4]).unwrap();
    let mut partial = octets.clone();
    partial[at] |= 0x20;
    let read = read(&partial, codec()).0.remove(0);
    assert!(read.partial.contains(8) && !read.partial.contains(35));
    assert_eq!(announce(&read, &[prefix("10.0.0.0/8")], codec()), partial);
    // An attribute that we know without reading it gets no partial bit from us.
    let known = [
        0xc0, 25, 20, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    for flags in [0xc0, 0xe0] {
        let mut octets = announce(&plain("10.0.0.1"), &[prefix("10.0.0.0/8")], codec());
        let end = octets.len() - 2;
        octets.splice(end..end, known);
        octets[end] = flags;
        octets[17] += known.len() as u8;
        octets[22] += known.len() as u8;
        let read = self::read(&octets, codec()).0.remove(0);
        assert_eq!(announce(&read, &[prefix("10.0.0.0/8")], codec()), octets);
    }
}

/// RFC 9774 section 3.
#[test]
fn routes_with_sets_are_neither_sent_nor_taken() {
    let strict = Codec {
        as_sets: false,
        ..codec()
    };
    let mut attributes = plain("10.0.0.1");
    attributes.as_path.segments.push(Segment {
        kind: SegmentKind::Set,
        ases: vec![65002, 65003],
    });
    let route = [prefix("10.0.0.0/8")];
    let refused = encode_announcement(&attributes, &route, strict, &mut Vec::new());
    assert_eq!(refused, Err(EncodeError::AsSet));
    let octets = announce(&attributes, &route, codec());
    let Ok(Message::Update(update)) = decode(&octets, strict) else {
        panic!("not reset")
    };
    assert_eq!((update.withdrawn, update.announced.len()), (route.to_vec(), 0));
    // As many ASes in front as wanted, in segments of at most 255.
    let mut path = attributes.as_path.clone();
    path.prepend(65009, 600);
    let lengths: Vec<usize> = path.segments.iter().map(|segment| segment.ases.len()).collect();
    assert_eq!(lengths, [91, 255, 255, 2]);
    assert_eq!((path.hop_count(), path.neighbor_as()), (602, Some(65009)));
}

#[test]
fn a_message_may_announce_both_families() {
    let v4 = announce(&plain("10.0.0.1"), &[prefix("10.0.0.0/8")], codec());
    let v6 = announce(&plain("fd00::1"), &[prefix("2001:db8::/32")], codec());
    // The MP_REACH_NLRI of the second, put in front of the attributes of the first.
    let mp_length = 4 + 5 + 16 + 5;
    let mut both = v4[..23].to_vec();
    both.extend(&v6[23..23 + mp_length]);
    both.extend(&v4[23..]);
    both[17] += mp_length as u8;
    both[22] += mp_length as u8;
    let messages = messages(&both, codec());
    let announced = &update(&messages[0]).announced;
    let shown: Vec<_> = announced
        .iter()
        .map(|a| (a.attributes.next_hop.to_string(), a.prefixes.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("10.0.0.1".to_owned(), vec![prefix("10.0.0.0/8")]),
            ("fd00::1".to_owned(), vec![prefix("2001:db8::/32")])
        ]
    );
}

fn any_asn() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..65536, 1u32..]
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let kind = prop_oneof![Just(SegmentKind::Sequence), Just(SegmentKind::Set)];
    (kind, vec(any_asn(), 1..6)).prop_map(|(kind, ases)| Segment { kind, ases })
}

prop_compose! {
    fn any_unknown()(code in 40u8..=255, value in vec(any::<u8>(), 0..400)) -> UnknownAttribute {
        UnknownAttribute { flags: 0xe0, code, value: value.into() }
    }
}

fn any_v4() -> impl Strategy<Value = Prefix> {
    (any::<u32>(), 0u8..=32)
        .prop_map(|(address, length)| IpNet::V4(Ipv4Net::new(address.into(), length).unwrap().trunc()))
}

fn any_v6() -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0u8..=128)
        .prop_map(|(address, length)| IpNet::V6(Ipv6Net::new(address.into(), length).unwrap().trunc()))
}

/// A next hop and prefixes that go with it.
pub(crate) fn any_routes() -> impl Strategy<Value = (NextHop, Vec<Prefix>)> {
    let v4 = (any::<[u8; 3]>(), vec(any_v4(), 1..60))
        .prop_map(|([b, c, d], prefixes)| (NextHop::V4([10, b, c, d].into()), prefixes));
    let v6 = (any::<[u16; 6]>(), any::<Option<u64>>(), vec(any_v6(), 1..60)).prop_map(
        |(rest, local, prefixes)| {
            let [a, b, c, d, e, f] = rest;
            let link_local = local.map(|local| (0xfe80u128 << 112 | u128::from(local)).into());
            (
                NextHop::V6 {
                    global: [0x2001, 0xdb8, a, b, c, d, e, f].into(),
                    link_local,
                },
                prefixes,
            )
        },
    );
    prop_oneof![v4, v6]
}

prop_compose! {
    pub(crate) fn any_attributes()(
        origin in prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)],
        segments in vec(any_segment(), 0..4),
        (med, local_pref, atomic_aggregate) in any::<(Option<u32>, Option<u32>, bool)>(),
        aggregator in prop::option::of((any_asn(), any::<[u8; 4]>())),
        communities in vec(any::<u32>(), 0..80),
        originator in prop::option::of(any::<[u8; 4]>()),
        clusters in vec(any::<[u8; 4]>(), 0..4),
        extended in vec(any::<[u8; 8]>(), 0..4),
        large in vec(any::<(u32, u32, u32)>(), 0..4),
        otc in any::<Option<u32>>(),
        unknown in vec(any_unknown(), 0..3),
    ) -> Attributes {
        let mut unknown: Vec<UnknownAttribute> = unknown;
        unknown.sort_by_key(|attribute| attribute.code);
        unknown.dedup_by_key(|attribute| attribute.code);
        Attributes {
            origin,
            as_path: AsPath { segments },
            next_hop: NextHop::unspecified(Family::Ipv4Unicast),
            med,
            local_pref,
            atomic_aggregate,
            aggregator: aggregator.map(|(asn, id)| Aggregator { asn, router_id: id.into() }),
            communities: communities.into_iter().map(Community).collect(),
            originator_id: originator.map(Into::into),
            cluster_list: clusters.into_iter().map(Into::into).collect(),
            extended_communities: extended.into_iter().map(ExtendedCommunity).collect(),
            large_communities: large
                .into_iter()
                .map(|(global, local1, local2)| LargeCommunity { global, local1, local2 })
                .collect(),
            otc,
            partial: Default::default(),
            unknown,
            weight: None,
            interface: None,
        }
    }
}

proptest! {
    #[test]
    fn every_announcement_reads_as_it_was_written(
        attributes in any_attributes(),
        (next_hop, prefixes) in any_routes(),
        extended_message in any::<bool>(),
    ) {
        let attributes = Attributes { next_hop, ..attributes };
        let codec = Codec { extended_message, external: false, ..codec() };
        let (read_attributes, announced, withdrawn) = read(&announce(&attributes, &prefixes, codec), codec);
        prop_assert_eq!(read_attributes, vec![attributes.clone()]);
        prop_assert_eq!(&announced, &prefixes);
        prop_assert!(withdrawn.is_empty());
        // To another AS goes what may leave ours.
        let external = Codec { external: true, ..codec };
        let (read_attributes, ..) = read(&announce(&attributes, &prefixes, external), external);
        let outside =
            Attributes { local_pref: None, originator_id: None, cluster_list: Vec::new(), ..attributes };
        prop_assert_eq!(read_attributes, vec![outside]);
    }

    /// A path of sequences survives an old speaker whole.
    #[test]
    fn sequences_pass_through_old_speakers(
        ases in vec(any_asn().prop_filter("AS_TRANS itself is ambiguous", |asn| *asn != AS_TRANS), 1..300),
    ) {
        let old = Codec { four_octet_as: false, ..codec() };
        let attributes = Attributes { as_path: AsPath::sequence(ases), ..plain("10.0.0.1") };
        prop_assert_eq!(read(&announce(&attributes, &[prefix("10.0.0.0/8")], old), old).0, vec![attributes]);
    }

    /// A message with one octet changed is read, refused or treated as a withdrawal, never a panic; and
    /// what a fault withdraws is never announced as well.
    #[test]
    fn a_changed_octet_is_survived(
        attributes in any_attributes(),
        (next_hop, prefixes) in any_routes(),
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
        external in any::<bool>(),
    ) {
        let attributes = Attributes { next_hop, ..attributes };
        let codec = Codec { external, ..codec() };
        let mut octets = announce(&attributes, &prefixes, codec);
        let length = frame(&octets, codec).unwrap().unwrap();
        octets.truncate(length);
        let at = 19 + at.index(length - 19);
        octets[at] = octet;
        if let Ok(Message::Update(update)) = decode(&octets, codec) {
            let withdrawn = update.faults.iter().any(|fault| fault.withdrawn);
            prop_assert!(!withdrawn || update.announced.is_empty());
            prop_assert!(update.announced.iter().all(|announcement| !announcement.prefixes.is_empty()));
        }
    }
}
