//! `Node`: a host of the fabric.

use serde::{Deserialize, Serialize};

use crate::json::{empty_is_none, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{Object, Spec, Status};
use crate::scalar::AsNumber;
use crate::validate::FieldError;

/// A host.
pub type Node = Object<NodeSpec>;

string_enum! {
    /// Who gave an address of a node.
    pub enum NodeAddressType {
        /// The agent.
        CalicoNodeIp = "CalicoNodeIP",
        /// The orchestrator, for traffic inside the cluster.
        InternalIp = "InternalIP",
        /// The orchestrator, for traffic from outside.
        ExternalIp = "ExternalIP",
    }
}

/// Spec of [`Node`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// What BGP needs; must not be empty when it is there.
    #[serde(skip_serializing_if = "zero")]
    pub bgp: Option<NodeBgpSpec>,
    /// Address of the VXLAN device.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "zero")]
    pub ipv4_vxlan_tunnel_addr: String,
    /// MAC address of the VXLAN device.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "zero")]
    pub vxlan_tunnel_mac_addr: String,
    /// Address of the IPv6 VXLAN device.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "zero")]
    pub ipv6_vxlan_tunnel_addr: String,
    /// MAC address of the IPv6 VXLAN device.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "zero")]
    pub vxlan_tunnel_mac_addr_v6: String,
    /// Names of this host in orchestrators.
    #[serde(skip_serializing_if = "zero")]
    pub orch_refs: Vec<OrchRef>,
    /// Addresses of the WireGuard devices.
    #[serde(skip_serializing_if = "zero")]
    pub wireguard: Option<NodeWireguardSpec>,
    /// Addresses by which the node is known.
    #[serde(skip_serializing_if = "zero")]
    pub addresses: Vec<NodeAddress>,
    /// Interfaces and their addresses.
    #[serde(skip_serializing_if = "zero")]
    pub interfaces: Vec<NodeInterface>,
}

/// BGP of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeBgpSpec {
    /// Own AS; the global one when unset.
    #[serde(skip_serializing_if = "zero")]
    pub as_number: Option<AsNumber>,
    /// Address, with the prefix length of its subnet where that is known.
    #[serde(rename = "ipv4Address", skip_serializing_if = "zero")]
    pub ipv4_address: String,
    /// Address, with the prefix length of its subnet where that is known.
    #[serde(rename = "ipv6Address", skip_serializing_if = "zero")]
    pub ipv6_address: String,
    /// Address of the IPIP device.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "zero")]
    pub ipv4_ipip_tunnel_addr: String,
    /// Makes the node a route reflector of this cluster.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "zero")]
    pub route_reflector_cluster_id: String,
}

/// A node's name in an orchestrator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OrchRef {
    /// The name there.
    #[serde(skip_serializing_if = "zero")]
    pub node_name: String,
    /// `k8s`, ...
    pub orchestrator: String,
}

/// WireGuard addresses of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguardSpec {
    /// IPv4.
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "zero")]
    pub interface_ipv4_address: String,
    /// IPv6.
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "zero")]
    pub interface_ipv6_address: String,
}

/// One address of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// Address or CIDR.
    pub address: String,
    /// Who gave it.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub r#type: Option<NodeAddressType>,
}

/// One interface of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    /// Its name.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// Its addresses.
    #[serde(skip_serializing_if = "zero")]
    pub addresses: Vec<String>,
}

/// Status of [`Node`]; always written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Base64 of the public key.
    #[serde(skip_serializing_if = "zero")]
    pub wireguard_public_key: String,
    /// Base64 of the IPv6 device's public key.
    #[serde(skip_serializing_if = "zero")]
    pub wireguard_public_key_v6: String,
    /// Pod CIDRs that Kubernetes gave the node.
    #[serde(rename = "podCIDRs", skip_serializing_if = "zero")]
    pub pod_cidrs: Vec<String>,
}

impl Status for NodeStatus {
    fn omitted(&self) -> bool {
        false
    }
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::node(object, errors);
    }
}
