//! Prefixes on the wire: a length in bits, then as many octets as it needs (RFC 4271 section 4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::reader::Reader;
use super::{Family, Prefix};

/// Most octets that one prefix takes.
pub(super) const PREFIX_MAX_BYTES: usize = 17;

/// Reads prefixes up to the end of `bytes`. Bits past a prefix's length are ignored.
///
/// `None` if a length is out of range or a prefix is cut off: then nothing after it can be
/// trusted (RFC 7606 section 5.3).
pub(super) fn decode_prefixes(family: Family, bytes: &[u8]) -> Option<Vec<Prefix>> {
    let mut prefixes = Vec::new();
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let length = reader.u8()?;
        if length > family.address_bits() {
            return None;
        }
        let octets = reader.take(usize::from(length.div_ceil(8)))?;
        prefixes.push(prefix(family, length, octets)?);
    }
    Some(prefixes)
}

fn prefix(family: Family, length: u8, octets: &[u8]) -> Option<Prefix> {
    match family {
        Family::Ipv4Unicast => {
            let mut address = [0; 4];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            Some(IpNet::V4(
                Ipv4Net::new(Ipv4Addr::from(address), length).ok()?.trunc(),
            ))
        }
        Family::Ipv6Unicast => {
            let mut address = [0; 16];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            Some(IpNet::V6(
                Ipv6Net::new(Ipv6Addr::from(address), length).ok()?.trunc(),
            ))
        }
    }
}

/// Writes one prefix.
pub(super) fn encode_prefix(prefix: &Prefix, out: &mut Vec<u8>) {
    let length = prefix.prefix_len();
    let octets = usize::from(length.div_ceil(8));
    out.push(length);
    match prefix.trunc() {
        IpNet::V4(net) => out.extend(net.addr().octets().iter().take(octets)),
        IpNet::V6(net) => out.extend(net.addr().octets().iter().take(octets)),
    }
}

/// How many octets [`encode_prefix`] writes.
pub(super) fn prefix_bytes(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.prefix_len().div_ceil(8))
}
