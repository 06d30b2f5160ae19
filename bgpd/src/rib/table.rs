//! All paths by prefix: the Adj-RIBs-In and the Loc-RIB in one table a family.

use std::hash::BuildHasherDefault;

use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use super::PeerId;
use super::import::Ineligible;
use super::intern::AttrId;
use crate::wire::{Family, Prefix};

/// A set that keeps its order of insertion.
pub(super) type IndexSet<T> = indexmap::IndexSet<T, BuildHasherDefault<FxHasher>>;
/// A map that keeps its order of insertion.
pub(super) type IndexMap<K, V> = indexmap::IndexMap<K, V, BuildHasherDefault<FxHasher>>;

/// One peer's route to a prefix.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// Who announced it.
    pub(super) peer: PeerId,
    /// As it came.
    pub(super) received: AttrId,
    /// After the import policy, or why it is not used.
    pub(super) accepted: Result<AttrId, Ineligible>,
    /// Kept from before the peer's restart.
    pub(super) stale: bool,
}

/// A path that was selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) peer: PeerId,
    pub(super) attributes: AttrId,
}

/// The best path and those equal to it.
pub(super) type Choices = SmallVec<[Chosen; 1]>;

/// A prefix.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// At most one a peer, in no order.
    pub(super) paths: SmallVec<[Path; 1]>,
    /// The best path first.
    pub(super) chosen: Choices,
}

/// One table a family.
#[derive(Debug, Default)]
pub(super) struct FamilyTables {
    v4: FxHashMap<Prefix, Entry>,
    v6: FxHashMap<Prefix, Entry>,
}

impl FamilyTables {
    pub(super) fn of(&self, family: Family) -> &FxHashMap<Prefix, Entry> {
        match family {
            Family::Ipv4Unicast => &self.v4,
            Family::Ipv6Unicast => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut FxHashMap<Prefix, Entry> {
        match family {
            Family::Ipv4Unicast => &mut self.v4,
            Family::Ipv6Unicast => &mut self.v6,
        }
    }

    pub(super) fn entry(&self, prefix: &Prefix) -> Option<&Entry> {
        self.of(Family::of(prefix)).get(prefix)
    }

    pub(super) fn entry_mut(&mut self, prefix: &Prefix) -> Option<&mut Entry> {
        self.of_mut(Family::of(prefix)).get_mut(prefix)
    }

    pub(super) fn path(&self, prefix: &Prefix, peer: PeerId) -> Option<&Path> {
        self.entry(prefix)?.paths.iter().find(|path| path.peer == peer)
    }

    /// Store a path; gives the one that it replaces.
    pub(super) fn put_path(&mut self, prefix: Prefix, path: Path) -> Option<Path> {
        let entry = self.of_mut(Family::of(&prefix)).entry(prefix).or_default();
        match entry.paths.iter_mut().find(|old| old.peer == path.peer) {
            Some(old) => Some(std::mem::replace(old, path)),
            None => {
                entry.paths.push(path);
                None
            }
        }
    }

    pub(super) fn remove_path(&mut self, prefix: &Prefix, peer: PeerId) -> Option<Path> {
        let entry = self.entry_mut(prefix)?;
        let at = entry.paths.iter().position(|path| path.peer == peer)?;
        Some(entry.paths.swap_remove(at))
    }

    /// Forget a prefix that has neither a path nor a selection.
    pub(super) fn drop_if_empty(&mut self, prefix: &Prefix) {
        if self
            .entry(prefix)
            .is_some_and(|entry| entry.paths.is_empty() && entry.chosen.is_empty())
        {
            self.of_mut(Family::of(prefix)).remove(prefix);
        }
    }

    pub(super) fn prefixes(&self, family: Family) -> Vec<Prefix> {
        self.of(family).keys().copied().collect()
    }

    /// Prefixes with a path that is wanted.
    pub(super) fn prefixes_where(&self, family: Family, wanted: impl Fn(&Path) -> bool) -> Vec<Prefix> {
        let entries = self.of(family).iter();
        entries
            .filter(|(_, entry)| entry.paths.iter().any(&wanted))
            .map(|(prefix, _)| *prefix)
            .collect()
    }

    pub(super) fn has_path_of(&self, family: Family, peer: PeerId) -> bool {
        self.of(family)
            .values()
            .any(|entry| entry.paths.iter().any(|path| path.peer == peer))
    }

    /// Mark a peer's paths as stale; gives their number.
    pub(super) fn mark_stale(&mut self, family: Family, peer: PeerId) -> usize {
        let mut marked = 0;
        for path in self
            .of_mut(family)
            .values_mut()
            .flat_map(|entry| &mut entry.paths)
        {
            if path.peer == peer {
                path.stale = true;
                marked += 1;
            }
        }
        marked
    }
}
