//! MRT files (RFC 6396, RFC 8050): tables and updates written down.
//!
//! [`Record`] and [`decode`] are the codec.

mod decode;
mod record;

pub use decode::{MrtError, decode, frame};
pub use record::{
    Ends, HEADER_BYTES, MessageRecord, PeerEntry, PeerIndexTable, RECORD_MAX_BYTES, Record, RibEntry,
    RibRecord, StateChange,
};
