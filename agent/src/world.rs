//! The host's view of the datastore, sorted for those who use it: BGP resources for the fabric translation,
//! everything that bears policy for the engine, counts for the metrics. Pure: updates in, state out.

use std::collections::{BTreeMap, BTreeSet};

use api::ipam_model::{Affinity, AffinityState};
use api::{AnyResource, Kind};
use datastore::key::{AffinityKey, AffinityType, AnyKey, AnyValue};
use datastore::syncer::Update;
use ipnet::IpNet;
use policy_engine::output::Delta;
use policy_engine::{Engine, Input};

use crate::fabric::{Resources, Workload};
use crate::view::Counts;

/// Namespace and name of a resource.
type Name = (String, String);

/// What the agent knows of the cluster.
#[derive(Debug)]
pub struct World {
    node: String,
    fabric: Resources,
    engine: Engine,
    names: BTreeMap<Kind, BTreeSet<Name>>,
    unreadable: BTreeMap<AnyKey, String>,
    fabric_changed: bool,
}

impl World {
    /// An empty view for this host.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            fabric: Resources::default(),
            engine: Engine::new(node),
            names: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            fabric_changed: false,
        }
    }

    /// Takes in the present state of a key. A value that cannot be read leaves what was known before and is kept as
    /// a problem until a readable one comes.
    pub fn update(&mut self, update: Update) {
        self.unreadable.remove(&update.key);
        match (update.key, update.value) {
            (key, Some(Err(reason))) => {
                self.unreadable.insert(key, reason);
            }
            (AnyKey::Resource { .. }, Some(Ok(AnyValue::Resource(resource)))) => self.set(resource),
            (
                AnyKey::Resource {
                    kind,
                    namespace,
                    name,
                },
                None,
            ) => self.remove(kind, namespace, name),
            (AnyKey::Affinity(key), Some(Ok(AnyValue::Affinity(affinity)))) => {
                self.affinity(&key, Some(&affinity))
            }
            (AnyKey::Affinity(key), None) => self.affinity(&key, None),
            // Blocks, handles and the IPAM's settings are for those who assign addresses.
            _ => {}
        }
    }

    fn set(&mut self, resource: AnyResource) {
        let metadata = resource.metadata();
        let name = (metadata.namespace.clone(), metadata.name.clone());
        self.names
            .entry(resource.kind())
            .or_default()
            .insert(name.clone());
        self.fabric_changed |= is_of_fabric(resource.kind());
        match &resource {
            AnyResource::Node(node) => {
                self.fabric.nodes.insert(name.1, (**node).clone());
            }
            AnyResource::BgpConfiguration(configuration) => {
                self.fabric
                    .configurations
                    .insert(name.1, (**configuration).clone());
            }
            AnyResource::BgpPeer(peer) => {
                self.fabric.peers.insert(name.1, (**peer).clone());
            }
            AnyResource::BgpFilter(filter) => {
                self.fabric.filters.insert(name.1, (**filter).clone());
            }
            AnyResource::IpPool(pool) => {
                self.fabric.pools.insert(name.1, (**pool).clone());
            }
            AnyResource::WorkloadEndpoint(endpoint) => {
                let nets = endpoint.spec.ip_networks.iter();
                let workload = Workload {
                    interface: endpoint.spec.interface_name.clone(),
                    addresses: nets
                        .filter_map(|net| net.split('/').next()?.parse().ok())
                        .collect(),
                    labels: endpoint.metadata.labels.clone(),
                };
                let is_local = endpoint.spec.node == self.node;
                self.set_workload(name, is_local.then_some(workload));
            }
            _ => {}
        }
        self.engine.update(Input::Set(resource));
    }

    fn remove(&mut self, kind: Kind, namespace: String, name: String) {
        self.fabric_changed |= is_of_fabric(kind);
        match kind {
            Kind::Node => drop(self.fabric.nodes.remove(&name)),
            Kind::BgpConfiguration => drop(self.fabric.configurations.remove(&name)),
            Kind::BgpPeer => drop(self.fabric.peers.remove(&name)),
            Kind::BgpFilter => drop(self.fabric.filters.remove(&name)),
            Kind::IpPool => drop(self.fabric.pools.remove(&name)),
            Kind::WorkloadEndpoint => self.set_workload((namespace.clone(), name.clone()), None),
            _ => {}
        }
        if let Some(names) = self.names.get_mut(&kind) {
            names.remove(&(namespace.clone(), name.clone()));
        }
        self.engine.update(Input::Remove {
            kind,
            namespace,
            name,
        });
    }

    /// `None` where it is gone or not on this host.
    fn set_workload(&mut self, name: Name, workload: Option<Workload>) {
        let known = &mut self.fabric.workloads;
        if known.get(&name) == workload.as_ref() {
            return;
        }
        self.fabric_changed = true;
        match workload {
            Some(workload) => drop(known.insert(name, workload)),
            None => drop(known.remove(&name)),
        }
    }

    fn affinity(&mut self, key: &AffinityKey, affinity: Option<&Affinity>) {
        if key.kind != AffinityType::Host || key.host != self.node {
            return;
        }
        // Very old data has no state; it counts as confirmed.
        let confirmed = affinity.is_some_and(|a| matches!(a.state, None | Some(AffinityState::Confirmed)));
        self.fabric_changed |= if confirmed {
            self.fabric.blocks.insert(key.cidr)
        } else {
            self.fabric.blocks.remove(&key.cidr)
        };
    }

    /// The BGP resources and this host's blocks.
    pub fn fabric(&self) -> &Resources {
        &self.fabric
    }

    /// Replaces the passwords that BGP resources refer to.
    pub fn set_secrets(&mut self, secrets: BTreeMap<(String, String), String>) {
        if self.fabric.secrets != secrets {
            self.fabric.secrets = secrets;
            self.fabric_changed = true;
        }
    }

    /// Whether [`Self::fabric`] has changed since the last call.
    pub fn take_fabric_change(&mut self) -> bool {
        std::mem::take(&mut self.fabric_changed)
    }

    /// What the dataplane must change since the last call.
    pub fn flush(&mut self) -> Vec<Delta> {
        self.engine.flush()
    }

    /// What cannot be honoured as it is written.
    pub fn problems(&self) -> Vec<String> {
        let unreadable = self
            .unreadable
            .iter()
            .map(|(key, reason)| format!("{key}: {reason}: the earlier value is kept"));
        unreadable
            .chain(self.engine.problems().iter().map(ToString::to_string))
            .collect()
    }

    /// Figures for the metrics.
    pub fn counts(&self) -> Counts {
        let of = |kind: Kind| self.names.get(&kind).map_or(0, BTreeSet::len);
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let engine = self.engine.counts();
        Counts {
            hosts: count(of(Kind::Node)),
            workload_endpoints: count(of(Kind::WorkloadEndpoint)),
            host_endpoints: count(of(Kind::HostEndpoint)),
            tiers: count(of(Kind::Tier)),
            policies: count(of(Kind::GlobalNetworkPolicy) + of(Kind::NetworkPolicy)),
            profiles: count(of(Kind::Profile)),
            local_endpoints: count(engine.local_endpoints),
            local_policies: count(engine.active_policies),
            local_selectors: count(engine.active_selectors),
        }
    }

    /// Blocks of this host.
    pub fn blocks(&self) -> &BTreeSet<IpNet> {
        &self.fabric.blocks
    }
}

fn is_of_fabric(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Node | Kind::BgpConfiguration | Kind::BgpFilter | Kind::BgpPeer | Kind::IpPool
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::v3::{NodeSpec, WorkloadEndpointSpec};
    use api::{Object, ObjectMeta};

    fn update(key: AnyKey, value: Option<Result<AnyValue, String>>) -> Update {
        Update {
            key,
            value,
            revision: 1,
        }
    }

    fn affinity(host: &str, cidr: &str, state: Option<AffinityState>) -> Update {
        let key = AnyKey::Affinity(AffinityKey::host(host, cidr.parse().unwrap()));
        update(
            key,
            Some(Ok(AnyValue::Affinity(Affinity {
                state,
                ..Affinity::default()
            }))),
        )
    }

    fn endpoint(node: &str, name: &str, net: &str) -> Update {
        let metadata = ObjectMeta {
            namespace: "default".into(),
            name: name.into(),
            ..ObjectMeta::default()
        };
        let spec = WorkloadEndpointSpec {
            node: node.into(),
            ip_networks: vec![net.into()],
            ..WorkloadEndpointSpec::default()
        };
        let resource = AnyResource::WorkloadEndpoint(Box::new(Object::new(metadata, spec)));
        update(
            AnyKey::resource(Kind::WorkloadEndpoint, "default", name),
            Some(Ok(AnyValue::Resource(resource))),
        )
    }

    #[test]
    fn only_confirmed_blocks_of_this_host_count() {
        let mut world = World::new("a");
        world.update(affinity("a", "10.65.0.0/26", Some(AffinityState::Confirmed)));
        world.update(affinity("a", "10.65.0.64/26", Some(AffinityState::Pending)));
        world.update(affinity("a", "10.65.0.128/26", None));
        world.update(affinity("b", "10.65.0.192/26", Some(AffinityState::Confirmed)));
        let blocks = |world: &World| world.blocks().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(blocks(&world), ["10.65.0.0/26", "10.65.0.128/26"]);
        world.update(affinity(
            "a",
            "10.65.0.0/26",
            Some(AffinityState::PendingDeletion),
        ));
        world.update(update(
            AnyKey::Affinity(AffinityKey::host("a", "10.65.0.128/26".parse().unwrap())),
            None,
        ));
        assert_eq!(blocks(&world), Vec::<String>::new());
    }

    #[test]
    fn addresses_are_those_of_local_endpoints() {
        let mut world = World::new("a");
        world.update(endpoint("a", "one", "10.65.0.1/32"));
        world.update(endpoint("b", "two", "10.65.0.2/32"));
        let addresses = |world: &World| -> Vec<String> {
            let workloads = world.fabric().workloads.values();
            workloads
                .flat_map(|w| w.addresses.iter().map(ToString::to_string))
                .collect()
        };
        assert_eq!(addresses(&world), ["10.65.0.1"]);
        assert!(world.take_fabric_change() && !world.take_fabric_change());
        world.update(endpoint("a", "one", "10.65.0.1/32"));
        world.update(endpoint("b", "two", "10.65.0.3/32"));
        assert!(!world.take_fabric_change(), "nothing that the translation reads");
        assert_eq!(world.counts().workload_endpoints, 2);
        world.update(update(
            AnyKey::resource(Kind::WorkloadEndpoint, "default", "one"),
            None,
        ));
        assert!(world.fabric().workloads.is_empty());
        assert_eq!(world.counts().workload_endpoints, 1);
    }

    #[test]
    fn an_unreadable_value_keeps_the_earlier_one_and_is_named() {
        let mut world = World::new("a");
        let key = AnyKey::resource(Kind::Node, "", "a");
        let node = Object::new(
            ObjectMeta {
                name: "a".into(),
                ..ObjectMeta::default()
            },
            NodeSpec::default(),
        );
        world.update(update(
            key.clone(),
            Some(Ok(AnyValue::Resource(AnyResource::Node(Box::new(node))))),
        ));
        world.update(update(key.clone(), Some(Err("spec.bgp: not an object".into()))));
        assert!(world.fabric().nodes.contains_key("a"));
        assert!(
            world.problems()[0].contains("spec.bgp: not an object"),
            "{:?}",
            world.problems()
        );
        world.update(update(key, None));
        assert!(world.problems().is_empty() && world.fabric().nodes.is_empty());
    }
}
