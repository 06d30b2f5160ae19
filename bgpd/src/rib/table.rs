//! All paths by prefix: the Adj-RIBs-In, the Loc-RIB and what of it the peers were told, in one table a
//! family.
//!
//! A prefix has a *place*, a small number that it keeps as long as anything is known of it. What waits for
//! work is a set of places, and Adj-RIBs-Out take no memory at all: they follow from the best path (see
//! `groups`). What a prefix takes:
//!
//! | bytes | for |
//! |---|---|
//! | 24 | [`Entry`]: its only path, 4 octets of its address, its length |
//! | 12 | the rest of an IPv6 address, in an array of its own |
//! | 10 to 12.5 | its slot in the index, which is between 64 % and 80 % full |
//! | 48, then 16 a path | more than one path, on the heap |

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::DefaultHashBuilder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustc_hash::FxHashMap;

use super::bits::BitSet;
use super::index::Index;
use super::intern::AttrId;
use super::paths::{Choices, Chosen, Path, Paths};
use super::sources::SourceId;
use super::sys;
use crate::wire::{Family, Prefix};

/// A map that keeps its order of insertion.
pub(super) type IndexMap<K, V> = indexmap::IndexMap<K, V, rustc_hash::FxBuildHasher>;
/// A set that keeps its order of insertion.
pub(super) type IndexSet<T> = indexmap::IndexSet<T, rustc_hash::FxBuildHasher>;

/// A place that holds no prefix.
const FREE: u8 = u8::MAX;
/// The end of the list of free places.
const NO_PLACE: u32 = u32::MAX;
/// Most members of update groups that can wait for one prefix and let go of it again.
const HOLDS_MAX: u16 = u16::MAX;

/// A prefix.
#[derive(Debug)]
pub(super) struct Entry {
    /// At most one a source; the chosen ones first, the best at the front.
    paths: Paths,
    /// The first four octets of the address; of a free place, the next free one.
    head: u32,
    /// Members of update groups that are to be told of it later.
    holds: u16,
    /// In bits.
    length: u8,
    /// How many of the paths are selected.
    chosen: u8,
}

impl Entry {
    pub(super) fn paths(&self) -> &[Path] {
        self.paths.as_slice()
    }

    /// The best path and those equal to it, the best first.
    pub(super) fn chosen(&self) -> impl Iterator<Item = Chosen> {
        let selected = self.paths().iter().take(self.chosen.into());
        selected.filter_map(|path| {
            Some(Chosen {
                source: path.source,
                attributes: path.accepted().ok()?,
            })
        })
    }

    pub(super) fn best(&self) -> Option<Chosen> {
        self.chosen().next()
    }

    /// All usable paths in the order of preference, if the table ranks them.
    pub(super) fn ranked(&self) -> impl Iterator<Item = Chosen> {
        let ranked = self.paths().iter().take_while(|path| path.ranked);
        ranked.filter_map(|path| {
            Some(Chosen {
                source: path.source,
                attributes: path.accepted().ok()?,
            })
        })
    }

    /// Whether nothing but its being noted somewhere keeps it.
    fn is_unused(&self) -> bool {
        self.paths.as_slice().is_empty() && self.holds == 0
    }

    fn is_free(&self) -> bool {
        self.length == FREE
    }
}

/// A prefix whose best path changed since the peers were told of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) place: u32,
    /// What they were told of. It holds a reference to its attributes and its source.
    pub(super) told: Option<Chosen>,
}

/// A path that peers with add-path were told of. It holds a reference to its source and its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToldPath {
    pub(super) source: SourceId,
    /// None: the source was different then, so that what the peers were told does not follow from these.
    pub(super) attributes: Option<AttrId>,
}

impl ToldPath {
    /// The path as it was then, if that is known.
    pub(super) fn as_chosen(&self) -> Option<Chosen> {
        Some(Chosen {
            source: self.source,
            attributes: self.attributes?,
        })
    }
}

/// The address and length of a prefix as the table compares them.
#[derive(Clone, Copy, Hash, PartialEq, Eq)]
struct Key {
    head: u32,
    tail: [u8; 12],
    length: u8,
}

impl Key {
    fn of(prefix: &Prefix) -> Self {
        let length = prefix.prefix_len();
        match prefix {
            IpNet::V4(net) => Self {
                head: net.network().to_bits(),
                tail: [0; 12],
                length,
            },
            IpNet::V6(net) => {
                let bits = net.network().to_bits();
                let octets = bits.to_be_bytes();
                let (_, tail) = octets.split_at(4);
                Self {
                    head: (bits >> 96) as u32,
                    tail: tail.try_into().unwrap_or_default(),
                    length,
                }
            }
        }
    }
}

/// The table of a family.
#[derive(Debug)]
pub(super) struct Table {
    family: Family,
    entries: Vec<Entry>,
    /// The rest of IPv6 addresses, by place.
    tails: Vec<[u8; 12]>,
    first_free: u32,
    index: Index,
    hasher: DefaultHashBuilder,
    /// Prefixes that peers are to be told of, in the order in which they changed, each once.
    pending: VecDeque<Pending>,
    is_pending: BitSet,
    /// Prefixes whose selection changed since the kernel was told.
    fib: BitSet,
    /// All usable paths are ranked, because there are peers with add-path: at least this many in the order
    /// of preference.
    ranking: Option<usize>,
    /// The paths, in the order of preference, that peers with add-path were told of pending prefixes.
    told_paths: FxHashMap<u32, Box<[ToldPath]>>,
}

impl Table {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            entries: Vec::new(),
            tails: Vec::new(),
            first_free: NO_PLACE,
            index: Index::default(),
            hasher: DefaultHashBuilder::default(),
            pending: VecDeque::new(),
            is_pending: BitSet::default(),
            fib: BitSet::default(),
            ranking: None,
            told_paths: FxHashMap::default(),
        }
    }

    /// One more than the highest place in use.
    pub(super) fn places(&self) -> u32 {
        self.entries.len() as u32
    }

    /// The place of a prefix, if anything is known of it.
    pub(super) fn find(&self, prefix: &Prefix) -> Option<u32> {
        let key = Key::of(prefix);
        self.index.find(hash(&self.hasher, &key), |place| {
            key_at(&self.entries, &self.tails, place) == Some(key)
        })
    }

    /// Prefixes are about to be looked up: what that reads is asked for here for all of them, so that waiting for
    /// memory is not once for each. Gives their places, which may be wrong where hashes are equal.
    pub(super) fn expect<'a>(
        &self,
        prefixes: impl Iterator<Item = &'a Prefix> + Clone,
    ) -> impl Iterator<Item = u32> {
        let hashes = prefixes.map(|prefix| hash(&self.hasher, &Key::of(prefix)));
        hashes.clone().for_each(|hash| self.index.expect(hash));
        hashes.filter_map(|hash| {
            let place = self.index.likely(hash)?;
            sys::read_ahead(&self.entries, place as usize);
            Some(place)
        })
    }

    /// The same for a prefix that may be about to be forgotten.
    pub(super) fn expect_forgotten(&self, place: u32) {
        if self.entry(place).is_some_and(Entry::is_unused)
            && let Some(key) = key_at(&self.entries, &self.tails, place)
        {
            self.index.expect(hash(&self.hasher, &key));
        }
    }

    /// The place of a prefix, made if need be.
    pub(super) fn find_or_add(&mut self, prefix: &Prefix) -> u32 {
        let key = Key::of(prefix);
        let hash = hash(&self.hasher, &key);
        let Self {
            entries,
            tails,
            index,
            first_free,
            ..
        } = self;
        if let Some(place) = index.find(hash, |place| key_at(entries, tails, place) == Some(key)) {
            return place;
        }
        let entry = Entry {
            paths: Paths::None,
            head: key.head,
            holds: 0,
            length: key.length,
            chosen: 0,
        };
        let wide = self.family == Family::Ipv6Unicast;
        let place = match entries.get_mut(*first_free as usize) {
            Some(free) => {
                let place = std::mem::replace(first_free, free.head);
                *free = entry;
                if let Some(tail) = tails.get_mut(place as usize) {
                    *tail = key.tail;
                }
                place
            }
            None => {
                entries.push(entry);
                if wide {
                    tails.push(key.tail);
                }
                (entries.len() - 1) as u32
            }
        };
        index.insert(hash, place);
        place
    }

    pub(super) fn entry(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place as usize).filter(|entry| !entry.is_free())
    }

    /// The prefix at a place.
    pub(super) fn prefix(&self, place: u32) -> Option<Prefix> {
        let key = key_at(&self.entries, &self.tails, place)?;
        let net = match self.family {
            Family::Ipv4Unicast => IpNet::V4(Ipv4Net::new(Ipv4Addr::from(key.head), key.length).ok()?),
            Family::Ipv6Unicast => {
                let mut octets = [0; 16];
                let (head, tail) = octets.split_at_mut(4);
                head.copy_from_slice(&key.head.to_be_bytes());
                tail.copy_from_slice(&key.tail);
                IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), key.length).ok()?)
            }
        };
        Some(net)
    }

    /// The places of prefixes that have a path, in no order that means anything.
    pub(super) fn live(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.live_in(0..u32::MAX)
    }

    /// Of these, the ones in a range.
    pub(super) fn live_in(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = (u32, &Entry)> {
        let live = |(_, entry): &(u32, &Entry)| !entry.paths().is_empty();
        let first = (range.start as usize).min(self.entries.len());
        let entries = self.entries.get(first..).unwrap_or_default();
        range.zip(entries).filter(live)
    }

    pub(super) fn chosen(&self, place: u32) -> Choices {
        self.entry(place).into_iter().flat_map(Entry::chosen).collect()
    }

    pub(super) fn best(&self, place: u32) -> Option<Chosen> {
        self.entry(place)?.best()
    }

    fn entry_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.entries.get_mut(place as usize)
    }

    /// Store a path; gives the one that it replaces.
    pub(super) fn put_path(&mut self, place: u32, path: Path) -> Option<Path> {
        self.entry_mut(place)?.paths.put(path)
    }

    pub(super) fn remove_path(&mut self, place: u32, source: SourceId) -> Option<Path> {
        self.entry_mut(place)?.paths.remove(source)
    }

    /// Store a path of a prefix that has none, and is not ranked; whether that is so.
    pub(super) fn put_only(&mut self, place: u32, path: Path) -> bool {
        let free = self.ranking.is_none();
        match self
            .entry_mut(place)
            .filter(|entry| free && entry.paths().is_empty())
        {
            Some(entry) => {
                entry.paths = Paths::One(path);
                true
            }
            None => false,
        }
    }

    /// Note that the only path of a prefix is selected.
    pub(super) fn choose_only(&mut self, place: u32) {
        if let Some(entry) = self.entry_mut(place) {
            entry.chosen = 1;
        }
    }

    /// Take out the path of a prefix that has only this one, and is not ranked; gives it, and whether it was
    /// selected.
    pub(super) fn remove_only(&mut self, place: u32, source: SourceId) -> Option<(Path, Option<Chosen>)> {
        if self.ranking.is_some() {
            return None;
        }
        let entry = self.entry_mut(place)?;
        let path = entry.paths.only().filter(|path| path.source == source)?;
        let best = entry.best();
        (entry.paths, entry.chosen) = (Paths::None, 0);
        Some((path, best))
    }

    /// Note the selection: paths that are there, the best first.
    pub(super) fn set_chosen(&mut self, place: u32, chosen: &[Chosen]) {
        if let Some(entry) = self.entry_mut(place) {
            entry.paths.bring_forward(chosen);
            entry.chosen = chosen.len().min(u8::MAX.into()) as u8;
        }
    }

    /// How many paths are to be in the order of preference, and all usable ones ranked; none where nobody wants it.
    pub(super) fn ranking(&self) -> Option<usize> {
        self.ranking
    }

    pub(super) fn set_ranking(&mut self, ranking: Option<usize>) {
        self.ranking = ranking;
    }

    /// All usable paths of a prefix in the order of preference; empty if the table does not rank them.
    pub(super) fn ranked(&self, place: u32) -> Choices {
        let entry = self.entry(place).filter(|_| self.ranking.is_some());
        entry.into_iter().flat_map(Entry::ranked).collect()
    }

    /// Note the usable paths, those first that are chosen.
    pub(super) fn set_ranked(&mut self, place: u32, ranked: &[Chosen]) {
        if let Some(entry) = self.entry_mut(place) {
            entry.paths.rank(ranked);
        }
    }

    /// What peers with add-path were told of a prefix that has just become pending.
    pub(super) fn note_told(&mut self, place: u32, told: Box<[ToldPath]>) {
        self.told_paths.insert(place, told);
    }

    /// Whether it is remembered of any prefix what peers with add-path were told.
    pub(super) fn has_told(&self) -> bool {
        !self.told_paths.is_empty()
    }

    /// Take what peers with add-path were told of a prefix that is pending no longer.
    pub(super) fn take_told(&mut self, place: u32) -> Box<[ToldPath]> {
        self.told_paths.remove(&place).unwrap_or_default()
    }

    /// Mark the paths of these sources as stale; gives their number.
    pub(super) fn mark_stale(&mut self, of: impl Fn(SourceId) -> bool) -> usize {
        let paths = self
            .entries
            .iter_mut()
            .flat_map(|entry| entry.paths.as_mut_slice());
        let marked = paths.filter(|path| of(path.source)).map(|path| path.stale = true);
        marked.count()
    }

    pub(super) fn has_path(&self, wanted: impl Fn(&Path) -> bool) -> bool {
        self.live().any(|(_, entry)| entry.paths().iter().any(&wanted))
    }

    /// The best path of a prefix is another than `told`; true if it was not pending yet: then `told` is
    /// kept and must hold a reference.
    pub(super) fn note_pending(&mut self, place: u32, told: Option<Chosen>) -> bool {
        let new = self.is_pending.insert(place);
        if new {
            self.pending.push_back(Pending { place, told });
        }
        new
    }

    /// Whether peers are to be told of a prefix.
    pub(super) fn is_pending(&self, place: u32) -> bool {
        self.is_pending.contains(place)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Take the first of the pending prefixes.
    pub(super) fn take_pending(&mut self, count: usize) -> VecDeque<Pending> {
        let rest = self.pending.split_off(count.min(self.pending.len()));
        let taken = std::mem::replace(&mut self.pending, rest);
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
            self.is_pending.clear();
        } else {
            for pending in &taken {
                self.is_pending.remove(pending.place);
            }
        }
        taken
    }

    /// The kernel is to be told of a prefix.
    pub(super) fn note_fib(&mut self, place: u32) {
        self.fib.insert(place);
    }

    pub(super) fn take_fib(&mut self) -> Option<u32> {
        self.fib.pop()
    }

    /// Of how many prefixes the kernel is to be told.
    pub(super) fn fib_len(&self) -> usize {
        self.fib.len()
    }

    /// A member of a group will be told of a prefix later.
    pub(super) fn hold(&mut self, place: u32) {
        if let Some(entry) = self.entry_mut(place) {
            entry.holds = entry.holds.saturating_add(1);
        }
    }

    /// It was told. A count that was ever at its limit stays there, and its place is never used again.
    pub(super) fn let_go(&mut self, place: u32) {
        if let Some(entry) = self.entry_mut(place)
            && entry.holds < HOLDS_MAX
        {
            entry.holds = entry.holds.saturating_sub(1);
        }
        self.drop_if_unused(place);
    }

    /// Forget a prefix that has no path and that nobody is to be told of.
    pub(super) fn drop_if_unused(&mut self, place: u32) {
        // The sets first: they are small, and near.
        if self.is_pending.contains(place)
            || self.fib.contains(place)
            || self.entry(place).is_none_or(|entry| !entry.is_unused())
        {
            return;
        }
        let Some(key) = key_at(&self.entries, &self.tails, place) else {
            return;
        };
        self.index.remove(hash(&self.hasher, &key), place);
        if self.index.is_empty() {
            // Whatever it took goes back.
            *self = Self {
                ranking: self.ranking,
                ..Self::new(self.family)
            };
            return;
        }
        let next_free = std::mem::replace(&mut self.first_free, place);
        if let Some(entry) = self.entry_mut(place) {
            (entry.length, entry.head) = (FREE, next_free);
        }
    }

    /// Prefixes and paths.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.live().fold((0, 0), |(prefixes, paths), (_, entry)| {
            (prefixes + 1, paths + entry.paths().len())
        })
    }

    /// What the table takes, in bytes; memory that it could fill without growing is not counted.
    pub(super) fn bytes(&self) -> usize {
        let heap: usize = self.entries.iter().map(|entry| entry.paths.heap_bytes()).sum();
        self.entries.len() * size_of::<Entry>()
            + self.tails.len() * 12
            + self.index.bytes()
            + self.pending.len() * size_of::<Pending>()
            + self.is_pending.bytes()
            + self.fib.bytes()
            + self.told_bytes()
            + heap
    }
}

impl Table {
    fn told_bytes(&self) -> usize {
        let paths: usize = self.told_paths.values().map(|told| size_of_val(&**told)).sum();
        self.told_paths.capacity() * size_of::<(u32, Box<[ToldPath]>)>() + paths
    }
}

fn key_at(entries: &[Entry], tails: &[[u8; 12]], place: u32) -> Option<Key> {
    let entry = entries.get(place as usize).filter(|entry| !entry.is_free())?;
    Some(Key {
        head: entry.head,
        tail: tails.get(place as usize).copied().unwrap_or_default(),
        length: entry.length,
    })
}

fn hash(hasher: &DefaultHashBuilder, key: &Key) -> u32 {
    // IPv4 prefixes, which have no tail, are the most.
    let hash = if key.tail == [0; 12] {
        hasher.hash_one((u64::from(key.head) << 8) | u64::from(key.length))
    } else {
        hasher.hash_one(key)
    };
    (hash >> 32) as u32
}

/// One table a family.
#[derive(Debug)]
pub(super) struct FamilyTables {
    v4: Table,
    v6: Table,
}

impl Default for FamilyTables {
    fn default() -> Self {
        Self {
            v4: Table::new(Family::Ipv4Unicast),
            v6: Table::new(Family::Ipv6Unicast),
        }
    }
}

impl FamilyTables {
    pub(super) fn of(&self, family: Family) -> &Table {
        match family {
            Family::Ipv4Unicast => &self.v4,
            Family::Ipv6Unicast => &self.v6,
        }
    }

    pub(super) fn of_mut(&mut self, family: Family) -> &mut Table {
        match family {
            Family::Ipv4Unicast => &mut self.v4,
            Family::Ipv6Unicast => &mut self.v6,
        }
    }

    /// The entry of a prefix, if anything is known of it.
    pub(super) fn entry(&self, prefix: &Prefix) -> Option<&Entry> {
        let table = self.of(Family::of(prefix));
        table.entry(table.find(prefix)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rib::PeerId;
    use crate::rib::import::Ineligible;
    use crate::rib::intern::AttrId;

    fn net(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    #[test]
    fn prefixes_keep_their_places_until_nobody_needs_them() {
        let source = SourceId::of_peer(PeerId(1));
        let path = Path::new(source, AttrId::of(1), Err(Ineligible::Policy));
        for (family, nets) in [
            (Family::Ipv4Unicast, ["10.0.0.0/8", "10.0.0.0/9", "0.0.0.0/0"]),
            (Family::Ipv6Unicast, ["2001:db8::/32", "2001:db8::1/128", "::/0"]),
        ] {
            let mut table = Table::new(family);
            let places = nets.map(|text| table.find_or_add(&net(text)));
            assert_eq!(places, [0, 1, 2]);
            for (text, place) in nets.iter().zip(places) {
                assert_eq!(table.find(&net(text)), Some(place));
                assert_eq!(table.prefix(place), Some(net(text)));
                table.put_path(place, path);
            }
            assert_eq!(table.counts(), (3, 3));
            table.drop_if_unused(1);
            assert_eq!(table.places(), 3, "it has a path");
            table.remove_path(1, source);
            table.hold(1);
            table.note_fib(1);
            assert!(table.note_pending(1, None) && !table.note_pending(1, None));
            assert_eq!(table.take_pending(5).len(), 1);
            table.let_go(1);
            assert_eq!(table.prefix(1), Some(net(nets[1])), "the kernel is to be told");
            assert_eq!(table.take_fib(), Some(1));
            table.drop_if_unused(1);
            assert_eq!((table.find(&net(nets[1])), table.prefix(1)), (None, None));
            assert_eq!(table.find_or_add(&net(nets[1])), 1, "the place is used again");
            table.drop_if_unused(1);
            for place in [0, 2] {
                table.remove_path(place, source);
                table.drop_if_unused(place);
            }
            assert_eq!((table.places(), table.bytes()), (0, 0));
        }
    }
}
