//! Reads an UPDATE of 500 prefixes into owned types and writes it again: ours, and the same octets with two
//! published codecs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark fails by panicking"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use bgpd::wire::{
    AsPath, Attributes, Codec, Community, Family, Message, NextHop, Prefix, decode, encode_announcement,
};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use rustbgpd_wire::{Ipv4UnicastMode, UpdateMessage, decode_message};

const PREFIXES: u32 = 500;

/// A session within an AS, so that LOCAL_PREF counts.
fn codec() -> Codec {
    Codec {
        four_octet_as: true,
        families: Family::ALL.into_iter().collect(),
        ..Codec::default()
    }
}

/// Prefixes of /16 to /24 in an order without pattern.
fn prefixes() -> Vec<Prefix> {
    let mut state = 0x9e37_79b9_u32;
    let mut random = || {
        // xorshift32
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    let prefix = |_| {
        let length = 16 + (random() >> 8) % 9;
        let address = Ipv4Addr::from_bits(0x0a00_0000 | random() >> 4);
        IpNet::V4(Ipv4Net::new(address, length as u8).unwrap().trunc())
    };
    (0..PREFIXES).map(prefix).collect()
}

/// ORIGIN, AS_PATH, NEXT_HOP, MULTI_EXIT_DISC, LOCAL_PREF, COMMUNITIES.
fn attributes() -> Attributes {
    Attributes {
        as_path: AsPath::sequence([65001, 65002, 4_200_000_003]),
        med: Some(50),
        local_pref: Some(100),
        communities: vec![Community::new(65001, 1), Community::new(65001, 2)],
        ..Attributes::originated(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1)))
    }
}

fn octets() -> Vec<u8> {
    let mut octets = Vec::new();
    encode_announcement(&attributes(), &prefixes(), codec(), &mut octets).unwrap();
    octets
}

fn ours(octets: &[u8], out: &mut Vec<u8>) {
    let Ok(Message::Update(update)) = decode(octets, codec()) else {
        panic!("no UPDATE")
    };
    for announcement in &update.announced {
        encode_announcement(&announcement.attributes, &announcement.prefixes, codec(), out).unwrap();
    }
}

fn rustbgpd(octets: &Bytes, out: &mut BytesMut) {
    let rustbgpd_wire::Message::Update(update) = decode_message(&mut octets.clone(), 4096).unwrap() else {
        panic!("no UPDATE")
    };
    let parsed = update.parse_revised(true, true, false, &[]).unwrap().update;
    let mode = Ipv4UnicastMode::Body;
    UpdateMessage::try_build(
        &parsed.announced,
        &parsed.withdrawn,
        &parsed.attributes,
        true,
        false,
        mode,
    )
    .unwrap()
    .encode(out)
    .unwrap();
}

fn netgauze(octets: &[u8], out: &mut Vec<u8>) {
    let mut context = BgpParsingContext::default();
    let message = BgpMessage::parse(&mut SliceReader::new(octets), &mut context).unwrap();
    message.write(out).unwrap();
}

fn round_trip(criterion: &mut Criterion) {
    let octets = octets();
    let shared = Bytes::from(octets.clone());
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("decode and encode an UPDATE of 500 prefixes");
    ours(&octets, &mut out);
    assert_eq!(out, octets, "what is written is what was read");
    group.bench_function("bgpd", |bencher| {
        bencher.iter(|| {
            out.clear();
            ours(black_box(&octets), &mut out);
        });
    });
    let mut buffer = BytesMut::new();
    rustbgpd(&shared, &mut buffer);
    assert_eq!(buffer.len(), octets.len());
    group.bench_function("rustbgpd-wire", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            rustbgpd(black_box(&shared), &mut buffer);
        });
    });
    out.clear();
    netgauze(&octets, &mut out);
    assert_eq!(out.len(), octets.len());
    group.bench_function("netgauze-bgp-pkt", |bencher| {
        bencher.iter(|| {
            out.clear();
            netgauze(black_box(&octets), &mut out);
        });
    });
    group.finish();
}

/// The two halves, to see which one a change touches.
fn halves(criterion: &mut Criterion) {
    let octets = octets();
    let (attributes, prefixes) = (attributes(), prefixes());
    let mut out = Vec::new();
    criterion.bench_function("decode an UPDATE of 500 prefixes", |bencher| {
        bencher.iter(|| decode(black_box(&octets), codec()).expect("good octets"));
    });
    criterion.bench_function("encode an UPDATE of 500 prefixes", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_announcement(black_box(&attributes), &prefixes, codec(), &mut out).unwrap();
        });
    });
}

criterion_group!(benches, round_trip, halves);
criterion_main!(benches);
