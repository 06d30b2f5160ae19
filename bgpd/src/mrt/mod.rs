//! MRT files (RFC 6396, RFC 8050): tables and updates written down, and taken in again.
//!
//! [`Record`] and [`decode()`] are the codec; [`Replay`] turns records into what peers have said. `dump` writes
//! the whole table, `updates` what is received.

mod attributes;
mod decode;
mod dump;
mod files;
mod reader;
mod record;
mod replay;
mod updates;

pub use decode::{MrtError, decode, frame};
pub(crate) use dump::dump;
pub use dump::{DumpError, Dumped};
pub(crate) use files::file_name;
pub use reader::{ReadError, Records};
pub use record::{
    Ends, HEADER_BYTES, MessageRecord, PeerEntry, PeerIndexTable, RECORD_MAX_BYTES, Record, RibEntry,
    RibRecord, StateChange,
};
pub use replay::{PEERS_MAX, Replay, Said};
pub(crate) use updates::UpdateWriter;
pub use updates::UpdatesStatus;
