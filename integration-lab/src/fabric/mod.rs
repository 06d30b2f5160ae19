//! What a topology is for: the file `lab.yml` in the directory beside the topology, which says what the
//! fabric serves and what must hold in it. A topology without one is only nodes and links.

mod check;
mod expect;
mod file;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ipnet::IpNet;

pub use expect::{Denial, DenyingRule, Direction, Expectation, Family, Probe, Verdict, expected};

use crate::topology::{Topology, TopologyError};

/// What is beside a topology.
#[derive(Debug, Clone, PartialEq)]
pub struct Fabric {
    /// The file it came from.
    pub file: PathBuf,
    /// Node that runs the store.
    pub store_node: String,
    /// Where clients reach it.
    pub store_endpoint: String,
    /// Directories for `calicoctl apply -f`, in order.
    pub resources: Vec<PathBuf>,
    /// By node.
    pub speakers: IndexMap<String, Speaker>,
    /// All sessions that must be established.
    pub sessions: Vec<Session>,
    /// Routers whose routes inside pools are compared with the store.
    pub route_checks: Vec<String>,
    /// Nodes whose kernel routes are printed.
    pub route_prints: Vec<String>,
    /// Routers whose sessions with agents must have BFD up.
    pub bfd_checks: Vec<String>,
    /// Longest time that routes may outlive their router, in seconds.
    pub hold_time_s: u64,
    /// By name.
    pub racks: IndexMap<String, Rack>,
    /// Affinities written as pending.
    pub pending_affinities: Vec<PendingAffinity>,
    /// What the scenarios act on.
    pub scenarios: Option<Scenarios>,
    /// Configuration of the CNI plugin, without labels and pools.
    pub cni: serde_json::Value,
    /// In the order of their creation.
    pub workloads: Vec<Workload>,
    /// In the order of their matching.
    pub expectations: Vec<Expectation>,
}

/// A BGP speaker of the fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// How its sessions are read.
    pub kind: SpeakerKind,
    /// Names of its processes, as in /proc/PID/comm.
    pub processes: Vec<String>,
    /// The command that starts those of them that do not run.
    pub start: Vec<String>,
}

/// Which implementation a speaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeakerKind {
    /// BIRD 2, read by `birdc`.
    Bird,
    /// FRR, read by `vtysh`.
    Frr,
    /// GoBGP, read by `gobgp`.
    Gobgp,
    /// margay-agent, read by `calicoctl node status`.
    Agent,
}

impl SpeakerKind {
    /// How it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Agent => "margay-agent",
        }
    }
}

/// A session, with the address that each end speaks from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its two ends.
    pub ends: [SessionEnd; 2],
}

/// One end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// The node.
    pub node: String,
    /// Its address on the session.
    pub address: IpAddr,
}

/// A rack: what is lost with its router.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// Its top-of-rack router.
    pub tor: String,
    /// Its hosts.
    pub hosts: Vec<String>,
}

/// An affinity in state `pending`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAffinity {
    /// The host that began to claim the block.
    pub host: String,
    /// The block.
    pub block: IpNet,
}

/// A workload: a network namespace on a host, connected by the CNI plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name, also that of its network namespace.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Labels of its endpoint.
    pub labels: IndexMap<String, String>,
    /// Pools to take addresses from, by name; any of the family where none is named.
    pub pools: Pools,
    /// Whether its addresses must come from blocks of other hosts.
    pub borrowed: bool,
}

/// What the scenarios act on; those that have nothing to act on do not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenarios {
    /// What must survive the restart of agents.
    pub agent_restart: Option<AgentRestart>,
    /// Hosts that lose all their uplinks.
    pub uplink_flap: Vec<String>,
    /// The rack that loses its router.
    pub tor_loss: Option<String>,
    /// The workload that is deleted and made again.
    pub workload_readd: Option<String>,
    /// A change of policy and its way back.
    pub policy_change: Option<PolicyChange>,
    /// A change of one peer and its way back.
    pub peer_change: Option<PeerChange>,
}

/// Agents that are killed, and the traffic over their hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRestart {
    /// The pair of workloads between which traffic must survive: any protocol is allowed.
    pub stream: StreamPair,
    /// Hosts whose agents are killed and restarted, one after the other.
    pub hosts: Vec<String>,
}

/// A change of one BGP peer that ends its session, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// The host whose session it is.
    pub host: String,
    /// The address of the session's other end.
    pub peer: IpAddr,
    /// File that changes the peer.
    pub change: PathBuf,
    /// File that changes it back.
    pub revert: PathBuf,
}

/// Source and destination of a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamPair {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
}

/// A policy whose application turns a denied TCP probe into an allowed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// The client.
    pub from: String,
    /// The server.
    pub to: String,
    /// What is denied before.
    pub probe: Probe,
    /// File that allows it.
    pub allow: PathBuf,
    /// File that denies it again.
    pub deny: PathBuf,
}

/// A pool a family, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pools {
    /// For IPv4.
    #[serde(default)]
    pub v4: Option<String>,
    /// For IPv6.
    #[serde(default)]
    pub v6: Option<String>,
}

impl Fabric {
    /// Where the file of a topology would be: `X.clab.yml` has `X/lab.yml`.
    pub fn path_of(topology: &Path) -> Option<PathBuf> {
        let name = topology.file_name()?.to_str()?;
        let stem = name
            .strip_suffix(".clab.yml")
            .or_else(|| name.strip_suffix(".clab.yaml"))?;
        Some(topology.parent()?.join(stem).join("lab.yml"))
    }

    /// Reads the file beside a topology; nothing if there is none.
    pub fn load(topology: &Topology) -> Result<Option<Self>, TopologyError> {
        match Self::path_of(&topology.file) {
            Some(path) if path.exists() => file::load(&path, topology).map(Some),
            _ => Ok(None),
        }
    }

    /// The workload of a name.
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|w| w.name == name)
    }

    /// Nodes that run the agent.
    pub fn agents(&self) -> impl Iterator<Item = (&String, &Speaker)> {
        self.speakers.iter().filter(|(_, s)| s.kind == SpeakerKind::Agent)
    }
}
