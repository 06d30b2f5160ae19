//! Next hops of MP_REACH_NLRI (RFC 2545, RFC 8950), in the forms of the RFCs and those seen in the wild; and
//! path identifiers (RFC 7911).

use bgpd::wire::{
    AsPath, Attributes, Codec, EncodeError, Family, FamilySet, NextHop, Nlri, Prefix, decode,
    encode_announcement, encode_withdrawal,
};

use crate::faults::{AS_PATH, ORIGIN, message};
use crate::{codec, messages, prefix, update};

const GLOBAL: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const OTHER_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const NONE: [u8; 16] = [0; 16];

/// MP_REACH_NLRI with this next hop and one route of the family.
fn reach(family: Family, next_hop: &[u8]) -> Vec<u8> {
    let mut value = family.afi().to_be_bytes().to_vec();
    value.extend([family.safi(), next_hop.len() as u8]);
    value.extend(next_hop);
    value.push(0);
    match family {
        Family::Ipv4Unicast => value.extend([24, 203, 0, 113]),
        Family::Ipv6Unicast => value.extend([32, 0x20, 1, 0xd, 0xb8]),
    }
    let mut octets = vec![0x80, 14, value.len() as u8];
    octets.extend(value);
    octets
}

/// What is read: `None` if the session is reset, `Some(None)` if the route counts as withdrawn.
fn read(family: Family, next_hop: &[u8], codec: Codec) -> Option<Option<NextHop>> {
    let octets = message(&[], &[&reach(family, next_hop), ORIGIN, AS_PATH], &[]);
    let message = match decode(&octets, codec) {
        Ok(message) => message,
        Err(error) => {
            assert_eq!((error.code, error.subcode), (3, 9));
            return None;
        }
    };
    let update = update(&message);
    let announced = update.announced.first();
    assert_eq!(announced.is_none(), update.withdrawn.len() == 1);
    Some(announced.map(|announcement| announcement.attributes.next_hop))
}

#[test]
fn next_hops_are_read_in_every_form_that_is_seen() {
    let global = NextHop::V6 {
        global: GLOBAL.into(),
        link_local: None,
    };
    let both = NextHop::V6 {
        global: GLOBAL.into(),
        link_local: Some(LOCAL.into()),
    };
    let local = NextHop::link_local(LOCAL.into());
    let multicast = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let two = |first: [u8; 16], second: [u8; 16]| [first, second].concat();
    let rd = [0; 8];
    type Case = (&'static str, Vec<u8>, Option<Option<NextHop>>);
    let cases: [Case; 15] = [
        ("a global address", GLOBAL.to_vec(), Some(Some(global))),
        ("both addresses", two(GLOBAL, LOCAL), Some(Some(both))),
        ("a link-local address alone", LOCAL.to_vec(), Some(Some(local))),
        (
            "a link-local address behind ::",
            two(NONE, LOCAL),
            Some(Some(local)),
        ),
        ("a link-local address twice", two(LOCAL, LOCAL), Some(Some(local))),
        (
            "a link-local address before ::",
            two(LOCAL, NONE),
            Some(Some(local)),
        ),
        (
            "two link-local addresses",
            two(OTHER_LOCAL, LOCAL),
            Some(Some(local)),
        ),
        (
            "a global address before ::",
            two(GLOBAL, NONE),
            Some(Some(global)),
        ),
        ("a global address twice", two(GLOBAL, GLOBAL), Some(Some(global))),
        ("::", NONE.to_vec(), Some(None)),
        (":: twice", two(NONE, NONE), Some(None)),
        ("a multicast address", multicast.to_vec(), Some(None)),
        ("no address", vec![], None),
        (
            "a route distinguisher before it",
            [&rd[..], &GLOBAL].concat(),
            None,
        ),
        (
            "route distinguishers before both",
            [&rd[..], &GLOBAL, &rd[..], &LOCAL].concat(),
            None,
        ),
    ];
    let plain = Codec {
        extended_next_hop: FamilySet::EMPTY,
        ..codec()
    };
    for (name, octets, expected) in cases {
        assert_eq!(read(Family::Ipv6Unicast, &octets, plain), expected, "{name}");
        assert_eq!(
            read(Family::Ipv4Unicast, &octets, codec()),
            expected,
            "{name}, IPv4 routes"
        );
        assert_eq!(
            read(Family::Ipv4Unicast, &octets, plain),
            None,
            "{name}, IPv4 routes without RFC 8950"
        );
    }
    let v4 = Some(Some(NextHop::V4([10, 0, 0, 1].into())));
    for codec in [plain, codec()] {
        assert_eq!(read(Family::Ipv4Unicast, &[10, 0, 0, 1], codec), v4);
        assert_eq!(read(Family::Ipv6Unicast, &[10, 0, 0, 1], codec), None);
    }
}

fn attributes(next_hop: NextHop) -> Attributes {
    Attributes {
        as_path: AsPath::sequence([65001]),
        ..Attributes::originated(next_hop)
    }
}

#[test]
fn ipv4_routes_have_ipv6_next_hops_where_both_ends_offered_it() {
    let local = NextHop::link_local(LOCAL.into());
    let both = NextHop::V6 {
        global: GLOBAL.into(),
        link_local: Some(LOCAL.into()),
    };
    for (next_hop, length) in [(local, 16), (both, 32)] {
        let mut octets = Vec::new();
        let route = [prefix("203.0.113.0/24")];
        encode_announcement(&attributes(next_hop), &route, codec(), &mut octets).unwrap();
        assert_eq!(octets[27..31], [0, 1, 1, length]);
        let messages = messages(&octets, codec());
        let announced = &update(&messages[0]).announced[0];
        assert_eq!(
            (announced.attributes.next_hop, announced.prefixes.as_slice()),
            (next_hop, &route[..])
        );
        let plain = Codec {
            extended_next_hop: FamilySet::EMPTY,
            ..codec()
        };
        let refused = encode_announcement(&attributes(next_hop), &route, plain, &mut Vec::new());
        assert_eq!(refused, Err(EncodeError::ExtendedNextHop));
    }
}

/// Each end says what it takes and sends: path identifiers may go one way, and for one family.
#[test]
fn path_ids_are_there_only_where_they_were_agreed_on() {
    let families = |families: &[Family]| families.iter().copied().collect::<FamilySet>();
    let v4: Vec<Prefix> = ["10.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"].map(prefix).into();
    let v6: Vec<Prefix> = ["2001:db8::/32", "2001:db8:1::/48", "::/0"].map(prefix).into();
    let ids = [1, u32::MAX, 0];
    for agreed in [
        &[][..],
        &[Family::Ipv4Unicast],
        &[Family::Ipv6Unicast],
        &Family::ALL,
    ] {
        let codec = Codec {
            add_path_send: families(agreed),
            add_path_receive: families(agreed),
            ..codec()
        };
        for (prefixes, next_hop) in [
            (&v4, NextHop::V4([10, 0, 0, 1].into())),
            (&v6, NextHop::link_local(LOCAL.into())),
        ] {
            let with_ids = agreed.contains(&Family::of(&prefixes[0]));
            let expected: &[u32] = if with_ids { &ids } else { &[] };
            let nlri = Nlri {
                prefixes,
                path_ids: &ids,
            };
            let mut octets = Vec::new();
            encode_announcement(&attributes(next_hop), nlri, codec, &mut octets).unwrap();
            encode_withdrawal(nlri, codec, &mut octets);
            let messages = messages(&octets, codec);
            let announced = &update(&messages[0]).announced[0];
            assert_eq!(
                (&announced.prefixes, announced.path_ids.as_slice()),
                (prefixes, expected)
            );
            let gone = update(&messages[1]);
            assert_eq!(
                (&gone.withdrawn, gone.withdrawn_path_ids.as_slice()),
                (prefixes, expected)
            );
        }
    }
}

#[test]
fn many_routes_with_path_ids_are_split_at_the_limit() {
    let codec = Codec {
        add_path_send: Family::ALL.into_iter().collect(),
        add_path_receive: Family::ALL.into_iter().collect(),
        ..codec()
    };
    let prefixes: Vec<Prefix> = (0..3000)
        .map(|n| prefix(&format!("2001:db8:{n:x}::/48")))
        .collect();
    let path_ids: Vec<u32> = (0..3000).collect();
    let nlri = Nlri {
        prefixes: &prefixes,
        path_ids: &path_ids,
    };
    let mut octets = Vec::new();
    encode_announcement(
        &attributes(NextHop::link_local(LOCAL.into())),
        nlri,
        codec,
        &mut octets,
    )
    .unwrap();
    let messages = messages(&octets, codec);
    assert!(messages.len() > 5);
    let announced: Vec<_> = messages
        .iter()
        .flat_map(|message| &update(message).announced)
        .collect();
    let read: Vec<Prefix> = announced.iter().flat_map(|a| a.prefixes.clone()).collect();
    let ids: Vec<u32> = announced.iter().flat_map(|a| a.path_ids.clone()).collect();
    assert_eq!((read, ids), (prefixes, path_ids));
}

/// A fault withdraws each path by its identifier, of both families.
#[test]
fn withdrawn_paths_keep_their_ids() {
    let codec = Codec {
        add_path_receive: [Family::Ipv4Unicast].into_iter().collect(),
        ..codec()
    };
    let mp = reach(Family::Ipv6Unicast, &GLOBAL);
    let octets = message(
        &[],
        &[&mp, &[0x40, 1, 1, 9], AS_PATH, &[0x40, 3, 4, 10, 0, 0, 1]],
        &[0, 0, 0, 7, 8, 10],
    );
    let message = decode(&octets, codec).unwrap();
    let gone = update(&message);
    assert_eq!(gone.withdrawn, ["10.0.0.0/8", "2001:db8::/32"].map(prefix));
    assert_eq!(gone.withdrawn_path_ids, [7, 0]);
}
