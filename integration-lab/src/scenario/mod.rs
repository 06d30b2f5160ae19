//! Scenarios: something happens to a fabric that is up, its effect is measured, and afterwards everything must
//! hold as before.

mod agent_restart;
mod peer_change;
pub(crate) mod policy_change;
mod tor_loss;
mod uplink_flap;
mod witnesses;
mod workload_readd;

use std::str::FromStr;

use anyhow::{Context, bail};

use crate::deploy::Progress;
use crate::fabric::{Fabric, PolicyChange, Scenarios, SpeakerKind};
use crate::node::processes;
use crate::running::RunningLab;
use crate::verify::{Report, SETTLE_MAX, verify_into};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// An agent is killed and started again under traffic.
    AgentRestart,
    /// The router process of a rack dies.
    TorLossProcess,
    /// The router of a rack falls silent with its links up.
    TorLossSilent,
    /// The router of a rack disappears with all its interfaces.
    TorLossNamespace,
    /// A workload is deleted and made again.
    WorkloadReadd,
    /// A policy is changed and changed back.
    PolicyChange,
    /// A BGP peer is changed and changed back.
    PeerChange,
    /// A host loses its uplinks, one after the other and together, and gets them back.
    UplinkFlap,
    /// The same while its agent is dead.
    UplinkFlapAgentDead,
}

impl Scenario {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("agent-restart", Self::AgentRestart),
        ("peer-change", Self::PeerChange),
        ("uplink-flap", Self::UplinkFlap),
        ("uplink-flap-agent-dead", Self::UplinkFlapAgentDead),
        ("tor-loss-process", Self::TorLossProcess),
        ("tor-loss-silent", Self::TorLossSilent),
        ("tor-loss-namespace", Self::TorLossNamespace),
        ("workload-readd", Self::WorkloadReadd),
        ("policy-change", Self::PolicyChange),
    ];

    /// The scenarios that a name stands for: one, or with `all` those for which a fabric has something to act on.
    pub fn named(name: &str, fabric: &Fabric) -> anyhow::Result<Vec<Self>> {
        if name != "all" {
            return name.parse().map(|s| vec![s]);
        }
        let acted_on = fabric.scenarios.as_ref().context("lab.yml has no scenarios")?;
        let all = Self::ALL.iter().map(|(_, scenario)| *scenario);
        Ok(all.filter(|scenario| scenario.has_a_place(acted_on)).collect())
    }

    fn has_a_place(self, acted_on: &Scenarios) -> bool {
        match self {
            Self::AgentRestart => acted_on.agent_restart.is_some(),
            Self::TorLossProcess | Self::TorLossSilent | Self::TorLossNamespace => {
                acted_on.tor_loss.is_some()
            }
            Self::WorkloadReadd => acted_on.workload_readd.is_some(),
            Self::PolicyChange => acted_on.policy_change.is_some(),
            Self::PeerChange => acted_on.peer_change.is_some(),
            Self::UplinkFlap | Self::UplinkFlapAgentDead => !acted_on.uplink_flap.is_empty(),
        }
    }
}

impl FromStr for Scenario {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let known = Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, s)| *s);
        known.with_context(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(n, _)| *n).collect();
            format!(
                "there is no scenario {name:?}: there are {} and all",
                names.join(", ")
            )
        })
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(_, s)| s == self).map_or("", |(n, _)| n);
        f.write_str(name)
    }
}

/// Runs a scenario and then the whole of `verify`; both are in the report.
pub fn run(lab: &RunningLab, scenario: Scenario, progress: Progress) -> anyhow::Result<Report> {
    let stage = Stage::of(lab)?;
    if !scenario.has_a_place(stage.acted_on) {
        bail!("lab.yml says nothing about what {scenario} acts on");
    }
    let mut report = Report::default();
    match scenario {
        Scenario::AgentRestart => agent_restart::run(&stage, &mut report, progress),
        Scenario::TorLossProcess => tor_loss::run(&stage, tor_loss::Loss::Process, &mut report, progress),
        Scenario::TorLossSilent => tor_loss::run(&stage, tor_loss::Loss::Silent, &mut report, progress),
        Scenario::TorLossNamespace => tor_loss::run(&stage, tor_loss::Loss::Namespace, &mut report, progress),
        Scenario::WorkloadReadd => workload_readd::run(&stage, &mut report, progress),
        Scenario::PolicyChange => policy_change::run(&stage, &mut report, progress),
        Scenario::PeerChange => peer_change::run(&stage, &mut report, progress),
        Scenario::UplinkFlap => uplink_flap::run(&stage, false, &mut report, progress),
        Scenario::UplinkFlapAgentDead => uplink_flap::run(&stage, true, &mut report, progress),
    }
    .with_context(|| format!("scenario {scenario}"))?;
    verify_into(lab, SETTLE_MAX, &mut report)?;
    Ok(report)
}

/// What a scenario works with.
pub(crate) struct Stage<'a> {
    pub(crate) lab: &'a RunningLab,
    pub(crate) fabric: &'a Fabric,
    pub(crate) acted_on: &'a Scenarios,
}

impl<'a> Stage<'a> {
    /// The stage of a lab whose fabric has scenarios.
    pub(crate) fn of(lab: &'a RunningLab) -> anyhow::Result<Self> {
        let fabric = lab.fabric()?;
        let acted_on = fabric.scenarios.as_ref().context("lab.yml has no scenarios")?;
        Ok(Self {
            lab,
            fabric,
            acted_on,
        })
    }

    /// The change of policy that the fabric has.
    pub(crate) fn policy_change(&self) -> anyhow::Result<&PolicyChange> {
        let change = self.acted_on.policy_change.as_ref();
        change.context("lab.yml has no scenarios.policy-change")
    }

    /// The workload that can be deleted and made again.
    pub(crate) fn workload_readd(&self) -> anyhow::Result<&str> {
        let name = self.acted_on.workload_readd.as_deref();
        name.context("lab.yml has no scenarios.workload-readd")
    }

    /// Kills every process of a node's speaker.
    fn kill_speaker(&self, node: &str) -> anyhow::Result<()> {
        let speaker = self
            .fabric
            .speakers
            .get(node)
            .with_context(|| format!("{node} runs no speaker"))?;
        let holder = self.lab.dir.live_holder(node)?;
        for name in &speaker.processes {
            let running = processes::named(&holder, name);
            if running.is_empty() {
                bail!("{node}: no process {name} to kill");
            }
            for process in running {
                process.kill_and_wait()?;
            }
        }
        Ok(())
    }

    /// Starts those processes of a node's speaker that do not run.
    fn start_speaker(&self, node: &str) -> anyhow::Result<()> {
        let speaker = self
            .fabric
            .speakers
            .get(node)
            .with_context(|| format!("{node} runs no speaker"))?;
        let start: Vec<&str> = speaker.start.iter().map(String::as_str).collect();
        self.lab.run(node, &start).map(|_| ())
    }

    /// The nodes between the racks: every BIRD that is no rack's router.
    fn spines(&self) -> impl Iterator<Item = &str> {
        let is_tor = |node: &String| self.fabric.racks.values().any(|r| r.tor == *node);
        let birds = self
            .fabric
            .speakers
            .iter()
            .filter(|(_, s)| s.kind == SpeakerKind::Bird);
        birds
            .map(|(n, _)| n)
            .filter(move |n| !is_tor(n))
            .map(String::as_str)
    }
}
