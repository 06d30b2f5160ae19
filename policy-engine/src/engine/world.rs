//! What the engine knows of addresses: who owns them, what selects them, and the named ports in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::Selector;
use ipnet::IpNet;

use crate::clause::{NamedPort, SelectorId};
use crate::compile::Membership;
use crate::index::{
    AddressIndex, LabelIndex, Labels, Owner, OwnerId, OwnerIndex, OwnerKey, OwnerPort, Reassignment,
    SelectorTable,
};
use crate::output::{IdentityId, TupleKey};

/// Labels, owners, addresses, selectors and named ports, kept consistent with one another.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) labels: LabelIndex,
    pub(crate) owners: OwnerIndex,
    pub(crate) selectors: SelectorTable,
    addresses: AddressIndex,
    named_ports: BTreeMap<NamedPort, BTreeSet<TupleKey>>,
    fresh_selectors: BTreeSet<SelectorId>,
    touched_port_names: BTreeSet<String>,
    owner_count: usize,
}

/// An owner before it has a class.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnerContent {
    pub(crate) labels: Labels,
    pub(crate) profiles: Vec<String>,
    pub(crate) nets: Vec<IpNet>,
    pub(crate) ports: Vec<OwnerPort>,
}

impl World {
    /// Sets or removes an owner.
    pub(crate) fn set_owner(&mut self, key: OwnerKey, content: Option<OwnerContent>) {
        let (id, before, after) = match content {
            Some(mut content) => {
                content.nets.sort_unstable();
                content.nets.dedup();
                let class = self.labels.join(content.labels, content.profiles);
                let owner = Owner {
                    class,
                    nets: content.nets,
                    ports: content.ports,
                };
                let (id, before) = self.owners.insert(key, owner.clone());
                (id, before, Some(owner))
            }
            None => match self.owners.remove(&key) {
                Some((id, before)) => (id, Some(before), None),
                None => return,
            },
        };
        if before != after {
            let both = || before.iter().chain(&after);
            self.touched_port_names
                .extend(both().flat_map(|o| &o.ports).map(|port| port.name.clone()));
            let nets_before = before.as_ref().map_or(&[][..], |o| &o.nets);
            let nets_after = after.as_ref().map_or(&[][..], |o| &o.nets);
            for net in nets_before {
                if nets_after.binary_search(net).is_err() {
                    self.addresses.remove(*net, id);
                }
            }
            for net in nets_after {
                self.addresses.add(*net, id);
            }
        }
        self.owner_count = self.owner_count + usize::from(after.is_some()) - usize::from(before.is_some());
        if let Some(before) = before {
            self.labels.leave(before.class);
        }
    }

    /// The id of a selector, which is matched from now on.
    pub(crate) fn intern(&mut self, selector: &Arc<Selector>) -> SelectorId {
        let (id, new) = self.selectors.intern(selector);
        if new {
            self.labels.activate(id, selector);
            self.fresh_selectors.insert(id);
        }
        id
    }

    /// Works out identities again where something changed.
    pub(crate) fn reassign(&mut self) -> Reassignment {
        for class in self.labels.take_rematched() {
            for owner in self.owners.of_class(class).filter_map(|id| self.owners.owner(id)) {
                self.touched_port_names
                    .extend(owner.ports.iter().map(|port| port.name.clone()));
                owner.nets.iter().for_each(|net| self.addresses.touch(*net));
            }
        }
        let (owners, labels) = (&self.owners, &self.labels);
        let matched = |id: OwnerId| {
            owners
                .owner(id)
                .into_iter()
                .flat_map(|owner| labels.matched(owner.class))
        };
        self.addresses
            .reassign(matched, &std::mem::take(&mut self.fresh_selectors))
    }

    /// Forgets the selectors that no program uses any more.
    pub(crate) fn sweep(&mut self) -> Reassignment {
        let unused = self.selectors.sweep();
        unused.iter().for_each(|id| self.labels.deactivate(*id));
        self.addresses.forget(&unused)
    }

    /// Brings the members of the named ports `in_use` up to date and forgets all others; gives those that changed.
    pub(crate) fn refresh_named_ports(&mut self, in_use: BTreeSet<&NamedPort>) -> BTreeSet<NamedPort> {
        let touched = std::mem::take(&mut self.touched_port_names);
        self.named_ports.retain(|port, _| in_use.contains(port));
        let mut changed = BTreeSet::new();
        for port in in_use {
            if !touched.contains(&port.name) && self.named_ports.contains_key(port) {
                continue;
            }
            let members = self.members_of(port);
            if self.named_ports.get(port) != Some(&members) {
                self.named_ports.insert(port.clone(), members);
                changed.insert(port.clone());
            }
        }
        changed
    }

    /// How many owners and identities there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.owner_count, self.addresses.identity_count())
    }

    fn members_of(&self, port: &NamedPort) -> BTreeSet<TupleKey> {
        let selects = |owner: &&Owner| port.selector.is_none_or(|s| self.labels.is_match(owner.class, s));
        let mut members = BTreeSet::new();
        for owner in self.owners.with_port(&port.name).filter(selects) {
            for own in &owner.ports {
                if own.name == port.name && port.protocol.is_none_or(|protocol| protocol == own.protocol) {
                    members.extend(owner.nets.iter().map(|net| TupleKey {
                        address: net.addr(),
                        protocol: own.protocol,
                        port: own.port,
                    }));
                }
            }
        }
        members
    }
}

impl Membership for World {
    fn identities(&self, selector: SelectorId) -> Vec<IdentityId> {
        self.addresses.matching(selector)
    }

    fn selectors(&self, identity: IdentityId) -> &[SelectorId] {
        self.addresses.selectors(identity)
    }

    fn tuples(&self, port: &NamedPort) -> Option<&BTreeSet<TupleKey>> {
        self.named_ports.get(port)
    }
}
