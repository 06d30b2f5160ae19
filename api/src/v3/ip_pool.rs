//! `IPPool`: a range of addresses for workloads.

use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::json::{empty_is_none, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{Object, Spec, Status};
use crate::scalar::Time;
use crate::validate::FieldError;

/// Default block size of IPv4 pools, as a prefix length.
pub const BLOCK_SIZE_V4: u8 = 26;
/// Default block size of IPv6 pools, as a prefix length.
pub const BLOCK_SIZE_V6: u8 = 122;

string_enum! {
    /// When packets between hosts are encapsulated.
    pub enum EncapMode {
        /// Not at all.
        Never = "Never",
        /// Always.
        Always = "Always",
        /// Where the hosts are in different subnets.
        CrossSubnet = "CrossSubnet",
    }
}

string_enum! {
    /// What addresses of a pool may be used for.
    pub enum AllowedUse {
        /// Workloads.
        Workload = "Workload",
        /// Tunnel devices of hosts.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer; excludes the others.
        LoadBalancer = "LoadBalancer",
    }
}

string_enum! {
    /// Whether addresses are taken from the pool without naming it.
    pub enum AssignmentMode {
        /// Yes.
        Automatic = "Automatic",
        /// Only when the pool or address is asked for.
        Manual = "Manual",
    }
}

/// An address pool.
pub type IpPool = Object<IpPoolSpec>;

/// Spec of [`IpPool`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The range; cannot be changed.
    pub cidr: String,
    /// VXLAN.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// IP in IP.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// Masquerade packets that leave all pools.
    #[serde(skip_serializing_if = "zero")]
    pub nat_outgoing: bool,
    /// No new addresses.
    #[serde(skip_serializing_if = "zero")]
    pub disabled: bool,
    /// Do not announce blocks of this pool.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "zero")]
    pub disable_bgp_export: bool,
    /// Prefix length of a block; cannot be changed. 0 until defaulted.
    #[serde(skip_serializing_if = "zero")]
    pub block_size: u8,
    /// Nodes that may take addresses.
    #[serde(skip_serializing_if = "zero")]
    pub node_selector: String,
    /// Namespaces whose workloads may take addresses.
    #[serde(skip_serializing_if = "zero")]
    pub namespace_selector: String,
    /// What addresses may be used for.
    #[serde(skip_serializing_if = "zero")]
    pub allowed_uses: Vec<AllowedUse>,
    /// Whether the pool must be asked for.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub assignment_mode: Option<AssignmentMode>,
}

/// Status of [`IpPool`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpPoolStatus {
    /// `Allocatable`.
    #[serde(skip_serializing_if = "zero")]
    pub conditions: Vec<Condition>,
}

/// A condition as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Generation that it was seen at.
    #[serde(skip_serializing_if = "zero")]
    pub observed_generation: i64,
    /// When it changed.
    pub last_transition_time: Option<Time>,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Status for Option<IpPoolStatus> {
    fn omitted(&self) -> bool {
        self.is_none()
    }
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
    type Status = Option<IpPoolStatus>;

    fn default_on_write(object: &mut Object<Self>) {
        defaults::ip_pool_on_write(object);
    }

    fn default_on_read(object: &mut Object<Self>) {
        defaults::ip_pool(object);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::ip_pool(object, errors);
    }
}
