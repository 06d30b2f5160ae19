//! Sets of path attributes, each stored once and named by a small number.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::wire::Attributes;

/// A set of attributes in the [`Interner`]. Equal sets have equal ids as long as one is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttrId(u32);

#[derive(Debug)]
struct Slot {
    attributes: Arc<Attributes>,
    references: u32,
}

/// Counted sets of attributes. Who stores an id holds a reference to it.
#[derive(Debug)]
pub(super) struct Interner {
    ids: FxHashMap<Arc<Attributes>, AttrId>,
    slots: Vec<Option<Slot>>,
    free: Vec<AttrId>,
    /// Given for an id that is not held, which would be a mistake of ours.
    none: Arc<Attributes>,
}

impl Default for Interner {
    fn default() -> Self {
        let unspecified = crate::wire::NextHop::unspecified(crate::wire::Family::Ipv4Unicast);
        Self {
            ids: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            none: Arc::new(Attributes::originated(unspecified)),
        }
    }
}

impl Interner {
    /// The id of a set, with one more reference to it.
    pub(super) fn intern(&mut self, attributes: Attributes) -> AttrId {
        if let Some(id) = self.ids.get(&attributes) {
            let id = *id;
            self.retain(id);
            return id;
        }
        let attributes = Arc::new(attributes);
        let slot = Slot {
            attributes: Arc::clone(&attributes),
            references: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.slots.get_mut(id.0 as usize) {
                    *place = Some(slot);
                }
                id
            }
            None => {
                self.slots.push(Some(slot));
                AttrId((self.slots.len() - 1) as u32)
            }
        };
        self.ids.insert(attributes, id);
        id
    }

    /// One more reference.
    pub(super) fn retain(&mut self, id: AttrId) {
        match self.slots.get_mut(id.0 as usize) {
            Some(Some(slot)) => slot.references += 1,
            _ => debug_assert!(false, "retained a free id"),
        }
    }

    /// One reference less; the set goes with the last.
    pub(super) fn release(&mut self, id: AttrId) {
        let Some(place) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        let Some(slot) = place else {
            debug_assert!(false, "released a free id");
            return;
        };
        slot.references -= 1;
        if slot.references == 0 {
            self.ids.remove(&slot.attributes);
            *place = None;
            self.free.push(id);
        }
    }

    /// The set of an id.
    pub(super) fn get(&self, id: AttrId) -> &Arc<Attributes> {
        match self.slots.get(id.0 as usize) {
            Some(Some(slot)) => &slot.attributes,
            _ => {
                debug_assert!(false, "read a free id");
                &self.none
            }
        }
    }

    /// How many sets are held.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Family, NextHop};

    fn attributes(med: u32) -> Attributes {
        let mut attributes = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
        attributes.med = Some(med);
        attributes
    }

    #[test]
    fn equal_sets_are_stored_once_and_freed_with_their_last_reference() {
        let mut interner = Interner::default();
        let (one, again, two) = (
            interner.intern(attributes(1)),
            interner.intern(attributes(1)),
            interner.intern(attributes(2)),
        );
        assert_eq!(one, again);
        assert_ne!(one, two);
        assert_eq!(interner.len(), 2);
        interner.release(one);
        assert_eq!(interner.get(again).med, Some(1));
        interner.release(again);
        assert_eq!(interner.len(), 1);
        // The place is used again, and names another set now.
        let three = interner.intern(attributes(3));
        assert_eq!(three, one);
        assert_eq!(
            (interner.get(three).med, interner.get(two).med),
            (Some(3), Some(2))
        );
    }
}
