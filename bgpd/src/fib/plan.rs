//! Wanted routes against the kernel's: which requests make them equal. Pure.

use std::collections::VecDeque;

use netlink::{Request, Route, RouteKind};
use rustc_hash::{FxHashMap, FxHashSet};

use super::METRIC_NORMAL;
use super::next_hop_sets::{NextHopSets, NextHops, Ways};
use super::objects::Objects;
use super::resolve::Resolver;
use super::routes::{Entry, Held, Routes, Shape, Slot, WantedRoute};
use super::status::{FibStatus, REFUSED_LISTED_MAX, Refusal, RefusedRoute};
use crate::rib::Gateway;
use crate::wire::{Family, FamilySet, Prefix};

type IndexMap<K, V> = indexmap::IndexMap<K, V, std::hash::BuildHasherDefault<rustc_hash::FxHasher>>;

/// What is wanted for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) next_hops: NextHops,
    pub(super) metric: u32,
}

/// A foreign route that takes precedence over ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    Workload { interface: String },
    DeadEnd { protocol: u8 },
}

/// One change to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    slot: Slot,
    pub(super) prefix: Prefix,
    pub(super) change: Change,
}

impl Task {
    /// The same where there is nothing to replace.
    pub(super) fn into_addition(mut self) -> Self {
        if let Change::Install { replaces, .. } = &mut self.change {
            *replaces = false;
        }
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Install {
        metric: u32,
        ways: Ways,
        /// We have a route with this metric there.
        replaces: bool,
    },
    Remove {
        metric: u32,
    },
}

/// Wanted and held routes and how they differ.
#[derive(Debug)]
pub(super) struct Plan {
    protocol: u8,
    table: u32,
    routes: Routes,
    sets: NextHopSets,
    guards: FxHashMap<Prefix, Guard>,
    /// Of IPv4 and IPv6: what has a smaller metric does not give way to workloads.
    normal_metrics: [u32; 2],
    refused: IndexMap<Prefix, Refusal>,
    /// Entries to look at, each once.
    dirty: VecDeque<Slot>,
    /// Families whose adopted routes have been swept.
    swept: FamilySet,
    repairs: u64,
}

impl Plan {
    pub(super) fn new(protocol: u8, table: u32) -> Self {
        Self {
            protocol,
            table,
            routes: Routes::default(),
            sets: NextHopSets::default(),
            guards: FxHashMap::default(),
            normal_metrics: [METRIC_NORMAL; 2],
            refused: IndexMap::default(),
            dirty: VecDeque::new(),
            swept: FamilySet::EMPTY,
            repairs: 0,
        }
    }

    fn look_at(&mut self, slot: Slot) {
        if let Some(entry) = self.routes.get_mut(slot)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.dirty.push_back(slot);
        }
    }

    fn look_at_all(&mut self, slots: Vec<Slot>) {
        slots.into_iter().for_each(|slot| self.look_at(slot));
    }

    fn slots_where(&self, of_interest: impl Fn(&Entry) -> bool) -> Vec<Slot> {
        let entries = self.routes.iter().filter(|(_, entry)| of_interest(entry));
        entries.map(|(slot, _)| slot).collect()
    }

    /// Of these it will be said next what is wanted.
    pub(super) fn expect<'a>(&self, prefixes: impl Iterator<Item = &'a Prefix>) {
        self.routes.expect(prefixes);
    }

    /// What is wanted for a prefix now.
    pub(super) fn want(&mut self, prefix: Prefix, wanted: Option<Wanted>) {
        let slot = self.routes.entry(prefix);
        let wanted = wanted.map(|wanted| WantedRoute {
            set: self.sets.acquire(wanted.next_hops),
            metric: wanted.metric,
        });
        if let Some(entry) = self.routes.get_mut(slot) {
            let before = std::mem::replace(&mut entry.wanted, wanted);
            before
                .into_iter()
                .for_each(|before| self.sets.release(before.set));
        }
        self.look_at(slot);
    }

    /// Adopted routes of a family that are not wanted go.
    pub(super) fn sweep(&mut self, family: Family) {
        self.swept.insert(family);
        let held = self.slots_where(|entry| Family::of(&entry.prefix) == family && !entry.held().is_empty());
        self.look_at_all(held);
    }

    /// Whether all families have been swept.
    pub(super) fn is_swept(&self) -> bool {
        Family::ALL.into_iter().all(|family| self.swept.contains(family))
    }

    /// The ways to these next hops changed.
    pub(super) fn next_hops_changed(&mut self, changed: &FxHashSet<Gateway>) {
        let sets = self.sets.next_hops_changed(changed);
        let touched = self.slots_where(|entry| entry.wanted.is_some_and(|wanted| sets.contains(&wanted.set)));
        self.look_at_all(touched);
    }

    /// Groups have gone, or are to be had again.
    pub(super) fn forget_groups(&mut self) {
        self.sets.forget_ways();
    }

    /// The foreign routes that take precedence now.
    pub(super) fn set_guards(&mut self, guards: FxHashMap<Prefix, Guard>) {
        let before = std::mem::replace(&mut self.guards, guards);
        let changed = before
            .iter()
            .filter(|(prefix, guard)| self.guards.get(*prefix) != Some(*guard));
        let new = self.guards.keys().filter(|prefix| !before.contains_key(*prefix));
        let touched: Vec<Prefix> = changed.map(|(prefix, _)| prefix).chain(new).copied().collect();
        for prefix in touched {
            self.look_at_wanted(&prefix);
        }
    }

    /// From these metrics on, learned routes give way to workloads.
    pub(super) fn set_normal_metrics(&mut self, metrics: [u32; 2]) {
        if std::mem::replace(&mut self.normal_metrics, metrics) != metrics {
            let guarded: Vec<Prefix> = self.guards.keys().copied().collect();
            for prefix in guarded {
                self.look_at_wanted(&prefix);
            }
        }
    }

    fn normal_metric(&self, prefix: &Prefix) -> u32 {
        let [v4, v6] = self.normal_metrics;
        match Family::of(prefix) {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }

    /// A foreign route that takes precedence has come.
    pub(super) fn add_guard(&mut self, prefix: Prefix, guard: Guard) {
        if self.guards.get(&prefix) != Some(&guard) {
            self.guards.insert(prefix, guard);
            self.look_at_wanted(&prefix);
        }
    }

    /// A prefix that something is wanted for.
    pub(super) fn look_at_wanted(&mut self, prefix: &Prefix) {
        let wanted = |slot: &Slot| {
            let entry = self.routes.get(*slot);
            entry.is_some_and(|entry| entry.wanted.is_some())
        };
        if let Some(slot) = self.routes.slot(prefix).filter(wanted) {
            self.look_at(slot);
        }
    }

    /// A foreign route has gone: what was refused for its sake is tried again.
    pub(super) fn place_is_free(&mut self, prefix: &Prefix) {
        if self.refused.contains_key(prefix) {
            self.look_at_wanted(prefix);
        }
    }

    /// A foreign route has come: if it has the place of one of ours, that has been replaced.
    pub(super) fn place_is_taken(&mut self, route: &Route) {
        self.lost(&route.destination, route.metric);
    }

    /// A route of ours was changed, and not by us.
    pub(super) fn changed_by_others(&mut self, route: &Route, is_gone: bool) {
        let (prefix, metric) = (route.destination, route.metric);
        if is_gone {
            return self.lost(&prefix, metric);
        }
        let shape = Shape::of(route);
        let held = self.routes.find(&prefix).map(Entry::held).unwrap_or_default();
        let before = held.iter().find(|held| held.metric == metric);
        if before.is_some_and(|held| held.shape == shape) {
            return;
        }
        self.repairs += u64::from(before.is_some());
        // Nobody has asked for it: like what was found at the start.
        let stale = !self.swept.contains(Family::of(&prefix));
        let slot = self.routes.entry(prefix);
        self.routes.hold(slot, Held::new(metric, shape, stale));
        self.look_at(slot);
    }

    /// The kernel does not have this route of ours any more.
    fn lost(&mut self, prefix: &Prefix, metric: u32) {
        let Some(slot) = self.routes.slot(prefix) else {
            return;
        };
        let Some(entry) = self.routes.get(slot) else {
            return;
        };
        if entry.held().iter().any(|held| held.metric == metric) {
            self.repairs += u64::from(entry.wanted.is_some());
            self.routes.release(slot, metric);
            self.look_at(slot);
        }
    }

    /// Our routes as the kernel has them; `dump` gives them one by one, and some perhaps twice. Where that is not
    /// what we believed, it is looked at again; so is all that was refused.
    pub(super) fn read_back<E>(
        &mut self,
        dump: impl FnOnce(&mut dyn FnMut(&Route)) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut differing: FxHashMap<(Prefix, u32), Held> = FxHashMap::default();
        self.routes.begin_sight();
        dump(&mut |route| {
            if route.protocol != self.protocol || route.table != self.table || self.routes.sight(route) {
                return;
            }
            let (prefix, metric) = (route.destination, route.metric);
            let known = self.routes.find(&prefix).map(Entry::held).unwrap_or_default();
            let stale = match known.iter().find(|held| held.metric == metric) {
                Some(held) => held.stale,
                // Ours by protocol, but not put there in this run.
                None => !self.swept.contains(Family::of(&prefix)),
            };
            let shape = Shape::of(route);
            differing.insert((prefix, metric), Held::new(metric, shape, stale));
        })?;
        for (slot, metric) in self.routes.unsighted() {
            let is_wanted = self.routes.get(slot).is_some_and(|entry| entry.wanted.is_some());
            self.repairs += u64::from(is_wanted);
            self.routes.release(slot, metric);
            self.look_at(slot);
        }
        for ((prefix, _), held) in differing {
            let slot = self.routes.entry(prefix);
            self.routes.hold(slot, held);
            self.look_at(slot);
        }
        let refused: Vec<Prefix> = self.refused.keys().copied().collect();
        for prefix in refused {
            let slot = self.routes.entry(prefix);
            self.look_at(slot);
        }
        Ok(())
    }

    /// Whether a route of ours leans on another route for its next hops.
    pub(super) fn is_recursive(&self, route: &Route, resolver: &Resolver) -> bool {
        if route.protocol != self.protocol {
            return false;
        }
        let connected = |gateway: &Gateway| resolver.get(*gateway).is_some_and(|known| known.connected);
        match self
            .routes
            .find(&route.destination)
            .and_then(|entry| entry.wanted)
        {
            Some(wanted) => !self.sets.next_hops(wanted.set).iter().all(connected),
            None => true, // adopted, and nothing is known of it
        }
    }

    /// Changes for at most `limit` prefixes; none when there is nothing left to do, or when the next prefix has a
    /// change on its way. Each task is to be given to [`Plan::landed`].
    pub(super) fn step(
        &mut self,
        resolver: &Resolver,
        objects: Option<&mut Objects>,
        limit: usize,
    ) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut objects = objects;
        for _ in 0..limit {
            let Some(slot) = self.dirty.front().copied() else {
                break;
            };
            let before = tasks.len();
            // What it will leave in the kernel is not known yet.
            if self.routes.get(slot).is_some_and(|entry| entry.in_flight) {
                break;
            }
            self.dirty.pop_front();
            self.compare(slot, resolver, objects.as_deref_mut(), &mut tasks);
            if tasks.len() > before
                && let Some(entry) = self.routes.get_mut(slot)
            {
                entry.in_flight = true;
            }
        }
        tasks
    }

    /// These are not on their way any more. What became of them is said next.
    pub(super) fn landed<'a>(&mut self, tasks: impl Iterator<Item = &'a Task>) {
        for task in tasks {
            if let Some(entry) = self.routes.get_mut(task.slot) {
                entry.in_flight = false;
            }
        }
    }

    /// Nobody knows what became of these.
    pub(super) fn look_at_tasks<'a>(&mut self, tasks: impl Iterator<Item = &'a Task>) {
        tasks.for_each(|task| self.look_at(task.slot));
    }

    fn compare(
        &mut self,
        slot: Slot,
        resolver: &Resolver,
        objects: Option<&mut Objects>,
        tasks: &mut Vec<Task>,
    ) {
        let Some(entry) = self.routes.get_mut(slot) else {
            return;
        };
        entry.dirty = false;
        let (prefix, wanted) = (entry.prefix, entry.wanted);
        if !self.refused.is_empty() {
            self.refused.swap_remove(&prefix);
        }
        let target = wanted.and_then(|wanted| match self.target(&prefix, wanted, resolver, objects) {
            Ok(ways) => Some((wanted.metric, ways)),
            Err(refusal) => {
                self.refused.insert(prefix, refusal);
                None
            }
        });
        let keeps_stale = wanted.is_none() && !self.swept.contains(Family::of(&prefix));
        let Some(entry) = self.routes.get(slot) else {
            return;
        };
        let wanted_metric = target.as_ref().map(|(metric, _)| *metric);
        let mut push = |change| tasks.push(Task { slot, prefix, change });
        let mut confirmed = None;
        if let Some((metric, ways)) = target {
            let found = entry.held().iter().find(|held| held.metric == metric);
            if found.is_some_and(|held| held.shape == ways.shape(true)) {
                confirmed = Some(metric);
            } else {
                let replaces = found.is_some();
                push(Change::Install {
                    metric,
                    ways,
                    replaces,
                });
            }
        }
        for held in entry
            .held()
            .iter()
            .filter(|held| Some(held.metric) != wanted_metric)
        {
            if !(held.stale && keeps_stale) {
                push(Change::Remove { metric: held.metric });
            }
        }
        match confirmed {
            Some(metric) => self.routes.confirm(slot, metric),
            None => self.routes.tidy(slot),
        }
    }

    /// The ways out of a wanted route, or why there are none.
    fn target(
        &mut self,
        prefix: &Prefix,
        wanted: WantedRoute,
        resolver: &Resolver,
        objects: Option<&mut Objects>,
    ) -> Result<Ways, Refusal> {
        match self.guards.get(prefix) {
            // A raised preference is on purpose: the workload moves away (live migration).
            Some(Guard::Workload { interface }) if wanted.metric >= self.normal_metric(prefix) => {
                return Err(Refusal::Workload {
                    interface: interface.clone(),
                });
            }
            Some(Guard::DeadEnd { protocol }) => return Err(Refusal::DeadEnd { protocol: *protocol }),
            _ => {}
        }
        let ways = self.sets.ways(wanted.set, resolver, objects);
        if ways.is_usable() {
            return Ok(ways);
        }
        let first = self.sets.next_hops(wanted.set).first();
        let next_hop = first.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |gateway| gateway.address);
        Err(Refusal::NextHop { next_hop })
    }

    /// Whether nothing is left to look at.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The request of a task; without `group`, a plain route.
    pub(super) fn request(&self, task: &Task, with_group: bool) -> Request {
        let route = Route::new(task.prefix).protocol(self.protocol).table(self.table);
        match &task.change {
            // Of any kind: ours are unicast or blackhole.
            Change::Remove { metric } => Request::DeleteRoute(Route {
                kind: RouteKind::Other(0),
                ..route.metric(*metric)
            }),
            Change::Install {
                metric,
                ways,
                replaces,
            } => {
                let route = route.metric(*metric);
                let route = match ways.shape(with_group) {
                    Shape::Group(id) => route.next_hop(id),
                    Shape::Discard => route.blackhole(),
                    Shape::Plain(hops) => Route {
                        hops: hops.to_vec(),
                        ..route
                    },
                };
                if *replaces {
                    Request::ReplaceRoute(route)
                } else {
                    Request::AddRoute(route)
                }
            }
        }
    }

    /// The kernel has done it.
    pub(super) fn done(&mut self, task: &Task, with_group: bool) {
        match &task.change {
            Change::Remove { metric } => {
                self.routes.release(task.slot, *metric);
                self.routes.tidy(task.slot);
            }
            Change::Install { metric, ways, .. } => {
                let held = Held::new(*metric, ways.shape(with_group), false);
                self.routes.hold(task.slot, held);
            }
        }
    }

    /// The kernel has not done it, and will not until something changes.
    pub(super) fn refuse(&mut self, prefix: Prefix, refusal: Refusal) {
        self.refused.insert(prefix, refusal);
    }

    /// The kernel turned out to have a route of ours there: it is taken over.
    pub(super) fn found(&mut self, route: &Route) {
        let slot = self.routes.entry(route.destination);
        let held = Held::new(route.metric, Shape::of(route), true);
        self.routes.hold(slot, held);
        self.look_at(slot);
    }

    /// Whether routes use a group.
    pub(super) fn uses_group(&self, id: u32) -> bool {
        self.routes.uses_group(id)
    }

    pub(super) fn report(&self, status: &mut FibStatus) {
        status.installed = self.routes.held_count();
        status.stale = self.routes.stale_count();
        status.pending = self.dirty.len();
        status.refused = self.refused.len();
        let listed = self.refused.iter().take(REFUSED_LISTED_MAX);
        let mut listed: Vec<_> = listed
            .map(|(prefix, reason)| RefusedRoute {
                prefix: *prefix,
                reason: reason.clone(),
            })
            .collect();
        listed.sort_by_key(|route| route.prefix);
        status.refused_routes = listed;
        status.repairs = self.repairs;
    }
}
