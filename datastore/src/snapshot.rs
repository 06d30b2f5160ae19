//! The last good view in a file, so that an agent can start while the store is away.
//!
//! One JSON object a line: a head with the format's version and the history, one line a key, and a foot with the number
//! of keys, by which a truncated file is known. Written beside the file and renamed over it.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::syncer::SnapshotSource;
use crate::syncer::view::{Entry, History};

/// The format's version: another one is not read.
const VERSION: u32 = 1;
/// The longest line that is read: etcd's largest value, escaped, with room.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// A view of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The history that it belongs to.
    pub history: History,
    /// The store's revision that it equals.
    pub revision: i64,
    /// All keys, in key order.
    pub entries: Vec<(String, Entry)>,
}

/// Why a snapshot cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system said no.
    #[error("snapshot {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is not a whole snapshot.
    #[error(
        "snapshot {path}, line {line}: {reason}; it is not used, and replaced once the datastore was read"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    version: u32,
    history: History,
    revision: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foot {
    keys: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Key(String, Entry),
    Foot(Foot),
}

impl Snapshot {
    /// Reads a snapshot; `None` if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a whole snapshot of this version.
    pub fn load(path: &Path) -> Result<Option<Self>, SnapshotError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io(path, source)),
        };
        Self::read(path, BufReader::new(file)).map(Some)
    }

    fn read(path: &Path, mut file: impl BufRead) -> Result<Self, SnapshotError> {
        let mut number = 0;
        let mut next_line = || {
            number += 1;
            read_line(&mut file)
                .map_err(|source| io(path, source))
                .map(|text| (number, text))
        };
        let malformed = |line, reason: String| SnapshotError::Malformed {
            path: path.to_owned(),
            line,
            reason,
        };

        let (line, text) = next_line()?;
        let head: Head = serde_json::from_slice(&text).map_err(|e| malformed(line, e.to_string()))?;
        if head.version != VERSION {
            return Err(malformed(
                line,
                format!("version {} is not {VERSION}", head.version),
            ));
        }
        let mut entries = Vec::new();
        loop {
            let (line, text) = next_line()?;
            if text.is_empty() {
                return Err(malformed(line, "the file ends before its foot".into()));
            }
            match serde_json::from_slice(&text).map_err(|e| malformed(line, e.to_string()))? {
                Line::Key(key, entry) => entries.push((key, entry)),
                Line::Foot(foot) if foot.keys == entries.len() => {
                    return Ok(Self {
                        history: head.history,
                        revision: head.revision,
                        entries,
                    });
                }
                Line::Foot(foot) => {
                    return Err(malformed(
                        line,
                        format!("{} keys instead of {}", entries.len(), foot.keys),
                    ));
                }
            }
        }
    }

    /// Writes the snapshot so that at any time the file is the old one or the new one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        self.write_beside(path).map_err(|source| io(path, source))
    }

    fn write_beside(&self, path: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // BGP passwords' references and host names: for root alone.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        let mut out = BufWriter::new(file);
        let head = Head {
            version: VERSION,
            history: self.history,
            revision: self.revision,
        };
        write_line(&mut out, &head)?;
        for entry in &self.entries {
            write_line(&mut out, entry)?;
        }
        write_line(
            &mut out,
            &Foot {
                keys: self.entries.len(),
            },
        )?;
        out.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        std::fs::rename(&beside, path)?;
        if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn read_line(file: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut limited = std::io::Read::take(&mut *file, LINE_BYTES_MAX);
    limited.read_until(b'\n', &mut text)?;
    Ok(text)
}

fn io(path: &Path, source: std::io::Error) -> SnapshotError {
    SnapshotError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Saves the view now and then, and once more at the end.
pub(crate) async fn keep(source: SnapshotSource, path: PathBuf, interval: Duration) {
    let stop = source.stopped();
    let mut saved = 0;
    loop {
        let last = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            () = stop.cancelled() => true,
        };
        if let Some(snapshot) = source.newer_than(saved) {
            let revision = snapshot.revision;
            let path = path.clone();
            match tokio::task::spawn_blocking(move || snapshot.save(&path)).await {
                Ok(Ok(())) => saved = revision,
                Ok(Err(error)) => tracing::warn!(%error, "the last good view is not saved"),
                Err(error) => tracing::warn!(%error, "the last good view is not saved"),
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Snapshot {
        let entry = |value: &'static [u8], revision| Entry {
            mod_revision: revision,
            create_revision: 3,
            value: bytes::Bytes::from_static(value),
        };
        Snapshot {
            history: History {
                cluster_id: u64::MAX,
                revision: 12,
            },
            revision: 11,
            entries: vec![
                ("/calico/a".into(), entry(b"{\"a\":\"\xc3\xa9\"}", 5)),
                ("/calico/b".into(), entry(&[0xff, 0], 7)),
            ],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("view");
        assert!(Snapshot::load(&path).unwrap().is_none());
        example().save(&path).unwrap();
        assert_eq!(Snapshot::load(&path).unwrap().unwrap(), example());
        example().save(&path).unwrap();
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn any_truncation_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("view");
        example().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = Snapshot::load(&path).unwrap_err().to_string();
            assert!(error.contains("view"), "{length}: {error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = example().save(Path::new("/proc/nowhere/view")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere/view"));
    }
}
