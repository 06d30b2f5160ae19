//! What both ends agreed on, as far as reading and writing messages depends on it.

use serde::{Deserialize, Serialize};

use super::{FamilySet, MESSAGE_MAX_BYTES, MESSAGE_MAX_EXTENDED_BYTES};

/// How messages of one session are read and written.
///
/// New fields may come with new RFCs: build it as `Codec { .., ..Codec::default() }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Codec {
    /// AS numbers take four octets (RFC 6793).
    pub four_octet_as: bool,
    /// The neighbour takes messages of up to 65535 octets (RFC 8654), and may send such.
    pub extended_message: bool,
    /// We offered to take messages of up to 65535 octets. RFC 8654 section 4 binds only who sends to what
    /// the other end offered, so the neighbour may send them without an offer of its own.
    pub extended_message_offered: bool,
    /// Families that both ends offered. Routes of others are passed over.
    pub families: FamilySet,
    /// The neighbour is in another AS.
    pub external: bool,
    /// Families whose routes come with path identifiers: the neighbour sends them, we take them (RFC 7911).
    pub add_path_receive: FamilySet,
    /// Families whose routes we send with path identifiers.
    pub add_path_send: FamilySet,
    /// Families whose next hop may be an IPv6 address though their own is not (RFC 8950): IPv4.
    pub extended_next_hop: FamilySet,
    /// ROUTE-REFRESH has a subtype (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// Take and send routes with AS_SET segments. RFC 9774 section 3, and so the default, is to treat them as
    /// withdrawn and not to send them.
    pub as_sets: bool,
}

impl Codec {
    /// Longest message that we may send, in octets.
    pub const fn message_max_bytes(self) -> usize {
        if self.extended_message {
            MESSAGE_MAX_EXTENDED_BYTES
        } else {
            MESSAGE_MAX_BYTES
        }
    }

    /// Longest message that the neighbour may send, in octets.
    pub const fn received_max_bytes(self) -> usize {
        if self.extended_message || self.extended_message_offered {
            MESSAGE_MAX_EXTENDED_BYTES
        } else {
            MESSAGE_MAX_BYTES
        }
    }
}
