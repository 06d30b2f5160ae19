//! `BGPFilter`: which routes a BGP peer is told, and which are taken from it.

use serde::{Deserialize, Serialize};

use crate::json::{empty_is_none, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::scalar::AsNumber;
use crate::validate::FieldError;

string_enum! {
    /// How a route's prefix is compared with the rule's.
    pub enum MatchOperator {
        /// The same prefix.
        Equal = "Equal",
        /// Any other prefix.
        NotEqual = "NotEqual",
        /// The prefix or one inside it.
        In = "In",
        /// Any prefix that is not inside it.
        NotIn = "NotIn",
    }
}

string_enum! {
    /// Where a route was learned.
    pub enum FilterSource {
        /// From a BGP peer.
        RemotePeers = "RemotePeers",
    }
}

string_enum! {
    /// Sessions that a rule is about.
    pub enum FilterPeerType {
        /// Those with peers in another AS.
        Ebgp = "eBGP",
        /// Those with peers in the same AS.
        Ibgp = "iBGP",
    }
}

string_enum! {
    /// What becomes of a route that a rule matches.
    pub enum FilterAction {
        /// It passes; no further rule is looked at.
        Accept = "Accept",
        /// It does not pass; no further rule is looked at.
        Reject = "Reject",
    }
}

/// A BGP filter.
pub type BgpFilter = Object<BgpFilterSpec>;

/// Spec of [`BgpFilter`]: ordered rules for each direction and family.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BgpFilterSpec {
    /// For IPv4 routes that go out.
    #[serde(rename = "exportV4", skip_serializing_if = "zero")]
    pub export_v4: Vec<FilterRule>,
    /// For IPv4 routes that come in.
    #[serde(rename = "importV4", skip_serializing_if = "zero")]
    pub import_v4: Vec<FilterRule>,
    /// For IPv6 routes that go out.
    #[serde(rename = "exportV6", skip_serializing_if = "zero")]
    pub export_v6: Vec<FilterRule>,
    /// For IPv6 routes that come in.
    #[serde(rename = "importV6", skip_serializing_if = "zero")]
    pub import_v6: Vec<FilterRule>,
}

/// One rule. All fields that are set must match; a rule without any matches every route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterRule {
    /// A prefix without host bits; goes with `match_operator`.
    #[serde(skip_serializing_if = "zero")]
    pub cidr: String,
    /// Lengths of the prefixes inside `cidr` that count.
    #[serde(skip_serializing_if = "zero")]
    pub prefix_length: Option<PrefixLengths>,
    /// Where the route was learned.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub source: Option<FilterSource>,
    /// Name of the route's outgoing interface; `*` stands for any text.
    #[serde(skip_serializing_if = "zero")]
    pub interface: String,
    /// How the prefix is compared with `cidr`.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Sessions that the rule is about.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub peer_type: Option<FilterPeerType>,
    /// Communities that the route has.
    #[serde(skip_serializing_if = "zero")]
    pub communities: Option<CommunityMatch>,
    /// What AS_PATH begins with.
    #[serde(skip_serializing_if = "zero")]
    pub as_path_prefix: Vec<AsNumber>,
    /// The route's priority, 1..2147483646: LOCAL_PREF is 2147483647 less it.
    #[serde(skip_serializing_if = "zero")]
    pub priority: Option<i64>,
    /// What becomes of the route; must be there.
    #[serde(deserialize_with = "empty_is_none")]
    pub action: Option<FilterAction>,
    /// Changes to a route that is accepted, in order.
    #[serde(skip_serializing_if = "zero")]
    pub operations: Vec<FilterOperation>,
}

/// A range of prefix lengths, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLengths {
    /// The shortest; the length of the rule's prefix when unset.
    #[serde(skip_serializing_if = "zero")]
    pub min: Option<i32>,
    /// The longest; the length of an address when unset.
    #[serde(skip_serializing_if = "zero")]
    pub max: Option<i32>,
}

/// Communities of a route.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunityMatch {
    /// `aa:nn` or `aa:nn:mm`; exactly one.
    pub values: Vec<String>,
}

/// One change; exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilterOperation {
    /// Adds a community.
    #[serde(skip_serializing_if = "zero")]
    pub add_community: Option<AddCommunity>,
    /// Puts ASes in front of AS_PATH.
    #[serde(rename = "prependASPath", skip_serializing_if = "zero")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the priority.
    #[serde(skip_serializing_if = "zero")]
    pub set_priority: Option<SetPriority>,
}

/// Adds a community.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AddCommunity {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: String,
}

/// Puts ASes in front of AS_PATH.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrependAsPath {
    /// What the path begins with afterwards, in this order; 1..10 of them.
    pub prefix: Vec<AsNumber>,
}

/// Sets the priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPriority {
    /// 1..2147483646: LOCAL_PREF becomes 2147483647 less it.
    pub value: i64,
}

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::bgp_filter(object, errors);
    }
}
