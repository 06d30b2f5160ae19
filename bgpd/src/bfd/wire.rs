//! BFD Control packets (RFC 5880 section 4).
//!
//! [`ControlPacket::decode`] makes the checks of section 6.8.6 that need no session; those that need one
//! are in [`super::Session`] and `super::driver`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The protocol version (RFC 5880 section 4.1).
pub const VERSION: u8 = 1;
/// Length of a packet without authentication section, in bytes.
pub const HEADER_BYTES: usize = 24;
/// Length of a keyed SHA1 authentication section (RFC 5880 section 4.4), in bytes.
pub const SHA1_SECTION_BYTES: u8 = 28;
/// Length of a SHA1 digest, and of the longest key, in bytes.
pub const SHA1_DIGEST_BYTES: usize = 20;
/// Longest packet: its length field has one octet.
pub const PACKET_MAX_BYTES: usize = 255;
/// Shortest authentication section: type and length, in bytes.
const SECTION_MIN_BYTES: usize = 2;

/// Bits of the second octet.
mod flag {
    pub(super) const POLL: u8 = 0x20;
    pub(super) const FINAL: u8 = 0x10;
    pub(super) const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
    pub(super) const AUTHENTICATION: u8 = 0x04;
    pub(super) const DEMAND: u8 = 0x02;
    pub(super) const MULTIPOINT: u8 = 0x01;
}

/// Authentication types (RFC 5880 section 4.1).
mod auth_type {
    pub(super) const KEYED_SHA1: u8 = 4;
    pub(super) const METICULOUS_KEYED_SHA1: u8 = 5;
}

/// The state of a session (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// Held down by an operator.
    AdminDown,
    /// No connectivity, or not known yet.
    #[default]
    Down,
    /// The other side is heard; whether it hears us is not known.
    Init,
    /// Packets pass both ways.
    Up,
}

impl State {
    const fn from_bits(bits: u8) -> Self {
        match bits & 0x03 {
            0 => Self::AdminDown,
            1 => Self::Down,
            2 => Self::Init,
            _ => Self::Up,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::AdminDown => 0,
            Self::Down => 1,
            Self::Init => 2,
            Self::Up => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a session changed its state last (RFC 5880 section 4.1): five bits, of which some values are assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No reason to give.
    pub const NONE: Self = Self(0);
    /// Nothing was received for the detection time.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// The other side said that the session is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// An operator took it down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// The code on the wire, 0..31.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            other => return write!(f, "diagnostic {other}"),
        })
    }
}

/// An authentication section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Section {
    /// Keyed SHA1, plain or meticulous (RFC 5880 section 4.4).
    Sha1 {
        /// Whether each packet has another sequence number.
        meticulous: bool,
        /// Which key.
        key_id: u8,
        /// Ignored, but part of what the digest covers.
        reserved: u8,
        /// Sequence number.
        sequence: u32,
        /// The digest, or the key while the digest is computed.
        digest: [u8; SHA1_DIGEST_BYTES],
    },
    /// Of another type, which we do not use.
    Other {
        /// The type.
        kind: u8,
        /// What follows type and length.
        body: Vec<u8>,
    },
}

impl Section {
    fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let (kind, body) = match octets {
            [kind, length, body @ ..] if usize::from(*length) == octets.len() => (*kind, body),
            _ => return Err(DecodeError::AuthenticationLength),
        };
        let meticulous = kind == auth_type::METICULOUS_KEYED_SHA1;
        if !meticulous && kind != auth_type::KEYED_SHA1 {
            return Ok(Self::Other {
                kind,
                body: body.to_vec(),
            });
        }
        // Section 6.7.4: Auth Len other than 28 is to be discarded.
        let [key_id, reserved, s0, s1, s2, s3, digest @ ..] = body else {
            return Err(DecodeError::AuthenticationLength);
        };
        Ok(Self::Sha1 {
            meticulous,
            key_id: *key_id,
            reserved: *reserved,
            sequence: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            digest: digest.try_into().map_err(|_| DecodeError::AuthenticationLength)?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sha1 {
                meticulous,
                key_id,
                reserved,
                sequence,
                digest,
            } => {
                let kind = if *meticulous {
                    auth_type::METICULOUS_KEYED_SHA1
                } else {
                    auth_type::KEYED_SHA1
                };
                out.extend([kind, SHA1_SECTION_BYTES, *key_id, *reserved]);
                out.extend(sequence.to_be_bytes());
                out.extend(digest);
            }
            Self::Other { kind, body } => {
                let room = PACKET_MAX_BYTES - HEADER_BYTES - SECTION_MIN_BYTES;
                let body = body.get(..room).unwrap_or(body);
                out.extend([*kind, (SECTION_MIN_BYTES + body.len()) as u8]);
                out.extend(body);
            }
        }
    }
}

/// A BFD Control packet. Intervals are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPacket {
    /// Why the sender changed its state last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: an answer with F is wanted.
    pub poll: bool,
    /// F: this is that answer.
    pub is_final: bool,
    /// C: the sender's BFD goes on while its control plane does not.
    pub control_plane_independent: bool,
    /// D: the sender wishes no periodic packets.
    pub demand: bool,
    /// How many of the sender's packets may be missed; not zero.
    pub detect_multiplier: u8,
    /// The sender's name of the session; not zero.
    pub my_discriminator: u32,
    /// The receiver's name of the session, or zero if it is not known.
    pub your_discriminator: u32,
    /// How often the sender would like to send.
    pub desired_min_tx_us: u32,
    /// How often the sender can receive; zero for not at all.
    pub required_min_rx_us: u32,
    /// How often the sender loops Echo packets back; zero for not at all.
    pub required_min_echo_rx_us: u32,
    /// The authentication section, if there is one.
    pub authentication: Option<Section>,
}

/// Octets that are no packet to look at: RFC 5880 section 6.8.6 has them discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not version 1.
    #[error("the version is not 1")]
    Version,
    /// Shorter than a header, or than the length field says.
    #[error("the length is wrong")]
    Length,
    /// Detect Mult is zero.
    #[error("the detection multiplier is zero")]
    Multiplier,
    /// The M bit is set.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// My Discriminator is zero.
    #[error("my discriminator is zero")]
    Discriminator,
    /// Your Discriminator is zero in a state that is only reached by hearing from us.
    #[error("your discriminator is zero in state Init or Up")]
    StateWithoutDiscriminator,
    /// The authentication section has a wrong length.
    #[error("the length of the authentication section is wrong")]
    AuthenticationLength,
}

impl ControlPacket {
    /// Reads a UDP payload. What follows the packet's own length is ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let Some(&[first, second, multiplier, length]) = payload.first_chunk() else {
            return Err(DecodeError::Length);
        };
        if first >> 5 != VERSION {
            return Err(DecodeError::Version);
        }
        let has_section = second & flag::AUTHENTICATION != 0;
        let least = HEADER_BYTES + if has_section { SECTION_MIN_BYTES } else { 0 };
        if usize::from(length) < least {
            return Err(DecodeError::Length);
        }
        let octets = payload.get(..length.into()).ok_or(DecodeError::Length)?;
        if multiplier == 0 {
            return Err(DecodeError::Multiplier);
        }
        if second & flag::MULTIPOINT != 0 {
            return Err(DecodeError::Multipoint);
        }
        let word = |at: usize| {
            let octets = octets.get(at..)?.first_chunk()?;
            Some(u32::from_be_bytes(*octets))
        };
        let word = |at| word(at).ok_or(DecodeError::Length);
        let state = State::from_bits(second >> 6);
        let (my_discriminator, your_discriminator) = (word(4)?, word(8)?);
        if my_discriminator == 0 {
            return Err(DecodeError::Discriminator);
        }
        if your_discriminator == 0 && !matches!(state, State::Down | State::AdminDown) {
            return Err(DecodeError::StateWithoutDiscriminator);
        }
        // The section ends with the packet, or the digest would not cover what it has to.
        let section = octets.get(HEADER_BYTES..).filter(|_| has_section);
        Ok(Self {
            diagnostic: Diagnostic(first & 0x1f),
            state,
            poll: second & flag::POLL != 0,
            is_final: second & flag::FINAL != 0,
            control_plane_independent: second & flag::CONTROL_PLANE_INDEPENDENT != 0,
            demand: second & flag::DEMAND != 0,
            detect_multiplier: multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx_us: word(12)?,
            required_min_rx_us: word(16)?,
            required_min_echo_rx_us: word(20)?,
            authentication: section.map(Section::decode).transpose()?,
        })
    }

    /// Writes it.
    pub fn encode(&self) -> Vec<u8> {
        let flags = [
            (self.poll, flag::POLL),
            (self.is_final, flag::FINAL),
            (self.control_plane_independent, flag::CONTROL_PLANE_INDEPENDENT),
            (self.authentication.is_some(), flag::AUTHENTICATION),
            (self.demand, flag::DEMAND),
        ];
        let flags = flags
            .iter()
            .filter(|(set, _)| *set)
            .fold(0, |bits, (_, bit)| bits | bit);
        let mut octets = vec![
            VERSION << 5 | self.diagnostic.0 & 0x1f,
            self.state.bits() << 6 | flags,
            self.detect_multiplier,
            0,
        ];
        for word in [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        ] {
            octets.extend(word.to_be_bytes());
        }
        if let Some(section) = &self.authentication {
            section.encode(&mut octets);
        }
        let length = octets.len() as u8;
        if let Some(field) = octets.get_mut(3) {
            *field = length;
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Down, multiplier 3, intervals 1 s, 300 ms and 0: as BIRD 2.0.12 sends it first.
    const PLAIN: &str = "20 40 03 18 00 00 00 07 00 00 00 00 00 0f 42 40 00 04 93 e0 00 00 00 00";

    fn octets(text: &str) -> Vec<u8> {
        let octets = text.split_whitespace().map(|octet| u8::from_str_radix(octet, 16));
        octets.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_packet_is_read_and_written() {
        let packet = ControlPacket::decode(&octets(PLAIN)).unwrap();
        assert_eq!((packet.state, packet.diagnostic), (State::Down, Diagnostic::NONE));
        assert_eq!((packet.my_discriminator, packet.your_discriminator), (7, 0));
        assert_eq!(packet.detect_multiplier, 3);
        let intervals = (
            packet.desired_min_tx_us,
            packet.required_min_rx_us,
            packet.required_min_echo_rx_us,
        );
        assert_eq!(intervals, (1_000_000, 300_000, 0));
        assert_eq!(packet.authentication, None);
        assert_eq!(packet.encode(), octets(PLAIN));
    }

    /// Each check of RFC 5880 section 6.8.6 that needs no session.
    #[test]
    fn what_is_to_be_discarded_is_named() {
        let cases: [(usize, u8, DecodeError); 8] = [
            (0, 0x00, DecodeError::Version),
            (0, 0x40, DecodeError::Version),
            (3, 23, DecodeError::Length),
            (3, 25, DecodeError::Length),
            (2, 0, DecodeError::Multiplier),
            (1, 0x41, DecodeError::Multipoint),
            (7, 0, DecodeError::Discriminator),
            (1, 0xc0, DecodeError::StateWithoutDiscriminator),
        ];
        for (at, octet, expected) in cases {
            let mut wrong = octets(PLAIN);
            wrong[at] = octet;
            assert_eq!(
                ControlPacket::decode(&wrong),
                Err(expected),
                "octet {at} is {octet}"
            );
        }
        for length in 0..HEADER_BYTES {
            assert_eq!(
                ControlPacket::decode(&octets(PLAIN)[..length]),
                Err(DecodeError::Length)
            );
        }
        let mut trailing = octets(PLAIN);
        trailing.extend([1, 2, 3]);
        assert!(
            ControlPacket::decode(&trailing).is_ok(),
            "octets after the packet are not part of it"
        );
    }

    #[test]
    fn an_authentication_section_has_its_length() {
        let mut packet = octets(PLAIN);
        packet[1] |= flag::AUTHENTICATION;
        assert_eq!(ControlPacket::decode(&packet), Err(DecodeError::Length));
        packet.extend([4, 28, 1, 0, 0, 0, 0, 9]);
        packet.extend([0xab; 20]);
        packet[3] = 52;
        let read = ControlPacket::decode(&packet).unwrap();
        assert_eq!(
            read.authentication,
            Some(Section::Sha1 {
                meticulous: false,
                key_id: 1,
                reserved: 0,
                sequence: 9,
                digest: [0xab; 20]
            })
        );
        assert_eq!(read.encode(), packet);
        for length in [0, 2, 27, 29, 255] {
            packet[25] = length;
            assert_eq!(
                ControlPacket::decode(&packet),
                Err(DecodeError::AuthenticationLength)
            );
        }
        let mut password = octets(PLAIN);
        password[1] |= flag::AUTHENTICATION;
        password[3] = 28;
        password.extend([1, 4, 1, b'x']);
        let read = ControlPacket::decode(&password).unwrap();
        assert!(matches!(
            read.authentication,
            Some(Section::Other { kind: 1, .. })
        ));
        assert_eq!(read.encode(), password);
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(packet) = ControlPacket::decode(&payload) {
                prop_assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet));
            }
        }

        #[test]
        fn likely_octets_are_read_or_refused(
            mut payload in proptest::collection::vec(any::<u8>(), 24..64), authenticated: bool, kind in 0u8..7
        ) {
            payload[0] = payload[0] & 0x1f | VERSION << 5;
            payload[1] &= !(flag::MULTIPOINT | flag::AUTHENTICATION);
            payload[2] |= 1;
            payload[3] = payload.len() as u8;
            payload[7] |= 1;
            payload[11] |= 1;
            if authenticated {
                payload[1] |= flag::AUTHENTICATION;
                payload.resize(52, 0);
                (payload[3], payload[24], payload[25]) = (52, kind, 28);
            }
            let packet = ControlPacket::decode(&payload).unwrap();
            let written = packet.encode();
            prop_assert_eq!(&written[..24][4..], &payload[..24][4..]);
            prop_assert_eq!(ControlPacket::decode(&written), Ok(packet));
        }
    }
}
