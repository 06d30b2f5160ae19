//! `WorkloadEndpoint`: a workload's interface. Written by the CNI plugin.

use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::json::zero;
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::{Dscp, Protocol};
use crate::validate::FieldError;

/// A workload endpoint.
pub type WorkloadEndpoint = Object<WorkloadEndpointSpec>;

/// Spec of [`WorkloadEndpoint`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `libnetwork`, `openstack`.
    #[serde(skip_serializing_if = "zero")]
    pub orchestrator: String,
    /// Name of the workload, for orchestrators without pods or containers.
    #[serde(skip_serializing_if = "zero")]
    pub workload: String,
    /// The host that it runs on.
    #[serde(skip_serializing_if = "zero")]
    pub node: String,
    /// Container id.
    #[serde(rename = "containerID", skip_serializing_if = "zero")]
    pub container_id: String,
    /// Name of the pod.
    #[serde(skip_serializing_if = "zero")]
    pub pod: String,
    /// Name of the interface in the workload.
    #[serde(skip_serializing_if = "zero")]
    pub endpoint: String,
    /// Service account that the pod runs under.
    #[serde(skip_serializing_if = "zero")]
    pub service_account_name: String,
    /// Addresses, each as /32 or /128.
    #[serde(skip_serializing_if = "zero")]
    pub ip_networks: Vec<String>,
    /// One-to-one NAT.
    #[serde(rename = "ipNATs", skip_serializing_if = "zero")]
    pub ip_nats: Vec<IpNat>,
    /// IPv4 gateway.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "zero")]
    pub ipv4_gateway: String,
    /// IPv6 gateway.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "zero")]
    pub ipv6_gateway: String,
    /// Names of profiles, in order of label lookup.
    #[serde(skip_serializing_if = "zero")]
    pub profiles: Vec<String>,
    /// Host-side interface. Required.
    #[serde(skip_serializing_if = "zero")]
    pub interface_name: String,
    /// MAC address of the workload's side.
    #[serde(skip_serializing_if = "zero")]
    pub mac: String,
    /// Named ports.
    #[serde(skip_serializing_if = "zero")]
    pub ports: Vec<WorkloadEndpointPort>,
    /// Further source addresses that it may use.
    #[serde(skip_serializing_if = "zero")]
    pub allow_spoofed_source_prefixes: Vec<String>,
    /// Quality of service.
    #[serde(skip_serializing_if = "zero")]
    pub qos_controls: Option<QosControls>,
}

/// An address that is reached under another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpNat {
    /// One of the endpoint's own addresses.
    #[serde(rename = "internalIP")]
    pub internal_ip: String,
    /// The address that others use.
    #[serde(rename = "externalIP")]
    pub external_ip: String,
}

/// A port of a workload endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadEndpointPort {
    /// The name that rules use; may be empty when there is a host port.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Above 0.
    pub port: u16,
    /// Port of the host that leads here; 0 for none.
    pub host_port: u16,
    /// Address of the host for the host port; empty for all.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
}

/// Bandwidth, packet rate and connection limits; 0 means none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QosControls {
    /// Bits per second.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_bandwidth: i64,
    /// Bits.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_burst: i64,
    /// Bits per second.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_peakrate: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_minburst: i64,
    /// Bits per second.
    #[serde(skip_serializing_if = "zero")]
    pub egress_bandwidth: i64,
    /// Bits.
    #[serde(skip_serializing_if = "zero")]
    pub egress_burst: i64,
    /// Bits per second.
    #[serde(skip_serializing_if = "zero")]
    pub egress_peakrate: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "zero")]
    pub egress_minburst: i64,
    /// Packets per second.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_packet_rate: i64,
    /// Packets.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_packet_burst: i64,
    /// Packets per second.
    #[serde(skip_serializing_if = "zero")]
    pub egress_packet_rate: i64,
    /// Packets.
    #[serde(skip_serializing_if = "zero")]
    pub egress_packet_burst: i64,
    /// Connections.
    #[serde(skip_serializing_if = "zero")]
    pub ingress_max_connections: i64,
    /// Connections.
    #[serde(skip_serializing_if = "zero")]
    pub egress_max_connections: i64,
    /// DSCP of packets that it sends.
    #[serde(skip_serializing_if = "zero")]
    pub dscp: Option<Dscp>,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = NoStatus;

    fn default_on_write(object: &mut Object<Self>) {
        defaults::workload_endpoint(object);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::workload_endpoint(object, errors);
    }
}
