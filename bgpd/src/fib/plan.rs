//! Wanted routes against the kernel's: which requests make them equal. Pure.

use std::net::IpAddr;

use netlink::{Hop, Request, Route, RouteKind};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::METRIC_NORMAL;
use super::objects::Objects;
use super::resolve::{Hops, Resolver};
use super::status::{FibStatus, REFUSED_LISTED_MAX, Refusal, RefusedRoute};
use crate::wire::{Family, FamilySet, Prefix};

type IndexMap<K, V> = indexmap::IndexMap<K, V, std::hash::BuildHasherDefault<rustc_hash::FxHasher>>;
type IndexSet<T> = indexmap::IndexSet<T, std::hash::BuildHasherDefault<rustc_hash::FxHasher>>;

/// What is wanted for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The best path's next hop first.
    pub(super) next_hops: SmallVec<[IpAddr; 2]>,
    pub(super) metric: u32,
}

/// How a route of ours leads out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Plain(Hops),
    Group(u32),
}

/// A route of ours in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    metric: u32,
    shape: Shape,
    /// Found at the start, and not wanted so far.
    stale: bool,
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
    pub(super) prefix: Prefix,
    pub(super) change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Install {
        metric: u32,
        /// For plain routes, and where a group cannot be had.
        hops: Hops,
        group: Option<u32>,
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
    wanted: FxHashMap<Prefix, Wanted>,
    kernel: FxHashMap<Prefix, SmallVec<[Held; 1]>>,
    guards: FxHashMap<Prefix, Guard>,
    refused: IndexMap<Prefix, Refusal>,
    /// Prefixes to look at.
    dirty: IndexSet<Prefix>,
    /// Families whose adopted routes have been swept.
    swept: FamilySet,
    repairs: u64,
}

impl Plan {
    pub(super) fn new(protocol: u8, table: u32) -> Self {
        Self {
            protocol,
            table,
            wanted: FxHashMap::default(),
            kernel: FxHashMap::default(),
            guards: FxHashMap::default(),
            refused: IndexMap::default(),
            dirty: IndexSet::default(),
            swept: FamilySet::EMPTY,
            repairs: 0,
        }
    }

    /// What is wanted for a prefix now.
    pub(super) fn want(&mut self, prefix: Prefix, wanted: Option<Wanted>) {
        match wanted {
            Some(wanted) => {
                self.wanted.insert(prefix, wanted);
            }
            None => {
                self.wanted.remove(&prefix);
            }
        }
        self.dirty.insert(prefix);
    }

    /// Adopted routes of a family that are not wanted go.
    pub(super) fn sweep(&mut self, family: Family) {
        self.swept.insert(family);
        let of_family = |prefix: &&Prefix| Family::of(prefix) == family;
        let stale: Vec<Prefix> = self.kernel.keys().filter(of_family).copied().collect();
        self.dirty.extend(stale);
    }

    /// Whether all families have been swept.
    pub(super) fn is_swept(&self) -> bool {
        Family::ALL.into_iter().all(|family| self.swept.contains(family))
    }

    /// The ways to these next hops changed.
    pub(super) fn next_hops_changed(&mut self, changed: &FxHashSet<IpAddr>) {
        let uses = |wanted: &Wanted| wanted.next_hops.iter().any(|next_hop| changed.contains(next_hop));
        let touched = self
            .wanted
            .iter()
            .filter(|(_, wanted)| uses(wanted))
            .map(|(prefix, _)| *prefix);
        self.dirty.extend(touched);
    }

    /// The foreign routes that take precedence now.
    pub(super) fn set_guards(&mut self, guards: FxHashMap<Prefix, Guard>) {
        let before = std::mem::replace(&mut self.guards, guards);
        let changed = before
            .iter()
            .filter(|(prefix, guard)| self.guards.get(*prefix) != Some(*guard));
        let new = self.guards.keys().filter(|prefix| !before.contains_key(*prefix));
        let touched: Vec<Prefix> = changed.map(|(prefix, _)| prefix).chain(new).copied().collect();
        self.dirty
            .extend(touched.into_iter().filter(|p| self.wanted.contains_key(p)));
    }

    /// Our routes as the kernel has them. Where that is not what we believed, it is looked at again; so
    /// is all that was refused.
    pub(super) fn read_back(&mut self, seen: &[Route]) {
        let mut kernel: FxHashMap<Prefix, SmallVec<[Held; 1]>> = FxHashMap::default();
        for route in seen
            .iter()
            .filter(|r| r.protocol == self.protocol && r.table == self.table)
        {
            let shape = shape_of(route);
            let prefix = route.destination;
            let held = self
                .kernel
                .get(&prefix)
                .into_iter()
                .flatten()
                .find(|h| h.metric == route.metric);
            let stale = match held {
                Some(held) => held.stale,
                // Ours by protocol, but not put there in this run.
                None => !self.swept.contains(Family::of(&prefix)),
            };
            kernel.entry(prefix).or_default().push(Held {
                metric: route.metric,
                shape,
                stale,
            });
        }
        let believed = std::mem::replace(&mut self.kernel, kernel);
        for (prefix, held) in &believed {
            let found = self
                .kernel
                .get(prefix)
                .map(SmallVec::as_slice)
                .unwrap_or_default();
            if !held.iter().all(|held| found.contains(held)) {
                self.repairs += u64::from(self.wanted.contains_key(prefix));
                self.dirty.insert(*prefix);
            }
        }
        let unknown = self
            .kernel
            .iter()
            .filter(|(prefix, held)| held.len() != believed.get(*prefix).map_or(0, SmallVec::len));
        self.dirty.extend(unknown.map(|(prefix, _)| *prefix));
        self.dirty.extend(self.refused.keys().copied());
    }

    /// Whether a route of ours leans on another route for its next hops.
    pub(super) fn is_recursive(&self, route: &Route, resolver: &Resolver) -> bool {
        if route.protocol != self.protocol {
            return false;
        }
        let connected = |address: &IpAddr| resolver.get(*address).is_some_and(|known| known.connected);
        match self.wanted.get(&route.destination) {
            Some(wanted) => !wanted.next_hops.iter().all(connected),
            None => true, // adopted, and nothing is known of it
        }
    }

    /// Changes for at most `limit` prefixes; none when there is nothing left to do.
    pub(super) fn step(
        &mut self,
        resolver: &Resolver,
        objects: Option<&mut Objects>,
        limit: usize,
    ) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut objects = objects;
        for _ in 0..limit {
            let Some(prefix) = self.dirty.pop() else { break };
            self.refused.swap_remove(&prefix);
            self.compare(prefix, resolver, objects.as_deref_mut(), &mut tasks);
        }
        tasks
    }

    fn compare(
        &mut self,
        prefix: Prefix,
        resolver: &Resolver,
        objects: Option<&mut Objects>,
        tasks: &mut Vec<Task>,
    ) {
        let target = match self.target(&prefix, resolver) {
            Ok(target) => target,
            Err(refusal) => {
                self.refused.insert(prefix, refusal);
                None
            }
        };
        let keeps_stale = !self.swept.contains(Family::of(&prefix)) && !self.wanted.contains_key(&prefix);
        let held = self
            .kernel
            .get_mut(&prefix)
            .map(SmallVec::as_mut_slice)
            .unwrap_or_default();
        let wanted_metric = target.as_ref().map(|(metric, _)| *metric);
        if let Some((metric, hops)) = target {
            let group = match objects {
                Some(objects) if hops.len() > 1 => objects.group(&hops),
                _ => None,
            };
            let shape = match group {
                Some(id) => Shape::Group(id),
                None => Shape::Plain(hops.clone()),
            };
            match held.iter_mut().find(|held| held.metric == metric) {
                Some(held) if held.shape == shape => held.stale = false,
                found => {
                    let change = Change::Install {
                        metric,
                        hops,
                        group,
                        replaces: found.is_some(),
                    };
                    tasks.push(Task { prefix, change });
                }
            }
        }
        for held in held.iter().filter(|held| Some(held.metric) != wanted_metric) {
            if !(held.stale && keeps_stale) {
                tasks.push(Task {
                    prefix,
                    change: Change::Remove { metric: held.metric },
                });
            }
        }
    }

    /// Metric and ways out of a wanted route, or why there are none.
    fn target(&self, prefix: &Prefix, resolver: &Resolver) -> Result<Option<(u32, Hops)>, Refusal> {
        let Some(wanted) = self.wanted.get(prefix) else {
            return Ok(None);
        };
        match self.guards.get(prefix) {
            // A raised preference is on purpose: the workload moves away (live migration).
            Some(Guard::Workload { interface }) if wanted.metric >= METRIC_NORMAL => {
                return Err(Refusal::Workload {
                    interface: interface.clone(),
                });
            }
            Some(Guard::DeadEnd { protocol }) => return Err(Refusal::DeadEnd { protocol: *protocol }),
            _ => {}
        }
        let hops = resolver.hops(&wanted.next_hops);
        match (hops.is_empty(), wanted.next_hops.first()) {
            (false, _) => Ok(Some((wanted.metric, hops))),
            (true, Some(next_hop)) => Err(Refusal::NextHop { next_hop: *next_hop }),
            (true, None) => Ok(None),
        }
    }

    /// Whether nothing is left to look at.
    pub(super) fn is_idle(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The request of a task; without `group`, a plain route.
    pub(super) fn request(&self, task: &Task, with_group: bool) -> Request {
        let route = Route::new(task.prefix).protocol(self.protocol).table(self.table);
        match &task.change {
            Change::Remove { metric } => Request::DeleteRoute(route.metric(*metric)),
            Change::Install {
                metric,
                hops,
                group,
                replaces,
            } => {
                let route = match group.filter(|_| with_group) {
                    Some(id) => route.metric(*metric).next_hop(id),
                    None => Route {
                        hops: hops.to_vec(),
                        ..route.metric(*metric)
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
        let held = self.kernel.entry(task.prefix).or_default();
        match &task.change {
            Change::Remove { metric } => held.retain(|held| held.metric != *metric),
            Change::Install {
                metric, hops, group, ..
            } => {
                let shape = match group.filter(|_| with_group) {
                    Some(id) => Shape::Group(id),
                    None => Shape::Plain(hops.clone()),
                };
                held.retain(|held| held.metric != *metric);
                held.push(Held {
                    metric: *metric,
                    shape,
                    stale: false,
                });
            }
        }
        if held.is_empty() {
            self.kernel.remove(&task.prefix);
        }
    }

    /// The kernel has not done it, and will not until something changes.
    pub(super) fn refuse(&mut self, prefix: Prefix, refusal: Refusal) {
        self.refused.insert(prefix, refusal);
    }

    /// The kernel turned out to have a route of ours there: it is taken over.
    pub(super) fn found(&mut self, route: &Route) {
        let held = self.kernel.entry(route.destination).or_default();
        held.retain(|held| held.metric != route.metric);
        held.push(Held {
            metric: route.metric,
            shape: shape_of(route),
            stale: true,
        });
        self.dirty.insert(route.destination);
    }

    /// Groups that routes use.
    pub(super) fn used_groups(&self) -> FxHashSet<u32> {
        let held = self.kernel.values().flatten();
        held.filter_map(|held| match held.shape {
            Shape::Group(id) => Some(id),
            Shape::Plain(_) => None,
        })
        .collect()
    }

    /// Routes of ours that the kernel has.
    pub(super) fn held_count(&self) -> usize {
        self.kernel.values().map(SmallVec::len).sum()
    }

    pub(super) fn report(&self, status: &mut FibStatus) {
        status.installed = self.held_count();
        status.stale = self.kernel.values().flatten().filter(|held| held.stale).count();
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

fn shape_of(route: &Route) -> Shape {
    match route.next_hop_id {
        Some(id) => Shape::Group(id),
        // A dead end of ours would be a mistake: without hops it equals nothing that is wanted.
        None if route.kind != RouteKind::Unicast => Shape::Plain(Hops::new()),
        None => {
            let mut hops: Hops = route
                .hops
                .iter()
                .map(|hop| Hop {
                    unusable: false,
                    ..*hop
                })
                .collect();
            hops.sort_unstable();
            Shape::Plain(hops)
        }
    }
}
