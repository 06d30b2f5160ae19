//! The values under `/calico/ipam/v2` as etcd holds them: spellings differ from the v3 kinds of the same names.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::json::{empty_is_none, string_enum, zero};
use crate::scalar::Time;
use crate::v3::bgp_configuration::Switch;

/// `/calico/ipam/v2/assignment/ipv4|ipv6/block/<cidr>`: a block and who has its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationBlock {
    /// The block.
    pub cidr: IpNet,
    /// `host:<name>` or `virtual:<name>`; `null` when no host owns it.
    #[serde(default)]
    pub affinity: Option<String>,
    /// When the owner claimed it.
    #[serde(default, skip_serializing_if = "zero")]
    pub affinity_claim_time: Option<Time>,
    /// One entry an address, by ordinal: index into `attributes`, or free.
    #[serde(default)]
    pub allocations: Vec<Option<u32>>,
    /// Free ordinals: taken from the front, given back at the end.
    #[serde(default)]
    pub unallocated: Vec<u32>,
    /// Who has the addresses.
    #[serde(default)]
    pub attributes: Vec<AllocationAttribute>,
    /// Starts at the time of creation in nanoseconds since the epoch; goes up by one at each write.
    #[serde(default, rename = "sequenceNumber")]
    pub sequence_number: u64,
    /// By decimal ordinal: the block's sequence number before the write that allocated it.
    #[serde(default, rename = "sequenceNumberForAllocation")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// Marks the block for deletion.
    #[serde(default)]
    pub deleted: bool,
    /// Written by very old releases; kept, not used.
    #[serde(default, rename = "hostAffinity", skip_serializing_if = "zero")]
    pub host_affinity: Option<String>,
}

/// Who has an address of a block.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationAttribute {
    /// The handle.
    #[serde(skip_serializing_if = "zero")]
    pub handle_id: Option<String>,
    /// Attributes of the active owner.
    #[serde(skip_serializing_if = "zero")]
    pub secondary: BTreeMap<String, String>,
    /// Attributes of the other owner during a live migration.
    #[serde(rename = "alternateOwnerAttrs", skip_serializing_if = "zero")]
    pub alternate_owner_attrs: BTreeMap<String, String>,
    /// When it was released, while it cools down; then it is the only field.
    #[serde(rename = "releasedAt", skip_serializing_if = "zero")]
    pub released_at: Option<Time>,
}

/// `/calico/ipam/v2/config`. A missing key means [`IpamConfig::default`]; a stored `{}` means all false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// No borrowing from blocks of other hosts.
    #[serde(default, skip_serializing_if = "zero")]
    pub strict_affinity: bool,
    /// Claim blocks on demand.
    #[serde(default, skip_serializing_if = "zero")]
    pub auto_allocate_blocks: bool,
    /// 0 for no limit.
    #[serde(default, rename = "maxBlocksPerHost", skip_serializing_if = "zero")]
    pub max_blocks_per_host: u32,
    /// Whether addresses stay with virtual machines; unset counts as enabled.
    #[serde(
        default,
        rename = "kubeVirtVMAddressPersistence",
        skip_serializing_if = "zero",
        deserialize_with = "empty_is_none"
    )]
    pub kube_virt_vm_address_persistence: Option<Switch>,
    /// Seconds until a released address is used again.
    #[serde(default, rename = "ipCooldownSeconds", skip_serializing_if = "zero")]
    pub ip_cooldown_seconds: u32,
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: Some(Switch::Enabled),
            ip_cooldown_seconds: 0,
        }
    }
}

string_enum! {
    /// How far a claim or a release of a block has come.
    pub enum AffinityState {
        /// The host owns the block.
        Confirmed = "confirmed",
        /// The host wants the block.
        Pending = "pending",
        /// The host is giving it up.
        PendingDeletion = "pendingDeletion",
    }
}

/// `/calico/ipam/v2/host|virtual/<host>/ipv4|ipv6/block/<cidr>`. No state means confirmed (very old data).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Affinity {
    /// Use [`Affinity::state`] to read it.
    #[serde(deserialize_with = "empty_is_none", serialize_with = "state_text")]
    pub state: Option<AffinityState>,
    /// Marks it for deletion.
    pub deleted: bool,
}

impl Affinity {
    /// An affinity in this state.
    #[must_use]
    pub fn new(state: AffinityState) -> Self {
        Self {
            state: Some(state),
            deleted: false,
        }
    }

    /// The state; none means confirmed.
    #[must_use]
    pub fn state(&self) -> AffinityState {
        self.state.unwrap_or(AffinityState::Confirmed)
    }
}

fn state_text<S: serde::Serializer>(state: &Option<AffinityState>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.map_or("", AffinityState::as_str))
}

/// `/calico/ipam/v2/handle/<id>`: how many addresses a handle has in which blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handle {
    /// Number of addresses by block CIDR.
    pub block: BTreeMap<String, u32>,
    /// Marks it for deletion.
    pub deleted: bool,
}
