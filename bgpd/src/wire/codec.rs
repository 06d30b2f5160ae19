//! What both ends agreed on, as far as reading and writing messages depends on it.

use serde::{Deserialize, Serialize};

use super::{FamilySet, MESSAGE_MAX_BYTES, MESSAGE_MAX_EXTENDED_BYTES};

/// How messages of one session are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Codec {
    /// AS numbers take four octets (RFC 6793).
    pub four_octet_as: bool,
    /// Messages may be up to 65535 octets long (RFC 8654).
    pub extended_message: bool,
    /// Families that both ends offered. Routes of others are passed over.
    pub families: FamilySet,
    /// The neighbour is in another AS.
    pub external: bool,
}

impl Codec {
    /// Longest message, in octets.
    pub const fn message_max_bytes(self) -> usize {
        if self.extended_message {
            MESSAGE_MAX_EXTENDED_BYTES
        } else {
            MESSAGE_MAX_BYTES
        }
    }
}
