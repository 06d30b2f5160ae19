//! OPEN and the other small messages.

use bgpd::wire::notification::{CEASE, COMMUNICATION_MAX_BYTES, cease};
use bgpd::wire::{
    AddPath, Capabilities, Codec, Family, FamilySet, GracefulRestart, HEADER_BYTES, LongLivedFamily, Message,
    Notification, Open, RefreshKind, Role, RouteRefresh, STALE_TIME_MAX_S, UnknownCapability, decode,
    encode_keepalive, encode_notification, encode_open, encode_route_refresh, frame,
};
use proptest::prelude::*;

fn open() -> Open {
    let both = Family::ALL.into_iter().collect();
    Open {
        asn: 4_200_000_001,
        hold_time_s: 90,
        router_id: [10, 0, 0, 1].into(),
        capabilities: Capabilities {
            families: both,
            route_refresh: true,
            extended_message: true,
            four_octet_as: Some(4_200_000_001),
            graceful_restart: Some(GracefulRestart {
                restarted: true,
                notification: false,
                restart_time_s: 120,
                families: both,
                preserved: [Family::Ipv6Unicast].into_iter().collect(),
            }),
            ..Capabilities::default()
        },
    }
}

/// An OPEN of version 4, AS 65002, 90 s, 10.0.0.2 with these optional parameters, their length included.
fn with_parameters(parameters: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend([0, 0, 1, 4, 0xfd, 0xea, 0, 90, 10, 0, 0, 2]);
    octets.extend(parameters);
    octets[17] = octets.len() as u8;
    octets
}

fn decode_open(octets: &[u8]) -> Result<Open, Notification> {
    assert_eq!(frame(octets, Codec::default()), Ok(Some(octets.len())));
    match decode(octets, Codec::default())? {
        Message::Open(open) => Ok(open),
        other => unreachable!("{other:?}"),
    }
}

#[test]
fn an_open_reads_as_it_was_written() {
    assert_eq!(decode_open(&encode_open(&open())), Ok(open()));
    let plain = Open {
        asn: 65001,
        capabilities: Capabilities::default(),
        ..open()
    };
    assert_eq!(decode_open(&encode_open(&plain)), Ok(plain));
}

#[test]
fn capabilities_may_come_in_any_number_of_parameters() {
    let together = with_parameters(&[16, 2, 14, 1, 4, 0, 1, 0, 1, 2, 0, 65, 4, 0, 0, 0xfd, 0xea]);
    let apart = with_parameters(&[
        20, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 2, 0, 2, 6, 65, 4, 0, 0, 0xfd, 0xea,
    ]);
    assert_eq!(decode_open(&together), decode_open(&apart));
    assert!(decode_open(&apart).unwrap().capabilities.route_refresh);
}

/// RFC 9072: type 255 in the first place, lengths of two octets. The old length need not be 255.
#[test]
fn extended_parameters_are_read() {
    let plain = decode_open(&with_parameters(&[8, 2, 6, 1, 4, 0, 2, 0, 1])).unwrap();
    for old_length in [255, 1] {
        let extended = with_parameters(&[old_length, 255, 0, 9, 2, 0, 6, 1, 4, 0, 2, 0, 1]);
        assert_eq!(decode_open(&extended), Ok(plain.clone()));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut version = with_parameters(&[0]);
    version[19] = 3;
    type Fault = (u8, u8, Vec<u8>);
    let cases: [(&str, Vec<u8>, Fault); 8] = [
        ("version 3", version, (2, 1, vec![0, 4])),
        (
            "authentication parameter",
            with_parameters(&[2, 1, 0]),
            (2, 4, vec![]),
        ),
        (
            "parameters cut off",
            with_parameters(&[9, 2, 6, 1, 4, 0, 2, 0, 1]),
            (2, 0, vec![]),
        ),
        (
            "parameters too long",
            with_parameters(&[7, 2, 6, 1, 4, 0, 2, 0, 1]),
            (2, 0, vec![]),
        ),
        (
            "octets after the parameters",
            with_parameters(&[0, 1]),
            (2, 0, vec![]),
        ),
        (
            "capability cut off",
            with_parameters(&[4, 2, 2, 65, 4]),
            (2, 0, vec![]),
        ),
        (
            "extended parameters cut off",
            with_parameters(&[255, 255, 0, 9, 2, 0, 9, 1]),
            (2, 0, vec![]),
        ),
        ("half a parameter", with_parameters(&[1, 2]), (2, 0, vec![])),
    ];
    for (name, octets, (code, subcode, data)) in cases {
        assert_eq!(
            decode_open(&octets),
            Err(Notification { code, subcode, data }),
            "{name}"
        );
    }
}

/// A capability of the wrong length counts as not offered; unknown ones are passed over.
#[test]
fn odd_capabilities_do_no_harm() {
    let octets = with_parameters(&[17, 2, 15, 1, 3, 0, 1, 0, 65, 2, 0, 1, 2, 1, 9, 200, 1, 7]);
    let capabilities = decode_open(&octets).unwrap().capabilities;
    assert_eq!(
        capabilities,
        Capabilities {
            unknown: [(1, &[0, 1, 0][..]), (65, &[0, 1]), (2, &[9]), (200, &[7])]
                .map(|(code, value)| UnknownCapability {
                    code,
                    value: value.into()
                })
                .into(),
            ..Capabilities::default()
        }
    );
    assert!(capabilities.offered_families().contains(Family::Ipv4Unicast));
}

#[test]
fn headers_are_checked_as_early_as_possible() {
    let error = |subcode, data: &[u8]| {
        Err(Notification {
            code: 1,
            subcode,
            data: data.to_vec(),
        })
    };
    let header = |length: u16, kind: u8| {
        let mut octets = vec![0xff; 16];
        octets.extend(length.to_be_bytes());
        octets.push(kind);
        octets
    };
    let extended = Codec {
        extended_message: true,
        ..Codec::default()
    };
    assert_eq!(frame(b"G", Codec::default()), error(1, &[]));
    assert_eq!(frame(&[0xff; 18], Codec::default()), Ok(None));
    assert_eq!(frame(&header(18, 4), Codec::default()), error(2, &[0, 18]));
    assert_eq!(frame(&header(20, 4), Codec::default()), error(2, &[0, 20]));
    assert_eq!(frame(&header(28, 1), Codec::default()), error(2, &[0, 28]));
    assert_eq!(frame(&header(22, 2), Codec::default()), error(2, &[0, 22]));
    assert_eq!(frame(&header(20, 3), Codec::default()), error(2, &[0, 20]));
    assert_eq!(frame(&header(4097, 2), Codec::default()), error(2, &[16, 1]));
    assert_eq!(frame(&header(4097, 2), extended), Ok(None));
    assert_eq!(
        frame(&header(4097, 1), extended),
        error(2, &[16, 1]),
        "RFC 8654: not for OPEN"
    );
    assert_eq!(frame(&header(19, 6), Codec::default()), error(3, &[6]));
    assert_eq!(frame(&header(23, 2), Codec::default()), Ok(None));
}

#[test]
fn small_messages_read_as_they_were_written() {
    let read = |octets: &[u8]| decode(octets, Codec::default());
    assert_eq!(read(&encode_keepalive()), Ok(Message::Keepalive));
    assert_eq!(encode_keepalive().len(), HEADER_BYTES);
    let shutdown = Notification {
        code: 6,
        subcode: 2,
        data: b"\x05night".to_vec(),
    };
    assert_eq!(
        read(&encode_notification(&shutdown)),
        Ok(Message::Notification(shutdown.clone()))
    );
    assert_eq!(shutdown.shutdown_communication(), Some("night"));
    assert_eq!(shutdown.to_string(), "administrative shutdown (6/2): \"night\"");
    let long = Notification::with_data(1, 2, &[7; 9000]);
    assert_eq!(
        frame(&encode_notification(&long), Codec::default()),
        Ok(Some(4096))
    );
}

#[test]
fn route_refresh_has_a_subtype_where_both_ends_know_it() {
    let plain = Codec::default();
    let enhanced = Codec {
        enhanced_route_refresh: true,
        ..plain
    };
    for family in Family::ALL {
        for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
            let octets = encode_route_refresh(family, kind);
            let read = |kind| Ok(Message::RouteRefresh(Some(RouteRefresh { kind, family })));
            assert_eq!(decode(&octets, enhanced), read(kind));
            // Without RFC 7313 the octet is reserved.
            assert_eq!(decode(&octets, plain), read(RefreshKind::Request));
        }
    }
    let body = |body: &[u8]| {
        let mut octets = vec![0xff; 16];
        octets.extend([0, 19 + body.len() as u8, 5]);
        octets.extend(body);
        octets
    };
    let error = |code, subcode, data: &[u8]| Err(Notification::with_data(code, subcode, data));
    let passed_over = Ok(Message::RouteRefresh(None));
    assert_eq!(
        decode(&body(&[0, 1, 0, 128]), enhanced),
        passed_over,
        "another family"
    );
    assert_eq!(
        decode(&body(&[0, 1, 3, 1]), enhanced),
        passed_over,
        "another subtype"
    );
    assert_eq!(
        decode(&body(&[0, 1, 3, 1, 0]), enhanced),
        passed_over,
        "of any length"
    );
    let begin = body(&[0, 1, 1, 1, 0]);
    assert_eq!(
        decode(&begin, enhanced),
        error(7, 1, &begin),
        "RFC 7313 section 5"
    );
    assert_eq!(decode(&begin, plain), error(1, 2, &[0, 24]));
    assert_eq!(decode(&body(&[0, 1, 0, 1, 0]), enhanced), error(1, 2, &[0, 24]));
    assert_eq!(decode(&body(&[0, 1]), enhanced), error(1, 2, &[0, 21]));
}

/// RFC 9234 section 4.2.
#[test]
fn several_roles_must_be_one() {
    let roles = |roles: &[u8]| {
        let mut parameters = vec![2 + 3 * roles.len() as u8, 2, 3 * roles.len() as u8];
        roles.iter().for_each(|role| parameters.extend([9, 1, *role]));
        decode_open(&with_parameters(&parameters)).map(|open| open.capabilities.role)
    };
    assert_eq!(roles(&[3]), Ok(Some(Role::Customer)));
    assert_eq!(roles(&[3, 3]), Ok(Some(Role::Customer)));
    assert_eq!(roles(&[9]), Ok(Some(Role::Unassigned(9))));
    assert_eq!(roles(&[3, 0]), Err(Notification::new(2, 11)));
    let all = [0, 1, 2, 3, 4, 9].map(Role::from_code);
    let pairs: Vec<(u8, u8)> = all
        .iter()
        .flat_map(|one| all.iter().map(move |other| (*one, *other)))
        .filter(|(one, other)| one.corresponds(*other))
        .map(|(one, other)| (one.code(), other.code()))
        .collect();
    assert_eq!(pairs, [(0, 3), (1, 2), (2, 1), (3, 0), (4, 4)]);
}

/// RFC 7911 section 4, RFC 8950 section 4, RFC 9494 section 3: tuples of families that we do not carry, and values
/// that mean nothing, are passed over; the last tuple of a family counts.
#[test]
fn tuples_of_capabilities_are_read_one_by_one() {
    let of = |code: u8, value: &[u8]| {
        let mut parameters = vec![
            4 + value.len() as u8,
            2,
            2 + value.len() as u8,
            code,
            value.len() as u8,
        ];
        parameters.extend(value);
        decode_open(&with_parameters(&parameters)).unwrap().capabilities
    };
    let (v4, v6) = (Family::Ipv4Unicast, Family::Ipv6Unicast);
    let set = |families: &[Family]| families.iter().copied().collect::<FamilySet>();
    let add_path = of(
        69,
        &[0, 1, 1, 3, 0, 2, 1, 2, 0, 1, 128, 3, 0, 1, 1, 1, 0, 2, 1, 4],
    )
    .add_path;
    assert_eq!((add_path.receive, add_path.send), (set(&[v4]), set(&[v6])));
    let next_hops = of(5, &[0, 1, 0, 1, 0, 2, 0, 1, 0, 128, 0, 2, 0, 2, 0, 1, 0, 1]).extended_next_hop;
    assert_eq!(next_hops, set(&[v4]));
    let stale = of(
        71,
        &[0, 1, 1, 0x80, 0, 1, 0, 0, 1, 4, 0, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0],
    )
    .long_lived;
    let last = LongLivedFamily {
        family: v4,
        preserved: false,
        stale_time_s: 65536,
    };
    assert_eq!(stale, [last]);
    for (code, value) in [
        (69, &[0, 1, 1][..]),
        (5, &[0, 1, 0, 1, 0]),
        (71, &[0, 1, 1, 0, 0, 0]),
        (70, &[0]),
    ] {
        let unknown = UnknownCapability {
            code,
            value: value.into(),
        };
        let expected = Capabilities {
            unknown: vec![unknown],
            ..Capabilities::default()
        };
        assert_eq!(of(code, value), expected, "cut off: as if not offered");
    }
}

/// RFC 9072: written when 255 octets are not enough.
#[test]
fn long_offers_are_written_extended() {
    let capability = |code| UnknownCapability {
        code,
        value: vec![code; 60].into(),
    };
    let mut open = open();
    open.capabilities.unknown = (200..204).map(capability).collect();
    let octets = encode_open(&open);
    assert_eq!(octets[28..30], [255, 255]);
    assert_eq!(decode_open(&octets), Ok(open.clone()));
    open.capabilities.unknown = (200..240).map(capability).collect();
    let octets = encode_open(&open);
    assert!(octets.len() > 2400);
    assert_eq!(decode_open(&octets), Ok(open));
}

/// RFC 7607 section 2.
#[test]
fn as_0_is_no_neighbor() {
    let mut zero = with_parameters(&[0]);
    zero[20..22].fill(0);
    assert_eq!(decode_open(&zero), Err(Notification::new(2, 2)));
    let four_octets = with_parameters(&[8, 2, 6, 65, 4, 0, 0, 0, 0]);
    assert_eq!(decode_open(&four_octets), Err(Notification::new(2, 2)));
}

/// RFC 9003 section 2 and RFC 8538 section 3.1.
#[test]
fn notifications_carry_texts_and_reasons() {
    let text = "\u{00e9}".repeat(200);
    let shutdown = Notification::with_communication(cease::ADMIN_SHUTDOWN, &text);
    assert_eq!(
        shutdown.data.len(),
        COMMUNICATION_MAX_BYTES,
        "254 octets of text and their length"
    );
    assert_eq!(
        shutdown.shutdown_communication(),
        Some("\u{00e9}".repeat(127).as_str())
    );
    let reset = shutdown.hard_reset();
    assert!(reset.is_hard_reset() && !shutdown.is_hard_reset());
    assert_eq!(reset.hard_reset_reason(), Some(shutdown.clone()));
    assert_eq!(reset.shutdown_communication(), shutdown.shutdown_communication());
    let night = Notification::with_communication(cease::ADMIN_RESET, "night").hard_reset();
    assert_eq!(
        night.to_string(),
        "hard reset (6/9): administrative reset (6/4): \"night\""
    );
    assert_eq!(
        Notification::with_communication(cease::ADMIN_RESET, "").shutdown_communication(),
        None
    );
    for data in [&[2, 0xc3, 0x28][..], &[9, b'x'], &[]] {
        let wrong = Notification::with_data(CEASE, cease::ADMIN_SHUTDOWN, data);
        assert_eq!(wrong.shutdown_communication(), None, "{wrong}");
    }
    assert_eq!(
        Notification::new(CEASE, cease::HARD_RESET).hard_reset_reason(),
        None
    );
    let limit = Notification::max_prefixes(Family::Ipv6Unicast, 1000);
    assert_eq!(limit.data, [0, 2, 1, 0, 0, 3, 0xe8]);
    assert_eq!(
        Notification::new(CEASE, cease::BFD_DOWN).to_string(),
        "BFD down (6/10)"
    );
}

/// RFC 8654 section 4: the offer binds who sends, not who takes.
#[test]
fn an_offer_to_take_long_messages_is_kept_alone() {
    let mut long = vec![0xff; 16];
    long.extend([16, 1, 2]);
    let offered = Codec {
        extended_message_offered: true,
        ..Codec::default()
    };
    assert_eq!(frame(&long, offered), Ok(None));
    assert_eq!(offered.message_max_bytes(), 4096);
    assert!(frame(&long, Codec::default()).is_err());
}

proptest! {
    #[test]
    fn every_open_reads_as_it_was_written(
        asn in 1u32..,
        hold_time_s in any::<u16>(),
        id in any::<[u8; 4]>(),
        families in prop::sample::subsequence(Family::ALL.to_vec(), 0..=2),
        (route_refresh, extended_message, restarted, notification) in any::<(bool, bool, bool, bool)>(),
        (enhanced_route_refresh, extended_next_hop, preserved) in any::<(bool, bool, bool)>(),
        (receive, send, bfd_strict) in any::<(bool, bool, bool)>(),
        restart_time_s in 0u16..4096,
        stale_time_s in 0..=STALE_TIME_MAX_S,
        has_restart in any::<bool>(),
        role in prop::option::of(any::<u8>()),
        unknown in prop::collection::vec((100u8.., prop::collection::vec(any::<u8>(), 0..100)), 0..6),
    ) {
        let families: FamilySet = families.into_iter().collect();
        let when = |offered| if offered { families } else { FamilySet::EMPTY };
        let restart = GracefulRestart { restarted, notification, restart_time_s, families, preserved: families };
        let open = Open {
            asn,
            hold_time_s,
            router_id: id.into(),
            capabilities: Capabilities {
                families,
                route_refresh,
                extended_message,
                four_octet_as: Some(asn),
                graceful_restart: has_restart.then_some(restart),
                enhanced_route_refresh,
                extended_next_hop: extended_next_hop.then_some(Family::Ipv4Unicast).into_iter().collect(),
                role: role.map(Role::from_code),
                long_lived: families
                    .iter()
                    .map(|family| LongLivedFamily { family, preserved, stale_time_s })
                    .collect(),
                add_path: AddPath { receive: when(receive), send: when(send) },
                bfd_strict,
                unknown: unknown
                    .into_iter()
                    .map(|(code, value)| UnknownCapability { code, value: value.into() })
                    .collect(),
            },
        };
        prop_assert_eq!(decode_open(&encode_open(&open)), Ok(open));
    }

    #[test]
    fn no_octets_break_the_reader(
        octets in prop::collection::vec(any::<u8>(), 0..300),
        kind in 1u8..6,
        (four_octet_as, extended_message, external) in any::<(bool, bool, bool)>(),
    ) {
        let families = Family::ALL.into_iter().collect();
        let codec = Codec { four_octet_as, extended_message, external, families, ..Codec::default() };
        let _ = frame(&octets, codec);
        let _ = decode(&octets, codec);
        let mut message = vec![0xff; 16];
        message.extend((19 + octets.len() as u16).to_be_bytes());
        message.push(kind);
        message.extend(&octets);
        let whole = frame(&message, codec) == Ok(Some(message.len()));
        if whole && let Ok(Message::Notification(notification)) = decode(&message, codec) {
            let _ = notification.to_string();
        }
    }
}
