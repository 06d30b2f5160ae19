//! The file system of a node: the machine's, with private places for everything that programs write to
//! and views that belong to the node's own namespaces.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, bail};
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::{BIN_DIR, NodeSpec, SPEC_IN_NODE};

/// Empty directories of their own; below them bind targets are created where they are missing.
const PRIVATE: [(&str, &str); 5] = [
    ("/tmp", "mode=1777"),
    ("/var/tmp", "mode=1777"),
    ("/dev/shm", "mode=1777"),
    ("/var/lib", "mode=0755"),
    ("/run", "mode=0755"),
];
/// A private place for what `/etc` gets on top of the machine's.
const ETC_LAYER_DIR: &str = "/run";

/// Makes the mount namespace of the calling process, which must be the first of its pid namespace.
pub(super) fn make(spec: &NodeSpec) -> anyhow::Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("making the mounts private")?;
    // Sources are held by descriptors: the private directories may hide their paths.
    let sources = spec
        .binds
        .iter()
        .map(|b| hold(&b.source))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let log = hold(&spec.log_dir)?;
    let bin = hold(&spec.bin_dir)?;

    file_system(
        "proc",
        "/proc",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None,
    )?;
    // A new sysfs shows this network namespace; a bpffs of its own dies with the node.
    file_system(
        "sysfs",
        "/sys",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None,
    )?;
    file_system("bpf", "/sys/fs/bpf", MsFlags::empty(), Some("mode=0700"))?;
    for (path, options) in PRIVATE {
        file_system(
            "tmpfs",
            path,
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options),
        )?;
    }
    overlay_etc()?;
    if !fs::symlink_metadata("/var/run").is_ok_and(|m| m.is_symlink()) {
        bind(Path::new("/run"), Path::new("/var/run"), false)?;
    }
    bind_held(&log, Path::new("/var/log"), false)?;
    fs::create_dir_all(BIN_DIR)?;
    bind_held(&bin, Path::new(BIN_DIR), true)?;
    fs::create_dir_all("/run/lock")?;
    fs::write(SPEC_IN_NODE, serde_json::to_vec(spec)?)?;
    write_hosts(spec)?;

    for (bind, source) in spec.binds.iter().zip(&sources) {
        let is_dir = bind.source.is_dir() || fs::metadata(fd_path(source)).is_ok_and(|m| m.is_dir());
        make_target(&bind.target, is_dir)
            .and_then(|()| bind_held(source, &bind.target, bind.read_only))
            .with_context(|| format!("bind {}:{}", bind.source.display(), bind.target.display()))?;
    }
    Ok(())
}

fn hold(path: &Path) -> anyhow::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {}", path.display()))
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn file_system(kind: &str, path: &str, flags: MsFlags, options: Option<&str>) -> anyhow::Result<()> {
    mount(Some(kind), path, Some(kind), flags, options).with_context(|| format!("mounting {kind} on {path}"))
}

/// The machine's /etc below, what the node writes above: users and name services work, nothing leaks out.
fn overlay_etc() -> anyhow::Result<()> {
    let (upper, work) = (
        format!("{ETC_LAYER_DIR}/lab/etc"),
        format!("{ETC_LAYER_DIR}/lab/etc.work"),
    );
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir=/etc,upperdir={upper},workdir={work}");
    mount(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context("overlaying /etc: the kernel needs overlayfs")
}

fn bind_held(source: &OwnedFd, target: &Path, read_only: bool) -> anyhow::Result<()> {
    bind(Path::new(&fd_path(source)), target, read_only)
}

fn bind(source: &Path, target: &Path, read_only: bool) -> anyhow::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("mounting on {}", target.display()))?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
            .with_context(|| format!("making {} read-only", target.display()))?;
    }
    Ok(())
}

/// Creates what a bind is mounted on, only where the node has a file system of its own.
fn make_target(target: &Path, is_dir: bool) -> anyhow::Result<()> {
    if target.exists() {
        return Ok(());
    }
    let own = PRIVATE.iter().map(|(path, _)| *path).chain(["/etc", "/var/log"]);
    if !own.into_iter().any(|path| target.starts_with(path)) {
        bail!(
            "{} does not exist on this machine, and the lab only creates paths below /etc, /run, /tmp, /var/lib and \
             /var/log: choose one of these",
            target.display()
        );
    }
    if is_dir {
        fs::create_dir_all(target)?;
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(target)?;
    Ok(())
}

fn write_hosts(spec: &NodeSpec) -> anyhow::Result<()> {
    use std::io::Write;
    fs::write("/etc/hostname", format!("{}\n", spec.name))?;
    let mut hosts = OpenOptions::new()
        .create(true)
        .append(true)
        .open("/etc/hosts")
        .context("opening /etc/hosts")?;
    writeln!(hosts, "\n127.0.1.1 {}", spec.name)?;
    for (address, name) in &spec.hosts {
        writeln!(hosts, "{address} {name}")?;
    }
    Ok(())
}
