//! `Tier`: a group of policies, in order, with an end.

use serde::{Deserialize, Serialize};

use super::ip_pool::Condition;
use crate::defaults;
use crate::json::{empty_is_none, float, string_enum, zero};
use crate::kinds::Kind;
use crate::object::{Object, Spec, Status};
use crate::validate::FieldError;

/// Order of the default tier, and of tiers that give none.
pub const DEFAULT_TIER_ORDER: f64 = 1_000_000.0;

string_enum! {
    /// What happens to a packet that policies of the tier selected and no rule decided.
    pub enum TierDefaultAction {
        /// Dropped.
        Deny = "Deny",
        /// On to the next tier.
        Pass = "Pass",
    }
}

/// A tier.
pub type Tier = Object<TierSpec>;

/// Spec of [`Tier`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TierSpec {
    /// Lower comes first; ties by name.
    #[serde(skip_serializing_if = "zero", serialize_with = "float")]
    pub order: Option<f64>,
    /// Deny when unset.
    #[serde(skip_serializing_if = "zero", deserialize_with = "empty_is_none")]
    pub default_action: Option<TierDefaultAction>,
}

/// Status of [`Tier`]; always written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TierStatus {
    /// `Ready` on Kubernetes.
    #[serde(skip_serializing_if = "zero")]
    pub conditions: Vec<Condition>,
}

impl Status for TierStatus {
    fn omitted(&self) -> bool {
        false
    }
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
    type Status = TierStatus;

    fn default_on_write(object: &mut Object<Self>) {
        defaults::tier(object);
    }

    fn default_on_read(object: &mut Object<Self>) {
        defaults::tier(object);
    }

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::tier(object, errors);
    }
}

/// The tiers that initialisation creates: `default`, `kube-admin` and `kube-baseline`.
#[must_use]
pub fn initial_tiers() -> Vec<Tier> {
    INITIAL_TIERS
        .iter()
        .map(|(name, order, action)| {
            let mut tier = Tier::default();
            tier.metadata.name = (*name).to_owned();
            tier.spec = TierSpec {
                order: Some(*order),
                default_action: Some(*action),
            };
            tier
        })
        .collect()
}

/// Name, order and default action of the tiers that are always there and cannot be changed or deleted.
pub(crate) const INITIAL_TIERS: [(&str, f64, TierDefaultAction); 3] = [
    ("default", DEFAULT_TIER_ORDER, TierDefaultAction::Deny),
    ("kube-admin", 1_000.0, TierDefaultAction::Pass),
    ("kube-baseline", 10_000_000.0, TierDefaultAction::Pass),
];
