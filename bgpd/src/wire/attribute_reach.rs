//! Next hops, and the routes of MP_REACH_NLRI and MP_UNREACH_NLRI.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::draft::{Draft, Reach};
use super::nlri::decode_prefixes;
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
    let next_hop = match (family, next_hop) {
        (Family::Ipv4Unicast, next_hop) => usable_v4(Ipv4Addr::from(<[u8; 4]>::try_from(next_hop).ok()?)),
        (Family::Ipv6Unicast, next_hop) => {
            let (global, link_local) = match next_hop.len() {
                16 => (next_hop, None),
                // RFC 2545 section 3: the global address, then the link-local one.
                32 => next_hop
                    .split_at_checked(16)
                    .map(|(global, local)| (global, Some(local)))?,
                _ => return None,
            };
            let address = |octets: &[u8]| <[u8; 16]>::try_from(octets).ok().map(Ipv6Addr::from);
            usable_v6(address(global)?, link_local.and_then(address))
        }
    };
    let prefixes = decode_prefixes(family, reader.rest())?;
    draft.reach = Some(Reach { next_hop, prefixes });
    Some(())
}

fn usable_v6(global: Ipv6Addr, link_local: Option<Ipv6Addr>) -> Option<NextHop> {
    let link_local = link_local.filter(Ipv6Addr::is_unicast_link_local);
    // Some speakers put :: in the first place when they have nothing but a link-local address.
    let global = if global.is_unspecified() {
        link_local?
    } else {
        global
    };
    (!global.is_multicast()).then_some(NextHop::V6 { global, link_local })
}

/// RFC 4760 section 4.
pub(super) fn read_unreach(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16()?, reader.u8()?);
    let family = Family::from_wire(afi, safi).filter(|family| codec.families.contains(*family));
    if let Some(family) = family {
        draft.unreach = Some((family, decode_prefixes(family, reader.rest())?));
    }
    Some(())
}
