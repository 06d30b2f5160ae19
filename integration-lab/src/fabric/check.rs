//! From the text of a fabric to its meaning, every reference checked against the topology.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::file::{
    At, LabFile, PendingText, ScenariosText, SpeakerText, WorkloadText, WorkloadsFile, existing,
};
use super::{
    AgentRestart, Fabric, PeerChange, PendingAffinity, PolicyChange, Rack, Scenarios, Session, SessionEnd,
    Speaker, SpeakerKind, Workload, expect,
};
use crate::topology::{Topology, TopologyError};

/// The kernel's limit of a process name, which /proc/PID/comm shows.
const COMM_BYTES_MAX: usize = 15;
/// Every workload is probed from every other.
const WORKLOADS_MAX: usize = 100;

pub(super) fn build(
    path: &Path,
    lab: LabFile,
    workloads_path: &Path,
    workloads: WorkloadsFile,
    cni: serde_json::Value,
    resources: Vec<PathBuf>,
    topology: &Topology,
) -> Result<Fabric, TopologyError> {
    let at = At { file: path };
    known_node(at, topology, "store.node", &lab.store.node)?;
    for (field, nodes) in [
        ("route-checks", &lab.route_checks),
        ("route-prints", &lab.route_prints),
        ("bfd-checks", &lab.bfd_checks),
    ] {
        for node in nodes {
            known_node(at, topology, field, node)?;
        }
    }
    let speakers = speakers(at, topology, lab.speakers)?;
    let sessions = lab
        .sessions
        .iter()
        .enumerate()
        .map(|(i, s)| session(at, &speakers, &format!("sessions[{i}]"), s))
        .collect::<Result<_, _>>()?;
    let racks = racks(at, topology, lab.racks)?;
    let pending_affinities = lab
        .pending_affinities
        .iter()
        .map(|p| pending(at, topology, p))
        .collect::<Result<_, _>>()?;

    let at = At { file: workloads_path };
    let built = build_workloads(at, &speakers, workloads.workloads)?;
    let expectations = workloads
        .expect
        .into_iter()
        .enumerate()
        .map(|(i, e)| expect::build(at, i, e))
        .collect::<Result<_, _>>()?;
    if !cni.is_object() {
        return Err(at.error(
            workloads.cni.defined.line(),
            "cni",
            "the CNI configuration must be a JSON object",
        ));
    }
    let scenarios = match lab.scenarios {
        Some(text) => Some(scenarios(At { file: path }, text, &built, &speakers, &racks)?),
        None => None,
    };
    let fabric = Fabric {
        file: path.to_path_buf(),
        store_node: lab.store.node.value,
        store_endpoint: lab.store.endpoint,
        resources,
        speakers,
        sessions,
        route_checks: lab.route_checks.into_iter().map(|s| s.value).collect(),
        route_prints: lab.route_prints.into_iter().map(|s| s.value).collect(),
        bfd_checks: lab.bfd_checks.into_iter().map(|s| s.value).collect(),
        hold_time_s: lab.hold_time_s,
        racks,
        pending_affinities,
        scenarios,
        cni,
        workloads: built,
        expectations,
    };
    expect::check_complete(at, &fabric)?;
    Ok(fabric)
}

fn known_node(at: At, topology: &Topology, field: &str, node: &Spanned<String>) -> Result<(), TopologyError> {
    if topology.nodes.contains_key(&node.value) {
        return Ok(());
    }
    Err(at.error(
        node.defined.line(),
        field,
        format!("the topology has no node {:?}", node.value),
    ))
}

fn speakers(
    at: At,
    topology: &Topology,
    texts: IndexMap<String, Spanned<SpeakerText>>,
) -> Result<IndexMap<String, Speaker>, TopologyError> {
    let mut speakers = IndexMap::new();
    for (node, text) in texts {
        let (line, field) = (text.defined.line(), format!("speakers.{node}"));
        if !topology.nodes.contains_key(&node) {
            return Err(at.error(line, field, format!("the topology has no node {node:?}")));
        }
        let text = text.value;
        if text.processes.is_empty() || text.start.is_empty() {
            return Err(at.error(line, field, "processes and start must not be empty"));
        }
        if let Some(long) = text.processes.iter().find(|p| p.len() > COMM_BYTES_MAX) {
            return Err(at.error(
                line,
                field,
                format!("{long:?}: the kernel shows only {COMM_BYTES_MAX} characters"),
            ));
        }
        speakers.insert(
            node,
            Speaker {
                kind: text.kind,
                processes: text.processes,
                start: text.start,
            },
        );
    }
    Ok(speakers)
}

fn session(
    at: At,
    speakers: &IndexMap<String, Speaker>,
    field: &str,
    text: &Spanned<Vec<String>>,
) -> Result<Session, TopologyError> {
    let line = text.defined.line();
    let end = |text: &String| -> Result<SessionEnd, TopologyError> {
        let split = text
            .split_once(' ')
            .and_then(|(n, a)| Some((n, a.trim().parse::<IpAddr>().ok()?)));
        let Some((node, address)) = split else {
            return Err(at.error(line, field, format!("{text:?} is not \"NODE ADDRESS\"")));
        };
        if !speakers.contains_key(node) {
            return Err(at.error(line, field, format!("{node:?} is not among the speakers")));
        }
        Ok(SessionEnd {
            node: node.to_string(),
            address,
        })
    };
    let [a, b] = text.value.as_slice() else {
        return Err(at.error(line, field, "a session has two ends"));
    };
    let (a, b) = (end(a)?, end(b)?);
    if a.address.is_ipv4() != b.address.is_ipv4() {
        return Err(at.error(line, field, "its ends are of different families"));
    }
    Ok(Session { ends: [a, b] })
}

fn racks(
    at: At,
    topology: &Topology,
    texts: IndexMap<String, Spanned<Rack>>,
) -> Result<IndexMap<String, Rack>, TopologyError> {
    let mut racks = IndexMap::new();
    for (name, text) in texts {
        let nodes = std::iter::once(&text.value.tor).chain(&text.value.hosts);
        if let Some(unknown) = nodes.into_iter().find(|n| !topology.nodes.contains_key(*n)) {
            let reason = format!("the topology has no node {unknown:?}");
            return Err(at.error(text.defined.line(), format!("racks.{name}"), reason));
        }
        racks.insert(name, text.value);
    }
    Ok(racks)
}

fn pending(
    at: At,
    topology: &Topology,
    text: &Spanned<PendingText>,
) -> Result<PendingAffinity, TopologyError> {
    let (line, field) = (text.defined.line(), "pending-affinities");
    if !topology.nodes.contains_key(&text.value.host) {
        return Err(at.error(
            line,
            field,
            format!("the topology has no node {:?}", text.value.host),
        ));
    }
    let block = text.value.block.parse::<IpNet>().ok().filter(|b| b.trunc() == *b);
    let block = block.ok_or_else(|| at.error(line, field, format!("{:?} is no block", text.value.block)))?;
    Ok(PendingAffinity {
        host: text.value.host.clone(),
        block,
    })
}

fn scenarios(
    at: At,
    text: Spanned<ScenariosText>,
    workloads: &[Workload],
    speakers: &IndexMap<String, Speaker>,
    racks: &IndexMap<String, Rack>,
) -> Result<Scenarios, TopologyError> {
    let (line, text) = (text.defined.line(), text.value);
    let wrong = |field: &str, reason: String| Err(at.error(line, format!("scenarios{field}"), reason));
    let stream = text.stream.iter().flat_map(|stream| [&stream.from, &stream.to]);
    let change = text
        .policy_change
        .iter()
        .flat_map(|change| [&change.from, &change.to]);
    for name in stream.chain(change).chain(&text.workload_readd) {
        if !workloads.iter().any(|w| w.name == *name) {
            return wrong("", format!("there is no workload {name:?}"));
        }
    }
    let changed_peer = text.peer_change.iter().map(|change| &change.host);
    for (field, hosts) in [
        (".agent-restart", text.agent_restart.iter().collect::<Vec<_>>()),
        (".uplink-flap", text.uplink_flap.iter().collect()),
        (".peer-change.host", changed_peer.collect()),
    ] {
        let no_agent = |host: &&&String| speakers.get(**host).is_none_or(|s| s.kind != SpeakerKind::Agent);
        if let Some(host) = hosts.iter().find(no_agent) {
            return wrong(field, format!("{host:?} does not run the agent"));
        }
    }
    if let Some(rack) = text.tor_loss.as_ref().filter(|rack| !racks.contains_key(*rack)) {
        return wrong(".tor-loss", format!("there is no rack {rack:?}"));
    }
    let agent_restart = match (text.agent_restart.is_empty(), text.stream) {
        (true, _) => None,
        (false, Some(stream)) => Some(AgentRestart {
            stream,
            hosts: text.agent_restart,
        }),
        (false, None) => return wrong(".agent-restart", "needs a stream".to_owned()),
    };
    let directory = at.file.parent().unwrap_or(Path::new("/"));
    let file =
        |field: &str, path: &Spanned<PathBuf>| existing(at, directory, &format!("scenarios.{field}"), path);
    let policy_change = match text.policy_change {
        Some(change) if change.probe.port().is_none() => {
            return wrong(
                ".policy-change.probe",
                "only tcp80 and tcp81 can be timed".to_owned(),
            );
        }
        Some(change) => Some(PolicyChange {
            allow: file("policy-change.allow", &change.allow)?,
            deny: file("policy-change.deny", &change.deny)?,
            from: change.from,
            to: change.to,
            probe: change.probe,
        }),
        None => None,
    };
    let peer_change = match text.peer_change {
        Some(change) => Some(PeerChange {
            change: file("peer-change.change", &change.change)?,
            revert: file("peer-change.revert", &change.revert)?,
            host: change.host,
            peer: change.peer,
        }),
        None => None,
    };
    Ok(Scenarios {
        agent_restart,
        uplink_flap: text.uplink_flap,
        tor_loss: text.tor_loss,
        workload_readd: text.workload_readd,
        policy_change,
        peer_change,
    })
}

fn build_workloads(
    at: At,
    speakers: &IndexMap<String, Speaker>,
    texts: Vec<Spanned<WorkloadText>>,
) -> Result<Vec<Workload>, TopologyError> {
    if texts.len() > WORKLOADS_MAX {
        return Err(at.error(0, "workloads", format!("more than {WORKLOADS_MAX}")));
    }
    let mut names = HashSet::new();
    let mut workloads = Vec::new();
    for text in texts {
        let (line, text) = (text.defined.line(), text.value);
        let field = format!("workloads.{}", text.name);
        let plain = text
            .name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if text.name.is_empty() || !plain {
            return Err(at.error(line, field, "a workload's name is of small letters and digits"));
        }
        if !names.insert(text.name.clone()) {
            return Err(at.error(line, field, "there are two of this name"));
        }
        if speakers
            .get(&text.host)
            .is_none_or(|s| s.kind != SpeakerKind::Agent)
        {
            return Err(at.error(
                line,
                field,
                format!("{:?} is no node that runs the agent", text.host),
            ));
        }
        workloads.push(Workload {
            name: text.name,
            host: text.host,
            labels: text.labels,
            pools: text.pools,
            borrowed: text.borrowed,
        });
    }
    Ok(workloads)
}
