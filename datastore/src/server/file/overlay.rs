//! A view of the store's file that keeps writes in memory.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Granularity of what is kept in memory.
const CHUNK_BYTES: u64 = 4096;

/// Reads come from the file unless the place was written since; the file itself never changes. It takes the
/// file's locks as a real opening would.
#[derive(Debug)]
pub(crate) struct OverlayBackend {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// How much of the file still shows: a cut file that grows again is zero beyond the cut.
    shown: u64,
    chunks: BTreeMap<u64, Vec<u8>>,
}

impl OverlayBackend {
    pub(crate) fn open(path: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let file = FileBackend::new(file)?;
        Ok(Self {
            file,
            written: Mutex::new(Written {
                length,
                shown: length,
                chunks: BTreeMap::new(),
            }),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of one chunk as they now read.
    fn chunk(&self, written: &Written, index: u64) -> io::Result<Vec<u8>> {
        if let Some(chunk) = written.chunks.get(&index) {
            return Ok(chunk.clone());
        }
        let mut chunk = vec![0; CHUNK_BYTES as usize];
        let start = index.saturating_mul(CHUNK_BYTES);
        let there = written.shown.saturating_sub(start).min(CHUNK_BYTES) as usize;
        if let Some(part) = chunk.get_mut(..there).filter(|part| !part.is_empty()) {
            self.file.read(start, part)?;
        }
        Ok(chunk)
    }
}

/// The pieces of `length` bytes at `offset`: chunk, place in the chunk, place in the buffer, length.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset.saturating_add(length as u64);
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % CHUNK_BYTES;
        let taken = (CHUNK_BYTES - within).min(end - at);
        let piece = (
            at / CHUNK_BYTES,
            within as usize,
            (at - offset) as usize,
            taken as usize,
        );
        at += taken;
        Some(piece)
    })
}

fn out_of_range() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file ends before a page that it should have",
    )
}

impl StorageBackend for OverlayBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset
            .checked_add(out.len() as u64)
            .is_none_or(|end| end > written.length)
        {
            return Err(out_of_range());
        }
        for (index, within, place, taken) in pieces(offset, out.len()) {
            let chunk = self.chunk(&written, index)?;
            if let (Some(to), Some(from)) = (
                out.get_mut(place..place + taken),
                chunk.get(within..within + taken),
            ) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written();
        if length < written.length {
            written.shown = written.shown.min(length);
            written
                .chunks
                .retain(|index, _| index.saturating_mul(CHUNK_BYTES) < length);
            let last = length / CHUNK_BYTES;
            if let Some(chunk) = written.chunks.get_mut(&last) {
                let kept = (length % CHUNK_BYTES) as usize;
                chunk.iter_mut().skip(kept).for_each(|byte| *byte = 0);
            }
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > written.length)
        {
            return Err(out_of_range());
        }
        for (index, within, place, taken) in pieces(offset, bytes.len()) {
            let mut chunk = self.chunk(&written, index)?;
            if let (Some(to), Some(from)) = (
                chunk.get_mut(within..within + taken),
                bytes.get(place..place + taken),
            ) {
                to.copy_from_slice(from);
            }
            written.chunks.insert(index, chunk);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
