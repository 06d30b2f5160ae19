//! The decision process (RFC 4271 section 9.1.2.2, RFC 4456 section 9), by elimination: each step drops
//! the candidates that are worse than the best of those left. So the outcome does not depend on
//! the order in which paths came, even with MULTI_EXIT_DISC, which compares only within an AS
//! ("deterministic MED", always on).
//!
//! The step of RFC 5004, which keeps the older of two external paths, is left out on purpose: with it, what is
//! selected would depend on history, and two speakers with the same paths could differ. The lower router id
//! decides, as in RFC 4271.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::intern::AttrId;
use super::packed::Packed;
use super::paths::Path;
use super::sources::SourceId;
use super::{Ineligible, Rib};
use crate::config::{NeighborKey, Selection};
use crate::wire::Community;

/// LOCAL_PREF of a route that has none.
pub const LOCAL_PREF_DEFAULT: u32 = 100;

/// What two paths differ in that decided between them, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Our own prefix before a learned one.
    LocalOrigin,
    /// Not kept long after its peer was lost (RFC 9494 section 4.3: such a path is the last resort).
    NotLongLivedStale,
    /// The higher weight, which is this speaker's alone.
    Weight,
    /// The higher LOCAL_PREF.
    LocalPref,
    /// The shorter AS_PATH.
    AsPathLength,
    /// The lower ORIGIN.
    Origin,
    /// The lower MULTI_EXIT_DISC, of paths from one AS.
    Med,
    /// From an external peer before an internal one.
    External,
    /// The nearer next hop.
    NextHopMetric,
    /// The lower BGP identifier, or ORIGINATOR_ID.
    RouterId,
    /// The shorter CLUSTER_LIST.
    ClusterListLength,
    /// The lower peer address.
    PeerAddress,
    /// The lower path identifier, of paths that one peer sent (RFC 7911).
    PathId,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalOrigin => "local origin",
            Self::NotLongLivedStale => "no LLGR_STALE",
            Self::Weight => "higher weight",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MULTI_EXIT_DISC",
            Self::External => "external before internal",
            Self::NextHopMetric => "nearer next hop",
            Self::RouterId => "lower router id",
            Self::ClusterListLength => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
            Self::PathId => "lower path identifier",
        })
    }
}

/// Paths that no such step tells apart are used together.
const EQUALITY: [Step; 9] = [
    Step::LocalOrigin,
    Step::NotLongLivedStale,
    Step::Weight,
    Step::LocalPref,
    Step::AsPathLength,
    Step::Origin,
    Step::Med,
    Step::External,
    Step::NextHopMetric,
];

/// Of equal ones, these make one the best.
const TIE_BREAKS: [Step; 4] = [
    Step::RouterId,
    Step::ClusterListLength,
    Step::PeerAddress,
    Step::PathId,
];

/// A path that may be selected, with what the steps look at.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) source: SourceId,
    pub(super) id: AttrId,
    pub(super) attributes: Packed<'a>,
    pub(super) key: NeighborKey,
    /// The peer's identifier of the path; 0 where it has none.
    pub(super) path_id: u32,
    pub(super) router_id: Ipv4Addr,
    pub(super) ebgp: bool,
    pub(super) weight: u32,
    pub(super) metric: u32,
}

impl Candidate<'_> {
    fn is_local(&self) -> bool {
        self.source == SourceId::LOCAL
    }

    /// What a step compares; the lower is the better.
    fn rank(&self, settings: &Selection, step: Step) -> u64 {
        let attributes = self.attributes;
        match step {
            Step::LocalOrigin => (!self.is_local()).into(),
            Step::NotLongLivedStale => attributes.has_community(Community::LLGR_STALE).into(),
            Step::Weight => (u32::MAX - self.weight).into(),
            Step::LocalPref => (u32::MAX - attributes.local_pref().unwrap_or(LOCAL_PREF_DEFAULT)).into(),
            Step::AsPathLength => attributes.hop_count() as u64,
            Step::Origin => attributes.origin().code().into(),
            // RFC 4271 section 9.1.2.2 c: a route without it counts as having the lowest value, unless that
            // is set otherwise.
            Step::Med if settings.missing_med_worst => attributes.med().unwrap_or(u32::MAX).into(),
            Step::Med => attributes.med().unwrap_or(0).into(),
            Step::External => (!self.ebgp).into(),
            Step::NextHopMetric => self.metric.into(),
            Step::RouterId => attributes
                .originator_id()
                .unwrap_or(self.router_id)
                .to_bits()
                .into(),
            Step::ClusterListLength => attributes.cluster_list_len() as u64,
            Step::PeerAddress => 0, // compared by `key`
            Step::PathId => self.path_id.into(),
        }
    }
}

/// The outcome, by position among the candidates.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    /// The best and its equals, the best first; empty only without candidates.
    pub(super) multipath: SmallVec<[usize; 4]>,
    /// The others, with the step that each lost at.
    pub(super) lost: SmallVec<[(usize, Step); 4]>,
    /// The step that told the best from its last rival; none for an only candidate.
    pub(super) decided_by: Option<Step>,
}

/// Decide.
pub(super) fn rank(settings: &Selection, candidates: &[Candidate<'_>]) -> Ranking {
    let mut ranking = Ranking::default();
    let mut alive: SmallVec<[usize; 4]> = (0..candidates.len()).collect();
    for step in EQUALITY {
        if alive.len() < 2 {
            break;
        }
        let worse = worse_at(settings, candidates, &alive, step);
        if !worse.is_empty() {
            ranking.decided_by = Some(step);
            alive.retain(|at| !worse.contains(at));
            ranking.lost.extend(worse.into_iter().map(|at| (at, step)));
        }
    }
    let order = |at: &usize| {
        candidates.get(*at).map(|c| {
            (
                c.rank(settings, Step::RouterId),
                c.rank(settings, Step::ClusterListLength),
                c.key,
                c.path_id,
            )
        })
    };
    alive.sort_by_key(order);
    let Some((&best, rivals)) = alive.split_first() else {
        return ranking;
    };
    ranking.multipath.push(best);
    if let Some(nearest) = rivals.first() {
        ranking.decided_by = Some(tie_break(settings, candidates, best, *nearest));
    }
    let has_room = |ranking: &Ranking| ranking.multipath.len() < settings.multipath_max.max(1);
    let is_equal = |at: usize| settings.multipath_relax || same_path(candidates, best, at);
    for at in rivals {
        if is_equal(*at) && has_room(&ranking) {
            ranking.multipath.push(*at);
        } else {
            let step = tie_break(settings, candidates, best, *at);
            ranking.lost.push((*at, step));
        }
    }
    if settings.multipath_eibgp {
        let mut internal: SmallVec<[usize; 4]> = nearest_internal(settings, candidates, &ranking);
        internal.sort_by_key(order);
        for at in internal {
            if is_equal(at) && has_room(&ranking) {
                ranking.multipath.push(at);
                ranking.lost.retain(|(lost, _)| *lost != at);
            }
        }
    }
    ranking
}

/// Candidates in the order of preference: the best and its equals, then the best of the others and its equals,
/// and so on until there are `count`; the rest follows in no order.
pub(super) fn order<'a>(
    settings: &Selection,
    chosen: &Ranking,
    mut candidates: SmallVec<[Candidate<'a>; 2]>,
    count: usize,
) -> Vec<Candidate<'a>> {
    let mut ordered = Vec::with_capacity(candidates.len());
    let mut take = |candidates: &mut SmallVec<[Candidate<'a>; 2]>, taken: &[usize]| {
        ordered.extend(taken.iter().filter_map(|at| candidates.get(*at).cloned()));
        let mut at = 0;
        candidates.retain(|_| {
            at += 1;
            !taken.contains(&(at - 1))
        });
        ordered.len() < count && !candidates.is_empty() && !taken.is_empty()
    };
    let mut goes_on = take(&mut candidates, &chosen.multipath);
    while goes_on {
        let ranking = rank(settings, &candidates);
        goes_on = take(&mut candidates, &ranking.multipath);
    }
    ordered.extend(candidates);
    ordered
}

/// Whether a candidate is out before the first step that does not compare all of them alike, which is
/// MULTI_EXIT_DISC: then it changes nothing for the others.
pub(super) fn loses_at_once(settings: &Selection, one: &Candidate<'_>, best: &Candidate<'_>) -> bool {
    let alike = EQUALITY.into_iter().take_while(|step| *step != Step::Med);
    let mut compared = alike.map(|step| one.rank(settings, step).cmp(&best.rank(settings, step)));
    compared.find(|order| order.is_ne()) == Some(Ordering::Greater)
}

/// Of those alive, the ones that are worse at this step than another one.
fn worse_at(
    settings: &Selection,
    candidates: &[Candidate<'_>],
    alive: &[usize],
    step: Step,
) -> SmallVec<[usize; 4]> {
    let ranked: SmallVec<[(usize, &Candidate<'_>, u64); 4]> = alive
        .iter()
        .filter_map(|at| Some((*at, candidates.get(*at)?)))
        .map(|(at, candidate)| (at, candidate, candidate.rank(settings, step)))
        .collect();
    let worse =
        |(at, rank): (usize, u64), least: Option<u64>| least.filter(|least| rank > *least).map(|_| at);
    if step == Step::Med && !settings.always_compare_med {
        let neighbor_as = |candidate: &Candidate<'_>| candidate.attributes.neighbor_as();
        let least_of = |asn| {
            let rivals = ranked.iter().filter(|(_, rival, _)| neighbor_as(rival) == asn);
            rivals.map(|(_, _, rank)| *rank).min()
        };
        let ranks = ranked.iter();
        return ranks
            .filter_map(|(at, candidate, rank)| worse((*at, *rank), least_of(neighbor_as(candidate))))
            .collect();
    }
    let least = ranked.iter().map(|(_, _, rank)| *rank).min();
    let ranks = ranked.iter();
    ranks
        .filter_map(|(at, _, rank)| worse((*at, *rank), least))
        .collect()
}

/// Paths within our AS that lost to external ones for no other reason, if their next hop is the nearest of
/// such paths.
fn nearest_internal(
    settings: &Selection,
    candidates: &[Candidate<'_>],
    ranking: &Ranking,
) -> SmallVec<[usize; 4]> {
    let lost = ranking.lost.iter().filter(|(_, step)| *step == Step::External);
    let internal: SmallVec<[usize; 4]> = lost.map(|(at, _)| *at).collect();
    let farther = worse_at(settings, candidates, &internal, Step::NextHopMetric);
    internal.into_iter().filter(|at| !farther.contains(at)).collect()
}

fn tie_break(settings: &Selection, candidates: &[Candidate<'_>], best: usize, other: usize) -> Step {
    let (Some(best), Some(other)) = (candidates.get(best), candidates.get(other)) else {
        return Step::PathId;
    };
    let [.., last] = TIE_BREAKS;
    TIE_BREAKS
        .into_iter()
        .find(|step| match step {
            Step::PeerAddress => best.key != other.key,
            step => best.rank(settings, *step) != other.rank(settings, *step),
        })
        .unwrap_or(last)
}

fn same_path(candidates: &[Candidate<'_>], best: usize, other: usize) -> bool {
    match (candidates.get(best), candidates.get(other)) {
        (Some(best), Some(other)) => best.attributes.has_path_of(other.attributes),
        _ => false,
    }
}

impl Rib {
    /// Those of a prefix's paths that may be selected.
    pub(super) fn candidates(&self, paths: &[Path]) -> SmallVec<[Candidate<'_>; 2]> {
        paths
            .iter()
            .filter_map(|path| self.candidate(path).ok())
            .collect()
    }

    /// A path as a candidate, or why it is none.
    pub(super) fn candidate(&self, path: &Path) -> Result<Candidate<'_>, Ineligible> {
        let id = path.accepted()?;
        let attributes = self.attributes.get(id);
        let Some(peer) = self.peers.get(&self.sources.peer(path.source)) else {
            // Our own: it needs no next hop.
            let key = NeighborKey::new(attributes.next_hop().address(), 0);
            let router_id = self.settings.router_id;
            return Ok(Candidate {
                source: path.source,
                id,
                attributes,
                key,
                path_id: 0,
                router_id,
                ebgp: false,
                weight: 0,
                metric: 0,
            });
        };
        let metric = self.attributes.metric(id).ok_or(Ineligible::NextHopUnreachable)?;
        let (key, router_id) = (peer.settings.key, peer.settings.router_id);
        let weight = attributes.weight().or(peer.settings.routing.import.weight);
        Ok(Candidate {
            source: path.source,
            id,
            attributes,
            key,
            path_id: self.sources.path_id(path.source).unwrap_or(0),
            router_id,
            ebgp: peer.is_ebgp(),
            weight: weight.unwrap_or(0),
            metric,
        })
    }
}
