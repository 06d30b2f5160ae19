//! Addresses and prefixes, who owns them, and their identities.
//!
//! An identity is a set of active selectors: all addresses of the same set share it. A net that lies in others
//! matches what they match too. When selectors come and go, an identity whose addresses all change alike keeps
//! its id, so that most policy changes move no address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::OwnerId;
use crate::clause::SelectorId;
use crate::output::IdentityId;

/// Prefix lengths that exist: 0..=128.
const LENGTHS: usize = 129;

/// A set of selectors, sorted.
type SelectorSet = Arc<[SelectorId]>;

/// How many nets there are of each prefix length.
#[derive(Debug)]
struct Lengths {
    v4: [usize; LENGTHS],
    v6: [usize; LENGTHS],
}

#[derive(Debug, Default)]
struct Net {
    owners: SmallVec<[OwnerId; 1]>,
    identity: Option<IdentityId>,
}

#[derive(Debug)]
struct Identity {
    selectors: SelectorSet,
    nets: BTreeSet<IpNet>,
}

/// What a reassignment did.
#[derive(Debug, Default)]
pub(crate) struct Reassignment {
    /// Nets with a new identity; `UNKNOWN` where the entry goes.
    pub(crate) nets: BTreeMap<IpNet, IdentityId>,
    /// Identities that did not exist before.
    pub(crate) created: BTreeMap<IdentityId, SelectorSet>,
    /// Identities that no net has any more.
    pub(crate) removed: BTreeMap<IdentityId, SelectorSet>,
}

/// All nets and identities.
#[derive(Debug)]
pub(crate) struct AddressIndex {
    nets: BTreeMap<IpNet, Net>,
    lengths: Lengths,
    dirty: BTreeSet<IpNet>,
    identities: BTreeMap<IdentityId, Identity>,
    by_set: FxHashMap<SelectorSet, IdentityId>,
    by_selector: FxHashMap<SelectorId, BTreeSet<IdentityId>>,
    next: u32,
}

impl Default for AddressIndex {
    fn default() -> Self {
        Self {
            nets: BTreeMap::new(),
            lengths: Lengths {
                v4: [0; LENGTHS],
                v6: [0; LENGTHS],
            },
            dirty: BTreeSet::new(),
            identities: BTreeMap::new(),
            by_set: FxHashMap::default(),
            by_selector: FxHashMap::default(),
            next: IdentityId::UNKNOWN.0 + 1,
        }
    }
}

impl AddressIndex {
    /// `owner` has `net`.
    pub(crate) fn add(&mut self, net: IpNet, owner: OwnerId) {
        let lengths = &mut self.lengths;
        let entry = self.nets.entry(net).or_insert_with(|| {
            *count(lengths, net) += 1;
            Net::default()
        });
        if !entry.owners.contains(&owner) {
            entry.owners.push(owner);
        }
        self.touch(net);
    }

    /// `owner` no longer has `net`.
    pub(crate) fn remove(&mut self, net: IpNet, owner: OwnerId) {
        if let Some(entry) = self.nets.get_mut(&net) {
            entry.owners.retain(|o| *o != owner);
            self.touch(net);
        }
    }

    /// The identity of `net`, and of what it covers, must be worked out again.
    pub(crate) fn touch(&mut self, net: IpNet) {
        if net.prefix_len() == net.max_prefix_len() {
            self.dirty.insert(net);
            return;
        }
        self.dirty.extend(
            self.nets
                .range(net..)
                .map(|(net, _)| *net)
                .take_while(|inner| net.contains(inner)),
        );
    }

    /// Identities that match a selector.
    pub(crate) fn matching(&self, selector: SelectorId) -> Vec<IdentityId> {
        self.by_selector
            .get(&selector)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// What an identity matches.
    pub(crate) fn selectors(&self, identity: IdentityId) -> &[SelectorId] {
        self.identities
            .get(&identity)
            .map_or(&[], |identity| &identity.selectors)
    }

    /// How many identities there are.
    pub(crate) fn identity_count(&self) -> usize {
        self.identities.len()
    }

    /// Works out the identities of all nets touched since the last call. `matched` names the active selectors
    /// that an owner matches; those in `fresh` are new since then.
    pub(crate) fn reassign<I: Iterator<Item = SelectorId>>(
        &mut self,
        matched: impl Fn(OwnerId) -> I,
        fresh: &BTreeSet<SelectorId>,
    ) -> Reassignment {
        let mut outcome = Reassignment::default();
        let mut moves: BTreeMap<IdentityId, BTreeMap<SelectorSet, Vec<IpNet>>> = BTreeMap::new();
        for net in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.nets.get(&net) else {
                continue;
            };
            let before = entry.identity.unwrap_or(IdentityId::UNKNOWN);
            let after: SelectorSet = if entry.owners.is_empty() {
                Arc::from([])
            } else {
                self.selectors_of(net, &matched)
            };
            if entry.owners.is_empty() {
                self.nets.remove(&net);
                *count(&mut self.lengths, net) -= 1;
            }
            moves
                .entry(before)
                .or_default()
                .entry(after)
                .or_default()
                .push(net);
        }
        for (before, groups) in moves {
            let renamed = self.rename(before, &groups, fresh);
            for (after, nets) in groups {
                if renamed.as_ref() != Some(&after) && *after != *self.selectors(before) {
                    self.shift(before, &after, nets, &mut outcome);
                }
            }
        }
        outcome
    }

    /// Takes selectors that no program uses any more out of the identities.
    pub(crate) fn forget(&mut self, selectors: &BTreeSet<SelectorId>) -> Reassignment {
        let mut outcome = Reassignment::default();
        let affected: BTreeSet<IdentityId> = selectors
            .iter()
            .flat_map(|selector| self.matching(*selector))
            .collect();
        for id in affected {
            let after: SelectorSet = self
                .selectors(id)
                .iter()
                .filter(|s| !selectors.contains(s))
                .copied()
                .collect();
            if after.is_empty() || self.by_set.contains_key(&after) {
                let nets = self
                    .identities
                    .get(&id)
                    .map(|identity| identity.nets.iter().copied().collect());
                self.shift(id, &after, nets.unwrap_or_default(), &mut outcome);
            } else {
                self.set_selectors(id, after);
            }
        }
        outcome
    }

    /// Where all nets of an identity change and differ from before only in fresh selectors, the largest group
    /// keeps the id under a new set.
    fn rename(
        &mut self,
        id: IdentityId,
        groups: &BTreeMap<SelectorSet, Vec<IpNet>>,
        fresh: &BTreeSet<SelectorId>,
    ) -> Option<SelectorSet> {
        let identity = self.identities.get(&id)?;
        if groups.contains_key(&identity.selectors)
            || groups.values().map(Vec::len).sum::<usize>() < identity.nets.len()
        {
            return None;
        }
        let kept = |set: &SelectorSet| {
            set.iter()
                .filter(|s| !fresh.contains(s))
                .eq(identity.selectors.iter())
        };
        let (set, _) = groups
            .iter()
            .filter(|(set, _)| !set.is_empty() && !self.by_set.contains_key(*set) && kept(set))
            .max_by_key(|(_, nets)| nets.len())?;
        let set = Arc::clone(set);
        self.set_selectors(id, Arc::clone(&set));
        Some(set)
    }

    fn set_selectors(&mut self, id: IdentityId, set: SelectorSet) {
        let Some(identity) = self.identities.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut identity.selectors, Arc::clone(&set));
        self.unindex(id, &before);
        self.index(id, set);
    }

    /// Moves nets to the identity of a set of selectors.
    fn shift(
        &mut self,
        before: IdentityId,
        after: &SelectorSet,
        nets: Vec<IpNet>,
        outcome: &mut Reassignment,
    ) {
        let to = if after.is_empty() {
            IdentityId::UNKNOWN
        } else {
            self.intern(after, outcome)
        };
        if before == to {
            return;
        }
        for net in nets {
            if let Some(identity) = self.identities.get_mut(&before) {
                identity.nets.remove(&net);
            }
            if let Some(identity) = self.identities.get_mut(&to) {
                identity.nets.insert(net);
            }
            if let Some(entry) = self.nets.get_mut(&net) {
                entry.identity = (to != IdentityId::UNKNOWN).then_some(to);
            }
            outcome.nets.insert(net, to);
        }
        if self
            .identities
            .get(&before)
            .is_some_and(|identity| identity.nets.is_empty())
            && let Some(identity) = self.identities.remove(&before)
        {
            self.unindex(before, &identity.selectors);
            if outcome.created.remove(&before).is_none() {
                outcome.removed.insert(before, identity.selectors);
            }
        }
    }

    fn intern(&mut self, set: &SelectorSet, outcome: &mut Reassignment) -> IdentityId {
        if let Some(&id) = self.by_set.get(set) {
            return id;
        }
        let id = IdentityId(self.next);
        self.next += 1;
        self.identities.insert(
            id,
            Identity {
                selectors: Arc::clone(set),
                nets: BTreeSet::new(),
            },
        );
        self.index(id, Arc::clone(set));
        outcome.created.insert(id, Arc::clone(set));
        id
    }

    fn index(&mut self, id: IdentityId, set: SelectorSet) {
        for selector in set.iter() {
            self.by_selector.entry(*selector).or_default().insert(id);
        }
        self.by_set.insert(set, id);
    }

    fn unindex(&mut self, id: IdentityId, set: &SelectorSet) {
        for selector in set.iter() {
            if let Some(ids) = self.by_selector.get_mut(selector) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_selector.remove(selector);
                }
            }
        }
        if self.by_set.get(set) == Some(&id) {
            self.by_set.remove(set);
        }
    }

    /// What the owners of a net and of its covering nets match.
    fn selectors_of<I: Iterator<Item = SelectorId>>(
        &self,
        net: IpNet,
        matched: &impl Fn(OwnerId) -> I,
    ) -> SelectorSet {
        let mut set: BTreeSet<SelectorId> = BTreeSet::new();
        let lengths = lengths_of(&self.lengths, net);
        for (length, _) in lengths.iter().enumerate().filter(|(_, nets)| **nets > 0) {
            let Ok(length) = u8::try_from(length) else { break };
            if length > net.prefix_len() {
                break;
            }
            let covering = IpNet::new(net.addr(), length)
                .ok()
                .and_then(|outer| self.nets.get(&outer.trunc()));
            for owner in covering.iter().flat_map(|entry| &entry.owners) {
                set.extend(matched(*owner));
            }
        }
        set.into_iter().collect()
    }
}

fn lengths_of(lengths: &Lengths, net: IpNet) -> &[usize; LENGTHS] {
    if matches!(net, IpNet::V4(_)) {
        &lengths.v4
    } else {
        &lengths.v6
    }
}

fn count(lengths: &mut Lengths, net: IpNet) -> &mut usize {
    let family = if matches!(net, IpNet::V4(_)) {
        &mut lengths.v4
    } else {
        &mut lengths.v6
    };
    let [shorter @ .., longest] = family;
    shorter.get_mut(usize::from(net.prefix_len())).unwrap_or(longest)
}
