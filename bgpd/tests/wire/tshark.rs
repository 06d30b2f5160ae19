//! What we write, read by `tshark`: no message may be malformed or make it say anything. Messages of more
//! than 4096 octets have a test of their own, because versions up to 4.0 take them all for malformed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use bgpd::wire::notification::{
    CEASE, FSM, HEADER, HOLD_TIMER, OPEN, ROUTE_REFRESH, SEND_HOLD_TIMER, UPDATE, cease, fsm, header, open,
    update,
};
use bgpd::wire::{
    AddPath, Attributes, Capabilities, Codec, Family, FamilySet, GracefulRestart, LongLivedFamily, NextHop,
    Nlri, Notification, Open, Prefix, RefreshKind, Role, encode_announcement, encode_end_of_rib,
    encode_keepalive, encode_notification, encode_open, encode_route_refresh, encode_withdrawal, frame,
};
use ipnet::{IpNet, Ipv4Net};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::codec;
use crate::roundtrip::{any_attributes, any_routes};

/// Sets of attributes for each codec.
const SETS: usize = 60;

/// A capture of TCP connections to port 179, one a session, each message in segments of its own.
#[derive(Default)]
struct Capture {
    octets: Vec<u8>,
    sessions: u16,
    sequence: u32,
    /// How many messages of each type were put in.
    messages: BTreeMap<u8, usize>,
}

/// Octets of one segment: an IPv4 packet of a link with a large MTU.
const SEGMENT_MAX_BYTES: usize = 60000;
/// `LINKTYPE_IPV4`: packets without a link header.
const LINKTYPE_IPV4: u32 = 228;

fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

impl Capture {
    fn new() -> Self {
        let mut octets = Vec::new();
        octets.extend(0xa1b2_c3d4_u32.to_le_bytes());
        octets.extend(2u16.to_le_bytes());
        octets.extend(4u16.to_le_bytes());
        octets.extend([0; 8]);
        octets.extend(262_144u32.to_le_bytes());
        octets.extend(LINKTYPE_IPV4.to_le_bytes());
        Self {
            octets,
            ..Self::default()
        }
    }

    /// A new connection, with OPEN and KEEPALIVE.
    fn session(&mut self, open: &Open, codec: Codec) {
        self.sessions += 1;
        self.sequence = 1;
        self.put(&encode_open(open), codec);
        self.put(&encode_keepalive(), codec);
    }

    /// Any number of messages.
    fn put(&mut self, mut stream: &[u8], codec: Codec) {
        while !stream.is_empty() {
            let length = frame(stream, codec).unwrap().unwrap();
            let (message, rest) = stream.split_at(length);
            *self.messages.entry(message[18]).or_default() += 1;
            for segment in message.chunks(SEGMENT_MAX_BYTES) {
                self.segment(segment);
            }
            stream = rest;
        }
    }

    fn segment(&mut self, payload: &[u8]) {
        let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
        let mut ip = vec![0x45, 0];
        ip.extend((40 + payload.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip.extend(addresses);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut tcp = (30000 + self.sessions).to_be_bytes().to_vec();
        tcp.extend(179u16.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(1u32.to_be_bytes());
        // ACK and PSH.
        tcp.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        let mut pseudo = addresses.to_vec();
        pseudo.extend([0, 6]);
        pseudo.extend((20 + payload.len() as u16).to_be_bytes());
        let sum = checksum(&[&pseudo, &tcp, payload]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        self.sequence += payload.len() as u32;
        let length = (40 + payload.len() as u32).to_le_bytes();
        self.octets.extend([0; 8]);
        self.octets.extend([length, length].concat());
        self.octets.extend([ip, tcp].concat());
        self.octets.extend(payload);
    }
}

fn full_open() -> Open {
    let families: FamilySet = Family::ALL.into_iter().collect();
    Open {
        asn: 4_200_000_001,
        hold_time_s: 90,
        router_id: [10, 0, 0, 1].into(),
        capabilities: Capabilities {
            families,
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_next_hop: [Family::Ipv4Unicast].into_iter().collect(),
            extended_message: true,
            role: Some(Role::Customer),
            four_octet_as: Some(4_200_000_001),
            graceful_restart: Some(GracefulRestart {
                restarted: true,
                notification: true,
                restart_time_s: 120,
                families,
                preserved: families,
            }),
            long_lived: Family::ALL
                .map(|family| LongLivedFamily {
                    family,
                    preserved: true,
                    stale_time_s: 86400,
                })
                .into(),
            add_path: AddPath {
                receive: families,
                send: families,
            },
            bfd_strict: true,
            unknown: Vec::new(),
        },
    }
}

fn notifications() -> Vec<Notification> {
    let mut all = vec![
        Notification::with_data(HEADER, header::BAD_LENGTH, &[0, 18]),
        Notification::with_data(OPEN, open::UNSUPPORTED_VERSION, &[0, 4]),
        Notification::with_data(OPEN, open::UNSUPPORTED_CAPABILITY, &[1, 4, 0, 1, 0, 1]),
        Notification::with_data(UPDATE, update::ATTRIBUTE_LENGTH, &[0x40, 1, 2, 0, 0]),
        Notification::with_communication(cease::ADMIN_SHUTDOWN, "back at ten \u{00fc}"),
        Notification::with_communication(cease::ADMIN_RESET, ""),
        Notification::with_communication(cease::ADMIN_SHUTDOWN, &"x".repeat(255)),
        Notification::max_prefixes(Family::Ipv4Unicast, 1000),
        Notification::with_communication(cease::ADMIN_SHUTDOWN, "night").hard_reset(),
        Notification::with_data(
            ROUTE_REFRESH,
            1,
            &encode_route_refresh(Family::Ipv4Unicast, RefreshKind::Begin),
        ),
    ];
    for (code, subcodes) in [
        (HEADER, header::NOT_SYNCHRONIZED..=header::BAD_TYPE),
        (OPEN, 0..=open::UNSUPPORTED_CAPABILITY),
        (OPEN, open::ROLE_MISMATCH..=open::ROLE_MISMATCH),
        (UPDATE, update::MALFORMED_ATTRIBUTES..=update::MALFORMED_AS_PATH),
        (HOLD_TIMER, 0..=0),
        (FSM, fsm::OPEN_SENT..=fsm::ESTABLISHED),
        (CEASE, cease::MAX_PREFIXES..=cease::BFD_DOWN),
        (SEND_HOLD_TIMER, 0..=0),
    ] {
        all.extend(subcodes.map(|subcode| Notification::new(code, subcode)));
    }
    all
}

/// Routes with proptest's attributes, announced and withdrawn.
fn updates(codec: Codec, runner: &mut TestRunner, capture: &mut Capture) {
    for _ in 0..SETS {
        let (next_hop, prefixes) = any_routes().new_tree(runner).unwrap().current();
        let mut attributes = Attributes {
            next_hop,
            ..any_attributes().new_tree(runner).unwrap().current()
        };
        // Codes that tshark has a reader for would have to be good.
        attributes
            .unknown
            .retain(|attribute| (200..240).contains(&attribute.code));
        let path_ids: Vec<u32> = (1..).take(prefixes.len()).collect();
        let nlri = Nlri {
            prefixes: &prefixes,
            path_ids: &path_ids,
        };
        let mut octets = Vec::new();
        encode_announcement(&attributes, nlri, codec, &mut octets).unwrap();
        encode_withdrawal(nlri, codec, &mut octets);
        capture.put(&octets, codec);
    }
    for family in Family::ALL {
        let mut octets = Vec::new();
        encode_end_of_rib(family, &mut octets);
        capture.put(&octets, codec);
    }
    // More than one message can hold, with next hops of their own family and of the other (RFC 8950).
    let many: Vec<Prefix> = (0..2000)
        .map(|n| IpNet::V4(Ipv4Net::new((0x0a00_0000 + n * 256).into(), 24).unwrap()))
        .collect();
    let mut octets = Vec::new();
    let local = "fe80::1".parse().unwrap();
    for next_hop in [
        NextHop::V4([10, 0, 0, 1].into()),
        NextHop::link_local(local),
        NextHop::V6 {
            global: "2001:db8::1".parse().unwrap(),
            link_local: Some(local),
        },
    ] {
        encode_announcement(&Attributes::originated(next_hop), &many, codec, &mut octets).unwrap();
    }
    encode_withdrawal(&many, codec, &mut octets);
    capture.put(&octets, codec);
}

fn tshark(capture: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(capture)
        .args(arguments)
        .output()
        .expect("tshark is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What it says of messages, a line each.
fn said_of(capture: &Path) -> String {
    let fields = [
        "-T",
        "fields",
        "-e",
        "frame.number",
        "-e",
        "_ws.expert.message",
        "-e",
        "_ws.malformed",
    ];
    tshark(
        capture,
        &[&["-Y", "_ws.expert || _ws.malformed"], &fields[..]].concat(),
    )
}

#[test]
fn tshark_has_nothing_to_say() {
    let mut capture = Capture::new();
    let mut runner = TestRunner::deterministic();
    let all: FamilySet = Family::ALL.into_iter().collect();
    let plain = Codec {
        external: false,
        ..codec()
    };
    let codecs = [
        plain,
        Codec {
            external: true,
            ..plain
        },
        Codec {
            add_path_send: all,
            ..plain
        },
    ];
    for codec in codecs {
        capture.session(&full_open(), codec);
        updates(codec, &mut runner, &mut capture);
    }
    capture.session(&full_open(), plain);
    for family in Family::ALL {
        for kind in [RefreshKind::Request, RefreshKind::Begin, RefreshKind::End] {
            capture.put(&encode_route_refresh(family, kind), plain);
        }
    }
    for notification in notifications() {
        capture.put(&encode_notification(&notification), plain);
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bgp.pcap");
    fs::write(&file, &capture.octets).unwrap();

    let said = said_of(&file);
    // RFC 9687 is younger than some versions of it.
    let said: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("Unknown notification error (8)"))
        .collect();
    assert_eq!(said, [""; 0]);
    // It has seen every message.
    let types = tshark(&file, &["-T", "fields", "-e", "bgp.type", "-E", "aggregator=,"]);
    let mut seen: BTreeMap<u8, usize> = BTreeMap::new();
    for kind in types.split([',', '\n']).filter(|kind| !kind.is_empty()) {
        *seen.entry(kind.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(seen, capture.messages);
}

/// Versions up to 4.0 take every message of more than 4096 octets for malformed, and no preference changes that; later
/// ones may read them. Whatever it is, nothing else is said of ours.
#[test]
fn extended_messages_are_malformed_to_tshark_by_their_length_alone() {
    let codec = Codec {
        extended_message: true,
        ..codec()
    };
    let mut capture = Capture::new();
    capture.session(&full_open(), codec);
    let many: Vec<Prefix> = (0..12_000)
        .map(|n| IpNet::V4(Ipv4Net::new((0x0a00_0000 + n * 256).into(), 24).unwrap()))
        .collect();
    let mut octets = Vec::new();
    let attributes = Attributes::originated(NextHop::V4([10, 0, 0, 1].into()));
    encode_announcement(&attributes, &many, codec, &mut octets).unwrap();
    encode_withdrawal(&many, codec, &mut octets);
    let mut rest = octets.as_slice();
    let mut long = 0;
    while let Ok(Some(length)) = frame(rest, codec) {
        long += usize::from(length > 4096);
        rest = &rest[length..];
    }
    assert!(long >= 2, "{long}");
    capture.put(&octets, codec);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bgp.pcap");
    fs::write(&file, &capture.octets).unwrap();
    let said = said_of(&file);
    let of_length = said
        .lines()
        .filter(|line| line.contains("Length is invalid"))
        .count();
    assert_eq!(said.lines().count(), of_length, "{said}");
    assert!([0, long].contains(&of_length), "{said}");
}
