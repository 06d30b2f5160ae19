//! `HostEndpoint`: an interface or address of a host, as a place to enforce policy.

use serde::{Deserialize, Serialize};

use crate::json::zero;
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::Protocol;
use crate::validate::FieldError;

/// A host endpoint.
pub type HostEndpoint = Object<HostEndpointSpec>;

/// Spec of [`HostEndpoint`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HostEndpointSpec {
    /// Required.
    #[serde(skip_serializing_if = "zero")]
    pub node: String,
    /// An interface, or `*` for all host traffic.
    #[serde(skip_serializing_if = "zero")]
    pub interface_name: String,
    /// Addresses by which the interface is found when it is not named.
    #[serde(rename = "expectedIPs", skip_serializing_if = "zero")]
    pub expected_ips: Vec<String>,
    /// Names of profiles.
    #[serde(skip_serializing_if = "zero")]
    pub profiles: Vec<String>,
    /// Named ports.
    #[serde(skip_serializing_if = "zero")]
    pub ports: Vec<EndpointPort>,
}

/// A named port of a host endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// The name that rules use.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// 1..65535.
    pub port: u16,
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::host_endpoint(object, errors);
    }
}
