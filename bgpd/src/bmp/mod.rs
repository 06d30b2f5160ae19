//! The BGP Monitoring Protocol (RFC 7854), with Adj-RIB-Out (RFC 8671) and Loc-RIB (RFC 9069).
//!
//! [`Message`] and [`decode`] are the codec.

mod decode;
mod message;

pub use decode::{BmpError, decode, frame};
pub use message::{
    COMMON_HEADER_BYTES, DownReason, MESSAGE_MAX_BYTES, Message, PEER_HEADER_BYTES, PeerHeader, PeerUp,
    Statistic, Tlv, VERSION, information, peer_flag, peer_type, statistic, termination,
};
