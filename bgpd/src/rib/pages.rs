//! The tables in pages, so that whoever goes through a large one leaves room for other work in between.
//!
//! A page is a range of places; pages cover a table up to [`Rib::places`]. A prefix keeps its place as long as it
//! has a path: what is there all the while is on exactly one page.

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::default_route::is_default;
use super::export::{ExportCache, Way};
use super::groups::{Group, is_withheld};
use super::{AdvertisedRoute, Counters, Ineligible, PathStatus, PathView, PeerId, Rib};
use crate::wire::{Family, Prefix};

/// All places, also of a table that grows meanwhile.
const EVERYTHING: Range<u32> = 0..u32::MAX;

impl Rib {
    /// Where the table of a family ends.
    pub fn places(&self, family: Family) -> u32 {
        self.tables.of(family).places()
    }

    /// The place of a prefix in its family's table, if it has one.
    pub fn place_of_prefix(&self, prefix: &Prefix) -> Option<u32> {
        self.tables.of(Family::of(prefix)).find(prefix)
    }

    /// The selected paths of the prefixes on a page, in the order of places; for each, the best first.
    pub fn best_in(&self, family: Family, page: Range<u32>) -> Vec<PathView> {
        let selected =
            |view: &PathView| matches!(view.status, PathStatus::Best { .. } | PathStatus::Multipath);
        let table = self.tables.of(family);
        let chosen = table.live_in(page).filter(|(_, entry)| entry.best().is_some());
        let prefixes = chosen.filter_map(|(place, _)| table.prefix(place));
        prefixes
            .flat_map(|prefix| self.explain(prefix))
            .filter(selected)
            .collect()
    }

    /// A page of a peer's Adj-RIB-In, in the order of places.
    pub fn received_in(&self, id: PeerId, family: Family, page: Range<u32>) -> Vec<PathView> {
        let key = self.key_of(id);
        let table = self.tables.of(family);
        let has = |entry: &super::table::Entry| entry.paths().iter().any(|path| self.is_of(path, id));
        let there = table.live_in(page).filter(|(_, entry)| has(entry));
        let prefixes = there.filter_map(|(place, _)| table.prefix(place));
        prefixes
            .flat_map(|prefix| self.explain(prefix))
            .filter(|view| view.peer == key)
            .collect()
    }

    /// A page of a peer's Adj-RIB-Out, in the order of places: what it knows, or will know when it has caught up.
    pub fn advertised_in(&self, id: PeerId, family: Family, page: Range<u32>) -> Vec<AdvertisedRoute> {
        let Some((peer, group)) = self.place_of(id, family) else {
            return Vec::new();
        };
        let member = (id, peer.settings.key.address);
        let is_ours = |prefix: &Prefix| is_default(prefix) && group.key.originates_default();
        let table = self.tables.of(family);
        let mut cache = ExportCache::default();
        let mut known = Vec::new();
        for place in self.told_places(&[&group.key], family, page) {
            let Some(prefix) = table.prefix(place) else {
                continue;
            };
            for (path_id, out) in self.exports(&group.key, place, &mut cache) {
                if is_withheld(member, cache.way(out)) {
                    continue;
                }
                let attributes = cache.get(out.attributes).map(Arc::clone);
                known.extend(attributes.map(|attributes| AdvertisedRoute {
                    prefix,
                    path_id,
                    attributes,
                    is_own_default: is_ours(&prefix),
                }));
            }
        }
        known
    }

    /// The selected paths of all prefixes of a family, by prefix; for each, the best first.
    pub fn best(&self, family: Family) -> Vec<PathView> {
        let mut best = self.best_in(family, EVERYTHING);
        best.sort_by_key(|view| view.prefix);
        best
    }

    /// A peer's Adj-RIB-In, by prefix.
    pub fn received(&self, id: PeerId, family: Family) -> Vec<PathView> {
        let mut received = self.received_in(id, family, EVERYTHING);
        received.sort_by_key(|view| view.prefix);
        received
    }

    /// A peer's Adj-RIB-Out, by prefix: what it knows, or will know when it has caught up.
    pub fn advertised(&self, id: PeerId, family: Family) -> Vec<AdvertisedRoute> {
        let mut known = self.advertised_in(id, family, EVERYTHING);
        known.sort_by_key(|route| (route.prefix, route.path_id));
        known
    }

    /// A peer's routes of a family, by number.
    pub fn counters(&self, id: PeerId, family: Family) -> Counters {
        let mut counters = FxHashMap::default();
        self.count_in(family, EVERYTHING, &mut counters);
        counters.remove(&id).unwrap_or_default()
    }

    /// Adds a page to the number of routes of each peer: a walk over it, and one for each update group.
    pub fn count_in(&self, family: Family, page: Range<u32>, counters: &mut FxHashMap<PeerId, Counters>) {
        for (_, entry) in self.tables.of(family).live_in(page.clone()) {
            for path in entry.paths() {
                let counters = counters.entry(self.sources.peer(path.source)).or_default();
                counters.received += 1;
                counters.accepted += usize::from(path.accepted().is_ok());
                counters.stale += usize::from(path.stale);
                counters.dampened += usize::from(path.accepted() == Err(Ineligible::Dampened));
            }
            for chosen in entry.chosen() {
                let counters = counters.entry(self.sources.peer(chosen.source)).or_default();
                counters.selected += 1;
            }
        }
        for group in self.groups.of(family) {
            self.count_told(group, page.clone(), counters);
        }
    }

    /// Counts what the members of a group are told.
    fn count_told(&self, group: &Group, page: Range<u32>, counters: &mut FxHashMap<PeerId, Counters>) {
        // By where routes come from and lead to: what of them a member is told depends on that.
        let mut routes: FxHashMap<Way, usize> = FxHashMap::default();
        let mut cache = ExportCache::default();
        for place in self.told_places(&[&group.key], group.key.family, page) {
            for (_, out) in self.exports(&group.key, place, &mut cache) {
                *routes.entry(cache.way(out)).or_default() += 1;
            }
        }
        for id in &group.members {
            if let Some(peer) = self.peers.get(id) {
                let member = (*id, peer.settings.key.address);
                let told = routes.iter().filter(|(way, _)| !is_withheld(member, **way));
                counters.entry(*id).or_default().advertised += told.map(|(_, count)| count).sum::<usize>();
            }
        }
    }
}
