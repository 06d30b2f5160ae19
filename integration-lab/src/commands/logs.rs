//! `lab logs`: what the daemons of a node wrote to its /var/log.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::state::StateDir;

/// Of each log only its end is shown, this many bytes at most.
const TAIL_BYTES_MAX: u64 = 64 << 10;
/// Logs may lie in subdirectories, this deep at most.
const DEPTH_MAX: usize = 3;

/// Writes the end of every log of a node, each under its name.
pub fn logs(state: &StateDir, lab: &str, node: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let dir = state.open(lab)?;
    let log_dir = dir.node_log(node);
    if !log_dir.is_dir() {
        anyhow::bail!(
            "there is no node {node:?} in lab {lab}: nodes are {}",
            dir.node_names()?.join(", ")
        );
    }
    let mut files = Vec::new();
    collect(&log_dir, DEPTH_MAX, &mut files)?;
    files.sort();
    for file in files {
        let name = file.strip_prefix(&log_dir).unwrap_or(&file);
        writeln!(out, "==> {node}:/var/log/{} <==", name.display())?;
        out.write_all(&tail(&file)?)?;
    }
    Ok(())
}

fn collect(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .flatten()
    {
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, files)?;
        }
    }
    Ok(())
}

fn tail(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut handle = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let size = handle.metadata()?.len();
    handle.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    handle.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}
