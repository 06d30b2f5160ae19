//! `ClusterInformation`: what the cluster is, and whether its datastore may be used.

use serde::{Deserialize, Serialize};

use crate::json::zero;
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::validate::FieldError;

/// The one object, named `default`.
pub type ClusterInformation = Object<ClusterInformationSpec>;

/// Spec of [`ClusterInformation`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterInformationSpec {
    /// 32 lower-case hex digits.
    #[serde(rename = "clusterGUID", skip_serializing_if = "zero")]
    pub cluster_guid: String,
    /// Comma-separated list.
    #[serde(skip_serializing_if = "zero")]
    pub cluster_type: String,
    /// Version of the components.
    #[serde(skip_serializing_if = "zero")]
    pub calico_version: String,
    /// `false` locks the datastore; unset counts as ready.
    #[serde(skip_serializing_if = "zero")]
    pub datastore_ready: Option<bool>,
    /// Product variant.
    #[serde(skip_serializing_if = "zero")]
    pub variant: String,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = NoStatus;

    fn validate(_object: &Object<Self>, _errors: &mut Vec<FieldError>) {}
}
