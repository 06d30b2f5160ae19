//! Resources with few words.

use api::v3::rule::{Action, EntityRule, Rule};
use api::v3::tier::TierDefaultAction;
use api::{
    AnyResource, GlobalNetworkPolicy, GlobalNetworkSet, NetworkPolicy, ObjectMeta, Profile, Tier,
    WorkloadEndpoint,
};

pub const NODE: &str = "host1";

/// A workload `name` in `namespace` with labels `key=value`.
pub fn workload(
    namespace: &str,
    name: &str,
    node: &str,
    addresses: &[&str],
    labels: &[&str],
) -> WorkloadEndpoint {
    let mut endpoint = WorkloadEndpoint::new(
        ObjectMeta::namespaced(namespace, format!("{node}-cni-{name}-eth0")),
        Default::default(),
    );
    endpoint.metadata.labels = pairs(labels);
    endpoint
        .metadata
        .labels
        .insert("projectcalico.org/namespace".into(), namespace.into());
    endpoint.spec.orchestrator = "cni".into();
    endpoint.spec.node = node.into();
    endpoint.spec.container_id = name.into();
    endpoint.spec.endpoint = "eth0".into();
    endpoint.spec.interface_name = format!("cali{name}");
    endpoint.spec.ip_networks = addresses.iter().map(|a| (*a).to_owned()).collect();
    endpoint
}

pub fn pairs(labels: &[&str]) -> std::collections::BTreeMap<String, String> {
    labels
        .iter()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

pub fn rule(action: Action) -> Rule {
    Rule::matching_all(action)
}

pub fn from_selector(action: Action, selector: &str) -> Rule {
    let source = EntityRule {
        selector: selector.into(),
        ..EntityRule::default()
    };
    Rule {
        source,
        ..Rule::matching_all(action)
    }
}

pub fn from_nets(action: Action, nets: &[&str]) -> Rule {
    let source = EntityRule {
        nets: nets.iter().map(|n| (*n).to_owned()).collect(),
        ..EntityRule::default()
    };
    Rule {
        source,
        ..Rule::matching_all(action)
    }
}

pub fn global_policy(
    name: &str,
    order: Option<f64>,
    selector: &str,
    ingress: Vec<Rule>,
) -> GlobalNetworkPolicy {
    let mut policy = GlobalNetworkPolicy::new(ObjectMeta::named(name), Default::default());
    policy.spec.order = order;
    policy.spec.selector = selector.into();
    policy.spec.ingress = ingress;
    policy
}

pub fn policy(namespace: &str, name: &str, selector: &str, ingress: Vec<Rule>) -> NetworkPolicy {
    let mut policy = NetworkPolicy::new(ObjectMeta::namespaced(namespace, name), Default::default());
    policy.spec.selector = selector.into();
    policy.spec.ingress = ingress;
    policy
}

pub fn tier(name: &str, order: Option<f64>, default_action: Option<TierDefaultAction>) -> Tier {
    let mut tier = Tier::new(ObjectMeta::named(name), Default::default());
    tier.spec.order = order;
    tier.spec.default_action = default_action;
    tier
}

pub fn global_set(name: &str, labels: &[&str], nets: &[&str]) -> GlobalNetworkSet {
    let mut set = GlobalNetworkSet::new(ObjectMeta::named(name), Default::default());
    set.metadata.labels = pairs(labels);
    set.spec.nets = nets.iter().map(|n| (*n).to_owned()).collect();
    set
}

pub fn profile(name: &str, labels: &[&str], ingress: Vec<Rule>, egress: Vec<Rule>) -> Profile {
    let mut profile = Profile::new(ObjectMeta::named(name), Default::default());
    profile.spec.labels_to_apply = pairs(labels);
    profile.spec.ingress = ingress;
    profile.spec.egress = egress;
    profile
}

pub fn set(resource: impl Into<AnyResource>) -> policy_engine::Input {
    policy_engine::Input::Set(resource.into())
}
