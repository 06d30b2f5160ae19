//! Network namespaces: entering one, making one, naming one.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::Error;

/// The calling thread's namespace: `/proc/self` would be the main thread's.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace held open: it exists at least as long as this does.
#[derive(Debug)]
pub struct NetNs {
    file: File,
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl From<File> for NetNs {
    /// From an open file of a namespace (not checked: entering it fails if it is something else).
    fn from(file: File) -> NetNs {
        NetNs { file }
    }
}

impl NetNs {
    /// The calling thread's namespace.
    pub fn current() -> Result<NetNs, Error> {
        NetNs::open(Path::new(CURRENT))
    }

    /// The namespace that a path names: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<NetNs, Error> {
        let path = path.as_ref();
        let file = File::open(path)
            .map_err(|e| Error::io(format!("open network namespace {}", path.display()), e))?;
        Ok(NetNs { file })
    }

    /// A process's namespace.
    pub fn of_process(pid: u32) -> Result<NetNs, Error> {
        NetNs::open(format!("/proc/{pid}/ns/net"))
    }

    /// A new namespace without a name: it is gone when the last thing that refers to it is. Its
    /// loopback interface is down.
    pub fn unnamed() -> Result<NetNs, Error> {
        on_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::io("make a network namespace", e))?;
            NetNs::current()
        })?
    }

    /// A new namespace with a name in a directory, as `ip netns add` makes it in `/run/netns`: a file
    /// that the namespace is mounted on (in the caller's mount namespace). It stays until [`remove`].
    pub fn create(directory: &Path, name: &str) -> Result<NetNs, Error> {
        let path = named(directory, name)?;
        std::fs::create_dir_all(directory)
            .map_err(|e| Error::io(format!("make directory {}", directory.display()), e))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::io(format!("make namespace file {}", path.display()), e))?;
        let made = on_new_thread(|| {
            let failed = |e: nix::Error| Error::io(format!("mount namespace {}", path.display()), e);
            unshare(CloneFlags::CLONE_NEWNET).map_err(failed)?;
            let none: Option<&str> = None;
            mount(Some(CURRENT), &path, none, MsFlags::MS_BIND, none).map_err(failed)?;
            NetNs::current()
        })
        .and_then(|made| made);
        if made.is_err() {
            // The file alone would look like a namespace that cannot be entered.
            let _ = std::fs::remove_file(&path);
        }
        made
    }

    /// Run `work` on a thread of its own inside the namespace and give back what it returns. Sockets
    /// and files that it opens stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_new_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|e| Error::io("enter a network namespace", e))?;
            Ok(work())
        })?
    }

    /// Put the **calling thread** into the namespace for good; for a process that is about to
    /// execute another, or a thread that stays there.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|e| Error::io("enter a network namespace", e))
    }
}

/// Run `work` inside the namespace that a path names ([`NetNs::run`]).
pub fn run_in<T: Send>(path: impl AsRef<Path>, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    NetNs::open(path)?.run(work)
}

/// Remove a namespace's name; the namespace itself goes with the last thing that refers to it.
/// Nothing there is not an error.
pub fn remove(directory: &Path, name: &str) -> Result<(), Error> {
    let path = named(directory, name)?;
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a file with nothing mounted on it, left by something that was stopped halfway.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(e) => return Err(Error::io(format!("unmount namespace {}", path.display()), e)),
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove namespace file {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

fn named(directory: &Path, name: &str) -> Result<PathBuf, Error> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        let reason = "a namespace's name is one path component";
        return Err(Error::Invalid {
            field: "namespace name",
            value: name.into(),
            reason,
        });
    }
    Ok(directory.join(name))
}

/// Namespaces belong to threads: a change on a pooled thread would leak to its next user, and the
/// main thread's is what others see as ours.
fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|e| Error::io("start a thread for a network namespace", e))?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
