//! Many sessions with the shortest hold time while routes churn: none may expire.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::daemon::{Daemon, Setup};
use crate::feed;
use crate::fleet::Fleet;
use crate::plan;
use crate::run::{Bench, QUIET_TIME};

/// The shortest that RFC 4271 section 4.2 allows.
const HOLD_TIME: Duration = Duration::from_secs(3);
/// Peers that announce and withdraw their tables in turn.
const FEEDERS: usize = 2;
/// Peers that are told all routes; the others are told none and have but keepalives to live on.
const RECEIVERS: usize = 8;
/// How long the churn lasts.
const CHURN_TIME: Duration = Duration::from_secs(20);

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) sessions: usize,
    pub(crate) prefixes: usize,
    /// How often a feeder's whole table was announced or withdrawn.
    pub(crate) turns: usize,
    /// Sessions that ended, by the daemon's hold timer or in any other way.
    pub(crate) lost: usize,
    /// Sessions on which the daemon was silent for the hold time.
    pub(crate) silent: usize,
    /// The longest that it was silent on any session.
    pub(crate) longest_silence_s: f64,
    /// The first loss.
    pub(crate) reason: Option<String>,
}

/// The outcome in a sentence.
pub(crate) fn told(outcome: &Result<Outcome, String>) -> String {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(reason) => return format!("margay    {reason}"),
    };
    let met = outcome.lost == 0 && outcome.silent == 0;
    format!(
        "margay    {} sessions, {} prefixes, {} tables announced or withdrawn in {} s: {} sessions lost, {} silent \
         for {} s, the longest silence {:.2} s{}\ntarget: no hold timer expires: {}",
        outcome.sessions,
        outcome.prefixes,
        outcome.turns,
        CHURN_TIME.as_secs(),
        outcome.lost,
        outcome.silent,
        HOLD_TIME.as_secs(),
        outcome.longest_silence_s,
        outcome
            .reason
            .as_ref()
            .map(|reason| format!("; {reason}"))
            .unwrap_or_default(),
        if met { "met" } else { "NOT met" }
    )
}

pub(crate) fn run(
    bench: &Bench<'_>,
    daemon: Daemon,
    sessions: usize,
    slots: usize,
) -> anyhow::Result<Outcome> {
    let neighbors = (0..sessions).map(|index| {
        let mut neighbor = plan::external(index);
        neighbor.identity.hold_time_s = HOLD_TIME.as_secs() as u16;
        neighbor.export = (FEEDERS..FEEDERS + RECEIVERS).contains(&index);
        neighbor
    });
    let setup = Setup {
        neighbors: neighbors.collect(),
        fib: false,
    };
    let share = slots / FEEDERS;
    let feeds: Vec<_> = (0..FEEDERS)
        .map(|index| {
            let runs = feed::runs(index * share..(index + 1) * share, plan::SEED);
            let sender = plan::sender(&setup.neighbors[index]);
            let announcements = feed::announcements(sender, &runs, |_| None, plan::SEED);
            [announcements, feed::withdrawals(&runs)]
        })
        .collect();
    bench.with_daemon(daemon, &setup, |fabric, _| {
        let identities: Vec<_> = setup.neighbors.iter().map(|neighbor| neighbor.identity).collect();
        let mut fleet = Fleet::establish(fabric, &identities)?;
        fleet.run_for(QUIET_TIME)?;
        let mut turns = [0; FEEDERS];
        let mut longest = vec![Duration::ZERO; sessions];
        let end = Instant::now() + CHURN_TIME;
        while Instant::now() < end {
            for (index, pair) in feeds.iter().enumerate() {
                if fleet.peers[index].has_written_all() && !fleet.peers[index].is_lost {
                    fleet.send(index, pair[turns[index] % 2].clone())?;
                    turns[index] += 1;
                }
            }
            let before = Instant::now();
            fleet.turn()?;
            // What waited in our own sockets meanwhile is not the daemon's silence.
            for (peer, longest) in fleet.peers.iter().zip(&mut longest) {
                if !peer.is_lost {
                    *longest = (*longest).max(before.saturating_duration_since(peer.heard));
                }
            }
        }
        let silence = longest.iter().max().copied().unwrap_or_default();
        Ok(Outcome {
            sessions,
            prefixes: slots,
            turns: turns.iter().sum(),
            lost: fleet.losses.len(),
            silent: longest.iter().filter(|silence| **silence >= HOLD_TIME).count(),
            longest_silence_s: silence.as_secs_f64(),
            reason: fleet
                .losses
                .first()
                .map(|loss| format!("{}: {}", loss.peer.address, loss.reason)),
        })
    })
}
