//! The BGP Monitoring Protocol (RFC 7854), with Adj-RIB-Out (RFC 8671) and Loc-RIB (RFC 9069).
//!
//! [`Message`] and [`decode()`] are the codec. `exporter` says what a station is told of what happens to the
//! RIB, `station` connects to it. What a station is told is in the order in which it happened to the RIB, and
//! a station that is too slow costs no one else anything: it is connected again and shown everything.

mod decode;
mod exporter;
mod message;
mod station;

pub use decode::{BmpError, decode, frame};
pub(crate) use message::since_epoch;
pub use message::{
    COMMON_HEADER_BYTES, DownReason, MESSAGE_MAX_BYTES, Message, PEER_HEADER_BYTES, PeerHeader, PeerUp,
    Statistic, Tlv, VERSION, information, mirroring, peer_flag, peer_type, statistic, termination,
};
pub use station::StationStatus;
pub(crate) use station::{StationHandle, subscription_number};
