//! Interfaces into order: attachments, links, sysctls, routes, neighbours, blocks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink::Link;
use policy_engine::output::EndpointId;
use rustc_hash::FxHashMap;

use crate::kernel::{absent_is_fine, on};
use crate::plane::{Dataplane, Interface, Local};
use crate::status::EndpointState;
use crate::workload::{Tables, Wanted};
use crate::{ApplyReport, Error, RouteConflict, attach, workload};

/// Up to so many interfaces, each one's routes are asked for alone; beyond, all routes are read at once.
const FEW_INTERFACES: usize = 4;

/// Interfaces, routes, neighbours.
impl Dataplane {
    /// Reads all links, as if each had just come.
    pub(crate) fn read_links(&mut self) -> Result<(), Error> {
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
    pub(crate) fn link_is(&mut self, link: Link) {
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

    pub(crate) fn link_is_gone(&mut self, ifindex: u32) -> Result<(), Error> {
        self.interfaces.remove(&ifindex);
        absent_is_fine(self.maps.interfaces.remove(&ifindex)).map_err(on("INTERFACES", "erase"))?;
        for local in self.endpoints.values_mut() {
            if let Some(published) = local.published.take_if(|published| published.ifindex == ifindex) {
                self.retired.generations.push(published.generation);
            }
        }
        attach::forget(&self.kernel, ifindex)
    }

    pub(crate) fn attach(&mut self, ifindex: u32) {
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

    pub(crate) fn check_attached(&mut self, ifindex: u32) {
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
    pub(crate) fn settle_interfaces(&mut self, names: Vec<String>, report: &mut ApplyReport) {
        let concerned = |local: &Local| names.contains(&local.endpoint.interface);
        if self.endpoints.values().any(concerned) {
            self.publish_all(report);
            self.settle(&names, report);
        }
    }

    pub(crate) fn settle_all(&mut self, report: &mut ApplyReport) {
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
    pub(crate) fn settle(&mut self, names: &[String], report: &mut ApplyReport) {
        let names: BTreeSet<&String> = names.iter().collect();
        let owners = self.owners();
        let tables = if names.len() > FEW_INTERFACES {
            Tables::of_all(&mut self.nl).ok()
        } else {
            None
        };
        let tables = tables.as_ref();
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
                    Some(id) => self.settle_endpoint(&id, &owners, tables, report),
                    None => self.settle_vacant(name, tables, report),
                }
                self.note_losers(name, report);
            }
        }
        self.finish(report);
    }

    /// Which endpoint each address belongs to, if several claim it: the first by id that is published.
    pub(crate) fn owners(&self) -> FxHashMap<IpAddr, EndpointId> {
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

    pub(crate) fn settle_vacant(&mut self, name: &str, tables: Option<&Tables>, report: &mut ApplyReport) {
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
            tables,
            &mut Vec::new(),
        );
        match outcome {
            Err(Error::Netlink(error)) if error.is_not_found() => {}
            Err(error) => report.errors.push(format!("interface {name}: {error}")),
            Ok(()) => {}
        }
    }

    /// Endpoints that claim an interface and did not get it.
    pub(crate) fn note_losers(&mut self, name: &str, report: &mut ApplyReport) {
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

    pub(crate) fn settle_endpoint(
        &mut self,
        id: &EndpointId,
        owners: &FxHashMap<IpAddr, EndpointId>,
        tables: Option<&Tables>,
        report: &mut ApplyReport,
    ) {
        let mut conflicts = Vec::new();
        let state = match self.bring_up(id, owners, tables, &mut conflicts) {
            Ok(true) => EndpointState::Up,
            Ok(false) => EndpointState::WaitingForInterface,
            Err(reason) => EndpointState::Error(reason),
        };
        if let Some(local) = self.endpoints.get_mut(id) {
            local.conflicts = conflicts;
        }
        self.note_state(id, state, report);
    }

    /// Everything after the policy is in force: the link goes up last but for what needs it to be up. Whether the link
    /// carries packets.
    pub(crate) fn bring_up(
        &mut self,
        id: &EndpointId,
        owners: &FxHashMap<IpAddr, EndpointId>,
        tables: Option<&Tables>,
        conflicts: &mut Vec<RouteConflict>,
    ) -> Result<bool, String> {
        let Some(local) = self.endpoints.get(id) else {
            return Ok(false);
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
            if let Some(link) = self.nl.link_by_index(link.index).map_err(|e| e.to_string())? {
                interface.link = link;
            }
        }
        let running = interface.link.running;
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
        workload::reconcile(&mut self.nl, &self.config, &link, &wanted, tables, conflicts)
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
            None => Ok(running),
        }
    }

    pub(crate) fn set_state(&mut self, id: &EndpointId, state: EndpointState) {
        if let Some(local) = self.endpoints.get_mut(id) {
            local.state = state;
        }
    }

    pub(crate) fn note_state(&mut self, id: &EndpointId, state: EndpointState, report: &mut ApplyReport) {
        self.set_state(id, state);
        if let Some(local) = self.endpoints.get_mut(id)
            && local.reported.as_ref() != Some(&local.state)
        {
            local.reported = Some(local.state.clone());
            report.changed.push(local.status());
        }
    }

    pub(crate) fn settle_blocks(&mut self) -> Result<(), Error> {
        let Some(blocks) = &self.blocks else { return Ok(()) };
        self.block_conflicts.clear();
        workload::reconcile_blocks(&mut self.nl, &self.config, blocks, &mut self.block_conflicts)
    }

    pub(crate) fn finish(&self, report: &mut ApplyReport) {
        report.conflicts = self.block_conflicts.clone();
        report.conflicts.extend(
            self.endpoints
                .values()
                .flat_map(|local| local.conflicts.iter().cloned()),
        );
    }
}
