//! The store's file: opening it, and refusing one that is damaged without touching it.

mod overlay;
pub(crate) mod tables;

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable};

use self::overlay::OverlayBackend;
use self::tables::{LEASES, META, REVISIONS, Snapshot, meta};
use crate::server::lease::StoredLease;
use crate::server::limits::PAGE_CACHE_BYTES;
use crate::server::mvcc::index::Index;
use crate::server::mvcc::{FIRST_REVISION, Horizon, NEVER_COMPACTED, Revision};

/// Read and write for the owner alone.
const FILE_MODE: u32 = 0o600;
/// The layout that this version writes.
const FORMAT: u64 = 1;

/// Why a store's file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file's bytes are not those of a store that was written whole.
    #[error(
        "store file {}: damaged: {reason}; the file was left as it is: restore it from a copy, or move it away to start an empty store",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process serves the file.
    #[error(
        "store file {}: in use by another process; stop that one first or give this one another file",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version wrote the file.
    #[error("store file {}: has format {found}, this version reads up to {known}; use the version that wrote it", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known.
        known: u64,
    },
    /// The system refused to read or write.
    #[error("store file {}: {reason}; check that the path exists and that the process may write there", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn interrupted(path: &Path) -> Self {
        unreachable(path, "opening it was interrupted")
    }
}

/// Who the store says it is; kept in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    /// Counts the starts, and is answered as the raft term.
    pub(crate) starts: u64,
}

/// A file that was opened, and what it holds.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) contents: Contents,
}

/// What a file holds, without the values.
pub(crate) struct Contents {
    pub(crate) index: Index,
    pub(crate) horizon: Horizon,
    pub(crate) leases: Vec<StoredLease>,
    pub(crate) identity: Identity,
    /// Records of a compaction that have not been removed yet.
    pub(crate) doomed: Vec<Revision>,
}

/// Opens a store, or makes an empty one where there is no file.
pub(crate) fn open(path: &Path, fresh: Identity) -> Result<Opened, OpenError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(unreachable(path, "it is not a regular file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path, fresh)?,
        Err(error) => return Err(unreachable(path, &error)),
    }
    let contents = examine(path)?;
    let database = guarded(path, || {
        let database = builder().open(path).map_err(|error| from_database(path, error))?;
        let starts = contents.identity.starts;
        count_start(&database, starts).map_err(|error| unreachable(path, &error))?;
        Ok(database)
    })?;
    Ok(Opened { database, contents })
}

/// Makes an empty store beside the path and moves it there whole, so that no half-made one is ever found.
fn create(path: &Path, fresh: Identity) -> Result<(), OpenError> {
    let mut made = path.as_os_str().to_owned();
    made.push(format!(".new-{}", std::process::id()));
    let made = PathBuf::from(made);
    let result = write_empty(&made, fresh)
        .and_then(|()| move_into_place(&made, path).map_err(Box::from))
        .and_then(|()| sync_directory(path));
    let _ = fs::remove_file(&made);
    result.map_err(|error| unreachable(path, &error))
}

/// Another process may have made the store at the same moment; then that one counts, which is why this is a link
/// and not a move, except where there are no links.
fn move_into_place(made: &Path, path: &Path) -> std::io::Result<()> {
    match fs::hard_link(made, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::rename(made, path),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn write_empty(path: &Path, fresh: Identity) -> Result<(), AnyError> {
    // Whatever the hosts keep in their datastore is nobody else's to read.
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)?;
    let database = builder().create(path)?;
    let write = database.begin_write()?;
    {
        write.open_table(REVISIONS)?;
        write.open_table(LEASES)?;
        let mut numbers = write.open_table(META)?;
        numbers.insert(meta::FORMAT, FORMAT)?;
        numbers.insert(meta::CLUSTER_ID, fresh.cluster_id)?;
        numbers.insert(meta::MEMBER_ID, fresh.member_id)?;
        numbers.insert(meta::STARTS, 1)?;
    }
    write.commit()?;
    database.close()?;
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), AnyError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(parent)?.sync_all()?;
    Ok(())
}

/// Checks and reads the whole file through an overlay that keeps every write in memory: repairs after a crash
/// happen there first, and a file that cannot be repaired stays as it was found.
fn examine(path: &Path) -> Result<Contents, OpenError> {
    guarded(path, || {
        let length = fs::metadata(path)
            .map_err(|error| unreachable(path, &error))?
            .len();
        if length == 0 {
            return Err(damaged(path, "it is empty"));
        }
        let backend = OverlayBackend::open(path).map_err(|error| unreachable(path, &error))?;
        let after_crash = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&after_crash);
        let mut database = builder()
            .set_repair_callback(move |_| seen.store(true, Ordering::Relaxed))
            .create_with_backend(backend)
            .map_err(|error| from_database(path, error))?;
        let whole = database
            .check_integrity()
            .map_err(|error| from_database(path, error))?;
        if !whole && !after_crash.load(Ordering::Relaxed) {
            return Err(damaged(
                path,
                "a page does not have the checksum that it was written with",
            ));
        }
        read_contents(path, &database)
    })
}

fn read_contents(path: &Path, database: &Database) -> Result<Contents, OpenError> {
    let bad = |error: AnyError| damaged(path, error);
    let read = database.begin_read().map_err(|e| bad(e.into()))?;
    let numbers = read.open_table(META).map_err(|e| bad(e.into()))?;
    let number = |key: &str| -> Result<Option<u64>, OpenError> {
        Ok(numbers
            .get(key)
            .map_err(|e| bad(e.into()))?
            .map(|found| found.value()))
    };
    let required =
        |key: &str| number(key)?.ok_or_else(|| damaged(path, format!("its number `{key}` is missing")));
    let found = required(meta::FORMAT)?;
    if found > FORMAT {
        return Err(OpenError::TooNew {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let identity = Identity {
        cluster_id: required(meta::CLUSTER_ID)?,
        member_id: required(meta::MEMBER_ID)?,
        starts: required(meta::STARTS)?,
    };
    let compacted = match number(meta::COMPACTED)? {
        None => NEVER_COMPACTED,
        Some(revision) => i64::try_from(revision)
            .map_err(|_| damaged(path, format!("its compact revision {revision} is out of range")))?,
    };
    let (mut index, newest) = read_index(
        path,
        &Snapshot(read.open_table(REVISIONS).map_err(|e| bad(e.into()))?),
    )?;
    let horizon = Horizon {
        current: newest.max(compacted).max(FIRST_REVISION),
        compacted,
    };
    let doomed = index.compact(compacted);
    let mut leases = Vec::new();
    for entry in read
        .open_table(LEASES)
        .map_err(|e| bad(e.into()))?
        .iter()
        .map_err(|e| bad(e.into()))?
    {
        let (id, times) = entry.map_err(|e| bad(e.into()))?;
        let (ttl_seconds, remaining_seconds) = times.value();
        leases.push(StoredLease {
            id: id.value(),
            ttl_seconds,
            remaining_seconds,
        });
    }
    Ok(Contents {
        index,
        horizon,
        leases,
        identity,
        doomed,
    })
}

fn read_index(path: &Path, records: &Snapshot) -> Result<(Index, i64), OpenError> {
    let mut index = Index::default();
    let mut newest = 0;
    for entry in records.from(i64::MIN).map_err(|error| damaged(path, error))? {
        let (revision, record) = entry.map_err(|error| damaged(path, error))?;
        let (key, version) = record.version(revision);
        if key.is_empty() || revision.main <= FIRST_REVISION || revision.sub < 0 {
            return Err(damaged(
                path,
                format!("revision {}.{} has no key", revision.main, revision.sub),
            ));
        }
        newest = revision.main;
        index.restore(key, version);
    }
    Ok((index, newest))
}

fn count_start(database: &Database, starts: u64) -> Result<(), AnyError> {
    let write = database.begin_write()?;
    {
        let mut numbers = write.open_table(META)?;
        numbers.insert(meta::STARTS, starts.saturating_add(1))?;
    }
    write.commit()?;
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(PAGE_CACHE_BYTES);
    builder
}

/// The storage library may panic on bytes that it never wrote; for us that is one more sign of damage.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(damaged(path, "its pages contradict each other")))
}

fn damaged(path: &Path, reason: impl ToString) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn unreachable(path: &Path, reason: impl ToString) -> OpenError {
    OpenError::Unreachable {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn from_database(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse {
            path: path.to_owned(),
        },
        DatabaseError::Storage(redb::StorageError::Io(io))
            if !matches!(
                io.kind(),
                std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::InvalidInput
            ) =>
        {
            unreachable(path, io)
        }
        other => damaged(path, other),
    }
}
