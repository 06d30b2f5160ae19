//! The daemons: for each, its configuration, its command line, and its version.

mod bird;
mod frr;
mod gobgp;
mod margay;
mod openbgpd;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;

use crate::fabric::Fabric;
use crate::net::Process;
use crate::peer::PeerIdentity;
use crate::usage::{self, Usage};

/// How long a daemon has to end at SIGTERM before it is killed.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A BGP speaker to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Daemon {
    /// The one of this repository.
    Margay,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd; with zebra where routes go to the kernel.
    Frr,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
}

/// What a daemon is to be configured for.
pub(crate) struct Setup {
    pub(crate) neighbors: Vec<Neighbor>,
    /// Whether routes go to the kernel.
    pub(crate) fib: bool,
}

/// A neighbor, which connects to the daemon. Every route is taken from it, and every route told it.
pub(crate) struct Neighbor {
    pub(crate) identity: PeerIdentity,
    /// It is within the daemon's AS, and its routes are reflected.
    pub(crate) client: bool,
    /// It is told routes.
    pub(crate) export: bool,
}

/// A daemon that runs. It ends with this.
pub(crate) struct Running {
    processes: Vec<Process>,
}

impl Daemon {
    pub(crate) const ALL: [Self; 5] = [Self::Margay, Self::Bird, Self::Frr, Self::Gobgp, Self::Openbgpd];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Margay => "margay",
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Gobgp => "gobgp",
            Self::Openbgpd => "openbgpd",
        }
    }

    /// Whether it is measured with routes in the kernel. GoBGP leaves them to zebra, and OpenBGPD has
    /// no code for Linux's.
    pub(crate) const fn has_fib(self) -> bool {
        matches!(self, Self::Margay | Self::Bird | Self::Frr)
    }

    /// Its program. `ours` is this repository's.
    fn program(self, ours: &Path) -> PathBuf {
        match self {
            Self::Margay => ours.to_owned(),
            Self::Bird => "/usr/sbin/bird".into(),
            Self::Frr => "/usr/lib/frr/bgpd".into(),
            Self::Gobgp => "/usr/bin/gobgpd".into(),
            Self::Openbgpd => "/usr/sbin/bgpd".into(),
        }
    }

    /// What it says of its version; `None` if it is not installed.
    pub(crate) fn version(self, ours: &Path) -> Option<String> {
        let flag = if self == Self::Openbgpd { "-V" } else { "--version" };
        let output = Command::new(self.program(ours)).arg(flag).output().ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Some(said.lines().next().unwrap_or("unknown").to_owned())
    }

    /// Starts it in the fabric, with its files in a directory of its own.
    pub(crate) fn start(
        self,
        ours: &Path,
        fabric: &Fabric,
        directory: &Path,
        setup: &Setup,
    ) -> anyhow::Result<Running> {
        let program = self.program(ours);
        let lines = match self {
            Self::Margay => margay::prepare(&program, directory, setup),
            Self::Bird => bird::prepare(&program, directory, setup),
            Self::Frr => frr::prepare(&program, directory, setup),
            Self::Gobgp => gobgp::prepare(&program, directory, setup),
            Self::Openbgpd => openbgpd::prepare(&program, directory, setup),
        }?;
        let mut running = Running {
            processes: Vec::new(),
        };
        for (number, line) in lines.iter().enumerate() {
            let log = directory.join(format!("{}-{number}.log", self.name()));
            running.processes.push(fabric.daemon.spawn(line, &log));
        }
        Ok(running)
    }
}

impl Running {
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let pids: Vec<u32> = self.processes.iter().map(Process::pid).collect();
        usage::of(&pids)
    }

    /// The last lines of what it wrote, for a message about its failure.
    pub(crate) fn last_words(&self) -> String {
        let last = |log: String| log.lines().next_back().map(str::to_owned);
        let lines: Vec<String> = self
            .processes
            .iter()
            .filter_map(|process| last(process.log()))
            .collect();
        format!("its log ends with {lines:?}")
    }

    /// Ends it in order, or else for good.
    pub(crate) fn stop(mut self) {
        for process in &mut self.processes {
            process.signal("TERM");
            process.ended(STOP_TIME);
        }
    }
}
