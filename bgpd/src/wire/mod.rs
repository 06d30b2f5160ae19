//! The BGP-4 codec: bytes to owned types and back, with no state but what the session negotiated.
//!
//! It depends on no other module of this crate. [`frame`] finds a message in a buffer, [`decode`]
//! reads it; the `encode_…` functions write messages, split where the routes do not fit into one.
//! A fault in an UPDATE is handled by RFC 7606: an attribute is dropped, or the routes of the
//! message are withdrawn ([`Update::faults`] says which), or the session must be reset (the
//! [`Notification`] that [`decode`] returns as its error).

mod as_path;
mod attribute_paths;
mod attribute_reach;
mod attribute_table;
mod attribute_values;
mod attributes;
mod capability;
mod capability_values;
mod codec;
mod draft;
mod encode;
mod family;
mod message;
mod nlri;
pub mod notification;
mod open;
mod reader;
mod route_refresh;
mod update;

pub use as_path::{AS_TRANS, AsPath, SEGMENT_AS_MAX, Segment, SegmentKind};
pub use attributes::{
    Aggregator, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin, PartialSet,
    UnknownAttribute,
};
pub use capability::{
    AddPath, Capabilities, GracefulRestart, LongLivedFamily, Role, STALE_TIME_MAX_S, UnknownCapability,
};
pub use codec::Codec;
pub use encode::{EncodeError, encode_announcement, encode_end_of_rib, encode_withdrawal};
pub use family::{Family, FamilySet, Prefix};
pub use message::{
    HEADER_BYTES, MESSAGE_MAX_BYTES, MESSAGE_MAX_EXTENDED_BYTES, Message, MessageType, decode,
    encode_keepalive, encode_notification, encode_open, encode_route_refresh, frame,
};
pub use nlri::Nlri;
pub use notification::Notification;
pub use open::{Open, VERSION};
pub use route_refresh::{RefreshKind, RouteRefresh};
pub use update::{Announcement, AttributeFault, FAULTS_MAX, Update};
