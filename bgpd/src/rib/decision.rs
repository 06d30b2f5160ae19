//! The decision process (RFC 4271 section 9.1.2.2, RFC 4456 section 9), by elimination: each step drops
//! the candidates that are worse than the best of those left. So the outcome does not depend on
//! the order in which paths came, even with MULTI_EXIT_DISC, which compares only within an AS.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::intern::AttrId;
use super::table::Path;
use super::{Ineligible, PeerId, Rib, RibSettings};
use crate::config::NeighborKey;
use crate::wire::{Attributes, Prefix};

/// LOCAL_PREF of a route that has none.
pub const LOCAL_PREF_DEFAULT: u32 = 100;

/// What two paths differ in that decided between them, in the order of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Our own prefix before a learned one.
    LocalOrigin,
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
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalOrigin => "local origin",
            Self::LocalPref => "higher LOCAL_PREF",
            Self::AsPathLength => "shorter AS_PATH",
            Self::Origin => "lower ORIGIN",
            Self::Med => "lower MULTI_EXIT_DISC",
            Self::External => "external before internal",
            Self::NextHopMetric => "nearer next hop",
            Self::RouterId => "lower router id",
            Self::ClusterListLength => "shorter CLUSTER_LIST",
            Self::PeerAddress => "lower peer address",
        })
    }
}

/// Paths that no such step tells apart are used together.
const EQUALITY: [Step; 7] = [
    Step::LocalOrigin,
    Step::LocalPref,
    Step::AsPathLength,
    Step::Origin,
    Step::Med,
    Step::External,
    Step::NextHopMetric,
];

/// Of equal ones, these make one the best.
const TIE_BREAKS: [Step; 3] = [Step::RouterId, Step::ClusterListLength, Step::PeerAddress];

/// A path that may be selected, with what the steps look at.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) peer: PeerId,
    pub(super) id: AttrId,
    pub(super) attributes: Arc<Attributes>,
    pub(super) key: NeighborKey,
    pub(super) router_id: Ipv4Addr,
    pub(super) ebgp: bool,
    pub(super) metric: u32,
}

impl Candidate {
    fn is_local(&self) -> bool {
        self.peer == PeerId::LOCAL
    }

    /// What a step compares; the lower is the better.
    fn rank(&self, step: Step) -> u64 {
        let attributes = &self.attributes;
        match step {
            Step::LocalOrigin => (!self.is_local()).into(),
            Step::LocalPref => (u32::MAX - attributes.local_pref.unwrap_or(LOCAL_PREF_DEFAULT)).into(),
            Step::AsPathLength => attributes.as_path.hop_count() as u64,
            Step::Origin => attributes.origin.code().into(),
            // RFC 4271 section 9.1.2.2 c: a route without it counts as having the lowest value.
            Step::Med => attributes.med.unwrap_or(0).into(),
            Step::External => (!self.ebgp).into(),
            Step::NextHopMetric => self.metric.into(),
            Step::RouterId => attributes
                .originator_id
                .unwrap_or(self.router_id)
                .to_bits()
                .into(),
            Step::ClusterListLength => attributes.cluster_list.len() as u64,
            Step::PeerAddress => 0, // compared by `key`
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
pub(super) fn rank(settings: &RibSettings, candidates: &[Candidate]) -> Ranking {
    let mut ranking = Ranking::default();
    let mut alive: SmallVec<[usize; 4]> = (0..candidates.len()).collect();
    for step in EQUALITY {
        if alive.len() < 2 {
            break;
        }
        let worse: SmallVec<[usize; 4]> = alive
            .iter()
            .copied()
            .filter(|at| is_worse(settings, candidates, &alive, *at, step))
            .collect();
        if !worse.is_empty() {
            ranking.decided_by = Some(step);
            alive.retain(|at| !worse.contains(at));
            ranking.lost.extend(worse.into_iter().map(|at| (at, step)));
        }
    }
    let order = |at: &usize| {
        candidates.get(*at).map(|c| {
            (
                c.rank(Step::RouterId),
                c.rank(Step::ClusterListLength),
                c.key,
                c.peer,
            )
        })
    };
    alive.sort_by_key(order);
    let Some((&best, rivals)) = alive.split_first() else {
        return ranking;
    };
    ranking.multipath.push(best);
    if let Some(nearest) = rivals.first() {
        ranking.decided_by = Some(tie_break(candidates, best, *nearest));
    }
    for at in rivals {
        let is_equal = settings.multipath_relax || same_path(candidates, best, *at);
        if is_equal && ranking.multipath.len() < settings.multipath_max.max(1) {
            ranking.multipath.push(*at);
        } else {
            ranking.lost.push((*at, tie_break(candidates, best, *at)));
        }
    }
    ranking
}

fn is_worse(settings: &RibSettings, all: &[Candidate], alive: &[usize], at: usize, step: Step) -> bool {
    let Some(one) = all.get(at) else { return false };
    let mine = one.rank(step);
    let comparable = |other: &&Candidate| {
        step != Step::Med
            || settings.always_compare_med
            || other.attributes.as_path.neighbor_as() == one.attributes.as_path.neighbor_as()
    };
    alive
        .iter()
        .filter_map(|other| all.get(*other))
        .filter(comparable)
        .any(|other| other.rank(step) < mine)
}

fn tie_break(candidates: &[Candidate], best: usize, other: usize) -> Step {
    let (Some(best), Some(other)) = (candidates.get(best), candidates.get(other)) else {
        return Step::PeerAddress;
    };
    let [.., last] = TIE_BREAKS;
    TIE_BREAKS
        .into_iter()
        .find(|step| best.rank(*step) != other.rank(*step))
        .unwrap_or(last)
}

fn same_path(candidates: &[Candidate], best: usize, other: usize) -> bool {
    let path = |at: usize| candidates.get(at).map(|c| &c.attributes.as_path);
    path(best) == path(other)
}

impl Rib {
    /// The paths of a prefix that may be selected.
    pub(super) fn candidates(&self, prefix: &Prefix) -> SmallVec<[Candidate; 2]> {
        let paths = self
            .tables
            .entry(prefix)
            .map(|entry| entry.paths.as_slice())
            .unwrap_or_default();
        paths
            .iter()
            .filter_map(|path| self.candidate(path).ok())
            .collect()
    }

    /// A path as a candidate, or why it is none.
    pub(super) fn candidate(&self, path: &Path) -> Result<Candidate, Ineligible> {
        let id = path.accepted?;
        let attributes = Arc::clone(self.attributes.get(id));
        let Some(peer) = self.peers.get(&path.peer) else {
            // Our own: it needs no next hop.
            let key = NeighborKey {
                address: attributes.next_hop.address(),
                port: 0,
            };
            let router_id = self.settings.router_id;
            return Ok(Candidate {
                peer: path.peer,
                id,
                attributes,
                key,
                router_id,
                ebgp: false,
                metric: 0,
            });
        };
        let metric = self
            .next_hops
            .metric(attributes.next_hop.address())
            .ok_or(Ineligible::NextHopUnreachable)?;
        let (key, router_id) = (peer.settings.key, peer.settings.router_id);
        Ok(Candidate {
            peer: path.peer,
            id,
            attributes,
            key,
            router_id,
            ebgp: peer.is_ebgp(),
            metric,
        })
    }
}
