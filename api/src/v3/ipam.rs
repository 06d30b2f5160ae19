//! IPAM's v3 kinds. On etcd, IPAM itself works on [`crate::ipam_model`], not on these.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use super::bgp_configuration::Switch;
use crate::json::{empty_is_none, zero};
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::Time;
use crate::validate::FieldError;

/// A block that belongs to a host.
pub type BlockAffinity = Object<BlockAffinitySpec>;
/// A block of addresses.
pub type IpamBlock = Object<IpamBlockSpec>;
/// The addresses of one workload.
pub type IpamHandle = Object<IpamHandleSpec>;
/// IPAM settings; the object is named `default`.
pub type IpamConfiguration = Object<IpamConfigurationSpec>;

/// Spec of [`BlockAffinity`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinitySpec {
    /// `confirmed`, `pending`, `pendingDeletion` or empty.
    pub state: String,
    /// The host.
    pub node: String,
    /// `host` or `virtual`.
    #[serde(skip_serializing_if = "zero")]
    pub r#type: String,
    /// The block.
    pub cidr: String,
    /// Whether it is being deleted. Stored as text on etcd.
    #[serde(deserialize_with = "bool_or_text")]
    pub deleted: bool,
}

/// Spec of [`IpamBlock`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpamBlockSpec {
    /// The block.
    pub cidr: String,
    /// `host:<name>` or `virtual:<name>`.
    #[serde(skip_serializing_if = "zero")]
    pub affinity: Option<String>,
    /// When the host claimed it.
    #[serde(skip_serializing_if = "zero")]
    pub affinity_claim_time: Option<Time>,
    /// Index into `attributes`, by ordinal.
    pub allocations: Vec<Option<u32>>,
    /// Free ordinals, in the order of use.
    pub unallocated: Vec<u32>,
    /// Who has the addresses.
    pub attributes: Vec<crate::ipam_model::AllocationAttribute>,
    /// Goes up by one at each write.
    pub sequence_number: u64,
    /// Sequence number at which an ordinal was allocated.
    #[serde(skip_serializing_if = "zero")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Whether it is being deleted.
    #[serde(skip_serializing_if = "zero")]
    pub deleted: bool,
    /// Ignored.
    pub strict_affinity: bool,
}

/// Spec of [`IpamHandle`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamHandleSpec {
    /// The handle.
    #[serde(rename = "handleID")]
    pub handle_id: String,
    /// Number of addresses by block.
    pub block: BTreeMap<String, i64>,
    /// Whether it is being deleted.
    #[serde(skip_serializing_if = "zero")]
    pub deleted: bool,
}

/// Spec of [`IpamConfiguration`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpamConfigurationSpec {
    /// No borrowing from blocks of other hosts.
    pub strict_affinity: bool,
    /// Claim blocks on demand.
    pub auto_allocate_blocks: bool,
    /// 0 for no limit.
    #[serde(skip_serializing_if = "zero")]
    pub max_blocks_per_host: i32,
    /// Whether addresses stay with virtual machines.
    #[serde(
        rename = "kubeVirtVMAddressPersistence",
        skip_serializing_if = "zero",
        deserialize_with = "empty_is_none"
    )]
    pub kube_virt_vm_address_persistence: Option<Switch>,
    /// Seconds until a released address is used again.
    #[serde(skip_serializing_if = "zero")]
    pub ip_cooldown_seconds: i32,
}

impl Spec for BlockAffinitySpec {
    const KIND: Kind = Kind::BlockAffinity;
    type Status = NoStatus;

    fn validate(_object: &Object<Self>, _errors: &mut Vec<FieldError>) {}

    fn to_stored(value: &mut Value) {
        if let Some(deleted) = value.pointer_mut("/spec/deleted")
            && let Some(flag) = deleted.as_bool()
        {
            *deleted = Value::String(flag.to_string());
        }
    }
}

impl Spec for IpamBlockSpec {
    const KIND: Kind = Kind::IpamBlock;
    type Status = NoStatus;

    fn validate(_object: &Object<Self>, _errors: &mut Vec<FieldError>) {}
}

impl Spec for IpamHandleSpec {
    const KIND: Kind = Kind::IpamHandle;
    type Status = NoStatus;

    fn validate(_object: &Object<Self>, _errors: &mut Vec<FieldError>) {}
}

impl Spec for IpamConfigurationSpec {
    const KIND: Kind = Kind::IpamConfiguration;
    type Status = NoStatus;

    fn validate(_object: &Object<Self>, _errors: &mut Vec<FieldError>) {}
}

/// `true`, `"true"`, `false`, `"false"` or `""`.
fn bool_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Bool(flag) => Ok(flag),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" || text.is_empty() => Ok(false),
        other => Err(de::Error::custom(format!(
            "expected true or false, found {other}"
        ))),
    }
}
