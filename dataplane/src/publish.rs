//! Policy into the kernel: programs, identities, and what each interface enforces.

use std::collections::BTreeMap;
use std::time::Instant;

use ebpf_common::endpoint::{
    Generation, OWN_ADDRESSES_MAX, Publication, SOURCE_KEY_BITS, SourceKey, source_set,
};
use ebpf_common::program::ClassKey;
use ipnet::IpNet;
use policy_engine::output::{Direction, Endpoint, EndpointId, Family, ProgramKey};

use crate::address::{net_to_map, to_map};
use crate::batch::Batch;
use crate::config::EndpointToHost;
use crate::identity::Changes;
use crate::kernel::{absent_is_fine, on};
use crate::plane::{Dataplane, Local, Published, add_hits};
use crate::programs::{Demand, Installed};
use crate::status::EndpointState;
use crate::{ApplyReport, Error, kernel, sys};

/// Policy: programs, identities, publication.
impl Dataplane {
    /// A program that an endpoint keeps using cannot go.
    pub(crate) fn check_removals(&self, batch: &Batch) -> Result<(), Error> {
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
    pub(crate) fn make_room(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.room(batch).is_err() {
            self.collect()?;
        }
        self.room(batch)
    }

    pub(crate) fn room(&self, batch: &Batch) -> Result<(), Error> {
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

    pub(crate) fn install(&mut self, batch: &Batch) -> Result<Vec<(ProgramKey, Installed)>, Error> {
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
    pub(crate) fn teach(&mut self, batch: &Batch) -> Result<Vec<(ProgramKey, Vec<ClassKey>)>, Error> {
        let mut gone = Vec::new();
        for (key, change) in &batch.lessons {
            if let Some(installed) = self.installed.get_mut(key) {
                gone.push((*key, self.programs.extend(&mut self.maps, installed, change)?));
            }
        }
        Ok(gone)
    }

    /// Takes back what a batch wrote before it failed; nothing of it was published.
    pub(crate) fn undo(
        &mut self,
        identities: &Changes,
        fresh: Vec<(ProgramKey, Installed)>,
    ) -> Result<(), Error> {
        self.identities.unstage(&mut self.maps, identities)?;
        for (_, program) in fresh {
            self.programs.remove(&mut self.maps, program)?;
        }
        Ok(())
    }

    /// Takes over the endpoints of a batch; gives the names of interfaces that are concerned.
    pub(crate) fn change_endpoints(
        &mut self,
        changes: BTreeMap<EndpointId, Option<Box<Endpoint>>>,
        report: &mut ApplyReport,
    ) -> Vec<String> {
        let mut touched = Vec::new();
        for (id, change) in changes {
            if let Some(endpoint) = &change
                && self.change_policy_alone(endpoint)
            {
                continue;
            }
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
            self.mark_directions(&endpoint);
            touched.push(endpoint.interface.clone());
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

    /// Policy concerns no link, route or neighbour. Whether nothing else of the endpoint changes.
    fn change_policy_alone(&mut self, endpoint: &Endpoint) -> bool {
        let Some(local) = self.endpoints.get_mut(&endpoint.id) else {
            return false;
        };
        let as_before = Endpoint {
            programs: local.endpoint.programs,
            ..endpoint.clone()
        };
        if local.state != EndpointState::Up || local.endpoint != as_before {
            return false;
        }
        local.endpoint.programs = endpoint.programs;
        self.mark_directions(endpoint);
        true
    }

    pub(crate) fn mark_directions(&mut self, endpoint: &Endpoint) {
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

    pub(crate) fn set_endpoint(&mut self, endpoint: Endpoint) -> Result<(), Error> {
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
    pub(crate) fn write_sources(&mut self, nets: &[IpNet]) -> Result<u32, Error> {
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
    pub(crate) fn publish_all(&mut self, report: &mut ApplyReport) {
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

    pub(crate) fn unpublish(&mut self, id: &EndpointId) -> Option<Published> {
        self.endpoints
            .get_mut(id)
            .and_then(|local| local.published.take())
    }

    pub(crate) fn erase_publication(&mut self, ifindex: u32, report: &mut ApplyReport) {
        if let Err(error) = absent_is_fine(self.maps.interfaces.remove(&ifindex)) {
            report.errors.push(on("INTERFACES", "erase")(error).to_string());
        }
    }

    pub(crate) fn publish(&mut self, id: &EndpointId, ifindex: u32) -> Result<(), Error> {
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

    pub(crate) fn generation_of(&self, local: &Local) -> Generation {
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
    pub(crate) fn repair_publications(&mut self, report: &mut ApplyReport) -> Result<(), Error> {
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
    pub(crate) fn withdraw(&mut self, local: &Local, report: &mut ApplyReport) {
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
    pub(crate) fn collect(&mut self) -> Result<(), Error> {
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
