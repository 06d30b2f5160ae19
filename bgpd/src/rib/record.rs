//! The tables as those see them that write them down: MRT files and monitoring stations.

use std::ops::Range;
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
    /// Every prefix on a page of a family's table, with all of its paths in no order.
    pub fn paths_in(&self, family: Family, page: Range<u32>) -> Vec<(Prefix, Vec<PathRecord>)> {
        let table = self.tables.of(family);
        let record = |(place, entry): (u32, &super::table::Entry)| {
            let paths = entry.paths().iter().map(|path| self.record(path));
            Some((table.prefix(place)?, paths.collect()))
        };
        table.live_in(page).filter_map(record).collect()
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
