//! Sets of path attributes as the RIB stores them: one run of octets each, a fifth of what the same takes as
//! [`Attributes`]. What selection looks at is read in place; policies and peers get [`Packed::unpack`].
//!
//! Equal sets have equal octets, and the other way round. In this order, numbers as the processor has them:
//!
//! | octets | what |
//! |---|---|
//! | 4 | what there is (the constants below), ORIGIN, ATOMIC_AGGREGATE, the partial bits |
//! | 4 each | MED, LOCAL_PREF, weight, ONLY_TO_CUSTOMER, ORIGINATOR_ID, interface, AGGREGATOR's AS and id, as far as there |
//! | 4, 16 or 32 | the next hop |
//! | a count, then 4 each | communities, if any |
//! | a count of segments, then each one's kind, count, and 4 for each AS | AS_PATH |
//! | a count, then 4, 8 or 12 each | CLUSTER_LIST, extended and large communities, if any |
//! | a count, then each one's flags, code, length, value | unknown attributes, if any |
//!
//! A count takes an octet for each 7 bits.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Gateway;
use crate::wire::{
    Aggregator, AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin,
    PartialSet, Segment, SegmentKind, UnknownAttribute,
};

// Numbers of four octets, in the order in which they are stored.
const MED: u32 = 1 << 0;
const LOCAL_PREF: u32 = 1 << 1;
const WEIGHT: u32 = 1 << 2;
const OTC: u32 = 1 << 3;
const ORIGINATOR: u32 = 1 << 4;
const INTERFACE: u32 = 1 << 5;
const AGGREGATOR_AS: u32 = 1 << 6;
const AGGREGATOR_ID: u32 = 1 << 7;
const NUMBERS: u32 = 0xff;
// What else there is.
const ORIGIN_SHIFT: u32 = 8;
const ORIGIN_MASK: u32 = 3;
const ATOMIC: u32 = 1 << 10;
const V6: u32 = 1 << 11;
const LINK_LOCAL: u32 = 1 << 12;
const COMMUNITIES: u32 = 1 << 13;
const CLUSTERS: u32 = 1 << 14;
const EXTENDED: u32 = 1 << 15;
const LARGE: u32 = 1 << 16;
const UNKNOWN: u32 = 1 << 17;
/// A community of 65535:0 to 65535:65535 is there, among which are all that mean something to us.
const WELL_KNOWN: u32 = 1 << 18;
const PARTIAL_SHIFT: u32 = 24;

/// The first of the communities that [`WELL_KNOWN`] is about.
const FIRST_WELL_KNOWN: u32 = 0xffff_0000;

/// Stores a set.
pub(super) fn pack(attributes: &Attributes, out: &mut Vec<u8>) {
    let Attributes {
        origin,
        as_path,
        next_hop,
        med,
        local_pref,
        atomic_aggregate,
        aggregator,
        communities,
        originator_id,
        cluster_list,
        extended_communities,
        large_communities,
        otc,
        partial,
        unknown,
        weight,
        interface,
    } = attributes;
    let numbers = [
        *med,
        *local_pref,
        *weight,
        *otc,
        originator_id.map(Ipv4Addr::to_bits),
        *interface,
        aggregator.map(|aggregator| aggregator.asn),
        aggregator.map(|aggregator| aggregator.router_id.to_bits()),
    ];
    let mut present = u32::from(origin.code()) << ORIGIN_SHIFT | u32::from(partial.bits()) << PARTIAL_SHIFT;
    for (place, number) in numbers.iter().enumerate() {
        present |= u32::from(number.is_some()) << place;
    }
    let is_well_known = |community: &Community| community.0 >= FIRST_WELL_KNOWN;
    for (bit, is_there) in [
        (ATOMIC, *atomic_aggregate),
        (V6, matches!(next_hop, NextHop::V6 { .. })),
        (
            LINK_LOCAL,
            matches!(
                next_hop,
                NextHop::V6 {
                    link_local: Some(_),
                    ..
                }
            ),
        ),
        (COMMUNITIES, !communities.is_empty()),
        (CLUSTERS, !cluster_list.is_empty()),
        (EXTENDED, !extended_communities.is_empty()),
        (LARGE, !large_communities.is_empty()),
        (UNKNOWN, !unknown.is_empty()),
        (WELL_KNOWN, communities.iter().any(is_well_known)),
    ] {
        present |= if is_there { bit } else { 0 };
    }
    put(present, out);
    numbers.into_iter().flatten().for_each(|number| put(number, out));
    match next_hop {
        NextHop::V4(address) => out.extend(address.octets()),
        NextHop::V6 { global, link_local } => {
            out.extend(global.octets());
            out.extend(link_local.iter().flat_map(Ipv6Addr::octets));
        }
    }
    if !communities.is_empty() {
        put_count(communities.len(), out);
        communities.iter().for_each(|community| put(community.0, out));
    }
    put_count(as_path.segments.len(), out);
    for Segment { kind, ases } in &as_path.segments {
        out.push(kind.code());
        put_count(ases.len(), out);
        ases.iter().for_each(|asn| put(*asn, out));
    }
    if !cluster_list.is_empty() {
        put_count(cluster_list.len(), out);
        cluster_list.iter().for_each(|id| put(id.to_bits(), out));
    }
    if !extended_communities.is_empty() {
        put_count(extended_communities.len(), out);
        extended_communities
            .iter()
            .for_each(|community| out.extend(community.0));
    }
    if !large_communities.is_empty() {
        put_count(large_communities.len(), out);
        for LargeCommunity {
            global,
            local1,
            local2,
        } in large_communities
        {
            [global, local1, local2]
                .into_iter()
                .for_each(|part| put(*part, out));
        }
    }
    if !unknown.is_empty() {
        put_count(unknown.len(), out);
        for UnknownAttribute { flags, code, value } in unknown {
            out.extend([*flags, *code]);
            put_count(value.len(), out);
            out.extend(value);
        }
    }
}

fn put(number: u32, out: &mut Vec<u8>) {
    out.extend(number.to_ne_bytes());
}

fn put_count(mut count: usize, out: &mut Vec<u8>) {
    while count > 0x7f {
        out.push(count as u8 | 0x80);
        count >>= 7;
    }
    out.push(count as u8);
}

/// A set as [`pack`] stored it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    fn present(self) -> u32 {
        Octets(self.0).number()
    }

    fn has(self, what: u32) -> bool {
        self.present() & what != 0
    }

    fn number(self, what: u32) -> Option<u32> {
        let present = self.present();
        let before = (present & (what - 1)).count_ones() as usize;
        let octets = self.0.get(4 + 4 * before..).filter(|_| present & what != 0)?;
        Some(Octets(octets).number())
    }

    pub(super) fn origin(self) -> Origin {
        let code = self.present() >> ORIGIN_SHIFT & ORIGIN_MASK;
        Origin::from_code(code as u8).unwrap_or_default()
    }

    pub(super) fn med(self) -> Option<u32> {
        self.number(MED)
    }

    pub(super) fn local_pref(self) -> Option<u32> {
        self.number(LOCAL_PREF)
    }

    pub(super) fn weight(self) -> Option<u32> {
        self.number(WEIGHT)
    }

    pub(super) fn otc(self) -> Option<u32> {
        self.number(OTC)
    }

    pub(super) fn interface(self) -> Option<u32> {
        self.number(INTERFACE)
    }

    pub(super) fn originator_id(self) -> Option<Ipv4Addr> {
        self.number(ORIGINATOR).map(Ipv4Addr::from_bits)
    }

    pub(super) fn atomic_aggregate(self) -> bool {
        self.has(ATOMIC)
    }

    /// What follows the numbers.
    fn body(self) -> Octets<'a> {
        let numbers = (self.present() & NUMBERS).count_ones() as usize;
        Octets(self.0.get(4 + 4 * numbers..).unwrap_or_default())
    }

    pub(super) fn next_hop(self) -> NextHop {
        self.body().next_hop(self.present())
    }

    /// The way that the route asks for.
    pub(super) fn gateway(self) -> Gateway {
        Gateway::new(self.next_hop(), self.interface())
    }

    /// What follows the next hop.
    fn communities(self) -> (&'a [[u8; 4]], Octets<'a>) {
        let mut octets = self.body();
        octets.next_hop(self.present());
        let communities = if self.has(COMMUNITIES) { octets.list() } else { &[] };
        (communities, octets)
    }

    pub(super) fn has_community(self, community: Community) -> bool {
        let possible = if community.0 >= FIRST_WELL_KNOWN {
            WELL_KNOWN
        } else {
            COMMUNITIES
        };
        let octets = community.0.to_ne_bytes();
        self.has(possible) && self.communities().0.contains(&octets)
    }

    fn segments(self) -> Segments<'a> {
        let (_, mut octets) = self.communities();
        let left = octets.count();
        Segments { octets, left }
    }

    /// See [`AsPath::is_empty`].
    pub(super) fn as_path_is_empty(self) -> bool {
        self.segments().left == 0
    }

    /// See [`AsPath::hop_count`].
    pub(super) fn hop_count(self) -> usize {
        let hops = |(kind, ases): (SegmentKind, &[[u8; 4]])| match kind {
            SegmentKind::Sequence => ases.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        self.segments().map(hops).sum()
    }

    /// See [`AsPath::occurrences`].
    pub(super) fn occurrences(self, asn: u32) -> usize {
        let octets = asn.to_ne_bytes();
        let of = |(_, ases): (SegmentKind, &[[u8; 4]])| ases.iter().filter(|other| **other == octets).count();
        self.segments().map(of).sum()
    }

    /// See [`AsPath::neighbor_as`].
    pub(super) fn neighbor_as(self) -> Option<u32> {
        let confederation = |kind| matches!(kind, SegmentKind::ConfedSequence | SegmentKind::ConfedSet);
        let (kind, ases) = self.segments().find(|(kind, _)| !confederation(*kind))?;
        let first = ases.first().filter(|_| kind == SegmentKind::Sequence)?;
        Some(u32::from_ne_bytes(*first))
    }

    /// Whether the other has the same AS_PATH.
    pub(super) fn has_path_of(self, other: Self) -> bool {
        let (one, other) = (self.segments(), other.segments());
        one.left == other.left && one.eq(other)
    }

    fn clusters(self) -> &'a [[u8; 4]] {
        if !self.has(CLUSTERS) {
            return &[];
        }
        let mut segments = self.segments();
        segments.by_ref().for_each(|_| ());
        segments.octets.list()
    }

    pub(super) fn cluster_list_len(self) -> usize {
        self.clusters().len()
    }

    pub(super) fn has_cluster(self, id: Ipv4Addr) -> bool {
        self.clusters().contains(&id.to_bits().to_ne_bytes())
    }

    /// Whether it has what only a peer within our AS may send.
    pub(super) fn is_internal(self) -> bool {
        self.has(LOCAL_PREF | ORIGINATOR | CLUSTERS)
    }

    /// The attributes.
    pub(super) fn unpack(self) -> Attributes {
        let present = self.present();
        let (communities, octets) = self.communities();
        let mut segments = Segments { octets, left: 0 };
        segments.left = segments.octets.count();
        let as_path = AsPath {
            segments: segments
                .by_ref()
                .map(|(kind, ases)| Segment {
                    kind,
                    ases: ases.iter().copied().map(u32::from_ne_bytes).collect(),
                })
                .collect(),
        };
        let mut octets = segments.octets;
        let clusters = if present & CLUSTERS != 0 {
            octets.list()
        } else {
            &[]
        };
        let extended = if present & EXTENDED != 0 {
            octets.list()
        } else {
            &[]
        };
        let large = if present & LARGE != 0 {
            octets.list::<12>()
        } else {
            &[]
        };
        let unknown = if present & UNKNOWN != 0 { octets.count() } else { 0 };
        let large = large.iter().map(|parts| {
            let mut parts = Octets(parts);
            LargeCommunity {
                global: parts.number(),
                local1: parts.number(),
                local2: parts.number(),
            }
        });
        let asn = self.number(AGGREGATOR_AS);
        let router_id = self.number(AGGREGATOR_ID).map(Ipv4Addr::from_bits);
        let number = |octets: &[u8; 4]| u32::from_ne_bytes(*octets);
        Attributes {
            origin: self.origin(),
            as_path,
            next_hop: self.next_hop(),
            med: self.med(),
            local_pref: self.local_pref(),
            atomic_aggregate: self.atomic_aggregate(),
            aggregator: asn
                .zip(router_id)
                .map(|(asn, router_id)| Aggregator { asn, router_id }),
            communities: communities.iter().map(number).map(Community).collect(),
            originator_id: self.originator_id(),
            cluster_list: clusters.iter().map(number).map(Ipv4Addr::from_bits).collect(),
            extended_communities: extended.iter().copied().map(ExtendedCommunity).collect(),
            large_communities: large.collect(),
            otc: self.otc(),
            partial: PartialSet::from_bits((present >> PARTIAL_SHIFT) as u8),
            unknown: (0..unknown).map(|_| octets.unknown()).collect(),
            weight: self.weight(),
            interface: self.interface(),
        }
    }
}

/// Segments of an AS_PATH.
#[derive(Clone, Copy)]
struct Segments<'a> {
    octets: Octets<'a>,
    left: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = (SegmentKind, &'a [[u8; 4]]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let [kind] = self.octets.array();
        Some((SegmentKind::from_code(kind)?, self.octets.list()))
    }
}

/// What is left to read. There is always enough, since [`pack`] has written it.
#[derive(Clone, Copy)]
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((front, rest)) = self.0.split_first_chunk() else {
            return [0; N];
        };
        self.0 = rest;
        *front
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at_checked(count).unwrap_or_default();
        self.0 = rest;
        front
    }

    fn number(&mut self) -> u32 {
        u32::from_ne_bytes(self.array())
    }

    fn count(&mut self) -> usize {
        let (mut count, mut shift) = (0, 0);
        loop {
            let [octet] = self.array();
            count |= usize::from(octet & 0x7f) << shift;
            shift += 7;
            if octet & 0x80 == 0 || shift >= usize::BITS {
                return count;
            }
        }
    }

    /// A count, then as many items.
    fn list<const N: usize>(&mut self) -> &'a [[u8; N]] {
        let count = self.count();
        self.take(count.saturating_mul(N)).as_chunks().0
    }

    fn next_hop(&mut self, present: u32) -> NextHop {
        if present & V6 == 0 {
            return NextHop::V4(Ipv4Addr::from(self.array()));
        }
        NextHop::V6 {
            global: Ipv6Addr::from(self.array()),
            link_local: (present & LINK_LOCAL != 0).then(|| Ipv6Addr::from(self.array())),
        }
    }

    fn unknown(&mut self) -> UnknownAttribute {
        let [flags, code] = self.array();
        let length = self.count();
        UnknownAttribute {
            flags,
            code,
            value: self.take(length).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn next_hop() -> impl Strategy<Value = NextHop> {
        let v6 = || any::<u128>().prop_map(Ipv6Addr::from_bits);
        prop_oneof![
            any::<u32>().prop_map(|bits| NextHop::V4(Ipv4Addr::from_bits(bits))),
            (v6(), prop::option::of(v6()))
                .prop_map(|(global, link_local)| NextHop::V6 { global, link_local }),
        ]
    }

    fn segment() -> impl Strategy<Value = Segment> {
        let kinds = [
            SegmentKind::Sequence,
            SegmentKind::Set,
            SegmentKind::ConfedSequence,
            SegmentKind::ConfedSet,
        ];
        let ases = prop_oneof![
            prop::collection::vec(0..4u32, 0..5),
            prop::collection::vec(0..4u32, 0..300)
        ];
        (select(kinds.to_vec()), ases).prop_map(|(kind, ases)| Segment { kind, ases })
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        fn few<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
            prop::collection::vec(item, 0..4)
        }
        let maybe = || prop::option::of(any::<u32>());
        let id = || any::<u32>().prop_map(Ipv4Addr::from_bits);
        let unknown = (
            any::<u8>(),
            any::<u8>(),
            prop::collection::vec(any::<u8>(), 0..200),
        );
        let community = prop_oneof![any::<u32>(), select(vec![0xffff_ff01, 0xffff_0000, 0xfffe_ffff])];
        (
            (next_hop(), few(segment()), 0..3u8, any::<bool>(), any::<u8>()),
            [maybe(), maybe(), maybe(), maybe(), maybe()],
            (prop::option::of(id()), prop::option::of((any::<u32>(), id()))),
            (
                few(community),
                few(id()),
                few(any::<[u8; 8]>()),
                few(any::<[u32; 3]>()),
                few(unknown),
            ),
        )
            .prop_map(
                |(basic, [med, local_pref, weight, otc, interface], (originator_id, aggregator), lists)| {
                    let (next_hop, segments, origin, atomic_aggregate, partial) = basic;
                    let (communities, cluster_list, extended, large, unknown) = lists;
                    Attributes {
                        origin: Origin::from_code(origin).unwrap(),
                        as_path: AsPath { segments },
                        next_hop,
                        med,
                        local_pref,
                        atomic_aggregate,
                        aggregator: aggregator.map(|(asn, router_id)| Aggregator { asn, router_id }),
                        communities: communities.into_iter().map(Community).collect(),
                        originator_id,
                        cluster_list,
                        extended_communities: extended.into_iter().map(ExtendedCommunity).collect(),
                        large_communities: large
                            .into_iter()
                            .map(|[global, local1, local2]| LargeCommunity {
                                global,
                                local1,
                                local2,
                            })
                            .collect(),
                        otc,
                        partial: PartialSet::from_bits(partial),
                        unknown: unknown
                            .into_iter()
                            .map(|(flags, code, value)| UnknownAttribute {
                                flags,
                                code,
                                value: value.into(),
                            })
                            .collect(),
                        weight,
                        interface,
                    }
                },
            )
    }

    fn packed(attributes: &Attributes) -> Vec<u8> {
        let mut octets = Vec::new();
        pack(attributes, &mut octets);
        octets
    }

    proptest! {
        #[test]
        fn what_is_packed_reads_as_it_was(one in attributes(), mut other in attributes(), same in any::<bool>()) {
            if same {
                other.as_path = one.as_path.clone();
            }
            let (octets, others) = (packed(&one), packed(&other));
            let read = Packed::new(&octets);
            prop_assert_eq!(&read.unpack(), &one);
            prop_assert_eq!(octets == others, one == other);
            prop_assert_eq!(read.has_path_of(Packed::new(&others)), one.as_path == other.as_path);
            prop_assert_eq!(read.hop_count(), one.as_path.hop_count());
            prop_assert_eq!(read.neighbor_as(), one.as_path.neighbor_as());
            prop_assert_eq!(read.as_path_is_empty(), one.as_path.is_empty());
            prop_assert_eq!(read.occurrences(1), one.as_path.occurrences(1));
            prop_assert_eq!(read.cluster_list_len(), one.cluster_list.len());
            for id in &other.cluster_list {
                prop_assert_eq!(read.has_cluster(*id), one.cluster_list.contains(id));
            }
            prop_assert!(one.cluster_list.iter().all(|id| read.has_cluster(*id)));
            for community in one.communities.iter().chain(&[Community::NO_EXPORT, Community(7)]) {
                prop_assert_eq!(read.has_community(*community), one.has_community(*community));
            }
        }
    }
}
