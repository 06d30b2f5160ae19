//! Writes UPDATE messages, as many as the routes need.

use std::net::Ipv6Addr;

use super::attribute_reach::write_v6_next_hop;
use super::attribute_table::{
    EXTENDED_LENGTH, MP_REACH, MP_UNREACH, OPTIONAL, PARTIAL, ROWS, Scope, TRANSITIVE,
};
use super::message::{HEADER_BYTES, MessageType, finish_message, start_message};
use super::nlri::{Nlri, PATH_ID_BYTES, PREFIX_MAX_BYTES, encode_routes};
use super::{Attributes, Codec, Family, NextHop, UnknownAttribute};

/// Flags, type code and length of an attribute with a length of one octet.
const HEADER_OF_ATTRIBUTE_BYTES: usize = 3;
/// Flags, type code and length of an attribute with extended length.
const EXTENDED_HEADER_BYTES: usize = 4;
/// The two length fields of UPDATE.
const LENGTHS_BYTES: usize = 4;
/// Room that the attributes of most routes fit into.
const TYPICAL_ATTRIBUTES_BYTES: usize = 256;
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
    /// The neighbour did not offer RFC 8950.
    #[error(
        "an IPv4 route cannot be sent with an IPv6 next hop: the neighbour did not offer extended next hops"
    )]
    ExtendedNextHop,
    /// RFC 9774 section 3.
    #[error("routes with an AS_SET in their AS_PATH are not sent")]
    AsSet,
}

/// Writes announcements of prefixes of one family with common attributes. On an error, nothing is written.
pub fn encode_announcement<'a>(
    attributes: &Attributes,
    routes: impl Into<Nlri<'a>>,
    codec: Codec,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut nlri: Nlri<'_> = routes.into();
    let Some(family) = nlri.prefixes.first().map(Family::of) else {
        return Ok(());
    };
    if !codec.as_sets && attributes.as_path.has_sets() {
        return Err(EncodeError::AsSet);
    }
    let reach = match (family, attributes.next_hop) {
        (Family::Ipv4Unicast, NextHop::V4(_)) => None,
        (Family::Ipv6Unicast, NextHop::V4(_)) => return Err(EncodeError::NextHopFamily),
        (Family::Ipv4Unicast, NextHop::V6 { .. }) if !codec.extended_next_hop.contains(family) => {
            return Err(EncodeError::ExtendedNextHop);
        }
        (family, NextHop::V6 { global, link_local }) => Some(reach_head(family, global, link_local)),
    };
    let with_path_ids = codec.add_path_send.contains(family);
    let common = encode_attributes(attributes, codec);
    let head = reach.as_deref().unwrap_or_default();
    let attribute_bytes = common.len() + head.len();
    let taken = HEADER_BYTES + LENGTHS_BYTES + attribute_bytes;
    let room = codec.message_max_bytes().saturating_sub(taken);
    if room < PATH_ID_BYTES + PREFIX_MAX_BYTES {
        return Err(EncodeError::TooLong {
            attribute_bytes,
            message_max_bytes: codec.message_max_bytes(),
        });
    }
    while !nlri.prefixes.is_empty() {
        message(out, |out| {
            out.extend([0; LENGTHS_BYTES]);
            let start = out.len();
            let count = if reach.is_some() {
                // RFC 7606 section 5.1: first, so that a fault further on leaves it readable.
                out.extend(head);
                let count = encode_routes(nlri, with_path_ids, room, out);
                patch_length(start + EXTENDED_HEADER_BYTES, out);
                out.extend(&common);
                patch_length(start, out);
                count
            } else {
                out.extend(&common);
                patch_length(start, out);
                encode_routes(nlri, with_path_ids, room, out)
            };
            // There is room for any prefix, so this ends.
            nlri = nlri.skip(count.max(1));
        });
    }
    Ok(())
}

/// Writes withdrawals of prefixes of one family.
pub fn encode_withdrawal<'a>(routes: impl Into<Nlri<'a>>, codec: Codec, out: &mut Vec<u8>) {
    let mut nlri: Nlri<'_> = routes.into();
    let Some(family) = nlri.prefixes.first().map(Family::of) else {
        return;
    };
    let with_path_ids = codec.add_path_send.contains(family);
    let taken = match family {
        Family::Ipv4Unicast => HEADER_BYTES + LENGTHS_BYTES,
        Family::Ipv6Unicast => HEADER_BYTES + LENGTHS_BYTES + EXTENDED_HEADER_BYTES + FAMILY_BYTES,
    };
    let room = codec.message_max_bytes() - taken;
    while !nlri.prefixes.is_empty() {
        message(out, |out| {
            let write = |out: &mut Vec<u8>| encode_routes(nlri, with_path_ids, room, out);
            let count = match family {
                Family::Ipv4Unicast => {
                    out.extend([0; 2]);
                    let start = out.len();
                    let count = write(out);
                    patch_length(start, out);
                    out.extend([0; 2]);
                    count
                }
                family => encode_unreach(family, out, write),
            };
            nlri = nlri.skip(count.max(1));
        });
    }
}

/// Writes End-of-RIB (RFC 4724 section 2).
pub fn encode_end_of_rib(family: Family, out: &mut Vec<u8>) {
    message(out, |out| match family {
        Family::Ipv4Unicast => out.extend([0; 4]),
        family => encode_unreach(family, out, |_| ()),
    });
}

fn encode_unreach<T>(family: Family, out: &mut Vec<u8>, routes: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.extend([0; LENGTHS_BYTES]);
    let start = out.len();
    out.extend([OPTIONAL | EXTENDED_LENGTH, MP_UNREACH, 0, 0]);
    out.extend(family_octets(family));
    let written = routes(out);
    patch_length(start + EXTENDED_HEADER_BYTES, out);
    patch_length(start, out);
    written
}

/// MP_REACH_NLRI up to its routes, with a length that is put in later.
fn reach_head(family: Family, global: Ipv6Addr, link_local: Option<Ipv6Addr>) -> Vec<u8> {
    let mut head = vec![OPTIONAL | EXTENDED_LENGTH, MP_REACH, 0, 0];
    head.extend(family_octets(family));
    write_v6_next_hop(global, link_local, &mut head);
    // Reserved.
    head.push(0);
    head
}

/// Every attribute but MP_REACH_NLRI, by type code.
fn encode_attributes(attributes: &Attributes, codec: Codec) -> Vec<u8> {
    let mut out = Vec::with_capacity(TYPICAL_ATTRIBUTES_BYTES);
    let mut unknown = attributes.unknown.iter().peekable();
    for row in &ROWS {
        while let Some(attribute) = unknown.next_if(|attribute| attribute.code < row.code) {
            put_unknown(attribute, &mut out);
        }
        if row.scope == Scope::Internal && codec.external {
            continue;
        }
        let start = out.len();
        out.extend([row.flags, row.code, 0]);
        if !(row.encode)(attributes, codec, &mut out) {
            out.truncate(start);
            continue;
        }
        if row.flags & TRANSITIVE != 0 && attributes.partial.contains(row.code) {
            set_flag(start, PARTIAL, &mut out);
        }
        finish_attribute(start, &mut out);
    }
    for attribute in unknown {
        put_unknown(attribute, &mut out);
    }
    out
}

fn put_unknown(attribute: &UnknownAttribute, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([attribute.flags & !EXTENDED_LENGTH, attribute.code, 0]);
    out.extend(&attribute.value);
    finish_attribute(start, out);
}

/// Puts the length into an attribute that was begun at `start` with a length of one octet.
fn finish_attribute(start: usize, out: &mut Vec<u8>) {
    let length = out.len() - start - HEADER_OF_ATTRIBUTE_BYTES;
    let [high, low] = length16(length);
    let octet = if length <= usize::from(u8::MAX) {
        low
    } else {
        set_flag(start, EXTENDED_LENGTH, out);
        out.insert(start + HEADER_OF_ATTRIBUTE_BYTES, low);
        high
    };
    if let Some(field) = out.get_mut(start + HEADER_OF_ATTRIBUTE_BYTES - 1) {
        *field = octet;
    }
}

fn set_flag(start: usize, flag: u8, out: &mut [u8]) {
    if let Some(flags) = out.get_mut(start) {
        *flags |= flag;
    }
}

/// Puts the number of octets from `start` on into the two octets in front of it.
fn patch_length(start: usize, out: &mut [u8]) {
    let length = length16(out.len() - start);
    if let Some(field) = out.get_mut(start - 2..start) {
        field.copy_from_slice(&length);
    }
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
