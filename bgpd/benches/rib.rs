//! The RIB by itself, without sessions and sockets: tables of some peers come, are told to another, and go.
//!
//! `cargo bench -p bgpd --bench rib` prints nanoseconds a path of each, what the RIB's owner does with them included:
//! taking UPDATEs in, working out what is to be told, encoding it. Eight peers have the same prefixes, without and
//! with add-path both ways on all sessions. Then one peer's routes are told to several others: in one update group,
//! and with a next hop of ours for each, which makes a group of each.

#![expect(clippy::unwrap_used, reason = "a benchmark ends with its first error")]

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

/// Who announces what to whom.
#[derive(Clone, Copy)]
struct Case {
    /// Peers that announce.
    feeders: u8,
    /// The prefixes that each of them has.
    count: u32,
    /// All sessions have add-path.
    add_path: bool,
    /// Peers that are told.
    receivers: u8,
    /// Each of these is told another next hop.
    own_next_hops: bool,
}

const fn one_receiver(feeders: u8, count: u32, add_path: bool) -> Case {
    Case {
        feeders,
        count,
        add_path,
        receivers: 1,
        own_next_hops: false,
    }
}

const fn several_receivers(receivers: u8, own_next_hops: bool) -> Case {
    Case {
        receivers,
        own_next_hops,
        ..one_receiver(1, 200_000, false)
    }
}

const CASES: [Case; 8] = [
    one_receiver(1, 1_000_000, false),
    one_receiver(8, 50_000, false),
    one_receiver(8, 50_000, true),
    several_receivers(2, false),
    several_receivers(2, true),
    several_receivers(4, true),
    several_receivers(16, false),
    several_receivers(16, true),
];
/// Prefixes with common attributes are one to this many.
const RUN_MAX: u32 = 12;
/// Prefixes of an UPDATE that withdraws.
const WITHDRAWN: usize = 1018;
/// Prefixes taken in before what follows from them is told, as the speaker does it.
const TURN: usize = 16_384;
/// Prefixes that are expected together.
const EXPECTED: usize = 512;
/// What is encoded before it is handed out.
const STAGED_BYTES: usize = 128 * 1024;
/// UPDATEs that come from one peer before it is another's turn.
const BATCH: usize = 128;
const TIMES: usize = 3;

fn main() {
    for case in CASES {
        let runs = runs(case.count);
        for _ in 0..TIMES {
            run(&runs, case);
        }
    }
}

fn run(runs: &[Range<u32>], case: Case) {
    let Case {
        feeders,
        count,
        add_path,
        receivers,
        own_next_hops,
    } = case;
    let mut rib = Rib::new(RibSettings::new(64_512, Ipv4Addr::new(192, 0, 2, 1)));
    let told: Vec<PeerId> = (0..receivers)
        .map(|at| {
            peer(
                &mut rib,
                255 - at,
                add_path,
                if own_next_hops { 100 + at } else { 1 },
            )
        })
        .collect();
    let receiver = told[0];
    let feeders: Vec<PeerId> = (0..feeders)
        .map(|at| peer(&mut rib, at + 2, add_path, 1))
        .collect();
    // Each sends them in an order of its own.
    let runs_of = |at: usize| {
        let (behind, ahead) = runs.split_at(at * runs.len() / feeders.len());
        ahead.iter().chain(behind).cloned()
    };
    let announcing = feeders.iter().enumerate().map(|(at, peer)| {
        let mut random = StdRng::seed_from_u64(at as u64);
        let updates = runs_of(at).map(move |run| announcement(run, &mut random));
        (
            *peer,
            Box::new(updates) as Box<dyn Iterator<Item = ReceivedUpdate>>,
        )
    });
    let (announced, told) = play(&mut rib, receiver, announcing.collect());
    let bytes = rib.memory().bytes() as f64 / f64::from(count);
    let withdrawing = feeders.iter().enumerate().map(|(at, peer)| {
        let prefixes: Vec<Prefix> = runs_of(at).flatten().map(prefix).collect();
        let updates: Vec<ReceivedUpdate> = prefixes.chunks(WITHDRAWN).map(withdrawal).collect();
        (
            *peer,
            Box::new(updates.into_iter()) as Box<dyn Iterator<Item = ReceivedUpdate>>,
        )
    });
    let (withdrawn, told_gone) = play(&mut rib, receiver, withdrawing.collect());
    assert!(
        told >= count as usize && told_gone >= count as usize,
        "{told} and {told_gone} of {count}"
    );
    assert_eq!(rib.memory().paths, 0);
    let paths = f64::from(count) * feeders.len() as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e9 / paths;
    println!(
        "{} peers, {count} prefixes{}, told to {receivers}{}: announced in {:.0} ns a path, withdrawn in {:.0} ns; {bytes:.1} bytes a prefix",
        feeders.len(),
        if add_path { ", add-path" } else { "" },
        if own_next_hops {
            ", each with a next hop of its own"
        } else {
            ""
        },
        each(announced),
        each(withdrawn),
    );
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

fn peer(rib: &mut Rib, last: u8, add_path: bool, next_hop: u8) -> PeerId {
    let address = IpAddr::from([10, 0, 0, last]);
    let mut settings = PeerSettings::new(NeighborKey::new(address, 179), 64_512 + u32::from(last), 64_512);
    settings.families = [Family::Ipv4Unicast].into_iter().collect();
    settings.import = Policy::Accept;
    settings.export = Policy::Accept;
    settings.self_next_hop = [Some(NextHop::V4(Ipv4Addr::new(10, 0, 0, next_hop))), None];
    if add_path {
        settings.add_path_receive = settings.families;
        settings.add_path_send = settings.families;
    }
    rib.peer_up(settings)
}

fn announcement(run: Range<u32>, random: &mut StdRng) -> ReceivedUpdate {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::from([10, 0, 0, 2])));
    let path = (0..random.random_range(1..6)).map(|_| random.random_range(100_000..400_000));
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

/// Has the RIB take in what peers send: how long that takes, and how many routes the receiver is told of or loses.
fn play(
    rib: &mut Rib,
    receiver: PeerId,
    mut feeds: Vec<(PeerId, Box<dyn Iterator<Item = ReceivedUpdate> + '_>)>,
) -> (Duration, usize) {
    let codec = codec(rib, receiver);
    let (mut time, mut told) = (Duration::ZERO, 0);
    while !feeds.is_empty() {
        let mut turn: Vec<(PeerId, Vec<ReceivedUpdate>)> = Vec::new();
        let mut prefixes = 0;
        while prefixes < TURN && !feeds.is_empty() {
            feeds.retain_mut(|(peer, updates)| {
                let batch: Vec<ReceivedUpdate> = updates.by_ref().take(BATCH).collect();
                prefixes += batch.iter().map(ReceivedUpdate::prefix_count).sum::<usize>();
                let more = !batch.is_empty();
                for part in batch.chunks(EXPECTED / RUN_MAX as usize) {
                    turn.push((*peer, part.to_vec()));
                }
                more
            });
        }
        let start = Instant::now();
        for (peer, part) in turn {
            rib.expect(&part);
            for update in part {
                rib.withdraw_paths(peer, update.withdrawn.routes());
                for (attributes, routes) in update.announced {
                    rib.update_paths(peer, attributes, routes.routes());
                }
            }
        }
        rib.skip_fib();
        told += tell(rib, receiver, codec);
        time += start.elapsed();
    }
    (time, told)
}

fn codec(rib: &Rib, peer: PeerId) -> Codec {
    Codec {
        add_path_send: rib.settings_of(peer).unwrap().add_path_send,
        ..Codec::default()
    }
}

/// Encodes what is to be told; how many routes that are for a peer.
fn tell(rib: &mut Rib, receiver: PeerId, codec: Codec) -> usize {
    let mut told = 0;
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
                wire::encode_announcement(attributes, routes, codec, &mut out).unwrap();
            }
            Outgoing::Withdraw { prefixes, path_ids } => {
                told += if is_told { prefixes.len() } else { 0 };
                wire::encode_withdrawal(Nlri { prefixes, path_ids }, codec, &mut out);
            }
            Outgoing::EndOfRib | Outgoing::Refresh(_) => {}
        }
        if out.len() > STAGED_BYTES {
            out = Vec::new();
        }
    }
    black_box(out);
    told
}
