//! One run of a plan with one daemon.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use crate::daemon::{Daemon, Running};
use crate::fabric::Fabric;
use crate::fleet::Fleet;
use crate::plan::{Phase, Plan};
use crate::usage;

/// Between the sessions' establishment and the feed: what daemons do after it is over by then.
pub(crate) const QUIET_TIME: Duration = Duration::from_secs(1);
/// After the end, before CPU and memory are read: work put off counts too.
pub(crate) const SETTLE_TIME: Duration = Duration::from_millis(500);

/// What was measured of a phase.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Sample {
    #[serde(skip)]
    pub(crate) row: &'static str,
    /// From the first octet sent until the goal is reached.
    pub(crate) wall_s: f64,
    /// The daemon's CPU time in the phase and `SETTLE_TIME` after it.
    pub(crate) cpu_s: f64,
    /// The peers' CPU time in the phase: far below `wall_s`, or they were what was measured.
    pub(crate) peers_cpu_s: f64,
    /// The most that was resident since the daemon's start.
    pub(crate) peak_bytes: u64,
    /// How much of it the phase's prefixes account for, each.
    pub(crate) bytes_per_prefix: Option<f64>,
}

/// What a run needs to know.
pub(crate) struct Bench<'a> {
    /// This repository's daemon.
    pub(crate) ours: &'a Path,
    /// Longest time for a phase.
    pub(crate) limit: Duration,
}

impl Bench<'_> {
    /// Starts the daemon in a fabric of its own and gives both to `work`, and says what the daemon
    /// said if that fails.
    pub(crate) fn with_daemon<T>(
        &self,
        daemon: Daemon,
        plan: &crate::daemon::Setup,
        work: impl FnOnce(&Fabric, &Running) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let fabric = Fabric::new(plan.neighbors.len())?;
        let directory = tempfile::tempdir()?;
        let running = daemon.start(self.ours, &fabric, directory.path(), plan)?;
        let outcome = work(&fabric, &running);
        let outcome = outcome.map_err(|error| anyhow!("{error:#}; {}", running.last_words()));
        running.stop();
        outcome
    }

    /// Runs all phases of a plan.
    pub(crate) fn run(&self, daemon: Daemon, plan: &Plan) -> anyhow::Result<Vec<Sample>> {
        self.with_daemon(daemon, &plan.setup, |fabric, running| {
            let mut fleet = Fleet::establish(fabric, &plan.identities())?;
            fleet.run_for(QUIET_TIME)?;
            for (peer, tally) in fleet.peers.iter_mut().zip(plan.tallies()) {
                peer.tally = tally;
            }
            let before = running.usage()?;
            let phases = plan.phases.iter();
            phases
                .map(|phase| self.phase(phase, &mut fleet, running, before.rss_bytes))
                .collect()
        })
    }

    fn phase(
        &self,
        phase: &Phase,
        fleet: &mut Fleet,
        running: &Running,
        rss_before: u64,
    ) -> anyhow::Result<Sample> {
        for (peer, goal) in &phase.goals {
            let tally = fleet.peers[*peer]
                .tally
                .as_mut()
                .context("a receiver has a tally")?;
            tally.goal = *goal;
        }
        let (before, own_before) = (running.usage()?, usage::own_cpu_s());
        let start = Instant::now();
        for (peer, octets) in &phase.feeds {
            fleet.send(*peer, octets.clone())?;
        }
        let deadline = start + self.limit;
        let done = fleet.run_until(deadline, |fleet| missing(phase, fleet).next().is_none())?;
        let wall_s = start.elapsed().as_secs_f64();
        let peers_cpu_s = usage::own_cpu_s() - own_before;
        if !done {
            let (peer, count, goal) = missing(phase, fleet).next().context("something was missing")?;
            let others = missing(phase, fleet).count() - 1;
            bail!(
                "not complete within {:?}: peer {peer} has {count} of {goal}, and {others} others lack something",
                self.limit
            );
        }
        fleet.run_for(SETTLE_TIME)?;
        if let Some((peer, count, goal)) = missing(phase, fleet).next() {
            bail!("complete after {wall_s:.3} s, but then peer {peer} had {count} of {goal}");
        }
        let after = running.usage()?;
        let grown = after.peak_bytes.saturating_sub(rss_before) as f64;
        Ok(Sample {
            row: phase.row,
            wall_s,
            cpu_s: after.cpu_s - before.cpu_s,
            peers_cpu_s,
            peak_bytes: after.peak_bytes,
            bytes_per_prefix: (phase.prefixes > 0).then(|| grown / phase.prefixes as f64),
        })
    }
}

/// Receivers that lack something: index, count and goal.
fn missing<'a>(phase: &'a Phase, fleet: &'a Fleet) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
    phase.goals.iter().filter_map(|(peer, goal)| {
        let tally = fleet.peers[*peer].tally.as_ref()?;
        (!tally.is_complete()).then_some((*peer, tally.count, *goal))
    })
}
