//! What a client fills in before writing, and after reading what older writers left out.

use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::meta::{ANNOTATION_METADATA, LABEL_NAMESPACE, LABEL_ORCHESTRATOR, LABEL_TIER, ObjectMeta};
use crate::v3::bgp_configuration::{BgpConfiguration, Switch};
use crate::v3::ip_pool::{AllowedUse, AssignmentMode, BLOCK_SIZE_V4, BLOCK_SIZE_V6, EncapMode, IpPool};
use crate::v3::policy::{DEFAULT_TIER, PolicyType};
use crate::v3::rule::Rule;
use crate::v3::tier::{DEFAULT_TIER_ORDER, Tier, TierDefaultAction};
use crate::v3::workload_endpoint::WorkloadEndpoint;
use crate::workload_name;

/// Tier, its label, and the directions that follow from the rules.
pub(crate) fn policy_on_write(
    metadata: &mut ObjectMeta,
    tier: &mut String,
    types: &mut Vec<PolicyType>,
    ingress: &[Rule],
    egress: &[Rule],
) {
    if tier.is_empty() {
        DEFAULT_TIER.clone_into(tier);
    }
    metadata.labels.insert(LABEL_TIER.to_owned(), tier.clone());
    if types.is_empty() {
        *types = match (ingress.is_empty(), egress.is_empty()) {
            (_, true) => vec![PolicyType::Ingress],
            (true, false) => vec![PolicyType::Egress],
            (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        };
    }
}

/// The name as its user gave it, and the tier label.
pub(crate) fn policy_on_read(metadata: &mut ObjectMeta, tier: &str) {
    metadata
        .labels
        .entry(LABEL_TIER.to_owned())
        .or_insert_with(|| DEFAULT_TIER.to_owned());
    match metadata.annotations.remove(ANNOTATION_METADATA) {
        Some(annotation) => {
            let given = serde_json::from_str::<Value>(&annotation).ok();
            if let Some(name) = given.as_ref().and_then(|v| v.get("name")).and_then(Value::as_str)
                && !name.is_empty()
            {
                name.clone_into(&mut metadata.name);
            }
        }
        None if tier.is_empty() || tier == DEFAULT_TIER => {
            if let Some(name) = metadata
                .name
                .strip_prefix("default.")
                .filter(|name| !name.is_empty())
            {
                metadata.name = name.to_owned();
            }
        }
        None => {}
    }
}

/// Adds the annotation that keeps a policy's name as its user gave it.
pub(crate) fn policy_to_stored(value: &mut Value) {
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    let given = Value::Object(Map::from_iter([("name".to_owned(), Value::from(name))]));
    let mut annotations = match metadata.get("annotations") {
        Some(Value::Object(annotations)) => annotations.clone(),
        _ => Map::new(),
    };
    annotations.insert(
        ANNOTATION_METADATA.to_owned(),
        Value::from(crate::json::to_string(&given).unwrap_or_default()),
    );
    annotations.sort_keys();
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
}

pub(crate) fn tier(tier: &mut Tier) {
    tier.spec.order.get_or_insert(DEFAULT_TIER_ORDER);
    tier.spec.default_action.get_or_insert(TierDefaultAction::Deny);
}

/// Everything but the CIDR's text.
pub(crate) fn ip_pool(pool: &mut IpPool) {
    let spec = &mut pool.spec;
    if spec.block_size == 0
        && let Ok(cidr) = spec.cidr.parse::<IpNet>()
    {
        spec.block_size = if cidr.addr().is_ipv4() {
            BLOCK_SIZE_V4
        } else {
            BLOCK_SIZE_V6
        };
    }
    if spec.node_selector.is_empty() {
        "all()".clone_into(&mut spec.node_selector);
    }
    if spec.allowed_uses.is_empty() {
        spec.allowed_uses = vec![AllowedUse::Workload, AllowedUse::Tunnel];
    }
    spec.assignment_mode.get_or_insert(AssignmentMode::Automatic);
    spec.ipip_mode.get_or_insert(EncapMode::Never);
    spec.vxlan_mode.get_or_insert(EncapMode::Never);
}

pub(crate) fn ip_pool_on_write(pool: &mut IpPool) {
    // Host bits stay, so that validation can refuse them.
    if let Ok(cidr) = pool.spec.cidr.parse::<IpNet>() {
        pool.spec.cidr = cidr.to_string();
    }
    ip_pool(pool);
}

pub(crate) fn bgp_configuration(configuration: &mut BgpConfiguration) {
    let spec = &mut configuration.spec;
    if spec.log_severity_screen.is_empty() {
        "Info".clone_into(&mut spec.log_severity_screen);
    }
    spec.service_load_balancer_aggregation
        .get_or_insert(Switch::Enabled);
}

pub(crate) fn workload_endpoint(endpoint: &mut WorkloadEndpoint) {
    if endpoint.metadata.name.is_empty()
        && let Ok(name) = workload_name::build(&endpoint.spec)
    {
        endpoint.metadata.name = name;
    }
    let ObjectMeta {
        namespace, labels, ..
    } = &mut endpoint.metadata;
    labels.insert(LABEL_NAMESPACE.to_owned(), namespace.clone());
    labels.insert(LABEL_ORCHESTRATOR.to_owned(), endpoint.spec.orchestrator.clone());
}
