//! The processes of a node, seen from outside.

use crate::state::ProcessIdentity;

/// Names of the processes in the node of `holder`, without the holder itself.
pub fn names(holder: i32) -> Vec<String> {
    let mut names: Vec<String> = in_namespace_of(holder)
        .into_iter()
        .filter(|pid| *pid != holder)
        .filter_map(name)
        .collect();
    names.sort();
    names
}

/// The processes of a node that have this name.
pub fn named(holder: &ProcessIdentity, wanted: &str) -> Vec<ProcessIdentity> {
    in_namespace_of(holder.pid)
        .into_iter()
        .filter(|pid| name(*pid).as_deref() == Some(wanted))
        .filter_map(|pid| ProcessIdentity::of(pid).ok())
        .collect()
}

/// Every process that shares the pid namespace of `holder`.
fn in_namespace_of(holder: i32) -> Vec<i32> {
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
fn name(pid: i32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .ok()
        .map(|c| c.trim().to_string())
}
