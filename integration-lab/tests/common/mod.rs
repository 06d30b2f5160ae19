//! A lab for a test: a state directory and a name of its own, ended when the test is over, also by a panic.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub(crate) struct TestLab {
    state: tempfile::TempDir,
    pub(crate) name: String,
}

impl TestLab {
    pub(crate) fn new(name: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self {
            state,
            name: format!("{name}-{}", std::process::id()),
        }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state.path().join("labs")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("--state-dir").arg(self.state_dir());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs a subcommand that must succeed and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "lab {arguments:?}: {}\n{text}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    pub(crate) fn up(&self, topology: &Path) -> String {
        self.ok(&["up", topology.to_str().unwrap(), "--name", &self.name])
    }

    pub(crate) fn exec(&self, node: &str, command: &[&str]) -> String {
        let mut arguments = vec!["exec", "--lab", &self.name, node, "--"];
        arguments.extend(command);
        self.ok(&arguments)
    }

    /// Processes that belong to this lab by their pid namespace: any process whose root shows our state.
    pub(crate) fn holders(&self) -> Vec<i32> {
        let needle = self.state_dir().to_str().unwrap().to_string();
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&needle)
            })
            .collect()
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let names = std::fs::read_dir(self.state_dir())
            .into_iter()
            .flatten()
            .flatten();
        for name in names.filter_map(|e| e.file_name().into_string().ok()) {
            let _ = self.run(&["down", "--lab", &name]);
        }
    }
}

/// Calls `check` until it returns nothing, or fails with its last complaint.
pub(crate) fn eventually(seconds: u64, mut check: impl FnMut() -> Option<String>) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while let Some(complaint) = check() {
        assert!(Instant::now() < end, "after {seconds} s: {complaint}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

pub(crate) fn topology(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/topologies")
        .join(name)
}
