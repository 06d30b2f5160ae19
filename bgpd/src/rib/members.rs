//! Peers in their update groups: joining with a table dump, falling behind, catching up, leaving.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::export::GroupKey;
use super::groups::{Group, Membership, Outgoing, PREFIXES_PER_STEP, Told, Transmit, is_withheld};
use super::intern::AttrId;
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
            if peer
                .membership(family)
                .is_some_and(|membership| membership.lag.is_some())
            {
                self.groups.lagging.insert((id, family));
            }
        }
    }

    /// The peer asks for the whole table of a family once more (RFC 2918).
    pub fn refresh(&mut self, id: PeerId, family: Family) {
        let dump = self.dump_for(id, family);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let paused = peer.paused;
        let Some(membership) = peer.membership_mut(family) else {
            return;
        };
        let lag = membership.lag.get_or_insert_default();
        for prefix in dump {
            lag.entry(prefix).or_insert(Told::Maybe);
        }
        if !paused {
            self.groups.lagging.insert((id, family));
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
        for family in families.iter() {
            self.join(id, family, true, IndexMap::default());
        }
    }

    /// Put a peer into the group that its settings ask for. `told` are routes that it knows of already.
    fn join(&mut self, id: PeerId, family: Family, end_of_rib_due: bool, told: IndexMap<Prefix, Told>) {
        let Some(peer) = self.peers.get(&id) else { return };
        let key = GroupKey::of(&peer.settings, family);
        let paused = peer.paused;
        let (group_id, _) = self.groups.find_or_make(key, || self.tables.prefixes(family));
        let Some(group) = self.groups.by_id.get_mut(&group_id) else {
            return;
        };
        group.members.push(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            *peer.membership_mut(family) = Some(Membership {
                group: group_id,
                lag: None,
                end_of_rib_due,
            });
        }
        let mut lag = told;
        for prefix in self.dump_for(id, family) {
            lag.entry(prefix).or_insert(Told::No);
        }
        if lag.is_empty() && !paused {
            return;
        }
        if let Some(membership) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.membership_mut(family).as_mut())
        {
            membership.lag = Some(lag);
        }
        if !paused {
            self.groups.lagging.insert((id, family));
        }
    }

    /// All that a peer is to know, routes with equal attributes together.
    fn dump_for(&self, id: PeerId, family: Family) -> Vec<Prefix> {
        let Some((peer, group)) = self.place_of(id, family) else {
            return Vec::new();
        };
        let member = (id, peer.settings.key.address);
        let known = group.out.iter().filter(|(_, out)| {
            !is_withheld(
                member,
                out.source,
                self.attributes.get(out.attributes).next_hop.address(),
            )
        });
        let mut known: Vec<(AttrId, Prefix)> = known.map(|(prefix, out)| (out.attributes, *prefix)).collect();
        known.sort_unstable();
        known.into_iter().map(|(_, prefix)| prefix).collect()
    }

    pub(super) fn place_of(&self, id: PeerId, family: Family) -> Option<(&super::Peer, &Group)> {
        let peer = self.peers.get(&id)?;
        let group = self.groups.by_id.get(&peer.membership(family)?.group)?;
        Some((peer, group))
    }

    /// The session is over: nothing more is sent.
    pub(super) fn leave_groups(&mut self, id: PeerId) {
        for family in Family::ALL {
            self.leave(id, family);
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
        }
        if let Some(group) = self.groups.take_if_empty(membership.group) {
            for out in group.out.values() {
                self.attributes.release(out.attributes);
            }
        }
        Some(membership)
    }

    /// Move a peer to the groups that its changed settings ask for, and tell it the difference.
    pub(super) fn regroup(&mut self, id: PeerId) {
        for family in Family::ALL {
            let mut knows: FxHashMap<Prefix, Arc<Attributes>> =
                self.advertised(id, family).into_iter().collect();
            let mut told: IndexMap<Prefix, Told> = IndexMap::default();
            told.extend(knows.keys().map(|prefix| (*prefix, Told::Maybe)));
            let Some(membership) = self.leave(id, family) else {
                continue;
            };
            for (prefix, state) in membership.lag.into_iter().flatten() {
                told.insert(prefix, state);
                knows.remove(&prefix);
            }
            self.join(id, family, membership.end_of_rib_due, told);
            self.skip_known(id, family, &knows);
        }
    }

    /// Of what a member is to be told, leave out what it knows.
    fn skip_known(&mut self, id: PeerId, family: Family, knows: &FxHashMap<Prefix, Arc<Attributes>>) {
        let Some(group) = self
            .peers
            .get(&id)
            .and_then(|peer| peer.membership(family))
            .map(|m| m.group)
        else {
            return;
        };
        // A new group is to be filled first, which nobody hears: its only member lags.
        while !self.deferred.contains(family)
            && self
                .groups
                .by_id
                .get(&group)
                .is_some_and(|group| !group.pending.is_empty())
        {
            self.flush(group);
        }
        let is_known =
            |(prefix, attributes): &(Prefix, Arc<Attributes>)| knows.get(prefix) == Some(attributes);
        let known = self.advertised(id, family).into_iter().filter(is_known);
        let known: FxHashSet<Prefix> = known.map(|(prefix, _)| prefix).collect();
        if let Some(lag) = self.lag_of(id, family) {
            lag.retain(|prefix, _| !known.contains(prefix));
        }
    }

    /// Queue a part of what a member has missed, as it is now.
    pub(super) fn catch_up(&mut self, id: PeerId, family: Family) {
        let Some(lag) = self.lag_of(id, family) else {
            self.groups.lagging.remove(&(id, family));
            return;
        };
        let step: Vec<(Prefix, Told)> = lag.drain(..lag.len().min(PREFIXES_PER_STEP)).collect();
        let caught_up = lag.is_empty();
        let Some((peer, group)) = self.place_of(id, family) else {
            return;
        };
        let member = (id, peer.settings.key.address);
        let mut announced: IndexMap<AttrId, Vec<Prefix>> = IndexMap::default();
        let mut withdrawn = Vec::new();
        for (prefix, told) in step {
            let known = group.out.get(&prefix).filter(|out| {
                !is_withheld(
                    member,
                    out.source,
                    self.attributes.get(out.attributes).next_hop.address(),
                )
            });
            match (known, told) {
                (Some(out), _) => announced.entry(out.attributes).or_default().push(prefix),
                (None, Told::Maybe) => withdrawn.push(prefix),
                (None, Told::No) => {}
            }
        }
        let mut queue = |outgoing| {
            self.groups.outbox.push_back(Transmit {
                peers: vec![id],
                family,
                outgoing,
            });
        };
        if !withdrawn.is_empty() {
            queue(Outgoing::Withdraw { prefixes: withdrawn });
        }
        for (attributes, prefixes) in announced {
            let attributes = Arc::clone(self.attributes.get(attributes));
            queue(Outgoing::Announce { attributes, prefixes });
        }
        if caught_up {
            self.groups.lagging.remove(&(id, family));
            if let Some(membership) = self
                .peers
                .get_mut(&id)
                .and_then(|peer| peer.membership_mut(family).as_mut())
            {
                membership.lag = None;
            }
        }
    }

    /// End-of-RIB for the members that know everything now. False if there are none.
    pub(super) fn queue_ends_of_rib(&mut self) -> bool {
        let mut any = false;
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
                any = true;
                let transmit = Transmit {
                    peers: due,
                    family,
                    outgoing: Outgoing::EndOfRib,
                };
                self.groups.outbox.push_back(transmit);
            }
        }
        any
    }
}
