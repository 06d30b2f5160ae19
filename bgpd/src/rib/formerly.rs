//! Peers as they were when others were told of their routes last.

use super::paths::Chosen;
use super::peers::Peer;
use super::sources::SourceId;
use super::table::ToldPath;
use super::{PeerId, PeerSettings, Rib};
use crate::wire::Family;

/// A peer that is gone, or was different before, as the source of routes.
#[derive(Debug)]
pub(super) struct Former {
    /// Who it is, or was.
    id: PeerId,
    settings: PeerSettings,
}

impl Rib {
    pub(super) fn come_back(&mut self, id: PeerId, settings: PeerSettings) {
        let changes = |peer: &Peer| peer.settings.differs_as_source(&settings);
        let source_changes = self.peers.get(&id).is_some_and(changes);
        if source_changes {
            self.flush_everything();
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.up = true;
            let before = std::mem::replace(&mut peer.settings, settings);
            if source_changes {
                self.remember_source(id, before);
            }
        }
    }

    pub(super) fn flush_everything(&mut self) {
        for family in Family::ALL {
            self.flush_all(family);
        }
    }

    /// What a peer's routes are told as depends on settings of its that have just changed: others are to hear
    /// the difference. Nothing may be pending.
    pub(super) fn remember_source(&mut self, id: PeerId, before: PeerSettings) {
        self.last_peer += 1;
        let then = PeerId(self.last_peer);
        let mut any = false;
        for family in Family::ALL {
            for place in 0..self.tables.of(family).places() {
                let table = self.tables.of(family);
                let is_its = |source| self.sources.peer(source) == id;
                let best = table.best(place);
                let ranked = table.ranked(place);
                let mut sources = best.iter().chain(&ranked).map(|path| path.source);
                if !sources.any(is_its) {
                    continue;
                }
                let told = best.map(|best| Chosen {
                    source: if is_its(best.source) {
                        SourceId::of_peer(then)
                    } else {
                        best.source
                    },
                    ..best
                });
                let ranked = ranked.iter().map(|path| ToldPath {
                    source: path.source,
                    attributes: (!is_its(path.source)).then_some(path.attributes),
                });
                let ranked = ranked.collect();
                self.note_pending(family, place, told, ranked);
                any = true;
            }
        }
        if any {
            self.formerly.insert(then, Former { id, settings: before });
        }
    }

    pub(super) fn forget_peer(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.peer_of.remove(&peer.settings.key);
            if Family::ALL.iter().any(|f| self.tables.of(*f).has_pending()) {
                let settings = peer.settings;
                self.formerly.insert(id, Former { id, settings });
            }
        }
    }

    /// A peer as the source of routes: as it is, or as it was when others were told of them last.
    pub(super) fn source(&self, id: PeerId) -> Option<(PeerId, &PeerSettings)> {
        match self.peers.get(&id) {
            Some(peer) => Some((id, &peer.settings)),
            None => self.formerly.get(&id).map(|former| (former.id, &former.settings)),
        }
    }
}
