//! Sets of path attributes, each stored once and named by a small number.
//!
//! A set comes packed and hashed ([`AttributeSet`]): whoever decodes it does that, so that the owner of the RIB
//! only compares octets. It stays packed: selection reads it in place, and it is unpacked for policies that look
//! at attributes, for what goes out, and for those who look.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};

use hashbrown::DefaultHashBuilder;
use rustc_hash::FxHashSet;

use super::index::Index;
use super::next_hops::{
    Gateway, Interfaces, NextHopChanges, NextHopId, NextHopInterest, NextHopState, NextHops,
};
use super::packed::{self, Packed};
use super::sys;
use crate::wire::{Attributes, Family, Prefix, Update};

static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// A set of attributes as the RIB stores it, ready to be looked up there.
#[derive(Clone, Debug)]
pub struct AttributeSet {
    octets: Box<[u8]>,
    hash: u32,
}

impl AttributeSet {
    /// To look at it in place.
    pub(super) fn packed(&self) -> Packed<'_> {
        Packed::new(&self.octets)
    }
}

impl From<&Attributes> for AttributeSet {
    fn from(attributes: &Attributes) -> Self {
        thread_local! {
            static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        ROOM.with_borrow_mut(|room| {
            room.clear();
            packed::pack(attributes, room);
            Self {
                octets: room.as_slice().into(),
                hash: (HASHER.hash_one(room.as_slice()) >> 32) as u32,
            }
        })
    }
}

impl From<Attributes> for AttributeSet {
    fn from(attributes: Attributes) -> Self {
        Self::from(&attributes)
    }
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

impl ReceivedUpdate {
    /// All that it is about, withdrawn and announced.
    pub fn prefixes(&self) -> impl Iterator<Item = &Prefix> + Clone {
        let announced = self.announced.iter().flat_map(|(_, routes)| &routes.prefixes);
        self.withdrawn.prefixes.iter().chain(announced)
    }

    /// How many prefixes it is about; one that occurs twice counts twice.
    pub fn prefix_count(&self) -> usize {
        let announced = self.announced.iter().map(|(_, routes)| routes.prefixes.len());
        self.withdrawn.prefixes.len() + announced.sum::<usize>()
    }
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
pub(super) struct AttrId(NonZeroU32);

impl AttrId {
    /// The id of a place among the slots. The last place of all has none, and is never reached.
    pub(super) const fn of(place: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place))
    }

    const fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
struct Slot {
    octets: Box<[u8]>,
    hash: u32,
    references: u32,
    /// Paths that were accepted with it: only their next hops matter.
    accepted: u32,
    /// Of accepted paths.
    next_hop: NextHopId,
}

/// A set that was unpacked.
type Recent = Option<(AttrId, Arc<Attributes>)>;

/// Sets that were unpacked last and are kept for who asks for the same again: neighbouring prefixes often share one.
const RECENT: usize = 16;

/// Counted sets of attributes. Who stores an id holds a reference to it.
#[derive(Debug)]
pub(super) struct Interner {
    ids: Index,
    slots: Vec<Option<Slot>>,
    free: Vec<AttrId>,
    next_hops: NextHops,
    /// Sets whose next hops matter though no path may be accepted with them: the link that a next hop is reached by
    /// decides. They count as one accepted path.
    watched: FxHashSet<AttrId>,
    /// By their ids' last bits.
    recent: RefCell<[Recent; RECENT]>,
}

impl Interner {
    pub(super) fn new(assume_reachable: bool) -> Self {
        Self {
            ids: Index::default(),
            slots: Vec::new(),
            free: Vec::new(),
            next_hops: NextHops::new(assume_reachable),
            watched: FxHashSet::default(),
            recent: RefCell::default(),
        }
    }

    /// The id of a set, with one more reference to it.
    pub(super) fn intern(&mut self, set: AttributeSet) -> AttrId {
        let Self { ids, slots, free, .. } = self;
        let hash = set.hash;
        let slot = |place: u32| slots.get(place as usize).and_then(Option::as_ref);
        if let Some(place) = ids.find(hash, |place| {
            slot(place).is_some_and(|slot| slot.octets == set.octets)
        }) {
            let id = AttrId::of(place);
            self.retain(id);
            return id;
        }
        let slot = Some(Slot {
            octets: set.octets,
            hash,
            references: 1,
            accepted: 0,
            next_hop: NextHopId::default(),
        });
        let id = match free.pop() {
            Some(id) => {
                if let Some(free) = slots.get_mut(id.place()) {
                    *free = slot;
                }
                id
            }
            None => {
                slots.push(slot);
                AttrId::of((slots.len() - 1) as u32)
            }
        };
        ids.insert(hash, id.place() as u32);
        id
    }

    fn slot_mut(&mut self, id: AttrId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.place())?.as_mut();
        debug_assert!(slot.is_some(), "used a free id");
        slot
    }

    fn slot(&self, id: AttrId) -> Option<&Slot> {
        let slot = self.slots.get(id.place())?.as_ref();
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
        let (hash, place) = (slot.hash, id.place());
        if self.watched.remove(&id) {
            self.unaccept(id);
        }
        self.ids.remove(hash, place as u32);
        if let Some(recent) = self.recent.get_mut().get_mut(place % RECENT)
            && recent.as_ref().is_some_and(|(other, _)| *other == id)
        {
            *recent = None;
        }
        if self.ids.is_empty() {
            // Whatever it took goes back.
            (self.ids, self.slots, self.free) = (Index::default(), Vec::new(), Vec::new());
        } else if let Some(slot) = self.slots.get_mut(place) {
            *slot = None;
            self.free.push(id);
        }
    }

    /// The next hop of these attributes matters as long as they are in store.
    pub(super) fn watch(&mut self, id: AttrId) {
        if self.watched.insert(id) {
            self.accept(id);
        }
    }

    /// One more path is accepted with these attributes: their next hop matters.
    pub(super) fn accept(&mut self, id: AttrId) {
        let Some(Some(slot)) = self.slots.get_mut(id.place()) else {
            return;
        };
        slot.accepted += 1;
        if slot.accepted == 1 {
            slot.next_hop = self.next_hops.retain(Packed::new(&slot.octets).gateway());
        }
    }

    /// One accepted path less.
    pub(super) fn unaccept(&mut self, id: AttrId) {
        let Some(Some(slot)) = self.slots.get_mut(id.place()) else {
            return;
        };
        slot.accepted -= 1;
        if slot.accepted == 0 {
            self.next_hops.release(slot.next_hop);
        }
    }

    /// What is counted for an id is about to change.
    pub(super) fn expect(&self, id: AttrId) {
        sys::read_ahead(&self.slots, id.place());
    }

    /// The set of an id is about to be read, and perhaps to go.
    pub(super) fn expect_set(&self, id: AttrId) {
        if let Some(slot) = self.slot(id) {
            sys::read_ahead(&slot.octets, 0);
            self.ids.expect(slot.hash);
        }
    }

    /// A set is about to be looked up.
    pub(super) fn expect_lookup(&self, set: &AttributeSet) {
        self.ids.expect(set.hash);
    }

    /// The set of an id, to look at in place.
    pub(super) fn get(&self, id: AttrId) -> Packed<'_> {
        Packed::new(self.slot(id).map_or(&[], |slot| &slot.octets))
    }

    /// The set of an id. Who asks for the same several times in a row gets the same.
    pub(super) fn unpacked(&self, id: AttrId) -> Arc<Attributes> {
        let mut recent = self.recent.borrow_mut();
        let place = recent.get_mut(id.place() % RECENT);
        if let Some(Some((other, attributes))) = place.as_deref()
            && *other == id
        {
            return Arc::clone(attributes);
        }
        let attributes = Arc::new(self.get(id).unpack());
        if let Some(place) = place {
            *place = Some((id, Arc::clone(&attributes)));
        }
        attributes
    }

    /// The cost of the next hop of an accepted path; none if it cannot be used.
    pub(super) fn metric(&self, id: AttrId) -> Option<u32> {
        self.next_hops.metric(self.slot(id)?.next_hop)
    }

    /// The next hop of an accepted path.
    pub(super) fn next_hop(&self, id: AttrId) -> Option<NextHopId> {
        Some(self.slot(id)?.next_hop)
    }

    /// Store what is known of next hops; gives what changed.
    pub(super) fn set_next_hops(
        &mut self,
        states: impl IntoIterator<Item = (impl Into<Gateway>, NextHopState)>,
    ) -> NextHopChanges {
        self.next_hops.set(states)
    }

    /// The links that next hops in use are reached by.
    pub(super) fn interfaces(&self) -> Interfaces {
        self.next_hops.interfaces()
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
        let sets = self.slots.iter().flatten().map(|slot| slot.octets.len());
        sets.sum::<usize>()
            + self.slots.capacity() * size_of::<Option<Slot>>()
            + self.free.capacity() * size_of::<AttrId>()
            + self.ids.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NextHop;

    #[test]
    fn a_slot_takes_32_bytes() {
        assert_eq!(size_of::<Option<Slot>>(), 32);
    }

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
        assert_eq!(interner.unpacked(again).med, Some(1));
        interner.release(again);
        assert_eq!(interner.len(), 1);
        // The place is used again, and names another set now.
        assert_eq!(interner.unpacked(two).med, Some(2));
        let three = interner.intern(attributes(3));
        assert_eq!(three, one);
        assert_eq!(interner.unpacked(three).med, Some(3));
        assert_eq!(
            (interner.get(three).med(), interner.get(two).med()),
            (Some(3), Some(2))
        );
        interner.release(two);
        interner.release(three);
        assert_eq!((interner.len(), interner.bytes()), (0, 0));
    }
}
