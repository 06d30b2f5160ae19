//! A lab that is up, and commands in its nodes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::fabric::Fabric;
use crate::state::{LabDir, StateDir};
use crate::topology::Topology;

/// How long a command in a node may take unless it says otherwise.
const COMMAND_SECONDS_MAX: u64 = 20;
/// Exit code of timeout(1) when it had to end the command.
const TIMED_OUT: i32 = 124;

/// A lab that is up.
#[derive(Debug)]
pub struct RunningLab {
    /// Where labs are kept.
    pub state: StateDir,
    /// This one's files.
    pub dir: LabDir,
    /// As it was brought up.
    pub topology: Topology,
    fabric: Option<Fabric>,
}

impl RunningLab {
    /// The lab of a name, with what is beside its topology now.
    pub fn open(state: &StateDir, name: &str) -> anyhow::Result<Self> {
        let dir = state.open(name)?;
        let topology = dir.topology()?;
        let fabric = Fabric::load(&topology)?;
        Ok(Self {
            state: state.clone(),
            dir,
            topology,
            fabric,
        })
    }

    /// What the lab is for; an error for a topology that is only nodes and links.
    pub fn fabric(&self) -> anyhow::Result<&Fabric> {
        self.fabric.as_ref().with_context(|| {
            let path = Fabric::path_of(&self.topology.file);
            format!(
                "there is no {}: nothing is known of what must hold",
                path.unwrap_or_default().display()
            )
        })
    }

    /// Whether there is anything beside the topology.
    pub fn has_fabric(&self) -> bool {
        self.fabric.is_some()
    }

    /// A command in a node, ready for arguments; it is ended after `limit`.
    pub fn command(&self, node: &str, netns: Option<&str>, limit: Duration) -> anyhow::Result<Command> {
        let own = std::env::current_exe().context("finding the lab's own executable")?;
        let mut command = Command::new(own);
        command
            .arg("--state-dir")
            .arg(self.state.root())
            .args(["exec", "--lab", &self.topology.name]);
        if let Some(netns) = netns {
            command.args(["--netns", netns]);
        }
        command.args([
            node,
            "--",
            "timeout",
            "-k",
            "1",
            &format!("{:.3}", limit.as_secs_f64()),
        ]);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command in a node and returns what it printed; an error if it fails.
    pub fn run(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with_input(
            node,
            None,
            arguments,
            b"",
            Duration::from_secs(COMMAND_SECONDS_MAX),
        )
    }

    /// The same with input, in a workload's network namespace, and with a limit of its own.
    pub fn run_with_input(
        &self,
        node: &str,
        netns: Option<&str>,
        arguments: &[&str],
        input: &[u8],
        limit: Duration,
    ) -> anyhow::Result<String> {
        let mut command = self.command(node, netns, limit)?;
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting a command in a node")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads nothing closes the pipe: its own result says what happened.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().context("running a command in a node")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let said = [text.trim(), String::from_utf8_lossy(&output.stderr).trim()].join(" ");
        let what = if output.status.code() == Some(TIMED_OUT) {
            format!("took longer than {limit:?}")
        } else {
            format!("failed ({})", output.status)
        };
        bail!("{node}: `{}` {what}: {}", arguments.join(" "), said.trim())
    }
}
