//! One entry a prefix: what is wanted for it and what the kernel has of ours. An entry has a number, so that its
//! prefix is looked up once on the way into the kernel.

use hashbrown::{HashTable, hash_table};
use netlink::{Hop, Route, RouteKind};
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::next_hop_sets::SetId;
use super::resolve::Hops;
use crate::wire::Prefix;

use std::hash::BuildHasher;
use std::sync::Arc;

/// The number of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Where the entry of a prefix is. The prefix itself is in the entry: a small index stays in the cache.
#[derive(Clone, Copy, Debug)]
struct Place {
    hash: u32,
    slot: Slot,
}

impl Place {
    /// Of a prefix, to be kept: growing the index must not read the entries.
    fn hash(prefix: &Prefix) -> u32 {
        let hash = FxBuildHasher.hash_one(prefix);
        (hash ^ (hash >> 32)) as u32
    }

    /// The index looks at the highest and the lowest bits.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn spread_again(&self) -> u64 {
        Self::spread(self.hash)
    }
}

/// What is wanted for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantedRoute {
    pub(super) set: SetId,
    pub(super) metric: u32,
}

/// How a route of ours leads out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain(Arc<Hops>),
    Group(u32),
    /// Packets are dropped.
    Discard,
}

impl Shape {
    /// As the kernel shows it.
    pub(super) fn of(route: &Route) -> Self {
        match route.next_hop_id {
            Some(id) => Self::Group(id),
            None if route.kind == RouteKind::Blackhole => Self::Discard,
            // Of another kind it is not from us: without hops it equals nothing that is wanted.
            None if route.kind != RouteKind::Unicast => Self::Plain(Arc::default()),
            None => {
                let usable = |hop: &Hop| Hop {
                    unusable: false,
                    ..*hop
                };
                let mut hops: Hops = route.hops.iter().map(usable).collect();
                hops.sort_unstable();
                Self::Plain(Arc::new(hops))
            }
        }
    }

    /// Whether the kernel shows a route so.
    fn describes(&self, route: &Route) -> bool {
        match (self, route.next_hop_id) {
            (Self::Group(id), shown) => shown == Some(*id),
            (Self::Discard, None) => route.kind == RouteKind::Blackhole,
            // Most have one way out: nothing is sorted, and nothing allocated.
            (Self::Plain(hops), None) => match (hops.as_slice(), route.hops.as_slice()) {
                ([wanted], [shown]) if route.kind == RouteKind::Unicast => {
                    Hop {
                        unusable: wanted.unusable,
                        ..*shown
                    } == *wanted
                }
                _ => *self == Self::of(route),
            },
            _ => false,
        }
    }
}

/// A route of ours in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) metric: u32,
    pub(super) shape: Shape,
    /// Found at the start, and not wanted so far.
    pub(super) stale: bool,
    /// Seen in the current read-back.
    sighted: bool,
}

impl Held {
    pub(super) fn new(metric: u32, shape: Shape, stale: bool) -> Self {
        Self {
            metric,
            shape,
            stale,
            sighted: false,
        }
    }
}

/// Of a prefix, one for each metric.
pub(super) type HeldRoutes = SmallVec<[Held; 1]>;

/// A prefix.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) prefix: Prefix,
    pub(super) wanted: Option<WantedRoute>,
    /// To be looked at.
    pub(super) dirty: bool,
    /// A change is on its way to the kernel.
    pub(super) in_flight: bool,
    held: HeldRoutes,
}

impl Entry {
    /// What the kernel has.
    pub(super) fn held(&self) -> &[Held] {
        &self.held
    }
}

/// All entries, and sums over them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    places: HashTable<Place>,
    held: usize,
    stale: usize,
    group_users: FxHashMap<u32, usize>,
}

impl Routes {
    /// The entry of a prefix, made if need be.
    pub(super) fn entry(&mut self, prefix: Prefix) -> Slot {
        let hash = Place::hash(&prefix);
        let is_it = |place: &Place| place.hash == hash && has_prefix(&self.entries, place.slot, &prefix);
        let vacant = match self.places.entry(Place::spread(hash), is_it, Place::spread_again) {
            hash_table::Entry::Occupied(known) => return known.get().slot,
            hash_table::Entry::Vacant(vacant) => vacant,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            Slot((self.entries.len() - 1) as u32)
        });
        if let Some(place) = self.entries.get_mut(slot.0 as usize) {
            *place = Some(Entry {
                prefix,
                wanted: None,
                dirty: false,
                in_flight: false,
                held: HeldRoutes::new(),
            });
        }
        vacant.insert(Place { hash, slot });
        slot
    }

    /// These are looked for next. In a large table each look is a wait for memory, which looks that do not depend on
    /// each other share.
    pub(super) fn expect<'a>(&self, prefixes: impl Iterator<Item = &'a Prefix>) {
        let found = prefixes.filter(|prefix| {
            let hash = Place::hash(prefix);
            self.places
                .find(Place::spread(hash), |place| place.hash == hash)
                .is_some()
        });
        std::hint::black_box(found.count());
    }

    /// The number of a prefix, if it has an entry.
    pub(super) fn slot(&self, prefix: &Prefix) -> Option<Slot> {
        let hash = Place::hash(prefix);
        let is_it = |place: &Place| place.hash == hash && has_prefix(&self.entries, place.slot, prefix);
        let found = self.places.find(Place::spread(hash), is_it)?;
        Some(found.slot)
    }

    /// The entry of a prefix, if there is one.
    pub(super) fn find(&self, prefix: &Prefix) -> Option<&Entry> {
        self.get(self.slot(prefix)?)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(slot.0 as usize)?.as_mut()
    }

    /// All entries with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Entry)> {
        let numbered = self.entries.iter().enumerate();
        numbered.filter_map(|(at, entry)| Some((Slot(at as u32), entry.as_ref()?)))
    }

    /// The kernel has this route now, in the place of one with the same metric.
    pub(super) fn hold(&mut self, slot: Slot, held: Held) {
        self.release(slot, held.metric);
        self.count(&held);
        if let Some(entry) = self.get_mut(slot) {
            entry.held.push(held);
        }
    }

    /// The kernel has no route of ours with this metric.
    pub(super) fn release(&mut self, slot: Slot, metric: u32) {
        let Some(entry) = self.get_mut(slot) else { return };
        let Some(at) = entry.held.iter().position(|held| held.metric == metric) else {
            return;
        };
        let gone = entry.held.swap_remove(at);
        self.discount(&gone);
    }

    /// A read-back begins: nothing is seen yet.
    pub(super) fn begin_sight(&mut self) {
        let entries = self.entries.iter_mut().flatten();
        entries
            .flat_map(|entry| &mut entry.held)
            .for_each(|held| held.sighted = false);
    }

    /// The kernel has a route. False if that is not as we believed.
    pub(super) fn sight(&mut self, route: &Route) -> bool {
        let Some(slot) = self.slot(&route.destination) else {
            return false;
        };
        let held = self.get_mut(slot).map(|entry| &mut entry.held);
        let mut held = held.into_iter().flatten();
        let Some(held) = held.find(|held| held.metric == route.metric) else {
            return false;
        };
        held.sighted = held.shape.describes(route);
        held.sighted
    }

    /// What the read-back has not shown as we believed it to be, by its number and metric.
    pub(super) fn unsighted(&self) -> Vec<(Slot, u32)> {
        let unsighted = |(slot, entry): (Slot, &Entry)| {
            let held = entry.held.iter().filter(|held| !held.sighted);
            held.map(|held| (slot, held.metric)).collect::<SmallVec<[_; 1]>>()
        };
        self.iter().flat_map(unsighted).collect()
    }

    /// A route that was found at the start is wanted.
    pub(super) fn confirm(&mut self, slot: Slot, metric: u32) {
        let Some(Some(entry)) = self.entries.get_mut(slot.0 as usize) else {
            return;
        };
        let found = entry
            .held
            .iter_mut()
            .find(|held| held.metric == metric && held.stale);
        if let Some(held) = found {
            held.stale = false;
            self.stale -= 1;
        }
    }

    fn count(&mut self, held: &Held) {
        self.held += 1;
        self.stale += usize::from(held.stale);
        if let Shape::Group(id) = held.shape {
            *self.group_users.entry(id).or_default() += 1;
        }
    }

    fn discount(&mut self, held: &Held) {
        self.held -= 1;
        self.stale -= usize::from(held.stale);
        if let Shape::Group(id) = held.shape
            && let Some(users) = self.group_users.get_mut(&id)
        {
            *users -= 1;
            if *users == 0 {
                self.group_users.remove(&id);
            }
        }
    }

    /// Forgets an entry that says nothing.
    pub(super) fn tidy(&mut self, slot: Slot) {
        let Some(place) = self.entries.get_mut(slot.0 as usize) else {
            return;
        };
        if let Some(entry) = place
            && entry.wanted.is_none()
            && entry.held.is_empty()
            && !entry.dirty
            && !entry.in_flight
        {
            let hash = Place::spread(Place::hash(&entry.prefix));
            if let Ok(known) = self.places.find_entry(hash, |place| place.slot == slot) {
                known.remove();
            }
            *place = None;
            self.free.push(slot);
        }
    }

    /// Routes of ours that the kernel has.
    pub(super) fn held_count(&self) -> usize {
        self.held
    }

    /// Of these, found at the start and not wanted so far.
    pub(super) fn stale_count(&self) -> usize {
        self.stale
    }

    /// Whether routes use a group.
    pub(super) fn uses_group(&self, id: u32) -> bool {
        self.group_users.contains_key(&id)
    }
}

fn has_prefix(entries: &[Option<Entry>], slot: Slot, prefix: &Prefix) -> bool {
    let entry = entries.get(slot.0 as usize).and_then(Option::as_ref);
    entry.is_some_and(|entry| entry.prefix == *prefix)
}
