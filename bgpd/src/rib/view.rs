//! Looking at the RIB: lists, counters, and why a path is, or is not, the best one.

use std::fmt;
use std::sync::Arc;

use super::decision::{self, Step};
use super::groups::Membership;
use super::paths::Path;
use super::sources::SourceId;
use super::{DampeningView, Ineligible, PeerId, Rib};
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
    /// The peer's identifier of the path, if it sends any (RFC 7911).
    pub path_id: Option<u32>,
    /// Its attributes: after the import policy where it accepts, else as received.
    pub attributes: Arc<Attributes>,
    /// Kept from before the peer's restart.
    pub stale: bool,
    /// How it fared.
    pub status: PathStatus,
    /// The penalty for its flaps, where the peer's routes are dampened and it has one.
    pub dampening: Option<DampeningView>,
}

/// A route of a peer's Adj-RIB-Out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedRoute {
    /// The prefix.
    pub prefix: Prefix,
    /// Our identifier of the path, if the peer takes several of a prefix (RFC 7911).
    pub path_id: Option<u32>,
    /// Its attributes as they went out.
    pub attributes: Arc<Attributes>,
    /// It is the default route that the peer is told whether or not there is one (`default-originate`).
    pub is_own_default: bool,
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
    /// Of those received, dampened (RFC 2439).
    pub dampened: usize,
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

/// What the RIB takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Prefixes, their paths, and what waits to be told of them.
    pub table_bytes: usize,
    /// Sets of attributes.
    pub attribute_bytes: usize,
    /// What peers that are behind are to be told later.
    pub waiting_bytes: usize,
    /// Prefixes with at least one path.
    pub prefixes: usize,
    /// Paths.
    pub paths: usize,
}

impl Memory {
    /// All of it.
    pub fn bytes(&self) -> usize {
        self.table_bytes + self.attribute_bytes + self.waiting_bytes
    }

    /// All of it by the number of prefixes; 0 without any.
    pub fn bytes_per_prefix(&self) -> usize {
        self.bytes().checked_div(self.prefixes).unwrap_or_default()
    }

    /// All of it by the number of paths; 0 without any.
    pub fn bytes_per_path(&self) -> usize {
        self.bytes().checked_div(self.paths).unwrap_or_default()
    }
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
        let candidates = self.candidates(entry.paths());
        let ranking = decision::rank(&self.settings.selection, &candidates);
        let rank_of = |source: SourceId| candidates.iter().position(|c| c.source == source);
        let winner = ranking
            .multipath
            .first()
            .and_then(|at| candidates.get(*at))
            .map(|c| c.source);
        let status = |path: &Path| {
            let at = match self.candidate(path) {
                Err(reason) => return PathStatus::Ineligible(reason),
                Ok(_) if self.deferred.contains(Family::of(&prefix)) => return PathStatus::Deferred,
                Ok(candidate) => rank_of(candidate.source),
            };
            match at.and_then(|at| ranking.lost.iter().find(|(lost, _)| *lost == at)) {
                Some((_, step)) => PathStatus::Lost {
                    at: *step,
                    to: winner.and_then(|source| self.key_of(self.sources.peer(source))),
                },
                None if winner == Some(path.source) => PathStatus::Best {
                    decided_by: ranking.decided_by,
                },
                None => PathStatus::Multipath,
            }
        };
        let mut views: Vec<PathView> = entry
            .paths()
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
            (order, view.peer, view.path_id)
        });
        views
    }

    /// Sizes of the whole RIB.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            attribute_sets: self.attributes.len(),
            next_hops: self.attributes.next_hop_count(),
            groups: self.groups.by_id.len(),
            ..Totals::default()
        };
        for family in Family::ALL {
            let (prefixes, paths) = self.tables.of(family).counts();
            totals.prefixes += prefixes;
            totals.paths += paths;
        }
        totals
    }

    /// What the RIB takes.
    pub fn memory(&self) -> Memory {
        let Totals { prefixes, paths, .. } = self.totals();
        let lags = self
            .peers
            .values()
            .flat_map(|peer| peer.memberships.iter().flatten());
        Memory {
            table_bytes: Family::ALL
                .iter()
                .map(|f| self.tables.of(*f).bytes())
                .sum::<usize>()
                + self.sources.bytes()
                + self.penalties.bytes(),
            attribute_bytes: self.attributes.bytes(),
            waiting_bytes: lags.map(Membership::bytes).sum(),
            prefixes,
            paths,
        }
    }

    pub(super) fn key_of(&self, id: PeerId) -> Option<NeighborKey> {
        self.peers.get(&id).map(|peer| peer.settings.key)
    }

    fn view(&self, prefix: Prefix, path: &Path, status: PathStatus) -> PathView {
        let attributes = self.attributes.unpacked(path.accepted().unwrap_or(path.received));
        PathView {
            prefix,
            peer: self.key_of(self.sources.peer(path.source)),
            path_id: self.sources.path_id(path.source),
            attributes,
            stale: path.stale,
            status,
            dampening: self.dampening_of_path(path, &prefix),
        }
    }

    fn dampening_of_path(&self, path: &Path, prefix: &Prefix) -> Option<DampeningView> {
        let key = self.key_of(self.sources.peer(path.source))?;
        self.dampening_of(key, prefix, self.sources.path_id(path.source))
    }
}
