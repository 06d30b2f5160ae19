//! `NetworkPolicy` and `GlobalNetworkPolicy`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rule::Rule;
use crate::defaults;
use crate::json::{float, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::validate::FieldError;

/// The tier of a policy that names none.
pub const DEFAULT_TIER: &str = "default";

string_enum! {
    /// Direction in which a policy applies, seen from the endpoint.
    pub enum PolicyType {
        /// Towards the endpoint.
        Ingress = "Ingress",
        /// From the endpoint.
        Egress = "Egress",
    }
}

/// A policy of one namespace.
pub type NetworkPolicy = Object<NetworkPolicySpec>;
/// A policy of the whole cluster.
pub type GlobalNetworkPolicy = Object<GlobalNetworkPolicySpec>;

/// Spec of [`NetworkPolicy`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// `default` when empty.
    #[serde(skip_serializing_if = "zero")]
    pub tier: String,
    /// Lower comes first; unset comes last.
    #[serde(skip_serializing_if = "zero", serialize_with = "float")]
    pub order: Option<f64>,
    /// Rules for packets towards the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub egress: Vec<Rule>,
    /// Endpoints that it applies to; empty is all of the namespace.
    #[serde(skip_serializing_if = "zero")]
    pub selector: String,
    /// Directions that it applies in; computed from the rules when empty.
    #[serde(skip_serializing_if = "zero")]
    pub types: Vec<PolicyType>,
    /// Service accounts of the endpoints that it applies to.
    #[serde(skip_serializing_if = "zero")]
    pub service_account_selector: String,
    /// `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "zero")]
    pub performance_hints: Vec<String>,
}

/// Spec of [`GlobalNetworkPolicy`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GlobalNetworkPolicySpec {
    /// `default` when empty.
    #[serde(skip_serializing_if = "zero")]
    pub tier: String,
    /// Lower comes first; unset comes last.
    #[serde(skip_serializing_if = "zero", serialize_with = "float")]
    pub order: Option<f64>,
    /// Rules for packets towards the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub egress: Vec<Rule>,
    /// Endpoints that it applies to; empty is all.
    #[serde(skip_serializing_if = "zero")]
    pub selector: String,
    /// Directions that it applies in; computed from the rules when empty.
    #[serde(skip_serializing_if = "zero")]
    pub types: Vec<PolicyType>,
    /// Enforced before connection tracking.
    #[serde(skip_serializing_if = "zero")]
    pub do_not_track: bool,
    /// Enforced before destination NAT.
    #[serde(rename = "preDNAT", skip_serializing_if = "zero")]
    pub pre_dnat: bool,
    /// Applies to forwarded packets of host endpoints.
    #[serde(skip_serializing_if = "zero")]
    pub apply_on_forward: bool,
    /// Service accounts of the endpoints that it applies to.
    #[serde(skip_serializing_if = "zero")]
    pub service_account_selector: String,
    /// Namespaces of the endpoints that it applies to.
    #[serde(skip_serializing_if = "zero")]
    pub namespace_selector: String,
    /// `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "zero")]
    pub performance_hints: Vec<String>,
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
    type Status = NoStatus;

    fn default_on_write(object: &mut Object<Self>) {
        let Object { metadata, spec, .. } = object;
        defaults::policy_on_write(
            metadata,
            &mut spec.tier,
            &mut spec.types,
            &spec.ingress,
            &spec.egress,
        );
    }

    fn default_on_read(object: &mut Object<Self>) {
        defaults::policy_on_read(&mut object.metadata, &object.spec.tier);
    }

    fn to_stored(value: &mut Value) {
        defaults::policy_to_stored(value);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::network_policy(object, errors);
    }
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
    type Status = NoStatus;

    fn default_on_write(object: &mut Object<Self>) {
        let Object { metadata, spec, .. } = object;
        defaults::policy_on_write(
            metadata,
            &mut spec.tier,
            &mut spec.types,
            &spec.ingress,
            &spec.egress,
        );
    }

    fn default_on_read(object: &mut Object<Self>) {
        defaults::policy_on_read(&mut object.metadata, &object.spec.tier);
    }

    fn to_stored(value: &mut Value) {
        defaults::policy_to_stored(value);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::global_network_policy(object, errors);
    }
}
