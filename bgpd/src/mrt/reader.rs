//! Records of a file, one after another.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use super::record::{HEADER_BYTES, Record};
use super::{MrtError, decode, frame};

/// Why a file is not read further, or what is wrong with one of its records.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read, or ends within a record.
    #[error("after octet {offset}: {source}")]
    Read {
        /// Where the record starts.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// No record can start here: nothing after it can be read.
    #[error("at octet {offset}: {source}; is it an uncompressed MRT file?")]
    Lost {
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: MrtError,
    },
    /// One record is wrong; those after it can be read.
    #[error("at octet {offset}: {source}")]
    Record {
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: MrtError,
    },
}

/// Reads records. Give it a buffered reader.
#[derive(Debug)]
pub struct Records<R> {
    file: R,
    buffer: Vec<u8>,
    offset: u64,
    done: bool,
}

impl<R: Read> Records<R> {
    /// From the start of a file.
    pub const fn new(file: R) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            offset: 0,
            done: false,
        }
    }

    /// The next record's octets into the buffer; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ReadError> {
        let offset = self.offset;
        let failed = |source| ReadError::Read { offset, source };
        self.buffer.clear();
        let header = (&mut self.file)
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut self.buffer)
            .map_err(failed)?;
        if header == 0 {
            return Ok(false);
        }
        if header < HEADER_BYTES {
            return Err(failed(ErrorKind::UnexpectedEof.into()));
        }
        frame(&self.buffer).map_err(|source| ReadError::Lost { offset, source })?;
        let length = self
            .buffer
            .last_chunk::<4>()
            .map_or(0, |field| u32::from_be_bytes(*field));
        let body = (&mut self.file)
            .take(length.into())
            .read_to_end(&mut self.buffer)
            .map_err(failed)?;
        if body as u64 != u64::from(length) {
            return Err(failed(ErrorKind::UnexpectedEof.into()));
        }
        self.offset += self.buffer.len() as u64;
        Ok(true)
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<(Duration, Record), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let offset = self.offset;
        match self.fill() {
            Ok(true) => Some(decode(&self.buffer).map_err(|source| ReadError::Record { offset, source })),
            Ok(false) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }
}
