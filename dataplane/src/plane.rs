//! The dataplane as its caller sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ebpf_common::endpoint::{
    Generation, OWN_ADDRESSES_MAX, Publication, SOURCE_KEY_BITS, SourceKey, source_set,
};
use ebpf_common::program::{ClassKey, Hits};
use ipnet::IpNet;
use netlink::{Connection, Link};
use policy_engine::output::{Delta, Direction, Endpoint, EndpointId, Family, ProgramKey, RuleId};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::address::{net_to_map, to_map};
use crate::adopt::Adopted;
use crate::attach::Method;
use crate::batch::Batch;
use crate::config::EndpointToHost;
use crate::flow::FlowEvents;
use crate::identity::{Changes, Identities};
use crate::kernel::{Kernel, Maps, absent_is_fine, on};
use crate::names::Names;
use crate::programs::{Demand, Installed, Programs};
use crate::status::{Counters, EndpointState, EndpointStatus, FlowEntry, MapUsage, RuleHits, Sweep};
use crate::vectors::Vectors;
use crate::workload::Wanted;
use crate::{ApplyReport, Config, Error, Reason, RouteConflict, attach, conntrack, kernel, sys, workload};

/// The dataplane of one network namespace.
#[derive(Debug)]
pub struct Dataplane {
    config: Config,
    kernel: Kernel,
    maps: Maps,
    nl: Connection,
    method: Method,
    names: Names,
    events_taken: bool,
    identities: Identities,
    programs: Programs,
    installed: BTreeMap<ProgramKey, Installed>,
    endpoints: BTreeMap<EndpointId, Local>,
    /// Workload interfaces by index.
    interfaces: BTreeMap<u32, Interface>,
    /// What generations published now see of identities.
    epoch: u32,
    /// Until the end of the initial sync.
    adopted: Option<Adopted>,
    retired: Retired,
    /// Addresses whose workloads went since the last sweep.
    gone_addresses: FxHashSet<IpAddr>,
    /// Hits of programs that are gone.
    past_hits: FxHashMap<(RuleId, bool), Hits>,
    blocks: Option<BTreeSet<IpNet>>,
    block_conflicts: Vec<RouteConflict>,
    last_sweep: Sweep,
}

/// A workload interface.
#[derive(Debug)]
struct Interface {
    link: Link,
    /// Why its programs are not attached.
    trouble: Option<String>,
}

/// A local endpoint.
#[derive(Debug)]
struct Local {
    endpoint: Endpoint,
    number: u32,
    /// Sources besides its first addresses, and the id of their set.
    sources: (u32, Vec<IpNet>),
    published: Option<Published>,
    state: EndpointState,
    /// The state that the caller knows.
    reported: Option<EndpointState>,
    conflicts: Vec<RouteConflict>,
}

/// What an interface enforces.
#[derive(Debug, Clone, Copy)]
struct Published {
    ifindex: u32,
    generation: u32,
    value: Generation,
}

/// What packets may still be looking at; erased after a grace period.
#[derive(Debug, Default)]
struct Retired {
    generations: Vec<u32>,
    programs: Vec<Installed>,
    sources: Vec<(u32, Vec<IpNet>)>,
    identities: Vec<IpNet>,
    classes: Vec<(ProgramKey, Vec<ClassKey>)>,
}

impl Retired {
    fn is_empty(&self) -> bool {
        self.generations.is_empty()
            && self.programs.is_empty()
            && self.sources.is_empty()
            && self.identities.is_empty()
            && self.classes.is_empty()
    }
}

impl Dataplane {
    /// Loads the programs, adopts what an earlier process left under the pin directory, and attaches to every
    /// workload interface. What was enforced stays enforced; nothing is removed before
    /// [`Dataplane::end_of_initial_sync`].
    pub fn open(config: Config) -> Result<Self, Error> {
        let (kernel, mut maps) = kernel::open(&config)?;
        let nl = Connection::open()?;
        let method = Method::choose(config.attach)?;
        let adopted = Adopted::read(&maps)?;
        let identities = Identities::adopt(&maps, adopted.epoch)?;
        let vectors = Vectors::new(&mut maps, adopted.vectors.iter().copied())?;
        let rules = adopted.rules(maps.size("RULES"));
        let programs = Programs::new(vectors, rules, adopted.used)?;
        maps.write_settings(&config)?;
        let mut dataplane = Self {
            config,
            kernel,
            maps,
            nl,
            method,
            names: Names::default(),
            events_taken: false,
            identities,
            programs,
            installed: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            epoch: adopted.epoch,
            adopted: Some(adopted),
            retired: Retired::default(),
            gone_addresses: FxHashSet::default(),
            past_hits: FxHashMap::default(),
            blocks: None,
            block_conflicts: Vec::new(),
            last_sweep: Sweep::default(),
        };
        dataplane.read_links()?;
        Ok(dataplane)
    }

    /// Applies a batch as the policy engine gives it: a packet is judged by what was before or by what is after. On
    /// an error nothing has changed.
    pub fn apply(&mut self, deltas: &[Delta]) -> Result<ApplyReport, Error> {
        let known = |key: &ProgramKey| self.installed.get(key).map(Installed::vector_count);
        let batch = Batch::read(deltas, known)?;
        self.check_removals(&batch)?;
        // The second identity of an entry that waits for its end was computed with the prefixes of then.
        if !self.retired.identities.is_empty()
            && batch.identities.keys().any(|net| !crate::address::is_host(net))
        {
            self.collect()?;
        }
        self.make_room(&batch)?;

        let mut fresh = self.install(&batch)?;
        let lessons = self.teach(&batch);
        let staged = lessons.and_then(|classes| {
            let epoch = self.epoch.wrapping_add(1);
            self.identities.stage(&mut self.maps, &batch.identities, epoch)?;
            Ok(classes)
        });
        let classes = match staged {
            Ok(classes) => classes,
            Err(error) => {
                self.undo(&batch.identities, std::mem::take(&mut fresh))?;
                return Err(error);
            }
        };
        // From here on what fails is an endpoint's own trouble.
        self.retired.classes.extend(classes);
        if !batch.identities.is_empty() {
            self.epoch = self.epoch.wrapping_add(1);
        }
        for (key, program) in fresh {
            self.names.add_program(program.id, program.names.clone());
            if let Some(old) = self.installed.insert(key, program) {
                self.retired.programs.push(old);
            }
        }
        for key in &batch.dropped {
            self.retired.programs.extend(self.installed.remove(key));
        }
        let mut report = ApplyReport::default();
        let touched = self.change_endpoints(batch.endpoints, &mut report);
        self.publish_all(&mut report);
        let gone = self.identities.commit(batch.identities);
        self.retired.identities.extend(gone);
        self.settle(&touched, &mut report);
        Ok(report)
    }

    /// The batches so far hold everything that is desired: what was adopted and is not among it is removed.
    pub fn end_of_initial_sync(&mut self) -> Result<ApplyReport, Error> {
        let mut report = ApplyReport::default();
        let Some(adopted) = self.adopted.take() else {
            return Ok(report);
        };
        let orphans = self.identities.orphans();
        if !orphans.is_empty() {
            self.epoch = self.epoch.wrapping_add(1);
            self.identities.stage(&mut self.maps, &orphans, self.epoch)?;
        }
        let published: FxHashSet<u32> = self
            .endpoints
            .values()
            .filter_map(|local| local.published.map(|p| p.ifindex))
            .collect();
        for ifindex in adopted
            .publications
            .keys()
            .filter(|ifindex| !published.contains(ifindex))
        {
            absent_is_fine(self.maps.interfaces.remove(ifindex)).map_err(on("INTERFACES", "erase"))?;
        }
        self.publish_all(&mut report);
        let gone = self.identities.commit(orphans);
        self.retired.identities.extend(gone);
        // Interfaces without an endpoint whose programs are still those of another layout.
        if !self.kernel.other_layouts.is_empty() {
            let all: Vec<_> = self.interfaces.keys().copied().collect();
            for ifindex in all {
                self.attach(ifindex);
            }
            if self
                .interfaces
                .values()
                .all(|interface| interface.trouble.is_none())
            {
                self.kernel.remove_other_layouts()?;
            }
        }
        self.collect()?;
        adopted.collect(&mut self.maps, &mut self.programs.rules)?;
        self.programs
            .vectors
            .release_adopted(adopted.vectors.iter().copied());
        self.programs.forget(adopted.used);
        self.settle_all(&mut report);
        Ok(report)
    }

    /// The blocks that this host owns now: each gets a blackhole route (not those of one address), and blocks that
    /// are not named any more lose theirs. When this returns without conflicts, they may be announced.
    pub fn set_local_blocks(&mut self, blocks: &[IpNet]) -> Result<ApplyReport, Error> {
        self.blocks = Some(blocks.iter().map(IpNet::trunc).collect());
        let mut report = ApplyReport::default();
        self.settle_blocks()?;
        self.finish(&mut report);
        Ok(report)
    }

    /// To be called with each event of a [`netlink::Monitor`] of links (the others are ignored): programs are attached
    /// to new interfaces, and endpoints that waited for them are brought up.
    pub fn link_event(&mut self, event: &netlink::Event) -> Result<ApplyReport, Error> {
        let mut report = ApplyReport::default();
        match event {
            netlink::Event::Link(link) => {
                let before = self
                    .interfaces
                    .get(&link.index)
                    .map(|interface| interface.link.clone());
                if before.as_ref() == Some(link) {
                    return Ok(report);
                }
                let names = [Some(link.name.clone()), before.map(|link| link.name)];
                self.link_is(link.clone());
                self.settle_interfaces(names.into_iter().flatten().collect(), &mut report);
            }
            netlink::Event::LinkGone(link) if self.interfaces.contains_key(&link.index) => {
                self.link_is_gone(link.index)?;
                self.settle_interfaces(vec![link.name.clone()], &mut report);
            }
            netlink::Event::Resync => return self.resync(),
            _ => {}
        }
        Ok(report)
    }

    /// Compares attachments, links, sysctls, routes and neighbours with what they should be and repairs them; every
    /// 90 s or so, and after a [`netlink::Event::Resync`].
    pub fn resync(&mut self) -> Result<ApplyReport, Error> {
        self.read_links()?;
        let mut report = ApplyReport::default();
        let all: Vec<_> = self.interfaces.keys().copied().collect();
        for ifindex in all {
            self.check_attached(ifindex);
        }
        self.publish_all(&mut report);
        if self.adopted.is_none() {
            self.repair_publications(&mut report)?;
        }
        self.settle_all(&mut report);
        Ok(report)
    }

    /// Every endpoint and its state.
    pub fn statuses(&self) -> Vec<EndpointStatus> {
        self.endpoints.values().map(Local::status).collect()
    }

    /// The reading end of the flow events; once.
    pub fn take_flow_events(&mut self) -> Result<Option<FlowEvents>, Error> {
        if self.events_taken {
            return Ok(None);
        }
        let events = FlowEvents::open(&self.kernel.events_path, self.names.clone())?;
        self.events_taken = true;
        Ok(Some(events))
    }

    /// Counters of the programs.
    pub fn counters(&self) -> Result<Counters, Error> {
        let reasons = Reason::ALL.iter().map(|&reason| {
            let per_cpu = self
                .maps
                .counters
                .get(&(reason as u32), 0)
                .map_err(on("COUNTERS", "read"))?;
            Ok((reason, per_cpu.iter().sum()))
        });
        Ok(Counters {
            reasons: reasons.collect::<Result<_, Error>>()?,
            flows: self.last_sweep.flows,
            new_flows: self.last_sweep.new_flows,
            maps: self.usage(),
        })
    }

    fn usage(&self) -> Vec<MapUsage> {
        let used = self.programs.used;
        [
            ("VECTORS", self.programs.vectors.used()),
            ("RULES", self.programs.rules.used()),
            ("CLASSES", used.classes),
            ("NETS", used.nets),
            ("PORTS", used.ports),
            ("TUPLES", used.tuples),
            ("IDENTITIES", self.identities.hosts_used()),
            ("IDENTITY_NETS", self.identities.nets_used()),
        ]
        .into_iter()
        .map(|(map, used)| MapUsage {
            map,
            used,
            size: self.maps.size(map),
        })
        .collect()
    }

    /// Hits of each rule.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, Error> {
        let mut sums = self.past_hits.clone();
        let current = self.installed.values().chain(&self.retired.programs);
        for program in current {
            add_hits(&mut sums, program, &self.programs.hits(&self.maps, program)?);
        }
        let hits = sums.into_iter().map(|((rule, ingress), hits)| RuleHits {
            rule,
            direction: if ingress {
                Direction::Ingress
            } else {
                Direction::Egress
            },
            packets: hits.packets,
            bytes: hits.bytes,
        });
        let mut hits: Vec<_> = hits.collect();
        hits.sort_by(|a, b| (&a.rule, a.direction).cmp(&(&b.rule, b.direction)));
        Ok(hits)
    }

    /// Removes expired flows, and what old generations of policies left; every 10 s or so. Verdicts do not depend on
    /// it.
    pub fn sweep(&mut self) -> Result<Sweep, Error> {
        self.collect()?;
        self.names.expire(Instant::now());
        self.last_sweep = conntrack::sweep(&mut self.maps, &self.gone_addresses)?;
        self.gone_addresses.clear();
        Ok(self.last_sweep)
    }

    /// Tracked flows, at most `limit`.
    pub fn flows(&self, limit: usize) -> Result<Vec<FlowEntry>, Error> {
        conntrack::list(&self.maps, limit)
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Policy: programs, identities, publication.
impl Dataplane {
    /// A program that an endpoint keeps using cannot go.
    fn check_removals(&self, batch: &Batch) -> Result<(), Error> {
        for (id, local) in &self.endpoints {
            if batch.endpoints.contains_key(id) {
                continue;
            }
            if let Some(key) = local
                .endpoint
                .programs
                .keys()
                .iter()
                .find(|key| batch.dropped.contains(key))
            {
                return Err(Error::Delta {
                    subject: format!("{key:?}"),
                    reason: format!("the program is removed while endpoint {id:?} uses it"),
                });
            }
        }
        Ok(())
    }

    /// Fails if the batch does not fit, even without what waits for its end.
    fn make_room(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.room(batch).is_err() {
            self.collect()?;
        }
        self.room(batch)
    }

    fn room(&self, batch: &Batch) -> Result<(), Error> {
        let programs = batch.programs.values();
        let mut demand = programs
            .clone()
            .map(|program| Demand::of(program))
            .fold(Demand::default(), Demand::plus);
        let lessons = || batch.lessons.iter().map(|(_, change)| change);
        for change in lessons() {
            let entries = change.source.len() + change.destination.len();
            demand.classes = demand
                .classes
                .saturating_add(u32::try_from(entries).unwrap_or(u32::MAX));
        }
        let vectors = programs
            .flat_map(|program| &program.vectors)
            .chain(lessons().flat_map(|change| &change.vectors));
        let (hosts, nets) = self.identities.additions(&batch.identities);
        let used = self.programs.used;
        let checks = [
            (
                "VECTORS",
                "vectors",
                self.programs.vectors.used(),
                self.programs.vectors.missing(vectors),
            ),
            ("RULES", "rules", self.programs.rules.used(), demand.rules),
            ("CLASSES", "classes", used.classes, demand.classes),
            ("NETS", "nets", used.nets, demand.nets),
            ("PORTS", "ports", used.ports, demand.ports),
            ("TUPLES", "tuples", used.tuples, demand.tuples),
            ("IDENTITIES", "identities", self.identities.hosts_used(), hosts),
            (
                "IDENTITY_NETS",
                "identity_nets",
                self.identities.nets_used(),
                nets,
            ),
        ];
        for (map, key, used, wanted) in checks {
            let size = self.maps.size(map);
            if used.saturating_add(wanted) > size {
                return Err(Error::Full {
                    map,
                    key,
                    used,
                    size,
                    wanted,
                });
            }
        }
        Ok(())
    }

    fn install(&mut self, batch: &Batch) -> Result<Vec<(ProgramKey, Installed)>, Error> {
        let mut fresh = Vec::with_capacity(batch.programs.len());
        for (key, program) in &batch.programs {
            match self.programs.install(&mut self.maps, program) {
                Ok(installed) => fresh.push((*key, installed)),
                Err(error) => {
                    self.undo(&Changes::default(), fresh)?;
                    return Err(error);
                }
            }
        }
        Ok(fresh)
    }

    /// Adds identities to programs in force; no address has them yet.
    fn teach(&mut self, batch: &Batch) -> Result<Vec<(ProgramKey, Vec<ClassKey>)>, Error> {
        let mut gone = Vec::new();
        for (key, change) in &batch.lessons {
            if let Some(installed) = self.installed.get_mut(key) {
                gone.push((*key, self.programs.extend(&mut self.maps, installed, change)?));
            }
        }
        Ok(gone)
    }

    /// Takes back what a batch wrote before it failed; nothing of it was published.
    fn undo(&mut self, identities: &Changes, fresh: Vec<(ProgramKey, Installed)>) -> Result<(), Error> {
        self.identities.unstage(&mut self.maps, identities)?;
        for (_, program) in fresh {
            self.programs.remove(&mut self.maps, program)?;
        }
        Ok(())
    }

    /// Takes over the endpoints of a batch; gives the names of interfaces that are concerned.
    fn change_endpoints(
        &mut self,
        changes: BTreeMap<EndpointId, Option<Box<Endpoint>>>,
        report: &mut ApplyReport,
    ) -> Vec<String> {
        let mut touched = Vec::new();
        for (id, change) in changes {
            if let Some(old) = self.endpoints.get(&id) {
                touched.push(old.endpoint.interface.clone());
                self.gone_addresses.extend(old.endpoint.addresses.iter().copied());
            }
            let Some(endpoint) = change else {
                if let Some(old) = self.endpoints.remove(&id) {
                    self.withdraw(&old, report);
                    if old.sources.0 != 0 {
                        self.retired.sources.push(old.sources);
                    }
                    self.names.drop_endpoint(old.number, Instant::now());
                    report.removed.push(id);
                }
                continue;
            };
            touched.push(endpoint.interface.clone());
            self.mark_directions(&endpoint);
            if let Err(error) = self.set_endpoint(*endpoint) {
                report.errors.push(format!("endpoint {id:?}: {error}"));
            }
        }
        for local in self.endpoints.values() {
            for address in &local.endpoint.addresses {
                self.gone_addresses.remove(address);
            }
        }
        touched
    }

    fn mark_directions(&mut self, endpoint: &Endpoint) {
        for (direction, family) in [
            (Direction::Ingress, Family::V4),
            (Direction::Egress, Family::V4),
            (Direction::Ingress, Family::V6),
            (Direction::Egress, Family::V6),
        ] {
            if let Some(installed) = self.installed.get_mut(&endpoint.programs.key(direction, family)) {
                installed.ingress = direction == Direction::Ingress;
            }
        }
    }

    fn set_endpoint(&mut self, endpoint: Endpoint) -> Result<(), Error> {
        let more = endpoint
            .addresses
            .iter()
            .skip(OWN_ADDRESSES_MAX)
            .map(|&address| IpNet::from(address));
        let wanted: Vec<IpNet> = more
            .chain(endpoint.allowed_sources.iter().map(IpNet::trunc))
            .collect();
        let old = self.endpoints.remove(&endpoint.id);
        let (number, mut sources, published, state, reported) = match old {
            Some(old) => (old.number, old.sources, old.published, old.state, old.reported),
            None => {
                let number = self.maps.next_id()?;
                self.names.add_endpoint(number, endpoint.id.clone());
                (
                    number,
                    (0, Vec::new()),
                    None,
                    EndpointState::WaitingForInterface,
                    None,
                )
            }
        };
        if sources.1 != wanted {
            if sources.0 != 0 {
                self.retired.sources.push(std::mem::take(&mut sources));
            }
            sources = (self.write_sources(&wanted)?, wanted);
        }
        let id = endpoint.id.clone();
        let local = Local {
            endpoint,
            number,
            sources,
            published,
            state,
            reported,
            conflicts: Vec::new(),
        };
        self.endpoints.insert(id, local);
        Ok(())
    }

    /// Writes a set of sources and gives its id; 0 for none.
    fn write_sources(&mut self, nets: &[IpNet]) -> Result<u32, Error> {
        if nets.is_empty() {
            return Ok(0);
        }
        let sources = self.maps.next_id()?;
        for net in nets {
            let key = source_key(sources, net);
            self.maps
                .sources
                .insert(&key, 1, 0)
                .map_err(on("SOURCES", "write"))?;
        }
        Ok(sources)
    }

    /// Publishes every endpoint that has an interface and differs from what is in force there.
    fn publish_all(&mut self, report: &mut ApplyReport) {
        let by_name: BTreeMap<String, u32> = self
            .interfaces
            .values()
            .map(|i| (i.link.name.clone(), i.link.index))
            .collect();
        let mut taken: BTreeMap<u32, EndpointId> = BTreeMap::new();
        let ids: Vec<EndpointId> = self.endpoints.keys().cloned().collect();
        let mut old: Vec<(EndpointId, Published)> = Vec::new();
        for id in ids {
            let Some(local) = self.endpoints.get(&id) else {
                continue;
            };
            let Some(&ifindex) = by_name.get(&local.endpoint.interface) else {
                old.extend(self.unpublish(&id).map(|published| (id, published)));
                continue;
            };
            if let Some(first) = taken.get(&ifindex) {
                let reason = format!(
                    "interface {} belongs to endpoint {first:?}",
                    local.endpoint.interface
                );
                old.extend(self.unpublish(&id).map(|published| (id.clone(), published)));
                self.set_state(&id, EndpointState::Error(reason));
                continue;
            }
            taken.insert(ifindex, id.clone());
            if let Err(error) = self.publish(&id, ifindex) {
                report.errors.push(format!("endpoint {id:?}: {error}"));
                self.set_state(&id, EndpointState::Error(error.to_string()));
            }
        }
        // Last, so that an interface that changed hands has gone from one policy to the other.
        for (_, published) in old {
            if !taken.contains_key(&published.ifindex) {
                self.erase_publication(published.ifindex, report);
            }
            self.retired.generations.push(published.generation);
        }
    }

    fn unpublish(&mut self, id: &EndpointId) -> Option<Published> {
        self.endpoints
            .get_mut(id)
            .and_then(|local| local.published.take())
    }

    fn erase_publication(&mut self, ifindex: u32, report: &mut ApplyReport) {
        if let Err(error) = absent_is_fine(self.maps.interfaces.remove(&ifindex)) {
            report.errors.push(on("INTERFACES", "erase")(error).to_string());
        }
    }

    fn publish(&mut self, id: &EndpointId, ifindex: u32) -> Result<(), Error> {
        let Some(local) = self.endpoints.get(id) else {
            return Ok(());
        };
        let value = self.generation_of(local);
        if local
            .published
            .is_some_and(|p| p.value == value && p.ifindex == ifindex)
        {
            return Ok(());
        }
        let generation = self.maps.next_id()?;
        self.maps
            .generations
            .insert(generation, value, 0)
            .map_err(on("GENERATIONS", "write"))?;
        let publication = Publication { ifindex, generation };
        if let Err(error) = self.maps.interfaces.insert(ifindex, publication, 0) {
            self.retired.generations.push(generation);
            return Err(on("INTERFACES", "write")(error));
        }
        if let Some(local) = self.endpoints.get_mut(id) {
            let old = local.published.replace(Published {
                ifindex,
                generation,
                value,
            });
            self.retired.generations.extend(old.map(|old| old.generation));
        }
        if !self.kernel.other_layouts.is_empty() {
            self.attach(ifindex);
        }
        Ok(())
    }

    fn generation_of(&self, local: &Local) -> Generation {
        let program = |direction, family| {
            let key = local.endpoint.programs.key(direction, family);
            self.installed.get(&key).map_or(0, |installed| installed.id)
        };
        let mut value = Generation {
            programs: [
                program(Direction::Ingress, Family::V4),
                program(Direction::Egress, Family::V4),
                program(Direction::Ingress, Family::V6),
                program(Direction::Egress, Family::V6),
            ],
            epoch: self.epoch,
            endpoint: local.number,
            sources: local.sources.0,
            flags: match self.config.endpoint_to_host {
                EndpointToHost::Drop => 0,
                EndpointToHost::Return | EndpointToHost::Accept => ebpf_common::endpoint::HOST_ALLOWED,
            },
            ..Generation::default()
        };
        for (place, address) in value.addresses.iter_mut().zip(&local.endpoint.addresses) {
            *place = to_map(*address);
            value.address_count += 1;
        }
        value
    }

    /// Writes publications again that someone else removed.
    fn repair_publications(&mut self, report: &mut ApplyReport) -> Result<(), Error> {
        let wanted: Vec<Published> = self
            .endpoints
            .values()
            .filter_map(|local| local.published)
            .collect();
        for published in &wanted {
            let there = self
                .maps
                .interfaces
                .get(&published.ifindex, 0)
                .ok()
                .map(|p| p.generation);
            if there == Some(published.generation)
                && self.maps.generations.get(&published.generation, 0).is_ok()
            {
                continue;
            }
            report.errors.push(format!(
                "the publication of interface {} was changed by someone else",
                published.ifindex
            ));
            self.maps
                .generations
                .insert(published.generation, published.value, 0)
                .map_err(on("GENERATIONS", "write"))?;
            let publication = Publication {
                ifindex: published.ifindex,
                generation: published.generation,
            };
            self.maps
                .interfaces
                .insert(published.ifindex, publication, 0)
                .map_err(on("INTERFACES", "write"))?;
        }
        Ok(())
    }

    /// An endpoint is gone: its interface drops everything, its routes go.
    fn withdraw(&mut self, local: &Local, report: &mut ApplyReport) {
        let Some(published) = local.published else { return };
        let successor = self
            .endpoints
            .values()
            .any(|other| other.endpoint.interface == local.endpoint.interface);
        if !successor {
            self.erase_publication(published.ifindex, report);
        }
        self.retired.generations.push(published.generation);
    }

    /// Erases what has been replaced, once no packet can be looking at it.
    fn collect(&mut self) -> Result<(), Error> {
        if self.retired.is_empty() {
            return Ok(());
        }
        sys::wait_for_readers().map_err(kernel::io("wait for the programs to leave old generations"))?;
        let now = Instant::now();
        for generation in self.retired.generations.drain(..) {
            absent_is_fine(self.maps.generations.remove(&generation)).map_err(on("GENERATIONS", "erase"))?;
        }
        for (sources, nets) in self.retired.sources.drain(..) {
            for net in &nets {
                let outcome = self.maps.sources.remove(&source_key(sources, net));
                absent_is_fine(outcome).map_err(on("SOURCES", "erase"))?;
            }
        }
        for net in self.retired.identities.drain(..) {
            self.identities.erase(&mut self.maps, &net)?;
        }
        for (key, classes) in self.retired.classes.drain(..) {
            self.programs
                .erase_classes(&mut self.maps, self.installed.get_mut(&key), &classes)?;
        }
        for program in self.retired.programs.drain(..) {
            self.names.drop_program(program.id, now);
            add_hits(
                &mut self.past_hits,
                &program,
                &self.programs.hits(&self.maps, &program)?,
            );
            self.programs.remove(&mut self.maps, program)?;
        }
        Ok(())
    }
}

/// Interfaces, routes, neighbours.
impl Dataplane {
    /// Reads all links, as if each had just come.
    fn read_links(&mut self) -> Result<(), Error> {
        let links = self.nl.links()?;
        if self.config.sysctls {
            workload::enable_forwarding(&links, &self.config.interface_prefix)?;
        }
        let present: Vec<u32> = links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self
            .interfaces
            .keys()
            .copied()
            .filter(|index| !present.contains(index))
            .collect();
        for ifindex in gone {
            self.link_is_gone(ifindex)?;
        }
        attach::remove_dead_pins(&self.kernel, &present)?;
        let stale: Vec<u32> = self
            .adopted
            .iter()
            .flat_map(|adopted| adopted.publications.keys().copied())
            .filter(|index| !present.contains(index))
            .collect();
        for ifindex in stale {
            absent_is_fine(self.maps.interfaces.remove(&ifindex)).map_err(on("INTERFACES", "erase"))?;
        }
        for link in links {
            self.link_is(link);
        }
        Ok(())
    }

    /// Takes note of a link, and attaches to it if it is a new workload interface.
    fn link_is(&mut self, link: Link) {
        let index = link.index;
        if !link.name.starts_with(&self.config.interface_prefix) {
            // It may have been renamed.
            self.interfaces.remove(&index);
            return;
        }
        match self.interfaces.get_mut(&index) {
            Some(interface) => interface.link = link,
            None => {
                self.interfaces.insert(index, Interface { link, trouble: None });
                if self.kernel.other_layouts.is_empty() {
                    self.attach(index);
                }
            }
        }
    }

    fn link_is_gone(&mut self, ifindex: u32) -> Result<(), Error> {
        self.interfaces.remove(&ifindex);
        absent_is_fine(self.maps.interfaces.remove(&ifindex)).map_err(on("INTERFACES", "erase"))?;
        for local in self.endpoints.values_mut() {
            if let Some(published) = local.published.take_if(|published| published.ifindex == ifindex) {
                self.retired.generations.push(published.generation);
            }
        }
        attach::forget(&self.kernel, ifindex)
    }

    fn attach(&mut self, ifindex: u32) {
        let Some(interface) = self.interfaces.get_mut(&ifindex) else {
            return;
        };
        let outcome = attach::attach(
            &mut self.kernel,
            &self.maps,
            self.method,
            &interface.link.name,
            ifindex,
        );
        interface.trouble = outcome.err().map(|error| error.to_string());
        if let Some(reason) = &interface.trouble {
            tracing::error!(
                interface = interface.link.name,
                reason,
                "programs are not attached"
            );
        }
    }

    fn check_attached(&mut self, ifindex: u32) {
        let Some(interface) = self.interfaces.get(&ifindex) else {
            return;
        };
        let name = interface.link.name.clone();
        if !attach::is_attached(&mut self.kernel, self.method, &name, ifindex).unwrap_or(false) {
            tracing::warn!(
                interface = name,
                "programs were not at the interface: attached again"
            );
            self.attach(ifindex);
        }
    }

    /// Publishes and settles what concerns some interfaces.
    fn settle_interfaces(&mut self, names: Vec<String>, report: &mut ApplyReport) {
        let concerned = |local: &Local| names.contains(&local.endpoint.interface);
        if self.endpoints.values().any(concerned) {
            self.publish_all(report);
            self.settle(&names, report);
        }
    }

    fn settle_all(&mut self, report: &mut ApplyReport) {
        let mut names: BTreeSet<String> = self.interfaces.values().map(|i| i.link.name.clone()).collect();
        names.extend(
            self.endpoints
                .values()
                .map(|local| local.endpoint.interface.clone()),
        );
        if self.adopted.is_some() {
            // Routes of workloads that no batch has named yet stay.
            names = self
                .endpoints
                .values()
                .map(|local| local.endpoint.interface.clone())
                .collect();
        }
        if let Err(error) = self.settle_blocks() {
            report.errors.push(error.to_string());
        }
        let names: Vec<_> = names.into_iter().collect();
        self.settle(&names, report);
    }

    /// Brings links, sysctls, routes and neighbours of interfaces to what they should be, and completes the report.
    fn settle(&mut self, names: &[String], report: &mut ApplyReport) {
        let names: BTreeSet<&String> = names.iter().collect();
        let owners = self.owners();
        // Who loses an address before who gets it.
        for pass in [false, true] {
            for name in &names {
                let owner = self
                    .endpoints
                    .values()
                    .find(|l| l.endpoint.interface == **name && l.published.is_some());
                let owner = owner.map(|local| local.endpoint.id.clone());
                if owner.is_some() != pass {
                    continue;
                }
                match owner {
                    Some(id) => self.settle_endpoint(&id, &owners, report),
                    None => self.settle_vacant(name, report),
                }
                self.note_losers(name, report);
            }
        }
        self.finish(report);
    }

    /// Which endpoint each address belongs to, if several claim it: the first by id that is published.
    fn owners(&self) -> FxHashMap<IpAddr, EndpointId> {
        let mut owners = FxHashMap::default();
        for (id, local) in self
            .endpoints
            .iter()
            .filter(|(_, local)| local.published.is_some())
        {
            for address in &local.endpoint.addresses {
                owners.entry(*address).or_insert_with(|| id.clone());
            }
        }
        owners
    }

    fn settle_vacant(&mut self, name: &str, report: &mut ApplyReport) {
        let waiting: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, local)| {
                local.endpoint.interface == name && !self.interfaces.values().any(|i| i.link.name == name)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.note_state(&id, EndpointState::WaitingForInterface, report);
        }
        let Some(interface) = self
            .interfaces
            .values()
            .find(|interface| interface.link.name == name)
        else {
            return;
        };
        if self.adopted.is_some() {
            return;
        }
        let link = interface.link.clone();
        let outcome = workload::reconcile(
            &mut self.nl,
            &self.config,
            &link,
            &Wanted::default(),
            &mut Vec::new(),
        );
        match outcome {
            Err(Error::Netlink(error)) if error.is_not_found() => {}
            Err(error) => report.errors.push(format!("interface {name}: {error}")),
            Ok(()) => {}
        }
    }

    /// Endpoints that claim an interface and did not get it.
    fn note_losers(&mut self, name: &str, report: &mut ApplyReport) {
        let losers: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, local)| local.endpoint.interface == name && local.published.is_none())
            .map(|(id, local)| (id.clone(), local.state.clone()))
            .collect();
        for (id, state) in losers {
            self.note_state(&id, state, report);
        }
    }

    fn settle_endpoint(
        &mut self,
        id: &EndpointId,
        owners: &FxHashMap<IpAddr, EndpointId>,
        report: &mut ApplyReport,
    ) {
        let mut conflicts = Vec::new();
        let state = match self.bring_up(id, owners, &mut conflicts) {
            Ok(()) => EndpointState::Up,
            Err(reason) => EndpointState::Error(reason),
        };
        if let Some(local) = self.endpoints.get_mut(id) {
            local.conflicts = conflicts;
        }
        self.note_state(id, state, report);
    }

    /// Everything after the policy is in force: the link goes up last but for what needs it to be up.
    fn bring_up(
        &mut self,
        id: &EndpointId,
        owners: &FxHashMap<IpAddr, EndpointId>,
        conflicts: &mut Vec<RouteConflict>,
    ) -> Result<(), String> {
        let Some(local) = self.endpoints.get(id) else {
            return Ok(());
        };
        let Some(published) = local.published else {
            return Err("its policy is not in force".to_owned());
        };
        let Some(interface) = self.interfaces.get_mut(&published.ifindex) else {
            return Err("its interface has gone".to_owned());
        };
        if let Some(trouble) = &interface.trouble {
            return Err(trouble.clone());
        }
        let link = interface.link.clone();
        if self.config.sysctls {
            workload::set_sysctls(&link.name).map_err(|e| e.to_string())?;
        }
        if !link.up {
            self.nl.set_up(link.index).map_err(|e| e.to_string())?;
            interface.link.up = true;
        }
        let own = |address: &&IpAddr| owners.get(address) == Some(id);
        let wanted = Wanted {
            addresses: local
                .endpoint
                .addresses
                .iter()
                .filter(own)
                .map(|&address| IpNet::from(address))
                .collect(),
            mac: local.endpoint.mac,
        };
        let others: Vec<_> = local
            .endpoint
            .addresses
            .iter()
            .filter(|address| !own(address))
            .collect();
        workload::reconcile(&mut self.nl, &self.config, &link, &wanted, conflicts)
            .map_err(|e| e.to_string())?;
        if let Some(address) = others.first() {
            return Err(format!(
                "its address {address} belongs to endpoint {:?} too",
                owners.get(address)
            ));
        }
        match conflicts
            .iter()
            .find(|conflict| wanted.addresses.contains(&conflict.destination))
        {
            Some(conflict) => Err(format!(
                "the route to {} is held by: {}",
                conflict.destination, conflict.holder
            )),
            None => Ok(()),
        }
    }

    fn set_state(&mut self, id: &EndpointId, state: EndpointState) {
        if let Some(local) = self.endpoints.get_mut(id) {
            local.state = state;
        }
    }

    fn note_state(&mut self, id: &EndpointId, state: EndpointState, report: &mut ApplyReport) {
        self.set_state(id, state);
        if let Some(local) = self.endpoints.get_mut(id)
            && local.reported.as_ref() != Some(&local.state)
        {
            local.reported = Some(local.state.clone());
            report.changed.push(local.status());
        }
    }

    fn settle_blocks(&mut self) -> Result<(), Error> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        self.block_conflicts.clear();
        workload::reconcile_blocks(&mut self.nl, &self.config, blocks, &mut self.block_conflicts)
    }

    fn finish(&self, report: &mut ApplyReport) {
        report.conflicts = self.block_conflicts.clone();
        report.conflicts.extend(
            self.endpoints
                .values()
                .flat_map(|local| local.conflicts.iter().cloned()),
        );
    }
}

impl Local {
    fn status(&self) -> EndpointStatus {
        EndpointStatus {
            id: self.endpoint.id.clone(),
            interface: self.endpoint.interface.clone(),
            state: self.state.clone(),
        }
    }
}

fn source_key(sources: u32, net: &IpNet) -> aya::maps::lpm_trie::Key<SourceKey> {
    let (bits, address) = net_to_map(*net);
    aya::maps::lpm_trie::Key::new(
        SOURCE_KEY_BITS + bits,
        SourceKey {
            set: source_set(sources, net.addr().is_ipv6()),
            address,
        },
    )
}

fn add_hits(sums: &mut FxHashMap<(RuleId, bool), Hits>, program: &Installed, hits: &[Hits]) {
    for (rule, hits) in program
        .names
        .iter()
        .zip(hits)
        .filter(|(_, hits)| hits.packets > 0)
    {
        let sum = sums.entry((rule.clone(), program.ingress)).or_default();
        sum.packets = sum.packets.saturating_add(hits.packets);
        sum.bytes = sum.bytes.saturating_add(hits.bytes);
    }
}
