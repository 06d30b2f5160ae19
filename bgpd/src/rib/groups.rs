//! Update groups: peers that are told the same share one Adj-RIB-Out and its messages.
//!
//! A group's Adj-RIB-Out holds what the group is told, with the peer that each route came from. A member
//! is told all of it but the routes that it sent itself and those whose next hop it is
//! (RFC 4271 section 5.1.3), so the members' own views need no storage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::export::{ExportCache, GroupKey};
use super::intern::AttrId;
use super::peers::Peer;
use super::table::{IndexMap, IndexSet};
use super::{PeerId, Rib};
use crate::wire::{Attributes, Family, FamilySet, Prefix};

/// Prefixes looked at in one step of [`Rib::poll_transmit`], which bounds its time (some 10 ms) and what
/// it queues. The more, the fuller the messages when many sets of attributes change at once.
pub(super) const PREFIXES_PER_STEP: usize = 32_768;

/// Something to tell peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Who; never empty. All of them read the same encoding.
    pub peers: Vec<PeerId>,
    /// The family of the prefixes.
    pub family: Family,
    /// What.
    pub outgoing: Outgoing,
}

/// The content of an UPDATE, of any length: the encoder splits it into messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Routes with their attributes as they go out.
    Announce {
        /// The attributes, the next hop among them.
        attributes: Arc<Attributes>,
        /// The prefixes.
        prefixes: Vec<Prefix>,
    },
    /// Routes that are there no longer.
    Withdraw {
        /// The prefixes.
        prefixes: Vec<Prefix>,
    },
    /// The table dump is over (RFC 4724 section 2).
    EndOfRib,
}

/// Names a group. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u32);

/// A route in a group's Adj-RIB-Out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) attributes: AttrId,
    pub(super) source: PeerId,
}

/// Peers that are told the same of one family.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) members: Vec<PeerId>,
    pub(super) out: FxHashMap<Prefix, Out>,
    /// Prefixes whose best path changed since `out` was computed.
    pub(super) pending: IndexSet<Prefix>,
}

/// A peer's place in a group.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: GroupId,
    /// What it has not been told; nothing when it is told what the group is.
    pub(super) lag: Option<IndexMap<Prefix, Told>>,
    /// Its End-of-RIB is to be sent when it has been told everything.
    pub(super) end_of_rib_due: bool,
}

/// What a peer that lags knows of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing: a route that is gone by now need not be withdrawn.
    No,
    /// Perhaps an earlier route.
    Maybe,
}

/// All groups and what waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<GroupId, Group>,
    by_key: FxHashMap<GroupKey, GroupId>,
    last: u32,
    pub(super) outbox: VecDeque<Transmit>,
    /// Members that lag and are not paused.
    pub(super) lagging: BTreeSet<(PeerId, Family)>,
}

impl Groups {
    /// A prefix's best path changed.
    pub(super) fn note(&mut self, family: Family, prefix: Prefix) {
        for group in self.by_id.values_mut().filter(|group| group.key.family == family) {
            group.pending.insert(prefix);
        }
    }

    /// The group of a key, made if need be: then true, and all of `prefixes` are pending.
    pub(super) fn find_or_make(
        &mut self,
        key: GroupKey,
        prefixes: impl FnOnce() -> Vec<Prefix>,
    ) -> (GroupId, bool) {
        if let Some(id) = self.by_key.get(&key) {
            return (*id, false);
        }
        self.last += 1;
        let id = GroupId(self.last);
        self.by_key.insert(key.clone(), id);
        let pending = prefixes().into_iter().collect();
        self.by_id.insert(
            id,
            Group {
                key,
                members: Vec::new(),
                out: FxHashMap::default(),
                pending,
            },
        );
        (id, true)
    }

    /// Take a group that has no member left.
    pub(super) fn take_if_empty(&mut self, id: GroupId) -> Option<Group> {
        if !self.by_id.get(&id)?.members.is_empty() {
            return None;
        }
        let group = self.by_id.remove(&id)?;
        self.by_key.remove(&group.key);
        Some(group)
    }

    fn next_pending(&self, deferred: FamilySet) -> Option<GroupId> {
        let pending = |group: &Group| !group.pending.is_empty() && !deferred.contains(group.key.family);
        self.by_id
            .iter()
            .find(|(_, group)| pending(group))
            .map(|(id, _)| *id)
    }
}

/// Whether a member is not told a route of its group: it sent it, or it is its next hop.
pub(super) fn is_withheld(member: (PeerId, IpAddr), source: PeerId, next_hop: IpAddr) -> bool {
    member.0 == source || member.1 == next_hop
}

/// What a step has found out, by who is to hear it.
#[derive(Default)]
struct Step {
    announced: IndexMap<(AttrId, PeerId), Vec<Prefix>>,
    withdrawn: IndexMap<(PeerId, IpAddr), Vec<Prefix>>,
    /// Routes that one member alone loses, because they come from it or lead to it now.
    withheld: IndexMap<PeerId, Vec<Prefix>>,
}

type Members = SmallVec<[(PeerId, IpAddr); 8]>;

impl Rib {
    /// The next thing to tell peers; nothing when all of them know everything (but those that are
    /// paused). A prefix is in at most one of the messages that one change makes for a peer, and
    /// what is given out earlier must be sent earlier.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            if let Some(transmit) = self.groups.outbox.pop_front() {
                return Some(transmit);
            }
            if let Some(id) = self.groups.next_pending(self.deferred) {
                self.flush(id);
            } else if let Some((peer, family)) = self.groups.lagging.first().copied() {
                self.catch_up(peer, family);
            } else if !self.queue_ends_of_rib() {
                return None;
            }
        }
    }

    /// Bring a part of a group's Adj-RIB-Out up to date and queue what its members must hear.
    pub(super) fn flush(&mut self, id: GroupId) {
        let Some(mut group) = self.groups.by_id.remove(&id) else {
            return;
        };
        let family = group.key.family;
        let (current, behind) = self.members_of(&group);
        let mut cache = ExportCache::default();
        let mut step = Step::default();
        let mut replaced = Vec::new();
        for _ in 0..PREFIXES_PER_STEP {
            let Some(prefix) = group.pending.pop() else { break };
            let new = self.export(&group.key, &prefix, &mut cache);
            let old = match new {
                Some(new) => group.out.insert(prefix, new),
                None => group.out.remove(&prefix),
            };
            if new != old {
                self.note_change(&current, prefix, old, new, &mut step);
                for peer in &behind {
                    if let Some(lag) = self.lag_of(*peer, family) {
                        lag.entry(prefix).or_insert(Told::Maybe);
                    }
                }
            }
            // Each stored route holds a reference; those that were replaced are let go at the end, because
            // the step still looks at them.
            replaced.extend(old.map(|old| old.attributes));
        }
        self.queue_step(family, &current, step);
        self.drop_cache(cache);
        for id in replaced {
            self.attributes.release(id);
        }
        self.groups.by_id.insert(id, group);
    }

    fn members_of(&self, group: &Group) -> (Members, Vec<PeerId>) {
        let mut current = Members::new();
        let mut behind = Vec::new();
        for id in &group.members {
            let Some(peer) = self.peers.get(id) else { continue };
            match peer.membership(group.key.family) {
                Some(Membership { lag: Some(_), .. }) => behind.push(*id),
                _ => current.push((*id, peer.settings.key.address)),
            }
        }
        (current, behind)
    }

    fn note_change(
        &self,
        current: &Members,
        prefix: Prefix,
        old: Option<Out>,
        new: Option<Out>,
        step: &mut Step,
    ) {
        let next_hop = |out: Out| self.attributes.get(out.attributes).next_hop.address();
        match (old, new) {
            (_, Some(new)) => {
                step.announced
                    .entry((new.attributes, new.source))
                    .or_default()
                    .push(prefix);
                let Some(old) = old else { return };
                let (before, after) = (next_hop(old), next_hop(new));
                if (old.source, before) == (new.source, after) {
                    return;
                }
                for member in current {
                    let knew = !is_withheld(*member, old.source, before);
                    if knew && is_withheld(*member, new.source, after) {
                        step.withheld.entry(member.0).or_default().push(prefix);
                    }
                }
            }
            (Some(old), None) => {
                step.withdrawn
                    .entry((old.source, next_hop(old)))
                    .or_default()
                    .push(prefix);
            }
            (None, None) => {}
        }
    }

    fn queue_step(&mut self, family: Family, current: &Members, step: Step) {
        let audience = |source, next_hop| -> Vec<PeerId> {
            let told = current
                .iter()
                .filter(|member| !is_withheld(**member, source, next_hop));
            told.map(|(id, _)| *id).collect()
        };
        let mut queue = |peers: Vec<PeerId>, outgoing| {
            if !peers.is_empty() {
                self.groups.outbox.push_back(Transmit {
                    peers,
                    family,
                    outgoing,
                });
            }
        };
        for ((source, next_hop), prefixes) in step.withdrawn {
            queue(audience(source, next_hop), Outgoing::Withdraw { prefixes });
        }
        for (member, prefixes) in step.withheld {
            queue(vec![member], Outgoing::Withdraw { prefixes });
        }
        for ((id, source), prefixes) in step.announced {
            let attributes = Arc::clone(self.attributes.get(id));
            let peers = audience(source, attributes.next_hop.address());
            queue(peers, Outgoing::Announce { attributes, prefixes });
        }
    }

    pub(super) fn lag_of(&mut self, peer: PeerId, family: Family) -> Option<&mut IndexMap<Prefix, Told>> {
        self.peers
            .get_mut(&peer)
            .and_then(|peer: &mut Peer| peer.membership_mut(family).as_mut())?
            .lag
            .as_mut()
    }
}
