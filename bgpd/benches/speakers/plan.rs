//! The cases whose feeds and ends are known beforehand: who sends what, and what must have arrived.

use std::ops::Range;
use std::sync::Arc;

use crate::daemon::{Neighbor, Setup};
use crate::fabric::{DAEMON_AS, FIRST_PEER_AS, peer_address};
use crate::feed::{self, Sender};
use crate::peer::PeerIdentity;
use crate::tally::{NONE, Tally};

/// Seconds without a message after which the daemon gives a peer up.
const HOLD_TIME_S: u16 = 90;
/// Of the table.
pub(crate) const SEED: u64 = 0x6d61_7267;

/// A case.
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) phases: Vec<Phase>,
    /// What a receiver starts with, by peer.
    tallies: Vec<Option<Watch>>,
}

/// A measured step.
pub(crate) struct Phase {
    /// The row that it fills.
    pub(crate) row: &'static str,
    /// Which peer sends what.
    pub(crate) feeds: Vec<(usize, Arc<[u8]>)>,
    /// Which peer's tally must have come to which count.
    pub(crate) goals: Vec<(usize, usize)>,
    /// Prefixes that it holds at its end.
    pub(crate) prefixes: usize,
}

#[derive(Clone)]
enum Watch {
    /// Which of so many slots are held; those of its own count as such, reflected or not.
    Held(usize, Range<usize>),
    Best(Arc<[u8]>),
}

impl Plan {
    pub(crate) fn identities(&self) -> Vec<PeerIdentity> {
        self.setup
            .neighbors
            .iter()
            .map(|neighbor| neighbor.identity)
            .collect()
    }

    /// A tally for each peer that is a receiver.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = Option<Tally>> {
        self.tallies.iter().map(|watch| {
            Some(match watch.clone()? {
                Watch::Held(slots, own) => Tally::held(slots, own),
                Watch::Best(expected) => Tally::best(expected, FIRST_PEER_AS),
            })
        })
    }
}

/// A peer in an AS of its own.
pub(crate) fn external(index: usize) -> Neighbor {
    Neighbor {
        identity: PeerIdentity {
            address: peer_address(index),
            asn: FIRST_PEER_AS + index as u32,
            hold_time_s: HOLD_TIME_S,
        },
        client: false,
        export: true,
    }
}

/// A peer in the daemon's AS.
fn client(index: usize) -> Neighbor {
    let mut neighbor = external(index);
    neighbor.identity.asn = DAEMON_AS;
    neighbor.client = true;
    neighbor
}

/// What a neighbor's feeds carry.
pub(crate) fn sender(neighbor: &Neighbor) -> Sender {
    Sender {
        address: neighbor.identity.address,
        asn: neighbor.identity.asn,
        internal: neighbor.client,
    }
}

/// Feeders with distinct prefixes, and one receiver of them all.
pub(crate) fn distinct_feeds(row: &'static str, feeders: usize, slots: usize) -> Plan {
    let neighbors: Vec<_> = (0..=feeders).map(external).collect();
    let share = slots / feeders;
    let feeds = (0..feeders).map(|index| {
        let runs = feed::runs(index * share..(index + 1) * share, SEED + index as u64);
        (
            index,
            feed::announcements(sender(&neighbors[index]), &runs, |_| None, SEED),
        )
    });
    let all = share * feeders;
    let phase = Phase {
        row,
        feeds: feeds.collect(),
        goals: vec![(feeders, all)],
        prefixes: all,
    };
    let mut tallies = vec![None; feeders];
    tallies.push(Some(Watch::Held(all, 0..0)));
    Plan {
        setup: Setup {
            neighbors,
            fib: false,
        },
        phases: vec![phase],
        tallies,
    }
}

/// One feeder whose table comes and goes again.
pub(crate) fn announce_and_withdraw(rows: [&'static str; 2], slots: usize) -> Plan {
    let mut plan = distinct_feeds(rows[0], 1, slots);
    plan.phases.push(Phase {
        row: rows[1],
        feeds: vec![(0, feed::withdrawals(&feed::runs(0..slots, SEED)))],
        goals: vec![(1, 0)],
        prefixes: 0,
    });
    plan
}

/// Feeders with the same prefixes. Who has the shortest AS_PATH differs from run to run; the receiver
/// must come to hold just these.
pub(crate) fn same_feeds(row: &'static str, feeders: usize, slots: usize) -> Plan {
    let neighbors: Vec<_> = (0..=feeders).map(external).collect();
    let runs = feed::runs(0..slots, SEED);
    // By the run's first slot, so that it does not depend on the order.
    let rank = |feeder: usize, run: &Range<usize>| (run.start + feeder) % feeders;
    let mut expected = vec![NONE; slots];
    for run in &runs {
        let best = (0..feeders).find(|feeder| rank(*feeder, run) == 0).unwrap_or(0);
        expected[run.clone()].fill(best as u8);
    }
    let feeds = (0..feeders).map(|index| {
        let mut own = runs.clone();
        // Each sends them in an order of its own.
        own.rotate_left(index * runs.len() / feeders);
        let length = |run: &_| Some(2 + rank(index, run));
        (
            index,
            feed::announcements(sender(&neighbors[index]), &own, length, SEED),
        )
    });
    let phase = Phase {
        row,
        feeds: feeds.collect(),
        goals: vec![(feeders, slots)],
        prefixes: slots,
    };
    let mut tallies = vec![None; feeders];
    tallies.push(Some(Watch::Best(expected.into())));
    Plan {
        setup: Setup {
            neighbors,
            fib: false,
        },
        phases: vec![phase],
        tallies,
    }
}

/// Clients of a reflector, each with some prefixes, each of which must hold all others'.
pub(crate) fn reflector(row: &'static str, clients: usize, share: usize) -> Plan {
    let neighbors: Vec<_> = (0..clients).map(client).collect();
    let feeds = (0..clients).map(|index| {
        let runs = feed::runs(index * share..(index + 1) * share, SEED + index as u64);
        (
            index,
            feed::announcements(sender(&neighbors[index]), &runs, |_| None, SEED),
        )
    });
    let all = clients * share;
    let phase = Phase {
        row,
        feeds: feeds.collect(),
        goals: (0..clients).map(|index| (index, all)).collect(),
        prefixes: all,
    };
    let own = |index| index * share..(index + 1) * share;
    Plan {
        tallies: (0..clients)
            .map(|index| Some(Watch::Held(all, own(index))))
            .collect(),
        setup: Setup {
            neighbors,
            fib: false,
        },
        phases: vec![phase],
    }
}
