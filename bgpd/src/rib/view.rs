//! Looking at the RIB: lists, counters, and why a path is, or is not, the best one.

use std::fmt;
use std::sync::Arc;

use super::decision::{self, Step};
use super::groups::is_withheld;
use super::table::Path;
use super::{Ineligible, PeerId, Rib};
use crate::config::NeighborKey;
use crate::wire::{Attributes, Family, Prefix};

/// How a path fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStatus {
    /// It is the best.
    Best {
        /// What told it from its last rival; none for an only path.
        decided_by: Option<Step>,
    },
    /// It is as good as the best and used with it.
    Multipath,
    /// Another path is better.
    Lost {
        /// What decided.
        at: Step,
        /// Where the better path came from; none for our own.
        to: Option<NeighborKey>,
    },
    /// It cannot be used.
    Ineligible(Ineligible),
    /// Selection is held back after our restart.
    Deferred,
}

impl fmt::Display for PathStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best { decided_by: None } => f.write_str("best: the only usable path"),
            Self::Best {
                decided_by: Some(step),
            } => write!(f, "best: {step}"),
            Self::Multipath => f.write_str("multipath: equal to the best path"),
            Self::Lost { at, to: Some(peer) } => write!(f, "not best: {peer} has {at}"),
            Self::Lost { at, to: None } => write!(f, "not best: our own prefix has {at}"),
            Self::Ineligible(reason) => write!(f, "not usable: {reason}"),
            Self::Deferred => f.write_str("selection waits for the peers after our restart"),
        }
    }
}

/// A path of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    /// The prefix.
    pub prefix: Prefix,
    /// Where it came from; none for our own.
    pub peer: Option<NeighborKey>,
    /// Its attributes: after the import policy where it accepts, else as received.
    pub attributes: Arc<Attributes>,
    /// Kept from before the peer's restart.
    pub stale: bool,
    /// How it fared.
    pub status: PathStatus,
}

/// Routes of a peer, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// In its Adj-RIB-In.
    pub received: usize,
    /// Of these, accepted by loop checks and import policy.
    pub accepted: usize,
    /// Of these, selected (as the best or beside it).
    pub selected: usize,
    /// Of those received, kept from before its restart.
    pub stale: usize,
    /// In its Adj-RIB-Out.
    pub advertised: usize,
}

/// Sizes of the whole RIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Prefixes with at least one path.
    pub prefixes: usize,
    /// Paths.
    pub paths: usize,
    /// Distinct sets of attributes in store.
    pub attribute_sets: usize,
    /// Next hops in use.
    pub next_hops: usize,
    /// Update groups.
    pub groups: usize,
}

impl Rib {
    /// The peer of a neighbour, if it is up or has stale routes.
    pub fn peer(&self, key: NeighborKey) -> Option<PeerId> {
        self.peer_of.get(&key).copied()
    }

    /// Every path of a prefix and how it fared, the best first.
    pub fn explain(&self, prefix: Prefix) -> Vec<PathView> {
        let prefix = prefix.trunc();
        let Some(entry) = self.tables.entry(&prefix) else {
            return Vec::new();
        };
        let candidates = self.candidates(&prefix);
        let ranking = decision::rank(&self.settings, &candidates);
        let rank_of = |peer: PeerId| candidates.iter().position(|c| c.peer == peer);
        let winner = ranking
            .multipath
            .first()
            .and_then(|at| candidates.get(*at))
            .map(|c| c.peer);
        let status = |path: &Path| {
            let at = match self.candidate(path) {
                Err(reason) => return PathStatus::Ineligible(reason),
                Ok(_) if self.deferred.contains(Family::of(&prefix)) => return PathStatus::Deferred,
                Ok(candidate) => rank_of(candidate.peer),
            };
            match at.and_then(|at| ranking.lost.iter().find(|(lost, _)| *lost == at)) {
                Some((_, step)) => PathStatus::Lost {
                    at: *step,
                    to: winner.and_then(|id| self.key_of(id)),
                },
                None if winner == Some(path.peer) => PathStatus::Best {
                    decided_by: ranking.decided_by,
                },
                None => PathStatus::Multipath,
            }
        };
        let mut views: Vec<PathView> = entry
            .paths
            .iter()
            .map(|path| self.view(prefix, path, status(path)))
            .collect();
        views.sort_by_key(|view| {
            let order = match view.status {
                PathStatus::Best { .. } => 0,
                PathStatus::Multipath => 1,
                PathStatus::Lost { .. } | PathStatus::Deferred => 2,
                PathStatus::Ineligible(_) => 3,
            };
            (order, view.peer)
        });
        views
    }

    /// The selected paths of all prefixes of a family, by prefix; for each, the best first.
    pub fn best(&self, family: Family) -> Vec<PathView> {
        let mut prefixes = self.tables.prefixes(family);
        prefixes.sort_unstable();
        let selected =
            |view: &PathView| matches!(view.status, PathStatus::Best { .. } | PathStatus::Multipath);
        prefixes
            .into_iter()
            .flat_map(|prefix| self.explain(prefix))
            .filter(selected)
            .collect()
    }

    /// A peer's Adj-RIB-In, by prefix.
    pub fn received(&self, id: PeerId, family: Family) -> Vec<PathView> {
        let mut prefixes = self.tables.prefixes_where(family, |path| path.peer == id);
        prefixes.sort_unstable();
        let key = self.key_of(id);
        prefixes
            .into_iter()
            .flat_map(|prefix| self.explain(prefix))
            .filter(|view| view.peer == key)
            .collect()
    }

    /// A peer's Adj-RIB-Out, by prefix: what it knows, or will know when it has caught up.
    pub fn advertised(&self, id: PeerId, family: Family) -> Vec<(Prefix, Arc<Attributes>)> {
        let Some((peer, group)) = self.place_of(id, family) else {
            return Vec::new();
        };
        let member = (id, peer.settings.key.address);
        let routes = group
            .out
            .iter()
            .map(|(prefix, out)| (prefix, out, self.attributes.get(out.attributes)));
        let known = routes.filter(|(_, out, a)| !is_withheld(member, out.source, a.next_hop.address()));
        let mut known: Vec<_> = known.map(|(prefix, _, a)| (*prefix, Arc::clone(a))).collect();
        known.sort_unstable_by_key(|(prefix, _)| *prefix);
        known
    }

    /// A peer's routes of a family, by number.
    pub fn counters(&self, id: PeerId, family: Family) -> Counters {
        let mut counters = Counters::default();
        for entry in self.tables.of(family).values() {
            let Some(path) = entry.paths.iter().find(|path| path.peer == id) else {
                continue;
            };
            counters.received += 1;
            counters.accepted += usize::from(path.accepted.is_ok());
            counters.stale += usize::from(path.stale);
            counters.selected += usize::from(entry.chosen.iter().any(|chosen| chosen.peer == id));
        }
        if let Some((peer, group)) = self.place_of(id, family) {
            let member = (id, peer.settings.key.address);
            let next_hop = |id| self.attributes.get(id).next_hop.address();
            let told = group.out.values();
            counters.advertised = told
                .filter(|out| !is_withheld(member, out.source, next_hop(out.attributes)))
                .count();
        }
        counters
    }

    /// Sizes of the whole RIB.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            attribute_sets: self.attributes.len(),
            next_hops: self.next_hops.len(),
            groups: self.groups.by_id.len(),
            ..Totals::default()
        };
        for family in Family::ALL {
            totals.prefixes += self.tables.of(family).len();
            totals.paths += self
                .tables
                .of(family)
                .values()
                .map(|entry| entry.paths.len())
                .sum::<usize>();
        }
        totals
    }

    pub(super) fn key_of(&self, id: PeerId) -> Option<NeighborKey> {
        self.peers.get(&id).map(|peer| peer.settings.key)
    }

    fn view(&self, prefix: Prefix, path: &Path, status: PathStatus) -> PathView {
        let attributes = Arc::clone(self.attributes.get(path.accepted.unwrap_or(path.received)));
        PathView {
            prefix,
            peer: self.key_of(path.peer),
            attributes,
            stale: path.stale,
            status,
        }
    }
}
