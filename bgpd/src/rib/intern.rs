//! Sets of path attributes, each stored once and named by a small number.
//!
//! A set comes hashed ([`AttributeSet`]): whoever decodes it does that, so that the owner of the RIB only
//! compares.

use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::next_hops::{Gateway, NextHopId, NextHopInterest, NextHopState, NextHops};
use crate::wire::{AsPath, Attributes, Family, NextHop, Prefix, Segment, UnknownAttribute, Update};

static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// A set of attributes that is ready to be looked up in the RIB. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AttributeSet {
    attributes: Arc<Attributes>,
    hash: u64,
}

impl AttributeSet {
    /// The attributes.
    pub fn attributes(&self) -> &Arc<Attributes> {
        &self.attributes
    }
}

impl From<Attributes> for AttributeSet {
    fn from(mut attributes: Attributes) -> Self {
        shrink(&mut attributes);
        Self {
            hash: HASHER.hash_one(&attributes),
            attributes: Arc::new(attributes),
        }
    }
}

/// Gives back what lists have room for: a set may be kept for long.
fn shrink(attributes: &mut Attributes) {
    let AsPath { segments } = &mut attributes.as_path;
    segments.shrink_to_fit();
    for segment in segments {
        segment.ases.shrink_to_fit();
    }
    attributes.communities.shrink_to_fit();
    attributes.cluster_list.shrink_to_fit();
    attributes.extended_communities.shrink_to_fit();
    attributes.large_communities.shrink_to_fit();
    attributes.unknown.shrink_to_fit();
}

/// Prefixes and the identifiers of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedRoutes {
    /// The prefixes.
    pub prefixes: Vec<Prefix>,
    /// The identifiers, in the same order; empty if there are none (RFC 7911).
    pub path_ids: Vec<u32>,
}

impl ReceivedRoutes {
    /// Each prefix with its path's identifier; 0 where there is none.
    pub fn routes(&self) -> impl Iterator<Item = (Prefix, u32)> {
        let path_ids = self.path_ids.iter().copied();
        let prefixes = self.prefixes.iter().copied();
        prefixes.zip(path_ids.chain(std::iter::repeat(0)))
    }
}

/// An UPDATE as the RIB takes it in. Whoever decodes it makes it, so that the owner of the RIB neither
/// hashes nor copies attributes.
#[derive(Clone, Debug)]
pub struct ReceivedUpdate {
    /// Routes that are gone.
    pub withdrawn: ReceivedRoutes,
    /// Routes that are new or changed.
    pub announced: Vec<(AttributeSet, ReceivedRoutes)>,
    /// The family whose initial routes are complete.
    pub end_of_rib: Option<Family>,
}

impl From<Update> for ReceivedUpdate {
    fn from(update: Update) -> Self {
        let announced = update.announced.into_iter();
        Self {
            withdrawn: ReceivedRoutes {
                prefixes: update.withdrawn,
                path_ids: update.withdrawn_path_ids,
            },
            announced: announced
                .map(|one| {
                    let routes = ReceivedRoutes {
                        prefixes: one.prefixes,
                        path_ids: one.path_ids,
                    };
                    (one.attributes.into(), routes)
                })
                .collect(),
            end_of_rib: update.end_of_rib,
        }
    }
}

/// A set of attributes in the [`Interner`]. Equal sets have equal ids as long as one is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttrId(u32);

#[cfg(test)]
impl AttrId {
    pub(super) const fn of(number: u32) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Slot {
    attributes: Arc<Attributes>,
    hash: u64,
    references: u32,
    /// Paths that were accepted with it: only their next hops matter.
    accepted: u32,
    /// Of accepted paths.
    next_hop: NextHopId,
}

/// Counted sets of attributes. Who stores an id holds a reference to it.
#[derive(Debug)]
pub(super) struct Interner {
    ids: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<AttrId>,
    next_hops: NextHops,
    /// Given for an id that is not held, which would be a mistake of ours.
    none: Arc<Attributes>,
}

impl Interner {
    pub(super) fn new(assume_reachable: bool) -> Self {
        let unspecified = NextHop::unspecified(Family::Ipv4Unicast);
        Self {
            ids: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_hops: NextHops::new(assume_reachable),
            none: Arc::new(Attributes::originated(unspecified)),
        }
    }

    /// The id of a set, with one more reference to it.
    pub(super) fn intern(&mut self, set: AttributeSet) -> AttrId {
        let Self { ids, slots, free, .. } = self;
        let slot = |id: &u32| slots.get(*id as usize).and_then(Option::as_ref);
        let is_it = |id: &u32| {
            slot(id).is_some_and(|slot| slot.hash == set.hash && slot.attributes == set.attributes)
        };
        let hash_of = |id: &u32| slot(id).map_or(0, |slot| slot.hash);
        let vacant = match ids.entry(set.hash, is_it, hash_of) {
            hashbrown::hash_table::Entry::Occupied(found) => {
                let id = AttrId(*found.get());
                self.retain(id);
                return id;
            }
            hashbrown::hash_table::Entry::Vacant(vacant) => vacant,
        };
        let slot = Some(Slot {
            attributes: set.attributes,
            hash: set.hash,
            references: 1,
            accepted: 0,
            next_hop: NextHopId::default(),
        });
        let id = match free.pop() {
            Some(id) => {
                if let Some(place) = slots.get_mut(id.0 as usize) {
                    *place = slot;
                }
                id
            }
            None => {
                slots.push(slot);
                AttrId((slots.len() - 1) as u32)
            }
        };
        vacant.insert(id.0);
        id
    }

    fn slot_mut(&mut self, id: AttrId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.0 as usize)?.as_mut();
        debug_assert!(slot.is_some(), "used a free id");
        slot
    }

    fn slot(&self, id: AttrId) -> Option<&Slot> {
        let slot = self.slots.get(id.0 as usize)?.as_ref();
        debug_assert!(slot.is_some(), "read a free id");
        slot
    }

    /// One more reference.
    pub(super) fn retain(&mut self, id: AttrId) {
        if let Some(slot) = self.slot_mut(id) {
            slot.references += 1;
        }
    }

    /// One reference less; the set goes with the last.
    pub(super) fn release(&mut self, id: AttrId) {
        let Some(slot) = self.slot_mut(id) else { return };
        slot.references -= 1;
        if slot.references > 0 {
            return;
        }
        let hash = slot.hash;
        if let Ok(found) = self.ids.find_entry(hash, |other| *other == id.0) {
            found.remove();
        }
        if self.ids.is_empty() {
            // Whatever it took goes back.
            (self.ids, self.slots, self.free) = (HashTable::new(), Vec::new(), Vec::new());
        } else if let Some(place) = self.slots.get_mut(id.0 as usize) {
            *place = None;
            self.free.push(id);
        }
    }

    /// One more path is accepted with these attributes: their next hop matters.
    pub(super) fn accept(&mut self, id: AttrId) {
        let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        slot.accepted += 1;
        if slot.accepted == 1 {
            slot.next_hop = self.next_hops.retain(Gateway::of(&slot.attributes));
        }
    }

    /// One accepted path less.
    pub(super) fn unaccept(&mut self, id: AttrId) {
        let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) else {
            return;
        };
        slot.accepted -= 1;
        if slot.accepted == 0 {
            self.next_hops.release(slot.next_hop);
        }
    }

    /// The set of an id.
    pub(super) fn get(&self, id: AttrId) -> &Arc<Attributes> {
        self.slot(id).map_or(&self.none, |slot| &slot.attributes)
    }

    /// The cost of the next hop of an accepted path; none if it cannot be used.
    pub(super) fn metric(&self, id: AttrId) -> Option<u32> {
        self.next_hops.metric(self.slot(id)?.next_hop)
    }

    /// The next hop of an accepted path.
    pub(super) fn next_hop(&self, id: AttrId) -> Option<NextHopId> {
        Some(self.slot(id)?.next_hop)
    }

    /// Store what is known of next hops; gives those whose metric or reachability changed.
    pub(super) fn set_next_hops(
        &mut self,
        states: impl IntoIterator<Item = (impl Into<Gateway>, NextHopState)>,
    ) -> rustc_hash::FxHashSet<NextHopId> {
        self.next_hops.set(states)
    }

    /// Next hops whose use began or ended.
    pub(super) fn poll_next_hops(&mut self) -> Vec<NextHopInterest> {
        self.next_hops.poll()
    }

    /// How many next hops are in use.
    pub(super) fn next_hop_count(&self) -> usize {
        self.next_hops.len()
    }

    /// How many sets are held.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// What the sets take, in bytes, with the tables that name them.
    pub(super) fn bytes(&self) -> usize {
        let sets = self
            .slots
            .iter()
            .flatten()
            .map(|slot| set_bytes(&slot.attributes));
        sets.sum::<usize>()
            + self.slots.capacity() * size_of::<Option<Slot>>()
            + self.free.capacity() * size_of::<AttrId>()
            + self.ids.allocation_size()
    }
}

/// The counters of an `Arc`.
const ARC_BYTES: usize = 2 * size_of::<usize>();

fn set_bytes(attributes: &Attributes) -> usize {
    let AsPath { segments } = &attributes.as_path;
    let ases = segments
        .iter()
        .map(|segment| size_of_val(segment.ases.as_slice()));
    let unknown = attributes.unknown.iter().map(|attribute| attribute.value.len());
    ARC_BYTES
        + size_of::<Attributes>()
        + segments.len() * size_of::<Segment>()
        + ases.sum::<usize>()
        + size_of_val(attributes.communities.as_slice())
        + size_of_val(attributes.cluster_list.as_slice())
        + size_of_val(attributes.extended_communities.as_slice())
        + size_of_val(attributes.large_communities.as_slice())
        + attributes.unknown.len() * size_of::<UnknownAttribute>()
        + unknown.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(med: u32) -> AttributeSet {
        let mut attributes = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
        attributes.med = Some(med);
        attributes.into()
    }

    #[test]
    fn equal_sets_are_stored_once_and_freed_with_their_last_reference() {
        let mut interner = Interner::new(true);
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
        interner.release(two);
        interner.release(three);
        assert_eq!((interner.len(), interner.bytes()), (0, 0));
    }
}
