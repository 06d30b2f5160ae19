//! Object metadata, as Kubernetes' `ObjectMeta`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::zero;
use crate::scalar::Time;

/// Label of every workload endpoint and of network sets: the namespace.
pub const LABEL_NAMESPACE: &str = "projectcalico.org/namespace";
/// Label of workload endpoints: the orchestrator.
pub const LABEL_ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// Label that selectors see on workload endpoints: the service account.
pub const LABEL_SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Label of policies: their tier.
pub const LABEL_TIER: &str = "projectcalico.org/tier";
/// Annotation of stored policies: a JSON object with the name as the user gave it.
pub const ANNOTATION_METADATA: &str = "projectcalico.org/metadata";

/// Metadata of a resource. `resource_version` is never stored: on etcd it is the key's ModRevision.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique in its kind and namespace.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// Prefix of a generated name; kept, not used for creation.
    #[serde(skip_serializing_if = "zero")]
    pub generate_name: String,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "zero")]
    pub namespace: String,
    /// Legacy; blanked before storing.
    #[serde(skip_serializing_if = "zero")]
    pub self_link: String,
    /// Random, given at creation.
    #[serde(skip_serializing_if = "zero")]
    pub uid: String,
    /// Decimal ModRevision of the key.
    #[serde(skip_serializing_if = "zero")]
    pub resource_version: String,
    /// Kept as Kubernetes wrote it.
    #[serde(skip_serializing_if = "zero")]
    pub generation: i64,
    /// When it was created.
    #[serde(skip_serializing_if = "zero")]
    pub creation_timestamp: Option<Time>,
    /// Kept as Kubernetes wrote it.
    #[serde(skip_serializing_if = "zero")]
    pub deletion_timestamp: Option<Time>,
    /// Kept as Kubernetes wrote it.
    #[serde(skip_serializing_if = "zero")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// What selectors match.
    #[serde(skip_serializing_if = "zero")]
    pub labels: BTreeMap<String, String>,
    /// Free text by key.
    #[serde(skip_serializing_if = "zero")]
    pub annotations: BTreeMap<String, String>,
    /// Kept as Kubernetes wrote them.
    #[serde(skip_serializing_if = "zero")]
    pub owner_references: Vec<Value>,
    /// Kept as Kubernetes wrote them.
    #[serde(skip_serializing_if = "zero")]
    pub finalizers: Vec<String>,
    /// Kept as Kubernetes wrote them.
    #[serde(skip_serializing_if = "zero")]
    pub managed_fields: Vec<Value>,
}

impl ObjectMeta {
    /// Metadata with a name and nothing else.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Metadata with a name in a namespace.
    #[must_use]
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: namespace.into(),
            ..Self::default()
        }
    }
}
