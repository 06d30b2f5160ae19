//! The tables as those see them that write them down: MRT files and monitoring stations.

use std::sync::Arc;

use super::paths::Path;
use super::sources::SourceId;
use super::{PeerId, PeerSettings, Rib};
use crate::config::NeighborKey;
use crate::wire::{Attributes, Family, Prefix};

/// A path of a prefix, before and after the import policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRecord {
    /// Where it came from; none for our own.
    pub peer: Option<NeighborKey>,
    /// The peer's identifier of the path, if it sends any (RFC 7911).
    pub path_id: Option<u32>,
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

    /// A peer's path of a prefix; with add-path (RFC 7911), the one with this identifier.
    pub fn path_of(&self, prefix: &Prefix, id: PeerId, path_id: Option<u32>) -> Option<PathRecord> {
        self.stored_path(prefix, id, path_id)
            .map(|path| self.record(path))
    }

    pub(super) fn stored_path(&self, prefix: &Prefix, id: PeerId, path_id: Option<u32>) -> Option<&Path> {
        let source = match path_id {
            Some(path_id) => self.sources.find(id, path_id)?,
            None => SourceId::of_peer(id),
        };
        let paths = self.tables.entry(prefix)?.paths();
        paths.iter().find(|path| path.source == source)
    }

    /// The best path of a prefix, where it came from (none for our own), and its attributes.
    pub fn best_route(&self, prefix: &Prefix) -> Option<(Option<NeighborKey>, Arc<Attributes>)> {
        let best = self.tables.entry(prefix)?.best()?;
        let attributes = self.attributes.unpacked(best.attributes);
        Some((self.key_of(self.sources.peer(best.source)), attributes))
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
        let attributes = |id| self.attributes.unpacked(id);
        PathRecord {
            peer: self.key_of(self.sources.peer(path.source)),
            path_id: self.sources.path_id(path.source),
            received: attributes(path.received),
            accepted: path.accepted().ok().map(attributes),
        }
    }
}
