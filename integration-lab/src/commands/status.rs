//! `lab status`: what runs in each node.

use std::fmt::Write as _;

use comfy_table::{Table, presets};

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
            Some(holder) => ("up", processes(holder.pid).join(" ")),
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

/// Names of the processes in the pid namespace that `holder` is the first of, without itself.
pub(crate) fn processes(holder: i32) -> Vec<String> {
    let mut names: Vec<String> = pids_in_namespace_of(holder)
        .into_iter()
        .filter(|pid| *pid != holder)
        .filter_map(comm)
        .collect();
    names.sort();
    names
}

/// Every process that shares the pid namespace of `holder`.
pub(crate) fn pids_in_namespace_of(holder: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(holder) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .collect()
}

/// The kernel's name of a process.
pub(crate) fn comm(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|c| c.trim().to_string())
}
