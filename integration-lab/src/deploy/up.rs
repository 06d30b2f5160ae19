//! `lab up`: nodes, then links, then what the nodes run.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use indexmap::IndexMap;
use ipnet::IpNet;

use super::down::remove;
use super::links::Batch;
use crate::node::{NodeSpec, holder};
use crate::state::{LabDir, ProcessIdentity, StateDir};
use crate::topology::{MGMT_INTERFACE, Node, SWITCH, Topology};

/// Receives one line a step.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// Name of the log of a node's entrypoint and cmd, in its /var/log.
const COMMAND_LOG: &str = "/var/log/cmd.log";

/// Brings a lab up. When something fails, everything made so far is removed again, unless `keep`.
pub fn up(state: &StateDir, topology: &Topology, keep: bool, progress: Progress) -> anyhow::Result<LabDir> {
    require_root()?;
    let dir = state.create(topology)?;
    match build(&dir, state, topology, progress) {
        Ok(()) => Ok(dir),
        Err(e) if keep => Err(e.context(format!("lab {} is only half up, and kept", topology.name))),
        Err(e) => {
            remove(dir, progress).context("removing what was made, after a failure")?;
            Err(e)
        }
    }
}

fn build(dir: &LabDir, state: &StateDir, topology: &Topology, progress: Progress) -> anyhow::Result<()> {
    for note in &topology.notes {
        progress(&format!("note: {note}"));
    }
    let switch = start_node(dir, topology, SWITCH, None)?;
    let mut holders: HashMap<&str, ProcessIdentity> = HashMap::new();
    for (name, node) in &topology.nodes {
        let holder = start_node(dir, topology, name, Some(node)).with_context(|| format!("node {name}"))?;
        holders.insert(name, holder);
    }
    progress(&format!(
        "nodes: {}",
        topology.nodes.keys().cloned().collect::<Vec<_>>().join(" ")
    ));

    let mut wiring = Batch::default();
    wiring.bridge();
    for (index, name) in topology.nodes.keys().enumerate() {
        wiring.management(index, holder_of(&holders, name)?);
    }
    for link in &topology.links {
        wiring.link(
            link,
            [
                holder_of(&holders, &link.ends[0].node)?,
                holder_of(&holders, &link.ends[1].node)?,
            ],
        );
    }
    wiring.run_in(&switch).context("links")?;
    for (name, node) in &topology.nodes {
        bring_up_interfaces(topology, name, node, holder_of(&holders, name)?)?;
    }
    progress(&format!(
        "links: {}, and a management network {}",
        topology.links.len(),
        join(&topology.mgmt)
    ));

    for (name, node) in &topology.nodes {
        start_command(state, &topology.name, name, node)?;
        run_exec_lines(state, &topology.name, name, &node.exec)?;
        if !node.exec.is_empty() {
            progress(&format!("started: {name}"));
        }
    }
    Ok(())
}

/// Sets the interfaces of a node up and gives the management interface its addresses.
pub(super) fn bring_up_interfaces(
    topology: &Topology,
    name: &str,
    node: &Node,
    holder: &ProcessIdentity,
) -> anyhow::Result<()> {
    let mut local = Batch::default();
    local.addresses(&with_lengths(&node.mgmt, &topology.mgmt));
    local.set_up(MGMT_INTERFACE);
    for end in topology
        .links
        .iter()
        .flat_map(|l| &l.ends)
        .filter(|e| e.node == name)
    {
        local.set_up(&end.interface);
    }
    local
        .run_in(holder)
        .with_context(|| format!("interfaces of node {name}"))
}

/// Starts one node's holder and lets it live on. Without a node it is the lab's own switch.
pub(super) fn start_node(
    dir: &LabDir,
    topology: &Topology,
    name: &str,
    node: Option<&Node>,
) -> anyhow::Result<ProcessIdentity> {
    let own = std::env::current_exe().context("finding the lab's own executable")?;
    let bin_dir = own.parent().unwrap_or(Path::new("/")).to_path_buf();
    let hosts = topology
        .nodes
        .iter()
        .flat_map(|(n, node)| node.mgmt.iter().map(|a| (*a, n.clone())))
        .collect();
    let spec = NodeSpec {
        lab: topology.name.clone(),
        name: name.to_string(),
        binds: node.map(|n| n.binds.clone()).unwrap_or_default(),
        log_dir: dir.node_log(name),
        bin_dir,
        env: node.map_or_else(IndexMap::new, |n| n.env.clone()),
        hosts,
    };
    let started = holder::start(dir, &spec)?;
    let identity = started.holder.clone();
    started.release()?;
    Ok(identity)
}

fn holder_of<'a>(
    holders: &'a HashMap<&str, ProcessIdentity>,
    name: &str,
) -> anyhow::Result<&'a ProcessIdentity> {
    holders
        .get(name)
        .with_context(|| format!("node {name} was not started"))
}

fn with_lengths(addresses: &[IpAddr], networks: &[IpNet]) -> Vec<IpNet> {
    addresses
        .iter()
        .filter_map(|a| {
            let network = networks.iter().find(|n| n.contains(a))?;
            IpNet::new(*a, network.prefix_len()).ok()
        })
        .collect()
}

fn join(networks: &[IpNet]) -> String {
    networks
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A node's entrypoint and cmd, in the background: in a container they would be its first process.
pub(super) fn start_command(state: &StateDir, lab: &str, name: &str, node: &Node) -> anyhow::Result<()> {
    if node.command.is_empty() {
        return Ok(());
    }
    let script = format!("setsid \"$@\" </dev/null >{COMMAND_LOG} 2>&1 &");
    let mut line = vec!["sh".to_string(), "-c".to_string(), script, "sh".to_string()];
    line.extend(node.command.iter().cloned());
    run_exec_lines(state, lab, name, &[line])
}

/// Runs commands in a node one after the other; the first that fails ends it.
pub fn run_exec_lines(state: &StateDir, lab: &str, node: &str, lines: &[Vec<String>]) -> anyhow::Result<()> {
    for line in lines {
        let output = enter_command(state, lab, node)?
            .args(line)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("node {node}: running {}", line.join(" ")))?;
        if !output.status.success() {
            bail!(
                "node {node}: `{}` failed ({}): {}{}",
                line.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    Ok(())
}

/// A command that runs in a node: its program and arguments are to be added. A process of its own, because
/// only a process with one thread can enter a mount namespace.
pub(crate) fn enter_command(state: &StateDir, lab: &str, node: &str) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("finding the lab's own executable")?;
    let mut command = Command::new(own);
    command
        .arg("--state-dir")
        .arg(state.root())
        .args(["exec", "--lab", lab, node, "--"]);
    Ok(command)
}

fn require_root() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes namespaces: run it as root (sudo)");
    }
    Ok(())
}
