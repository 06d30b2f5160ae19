//! `BGPPeer`: a BGP session of all nodes, of some, or between nodes.

use serde::{Deserialize, Serialize};

use super::bgp_configuration::BgpPassword;
use crate::json::{empty_is_none, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::{AsNumber, GoDuration};
use crate::validate::FieldError;

string_enum! {
    /// Next hop of announced routes.
    pub enum NextHopMode {
        /// By the kind of session.
        Auto = "Auto",
        /// Own address.
        SelfAddress = "Self",
        /// As it was learned.
        Keep = "Keep",
    }
}

string_enum! {
    /// Source address of the TCP connection.
    pub enum SourceAddress {
        /// The node's BGP address.
        UseNodeIp = "UseNodeIP",
        /// What the kernel chooses.
        None = "None",
    }
}

string_enum! {
    /// Whether nodes that a peer selector chose peer back by themselves.
    pub enum ReversePeering {
        /// Yes.
        Auto = "Auto",
        /// No.
        Manual = "Manual",
    }
}

/// A BGP peer.
pub type BgpPeer = Object<BgpPeerSpec>;

/// Spec of [`BgpPeer`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// The one node that has the session; all when this and the selector are empty.
    #[serde(skip_serializing_if = "zero")]
    pub node: String,
    /// Nodes that have the session.
    #[serde(skip_serializing_if = "zero")]
    pub node_selector: String,
    /// `ip`, `ipv4:port` or `[ipv6]:port`.
    #[serde(rename = "peerIP", skip_serializing_if = "zero")]
    pub peer_ip: String,
    /// Remote AS.
    #[serde(skip_serializing_if = "zero")]
    pub as_number: AsNumber,
    /// Own AS on this session.
    #[serde(rename = "localASNumber", skip_serializing_if = "zero")]
    pub local_as_number: Option<AsNumber>,
    /// Nodes that are the peers.
    #[serde(skip_serializing_if = "zero")]
    pub peer_selector: String,
    /// Old form of `nextHopMode: Keep`.
    #[serde(skip_serializing_if = "zero")]
    pub keep_original_next_hop: bool,
    /// Next hop of announced routes.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// TCP MD5 password.
    #[serde(skip_serializing_if = "zero")]
    pub password: Option<BgpPassword>,
    /// Source address of the TCP connection.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub source_address: Option<SourceAddress>,
    /// Restart time of graceful restart.
    #[serde(skip_serializing_if = "zero")]
    pub max_restart_time: Option<GoDuration>,
    /// Keepalive interval.
    #[serde(skip_serializing_if = "zero")]
    pub keepalive_time: Option<GoDuration>,
    /// How often the own AS may appear in a received path.
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "zero")]
    pub num_allowed_local_as_numbers: Option<i32>,
    /// Hops that a peer may be away (RFC 5082).
    #[serde(skip_serializing_if = "zero")]
    pub ttl_security: Option<u8>,
    /// Gateway by which the peer is reached.
    #[serde(skip_serializing_if = "zero")]
    pub reachable_by: String,
    /// Names of BGP filters, in order.
    #[serde(skip_serializing_if = "zero")]
    pub filters: Vec<String>,
    /// Local workloads that are the peers.
    #[serde(skip_serializing_if = "zero")]
    pub local_workload_selector: String,
    /// Whether selected peers peer back.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub reverse_peering: Option<ReversePeering>,
}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::bgp_peer(object, errors);
    }
}
