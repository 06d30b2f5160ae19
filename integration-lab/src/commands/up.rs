//! `lab up`: nodes and links, and where there is a fabric, its service.

use anyhow::Context;

use crate::deploy::{self, Progress};
use crate::fabric::Fabric;
use crate::preflight;
use crate::provision::provision;
use crate::running::RunningLab;
use crate::state::StateDir;
use crate::topology::Topology;

/// Brings a topology and its fabric up, and says what to try next.
pub fn up(state: &StateDir, topology: &Topology, keep: bool, progress: Progress) -> anyhow::Result<()> {
    if let Some(fabric) = Fabric::load(topology)? {
        preflight::check(&fabric)?;
    }
    deploy::up(state, topology, keep, progress)?;
    let lab = RunningLab::open(state, &topology.name)?;
    if lab.has_fabric()
        && let Err(e) = provision(&lab, progress)
    {
        if keep {
            return Err(e.context(format!("lab {} is only half up, and kept", topology.name)));
        }
        deploy::down(state, &topology.name, progress).context("removing what was made, after a failure")?;
        return Err(e);
    }
    progress(&format!("lab {} is up. Try:", topology.name));
    for line in suggestions(&lab) {
        progress(&format!("  {line}"));
    }
    Ok(())
}

fn suggestions(lab: &RunningLab) -> Vec<String> {
    let file = lab.topology.file.display();
    let mut lines = vec![format!("lab status {file}")];
    if let Ok(fabric) = lab.fabric() {
        lines.push(format!("lab verify {file}"));
        if let Some((host, _)) = fabric.agents().next() {
            lines.push(format!("lab exec {host} calicoctl node status"));
            lines.push(format!("lab exec {host} ip route"));
        }
        lines.push(format!(
            "lab exec {} calicoctl get globalnetworkpolicies",
            fabric.store_node
        ));
        lines.push(format!(
            "lab exec {} -- calicoctl ipam show --show-blocks",
            fabric.store_node
        ));
    }
    lines.push(format!("lab down {file}"));
    lines
}
