//! Update groups: peers that are told the same share its computation and its messages.
//!
//! There is no Adj-RIB-Out in store. What a group is told of a prefix follows from the prefix's best path
//! and the group's settings ([`Rib::export`]), so it is worked out whenever it is asked for. When a best path
//! changes, the table remembers the one that peers were told of until they are told of the new one: each
//! group then compares what follows from both, and says the difference. A member is told all of it but the
//! routes that it sent itself and those whose next hop it is (RFC 4271 section 5.1.3); RFC 4456 would allow
//! to reflect a route back to its sender, but since what members share is what they are told by others, it
//! would save nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::bits::BitSet;
use super::default_route::is_default;
use super::export::{ExportCache, GroupKey, Out, Way};
use super::paths::{Choices, Chosen};
use super::table::{IndexMap, Pending, ToldPath};
use super::{PeerId, Rib};
use crate::wire::{Attributes, Family, Prefix, RefreshKind};

/// Prefixes looked at in one step of [`Rib::poll_transmit`], which bounds its time (some 10 ms) and what
/// it queues. The more, the fuller the messages when many sets of attributes change at once.
pub(super) const PREFIXES_PER_STEP: usize = 65_536;

/// Prefixes that are looked up ahead together.
const EXPECTED: usize = 64;

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
        /// The identifiers of their paths, in the same order; empty for peers without add-path (RFC 7911).
        path_ids: Vec<u32>,
    },
    /// Routes that are there no longer.
    Withdraw {
        /// The prefixes.
        prefixes: Vec<Prefix>,
        /// The identifiers of their paths, likewise.
        path_ids: Vec<u32>,
    },
    /// The table dump is over (RFC 4724 section 2).
    EndOfRib,
    /// The table is about to be sent once more, or has been (RFC 7313 section 4).
    Refresh(RefreshKind),
}

/// Prefixes that are told together.
#[derive(Debug, Default)]
pub(super) struct Routes {
    prefixes: Vec<Prefix>,
    path_ids: Vec<u32>,
}

impl Routes {
    /// Add one, with the identifier of its path in a group with add-path.
    pub(super) fn push(&mut self, prefix: Prefix, path_id: Option<u32>) {
        self.prefixes.push(prefix);
        self.path_ids.extend(path_id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    pub(super) fn announce(self, attributes: Arc<Attributes>) -> Outgoing {
        let Self { prefixes, path_ids } = self;
        Outgoing::Announce {
            attributes,
            prefixes,
            path_ids,
        }
    }

    pub(super) fn withdraw(self) -> Outgoing {
        let Self { prefixes, path_ids } = self;
        Outgoing::Withdraw { prefixes, path_ids }
    }
}

/// Names a group; never used again. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupId(u32);

/// Peers that are told the same of one family.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) members: Vec<PeerId>,
}

/// A peer's place in a group.
#[derive(Debug, Default)]
pub(super) struct Membership {
    pub(super) group: GroupId,
    /// What it has not been told; nothing when it is told what the group is.
    pub(super) lag: Option<Lag>,
    /// Its End-of-RIB is to be sent when it has been told everything.
    pub(super) end_of_rib_due: bool,
    /// It has asked for the table once more, and that has not begun.
    pub(super) refresh_due: bool,
    /// It is being sent the table once more.
    pub(super) refreshing: bool,
}

impl Membership {
    pub(super) fn bytes(&self) -> usize {
        let told = |lag: &Lag| lag.told.capacity() * size_of::<(u32, PathIds)>();
        self.lag.as_ref().map_or(0, |lag| lag.changed.bytes() + told(lag))
    }
}

/// Identifiers of a prefix's paths.
pub(super) type PathIds = SmallVec<[u32; 2]>;

/// What a member has not been told, by places of the table.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Prefixes that changed, and that it may know of. Each is held.
    pub(super) changed: BitSet,
    /// With add-path: the identifiers of the paths that it knows of those.
    pub(super) told: FxHashMap<u32, PathIds>,
    /// The table is being dumped to it.
    pub(super) dump: Option<Dump>,
}

/// How far a dump of the table has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dump {
    /// The next place.
    pub(super) next: u32,
    /// What lies ahead has been told before, and is told once more.
    pub(super) again: bool,
}

impl Lag {
    /// Whether a change of a prefix is to be noted: not if the member knows nothing of it and the dump
    /// will come by.
    pub(super) fn is_behind(&self, place: u32) -> bool {
        let ahead = |dump: Dump| !dump.again && dump.next <= place;
        !self.dump.is_some_and(ahead)
    }

    /// The next place to tell the member of, in a table with so many places, and whether it was held: whether
    /// the member may know of it.
    pub(super) fn next(&mut self, places: u32) -> Option<(u32, bool)> {
        if let Some(dump) = &mut self.dump {
            let place = dump.next;
            if place < places {
                dump.next += 1;
                return Some((place, self.changed.remove(place)));
            }
            self.dump = None;
        }
        self.changed.pop().map(|place| (place, true))
    }
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
    /// The group of a key, made if need be.
    pub(super) fn find_or_make(&mut self, key: GroupKey) -> GroupId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        self.last += 1;
        let id = GroupId(self.last);
        self.by_key.insert(key.clone(), id);
        let members = Vec::new();
        self.by_id.insert(id, Group { key, members });
        id
    }

    /// Forget a group that has no member left.
    pub(super) fn drop_if_empty(&mut self, id: GroupId) {
        if self.by_id.get(&id).is_some_and(|group| group.members.is_empty())
            && let Some(group) = self.by_id.remove(&id)
        {
            self.by_key.remove(&group.key);
        }
    }

    /// The groups of a family.
    pub(super) fn of(&self, family: Family) -> impl Iterator<Item = &Group> {
        self.by_id
            .values()
            .filter(move |group| group.key.family == family)
    }

    /// Whether anybody is told of the family.
    pub(super) fn has_any(&self, family: Family) -> bool {
        self.of(family).next().is_some()
    }
}

/// Whether a member is not told a route of its group: it sent it, or it is its next hop.
pub(super) fn is_withheld(member: (PeerId, IpAddr), way: Way) -> bool {
    member.0 == way.source || way.next_hop == Some(member.1)
}

/// A prefix whose best path changed.
struct Change {
    place: u32,
    prefix: Prefix,
    told: Option<Chosen>,
    best: Option<Chosen>,
    /// For groups with add-path, where there are any.
    paths: Option<ChangedPaths>,
}

/// The changes that concern a group: not those of the default route where it is told one of ours.
fn changes_for<'a>(group: &Group, changes: &'a [Change]) -> [&'a [Change]; 2] {
    if !group.key.originates_default() {
        return [changes, &[]];
    }
    // A prefix is among them once.
    let mut parts = changes.splitn(2, |change| is_default(&change.prefix));
    [(); 2].map(|()| parts.next().unwrap_or_default())
}

/// Paths of a prefix in the order of preference.
struct ChangedPaths {
    told: Box<[ToldPath]>,
    now: Choices,
}

impl ChangedPaths {
    fn differ(&self) -> bool {
        let as_told = |path: &Chosen| ToldPath {
            source: path.source,
            attributes: Some(path.attributes),
        };
        !self.now.iter().map(as_told).eq(self.told.iter().copied())
    }
}

/// A group's members, with their addresses.
type Members = SmallVec<[(PeerId, IpAddr); 8]>;

/// Routes by what they have in common, which neighbouring ones often do.
struct RoutesBy<K> {
    routes: IndexMap<K, Routes>,
    /// Where the last one was added.
    last: usize,
}

impl<K> Default for RoutesBy<K> {
    fn default() -> Self {
        Self {
            routes: IndexMap::default(),
            last: 0,
        }
    }
}

impl<K: Hash + Eq> RoutesBy<K> {
    fn push(&mut self, key: K, (prefix, path_id): (Prefix, Option<u32>)) {
        let routes = match self.routes.get_index_mut(self.last) {
            Some((last, routes)) if *last == key => routes,
            _ => {
                let entry = self.routes.entry(key);
                self.last = entry.index();
                entry.or_default()
            }
        };
        routes.push(prefix, path_id);
    }
}

/// What a group is to hear in a step, by who of it is to hear it.
struct Step<'a> {
    group: &'a Group,
    /// Members that are told what the group is.
    current: Members,
    /// The others: what they miss is noted.
    behind: Members,
    /// Ids of attributes mean the same as long as nothing new is stored.
    cache: ExportCache,
    announced: RoutesBy<Out>,
    withdrawn: RoutesBy<Way>,
    /// Routes that one member alone loses, because they come from it or lead to it now.
    withheld: RoutesBy<PeerId>,
}

impl Rib {
    /// The next thing to tell peers; nothing when all of them know everything (but those that are
    /// paused). A prefix is in at most one of the messages that one change makes for a peer, and
    /// what is given out earlier must be sent earlier.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            if let Some(transmit) = self.groups.outbox.pop_front() {
                return Some(transmit);
            }
            let due = |family: &Family| !self.deferred.contains(*family);
            let mut families = Family::ALL.into_iter().filter(due);
            if let Some(family) = families.find(|family| self.tables.of(*family).has_pending()) {
                self.flush(family);
            } else if let Some((peer, family)) = self.next_lagging() {
                self.catch_up(peer, family);
            } else if !self.queue_ends_of_rib() {
                return None;
            }
        }
    }

    fn next_lagging(&self) -> Option<(PeerId, Family)> {
        let mut lagging = self.groups.lagging.iter().copied();
        lagging.find(|(_, family)| !self.deferred.contains(*family))
    }

    /// Work out everything that is pending in a family.
    pub(super) fn flush_all(&mut self, family: Family) {
        while self.tables.of(family).has_pending() {
            self.flush(family);
        }
    }

    /// Work out a part of what is pending in a family, for all its groups.
    fn flush(&mut self, family: Family) {
        let by_id = std::mem::take(&mut self.groups.by_id);
        let of_family = |group: &&Group| group.key.family == family;
        let steps = by_id.values().filter(of_family);
        let mut steps: Vec<Step<'_>> = steps.map(|group| self.step(group)).collect();
        let table = self.tables.of_mut(family);
        let mut taken = table.take_pending(PREFIXES_PER_STEP);
        let ranks_all = table.ranking().is_some() || table.has_told();
        for taken in taken.make_contiguous().chunks(EXPECTED) {
            self.expect_told(family, taken);
            let table = self.tables.of_mut(family);
            let changes = taken.iter().filter_map(|pending| {
                let paths = ranks_all.then(|| ChangedPaths {
                    told: table.take_told(pending.place),
                    now: table.ranked(pending.place),
                });
                Some(Change {
                    place: pending.place,
                    prefix: table.prefix(pending.place)?,
                    told: pending.told,
                    best: table.best(pending.place),
                    paths,
                })
            });
            let changes: SmallVec<[Change; EXPECTED]> = changes.collect();
            for step in &mut steps {
                for part in changes_for(step.group, &changes) {
                    match step.group.key.add_path {
                        Some(limit) => self.flush_paths(step, limit, part),
                        None => self.flush_group(step, part),
                    }
                }
            }
            for change in changes {
                let paths = change.paths.as_ref().map(|paths| &*paths.told);
                self.release_told(change.told, paths.unwrap_or_default());
                self.tables.of_mut(family).drop_if_unused(change.place);
            }
        }
        for step in steps {
            self.queue_step(family, step);
        }
        self.groups.by_id = by_id;
        if !Family::ALL.iter().any(|f| self.tables.of(*f).has_pending()) {
            self.formerly.clear();
        }
    }

    /// What peers were told of these is about to be looked at and forgotten, and some of the prefixes with it.
    fn expect_told(&self, family: Family, pending: &[Pending]) {
        let table = self.tables.of(family);
        let sets = pending
            .iter()
            .filter_map(|pending| Some(pending.told?.attributes));
        for id in sets {
            self.attributes.expect_set(id);
        }
        for pending in pending {
            table.expect_forgotten(pending.place);
        }
    }

    fn flush_group(&mut self, step: &mut Step<'_>, changes: &[Change]) {
        let key = &step.group.key;
        for change in changes.iter().filter(|change| change.told != change.best) {
            let of_one = |chosen: Option<Chosen>, id| {
                chosen.is_none_or(|chosen| self.sources.peer(chosen.source) == id)
            };
            if let ([(only, _)], []) = (step.current.as_slice(), step.behind.as_slice())
                && of_one(change.told, *only)
                && of_one(change.best, *only)
            {
                // It need not be told what it says itself.
                continue;
            }
            let Some(best) = change.best else {
                let told = change.told;
                let way = told.and_then(|told| self.export_way(key, &change.prefix, told, &mut step.cache));
                if let Some(way) = way {
                    step.withdrawn.push(way, (change.prefix, None));
                    for (peer, _) in &step.behind {
                        self.note_lag(*peer, key.family, change.place, PathIds::new());
                    }
                }
                continue;
            };
            let mut out = |chosen| self.export(key, &change.prefix, chosen, &mut step.cache);
            let (old, new) = (change.told.and_then(&mut out), out(best));
            if new != old {
                step.note((change.prefix, None), old, new);
                for (peer, _) in &step.behind {
                    self.note_lag(*peer, key.family, change.place, PathIds::new());
                }
            }
        }
    }

    /// The same for a group with add-path: its members are told paths by their identifiers.
    fn flush_paths(&mut self, step: &mut Step<'_>, limit: usize, changes: &[Change]) {
        let key = &step.group.key;
        for change in changes {
            let Some(paths) = change.paths.as_ref().filter(|paths| paths.differ()) else {
                continue;
            };
            let mut out = |chosen| self.export(key, &change.prefix, chosen, &mut step.cache);
            let told = paths.told.iter().take(limit);
            let mut old: SmallVec<[Told; 4]> = told
                .filter_map(|path| Told::of(path, path.as_chosen().map(&mut out)))
                .collect();
            let now = paths.now.iter().take(limit);
            let new: SmallVec<[(u32, Out); 4]> = now
                .filter_map(|path| Some((path.source.path_id(), out(*path)?)))
                .collect();
            let stays = |told: &Told| {
                new.iter()
                    .any(|(id, new)| told.path_id == *id && told.out == Some(*new))
            };
            if old.len() == new.len() && old.iter().all(stays) {
                continue;
            }
            for (peer, address) in &step.behind {
                let knows = |told: &&Told| {
                    let withheld = |out: Out| is_withheld((*peer, *address), step.cache.way(out));
                    !told.out.is_some_and(withheld)
                };
                let known = old.iter().filter(knows).map(|told| told.path_id).collect();
                self.note_lag(*peer, key.family, change.place, known);
            }
            for (path_id, new) in new {
                let route = (change.prefix, Some(path_id));
                let at = old.iter().position(|told| told.path_id == path_id);
                match at.map(|at| old.swap_remove(at).out) {
                    Some(Some(old)) if old == new => {}
                    Some(None) => step.replace_unknown(route, new),
                    told => step.note(route, told.flatten(), Some(new)),
                }
            }
            for told in old {
                let route = (change.prefix, Some(told.path_id));
                match told.out {
                    Some(out) => step.note(route, Some(out), None),
                    None => step.withdrawn.push(NOWHERE, route),
                }
            }
        }
    }

    /// A step of a group that has heard nothing yet.
    fn step<'a>(&self, group: &'a Group) -> Step<'a> {
        let mut step = Step {
            group,
            current: Members::new(),
            behind: Members::new(),
            cache: ExportCache::default(),
            announced: RoutesBy::default(),
            withdrawn: RoutesBy::default(),
            withheld: RoutesBy::default(),
        };
        for id in &group.members {
            let Some(peer) = self.peers.get(id) else { continue };
            let member = (*id, peer.settings.key.address);
            match peer.membership(group.key.family) {
                Some(Membership { lag: Some(_), .. }) => step.behind.push(member),
                _ => step.current.push(member),
            }
        }
        step
    }

    fn queue_step(&mut self, family: Family, mut step: Step<'_>) {
        // What comes from one peer in one run: all but that peer are told it as one piece.
        step.announced.routes.sort_by_key(|out, _| out.source);
        let audience = |way: Way| -> Vec<PeerId> {
            let told = step.current.iter().filter(|member| !is_withheld(**member, way));
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
        for (way, routes) in step.withdrawn.routes {
            queue(audience(way), routes.withdraw());
        }
        for (member, routes) in step.withheld.routes {
            queue(vec![member], routes.withdraw());
        }
        for (out, routes) in step.announced.routes {
            if let Some(attributes) = step.cache.get(out.attributes).map(Arc::clone) {
                queue(audience(step.cache.way(out)), routes.announce(attributes));
            }
        }
    }
}

/// A path that a group with add-path was told of.
struct Told {
    path_id: u32,
    /// None: it is not known how.
    out: Option<Out>,
}

impl Told {
    /// None if it was not told: `out` is what the path's attributes led to, if they are known.
    fn of(path: &ToldPath, out: Option<Option<Out>>) -> Option<Self> {
        let path_id = path.source.path_id();
        match out {
            None => Some(Self { path_id, out: None }),
            Some(out) => out.map(|out| Self {
                path_id,
                out: Some(out),
            }),
        }
    }
}

/// Whence nobody came: all members are told.
const NOWHERE: Way = Way {
    source: PeerId::LOCAL,
    next_hop: None,
};

impl Step<'_> {
    /// Whoever was told of the path in some way is told how it is now, or that it is gone.
    fn replace_unknown(&mut self, route: (Prefix, Option<u32>), new: Out) {
        self.note(route, None, Some(new));
        for member in &self.current {
            if is_withheld(*member, self.cache.way(new)) {
                self.withheld.push(member.0, route);
            }
        }
    }

    fn note(&mut self, route: (Prefix, Option<u32>), old: Option<Out>, new: Option<Out>) {
        match (old, new) {
            (old, Some(new)) => {
                self.announced.push(new, route);
                let Some(old) = old else { return };
                let (old, new) = (self.cache.way(old), self.cache.way(new));
                if old == new {
                    return;
                }
                for member in &self.current {
                    if !is_withheld(*member, old) && is_withheld(*member, new) {
                        self.withheld.push(member.0, route);
                    }
                }
            }
            (Some(old), None) => self.withdrawn.push(self.cache.way(old), route),
            (None, None) => {}
        }
    }
}
