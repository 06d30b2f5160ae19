//! Resources as they come in.

use std::collections::BTreeMap;

use api::meta::{LABEL_NAMESPACE, LABEL_SERVICE_ACCOUNT};
use api::selector::effective::{NAMESPACE_LABEL_PREFIX, SERVICE_ACCOUNT_LABEL_PREFIX};
use api::v3::policy::{DEFAULT_TIER, PolicyType};
use api::v3::profile::{DEFAULT_ALLOW_PROFILE, default_allow_profile};
use api::v3::rule::Rule as ApiRule;
use api::v3::tier::TierDefaultAction;
use api::v3::workload_endpoint::WorkloadEndpointSpec;
use api::{
    AnyResource, GlobalNetworkPolicy, HostEndpoint, Kind, NetworkPolicy, ObjectMeta, Profile, Protocol, Tier,
    WorkloadEndpoint,
};
use ipnet::IpNet;

use super::programs::Programs;
use super::world::{OwnerContent, World};
use super::{Engine, LocalEndpoint};
use crate::expression::BadSelector;
use crate::index::{OwnerKey, OwnerPort};
use crate::input::Input;
use crate::output::{Endpoint, EndpointId, EndpointPrograms, ProgramKey};
use crate::policies::{Policy, PolicyKey, PolicyTable, ProfileRules, TierOrder};
use crate::problem::Problem;
use crate::rules::{ParsedRule, Place, parse_net, parse_rules, protocol_number};

impl Engine {
    /// An engine for the workloads of `local_node`.
    pub fn new(local_node: impl Into<String>) -> Self {
        let mut engine = Self {
            local_node: local_node.into(),
            world: World::default(),
            policies: PolicyTable::default(),
            programs: Programs::default(),
            local: BTreeMap::new(),
            selected: BTreeMap::new(),
            wanted: BTreeMap::new(),
            gone: Vec::new(),
            resource_problems: BTreeMap::new(),
            program_problems: Vec::new(),
        };
        engine.set_profile(&default_allow_profile());
        engine
    }

    /// Takes in a change. Nothing comes of it before the next [`Self::flush`].
    pub fn update(&mut self, input: Input) {
        match input {
            Input::Set(resource) => {
                self.resource_problems.remove(&resource.id());
                self.set(&resource);
            }
            Input::Remove {
                kind,
                namespace,
                name,
            } => {
                self.resource_problems
                    .remove(&api::kinds::resource_id(kind, &namespace, &name));
                self.remove(kind, namespace, name);
            }
        }
    }

    fn set(&mut self, resource: &AnyResource) {
        match resource {
            AnyResource::WorkloadEndpoint(endpoint) => self.set_workload(endpoint),
            AnyResource::HostEndpoint(endpoint) => self.set_host(endpoint),
            AnyResource::NetworkSet(set) => {
                let mut labels = set.metadata.labels.clone();
                labels.insert(LABEL_NAMESPACE.to_owned(), set.metadata.namespace.clone());
                let profiles = vec![format!("kns.{}", set.metadata.namespace)];
                let nets = self.nets(Kind::NetworkSet, &set.metadata, &set.spec.nets);
                let content = OwnerContent {
                    labels,
                    profiles,
                    nets,
                    ports: Vec::new(),
                };
                self.world
                    .set_owner(network_set_key(&set.metadata), Some(content));
            }
            AnyResource::GlobalNetworkSet(set) => {
                let nets = self.nets(Kind::GlobalNetworkSet, &set.metadata, &set.spec.nets);
                let labels = set.metadata.labels.clone();
                let content = OwnerContent {
                    labels,
                    nets,
                    ..OwnerContent::default()
                };
                let key = OwnerKey::GlobalNetworkSet {
                    name: set.metadata.name.clone(),
                };
                self.world.set_owner(key, Some(content));
            }
            AnyResource::NetworkPolicy(policy) => self.set_network_policy(policy),
            AnyResource::GlobalNetworkPolicy(policy) => self.set_global_policy(policy),
            AnyResource::Tier(tier) => self
                .policies
                .set_tier(&tier.metadata.name, Some(tier_order(tier))),
            // The static profile cannot be replaced.
            AnyResource::Profile(profile) if profile.metadata.name != DEFAULT_ALLOW_PROFILE => {
                self.set_profile(profile);
            }
            _ => {}
        }
    }

    fn remove(&mut self, kind: Kind, namespace: String, name: String) {
        match kind {
            Kind::WorkloadEndpoint => {
                let key = OwnerKey::Workload { namespace, name };
                self.drop_local(&key);
                self.world.set_owner(key, None);
            }
            Kind::HostEndpoint => self.world.set_owner(OwnerKey::Host { name }, None),
            Kind::NetworkSet => self
                .world
                .set_owner(OwnerKey::NetworkSet { namespace, name }, None),
            Kind::GlobalNetworkSet => self.world.set_owner(OwnerKey::GlobalNetworkSet { name }, None),
            Kind::NetworkPolicy | Kind::GlobalNetworkPolicy => {
                self.policies.set_policy(
                    PolicyKey {
                        kind,
                        namespace,
                        name,
                    },
                    None,
                );
            }
            Kind::Tier => self.policies.set_tier(&name, None),
            Kind::Profile if name != DEFAULT_ALLOW_PROFILE => {
                self.policies.set_profile(&name, None);
                self.world.labels.set_profile(&name, None);
            }
            _ => {}
        }
    }

    fn set_workload(&mut self, endpoint: &WorkloadEndpoint) {
        let (metadata, spec) = (&endpoint.metadata, &endpoint.spec);
        let key = OwnerKey::Workload {
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        };
        let nets = self.nets_of(Kind::WorkloadEndpoint, metadata, "ipNetworks", &spec.ip_networks);
        // Without an address there is nothing to match and nothing to enforce.
        if nets.is_empty() {
            self.drop_local(&key);
            self.world.set_owner(key, None);
            return;
        }
        let inherited = |name: &str| {
            name.starts_with(NAMESPACE_LABEL_PREFIX) || name.starts_with(SERVICE_ACCOUNT_LABEL_PREFIX)
        };
        let mut labels = metadata.labels.clone();
        labels.retain(|name, _| !inherited(name));
        if !spec.service_account_name.is_empty() {
            labels.insert(
                LABEL_SERVICE_ACCOUNT.to_owned(),
                spec.service_account_name.clone(),
            );
        }
        let ports = spec
            .ports
            .iter()
            .filter_map(|port| owner_port(&port.name, &port.protocol, port.port));
        let content = OwnerContent {
            labels,
            profiles: spec.profiles.clone(),
            nets: nets.clone(),
            ports: ports.collect(),
        };
        self.world.set_owner(key.clone(), Some(content));
        if spec.node != self.local_node {
            self.drop_local(&key);
        } else if spec.interface_name.is_empty() {
            self.ignore(
                Kind::WorkloadEndpoint,
                metadata,
                "spec.interfaceName",
                "is required",
            );
            self.drop_local(&key);
        } else {
            self.set_local(key, metadata, spec, &nets);
        }
    }

    fn set_local(
        &mut self,
        key: OwnerKey,
        metadata: &ObjectMeta,
        spec: &WorkloadEndpointSpec,
        nets: &[IpNet],
    ) {
        let field = "allowSpoofedSourcePrefixes";
        let content = Endpoint {
            id: endpoint_id(metadata, spec),
            interface: spec.interface_name.clone(),
            addresses: nets.iter().map(IpNet::addr).collect(),
            allowed_sources: self.nets_of(
                Kind::WorkloadEndpoint,
                metadata,
                field,
                &spec.allow_spoofed_source_prefixes,
            ),
            mac: parse_mac(&spec.mac),
            programs: NO_PROGRAMS,
        };
        let Some(class) = self.world.owners.class_of(&key) else {
            return;
        };
        let mut published = None;
        if let Some(before) = self.local.remove(&key) {
            if before.content.id == content.id {
                published = before.published;
            } else {
                self.gone
                    .extend(before.published.map(|published| published.endpoint.id));
            }
        }
        self.local.insert(
            key,
            LocalEndpoint {
                class,
                content,
                changed: true,
                published,
            },
        );
    }

    fn drop_local(&mut self, key: &OwnerKey) {
        let published = self.local.remove(key).and_then(|local| local.published);
        self.gone.extend(published.map(|published| published.endpoint.id));
    }

    fn set_host(&mut self, endpoint: &HostEndpoint) {
        let (metadata, spec) = (&endpoint.metadata, &endpoint.spec);
        let ports = spec
            .ports
            .iter()
            .filter_map(|port| owner_port(&port.name, &port.protocol, port.port));
        let content = OwnerContent {
            labels: metadata.labels.clone(),
            profiles: spec.profiles.clone(),
            nets: self.nets_of(Kind::HostEndpoint, metadata, "expectedIPs", &spec.expected_ips),
            ports: ports.collect(),
        };
        self.world.set_owner(
            OwnerKey::Host {
                name: metadata.name.clone(),
            },
            Some(content),
        );
    }

    fn set_network_policy(&mut self, policy: &NetworkPolicy) {
        let (metadata, spec) = (&policy.metadata, &policy.spec);
        let selector = crate::expression::of_network_policy(&metadata.namespace, spec);
        let types = directions(&spec.types, !spec.ingress.is_empty(), !spec.egress.is_empty());
        let rules = [&spec.ingress[..], &spec.egress[..]];
        self.set_policy(
            Kind::NetworkPolicy,
            metadata,
            &spec.tier,
            spec.order,
            selector,
            types,
            rules,
        );
    }

    fn set_global_policy(&mut self, policy: &GlobalNetworkPolicy) {
        let (metadata, spec) = (&policy.metadata, &policy.spec);
        let selector = crate::expression::of_global_policy(spec);
        let mut types = directions(&spec.types, !spec.ingress.is_empty(), !spec.egress.is_empty());
        // Untracked and pre-DNAT policies are for host endpoints alone.
        if spec.do_not_track || spec.pre_dnat {
            types = [false; 2];
        }
        let rules = [&spec.ingress[..], &spec.egress[..]];
        self.set_policy(
            Kind::GlobalNetworkPolicy,
            metadata,
            &spec.tier,
            spec.order,
            selector,
            types,
            rules,
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the common part of two specs that share no type"
    )]
    fn set_policy(
        &mut self,
        kind: Kind,
        metadata: &ObjectMeta,
        tier: &str,
        order: Option<f64>,
        selector: Result<std::sync::Arc<api::selector::Selector>, BadSelector>,
        [has_ingress, has_egress]: [bool; 2],
        [ingress, egress]: [&[ApiRule]; 2],
    ) {
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let key = PolicyKey {
            kind,
            namespace,
            name,
        };
        let selector = match selector {
            Ok(selector) => selector,
            Err(bad) => {
                self.ignore(kind, metadata, &format!("spec.{}", bad.field), &bad.reason);
                self.policies.set_policy(key, None);
                return;
            }
        };
        let ingress =
            has_ingress.then(|| self.rules(kind, metadata, "spec.ingress", &metadata.namespace, ingress));
        let egress =
            has_egress.then(|| self.rules(kind, metadata, "spec.egress", &metadata.namespace, egress));
        let tier = if tier.is_empty() { DEFAULT_TIER } else { tier }.to_owned();
        self.policies.set_policy(
            key,
            Some(Policy {
                tier,
                order,
                selector,
                ingress,
                egress,
            }),
        );
    }

    fn set_profile(&mut self, profile: &Profile) {
        let (metadata, spec) = (&profile.metadata, &profile.spec);
        let rules = ProfileRules {
            ingress: self.rules(Kind::Profile, metadata, "spec.ingress", "", &spec.ingress),
            egress: self.rules(Kind::Profile, metadata, "spec.egress", "", &spec.egress),
        };
        self.policies.set_profile(&metadata.name, Some(rules));
        self.world
            .labels
            .set_profile(&metadata.name, Some(spec.labels_to_apply.clone()));
    }

    fn rules(
        &mut self,
        kind: Kind,
        metadata: &ObjectMeta,
        list: &str,
        namespace: &str,
        rules: &[ApiRule],
    ) -> Vec<ParsedRule> {
        let resource = resource_id(kind, metadata);
        let mut problems = Vec::new();
        let parsed = parse_rules(
            rules,
            Place {
                resource: &resource,
                list,
                namespace,
            },
            &mut problems,
        );
        if !problems.is_empty() {
            self.resource_problems
                .entry(resource)
                .or_default()
                .extend(problems);
        }
        parsed
    }

    fn nets(&mut self, kind: Kind, metadata: &ObjectMeta, texts: &[String]) -> Vec<IpNet> {
        self.nets_of(kind, metadata, "nets", texts)
    }

    /// The nets of a field; those that are none are reported and left out.
    fn nets_of(&mut self, kind: Kind, metadata: &ObjectMeta, field: &str, texts: &[String]) -> Vec<IpNet> {
        let mut nets = Vec::with_capacity(texts.len());
        for (at, text) in texts.iter().enumerate() {
            match parse_net(text) {
                Some(net) => nets.push(net),
                None => {
                    let reason = format!("{text:?} is no address or CIDR");
                    let resource = resource_id(kind, metadata);
                    let field = format!("spec.{field}[{at}]");
                    let problem = Problem::EntryIgnored {
                        resource: resource.clone(),
                        field,
                        reason,
                    };
                    self.resource_problems.entry(resource).or_default().push(problem);
                }
            }
        }
        nets
    }

    fn ignore(&mut self, kind: Kind, metadata: &ObjectMeta, field: &str, reason: &str) {
        let resource = resource_id(kind, metadata);
        let problem = Problem::Ignored {
            resource: resource.clone(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        self.resource_problems.entry(resource).or_default().push(problem);
    }
}

/// The programs of an endpoint that has none yet.
const NO_PROGRAMS: EndpointPrograms = EndpointPrograms {
    ingress_v4: ProgramKey(u64::MAX),
    egress_v4: ProgramKey(u64::MAX),
    ingress_v6: ProgramKey(u64::MAX),
    egress_v6: ProgramKey(u64::MAX),
};

fn resource_id(kind: Kind, metadata: &ObjectMeta) -> String {
    api::kinds::resource_id(kind, &metadata.namespace, &metadata.name)
}

fn network_set_key(metadata: &ObjectMeta) -> OwnerKey {
    OwnerKey::NetworkSet {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    }
}

fn tier_order(tier: &Tier) -> TierOrder {
    TierOrder {
        order: tier.spec.order,
        passes: tier.spec.default_action == Some(TierDefaultAction::Pass),
    }
}

/// Whether a policy governs ingress and egress. What a writer left out is filled in as writers do.
fn directions(types: &[PolicyType], ingress_rules: bool, egress_rules: bool) -> [bool; 2] {
    if types.is_empty() {
        return [ingress_rules || !egress_rules, egress_rules];
    }
    [
        types.contains(&PolicyType::Ingress),
        types.contains(&PolicyType::Egress),
    ]
}

/// As Felix's v1 key: the workload is the namespace and what the name's third segment stands for.
fn endpoint_id(metadata: &ObjectMeta, spec: &WorkloadEndpointSpec) -> EndpointId {
    let workload = match spec.orchestrator.as_str() {
        "k8s" => &spec.pod,
        "cni" => &spec.container_id,
        "libnetwork" => "libnetwork",
        _ => &spec.workload,
    };
    EndpointId {
        orchestrator: spec.orchestrator.clone(),
        workload: format!("{}/{workload}", metadata.namespace),
        endpoint: spec.endpoint.clone(),
    }
}

fn owner_port(name: &str, protocol: &Protocol, port: u16) -> Option<OwnerPort> {
    let named = !name.is_empty() && port > 0;
    named.then_some(OwnerPort {
        name: name.to_owned(),
        protocol: protocol_number(protocol)?,
        port,
    })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut octets = text.split([':', '-']);
    for byte in &mut mac {
        *byte = u8::from_str_radix(octets.next()?, 16).ok()?;
    }
    octets.next().is_none().then_some(mac)
}
