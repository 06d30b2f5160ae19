//! `BGPConfiguration`: `default` for the fabric, `node.<name>` for one node.

use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::json::{empty_is_none, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::{AsNumber, GoDuration};
use crate::validate::FieldError;

/// AS of nodes when none is configured.
pub const DEFAULT_AS_NUMBER: AsNumber = AsNumber(64512);

string_enum! {
    /// On or off.
    pub enum Switch {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

string_enum! {
    /// Addresses that the BGP listener binds to.
    pub enum BindMode {
        /// All.
        None = "None",
        /// The node's BGP address.
        NodeIp = "NodeIP",
    }
}

string_enum! {
    /// For which pools the BGP component programs routes between nodes.
    pub enum ProgramClusterRoutes {
        /// None.
        Disabled = "Disabled",
        /// All.
        Enabled = "Enabled",
        /// Those with IP in IP.
        EnabledIpipOnly = "EnabledIPIPOnly",
        /// Those without encapsulation.
        EnabledNoEncapOnly = "EnabledNoEncapOnly",
    }
}

/// BGP settings.
pub type BgpConfiguration = Object<BgpConfigurationSpec>;

/// Spec of [`BgpConfiguration`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BgpConfigurationSpec {
    /// Trace, Debug, Info, Warning, Error or Fatal; case does not matter.
    #[serde(skip_serializing_if = "zero")]
    pub log_severity_screen: String,
    /// Sessions between all nodes; on when unset.
    #[serde(skip_serializing_if = "zero")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// AS of nodes without their own; 64512 when unset.
    #[serde(skip_serializing_if = "zero")]
    pub as_number: Option<AsNumber>,
    /// Announced service ranges.
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "zero")]
    pub service_load_balancer_ips: Vec<CidrBlock>,
    /// Announced service ranges.
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "zero")]
    pub service_external_ips: Vec<CidrBlock>,
    /// Announced service ranges.
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "zero")]
    pub service_cluster_ips: Vec<CidrBlock>,
    /// Whether load balancer ranges are announced whole.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub service_load_balancer_aggregation: Option<Switch>,
    /// Names for communities.
    #[serde(skip_serializing_if = "zero")]
    pub communities: Vec<Community>,
    /// Communities to announce prefixes with.
    #[serde(skip_serializing_if = "zero")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP port; 179 when unset.
    #[serde(skip_serializing_if = "zero")]
    pub listen_port: u16,
    /// Password of mesh sessions.
    #[serde(skip_serializing_if = "zero")]
    pub node_mesh_password: Option<BgpPassword>,
    /// Restart time of mesh sessions.
    #[serde(skip_serializing_if = "zero")]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// Addresses that the listener binds to.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub bind_mode: Option<BindMode>,
    /// Interfaces whose routes are not announced.
    #[serde(skip_serializing_if = "zero")]
    pub ignored_interfaces: Vec<String>,
    /// Address under which local workloads peer with the host.
    #[serde(rename = "localWorkloadPeeringIPV4", skip_serializing_if = "zero")]
    pub local_workload_peering_ip_v4: String,
    /// Address under which local workloads peer with the host.
    #[serde(rename = "localWorkloadPeeringIPV6", skip_serializing_if = "zero")]
    pub local_workload_peering_ip_v6: String,
    /// For which pools routes between nodes are programmed by BGP.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Metric of IPv4 routes; 1024 when unset.
    #[serde(rename = "ipv4NormalRoutePriority", skip_serializing_if = "zero")]
    pub ipv4_normal_route_priority: Option<i64>,
    /// Metric of IPv6 routes; 1024 when unset.
    #[serde(rename = "ipv6NormalRoutePriority", skip_serializing_if = "zero")]
    pub ipv6_normal_route_priority: Option<i64>,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CidrBlock {
    /// The range.
    #[serde(skip_serializing_if = "zero")]
    pub cidr: String,
}

/// A name for a community.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Community {
    /// The name.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// `aa:nn` or `aa:nn:mm`.
    #[serde(skip_serializing_if = "zero")]
    pub value: String,
}

/// Communities of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixAdvertisement {
    /// Routes within this range.
    #[serde(skip_serializing_if = "zero")]
    pub cidr: String,
    /// Values or names.
    #[serde(skip_serializing_if = "zero")]
    pub communities: Vec<String>,
}

/// Where a password is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BgpPassword {
    /// A key of a Kubernetes secret.
    #[serde(skip_serializing_if = "zero")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Kubernetes secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    /// Name of the secret.
    #[serde(skip_serializing_if = "zero")]
    pub name: String,
    /// Key in it.
    pub key: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "zero")]
    pub optional: Option<bool>,
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
    type Status = NoStatus;

    fn default_on_write(object: &mut Object<Self>) {
        defaults::bgp_configuration(object);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::bgp_configuration(object, errors);
    }
}
