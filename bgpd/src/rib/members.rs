//! Peers in their update groups: joining with a table dump, falling behind, catching up, leaving.

use std::sync::Arc;

use smallvec::SmallVec;

use super::export::{ExportCache, GroupKey, OutId};
use super::groups::{
    Dump, Group, Lag, Membership, Outgoing, PREFIXES_PER_STEP, PathIds, Routes, Transmit, is_withheld,
};
use super::table::IndexMap;
use super::{PeerId, Rib};
use crate::wire::{Attributes, Family, Prefix};

impl Rib {
    /// Send nothing to a peer for now: its connection does not keep up. What was given out for it by
    /// [`Rib::poll_transmit`] before this is still to be sent.
    pub fn pause(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.paused = true;
        for family in Family::ALL {
            if let Some(membership) = peer.membership_mut(family) {
                membership.lag.get_or_insert_default();
            }
            self.groups.lagging.remove(&(id, family));
        }
    }

    /// Go on with a peer that was paused.
    pub fn resume(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.paused = false;
        for family in Family::ALL {
            if peer.membership(family).is_some_and(|m| m.lag.is_some()) {
                self.groups.lagging.insert((id, family));
            }
        }
    }

    /// A new session's groups. The dump begins.
    pub(super) fn join_groups(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.paused = false;
        peer.end_of_rib = Default::default();
        let families = peer.settings.families;
        let own_defaults = peer.settings.routing.export.default_originate;
        for family in families.iter() {
            let dump = Dump {
                next: 0,
                again: false,
            };
            let nothing = self.tables.of(family).places() == 0 && !own_defaults.contains(family);
            let lag = (!nothing).then_some(Lag {
                dump: Some(dump),
                ..Lag::default()
            });
            let membership = Membership {
                lag,
                end_of_rib_due: true,
                ..Membership::default()
            };
            self.join(id, family, membership);
        }
    }

    /// Put a peer into the group that its settings ask for, with what it had in another one.
    fn join(&mut self, id: PeerId, family: Family, before: Membership) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let group = self.groups.find_or_make(GroupKey::of(&peer.settings, family));
        let mut own_default = false;
        if let Some(group) = self.groups.by_id.get_mut(&group) {
            group.members.push(id);
            own_default = group.key.originates_default();
        }
        let lag = if peer.paused {
            before.lag.or_else(|| Some(Lag::default()))
        } else {
            before.lag
        };
        if lag.is_some() && !peer.paused {
            self.groups.lagging.insert((id, family));
        }
        *peer.membership_mut(family) = Some(Membership { group, lag, ..before });
        if own_default {
            self.hold_default(family);
        }
        self.rank_for_groups(family);
    }

    pub(super) fn place_of(&self, id: PeerId, family: Family) -> Option<(&super::Peer, &Group)> {
        let peer = self.peers.get(&id)?;
        let group = self.groups.by_id.get(&peer.membership(family)?.group)?;
        Some((peer, group))
    }

    /// The session is over: nothing more is sent.
    pub(super) fn leave_groups(&mut self, id: PeerId) {
        for family in Family::ALL {
            let lag = self.leave(id, family).and_then(|membership| membership.lag);
            for place in lag.into_iter().flat_map(|lag| lag.changed) {
                self.tables.of_mut(family).let_go(place);
            }
        }
        for transmit in &mut self.groups.outbox {
            transmit.peers.retain(|peer| *peer != id);
        }
        self.groups.outbox.retain(|transmit| !transmit.peers.is_empty());
    }

    fn leave(&mut self, id: PeerId, family: Family) -> Option<Membership> {
        self.groups.lagging.remove(&(id, family));
        let membership = self.peers.get_mut(&id)?.membership_mut(family).take()?;
        if let Some(group) = self.groups.by_id.get_mut(&membership.group) {
            group.members.retain(|member| *member != id);
            if group.key.originates_default() {
                self.let_go_of_default(family);
            }
        }
        self.groups.drop_if_empty(membership.group);
        self.rank_for_groups(family);
        Some(membership)
    }

    /// Move a peer to the groups that its changed settings ask for, and tell it the difference.
    pub(super) fn regroup(&mut self, id: PeerId) {
        for family in Family::ALL {
            // So that what peers were told is what follows from the best paths as they are now.
            self.flush_all(family);
            let Some((_, group)) = self.place_of(id, family) else {
                continue;
            };
            let before = group.key.clone();
            let held = before.originates_default();
            if held {
                // What it was told keeps its place until it has been compared with what it is told now.
                self.hold_default(family);
            }
            if let Some(membership) = self.leave(id, family) {
                self.join(id, family, membership);
                self.note_difference(id, family, &before);
            }
            if held {
                self.let_go_of_default(family);
            }
        }
    }

    /// A member of a group that was in another one before, with that key, is to hear what differs.
    fn note_difference(&mut self, id: PeerId, family: Family, before: &GroupKey) {
        let Some((peer, group)) = self.place_of(id, family) else {
            return;
        };
        let (member, paused) = ((id, peer.settings.key.address), peer.paused);
        let table = self.tables.of(family);
        let (mut old_cache, mut new_cache) = (ExportCache::default(), ExportCache::default());
        type Told = SmallVec<[(Option<u32>, Arc<Attributes>); 1]>;
        let told = |key: &GroupKey, place: u32, cache: &mut ExportCache| -> Told {
            let outs = self.exports(key, place, cache).into_iter();
            let outs = outs.filter(|(_, out)| !is_withheld(member, cache.way(*out)));
            outs.filter_map(|(path_id, out)| Some((path_id, Arc::clone(cache.get(out.attributes)?))))
                .collect()
        };
        let mut differs = Vec::new();
        for place in self.told_places(&[before, &group.key], family, 0..table.places()) {
            let old = told(before, place, &mut old_cache);
            if old != told(&group.key, place, &mut new_cache) {
                let known: PathIds = old.iter().filter_map(|(path_id, _)| *path_id).collect();
                differs.push((place, known));
            }
        }
        let Some(membership) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.membership_mut(family).as_mut())
        else {
            return;
        };
        if differs.is_empty() {
            return;
        }
        membership.lag.get_or_insert_default();
        if !paused {
            self.groups.lagging.insert((id, family));
        }
        for (place, known) in differs {
            self.note_lag(id, family, place, known);
        }
    }

    /// A member that is behind has one more prefix to hear of; with add-path, it knows these paths of it.
    pub(super) fn note_lag(&mut self, id: PeerId, family: Family, place: u32, known: PathIds) {
        let membership = self.peers.get_mut(&id).map(|peer| peer.membership_mut(family));
        if let Some(Some(Membership { lag: Some(lag), .. })) = membership
            && lag.is_behind(place)
            && lag.changed.insert(place)
        {
            if !known.is_empty() {
                lag.told.insert(place, known);
            }
            self.tables.of_mut(family).hold(place);
        }
    }

    /// Queue a part of what a member has missed, as it is now.
    pub(super) fn catch_up(&mut self, id: PeerId, family: Family) {
        let membership = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.membership_mut(family).as_mut());
        let Some(mut lag) = membership.and_then(|membership| membership.lag.take()) else {
            self.groups.lagging.remove(&(id, family));
            return;
        };
        let step = self.missed(id, family, &mut lag);
        if lag.dump.is_none() && lag.changed.is_empty() {
            self.groups.lagging.remove(&(id, family));
        } else if let Some(peer) = self.peers.get_mut(&id)
            && let Some(membership) = peer.membership_mut(family)
        {
            membership.lag = Some(lag);
        }
        let mut queue = |outgoing| {
            self.groups.outbox.push_back(Transmit {
                peers: vec![id],
                family,
                outgoing,
            });
        };
        if !step.withdrawn.is_empty() {
            queue(step.withdrawn.withdraw());
        }
        for (attributes, routes) in step.announced {
            queue(routes.announce(attributes));
        }
        self.finish_refresh(id, family);
    }

    /// Take a step's worth of places out of what a member has missed, and see what became of them.
    fn missed(&mut self, id: PeerId, family: Family, lag: &mut Lag) -> CatchUp {
        let group = self.place_of(id, family).map(|(_, group)| group);
        let with_path_ids = group.is_some_and(|group| group.key.add_path.is_some());
        let mut cache = ExportCache::default();
        let mut announced: IndexMap<OutId, Routes> = IndexMap::default();
        let mut withdrawn = Routes::default();
        for _ in 0..PREFIXES_PER_STEP {
            let Some((place, held)) = lag.next(self.tables.of(family).places()) else {
                break;
            };
            let known = lag.told.remove(&place).unwrap_or_default();
            if let Some((prefix, outs)) = self.told_at(id, family, place, &mut cache) {
                for (path_id, out) in &outs {
                    announced.entry(*out).or_default().push(prefix, *path_id);
                }
                if held && outs.is_empty() && !with_path_ids {
                    withdrawn.push(prefix, None);
                }
                for path_id in known {
                    if !outs.iter().any(|(other, _)| *other == Some(path_id)) {
                        withdrawn.push(prefix, Some(path_id));
                    }
                }
            }
            if held {
                self.tables.of_mut(family).let_go(place);
            }
        }
        let attributes = |id| cache.get(id).map(Arc::clone);
        let announced = announced.into_iter();
        CatchUp {
            announced: announced
                .filter_map(|(id, routes)| Some((attributes(id)?, routes)))
                .collect(),
            withdrawn,
        }
    }

    /// The prefix at a place and what a member is told of it, by the identifiers of paths with add-path.
    pub(super) fn told_at(
        &self,
        id: PeerId,
        family: Family,
        place: u32,
        cache: &mut ExportCache,
    ) -> Option<(Prefix, ToldRoutes)> {
        let (peer, group) = self.place_of(id, family)?;
        let member = (id, peer.settings.key.address);
        let prefix = self.tables.of(family).prefix(place)?;
        let outs = self.exports(&group.key, place, cache).into_iter();
        let told = outs.filter(|(_, out)| !is_withheld(member, cache.way(*out)));
        Some((
            prefix,
            told.map(|(path_id, out)| (path_id, out.attributes)).collect(),
        ))
    }

    /// Whether a member has yet to be told how a prefix is now.
    pub(super) fn is_on_its_way(&self, id: PeerId, family: Family, place: u32) -> bool {
        let membership = self.peers.get(&id).and_then(|peer| peer.membership(family));
        let lag = membership.and_then(|membership| membership.lag.as_ref());
        self.deferred.contains(family)
            || self.tables.of(family).is_pending(place)
            || lag.is_some_and(|lag| lag.changed.contains(place) || !lag.is_behind(place))
    }

    /// End-of-RIB for the members that know everything now. False if there are none.
    pub(super) fn queue_ends_of_rib(&mut self) -> bool {
        let mut told = Vec::new();
        for group in self.groups.by_id.values() {
            let family = group.key.family;
            if self.deferred.contains(family) {
                continue;
            }
            let mut due = Vec::new();
            for id in &group.members {
                let Some(peer) = self.peers.get_mut(id) else {
                    continue;
                };
                if let Some(membership) = peer.membership_mut(family)
                    && membership.end_of_rib_due
                    && membership.lag.is_none()
                {
                    membership.end_of_rib_due = false;
                    due.push(*id);
                }
            }
            if !due.is_empty() {
                told.extend(due.iter().map(|id| (*id, family)));
                let transmit = Transmit {
                    peers: due,
                    family,
                    outgoing: Outgoing::EndOfRib,
                };
                self.groups.outbox.push_back(transmit);
            }
        }
        for (id, family) in &told {
            self.start_refresh(*id, *family);
        }
        !told.is_empty()
    }
}

/// What a member is told of a prefix, by the identifiers of paths; without one, of the best path.
type ToldRoutes = SmallVec<[(Option<u32>, OutId); 1]>;

/// What a member hears in a step of catching up.
struct CatchUp {
    announced: Vec<(Arc<Attributes>, Routes)>,
    withdrawn: Routes,
}
