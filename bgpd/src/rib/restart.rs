//! Graceful restart, of peers and of our own (RFC 4724): routes that are stale, and selection that waits.

use rustc_hash::FxHashMap;

use super::intern::AttrId;
use super::{PeerId, Rib};
use crate::wire::{Community, Family, FamilySet, Prefix};

impl Rib {
    /// Marks a peer's paths as stale; gives their number.
    pub(super) fn mark_stale(&mut self, id: PeerId, family: Family) -> usize {
        let Self { tables, sources, .. } = self;
        tables
            .of_mut(family)
            .mark_stale(|source| sources.peer(source) == id)
    }

    /// The peer has sent its whole table of a family: what is still stale is gone.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.end_of_rib.insert(family);
            if peer.refreshing.contains(family) {
                // What is stale is what the refresh has marked, and goes with its end.
                return;
            }
        }
        self.sweep_stale(id, family);
    }

    /// Whether the peer has sent its End-of-RIB for the family in this session.
    pub fn has_end_of_rib(&self, id: PeerId, family: Family) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.end_of_rib.contains(family))
    }

    /// Withdraw what a peer has not announced again since its session was lost.
    pub fn sweep_stale(&mut self, id: PeerId, family: Family) {
        self.remove_paths(id, family, |path, _| path.stale);
        let gone = self.peers.get(&id).is_some_and(|peer| !peer.up);
        if gone
            && !Family::ALL
                .iter()
                .any(|family| self.tables.of(*family).has_path(|path| self.is_of(path, id)))
        {
            self.forget_peer(id);
        }
    }

    /// What is stale of a peer that is away stays as a last resort: it gets LLGR_STALE, by which it is the least
    /// preferred; what has NO_LLGR is withdrawn (RFC 9494 section 4.2).
    pub fn keep_long_lived(&mut self, id: PeerId, family: Family) {
        if self.peers.get(&id).is_none_or(|peer| peer.up) {
            return;
        }
        self.remove_paths(id, family, |_, attributes| {
            attributes.has_community(Community::NO_LLGR)
        });
        let mut by_attributes: FxHashMap<AttrId, Vec<(Prefix, u32)>> = FxHashMap::default();
        for (route, received) in self.routes_of(id, family, |_| true) {
            by_attributes.entry(received).or_default().push(route);
        }
        for (attributes, routes) in by_attributes {
            let mut attributes = self.attributes.get(attributes).unpack();
            if !attributes.has_community(Community::LLGR_STALE) {
                attributes.communities.push(Community::LLGR_STALE);
            }
            self.update_paths(id, attributes, routes);
        }
        if self.mark_stale(id, family) == 0 {
            self.sweep_stale(id, family);
        }
    }

    /// Hold back selection, and with it everything that goes out, for these families: after our own
    /// restart, until the peers have sent their tables (RFC 4724 section 4.1).
    pub fn defer_selection(&mut self, families: FamilySet) {
        for family in families.iter() {
            self.deferred.insert(family);
        }
    }

    /// Select now, and go on as usual.
    pub fn finish_deferral(&mut self, family: Family) {
        if self.deferred.remove(family) {
            for place in 0..self.tables.of(family).places() {
                self.select_again(family, place);
            }
        }
    }

    /// Whether selection is held back.
    pub fn is_deferred(&self, family: Family) -> bool {
        self.deferred.contains(family)
    }
}
