//! The tables as those see them that write them down: MRT files and monitoring stations.

use std::sync::Arc;

use super::paths::Path;
use super::{PeerId, PeerSettings, Rib};
use crate::config::NeighborKey;
use crate::wire::{Attributes, Family, Prefix};

/// A path of a prefix, before and after the import policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRecord {
    /// Where it came from; none for our own.
    pub peer: Option<NeighborKey>,
    /// As it was received.
    pub received: Arc<Attributes>,
    /// As the import policy left it; none if it is not used.
    pub accepted: Option<Arc<Attributes>>,
}

impl Rib {
    /// Every prefix of a family that has a path, in no order.
    pub fn prefixes(&self, family: Family) -> Vec<Prefix> {
        self.tables.prefixes(family)
    }

    /// Every path of a prefix, in no order.
    pub fn paths(&self, prefix: &Prefix) -> Vec<PathRecord> {
        let paths = self
            .tables
            .entry(prefix)
            .into_iter()
            .flat_map(|entry| entry.paths());
        paths.map(|path| self.record(path)).collect()
    }

    /// A peer's path of a prefix.
    pub fn path_of(&self, prefix: &Prefix, id: PeerId) -> Option<PathRecord> {
        self.tables.path(prefix, id).map(|path| self.record(path))
    }

    /// The best path of a prefix, where it came from (none for our own), and its attributes.
    pub fn best_route(&self, prefix: &Prefix) -> Option<(Option<NeighborKey>, Arc<Attributes>)> {
        let best = self.tables.entry(prefix)?.best()?;
        let attributes = Arc::clone(self.attributes.get(best.attributes));
        Some((self.key_of(best.peer), attributes))
    }

    /// The sessions that are up or have left stale routes.
    pub fn peers(&self) -> impl Iterator<Item = &PeerSettings> {
        self.peers.values().map(|peer| &peer.settings)
    }

    /// How many prefixes of a family have a best path.
    pub fn selected_count(&self, family: Family) -> usize {
        let entries = self.tables.of(family).live();
        entries.filter(|(_, entry)| entry.best().is_some()).count()
    }

    fn record(&self, path: &Path) -> PathRecord {
        let attributes = |id| Arc::clone(self.attributes.get(id));
        PathRecord {
            peer: self.key_of(path.peer),
            received: attributes(path.received),
            accepted: path.accepted().ok().map(attributes),
        }
    }
}
