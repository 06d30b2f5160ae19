//! The RIB by itself, without sessions and sockets: a full table of one peer comes, is told to another, and goes.
//!
//! `cargo bench -p bgpd --bench rib -- [PREFIXES]` prints nanoseconds a prefix of each, what the RIB's owner does with
//! them included: taking UPDATEs in, working out what is to be told, encoding it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark ends with its first error"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

use bgpd::config::NeighborKey;
use bgpd::policy::Policy;
use bgpd::rib::{Outgoing, PeerId, PeerSettings, ReceivedRoutes, ReceivedUpdate, Rib, RibSettings};
use bgpd::wire::{self, AsPath, Attributes, Codec, Community, Family, NextHop, Nlri, Prefix};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

const PREFIXES_DEFAULT: u32 = 1_000_000;
/// Prefixes with common attributes are one to this many.
const RUN_MAX: u32 = 12;
/// Prefixes of an UPDATE that withdraws.
const WITHDRAWN: usize = 1018;
/// Prefixes taken in before what follows from them is told, as the speaker does it.
const TURN: usize = 16_384;
/// Prefixes that are expected together.
const EXPECTED: usize = 512;
const TIMES: usize = 3;

fn main() {
    // What cargo itself passes begins with a dash.
    let count = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let count = count.map_or(PREFIXES_DEFAULT, |count| {
        count.parse().expect("a number of prefixes")
    });
    let runs = runs(count);
    for _ in 0..TIMES {
        let mut rib = Rib::new(RibSettings::new(64_512, Ipv4Addr::new(192, 0, 2, 1)));
        let [feeder, receiver] = [2, 3].map(|last| peer(&mut rib, last));
        let mut random = StdRng::seed_from_u64(1);
        let updates = runs.iter().map(|run| announcement(run.clone(), &mut random));
        let (announcing, told) = play(&mut rib, feeder, receiver, updates);
        let bytes = rib.memory().bytes() as f64 / f64::from(count);
        assert_eq!(told, count as usize);
        let prefixes: Vec<Prefix> = runs.iter().cloned().flatten().map(prefix).collect();
        let updates = prefixes.chunks(WITHDRAWN).map(withdrawal);
        let (withdrawing, told) = play(&mut rib, feeder, receiver, updates);
        assert_eq!(told, count as usize);
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(count);
        println!(
            "{count} prefixes: announced in {:.0} ns each, withdrawn in {:.0} ns each; {bytes:.1} bytes each",
            each(announcing),
            each(withdrawing),
        );
    }
}

/// Neighbouring prefixes with common attributes, in random order.
fn runs(count: u32) -> Vec<Range<u32>> {
    let mut random = StdRng::seed_from_u64(0);
    let mut runs = Vec::new();
    let mut start = 0;
    while start < count {
        let end = (start + random.random_range(1..=RUN_MAX)).min(count);
        runs.push(start..end);
        start = end;
    }
    runs.shuffle(&mut random);
    runs
}

fn prefix(n: u32) -> Prefix {
    Prefix::new(Ipv4Addr::from(0x1400_0000 + (n << 8)).into(), 24).unwrap()
}

fn peer(rib: &mut Rib, last: u8) -> PeerId {
    let address = IpAddr::from([10, 0, 0, last]);
    let mut settings = PeerSettings::new(NeighborKey::new(address, 179), 64_512 + u32::from(last), 64_512);
    settings.families = [Family::Ipv4Unicast].into_iter().collect();
    settings.import = Policy::Accept;
    settings.export = Policy::Accept;
    settings.self_next_hop = [Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))), None];
    rib.peer_up(settings)
}

fn announcement(run: Range<u32>, random: &mut StdRng) -> ReceivedUpdate {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::from([10, 0, 0, 2])));
    let path = (0..random.random_range(1..6)).map(|_| random.random_range(1000..400_000));
    attributes.as_path = AsPath::sequence(std::iter::once(64_514).chain(path));
    let communities = 0..random.random_range(0..8);
    attributes.communities = communities
        .map(|_| Community(random.random_range(1 << 16..0xfff0_0000)))
        .collect();
    let routes = ReceivedRoutes {
        prefixes: run.map(prefix).collect(),
        path_ids: Vec::new(),
    };
    ReceivedUpdate {
        withdrawn: ReceivedRoutes::default(),
        announced: vec![((&attributes).into(), routes)],
        end_of_rib: None,
    }
}

fn withdrawal(prefixes: &[Prefix]) -> ReceivedUpdate {
    let withdrawn = ReceivedRoutes {
        prefixes: prefixes.to_vec(),
        path_ids: Vec::new(),
    };
    ReceivedUpdate {
        withdrawn,
        announced: Vec::new(),
        end_of_rib: None,
    }
}

/// Has the RIB take UPDATEs in: how long that takes, and how many routes the receiver is told of or loses.
fn play(
    rib: &mut Rib,
    feeder: PeerId,
    receiver: PeerId,
    mut updates: impl Iterator<Item = ReceivedUpdate>,
) -> (Duration, usize) {
    let (mut time, mut told) = (Duration::ZERO, 0);
    loop {
        let mut turn: Vec<Vec<ReceivedUpdate>> = Vec::new();
        let mut prefixes = 0;
        while prefixes < TURN {
            let mut part = Vec::new();
            let mut expected = 0;
            while expected < EXPECTED
                && let Some(update) = updates.next()
            {
                expected += update.prefix_count();
                part.push(update);
            }
            if part.is_empty() {
                break;
            }
            prefixes += expected;
            turn.push(part);
        }
        if turn.is_empty() {
            return (time, told);
        }
        let start = Instant::now();
        for part in turn {
            rib.expect(&part);
            for update in part {
                rib.withdraw_paths(feeder, update.withdrawn.routes());
                for (attributes, routes) in update.announced {
                    rib.update_paths(feeder, attributes, routes.routes());
                }
            }
        }
        rib.skip_fib();
        let mut out = Vec::new();
        while let Some(transmit) = rib.poll_transmit() {
            let is_told = transmit.peers.contains(&receiver);
            match &transmit.outgoing {
                Outgoing::Announce {
                    attributes,
                    prefixes,
                    path_ids,
                } => {
                    told += if is_told { prefixes.len() } else { 0 };
                    let routes = Nlri { prefixes, path_ids };
                    wire::encode_announcement(attributes, routes, Codec::default(), &mut out).unwrap();
                }
                Outgoing::Withdraw { prefixes, path_ids } => {
                    told += if is_told { prefixes.len() } else { 0 };
                    wire::encode_withdrawal(Nlri { prefixes, path_ids }, Codec::default(), &mut out);
                }
                Outgoing::EndOfRib | Outgoing::Refresh(_) => {}
            }
            if out.len() > 128 * 1024 {
                black_box(std::mem::take(&mut out));
            }
        }
        black_box(out);
        time += start.elapsed();
    }
}
