//! Owners of addresses: endpoints and network sets of the whole cluster.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::ClassId;

/// Which resource an owner is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum OwnerKey {
    Workload { namespace: String, name: String },
    Host { name: String },
    NetworkSet { namespace: String, name: String },
    GlobalNetworkSet { name: String },
}

/// An interned [`OwnerKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerId(u64);

/// A named port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerPort {
    pub(crate) name: String,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
}

/// What is known of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) class: ClassId,
    /// Host bits cleared, sorted, each once.
    pub(crate) nets: Vec<IpNet>,
    pub(crate) ports: Vec<OwnerPort>,
}

/// All owners.
#[derive(Debug, Default)]
pub(crate) struct OwnerIndex {
    next: u64,
    ids: FxHashMap<OwnerKey, OwnerId>,
    owners: FxHashMap<OwnerId, Owner>,
    by_class: BTreeMap<ClassId, BTreeSet<OwnerId>>,
    by_port_name: FxHashMap<String, BTreeSet<OwnerId>>,
}

impl OwnerIndex {
    /// Stores an owner; gives its id and what it was.
    pub(crate) fn insert(&mut self, key: OwnerKey, owner: Owner) -> (OwnerId, Option<Owner>) {
        let next = &mut self.next;
        let id = *self.ids.entry(key).or_insert_with(|| {
            *next += 1;
            OwnerId(*next)
        });
        let before = self.unlink(id);
        self.by_class.entry(owner.class).or_default().insert(id);
        for port in &owner.ports {
            self.by_port_name.entry(port.name.clone()).or_default().insert(id);
        }
        self.owners.insert(id, owner);
        (id, before)
    }

    /// Forgets an owner; gives its id and what it was.
    pub(crate) fn remove(&mut self, key: &OwnerKey) -> Option<(OwnerId, Owner)> {
        let id = self.ids.remove(key)?;
        self.unlink(id).map(|owner| (id, owner))
    }

    /// An owner.
    pub(crate) fn owner(&self, id: OwnerId) -> Option<&Owner> {
        self.owners.get(&id)
    }

    /// The class of an owner.
    pub(crate) fn class_of(&self, key: &OwnerKey) -> Option<ClassId> {
        self.owners.get(self.ids.get(key)?).map(|owner| owner.class)
    }

    /// The members of a class.
    pub(crate) fn of_class(&self, class: ClassId) -> impl Iterator<Item = OwnerId> {
        self.by_class.get(&class).into_iter().flatten().copied()
    }

    /// Those that have a port of this name.
    pub(crate) fn with_port(&self, name: &str) -> impl Iterator<Item = &Owner> {
        self.by_port_name
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|id| self.owners.get(id))
    }

    fn unlink(&mut self, id: OwnerId) -> Option<Owner> {
        let owner = self.owners.remove(&id)?;
        if let Some(members) = self.by_class.get_mut(&owner.class) {
            members.remove(&id);
            if members.is_empty() {
                self.by_class.remove(&owner.class);
            }
        }
        for port in &owner.ports {
            if let Some(ids) = self.by_port_name.get_mut(&port.name) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_port_name.remove(&port.name);
                }
            }
        }
        Some(owner)
    }
}
