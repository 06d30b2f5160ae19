//! Next hops, and the routes of MP_REACH_NLRI and MP_UNREACH_NLRI.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::draft::{Draft, Reach};
use super::nlri::Routes;
use super::reader::Reader;
use super::{Attributes, Codec, Family, NextHop};

pub(super) fn read_next_hop(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?);
    draft.next_hop = Some(usable_v4(address)?);
    Some(())
}

/// RFC 4271 section 6.3: the next hop must be the address of a host.
fn usable_v4(address: Ipv4Addr) -> Option<NextHop> {
    let wrong = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!wrong).then_some(NextHop::V4(address))
}

pub(super) fn write_next_hop(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    match attributes.next_hop {
        NextHop::V4(address) => out.extend(address.octets()),
        NextHop::V6 { .. } => return false,
    }
    true
}

/// The writer of routes puts these in itself.
pub(super) fn write_nothing(_: &Attributes, _: Codec, _: &mut Vec<u8>) -> bool {
    false
}

/// RFC 4760 section 3. Routes of a family that was not negotiated are passed over.
pub(super) fn read_reach(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16()?, reader.u8()?);
    let length = reader.u8()?;
    let next_hop = reader.take(length.into())?;
    reader.u8()?;
    let Some(family) = Family::from_wire(afi, safi).filter(|family| codec.families.contains(*family)) else {
        draft.other_reach = true;
        return Some(());
    };
    let next_hop = read_mp_next_hop(family, next_hop, codec)?;
    let with_path_ids = codec.add_path_receive.contains(family);
    let routes = Routes::decode(family, reader.rest(), with_path_ids)?;
    draft.reach = Some(Reach { next_hop, routes });
    Some(())
}

/// `None` if the length is not one of the family's: then the attribute is malformed (RFC 7606 section 7.11).
/// The next hop in it is `None` if it is no address of a host.
fn read_mp_next_hop(family: Family, octets: &[u8], codec: Codec) -> Option<Option<NextHop>> {
    let v6 = family == Family::Ipv6Unicast || codec.extended_next_hop.contains(family);
    if let (Family::Ipv4Unicast, Ok(octets)) = (family, <[u8; 4]>::try_from(octets)) {
        return Some(usable_v4(octets.into()));
    }
    let (addresses, rest) = octets.as_chunks::<16>();
    match addresses {
        _ if !v6 || !rest.is_empty() => None,
        [only] => Some(usable_v6(Ipv6Addr::from(*only), None)),
        // RFC 2545 section 3: the global address, then the link-local one.
        [first, second] => Some(usable_v6(Ipv6Addr::from(*first), Some(Ipv6Addr::from(*second)))),
        _ => None,
    }
}

/// RFC 2545 section 3, and what is seen where there is no global address: a link-local one alone, in either
/// place with `::` or itself in the other.
fn usable_v6(first: Ipv6Addr, second: Option<Ipv6Addr>) -> Option<NextHop> {
    let link_local = second.filter(Ipv6Addr::is_unicast_link_local);
    if first.is_unspecified() || first.is_unicast_link_local() {
        let first = Some(first).filter(|first| !first.is_unspecified());
        return link_local.or(first).map(NextHop::link_local);
    }
    (!first.is_multicast()).then_some(NextHop::V6 {
        global: first,
        link_local,
    })
}

/// Writes the next hop of MP_REACH_NLRI with its length. Without a global address, the link-local one stands
/// alone in 16 octets, which is what others read in most cases.
pub(super) fn write_v6_next_hop(global: Ipv6Addr, link_local: Option<Ipv6Addr>, out: &mut Vec<u8>) {
    match link_local {
        Some(link_local) if !global.is_unspecified() && !global.is_unicast_link_local() => {
            out.push(32);
            out.extend(global.octets());
            out.extend(link_local.octets());
        }
        link_local => {
            out.push(16);
            out.extend(link_local.unwrap_or(global).octets());
        }
    }
}

/// RFC 4760 section 4.
pub(super) fn read_unreach(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16()?, reader.u8()?);
    let family = Family::from_wire(afi, safi).filter(|family| codec.families.contains(*family));
    if let Some(family) = family {
        let with_path_ids = codec.add_path_receive.contains(family);
        draft.unreach = Some((family, Routes::decode(family, reader.rest(), with_path_ids)?));
    }
    Some(())
}
