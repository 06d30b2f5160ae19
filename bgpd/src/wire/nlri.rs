//! Prefixes on the wire: a length in bits, then as many octets as it needs (RFC 4271 section 4.3),
//! after a path identifier where add-path was negotiated (RFC 7911 section 3).
//!
//! This is where a full table spends its time, so a prefix is one load or store of fixed width wherever the
//! buffer goes on far enough behind it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::Reader;
use super::{Family, Prefix};

/// Most octets that one prefix takes.
pub(super) const PREFIX_MAX_BYTES: usize = 17;
/// A path identifier.
pub(super) const PATH_ID_BYTES: usize = 4;
/// Octets behind the last prefix that a fixed-width store may touch.
const STORE_SLACK_BYTES: usize = PATH_ID_BYTES + PREFIX_MAX_BYTES;

/// Routes of one family to write.
#[derive(Clone, Copy, Debug)]
pub struct Nlri<'a> {
    /// The prefixes; those of another family than the first are passed over.
    pub prefixes: &'a [Prefix],
    /// Their path identifiers, in the same order. They are written only where add-path was negotiated; a
    /// missing one is written as 0.
    pub path_ids: &'a [u32],
}

impl<'a> From<&'a [Prefix]> for Nlri<'a> {
    fn from(prefixes: &'a [Prefix]) -> Self {
        Self {
            prefixes,
            path_ids: &[],
        }
    }
}

impl<'a> From<&'a Vec<Prefix>> for Nlri<'a> {
    fn from(prefixes: &'a Vec<Prefix>) -> Self {
        prefixes.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [Prefix; N]> for Nlri<'a> {
    fn from(prefixes: &'a [Prefix; N]) -> Self {
        prefixes.as_slice().into()
    }
}

impl Nlri<'_> {
    /// What is left behind the first `count`.
    pub(super) fn skip(self, count: usize) -> Self {
        Self {
            prefixes: self.prefixes.get(count..).unwrap_or_default(),
            path_ids: self.path_ids.get(count..).unwrap_or_default(),
        }
    }
}

/// Routes as read: path identifiers are as many as prefixes, or none.
#[derive(Debug, Default)]
pub(super) struct Routes {
    pub(super) prefixes: Vec<Prefix>,
    pub(super) path_ids: Vec<u32>,
}

impl Routes {
    /// Reads routes up to the end of `bytes`. Bits past a prefix's length are ignored.
    ///
    /// `None` if a length is out of range or a prefix is cut off: then nothing after it can be
    /// trusted (RFC 7606 section 5.3).
    pub(super) fn decode(family: Family, bytes: &[u8], with_path_ids: bool) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        match (family, with_path_ids) {
            (Family::Ipv4Unicast, false) => Some(Self {
                prefixes: decode_v4(bytes)?,
                path_ids: Vec::new(),
            }),
            (family, with_path_ids) => decode_any(family, bytes, with_path_ids),
        }
    }

    /// Adds more routes behind these. Where only some have path identifiers, the others get 0.
    pub(super) fn append(&mut self, mut more: Self) {
        if self.prefixes.is_empty() {
            *self = more;
            return;
        }
        if !self.path_ids.is_empty() || !more.path_ids.is_empty() {
            self.path_ids.resize(self.prefixes.len(), 0);
            more.path_ids.resize(more.prefixes.len(), 0);
            self.path_ids.append(&mut more.path_ids);
        }
        self.prefixes.append(&mut more.prefixes);
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.prefixes.clear();
        self.path_ids.clear();
    }
}

/// The octets that a prefix of this many bits takes.
const fn octets_of(bits: u8) -> usize {
    bits.div_ceil(8) as usize
}

fn decode_v4(mut bytes: &[u8]) -> Option<Vec<Prefix>> {
    // Prefixes of a real table take nearly four octets each.
    let mut prefixes = Vec::with_capacity(bytes.len() / 3 + 1);
    while let Some(window) = bytes.first_chunk::<5>() {
        let [length, address @ ..] = *window;
        if length > 32 {
            return None;
        }
        prefixes.push(v4(u32::from_be_bytes(address), length)?);
        // Where the next prefix is depends on this one's length alone, so that the processor need not wait for the
        // rest; and most take three octets, so that it may guess.
        bytes = if matches!(length, 17..=24) {
            bytes.get(4..)?
        } else {
            bytes.get(1 + octets_of(length)..)?
        };
    }
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        prefixes.push(decode_prefix(Family::Ipv4Unicast, &mut reader)?);
    }
    Some(prefixes)
}

fn decode_any(family: Family, bytes: &[u8], with_path_ids: bool) -> Option<Routes> {
    let path_id_bytes = if with_path_ids { PATH_ID_BYTES } else { 0 };
    let typical = path_id_bytes + if family == Family::Ipv4Unicast { 3 } else { 5 };
    let mut routes = Routes {
        prefixes: Vec::with_capacity(bytes.len() / typical + 1),
        path_ids: Vec::with_capacity(if with_path_ids {
            bytes.len() / typical + 1
        } else {
            0
        }),
    };
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        if with_path_ids {
            routes.path_ids.push(reader.u32()?);
        }
        routes.prefixes.push(decode_prefix(family, &mut reader)?);
    }
    Some(routes)
}

fn decode_prefix(family: Family, reader: &mut Reader<'_>) -> Option<Prefix> {
    let length = reader.u8()?;
    if length > family.address_bits() {
        return None;
    }
    let octets = octets_of(length);
    match family {
        Family::Ipv4Unicast => v4(u32::from_be_bytes(reader.padded(octets)?), length),
        Family::Ipv6Unicast => v6(u128::from_be_bytes(reader.padded(octets)?), length),
    }
}

fn v4(address: u32, length: u8) -> Option<Prefix> {
    let host_bits = 32u8.checked_sub(length)?;
    let address = Ipv4Addr::from_bits(address & (u64::MAX << host_bits) as u32);
    Some(IpNet::V4(Ipv4Net::new(address, length).ok()?))
}

fn v6(address: u128, length: u8) -> Option<Prefix> {
    let host_bits = 128u32.checked_sub(length.into())?;
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    Some(IpNet::V6(
        Ipv6Net::new(Ipv6Addr::from_bits(address & mask), length).ok()?,
    ))
}

/// Writes as many routes as fit into `room` octets, and returns how many of `nlri` that were.
pub(super) fn encode_routes(nlri: Nlri<'_>, with_path_ids: bool, room: usize, out: &mut Vec<u8>) -> usize {
    let Some(family) = nlri.prefixes.first().map(Family::of) else {
        return 0;
    };
    let start = out.len();
    let widest = PATH_ID_BYTES + 1 + octets_of(family.address_bits());
    let wanted = room.min(nlri.prefixes.len().saturating_mul(widest));
    out.resize(start + wanted + STORE_SLACK_BYTES, 0);
    let buffer = out.get_mut(start..).unwrap_or_default();
    let (count, written) = match (family, with_path_ids) {
        (Family::Ipv4Unicast, false) => encode_v4(nlri.prefixes, room, buffer),
        (family, with_path_ids) => encode_any(family, nlri, with_path_ids, room, buffer),
    };
    out.truncate(start + written);
    count
}

/// Returns how many routes were written, and their octets.
fn encode_v4(prefixes: &[Prefix], room: usize, buffer: &mut [u8]) -> (usize, usize) {
    let mut at = 0;
    for (index, prefix) in prefixes.iter().enumerate() {
        let IpNet::V4(net) = prefix else { continue };
        let length = net.prefix_len();
        let end = at + 1 + octets_of(length);
        let slot = buffer.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<8>);
        let Some(slot) = slot.filter(|_| end <= room) else {
            return (index, at);
        };
        let address = net.addr().to_bits() & (u64::MAX << (32 - length)) as u32;
        *slot = (u64::from(length) << 56 | u64::from(address) << 24).to_be_bytes();
        at = end;
    }
    (prefixes.len(), at)
}

fn encode_any(
    family: Family,
    nlri: Nlri<'_>,
    with_path_ids: bool,
    room: usize,
    buffer: &mut [u8],
) -> (usize, usize) {
    let mut at = 0;
    let path_id_bytes = if with_path_ids { PATH_ID_BYTES } else { 0 };
    for (index, prefix) in nlri.prefixes.iter().enumerate() {
        if Family::of(prefix) != family {
            continue;
        }
        let length = prefix.prefix_len();
        let end = at + path_id_bytes + 1 + octets_of(length);
        let slot = buffer
            .get_mut(at..)
            .and_then(<[u8]>::first_chunk_mut::<STORE_SLACK_BYTES>);
        let Some(slot) = slot.filter(|_| end <= room) else {
            return (index, at);
        };
        let path_id = nlri.path_ids.get(index).copied().unwrap_or(0);
        let address = match prefix.trunc() {
            IpNet::V4(net) => u128::from(net.addr().to_bits()) << 96,
            IpNet::V6(net) => net.addr().to_bits(),
        };
        let (head, rest) = slot.split_at_mut(path_id_bytes);
        head.copy_from_slice(path_id.to_be_bytes().get(..path_id_bytes).unwrap_or_default());
        if let Some((first, rest)) = rest.split_first_mut() {
            *first = length;
            if let Some(octets) = rest.first_chunk_mut::<16>() {
                *octets = address.to_be_bytes();
            }
        }
        at = end;
    }
    (nlri.prefixes.len(), at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_with_and_without_path_ids_go_together() {
        let routes = |path_ids: &[u32], prefixes: &[&str]| Routes {
            prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            path_ids: path_ids.to_vec(),
        };
        let mut all = routes(&[], &["10.0.0.0/8"]);
        all.append(routes(&[7], &["fd00::/8"]));
        assert_eq!((all.prefixes.len(), all.path_ids.as_slice()), (2, &[0, 7][..]));
        all.append(routes(&[], &["11.0.0.0/8"]));
        assert_eq!(all.path_ids, [0, 7, 0]);
        let mut none = Routes::default();
        none.append(routes(&[9], &["10.0.0.0/8"]));
        assert_eq!(none.path_ids, [9]);
    }
}
