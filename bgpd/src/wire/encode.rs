//! Writes UPDATE messages, as many as the routes need.

use super::attribute_table::{EXTENDED_LENGTH, MP_REACH, MP_UNREACH, OPTIONAL, ROWS, Scope};
use super::message::{HEADER_BYTES, MessageType, finish_message, start_message};
use super::nlri::{encode_prefix, prefix_bytes};
use super::{Attributes, Codec, Family, NextHop, Prefix};

/// Flags, type code and length of an attribute with extended length.
const EXTENDED_HEADER_BYTES: usize = 4;
/// The two length fields of UPDATE.
const LENGTHS_BYTES: usize = 4;
/// AFI and SAFI.
const FAMILY_BYTES: usize = 3;

/// Attributes that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// They leave no room for a prefix.
    #[error("the attributes take {attribute_bytes} octets, too many for a message of {message_max_bytes}")]
    TooLong {
        /// What they take.
        attribute_bytes: usize,
        /// What the session allows.
        message_max_bytes: usize,
    },
    /// An IPv6 route cannot have an IPv4 next hop.
    #[error("an IPv6 route cannot be sent with the IPv4 next hop of its attributes")]
    NextHopFamily,
}

/// Writes announcements of prefixes of one family with common attributes.
pub fn encode_announcement(
    attributes: &Attributes,
    prefixes: &[Prefix],
    codec: Codec,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let Some(first) = prefixes.first() else {
        return Ok(());
    };
    let family = Family::of(first);
    let common = encode_attributes(attributes, codec);
    let room = |fixed: usize| {
        let taken = HEADER_BYTES + LENGTHS_BYTES + common.len() + fixed;
        let room = codec.message_max_bytes().saturating_sub(taken);
        let too_long = EncodeError::TooLong {
            attribute_bytes: common.len() + fixed,
            message_max_bytes: codec.message_max_bytes(),
        };
        if room < super::nlri::PREFIX_MAX_BYTES {
            Err(too_long)
        } else {
            Ok(room)
        }
    };
    match (family, attributes.next_hop) {
        (Family::Ipv4Unicast, NextHop::V4(_)) => {
            for chunk in Chunks::new(prefixes, room(0)?) {
                message(out, |out| {
                    out.extend([0, 0]);
                    out.extend(length16(common.len()));
                    out.extend(&common);
                    chunk.iter().for_each(|prefix| encode_prefix(prefix, out));
                });
            }
        }
        (Family::Ipv6Unicast, NextHop::V4(_)) => return Err(EncodeError::NextHopFamily),
        (family, NextHop::V6 { global, link_local }) => {
            let mut head = family_octets(family).to_vec();
            head.push(if link_local.is_some() { 32 } else { 16 });
            head.extend(global.octets());
            head.extend(link_local.iter().flat_map(std::net::Ipv6Addr::octets));
            head.push(0);
            for chunk in Chunks::new(prefixes, room(EXTENDED_HEADER_BYTES + head.len())?) {
                message(out, |out| {
                    let value = head.len() + chunk.iter().map(prefix_bytes).sum::<usize>();
                    out.extend([0, 0]);
                    out.extend(length16(EXTENDED_HEADER_BYTES + value + common.len()));
                    // RFC 7606 section 5.1: first, so that a fault further on leaves it readable.
                    out.extend([OPTIONAL | EXTENDED_LENGTH, MP_REACH]);
                    out.extend(length16(value));
                    out.extend(&head);
                    chunk.iter().for_each(|prefix| encode_prefix(prefix, out));
                    out.extend(&common);
                });
            }
        }
    }
    Ok(())
}

/// Writes withdrawals of prefixes of one family.
pub fn encode_withdrawal(prefixes: &[Prefix], codec: Codec, out: &mut Vec<u8>) {
    let Some(first) = prefixes.first() else { return };
    match Family::of(first) {
        Family::Ipv4Unicast => {
            for chunk in Chunks::new(prefixes, codec.message_max_bytes() - HEADER_BYTES - LENGTHS_BYTES) {
                message(out, |out| {
                    out.extend(length16(chunk.iter().map(prefix_bytes).sum()));
                    chunk.iter().for_each(|prefix| encode_prefix(prefix, out));
                    out.extend([0, 0]);
                });
            }
        }
        family => {
            let taken = HEADER_BYTES + LENGTHS_BYTES + EXTENDED_HEADER_BYTES + FAMILY_BYTES;
            for chunk in Chunks::new(prefixes, codec.message_max_bytes() - taken) {
                message(out, |out| encode_unreach(family, chunk, out));
            }
        }
    }
}

/// Writes End-of-RIB (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family, out: &mut Vec<u8>) {
    message(out, |out| match family {
        Family::Ipv4Unicast => out.extend([0; 4]),
        family => encode_unreach(family, &[], out),
    });
}

fn encode_unreach(family: Family, prefixes: &[Prefix], out: &mut Vec<u8>) {
    let value = FAMILY_BYTES + prefixes.iter().map(prefix_bytes).sum::<usize>();
    out.extend([0, 0]);
    out.extend(length16(EXTENDED_HEADER_BYTES + value));
    out.extend([OPTIONAL | EXTENDED_LENGTH, MP_UNREACH]);
    out.extend(length16(value));
    out.extend(family_octets(family));
    prefixes.iter().for_each(|prefix| encode_prefix(prefix, out));
}

/// Every attribute but MP_REACH_NLRI, by type code.
fn encode_attributes(attributes: &Attributes, codec: Codec) -> Vec<u8> {
    let mut out = Vec::new();
    let mut value = Vec::new();
    let mut unknown = attributes.unknown.iter().peekable();
    for row in &ROWS {
        while let Some(attribute) = unknown.next_if(|attribute| attribute.code < row.code) {
            put_attribute(attribute.flags, attribute.code, &attribute.value, &mut out);
        }
        value.clear();
        let hidden = row.scope == Scope::Internal && codec.external;
        if !hidden && (row.encode)(attributes, codec, &mut value) {
            put_attribute(row.flags, row.code, &value, &mut out);
        }
    }
    for attribute in unknown {
        put_attribute(attribute.flags, attribute.code, &attribute.value, &mut out);
    }
    out
}

fn put_attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags & !EXTENDED_LENGTH, code, length]),
        Err(_) => {
            out.extend([flags | EXTENDED_LENGTH, code]);
            out.extend(length16(value.len()));
        }
    }
    out.extend(value);
}

fn family_octets(family: Family) -> [u8; FAMILY_BYTES] {
    let [high, low] = family.afi().to_be_bytes();
    [high, low, family.safi()]
}

/// A length field. What does not fit is refused by the message's limit before it is written.
fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn message(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = start_message(MessageType::Update, out);
    body(out);
    finish_message(start, out);
}

/// Cuts prefixes into runs that fit into `room` octets, which is enough for any one prefix.
struct Chunks<'a> {
    rest: &'a [Prefix],
    room: usize,
}

impl<'a> Chunks<'a> {
    const fn new(rest: &'a [Prefix], room: usize) -> Self {
        Self { rest, room }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [Prefix];

    fn next(&mut self) -> Option<&'a [Prefix]> {
        if self.rest.is_empty() {
            return None;
        }
        let mut left = self.room;
        let fits = |prefix: &&Prefix| {
            let fits = left.checked_sub(prefix_bytes(prefix));
            left = fits.unwrap_or(left);
            fits.is_some()
        };
        let count = self.rest.iter().take_while(fits).count().max(1);
        let (chunk, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(chunk)
    }
}
