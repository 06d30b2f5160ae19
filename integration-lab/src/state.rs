//! What a running lab leaves on disk: one directory a lab, with its topology, the identity of every node's
//! holder process, and the nodes' logs. `down` works from this alone, also after a crash of `up`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::topology::Topology;

/// Where labs are kept unless `--state-dir` says otherwise.
pub const STATE_DIR_DEFAULT: &str = "/run/margay-lab";

const TOPOLOGY_FILE: &str = "topology.json";
const LOCK_FILE: &str = "lock";
const HOLDER_FILE: &str = "holder.json";
const DEATH_WAIT_MAX: Duration = Duration::from_secs(10);
const DEATH_POLL: Duration = Duration::from_millis(5);

/// A process that cannot be mistaken for another: its id, and when it started, so that a later process
/// with the same id is a different one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id in the machine's pid namespace.
    pub pid: i32,
    /// Clock ticks from boot to the start of the process.
    pub start_ticks: u64,
    /// The boot that the ticks count from.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of a live process.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let (_, start_ticks) = read_stat(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Self {
            pid,
            start_ticks,
            boot_id: boot_id()?,
        })
    }

    /// Whether that very process still runs (a zombie does not).
    pub fn is_alive(&self) -> bool {
        let Ok(Some((state, start_ticks))) = read_stat(self.pid) else {
            return false;
        };
        state != 'Z' && start_ticks == self.start_ticks && boot_id().is_ok_and(|b| b == self.boot_id)
    }

    /// Kills the process if it still is that very process, and waits until it is gone.
    pub fn kill_and_wait(&self) -> anyhow::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => bail!("cannot kill process {}: {e}", self.pid),
        }
        let end = Instant::now() + DEATH_WAIT_MAX;
        while self.is_alive() {
            if Instant::now() > end {
                bail!(
                    "process {} does not die: look at /proc/{}/stack",
                    self.pid,
                    self.pid
                );
            }
            std::thread::sleep(DEATH_POLL);
        }
        Ok(())
    }
}

/// State letter and start time of a process; nothing if there is none.
fn read_stat(pid: i32) -> anyhow::Result<Option<(char, u64)>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // ESRCH: the process ended between open and read.
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(Errno::ESRCH as i32) => {
            return Ok(None);
        }
        Err(e) => return Err(e).with_context(|| format!("reading /proc/{pid}/stat")),
    };
    // The command in parentheses may hold anything: fields count from the last parenthesis (proc(5)).
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let state = fields.first().and_then(|s| s.chars().next());
    let start = fields.get(19).and_then(|s| s.parse().ok());
    Ok(Some((
        state.context("no state in stat")?,
        start.context("no start time in stat")?,
    )))
}

fn boot_id() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    Ok(text.trim().to_string())
}

/// The directory that holds all labs.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// One lab's directory, locked while it is changed.
#[derive(Debug)]
pub struct LabDir {
    path: PathBuf,
    root: PathBuf,
    _lock: Option<Flock<File>>,
}

impl StateDir {
    /// Labs below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the labs that are there, up or half up.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("reading {}", self.root.display())),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Makes the directory of a lab that must not exist yet.
    pub fn create(&self, topology: &Topology) -> anyhow::Result<LabDir> {
        let path = self.root.join(&topology.name);
        fs::create_dir_all(&self.root)
            .with_context(|| format!("creating {}: the lab needs root", self.root.display()))?;
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!(
                "lab {} is already there: `lab down` it, or give this one another name with --name",
                topology.name
            ),
            Err(e) => {
                return Err(e).with_context(|| format!("creating {}: the lab needs root", path.display()));
            }
        }
        let lock = lock(&path)?;
        let dir = LabDir {
            path,
            root: self.root.clone(),
            _lock: Some(lock),
        };
        fs::create_dir(dir.path.join("nodes")).context("creating the lab's directory")?;
        write_json(&dir.path.join(TOPOLOGY_FILE), topology)?;
        Ok(dir)
    }

    /// Opens a lab to look at it.
    pub fn open(&self, name: &str) -> anyhow::Result<LabDir> {
        let path = self.root.join(name);
        if name.is_empty() || name.contains('/') || name.starts_with('.') || !path.is_dir() {
            let names = self.names()?;
            let known = if names.is_empty() {
                "none".to_string()
            } else {
                names.join(", ")
            };
            bail!("there is no lab {name:?} (labs here: {known})");
        }
        Ok(LabDir {
            path,
            root: self.root.clone(),
            _lock: None,
        })
    }

    /// Opens a lab to change it: fails while another `lab` changes it.
    pub fn open_locked(&self, name: &str) -> anyhow::Result<LabDir> {
        let mut dir = self.open(name)?;
        dir._lock = Some(lock(&dir.path)?);
        Ok(dir)
    }
}

impl LabDir {
    /// The lab's topology as it was brought up.
    pub fn topology(&self) -> anyhow::Result<Topology> {
        read_json(&self.path.join(TOPOLOGY_FILE))
    }

    /// The directory of one node's files.
    pub fn node(&self, name: &str) -> PathBuf {
        self.path.join("nodes").join(name)
    }

    /// The directory that is the node's /var/log.
    pub fn node_log(&self, name: &str) -> PathBuf {
        self.node(name).join("log")
    }

    /// Remembers a node's holder.
    pub fn record_holder(&self, name: &str, holder: &ProcessIdentity) -> anyhow::Result<()> {
        write_json(&self.node(name).join(HOLDER_FILE), holder)
    }

    /// The holder of a node, if one was ever started.
    pub fn holder(&self, name: &str) -> anyhow::Result<Option<ProcessIdentity>> {
        let file = self.node(name).join(HOLDER_FILE);
        if !file.exists() {
            return Ok(None);
        }
        read_json(&file).map(Some)
    }

    /// The holder of a node that runs.
    pub fn live_holder(&self, name: &str) -> anyhow::Result<ProcessIdentity> {
        match self.holder(name)? {
            Some(holder) if holder.is_alive() => Ok(holder),
            Some(_) => bail!("node {name} is down: its holder process is gone"),
            None => bail!(
                "there is no node {name:?} here: nodes are {}",
                self.node_names()?.join(", ")
            ),
        }
    }

    /// Every node for which something was made, the lab's own switch among them.
    pub fn node_names(&self) -> anyhow::Result<Vec<String>> {
        let path = self.path.join("nodes");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = fs::read_dir(&path)
            .with_context(|| format!("reading {}", path.display()))?
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Reads a file of the lab's directory, if it is there.
    pub fn read<T: for<'de> Deserialize<'de>>(&self, file: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(file);
        if path.exists() {
            read_json(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Writes a file of the lab's directory.
    pub fn write<T: Serialize>(&self, file: &str, value: &T) -> anyhow::Result<()> {
        write_json(&self.path.join(file), value)
    }

    /// Removes the directory, and the directory of all labs once it is empty.
    pub fn remove(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))?;
        // Another lab may live there: only an empty directory goes.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }

    /// Where the lab's files are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::create(path.join(LOCK_FILE)).with_context(|| format!("locking {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        anyhow::anyhow!(
            "{} is being changed by another `lab` ({e}): wait for it",
            path.display()
        )
    })
}

/// Writes through a temporary name, so that a crash leaves the old file or the new one.
fn write_json<T: Serialize>(file: &Path, value: &T) -> anyhow::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, serde_json::to_vec_pretty(value)?)
        .and_then(|()| fs::rename(&temporary, file))
        .with_context(|| format!("writing {}", file.display()))
}

fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> anyhow::Result<T> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_pid_is_another_process() {
        let own = ProcessIdentity::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        let earlier = ProcessIdentity {
            start_ticks: own.start_ticks - 1,
            ..own.clone()
        };
        assert!(!earlier.is_alive());
        earlier.kill_and_wait().unwrap();
        assert!(own.is_alive(), "a process of another identity was not touched");
        assert!(
            !ProcessIdentity {
                boot_id: String::from("x"),
                ..own
            }
            .is_alive()
        );
    }

    #[test]
    fn a_child_is_killed_and_known_dead_as_a_zombie() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id() as i32).unwrap();
        identity.kill_and_wait().unwrap();
        assert!(!identity.is_alive());
        child.wait().unwrap();
    }
}
