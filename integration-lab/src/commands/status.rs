//! `lab status`: what runs in each node.

use std::fmt::Write as _;

use comfy_table::{Table, presets};

use crate::node::processes;
use crate::state::StateDir;

/// A table of the lab's nodes: whether they run, their management addresses, their processes.
pub fn status(state: &StateDir, lab: &str) -> anyhow::Result<String> {
    let dir = state.open(lab)?;
    let topology = dir.topology()?;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NODE", "STATE", "MANAGEMENT", "PROCESSES"]);
    let mut up = 0;
    for (name, node) in &topology.nodes {
        let alive = dir.holder(name)?.filter(|h| h.is_alive());
        let addresses: Vec<String> = node.mgmt.iter().map(ToString::to_string).collect();
        let (word, processes) = match &alive {
            Some(holder) => ("up", processes::names(holder.pid).join(" ")),
            None => ("down", String::new()),
        };
        up += usize::from(alive.is_some());
        table.add_row([
            name.as_str(),
            word,
            addresses.join(" ").as_str(),
            processes.as_str(),
        ]);
    }
    let mut text = format!(
        "lab {lab} of {}: {up} of {} nodes up\n",
        topology.file.display(),
        topology.nodes.len()
    );
    writeln!(text, "{table}")?;
    Ok(text)
}
