//! RFC 7606: each attribute, each way to be wrong, and what comes of it.

use bgpd::wire::{Message, Notification, Update, decode};

use crate::{codec, prefix};

/// What came of a message.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Discarded(u8),
    Withdrawn(u8),
    Reset(u8, u8),
}

pub(crate) const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
pub(crate) const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea];
pub(crate) const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 2];
pub(crate) const NLRI: &[u8] = &[24, 203, 0, 113];
pub(crate) const MP_REACH: &[u8] = &[
    0x80, 14, 26, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 32, 0x20, 1, 0xd, 0xb8,
];
pub(crate) const MP_UNREACH: &[u8] = &[0x80, 15, 8, 0, 2, 1, 32, 0x20, 1, 0xd, 0xb8];

pub(crate) fn message(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut octets = vec![0xff; 16];
    octets.extend([0, 0, 2]);
    octets.extend((withdrawn.len() as u16).to_be_bytes());
    octets.extend(withdrawn);
    octets.extend((attributes.len() as u16).to_be_bytes());
    octets.extend(attributes);
    octets.extend(nlri);
    let length = (octets.len() as u16).to_be_bytes();
    octets[16..18].copy_from_slice(&length);
    octets
}

fn read(octets: &[u8], external: bool) -> Result<Update, Notification> {
    let codec = bgpd::wire::Codec { external, ..codec() };
    decode(octets, codec).map(|message| match message {
        Message::Update(update) => update,
        other => unreachable!("{other:?}"),
    })
}

/// Reads a message whose routes are 203.0.113.0/24, and checks that they fare alike.
fn outcome(octets: &[u8], external: bool) -> Outcome {
    let update = match read(octets, external) {
        Err(notification) => return Outcome::Reset(notification.code, notification.subcode),
        Ok(update) => update,
    };
    let announced: Vec<_> = update.announced.iter().flat_map(|a| a.prefixes.clone()).collect();
    let route = vec![prefix("203.0.113.0/24")];
    match update.faults.as_slice() {
        [] => {
            assert_eq!((announced, update.withdrawn), (route, vec![]));
            Outcome::Accepted
        }
        [fault] if fault.withdrawn => {
            assert_eq!((announced, update.withdrawn), (vec![], route));
            Outcome::Withdrawn(fault.code)
        }
        [fault] => {
            assert_eq!((announced, update.withdrawn), (route, vec![]));
            Outcome::Discarded(fault.code)
        }
        faults => unreachable!("{faults:?}"),
    }
}

/// A good message with one more attribute.
fn with(attribute: &[u8]) -> Vec<u8> {
    message(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute], NLRI)
}

#[test]
fn every_attribute_has_its_outcome() {
    use Outcome::{Accepted, Discarded, Reset, Withdrawn};
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        (
            "nothing wrong",
            message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], NLRI),
            Accepted,
        ),
        (
            "another order",
            message(&[], &[NEXT_HOP, AS_PATH, ORIGIN], NLRI),
            Accepted,
        ),
        (
            "extended length",
            message(&[], &[&[0x50, 1, 0, 1, 0], AS_PATH, NEXT_HOP], NLRI),
            Accepted,
        ),
        (
            "no ORIGIN",
            message(&[], &[AS_PATH, NEXT_HOP], NLRI),
            Withdrawn(1),
        ),
        (
            "no AS_PATH",
            message(&[], &[ORIGIN, NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "no NEXT_HOP",
            message(&[], &[ORIGIN, AS_PATH], NLRI),
            Withdrawn(3),
        ),
        (
            "ORIGIN 3",
            message(&[], &[&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP], NLRI),
            Withdrawn(1),
        ),
        (
            "ORIGIN empty",
            message(&[], &[&[0x40, 1, 0], AS_PATH, NEXT_HOP], NLRI),
            Withdrawn(1),
        ),
        (
            "ORIGIN of two octets",
            message(&[], &[&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP], NLRI),
            Withdrawn(1),
        ),
        (
            "ORIGIN optional",
            message(&[], &[&[0xc0, 1, 1, 0], AS_PATH, NEXT_HOP], NLRI),
            Withdrawn(1),
        ),
        ("ORIGIN twice", with(&[0x40, 1, 1, 2]), Discarded(1)),
        (
            "AS_PATH empty",
            message(&[], &[ORIGIN, &[0x40, 2, 0], NEXT_HOP], NLRI),
            Accepted,
        ),
        (
            "AS_PATH segment 9",
            message(&[], &[ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 1, 1], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH overrun",
            message(&[], &[ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 1, 1], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH underrun",
            message(&[], &[ORIGIN, &[0x40, 2, 7, 2, 1, 0, 0, 1, 1, 2], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH empty segment",
            message(&[], &[ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH AS 0",
            message(&[], &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH confederation",
            message(&[], &[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 1, 1], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "AS_PATH optional",
            message(&[], &[ORIGIN, &[0x80, 2, 0], NEXT_HOP], NLRI),
            Withdrawn(2),
        ),
        (
            "NEXT_HOP of three octets",
            message(&[], &[ORIGIN, AS_PATH, &[0x40, 3, 3, 10, 0, 0]], NLRI),
            Withdrawn(3),
        ),
        (
            "NEXT_HOP 0.0.0.0",
            message(&[], &[ORIGIN, AS_PATH, &[0x40, 3, 4, 0, 0, 0, 0]], NLRI),
            Withdrawn(3),
        ),
        (
            "NEXT_HOP multicast",
            message(&[], &[ORIGIN, AS_PATH, &[0x40, 3, 4, 224, 0, 0, 1]], NLRI),
            Withdrawn(3),
        ),
        ("MED", with(&[0x80, 4, 4, 0, 0, 0, 1]), Accepted),
        ("MED of three octets", with(&[0x80, 4, 3, 0, 0, 1]), Withdrawn(4)),
        ("MED transitive", with(&[0xc0, 4, 4, 0, 0, 0, 1]), Withdrawn(4)),
        ("LOCAL_PREF from another AS", with(&[0x40, 5, 1, 0]), Accepted),
        ("ATOMIC_AGGREGATE", with(&[0x40, 6, 0]), Accepted),
        (
            "ATOMIC_AGGREGATE with a value",
            with(&[0x40, 6, 1, 0]),
            Discarded(6),
        ),
        (
            "AGGREGATOR",
            with(&[0xc0, 7, 8, 0, 0, 0xfd, 0xea, 10, 0, 0, 2]),
            Accepted,
        ),
        (
            "AGGREGATOR of six octets",
            with(&[0xc0, 7, 6, 0xfd, 0xea, 10, 0, 0, 2]),
            Discarded(7),
        ),
        (
            "AGGREGATOR AS 0",
            with(&[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 2]),
            Discarded(7),
        ),
        ("COMMUNITIES", with(&[0xc0, 8, 4, 0xfd, 0xe8, 0, 1]), Accepted),
        (
            "COMMUNITIES partial",
            with(&[0xe0, 8, 4, 0xfd, 0xe8, 0, 1]),
            Accepted,
        ),
        (
            "COMMUNITIES of six octets",
            with(&[0xc0, 8, 6, 0xfd, 0xe8, 0, 1, 0, 0]),
            Withdrawn(8),
        ),
        ("COMMUNITIES empty", with(&[0xc0, 8, 0]), Withdrawn(8)),
        (
            "COMMUNITIES not transitive",
            with(&[0x80, 8, 4, 0xfd, 0xe8, 0, 1]),
            Withdrawn(8),
        ),
        (
            "ORIGINATOR_ID from another AS",
            with(&[0x80, 9, 3, 1, 1, 1]),
            Accepted,
        ),
        (
            "CLUSTER_LIST from another AS",
            with(&[0x80, 10, 3, 1, 1, 1]),
            Accepted,
        ),
        (
            "EXTENDED COMMUNITIES",
            with(&[0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 1]),
            Accepted,
        ),
        (
            "EXTENDED COMMUNITIES of seven octets",
            with(&[0xc0, 16, 7, 0, 2, 0, 1, 0, 0, 0]),
            Withdrawn(16),
        ),
        ("EXTENDED COMMUNITIES empty", with(&[0xc0, 16, 0]), Withdrawn(16)),
        ("AS4_PATH from a new speaker", with(&[0xc0, 17, 1, 9]), Accepted),
        (
            "AS4_AGGREGATOR from a new speaker",
            with(&[0xc0, 18, 1, 9]),
            Accepted,
        ),
        (
            "LARGE_COMMUNITY",
            with(&[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
            Accepted,
        ),
        (
            "LARGE_COMMUNITY of eleven octets",
            with(&[0xc0, 32, 11, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]),
            Withdrawn(32),
        ),
        ("LARGE_COMMUNITY empty", with(&[0xc0, 32, 0]), Withdrawn(32)),
        ("unknown optional", with(&[0x80, 99, 1, 1]), Accepted),
        ("unknown optional transitive", with(&[0xc0, 99, 1, 1]), Accepted),
        ("unknown well-known", with(&[0x40, 99, 1, 1]), Reset(3, 2)),
        (
            "an attribute too long for the list",
            with(&[0x80, 99, 9, 1]),
            Withdrawn(0),
        ),
        ("half an attribute header", with(&[0x80, 99]), Withdrawn(0)),
        (
            "MP_REACH_NLRI twice",
            message(&[], &[MP_REACH, ORIGIN, AS_PATH, MP_REACH], &[]),
            Reset(3, 1),
        ),
        (
            "MP_UNREACH_NLRI twice",
            message(&[], &[MP_UNREACH, MP_UNREACH], &[]),
            Reset(3, 1),
        ),
        (
            "MP_REACH_NLRI cut off",
            with(&[0x80, 14, 3, 0, 2, 1]),
            Reset(3, 9),
        ),
        (
            "MP_REACH_NLRI with a next hop of 15 octets",
            with(&[&[0x80, 14, 20, 0, 2, 1, 15][..], &[1; 16]].concat()),
            Reset(3, 9),
        ),
        (
            "MP_UNREACH_NLRI with a prefix of 129 bits",
            with(&[&[0x80, 15, 21, 0, 2, 1, 129][..], &[1; 17]].concat()),
            Reset(3, 9),
        ),
        ("MP_UNREACH_NLRI cut off", with(&[0x80, 15, 2, 0, 2]), Reset(3, 9)),
        (
            "MP_REACH_NLRI of a family that nobody asked for",
            with(&[0x80, 14, 5, 0, 25, 65, 0, 0]),
            Accepted,
        ),
        (
            "a prefix of 33 bits",
            message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[33, 1, 1, 1, 1, 1]),
            Reset(3, 10),
        ),
        (
            "a prefix cut off",
            message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[24, 1, 1]),
            Reset(3, 10),
        ),
        (
            "a withdrawn prefix cut off",
            message(&[24, 1], &[], &[]),
            Reset(3, 10),
        ),
        (
            "a fault and no routes",
            message(&[], &[&[0x40, 1, 1, 9]], &[]),
            Reset(3, 1),
        ),
    ];
    for (name, octets, expected) in cases {
        assert_eq!(outcome(&octets, true), expected, "{name}");
    }
}

#[test]
fn within_an_as_internal_attributes_count() {
    use Outcome::{Accepted, Withdrawn};
    for (name, attribute, expected) in [
        ("LOCAL_PREF", &[0x40, 5, 4, 0, 0, 0, 200][..], Accepted),
        ("LOCAL_PREF of one octet", &[0x40, 5, 1, 0], Withdrawn(5)),
        ("ORIGINATOR_ID", &[0x80, 9, 4, 1, 1, 1, 1], Accepted),
        (
            "ORIGINATOR_ID of three octets",
            &[0x80, 9, 3, 1, 1, 1],
            Withdrawn(9),
        ),
        ("CLUSTER_LIST", &[0x80, 10, 8, 1, 1, 1, 1, 2, 2, 2, 2], Accepted),
        (
            "CLUSTER_LIST of three octets",
            &[0x80, 10, 3, 1, 1, 1],
            Withdrawn(10),
        ),
        ("CLUSTER_LIST empty", &[0x80, 10, 0], Withdrawn(10)),
    ] {
        assert_eq!(outcome(&with(attribute), false), expected, "{name}");
    }
    let update = read(&with(&[0x40, 5, 4, 0, 0, 0, 200]), false).unwrap();
    assert_eq!(update.announced[0].attributes.local_pref, Some(200));
    let update = read(&with(&[0x40, 5, 4, 0, 0, 0, 200]), true).unwrap();
    assert_eq!(update.announced[0].attributes.local_pref, None);
}

#[test]
fn lengths_that_contradict_each_other_reset() {
    let good = with(&[]);
    for (name, at, value) in [("withdrawn routes", 20, 99), ("attributes", 22, 99)] {
        let mut octets = good.clone();
        octets[at] = value;
        assert_eq!(outcome(&octets, true), Outcome::Reset(3, 1), "{name}");
    }
}

#[test]
fn unknown_attributes_are_passed_on_as_partial() {
    let update = read(&with(&[0xc0, 99, 2, 7, 8]), true).unwrap();
    let [unknown] = update.announced[0].attributes.unknown.as_slice() else {
        panic!()
    };
    assert_eq!(
        (unknown.flags, unknown.code, &*unknown.value),
        (0xe0, 99, &[7, 8][..])
    );
    let update = read(&with(&[0x80, 99, 2, 7, 8]), true).unwrap();
    assert!(update.announced[0].attributes.unknown.is_empty());
}

#[test]
fn withdrawals_of_both_kinds_are_read() {
    let update = read(&message(&[24, 203, 0, 113, 0], &[MP_UNREACH], &[]), true).unwrap();
    let withdrawn: Vec<_> = ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32"]
        .map(prefix)
        .into();
    assert_eq!((update.withdrawn, update.end_of_rib), (withdrawn, None));
}

#[test]
fn a_fault_withdraws_the_routes_of_both_families() {
    let octets = message(&[], &[MP_REACH, &[0x40, 1, 1, 9], AS_PATH, NEXT_HOP], NLRI);
    let update = read(&octets, true).unwrap();
    assert_eq!(update.withdrawn, ["203.0.113.0/24", "2001:db8::/32"].map(prefix));
    assert!(update.announced.is_empty());
}

#[test]
fn host_bits_are_ignored() {
    let update = read(
        &message(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[25, 203, 0, 113, 0xff]),
        true,
    )
    .unwrap();
    assert_eq!(update.announced[0].prefixes, [prefix("203.0.113.128/25")]);
}
