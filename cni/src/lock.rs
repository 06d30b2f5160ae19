//! The host-wide lock of address management.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use fs4::{FileExt, TryLockError};

/// How long the lock is waited for; without it the store's own compare-and-swap still keeps addresses apart.
const WAIT_MAX: Duration = Duration::from_secs(90);
/// How often it is tried.
const TRY_INTERVAL: Duration = Duration::from_millis(20);

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

/// Takes the lock, or goes on without it: it only spares the store conflicts.
pub(crate) fn acquire(path: &Path) -> Lock {
    let open = || -> std::io::Result<File> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
    };
    let file = match open() {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no host-wide lock");
            return Lock { _file: None };
        }
    };
    let deadline = Instant::now() + WAIT_MAX;
    while Instant::now() < deadline {
        match FileExt::try_lock(&file) {
            Ok(()) => return Lock { _file: Some(file) },
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_INTERVAL),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "no host-wide lock");
                break;
            }
        }
    }
    Lock { _file: None }
}
