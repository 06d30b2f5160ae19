//! What the feeders send: a table that resembles the Internet's, encoded before any clock runs.
//!
//! Prefixes are numbered *slots*: slot `n` is the address `20.0.0.0 + n * 256`, and its length
//! follows from `n`, such that no two slots have the same address. 62 % are /24, 12 % each /23 and
//! /22, 6 % /21, the rest /20, /19 and /16, one inside another as de-aggregated blocks are. Runs of
//! consecutive slots share their attributes, 1 to 60 of them, 6.5 on average, as prefixes of one
//! origin do; the runs come in random order. Each run has attributes of its own: AS_PATH of 2 to 6
//! ASes (two- and four-octet ones), often communities, sometimes MED, large communities, AGGREGATOR.
//! The same numbers give the same feed always.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::message::{self, AttributeWriter};

/// The first slot's address in units of 256: 20.0.0.0.
const FIRST: u32 = 20 << 16;
/// Most prefixes with common attributes.
const RUN_MAX: usize = 60;
/// Of those beyond the first, the average number.
const RUN_MORE_MEAN: f64 = 5.7;

/// A slot's prefix length.
pub(crate) fn slot_length(slot: usize) -> u8 {
    match slot {
        slot if slot % 256 == 0 => 16,
        slot if slot % 32 == 0 => 19,
        slot if slot % 16 == 0 => 20,
        slot if slot % 8 == 0 => 21,
        slot if slot % 4 == 0 => 22,
        slot if slot % 8 == 2 => 23,
        _ => 24,
    }
}

/// A slot's address.
pub(crate) fn slot_address(slot: usize) -> Ipv4Addr {
    Ipv4Addr::from((FIRST + slot as u32) << 8)
}

/// The slot whose prefix has these address octets, the length octet left out.
pub(crate) fn slot_of(octets: &[u8]) -> Option<usize> {
    let number = match *octets {
        [a, b, c] => u32::from_be_bytes([0, a, b, c]),
        [a, b] => u32::from_be_bytes([0, a, b, 0]),
        _ => return None,
    };
    number.checked_sub(FIRST).map(|slot| slot as usize)
}

/// A slot's prefix as NLRI holds it.
fn slot_octets(slot: usize) -> Vec<u8> {
    let length = slot_length(slot);
    let mut octets = vec![length];
    octets.extend(&slot_address(slot).octets()[..usize::from(length.div_ceil(8))]);
    octets
}

/// Slots with common attributes.
type Run = Range<usize>;

/// The runs of a table, in the order in which they are sent.
pub(crate) fn runs(slots: Range<usize>, seed: u64) -> Vec<Run> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut runs = Vec::new();
    let mut start = slots.start;
    while start < slots.end {
        let more = -(1.0 - random.random::<f64>()).ln() * RUN_MORE_MEAN;
        let end = (start + 1 + more as usize).min(start + RUN_MAX).min(slots.end);
        runs.push(start..end);
        start = end;
    }
    runs.shuffle(&mut random);
    runs
}

/// Who sends a feed.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    /// Within the daemon's AS.
    pub(crate) internal: bool,
}

/// A feed that announces runs, then End-of-RIB. `path_length` may fix the number of ASes for the
/// `n`-th run by slots.
pub(crate) fn announcements(
    sender: Sender,
    runs: &[Run],
    path_length: impl Fn(&Run) -> Option<usize>,
    seed: u64,
) -> Arc<[u8]> {
    let mut random =
        StdRng::seed_from_u64(seed ^ u64::from(sender.asn) << 20 ^ u64::from(u32::from(sender.address)));
    let mut out = Vec::new();
    for run in runs {
        let attributes = attributes(sender, path_length(run), &mut random);
        let prefixes: Vec<_> = run.clone().map(slot_octets).collect();
        message::announce(&attributes, &prefixes, &mut out);
    }
    message::end_of_rib(&mut out);
    out.into()
}

/// A feed that withdraws what the runs hold.
pub(crate) fn withdrawals(runs: &[Run]) -> Arc<[u8]> {
    let mut out = Vec::new();
    let prefixes: Vec<_> = runs.iter().cloned().flatten().map(slot_octets).collect();
    message::withdraw(&prefixes, &mut out);
    out.into()
}

/// One UPDATE for one slot.
pub(crate) fn single(sender: Sender, slot: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(slot as u64);
    let mut out = Vec::new();
    message::announce(
        &attributes(sender, None, &mut random),
        &[slot_octets(slot)],
        &mut out,
    );
    out
}

/// A public AS number, none of the benchmark's own.
fn asn(random: &mut StdRng) -> u32 {
    if random.random_bool(0.6) {
        random.random_range(1_000..23_000)
    } else {
        random.random_range(131_072..400_000)
    }
}

fn attributes(sender: Sender, path_length: Option<usize>, random: &mut StdRng) -> Vec<u8> {
    let mut out = AttributeWriter::default();
    out.put(
        AttributeWriter::WELL_KNOWN,
        1,
        &[if random.random_bool(0.9) { 0 } else { 2 }],
    );
    let length = path_length.unwrap_or_else(|| random.random_range(2..=6));
    let mut path = vec![2, length as u8];
    for at in 0..length {
        let hop = if at == 0 && !sender.internal {
            sender.asn
        } else {
            asn(random)
        };
        path.extend(hop.to_be_bytes());
    }
    let empty = length == 0;
    out.put(AttributeWriter::WELL_KNOWN, 2, if empty { &[] } else { &path });
    out.put(AttributeWriter::WELL_KNOWN, 3, &sender.address.octets());
    if random.random_bool(0.2) {
        out.put_words(AttributeWriter::OPTIONAL, 4, &[random.random_range(0..200)]);
    }
    if sender.internal {
        out.put_words(AttributeWriter::WELL_KNOWN, 5, &[100]);
    }
    if random.random_bool(0.05) {
        out.put(AttributeWriter::WELL_KNOWN, 6, &[]);
        let id = Ipv4Addr::from(random.random::<u32>() >> 1);
        out.put_words(AttributeWriter::OPTIONAL_TRANSITIVE, 7, &[asn(random), id.into()]);
    }
    if random.random_bool(0.75) {
        let count = random.random_range(1..=8);
        // Below 65535:0, where the well-known ones begin.
        let communities: Vec<u32> = (0..count)
            .map(|_| random.random_range(0x0001_0000..0xfff0_0000))
            .collect();
        out.put_words(AttributeWriter::OPTIONAL_TRANSITIVE, 8, &communities);
    }
    if random.random_bool(0.1) {
        let large: Vec<u32> = (0..random.random_range(1..=3))
            .flat_map(|_| {
                [
                    asn(random),
                    random.random_range(0..1000),
                    random.random_range(0..1000),
                ]
            })
            .collect();
        out.put_words(AttributeWriter::OPTIONAL_TRANSITIVE, 32, &large);
    }
    out.0
}
