//! What has been read of a message's attributes, before it is known what becomes of them.

use std::net::Ipv4Addr;

use super::attribute_table::{OPTIONAL, PARTIAL, TRANSITIVE};
use super::nlri::Routes;
use super::{
    AS_TRANS, Aggregator, AsPath, Community, ExtendedCommunity, Family, LargeCommunity, NextHop, Origin,
    PartialSet, SEGMENT_AS_MAX, Segment, SegmentKind, UnknownAttribute,
};

/// MP_REACH_NLRI as read. Without a next hop, the one sent was no address of a host.
pub(super) struct Reach {
    pub(super) next_hop: Option<NextHop>,
    pub(super) routes: Routes,
}

/// What has been read of a message's attributes.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) origin: Option<Origin>,
    pub(super) as_path: Option<AsPath>,
    pub(super) as4_path: Option<AsPath>,
    /// AS_PATH or AS4_PATH has a set that the session does not allow.
    pub(super) forbidden_set: bool,
    pub(super) next_hop: Option<NextHop>,
    pub(super) med: Option<u32>,
    pub(super) local_pref: Option<u32>,
    pub(super) atomic_aggregate: bool,
    pub(super) aggregator: Option<Aggregator>,
    pub(super) as4_aggregator: Option<Aggregator>,
    pub(super) communities: Vec<Community>,
    pub(super) originator_id: Option<Ipv4Addr>,
    pub(super) cluster_list: Vec<Ipv4Addr>,
    pub(super) extended_communities: Vec<ExtendedCommunity>,
    pub(super) large_communities: Vec<LargeCommunity>,
    pub(super) otc: Option<u32>,
    pub(super) partial: PartialSet,
    pub(super) unknown: Vec<UnknownAttribute>,
    pub(super) reach: Option<Reach>,
    /// There was an MP_REACH_NLRI of a family that the session does not carry.
    pub(super) other_reach: bool,
    pub(super) unreach: Option<(Family, Routes)>,
}

impl Draft {
    /// Keeps an optional transitive attribute as it is.
    pub(super) fn keep(&mut self, code: u8, value: &[u8]) {
        self.unknown.push(UnknownAttribute {
            flags: OPTIONAL | TRANSITIVE,
            code,
            value: value.into(),
        });
    }

    /// Notes the partial bit of an attribute that has just been read.
    pub(super) fn mark_partial(&mut self, code: u8) {
        match self.unknown.last_mut() {
            Some(last) if last.code == code => last.flags |= PARTIAL,
            _ => self.partial.insert(code),
        }
    }

    /// RFC 6793 section 4.2.3: puts the four-octet ASes where AS_PATH and AGGREGATOR have AS_TRANS.
    pub(super) fn merge_four_octet_ases(&mut self) {
        let as4_aggregator = self.as4_aggregator.take();
        let as4_path = self.as4_path.take();
        match (&mut self.aggregator, as4_aggregator) {
            // Someone aggregated after the last four-octet speaker: what that one said is old.
            (Some(aggregator), Some(_)) if aggregator.asn != AS_TRANS => return,
            (Some(aggregator), Some(as4_aggregator)) => *aggregator = as4_aggregator,
            _ => {}
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
