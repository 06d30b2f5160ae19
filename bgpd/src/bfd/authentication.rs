//! Keyed SHA1 authentication, plain and meticulous (RFC 5880 section 6.7.4).

use std::fmt;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::wire::{ControlPacket, SHA1_DIGEST_BYTES, Section};

/// Longest key, in bytes.
pub const KEY_MAX_BYTES: usize = SHA1_DIGEST_BYTES;

/// How packets of a session are authenticated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// Each packet has a sequence number of its own, which cannot be replayed.
    pub meticulous: bool,
    /// Which key, for the other side.
    pub key_id: u8,
    /// The key, 1 to [`KEY_MAX_BYTES`] bytes.
    pub key: String,
}

/// Keys do not go into logs.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication")
            .field("meticulous", &self.meticulous)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Authentication {
    /// The key as it stands in place of the digest: with zeros behind it.
    fn padded_key(&self) -> [u8; SHA1_DIGEST_BYTES] {
        let mut padded = [0; SHA1_DIGEST_BYTES];
        for (octet, key) in padded.iter_mut().zip(self.key.bytes()) {
            *octet = key;
        }
        padded
    }

    /// Gives a packet an authentication section.
    pub(super) fn sign(&self, mut packet: ControlPacket, sequence: u32) -> ControlPacket {
        let section = |digest| Section::Sha1 {
            meticulous: self.meticulous,
            key_id: self.key_id,
            reserved: 0,
            sequence,
            digest,
        };
        packet.authentication = Some(section(self.padded_key()));
        let digest = Sha1::digest(packet.encode());
        packet.authentication = Some(section(digest.into()));
        packet
    }

    /// Whether a packet's digest is right.
    fn is_signed(&self, packet: &ControlPacket) -> bool {
        let mut packet = packet.clone();
        let Some(Section::Sha1 { digest, .. }) = &mut packet.authentication else {
            return false;
        };
        let received = std::mem::replace(digest, self.padded_key());
        let expected = Sha1::digest(packet.encode());
        // Without an early end, whose time would tell how many octets are right.
        let differences = received
            .iter()
            .zip(expected)
            .fold(0, |bits, (a, b)| bits | (a ^ b));
        differences == 0
    }

    /// The sequence number of a packet, if it is authentic. `last` is the one before it, if that is known.
    pub(super) fn accept(&self, packet: &ControlPacket, last: Option<u32>) -> Option<u32> {
        let Some(Section::Sha1 {
            meticulous,
            key_id,
            sequence,
            ..
        }) = &packet.authentication
        else {
            return None;
        };
        if (*meticulous, *key_id) != (self.meticulous, self.key_id) {
            return None;
        }
        if let Some(last) = last {
            // In a circle: from `last`, or the number after it, up to three detection times on.
            let ahead = sequence.wrapping_sub(last);
            let allowed = u32::from(self.meticulous)..=3 * u32::from(packet.detect_multiplier);
            if !allowed.contains(&ahead) {
                return None;
            }
        }
        self.is_signed(packet).then_some(*sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfd::wire::{Diagnostic, State};

    fn authentication(meticulous: bool) -> Authentication {
        Authentication {
            meticulous,
            key_id: 5,
            key: "secret".to_owned(),
        }
    }

    fn packet() -> ControlPacket {
        ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: false,
            is_final: false,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: 1,
            your_discriminator: 2,
            desired_min_tx_us: 50_000,
            required_min_rx_us: 50_000,
            required_min_echo_rx_us: 0,
            authentication: None,
        }
    }

    #[test]
    fn a_signed_packet_is_accepted_unless_it_was_changed() {
        let auth = authentication(false);
        let signed = auth.sign(packet(), 100);
        assert_eq!(signed.encode().len(), 52);
        assert_eq!(auth.accept(&signed, None), Some(100));
        assert_eq!(auth.accept(&packet(), None), None, "no section");
        let octets = signed.encode();
        for at in 4..octets.len() {
            let mut wrong = octets.clone();
            wrong[at] ^= 1;
            if let Ok(wrong) = ControlPacket::decode(&wrong) {
                assert_eq!(auth.accept(&wrong, None), None, "octet {at}");
            }
        }
        let other = Authentication {
            key: "Secret".to_owned(),
            ..auth
        };
        assert_eq!(other.accept(&signed, None), None);
    }

    /// RFC 5880 section 6.7.4: the window of three times Detect Mult.
    #[test]
    fn sequence_numbers_have_a_window() {
        for (meticulous, repeated) in [(false, Some(0)), (true, None)] {
            let auth = authentication(meticulous);
            let at = |sequence| auth.sign(packet(), sequence);
            assert_eq!(auth.accept(&at(0), Some(0)), repeated);
            assert_eq!(auth.accept(&at(1), Some(0)), Some(1));
            assert_eq!(auth.accept(&at(9), Some(0)), Some(9));
            assert_eq!(auth.accept(&at(10), Some(0)), None);
            assert_eq!(auth.accept(&at(u32::MAX), Some(0)), None, "an old one");
            assert_eq!(
                auth.accept(&at(2), Some(u32::MAX)),
                Some(2),
                "the numbers go in a circle"
            );
        }
    }
}
