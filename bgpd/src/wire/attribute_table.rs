//! Path attributes on the wire: one row of [`ROWS`] for each that we know.
//!
//! A row says how an attribute is read and written and what happens when it is wrong (RFC 7606
//! section 7). Adding an attribute is adding a row.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::nlri::decode_prefixes;
use super::reader::Reader;
use super::{
    AS_TRANS, Aggregator, AsPath, Attributes, Codec, Community, ExtendedCommunity, Family, LargeCommunity,
    NextHop, Origin, Prefix, SEGMENT_AS_MAX, Segment, SegmentKind, UnknownAttribute,
};

/// Attribute flag: not every speaker knows it.
pub(super) const OPTIONAL: u8 = 0x80;
/// Attribute flag: passed on to neighbours.
pub(super) const TRANSITIVE: u8 = 0x40;
/// Attribute flag: a speaker on the way did not know it.
pub(super) const PARTIAL: u8 = 0x20;
/// Attribute flag: the length takes two octets.
pub(super) const EXTENDED_LENGTH: u8 = 0x10;

/// Type codes that other modules ask for.
pub(super) const ORIGIN: u8 = 1;
pub(super) const AS_PATH: u8 = 2;
pub(super) const NEXT_HOP: u8 = 3;
pub(super) const MP_REACH: u8 = 14;
pub(super) const MP_UNREACH: u8 = 15;

/// What a wrong attribute does to its message (RFC 7606 section 2), from mild to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ErrorClass {
    /// The attribute is dropped.
    Discard,
    /// The routes of the message are withdrawn.
    TreatAsWithdraw,
    /// The session ends.
    Reset,
}

/// Where an attribute may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Any neighbour.
    Any,
    /// Neighbours in our AS; from others it is dropped unread, and never sent to them.
    Internal,
}

/// MP_REACH_NLRI as read. Without a next hop, the one sent was no address of a host.
pub(super) struct Reach {
    pub(super) next_hop: Option<NextHop>,
    pub(super) prefixes: Vec<Prefix>,
}

/// What has been read of a message's attributes.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<AsPath>,
    as4_path: Option<AsPath>,
    pub(super) next_hop: Option<NextHop>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: bool,
    pub(super) aggregator: Option<Aggregator>,
    as4_aggregator: Option<Aggregator>,
    pub(super) communities: Vec<Community>,
    pub(super) originator_id: Option<Ipv4Addr>,
    pub(super) cluster_list: Vec<Ipv4Addr>,
    pub(super) extended_communities: Vec<ExtendedCommunity>,
    pub(super) large_communities: Vec<LargeCommunity>,
    pub(super) unknown: Vec<UnknownAttribute>,
    pub(super) reach: Option<Reach>,
    /// There was an MP_REACH_NLRI of a family that the session does not carry.
    pub(super) other_reach: bool,
    pub(super) unreach: Option<(Family, Vec<Prefix>)>,
}

/// One known attribute.
pub(super) struct Row {
    pub(super) code: u8,
    pub(super) name: &'static str,
    /// Optional and transitive bits.
    pub(super) flags: u8,
    pub(super) on_error: ErrorClass,
    pub(super) scope: Scope,
    /// Reads the value; `None` if it is malformed.
    pub(super) decode: fn(&mut Draft, &[u8], Codec) -> Option<()>,
    /// Writes the value; false if the attributes have none.
    pub(super) encode: fn(&Attributes, Codec, &mut Vec<u8>) -> bool,
}

const WELL_KNOWN: u8 = TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = OPTIONAL | TRANSITIVE;

macro_rules! row {
    ($code:expr, $name:literal, $flags:expr, $on_error:ident, $scope:ident, $decode:expr, $encode:expr $(,)?) => {
        Row {
            code: $code,
            name: $name,
            flags: $flags,
            on_error: ErrorClass::$on_error,
            scope: Scope::$scope,
            decode: $decode,
            encode: $encode,
        }
    };
}

/// By type code.
pub(super) static ROWS: [Row; 16] = [
    row!(
        ORIGIN,
        "ORIGIN",
        WELL_KNOWN,
        TreatAsWithdraw,
        Any,
        read_origin,
        write_origin
    ),
    row!(
        AS_PATH,
        "AS_PATH",
        WELL_KNOWN,
        TreatAsWithdraw,
        Any,
        read_as_path,
        write_as_path
    ),
    row!(
        NEXT_HOP,
        "NEXT_HOP",
        WELL_KNOWN,
        TreatAsWithdraw,
        Any,
        read_next_hop,
        write_next_hop
    ),
    row!(
        4,
        "MULTI_EXIT_DISC",
        OPTIONAL,
        TreatAsWithdraw,
        Any,
        read_med,
        write_med
    ),
    row!(
        5,
        "LOCAL_PREF",
        WELL_KNOWN,
        TreatAsWithdraw,
        Internal,
        read_local_pref,
        write_local_pref
    ),
    row!(
        6,
        "ATOMIC_AGGREGATE",
        WELL_KNOWN,
        Discard,
        Any,
        read_atomic,
        write_atomic
    ),
    row!(
        7,
        "AGGREGATOR",
        OPTIONAL_TRANSITIVE,
        Discard,
        Any,
        read_aggregator,
        write_aggregator
    ),
    row!(
        8,
        "COMMUNITIES",
        OPTIONAL_TRANSITIVE,
        TreatAsWithdraw,
        Any,
        read_communities,
        write_communities
    ),
    row!(
        9,
        "ORIGINATOR_ID",
        OPTIONAL,
        TreatAsWithdraw,
        Internal,
        read_originator,
        write_originator
    ),
    row!(
        10,
        "CLUSTER_LIST",
        OPTIONAL,
        TreatAsWithdraw,
        Internal,
        read_clusters,
        write_clusters
    ),
    row!(
        MP_REACH,
        "MP_REACH_NLRI",
        OPTIONAL,
        Reset,
        Any,
        read_reach,
        write_nothing
    ),
    row!(
        MP_UNREACH,
        "MP_UNREACH_NLRI",
        OPTIONAL,
        Reset,
        Any,
        read_unreach,
        write_nothing
    ),
    row!(
        16,
        "EXTENDED COMMUNITIES",
        OPTIONAL_TRANSITIVE,
        TreatAsWithdraw,
        Any,
        read_extended,
        write_extended
    ),
    row!(
        17,
        "AS4_PATH",
        OPTIONAL_TRANSITIVE,
        Discard,
        Any,
        read_as4_path,
        write_as4_path
    ),
    row!(
        18,
        "AS4_AGGREGATOR",
        OPTIONAL_TRANSITIVE,
        Discard,
        Any,
        read_as4_aggregator,
        write_as4_aggregator
    ),
    row!(
        32,
        "LARGE_COMMUNITY",
        OPTIONAL_TRANSITIVE,
        TreatAsWithdraw,
        Any,
        read_large,
        write_large
    ),
];

/// The row of a type code.
pub(super) fn row(code: u8) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.code == code)
}

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

fn write_nothing(_: &Attributes, _: Codec, _: &mut Vec<u8>) -> bool {
    false
}

fn read_origin(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let [code] = value else { return None };
    draft.origin = Some(Origin::from_code(*code)?);
    Some(())
}

fn write_origin(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.push(attributes.origin.code());
    true
}

/// Reads segments. AS 0 is malformed (RFC 7607), and so are confederation segments, because we
/// are in no confederation (RFC 5065 section 5).
fn read_path(value: &[u8], four_octet_as: bool) -> Option<AsPath> {
    let mut reader = Reader::new(value);
    let mut path = AsPath::default();
    while !reader.is_empty() {
        let kind = SegmentKind::from_code(reader.u8()?)?;
        let count = usize::from(reader.u8()?);
        let ases: Vec<u32> = if four_octet_as {
            let (ases, _) = reader.take(count * 4)?.as_chunks::<4>();
            ases.iter().copied().map(u32::from_be_bytes).collect()
        } else {
            let (ases, _) = reader.take(count * 2)?.as_chunks::<2>();
            ases.iter()
                .copied()
                .map(|asn| u16::from_be_bytes(asn).into())
                .collect()
        };
        let confederation = matches!(kind, SegmentKind::ConfedSequence | SegmentKind::ConfedSet);
        if confederation || ases.is_empty() || ases.contains(&0) {
            return None;
        }
        path.segments.push(Segment { kind, ases });
    }
    Some(path)
}

fn write_path(path: &AsPath, four_octet_as: bool, out: &mut Vec<u8>) {
    for segment in &path.segments {
        for ases in segment.ases.chunks(SEGMENT_AS_MAX) {
            out.extend([segment.kind.code(), ases.len() as u8]);
            for asn in ases {
                if four_octet_as {
                    out.extend(asn.to_be_bytes());
                } else {
                    out.extend(u16::try_from(*asn).unwrap_or(AS_TRANS as u16).to_be_bytes());
                }
            }
        }
    }
}

fn read_as_path(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    draft.as_path = Some(read_path(value, codec.four_octet_as)?);
    Some(())
}

fn write_as_path(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    write_path(&attributes.as_path, codec.four_octet_as, out);
    true
}

/// RFC 6793 section 6: a neighbour that speaks four octets must not send it; it is dropped.
fn read_as4_path(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    if !codec.four_octet_as {
        draft.as4_path = Some(read_path(value, true)?);
    }
    Some(())
}

fn write_as4_path(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    let wanted = !codec.four_octet_as && attributes.as_path.needs_four_octets();
    if wanted {
        write_path(&attributes.as_path, true, out);
    }
    wanted
}

fn read_next_hop(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?);
    draft.next_hop = Some(usable_v4(address)?);
    Some(())
}

/// RFC 4271 section 6.3: the next hop must be the address of a host.
fn usable_v4(address: Ipv4Addr) -> Option<NextHop> {
    let wrong = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!wrong).then_some(NextHop::V4(address))
}

fn write_next_hop(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    match attributes.next_hop {
        NextHop::V4(address) => out.extend(address.octets()),
        NextHop::V6 { .. } => return false,
    }
    true
}

fn read_med(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.med = Some(read_u32(value)?);
    Some(())
}

fn write_med(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.med.iter().flat_map(|med| med.to_be_bytes()));
    attributes.med.is_some()
}

fn read_local_pref(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.local_pref = Some(read_u32(value)?);
    Some(())
}

fn write_local_pref(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(
        attributes
            .local_pref
            .iter()
            .flat_map(|preference| preference.to_be_bytes()),
    );
    attributes.local_pref.is_some()
}

fn read_atomic(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.atomic_aggregate = value.is_empty();
    value.is_empty().then_some(())
}

fn write_atomic(attributes: &Attributes, _: Codec, _: &mut Vec<u8>) -> bool {
    attributes.atomic_aggregate
}

fn aggregator(value: &[u8], four_octet_as: bool) -> Option<Aggregator> {
    let mut reader = Reader::new(value);
    let asn = if four_octet_as {
        reader.u32()?
    } else {
        reader.u16()?.into()
    };
    let router_id = Ipv4Addr::from(reader.array::<4>()?);
    (reader.is_empty() && asn != 0).then_some(Aggregator { asn, router_id })
}

fn read_aggregator(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    draft.aggregator = Some(aggregator(value, codec.four_octet_as)?);
    Some(())
}

fn write_aggregator(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    let Some(Aggregator { asn, router_id }) = attributes.aggregator else {
        return false;
    };
    if codec.four_octet_as {
        out.extend(asn.to_be_bytes());
    } else {
        out.extend(u16::try_from(asn).unwrap_or(AS_TRANS as u16).to_be_bytes());
    }
    out.extend(router_id.octets());
    true
}

fn read_as4_aggregator(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    if !codec.four_octet_as {
        draft.as4_aggregator = Some(aggregator(value, true)?);
    }
    Some(())
}

fn write_as4_aggregator(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    match attributes.aggregator {
        Some(Aggregator { asn, router_id }) if !codec.four_octet_as && asn > u16::MAX.into() => {
            out.extend(asn.to_be_bytes());
            out.extend(router_id.octets());
            true
        }
        _ => false,
    }
}

fn read_communities(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.communities = read_list(value, |octets| Community(u32::from_be_bytes(octets)))?;
    Some(())
}

fn write_communities(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.communities, out, |community| {
        community.0.to_be_bytes()
    })
}

fn read_originator(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.originator_id = Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?));
    Some(())
}

fn write_originator(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    out.extend(attributes.originator_id.iter().flat_map(Ipv4Addr::octets));
    attributes.originator_id.is_some()
}

fn read_clusters(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.cluster_list = read_list(value, Ipv4Addr::from)?;
    Some(())
}

fn write_clusters(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.cluster_list, out, Ipv4Addr::octets)
}

fn read_extended(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
    draft.extended_communities = read_list(value, ExtendedCommunity)?;
    Some(())
}

fn write_extended(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    write_list(&attributes.extended_communities, out, |community| community.0)
}

fn read_large(draft: &mut Draft, value: &[u8], _: Codec) -> Option<()> {
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

fn write_large(attributes: &Attributes, _: Codec, out: &mut Vec<u8>) -> bool {
    for community in &attributes.large_communities {
        for part in [community.global, community.local1, community.local2] {
            out.extend(part.to_be_bytes());
        }
    }
    !attributes.large_communities.is_empty()
}

/// RFC 4760 section 3. Routes of a family that was not negotiated are passed over.
fn read_reach(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
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
fn read_unreach(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    let mut reader = Reader::new(value);
    let (afi, safi) = (reader.u16()?, reader.u8()?);
    let family = Family::from_wire(afi, safi).filter(|family| codec.families.contains(*family));
    if let Some(family) = family {
        draft.unreach = Some((family, decode_prefixes(family, reader.rest())?));
    }
    Some(())
}

impl Draft {
    /// RFC 6793 section 4.2.3: puts the four-octet ASes where AS_PATH and AGGREGATOR have AS_TRANS.
    pub(super) fn merge_four_octet_ases(&mut self) {
        let as4_aggregator = self.as4_aggregator.take();
        let as4_path = self.as4_path.take();
        match &mut self.aggregator {
            // Someone aggregated after the last four-octet speaker: what that one said is old.
            Some(aggregator) if aggregator.asn != AS_TRANS => return,
            Some(aggregator) => *aggregator = as4_aggregator.unwrap_or(*aggregator),
            None => {}
        }
        let (Some(path), Some(as4_path)) = (&mut self.as_path, as4_path) else {
            return;
        };
        let Some(leading) = path.hop_count().checked_sub(as4_path.hop_count()) else {
            return;
        };
        let mut merged = leading_hops(path, leading);
        merged.segments.extend(as4_path.segments);
        *path = joined(merged);
    }
}

/// The first `hops` of a path.
fn leading_hops(path: &AsPath, mut hops: usize) -> AsPath {
    let mut front = AsPath::default();
    for segment in &path.segments {
        let take = match segment.kind {
            _ if hops == 0 => break,
            SegmentKind::Sequence => segment.ases.len().min(hops),
            _ => segment.ases.len(),
        };
        hops -= if segment.kind == SegmentKind::Sequence {
            take
        } else {
            1
        };
        let ases = segment.ases.iter().copied().take(take).collect();
        front.segments.push(Segment {
            kind: segment.kind,
            ases,
        });
    }
    front
}

/// Neighbouring sequences made one, as far as a segment can hold them.
fn joined(path: AsPath) -> AsPath {
    let mut joined = AsPath::default();
    for segment in path.segments {
        match joined.segments.last_mut() {
            Some(last)
                if last.kind == SegmentKind::Sequence
                    && segment.kind == SegmentKind::Sequence
                    && last.ases.len() + segment.ases.len() <= SEGMENT_AS_MAX =>
            {
                last.ases.extend(segment.ases);
            }
            _ => joined.segments.push(segment),
        }
    }
    joined
}
