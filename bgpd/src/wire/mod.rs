//! The BGP-4 codec: bytes to owned types and back, with no state but what the session negotiated.
//!
//! It depends on no other module of this crate.

mod as_path;
mod attributes;
mod family;

pub use as_path::{AS_TRANS, AsPath, SEGMENT_AS_MAX, Segment, SegmentKind};
pub use attributes::{
    Aggregator, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin, UnknownAttribute,
};
pub use family::{Family, FamilySet, Prefix};
