//! OPEN and the other small messages.

use bgpd::wire::{
    Capabilities, Codec, Family, GracefulRestart, HEADER_BYTES, Message, Notification, Open, decode,
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
            unknown: Vec::new(),
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
            unknown: vec![200],
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
    for family in Family::ALL {
        assert_eq!(
            read(&encode_route_refresh(family)),
            Ok(Message::RouteRefresh(Some(family)))
        );
    }
    let mut foreign = encode_route_refresh(Family::Ipv4Unicast);
    foreign[22] = 128;
    assert_eq!(read(&foreign), Ok(Message::RouteRefresh(None)));
    foreign.push(0);
    let mut whole = foreign.clone();
    whole[17] = 24;
    let error = Notification {
        code: 7,
        subcode: 1,
        data: whole.clone(),
    };
    assert_eq!(read(&whole), Err(error), "RFC 7313 section 5");
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

proptest! {
    #[test]
    fn every_open_reads_as_it_was_written(
        asn in 1u32..,
        hold_time_s in any::<u16>(),
        id in any::<[u8; 4]>(),
        families in prop::sample::subsequence(Family::ALL.to_vec(), 0..=2),
        (route_refresh, extended_message, restarted, notification) in any::<(bool, bool, bool, bool)>(),
        restart_time_s in 0u16..4096,
        has_restart in any::<bool>(),
    ) {
        let families = families.into_iter().collect();
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
                unknown: Vec::new(),
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
        let codec = Codec { four_octet_as, extended_message, external, families };
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
