//! Attributes whose value is a number, an address or a list of such.

use std::net::Ipv4Addr;

use super::attribute_table::IPV6_EXTENDED;
use super::draft::Draft;
use super::{Attributes, Codec, Community, ExtendedCommunity, LargeCommunity, Origin};

fn read_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Reads a list of fixed-size items; an empty list is malformed (RFC 7606 sections 7.8 to 7.14).
fn read_list<const N: usize, T>(value: &[u8], item: fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (items, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !items.is_empty()).then(|| items.iter().copied().map(item).collect())
}

fn write_list<const N: usize, T>(items: &[T], out: &mut Vec<u8>, item: fn(&T) -> [u8; N]) -> bool {
    out.extend(items.iter().flat_map(item));
    !items.is_empty()
}

pub(super) fn read_origin(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let [code] = value else { return None };
    draft.origin = Some(Origin::from_code(*code)?);
    Some(())
}

pub(super) fn write_origin(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.push(attributes.origin.code());
    true
}

pub(super) fn read_med(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.med = Some(read_u32(value)?);
    Some(())
}

pub(super) fn write_med(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.med.iter().flat_map(|med| med.to_be_bytes()));
    attributes.med.is_some()
}

pub(super) fn read_local_pref(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.local_pref = Some(read_u32(value)?);
    Some(())
}

pub(super) fn write_local_pref(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(
        attributes
            .local_pref
            .iter()
            .flat_map(|preference| preference.to_be_bytes()),
    );
    attributes.local_pref.is_some()
}

pub(super) fn read_atomic(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.atomic_aggregate = value.is_empty();
    value.is_empty().then_some(())
}

pub(super) fn write_atomic(attributes: &Attributes, _: Codec, _: &mut Vec<u8>) -> bool {
    attributes.atomic_aggregate
}

pub(super) fn read_communities(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.communities = read_list(value, |octets| Community(u32::from_be_bytes(octets)))?;
    Some(())
}

pub(super) fn write_communities(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.communities, out, |community| {
        community.0.to_be_bytes()
    })
}

pub(super) fn read_originator(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.originator_id = Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?));
    Some(())
}

pub(super) fn write_originator(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.originator_id.iter().flat_map(Ipv4Addr::octets));
    attributes.originator_id.is_some()
}

pub(super) fn read_clusters(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.cluster_list = read_list(value, Ipv4Addr::from)?;
    Some(())
}

pub(super) fn write_clusters(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.cluster_list, out, Ipv4Addr::octets)
}

pub(super) fn read_extended(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.extended_communities = read_list(value, ExtendedCommunity)?;
    Some(())
}

pub(super) fn write_extended(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.extended_communities, out, |community| community.0)
}

pub(super) fn read_large(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let parts = |octets: [u8; 12]| {
        let part = |at: usize| {
            let part = octets.get(at..at + 4).and_then(read_u32);
            part.unwrap_or_default()
        };
        LargeCommunity {
            global: part(0),
            local1: part(4),
            local2: part(8),
        }
    };
    draft.large_communities = read_list(value, parts)?;
    Some(())
}

pub(super) fn write_large(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    for community in &attributes.large_communities {
        for part in [community.global, community.local1, community.local2] {
            out.extend(part.to_be_bytes());
        }
    }
    !attributes.large_communities.is_empty()
}

/// RFC 9234 section 5.
pub(super) fn read_otc(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.otc = Some(read_u32(value)?);
    Some(())
}

pub(super) fn write_otc(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.otc.iter().flat_map(|asn| asn.to_be_bytes()));
    attributes.otc.is_some()
}

/// Octets of one IPv6-address-specific extended community (RFC 5701 section 2).
const IPV6_EXTENDED_BYTES: usize = 20;

/// RFC 7606 section 7.15. They are passed on as they are.
pub(super) fn read_ipv6_extended(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let whole = !value.is_empty() && value.len().is_multiple_of(IPV6_EXTENDED_BYTES);
    whole.then(|| draft.keep(IPV6_EXTENDED, value))
}

/// An attribute that must not be passed on, and that we make nothing of: AIGP (RFC 7311 section 3), which
/// is dropped here whatever it says.
pub(super) fn read_nothing(_: &mut Draft, _: &[u8], _: Codec) -> Option<()> {
    Some(())
}
