//! Rules of policies and profiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{empty_is_none, string_enum, zero};
use crate::scalar::{Port, Protocol};

string_enum! {
    /// What a rule does with a packet that it matches.
    pub enum Action {
        /// Accept it.
        Allow = "Allow",
        /// Drop it.
        Deny = "Deny",
        /// Record it and go on.
        Log = "Log",
        /// Skip the rest of the tier.
        Pass = "Pass",
    }
}

/// One rule: all its criteria must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Required.
    #[serde(deserialize_with = "empty_is_none")]
    pub action: Option<Action>,
    /// 4 or 6.
    #[serde(skip_serializing_if = "zero")]
    pub ip_version: Option<u8>,
    /// Must be this protocol.
    #[serde(skip_serializing_if = "zero")]
    pub protocol: Option<Protocol>,
    /// Must be this ICMP type and code.
    #[serde(skip_serializing_if = "zero")]
    pub icmp: Option<IcmpFields>,
    /// Must not be this protocol.
    #[serde(skip_serializing_if = "zero")]
    pub not_protocol: Option<Protocol>,
    /// Must not be this ICMP type and code.
    #[serde(rename = "notICMP", skip_serializing_if = "zero")]
    pub not_icmp: Option<IcmpFields>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "zero")]
    pub source: EntityRule,
    /// Where it goes.
    #[serde(skip_serializing_if = "zero")]
    pub destination: EntityRule,
    /// Application-layer criteria.
    #[serde(skip_serializing_if = "zero")]
    pub http: Option<HttpMatch>,
    /// Annotations.
    #[serde(skip_serializing_if = "zero")]
    pub metadata: Option<RuleMetadata>,
}

/// ICMP type, and code when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IcmpFields {
    /// 0..254.
    #[serde(skip_serializing_if = "zero")]
    pub r#type: Option<i64>,
    /// 0..255; needs a type.
    #[serde(skip_serializing_if = "zero")]
    pub code: Option<i64>,
}

/// One side of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntityRule {
    /// The address is in one of these.
    #[serde(skip_serializing_if = "zero")]
    pub nets: Vec<String>,
    /// The address belongs to an endpoint or network set that this selects.
    #[serde(skip_serializing_if = "zero")]
    pub selector: String,
    /// Namespaces in which `selector` selects; `global()` for objects without one.
    #[serde(skip_serializing_if = "zero")]
    pub namespace_selector: String,
    /// The endpoints of a Kubernetes service.
    #[serde(skip_serializing_if = "zero")]
    pub services: Option<ServiceMatch>,
    /// The port is one of these.
    #[serde(skip_serializing_if = "zero")]
    pub ports: Vec<Port>,
    /// The address is in none of these.
    #[serde(skip_serializing_if = "zero")]
    pub not_nets: Vec<String>,
    /// The address does not belong to what this selects.
    #[serde(skip_serializing_if = "zero")]
    pub not_selector: String,
    /// The port is none of these.
    #[serde(skip_serializing_if = "zero")]
    pub not_ports: Vec<Port>,
    /// Workloads that run under these service accounts.
    #[serde(skip_serializing_if = "zero")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

/// A Kubernetes service by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMatch {
    /// Required.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// Required in global policies.
    #[serde(skip_serializing_if = "zero")]
    pub namespace: String,
}

/// Service accounts by name and by label; both must hold where both are given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// Any of these names.
    #[serde(skip_serializing_if = "zero")]
    pub names: Vec<String>,
    /// Labels of the service account.
    #[serde(skip_serializing_if = "zero")]
    pub selector: String,
}

/// HTTP methods and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpMatch {
    /// Any of these methods.
    #[serde(skip_serializing_if = "zero")]
    pub methods: Vec<String>,
    /// Any of these paths.
    #[serde(skip_serializing_if = "zero")]
    pub paths: Vec<HttpPath>,
}

/// Exactly one of the two is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPath {
    /// The whole path.
    #[serde(skip_serializing_if = "zero")]
    pub exact: String,
    /// How the path starts.
    #[serde(skip_serializing_if = "zero")]
    pub prefix: String,
}

/// Annotations of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleMetadata {
    /// Free text by key.
    #[serde(skip_serializing_if = "zero")]
    pub annotations: BTreeMap<String, String>,
}

impl Rule {
    /// A rule that does `action` and matches everything.
    #[must_use]
    pub fn matching_all(action: Action) -> Self {
        Self {
            action: Some(action),
            ..Self::default()
        }
    }
}
