//! Keys of the TCP Authentication Option (RFC 5925).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PASSWORD_MAX_BYTES;

/// Most keys of a neighbour: more than one only while they change.
const KEYS_MAX: usize = 8;

/// How segments are authenticated (RFC 5926).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcpAoAlgorithm {
    /// HMAC-SHA-1-96 (section 3.2.1).
    #[serde(rename = "hmac-sha-1-96")]
    HmacSha1,
    /// AES-128-CMAC-96 (section 3.2.2).
    #[serde(rename = "aes-128-cmac-96")]
    Aes128Cmac,
}

impl TcpAoAlgorithm {
    /// What the kernel calls it.
    pub(crate) const fn kernel_name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac(sha1)",
            Self::Aes128Cmac => "cmac(aes128)",
        }
    }
}

/// A master key tuple (RFC 5925 section 3.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TcpAoKey {
    /// Names it in what we send: the neighbour's receive id.
    pub send_id: u8,
    /// Names it in what the neighbour sends: its send id.
    pub receive_id: u8,
    /// How it is used.
    pub algorithm: TcpAoAlgorithm,
    /// The secret, at most [`PASSWORD_MAX_BYTES`].
    pub key: String,
}

impl fmt::Debug for TcpAoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpAoKey")
            .field("send_id", &self.send_id)
            .field("receive_id", &self.receive_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl TcpAoKey {
    /// Whether both are named alike on the wire.
    pub(crate) const fn has_ids_of(&self, other: &Self) -> bool {
        self.send_id == other.send_id && self.receive_id == other.receive_id
    }
}

/// Whether a connection in use can go over from one list of keys to another: it has keys before and after, and no
/// key changes under its name.
pub(super) fn can_change(old: &[TcpAoKey], new: &[TcpAoKey]) -> bool {
    let same = |one: &TcpAoKey| new.iter().all(|other| !one.has_ids_of(other) || one == other);
    old.is_empty() == new.is_empty() && old.iter().all(same)
}

/// What is wrong with a list of keys.
pub(super) fn check(keys: &[TcpAoKey]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!(
            "has more than {KEYS_MAX} keys: remove those that are not used any more"
        ));
    }
    for (at, key) in keys.iter().enumerate() {
        let name = format!("send-id {} receive-id {}", key.send_id, key.receive_id);
        if key.key.is_empty() || key.key.len() > PASSWORD_MAX_BYTES {
            return Err(format!("{name}: key must have 1..{PASSWORD_MAX_BYTES} bytes"));
        }
        // RFC 5925 section 3.1: ids of keys that are there together do not overlap.
        let overlaps = |other: &TcpAoKey| other.send_id == key.send_id || other.receive_id == key.receive_id;
        if keys.iter().take(at).any(overlaps) {
            return Err(format!(
                "{name}: another key has one of these ids (RFC 5925): choose others"
            ));
        }
    }
    Ok(())
}
