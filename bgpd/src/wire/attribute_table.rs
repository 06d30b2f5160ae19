//! Path attributes on the wire: one row of [`ROWS`] for each that we know.
//!
//! A row says how an attribute is read and written and what happens when it is wrong (RFC 7606
//! section 7). Adding an attribute is adding a row.

use super::attribute_paths::*;
use super::attribute_reach::*;
use super::attribute_values::*;
use super::draft::Draft;
use super::{Attributes, Codec};

/// Attribute flag: not every speaker knows it.
pub(super) const OPTIONAL: u8 = 0x80;
/// Attribute flag: passed on to neighbours.
pub(super) const TRANSITIVE: u8 = 0x40;
/// Attribute flag: a speaker on the way did not know it.
pub(super) const PARTIAL: u8 = 0x20;
/// Attribute flag: the length takes two octets.
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

/// Type codes that other modules ask for.
pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;
pub(super) const IPV6_EXTENDED: u8 = 25;

/// What a wrong attribute does to its message (RFC 7606 section 2), from mild to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ErrorClass {
    /// The attribute is dropped.
    Discard,
    /// The routes of the message are treated as withdrawn.
    Withdraw,
    /// The session ends.
    Reset,
}

/// Where an attribute may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Any neighbour.
    Any,
    /// Neighbours in our AS; from others it is dropped unread, and never sent to them.
    Internal,
}

/// One known attribute.
pub(super) struct Row {
    pub(super) code: u8,
    pub(super) name: &'static str,
    /// Optional and transitive bits.
    pub(super) flags: u8,
    /// What other flags do (RFC 7606 section 3 (c), unless the attribute's RFC says otherwise).
    pub(super) on_flags: ErrorClass,
    /// What a malformed value does.
    pub(super) on_error: ErrorClass,
    pub(super) scope: Scope,
    /// Reads the value; `None` if it is malformed.
    pub(super) decode: fn(&mut Draft, &[u8], Codec) -> Option<()>,
    /// Writes the value; false if the attributes have none.
    pub(super) encode: fn(&Attributes, Codec, &mut Vec<u8>) -> bool,
}

const WELL_KNOWN: u8 = TRANSITIVE;
const OPT_TRANS: u8 = OPTIONAL | TRANSITIVE;

/// One line an attribute: type code, name, flags, what wrong flags and a wrong value do, where it may come
/// from, how it is read, how it is written.
macro_rules! rows {
    ($($code:expr, $name:literal, $flags:ident, $on_flags:ident, $on_error:ident, $scope:ident, $read:ident, $write:ident;)*) => {
        [$(Row {
            code: $code,
            name: $name,
            flags: $flags,
            on_flags: ErrorClass::$on_flags,
            on_error: ErrorClass::$on_error,
            scope: Scope::$scope,
            decode: $read,
            encode: $write,
        }),*]
    };
}

/// By type code.
pub(super) static ROWS: [Row; 19] = rows! {
    ORIGIN, "ORIGIN", WELL_KNOWN, Withdraw, Withdraw, Any, read_origin, write_origin;
    AS_PATH, "AS_PATH", WELL_KNOWN, Withdraw, Withdraw, Any, read_as_path, write_as_path;
    NEXT_HOP, "NEXT_HOP", WELL_KNOWN, Withdraw, Withdraw, Any, read_next_hop, write_next_hop;
    4, "MULTI_EXIT_DISC", OPTIONAL, Withdraw, Withdraw, Any, read_med, write_med;
    5, "LOCAL_PREF", WELL_KNOWN, Withdraw, Withdraw, Internal, read_local_pref, write_local_pref;
    6, "ATOMIC_AGGREGATE", WELL_KNOWN, Withdraw, Discard, Any, read_atomic, write_atomic;
    7, "AGGREGATOR", OPT_TRANS, Withdraw, Discard, Any, read_aggregator, write_aggregator;
    8, "COMMUNITIES", OPT_TRANS, Withdraw, Withdraw, Any, read_communities, write_communities;
    9, "ORIGINATOR_ID", OPTIONAL, Withdraw, Withdraw, Internal, read_originator, write_originator;
    10, "CLUSTER_LIST", OPTIONAL, Withdraw, Withdraw, Internal, read_clusters, write_clusters;
    MP_REACH, "MP_REACH_NLRI", OPTIONAL, Withdraw, Reset, Any, read_reach, write_nothing;
    MP_UNREACH, "MP_UNREACH_NLRI", OPTIONAL, Withdraw, Reset, Any, read_unreach, write_nothing;
    16, "EXTENDED COMMUNITIES", OPT_TRANS, Withdraw, Withdraw, Any, read_extended, write_extended;
    17, "AS4_PATH", OPT_TRANS, Withdraw, Discard, Any, read_as4_path, write_as4_path;
    18, "AS4_AGGREGATOR", OPT_TRANS, Withdraw, Discard, Any, read_as4_aggregator, write_as4_aggregator;
    IPV6_EXTENDED, "IPV6 EXTENDED COMMUNITIES", OPT_TRANS, Withdraw, Withdraw, Any, read_ipv6_extended, write_nothing;
    26, "AIGP", OPTIONAL, Discard, Discard, Any, read_nothing, write_nothing;
    32, "LARGE_COMMUNITY", OPT_TRANS, Withdraw, Withdraw, Any, read_large, write_large;
    35, "ONLY_TO_CUSTOMER", OPT_TRANS, Withdraw, Withdraw, Any, read_otc, write_otc;
};

/// Where the row of each type code is in [`ROWS`]; past its end for codes that have none.
static PLACES: [u8; 256] = {
    let mut places = [u8::MAX; 256];
    let mut place = 0;
    while place < ROWS.len() {
        places[ROWS[place].code as usize] = place as u8;
        place += 1;
    }
    places
};

/// The row of a type code.
pub(super) fn row(code: u8) -> Option<&'static Row> {
    ROWS.get(usize::from(PLACES[usize::from(code)]))
}
