//! The holder: the process that a node lives in. It is made in two steps, because a process that asks for a
//! new pid namespace only gives it to its children: [`unshare_and_spawn`] leaves the machine's namespaces
//! and starts [`run`], which is pid 1 of the node. When it dies the kernel ends everything else in the node.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname, setsid};

use super::{NodeSpec, mounts};
use crate::state::{LabDir, ProcessIdentity};

/// Names of the hidden subcommands.
pub const UNSHARE_COMMAND: &str = "__node";
/// See [`UNSHARE_COMMAND`].
pub const RUN_COMMAND: &str = "__holder";

/// A node that exists and waits for [`Started::release`]; dropping it unreleased ends the node.
#[derive(Debug)]
pub struct Started {
    child: Child,
    /// Its holder.
    pub holder: ProcessIdentity,
}

/// Starts a node's holder from the lab's own process and records it; returns once its mounts are made.
pub fn start(dir: &LabDir, spec: &NodeSpec) -> anyhow::Result<Started> {
    std::fs::create_dir_all(dir.node_log(&spec.name)).context("creating the node's directory")?;
    let spec_file = dir.node(&spec.name).join("spec.json");
    std::fs::write(&spec_file, serde_json::to_vec_pretty(spec)?).context("writing the node's spec")?;
    let own = std::env::current_exe().context("finding the lab's own executable")?;
    let mut child = Command::new(own)
        .arg(UNSHARE_COMMAND)
        .arg(&spec_file)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting the node's holder")?;
    let Some(stdout) = child.stdout.take() else {
        bail!("the holder has no output")
    };
    let mut holder = None;
    let mut ready = false;
    // Two lines in either order, from two processes.
    for line in BufReader::new(stdout).lines().take(2) {
        let line = line.context("reading from the holder")?;
        if let Some(pid) = line.strip_prefix("pid ") {
            let identity = ProcessIdentity::of(pid.parse().context("the holder's pid")?)?;
            dir.record_holder(&spec.name, &identity)?;
            holder = Some(identity);
        } else if line == "ready" {
            ready = true;
        }
    }
    match holder {
        Some(holder) if ready => Ok(Started { child, holder }),
        _ => {
            let mut reason = String::new();
            // Whichever step still lives ends when its input does.
            drop(child.stdin.take());
            if let Some(mut stderr) = child.stderr.take() {
                let _ = std::io::Read::read_to_string(&mut stderr, &mut reason);
            }
            let _ = child.wait();
            bail!("the holder did not start: {}", reason.trim())
        }
    }
}

impl Started {
    /// Lets the node live on without this process.
    pub fn release(mut self) -> anyhow::Result<()> {
        let mut stdin = self.child.stdin.take().context("the holder has no input")?;
        writeln!(stdin, "go").context("releasing the holder")?;
        drop(stdin);
        // The first step ended when the second was running.
        self.child.wait().context("waiting for the holder's first step")?;
        Ok(())
    }
}

/// First step, outside: leave the namespaces, start the second step, tell its pid.
pub fn unshare_and_spawn(spec_file: &Path) -> anyhow::Result<()> {
    // Not a group leader: a shell's job control ends with the lab's own process.
    setsid().context("starting a session")?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("making namespaces: the lab needs root")?;
    let own = std::env::current_exe().context("finding the lab's own executable")?;
    let child = Command::new(own)
        .arg(RUN_COMMAND)
        .arg(spec_file)
        .spawn()
        .context("starting the second step")?;
    writeln!(std::io::stdout(), "pid {}", child.id()).context("telling the holder's pid")
}

/// Second step, pid 1 of the node: make its file system, wait to be released, then reap for ever.
pub fn run(spec_file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read(spec_file).with_context(|| format!("reading {}", spec_file.display()))?;
    let spec: NodeSpec = serde_json::from_slice(&text).context("the node's spec")?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().context("blocking SIGCHLD")?;

    mounts::make(&spec)?;
    sethostname(&spec.name).context("setting the host name")?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("running ip")?;
    if !up.success() {
        bail!("ip link set lo up: {up}");
    }
    writeln!(std::io::stdout(), "ready").context("telling that the node is made")?;

    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("waiting to be released")?;
    if line != "go\n" {
        bail!("not released: whoever started this node is gone");
    }
    close_stdio()?;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => {
                children.wait().context("waiting for SIGCHLD")?;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => bail!("waiting for children: {e}"),
        }
    }
}

/// The pipes belong to the process that started us; from here on /dev/null takes their place.
fn close_stdio() -> anyhow::Result<()> {
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
