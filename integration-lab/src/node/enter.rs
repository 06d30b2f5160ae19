//! Into a node: a command in all namespaces of its holder.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

use super::{NodeSpec, SPEC_IN_NODE};
use crate::state::ProcessIdentity;

/// Named network namespaces of a node, where the CNI runtime of the lab keeps its workloads.
pub const NETNS_DIR: &str = "/run/netns";
/// Variables that a command in a node gets from outside.
const ENV_PASSED: [&str; 3] = ["TERM", "LANG", "COLUMNS"];

/// The order matters: the mount namespace last, for the others are opened by path before it changes.
const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mnt", CloneFlags::CLONE_NEWNS),
];

/// Moves this process, which must have one thread, into the node; only its children are in the node's pid
/// namespace. `netns` names a workload's network namespace inside the node.
pub fn enter(holder: &ProcessIdentity, netns: Option<&str>) -> anyhow::Result<NodeSpec> {
    let mut files = Vec::with_capacity(NAMESPACES.len());
    for (name, flag) in NAMESPACES {
        let path = format!("/proc/{}/ns/{name}", holder.pid);
        files.push((
            File::open(&path).with_context(|| format!("opening {path}"))?,
            name,
            flag,
        ));
    }
    // Checked after opening: the descriptors are that process's own namespaces for sure.
    if !holder.is_alive() {
        bail!("the node's holder process is gone");
    }
    for (file, name, flag) in &files {
        setns(file.as_fd(), *flag).with_context(|| format!("entering the {name} namespace"))?;
    }
    std::env::set_current_dir("/").context("entering the node's root")?;
    if let Some(netns) = netns {
        let path = netns_path(netns)?;
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering the workload's network namespace")?;
    }
    let text = std::fs::read(SPEC_IN_NODE).with_context(|| format!("reading {SPEC_IN_NODE} in the node"))?;
    serde_json::from_slice(&text).context("the node's spec")
}

fn netns_path(name: &str) -> anyhow::Result<PathBuf> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        bail!("{name:?} is no name of a network namespace");
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

/// Runs a command in the node that this process has entered, with this process's terminal, and returns how
/// it ended.
pub fn run(spec: &NodeSpec, command: &[String]) -> anyhow::Result<ExitStatus> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("no command given")
    };
    let passed = ENV_PASSED
        .iter()
        .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    // The terminal's signals are for the command: this process only waits for it.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGQUIT] {
        let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(signal, seen).context("handling the terminal's signals")?;
    }
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(passed)
        .env("HOME", "/root")
        .envs(spec.environment())
        .status()
        .with_context(|| format!("running {program} in {}", spec.name))
}

/// The exit code that a shell would give.
pub fn exit_code(status: ExitStatus) -> u8 {
    const SIGNAL_BASE: i32 = 128;
    let code = status
        .code()
        .or_else(|| status.signal().map(|s| SIGNAL_BASE + s))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
