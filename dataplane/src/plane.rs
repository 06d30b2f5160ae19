//! The dataplane as its caller sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ebpf_common::endpoint::Generation;
use ebpf_common::program::{ClassKey, Hits};
use ipnet::IpNet;
use netlink::{Connection, Link};
use policy_engine::output::{Delta, Direction, Endpoint, EndpointId, ProgramKey, RuleId};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::adopt::Adopted;
use crate::attach::Method;
use crate::batch::Batch;
use crate::flow::FlowEvents;
use crate::identity::Identities;
use crate::kernel::{Kernel, Maps, absent_is_fine, on};
use crate::names::Names;
use crate::programs::{Installed, Programs};
use crate::status::{Counters, EndpointState, EndpointStatus, FlowEntry, MapUsage, RuleHits, Sweep};
use crate::vectors::Vectors;
use crate::{ApplyReport, Config, Error, Reason, RouteConflict, conntrack, kernel};

/// The dataplane of one network namespace.
#[derive(Debug)]
pub struct Dataplane {
    pub(crate) config: Config,
    pub(crate) kernel: Kernel,
    pub(crate) maps: Maps,
    pub(crate) nl: Connection,
    pub(crate) method: Method,
    pub(crate) names: Names,
    pub(crate) events_taken: bool,
    pub(crate) identities: Identities,
    pub(crate) programs: Programs,
    pub(crate) installed: BTreeMap<ProgramKey, Installed>,
    pub(crate) endpoints: BTreeMap<EndpointId, Local>,
    /// Workload interfaces by index.
    pub(crate) interfaces: BTreeMap<u32, Interface>,
    /// What generations published now see of identities.
    pub(crate) epoch: u32,
    /// Until the end of the initial sync.
    pub(crate) adopted: Option<Adopted>,
    pub(crate) retired: Retired,
    /// Addresses whose workloads went since the last sweep.
    pub(crate) gone_addresses: FxHashSet<IpAddr>,
    /// Hits of programs that are gone.
    pub(crate) past_hits: FxHashMap<(RuleId, bool), Hits>,
    pub(crate) blocks: Option<BTreeSet<IpNet>>,
    pub(crate) block_conflicts: Vec<RouteConflict>,
    pub(crate) last_sweep: Sweep,
}

/// A workload interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) link: Link,
    /// Why its programs are not attached.
    pub(crate) trouble: Option<String>,
}

/// A local endpoint.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) endpoint: Endpoint,
    pub(crate) number: u32,
    /// Sources besides its first addresses, and the id of their set.
    pub(crate) sources: (u32, Vec<IpNet>),
    pub(crate) published: Option<Published>,
    pub(crate) state: EndpointState,
    /// The state that the caller knows.
    pub(crate) reported: Option<EndpointState>,
    pub(crate) conflicts: Vec<RouteConflict>,
}

/// What an interface enforces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) ifindex: u32,
    pub(crate) generation: u32,
    pub(crate) value: Generation,
}

/// What packets may still be looking at; erased after a grace period.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    pub(crate) generations: Vec<u32>,
    pub(crate) programs: Vec<Installed>,
    pub(crate) sources: Vec<(u32, Vec<IpNet>)>,
    pub(crate) identities: Vec<IpNet>,
    pub(crate) classes: Vec<(ProgramKey, Vec<ClassKey>)>,
}

impl Retired {
    pub(crate) fn is_empty(&self) -> bool {
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
            self.installed.insert(key, program);
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

impl Local {
    pub(crate) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            id: self.endpoint.id.clone(),
            interface: self.endpoint.interface.clone(),
            state: self.state.clone(),
        }
    }
}

pub(crate) fn add_hits(sums: &mut FxHashMap<(RuleId, bool), Hits>, program: &Installed, hits: &[Hits]) {
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
