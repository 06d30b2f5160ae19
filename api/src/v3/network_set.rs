//! `NetworkSet` and `GlobalNetworkSet`: named sets of networks that selectors match by label.

use serde::{Deserialize, Serialize};

use crate::json::zero;
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::validate::FieldError;

/// A network set of one namespace.
pub type NetworkSet = Object<NetworkSetSpec>;
/// A network set of the whole cluster.
pub type GlobalNetworkSet = Object<GlobalNetworkSetSpec>;

/// Spec of [`NetworkSet`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetworkSetSpec {
    /// CIDRs or addresses; host bits may be set.
    #[serde(skip_serializing_if = "zero")]
    pub nets: Vec<String>,
}

/// Spec of [`GlobalNetworkSet`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GlobalNetworkSetSpec {
    /// CIDRs or addresses; host bits may be set.
    #[serde(skip_serializing_if = "zero")]
    pub nets: Vec<String>,
}

impl Spec for NetworkSetSpec {
    const KIND: Kind = Kind::NetworkSet;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::network_set(&object.metadata, &object.spec.nets, errors);
    }
}

impl Spec for GlobalNetworkSetSpec {
    const KIND: Kind = Kind::GlobalNetworkSet;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::network_set(&object.metadata, &object.spec.nets, errors);
    }
}
