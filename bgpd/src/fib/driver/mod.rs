//! The driver's thread: listens to callers, to what others change in the kernel and to two timers, and carries
//! out the plan in batches. What others do is acted on as it is told, and all is read back now and then,
//! because the kernel does not tell of everything that it takes away.

mod sending;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink::{
    AsyncMonitor, Background, Connection, Event, Group, Monitor, NetNs, Route, RouteFilter, RouteKind,
    protocol, sysctl,
};
use rustc_hash::{FxHashMap, FxHashSet};
use tracing::{info, warn};

use super::next_hop_sets::NextHops;
use super::objects::Objects;
use super::plan::{Guard, Plan, Task, Wanted};
use super::resolve::Resolver;
use super::{FibSettings, NEXT_HOP_ID_FIRST, Shared, lock};
use crate::rib::{FibAction, FibRoute, Gateway, NextHopInterest};
use crate::wire::Prefix;

/// Prefixes that the plan is told to expect together.
const EXPECTED_PREFIXES: usize = 256;
/// Changes of links come in bursts: what they ask for is looked at this long after the first.
const BURST_TIME: Duration = Duration::from_millis(50);
/// Events taken in at once: then the inbox has its turn.
const EVENTS_MAX: usize = 10_000;
/// After a failure to talk to the kernel, everything is read again after this long.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// A task, and whether its route uses a group.
type Sent = (Task, bool);

pub(super) struct Driver {
    settings: FibSettings,
    netns: NetNs,
    netlink: Connection,
    /// For routes.
    sender: Background,
    /// Batches that it has not answered, the oldest first. Between turns there are none.
    flight: VecDeque<Vec<Sent>>,
    monitor: Option<Monitor>,
    shared: Arc<Shared>,
    plan: Plan,
    objects: Objects,
    uses_objects: bool,
    has_set_compat_mode: bool,
    resolver: Resolver,
    /// What events ask to look at, and when.
    due: Option<(Instant, Look)>,
    resyncs: u64,
    error: Option<String>,
    done: u64,
    stop: bool,
}

/// What a turn of the loop must look at besides the inbox.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    links: bool,
    /// Our routes and next-hop objects.
    routes: bool,
    /// Others' routes that ours make way for.
    guards: bool,
    next_hops: bool,
}

impl Look {
    const ALL: Self = Self {
        links: true,
        routes: true,
        guards: true,
        next_hops: true,
    };

    fn and(self, other: Self) -> Self {
        Self {
            links: self.links || other.links,
            routes: self.routes || other.routes,
            guards: self.guards || other.guards,
            next_hops: self.next_hops || other.next_hops,
        }
    }
}

impl Driver {
    pub(super) fn open(
        settings: FibSettings,
        netns: &NetNs,
        shared: Arc<Shared>,
    ) -> Result<Self, netlink::Error> {
        // First the subscription: what changes while the state is read is told after it.
        let groups = [
            Group::Links,
            Group::Addresses,
            Group::RoutesV4,
            Group::RoutesV6,
            Group::NextHops,
        ];
        let netlink = Connection::open_in(netns)?;
        let monitor = Monitor::open_in(netns, &groups)?;
        let sender = Background::open_in(netns, "fib-send")?;
        monitor.ignore([netlink.port(), sender.port()])?;
        let mut driver = Self {
            netns: netns.run(NetNs::current)??,
            netlink,
            sender,
            flight: VecDeque::new(),
            monitor: Some(monitor),
            shared,
            plan: Plan::new(settings.protocol, settings.table),
            objects: Objects::new(NEXT_HOP_ID_FIRST, settings.protocol),
            uses_objects: settings.next_hop_objects,
            has_set_compat_mode: false,
            resolver: Resolver::default(),
            due: None,
            resyncs: 0,
            error: None,
            done: 0,
            stop: false,
            settings,
        };
        driver.look(Look::ALL)?;
        driver.report();
        Ok(driver)
    }

    pub(super) fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => Err(netlink::Error::Io {
                action: "start the driver's runtime".into(),
                source: error,
            }),
        };
        if let Err(error) = served {
            warn!(%error, "the kernel routes' driver has stopped; routes stay as they are");
            self.error = Some(error.to_string());
        }
        self.report();
    }

    async fn serve(&mut self) -> Result<(), netlink::Error> {
        let Some(monitor) = self.monitor.take() else {
            return Ok(());
        };
        let mut monitor = monitor.into_async()?;
        let shared = Arc::clone(&self.shared);
        let mut lookup = tokio::time::interval(self.settings.lookup_interval.max(Duration::from_millis(1)));
        let mut read_back =
            tokio::time::interval(self.settings.read_back_interval.max(Duration::from_millis(1)));
        lookup.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        read_back.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        read_back.reset(); // all was read a moment ago
        let mut retry = None;
        while !self.stop {
            let mut look = Look::default();
            let due = self.due.map(|(at, _)| at);
            tokio::select! {
                () = shared.wake.notified() => {}
                event = monitor.next() => self.notice(event?),
                () = sleep_until(due) => {}
                _ = lookup.tick() => look.next_hops = true,
                _ = read_back.tick() => {
                    (look.routes, look.guards) = (true, true);
                }
                () = sleep_until(retry) => look = Look::ALL,
            }
            if let Some((_, asked_for)) = self.due.take_if(|(at, _)| *at <= Instant::now()) {
                look = look.and(asked_for);
            }
            let turned = self.turn(look, &mut monitor);
            self.land_all();
            retry = turned.err().map(|error| {
                warn!(%error, "kernel routes: everything is read again");
                self.error = Some(error.to_string());
                Instant::now() + RETRY_TIME
            });
            if retry.is_none() {
                self.error = None;
            }
            self.report();
        }
        Ok(())
    }

    /// Look, take what callers want, and carry it out.
    fn turn(&mut self, look: Look, monitor: &mut AsyncMonitor) -> Result<(), netlink::Error> {
        let mut received = self.take_inbox()?;
        self.catch_up(monitor)?;
        self.look(look)?;
        // Stopping ends at a batch's end.
        while !self.stop {
            if self.carry_out()? {
                self.done = received;
                break;
            }
            received = self.take_inbox()?;
            self.catch_up(monitor)?;
            self.report();
        }
        while !self.flight.is_empty() {
            self.land()?;
        }
        let unused = self
            .objects
            .unused(|id| self.plan.uses_group(id), self.plan.is_swept());
        if !unused.is_empty() {
            self.plan.forget_groups();
        }
        self.change_objects(&unused)
    }

    /// Takes in what others have changed so far: whoever changed something before giving us work has it seen before
    /// that work is done.
    fn catch_up(&mut self, monitor: &mut AsyncMonitor) -> Result<(), netlink::Error> {
        for _ in 0..EVENTS_MAX {
            let Some(event) = monitor.try_next()? else { break };
            // What is believed of the kernel is to be what it was when that happened, or later.
            while !self.flight.is_empty() {
                self.land()?;
            }
            self.notice(event);
        }
        Ok(())
    }

    /// Somebody else, or the kernel, has changed something.
    fn notice(&mut self, event: Event) {
        match event {
            Event::Link(link) => {
                self.resolver.name_link(link.index, &link.name);
                // One that can be used and could be used before has not lost anything.
                let stays = link.up && link.carrier && self.resolver.is_usable(link.index);
                self.link_changed(link.index, !stays);
            }
            Event::LinkGone(link) => self.link_changed(link.index, true),
            Event::Address(address) => self.link_changed(address.interface, false),
            Event::AddressGone(address) => self.link_changed(address.interface, true),
            Event::Route(route) => self.route_changed(&route, false),
            Event::RouteGone(route) => self.route_changed(&route, true),
            Event::NextHop(object) | Event::NextHopGone(object) => {
                // Routes that depend on it are gone without a word.
                let routes = object.protocol == self.settings.protocol;
                self.look_soon(Look {
                    routes,
                    ..Look::default()
                });
            }
            Event::Neighbour(_) | Event::NeighbourGone(_) => {}
            Event::Resync => {
                self.resyncs += 1;
                info!("changes in the kernel came faster than they were read: everything is read again");
                self.look_soon(Look::ALL);
            }
        }
    }

    fn look_soon(&mut self, look: Look) {
        let (at, before) = self
            .due
            .unwrap_or_else(|| (Instant::now() + BURST_TIME, Look::default()));
        self.due = Some((at, before.and(look)));
    }

    /// The kernel takes routes and next-hop objects of a link away in silence, when the link or an address goes.
    fn link_changed(&mut self, index: u32, may_have_lost: bool) {
        self.look_soon(Look {
            links: true,
            routes: may_have_lost && self.resolver.leads_over(index),
            ..Look::default()
        });
    }

    fn route_changed(&mut self, route: &Route, is_gone: bool) {
        if route.table != self.settings.table {
            return;
        }
        if route.protocol == self.settings.protocol {
            return self.plan.changed_by_others(route, is_gone);
        }
        match self.guard(route) {
            // Another one may still be there.
            Some(_) if is_gone => self.look_soon(Look {
                guards: true,
                ..Look::default()
            }),
            Some(guard) => self.plan.add_guard(route.destination, guard),
            None => {}
        }
        if is_gone {
            self.plan.place_is_free(&route.destination);
        } else {
            self.plan.place_is_taken(route);
        }
        let next_hops = self.resolver.leans_on(&route.destination);
        if next_hops {
            self.look_soon(Look {
                next_hops,
                ..Look::default()
            });
        }
    }

    fn take_inbox(&mut self) -> Result<u64, netlink::Error> {
        let (suspensions, changes, interests, sweep, normal_metrics, received) = {
            let mut inbox = lock(&self.shared.inbox);
            self.stop |= inbox.stop;
            (
                std::mem::take(&mut inbox.suspensions),
                std::mem::take(&mut inbox.changes),
                std::mem::take(&mut inbox.interests),
                std::mem::take(&mut inbox.sweep),
                inbox.normal_metrics.take(),
                inbox.received,
            )
        };
        if !changes.is_empty() {
            self.shared.room.notify_one();
        }
        if !suspensions.is_empty() {
            for (gateway, suspended) in suspensions {
                self.objects.suspend(gateway, suspended);
            }
            self.change_objects(&self.objects.missing())?;
        }
        if let Some(metrics) = normal_metrics {
            self.plan.set_normal_metrics(metrics);
        }
        let mut new = Vec::new();
        for (gateway, interest) in interests {
            match interest {
                NextHopInterest::Resolve(_) => {
                    self.resolver.track(gateway);
                    new.push(gateway);
                }
                NextHopInterest::Forget(_) => self.resolver.forget(gateway),
            }
        }
        let mut tracked = None;
        for (at, change) in changes.iter().enumerate() {
            if at % EXPECTED_PREFIXES == 0 {
                let next = changes.iter().skip(at).take(EXPECTED_PREFIXES);
                self.plan.expect(next.map(|change| &change.prefix));
            }
            let wanted = change.route.as_ref().map(|route| self.wanted(route));
            // Routes are resolved by themselves too: the caller need not track their next hops.
            for next_hop in wanted.iter().flat_map(|wanted| &wanted.next_hops) {
                if tracked != Some(*next_hop) && self.resolver.get(*next_hop).is_none() {
                    self.resolver.track(*next_hop);
                    new.push(*next_hop);
                }
                tracked = Some(*next_hop);
            }
            self.plan.want(change.prefix, wanted);
        }
        self.resolve(&new, true)?;
        for family in sweep.iter() {
            self.plan.sweep(family);
        }
        Ok(received)
    }

    fn wanted(&self, route: &FibRoute) -> Wanted {
        Wanted {
            metric: self.settings.metric.of(route.local_pref),
            next_hops: match &route.action {
                FibAction::Forward(next_hops) => next_hops.clone(),
                FibAction::Discard => NextHops::new(),
            },
        }
    }

    fn look(&mut self, look: Look) -> Result<(), netlink::Error> {
        let mut links_changed = false;
        if look.links {
            let links = self.netlink.links()?;
            let addresses = self.netlink.addresses()?;
            links_changed = self.resolver.set_links(&links, &addresses);
        }
        if look.routes {
            let ours = RouteFilter::owned(self.settings.table, self.settings.protocol);
            if self.settings.next_hop_objects {
                match self.netlink.next_hops() {
                    Ok(seen) => self.objects.read_back(seen),
                    Err(error) => self.do_without_objects(&error.to_string()),
                }
            }
            let netlink = &mut self.netlink;
            self.plan
                .read_back(|each| netlink.each_route(&ours, |route| each(&route)))?;
        }
        if look.guards || look.routes {
            let guards = self.guards()?;
            self.plan.set_guards(guards);
        }
        if look.next_hops || look.routes || links_changed {
            self.resolve(&self.resolver.tracked(), false)?;
        }
        Ok(())
    }

    /// Foreign routes that ours make way for.
    fn guards(&mut self) -> Result<FxHashMap<Prefix, Guard>, netlink::Error> {
        let mut guards = FxHashMap::default();
        let table = Some(self.settings.table);
        let workloads = RouteFilter {
            table,
            protocol: Some(protocol::BOOT),
            ..RouteFilter::default()
        };
        let mut found = self.netlink.routes(&workloads)?;
        for kind in [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit] {
            let dead_ends = RouteFilter {
                table,
                kind: Some(kind),
                ..RouteFilter::default()
            };
            found.extend(self.netlink.routes(&dead_ends)?);
        }
        let guards_of = |route: &Route| Some((route.destination, self.guard(route)?));
        guards.extend(found.iter().filter_map(guards_of));
        Ok(guards)
    }

    /// Whether ours make way for a route, and why.
    fn guard(&self, route: &Route) -> Option<Guard> {
        if route.kind.is_dead_end() {
            let is_foreign = route.protocol != self.settings.protocol && !is_kernels_last_resort(route);
            return is_foreign.then_some(Guard::DeadEnd {
                protocol: route.protocol,
            });
        }
        let is_host = route.destination.prefix_len() == route.destination.max_prefix_len();
        if !is_host || route.protocol != protocol::BOOT {
            return None;
        }
        let mut names = route
            .hops
            .iter()
            .filter_map(|hop| self.resolver.name(hop.interface?));
        let name = names.find(|name| name.starts_with(&self.settings.workload_interface_prefix))?;
        Some(Guard::Workload {
            interface: name.into(),
        })
    }

    /// Find the ways to next hops. `tell` reports them even if nothing changed.
    fn resolve(&mut self, gateways: &[Gateway], tell: bool) -> Result<(), netlink::Error> {
        let mut changed = FxHashSet::default();
        let mut told = Vec::new();
        for gateway in gateways {
            let resolution = match self.resolver.connected(*gateway) {
                Some(resolution) => resolution,
                None => {
                    let found = self.netlink.lookup(gateway.address)?;
                    let is_recursive = |route: &Route| self.plan.is_recursive(route, &self.resolver);
                    self.resolver
                        .looked_up(gateway.address, found.as_ref(), is_recursive)
                }
            };
            let state = self.resolver.state(&resolution);
            let is_new = self.resolver.set(*gateway, resolution);
            if is_new {
                changed.insert(*gateway);
            }
            if is_new || tell {
                told.push((*gateway, state));
            }
        }
        if !changed.is_empty() {
            self.plan.next_hops_changed(&changed);
        }
        if !told.is_empty() {
            lock(&self.shared.resolved).extend(told);
            self.shared.resolved_wake.notify_one();
        }
        Ok(())
    }

    /// With the compatible mode, the kernel tells of every route when a next-hop object changes, which
    /// makes that as slow as changing the routes.
    fn set_compat_mode(&mut self) {
        if std::mem::replace(&mut self.has_set_compat_mode, true) {
            return;
        }
        if let Err(error) = sysctl::write_in(&self.netns, &[("net/ipv4/nexthop_compat_mode", "0")]) {
            info!(%error, "changes of next-hop objects are slower than they could be");
        }
    }

    fn report(&self) {
        let mut status = lock(&self.shared.status);
        self.plan.report(&mut status);
        status.next_hop_objects = self.objects.installed();
        status.uses_next_hop_objects = self.uses_objects;
        status.resyncs = self.resyncs;
        status.error.clone_from(&self.error);
        status.done = self.done;
        drop(status);
        self.shared.settled.notify_waiters();
    }
}

/// IPv6 shows a default of "unreachable" with the highest metric where there is no route.
fn is_kernels_last_resort(route: &Route) -> bool {
    route.protocol == protocol::KERNEL && route.metric == u32::MAX
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
