//! Places of the table, and of sets of attributes, by hash: open addressing with linear probing, in one array.
//!
//! A lookup touches one cache line of it in most cases, which can be read ahead for many
//! ([`Index::expect`]). A slot keeps the hash that it was put in with, so that growing moves slots in order and
//! reads nothing of the table. Where a slot belongs rises with its hash, whatever the size, so an array
//! grows by as little as it needs.

use super::sys;

/// Of so many slots ...
const LOAD_SLOTS: usize = 5;
/// ... at most so many are in use.
const LOAD_USED: usize = 4;
/// An array grows by one slot in so many.
const GROWTH: usize = 4;
/// The smallest array.
const SLOTS_MIN: usize = 16;
/// A slot that is not in use; no place is `u32::MAX`.
const EMPTY: u64 = u64::MAX;

/// Places by hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Hash and place.
    slots: Vec<u64>,
    len: usize,
}

const fn slot(hash: u32, place: u32) -> u64 {
    ((hash as u64) << 32) | place as u64
}

const fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

impl Index {
    /// Where the slot of a hash belongs.
    const fn home(&self, hash: u32) -> usize {
        ((hash as u64 * self.slots.len() as u64) >> 32) as usize
    }

    const fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Where the first slot is that is meant, or the empty one that says that there is none.
    fn probe(&self, hash: u32, is_it: impl Fn(u64) -> bool) -> Option<(usize, u64)> {
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == EMPTY || is_it(slot) {
                return Some((at, slot));
            }
            at = self.after(at);
        }
    }

    /// The place with this hash that is the one.
    pub(super) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (_, slot) = self.probe(hash, |slot| hash_of(slot) == hash && is_it(slot as u32))?;
        (slot != EMPTY).then_some(slot as u32)
    }

    /// The first place with this hash. Nearly always there is but one.
    pub(super) fn likely(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// A hash is about to be looked up.
    pub(super) fn expect(&self, hash: u32) {
        sys::read_ahead(&self.slots, self.home(hash));
    }

    /// Add a place that is not there.
    pub(super) fn insert(&mut self, hash: u32, place: u32) {
        if (self.len + 1) * LOAD_SLOTS > self.slots.len() * LOAD_USED {
            self.grow();
        }
        self.len += 1;
        self.put(slot(hash, place));
    }

    fn put(&mut self, slot: u64) {
        if let Some((at, _)) = self.probe(hash_of(slot), |_| false)
            && let Some(empty) = self.slots.get_mut(at)
        {
            *empty = slot;
        }
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() + self.slots.len() / GROWTH).max(SLOTS_MIN);
        let before = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        before
            .into_iter()
            .filter(|slot| *slot != EMPTY)
            .for_each(|slot| self.put(slot));
    }

    /// Remove a place that was put in with this hash.
    pub(super) fn remove(&mut self, hash: u32, place: u32) {
        let wanted = slot(hash, place);
        let Some((mut hole, found)) = self.probe(hash, |slot| slot == wanted) else {
            return;
        };
        if found == EMPTY {
            return;
        }
        self.len -= 1;
        // What follows moves up as far as it may, so that no lookup ends before it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let next = self.slots.get(at).copied().unwrap_or(EMPTY);
            if next == EMPTY {
                break;
            }
            let home = self.home(hash_of(next));
            let stays = if hole < at {
                hole < home && home <= at
            } else {
                hole < home || home <= at
            };
            if !stays {
                self.set(hole, next);
                hole = at;
            }
        }
        self.set(hole, EMPTY);
    }

    fn set(&mut self, at: usize, value: u64) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = value;
        }
    }

    /// How many places there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it takes, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes, at both ends and in the middle, so that many collide and probes run past the end.
    fn hash(at: u8) -> u32 {
        [0, 1, 1 << 31, u32::MAX - 1, u32::MAX, 7 << 28][usize::from(at) % 6]
    }

    proptest! {
        #[test]
        fn places_are_found_as_long_as_they_are_there(
            ops in prop::collection::vec((any::<bool>(), any::<u8>(), 0..40u32), 1..200),
        ) {
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (add, at, place) in ops {
                let hash = hash(at);
                match (add, model.contains(&(hash, place))) {
                    (true, false) => {
                        index.insert(hash, place);
                        model.insert((hash, place));
                    }
                    (false, _) => {
                        index.remove(hash, place);
                        model.remove(&(hash, place));
                    }
                    (true, true) => {}
                }
                let found = index.find(hash, |other| other == place);
                prop_assert_eq!(found.is_some(), model.contains(&(hash, place)));
                prop_assert_eq!(index.is_empty(), model.is_empty());
            }
            for hash in (0..6).map(hash) {
                for place in 0..40 {
                    let found = index.find(hash, |other| other == place);
                    prop_assert_eq!(found.is_some(), model.contains(&(hash, place)));
                }
                let any = model.iter().any(|(other, _)| *other == hash);
                prop_assert_eq!(index.likely(hash).is_some(), any);
            }
        }
    }

    #[test]
    fn it_is_never_full() {
        let mut index = Index::default();
        index.expect(3);
        assert_eq!((index.likely(3), index.bytes()), (None, 0));
        for place in 0..10_000u32 {
            index.insert(place.wrapping_mul(0x9e37_79b9), place);
            assert!(index.len * LOAD_SLOTS <= index.slots.len() * LOAD_USED);
        }
        assert!(index.bytes() < 10_000 * 13);
        for place in 0..10_000u32 {
            assert_eq!(index.likely(place.wrapping_mul(0x9e37_79b9)), Some(place));
        }
    }
}
