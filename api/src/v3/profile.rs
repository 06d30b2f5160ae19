//! `Profile`: rules and labels that endpoints take on by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::zero;
use crate::kinds::Kind;
use crate::object::{NoStatus, Object, Spec};
use crate::validate::FieldError;

use super::rule::{Action, Rule};

/// Name of the static profile, which is never stored.
pub const DEFAULT_ALLOW_PROFILE: &str = "projectcalico-default-allow";

/// A profile.
pub type Profile = Object<ProfileSpec>;

/// Spec of [`Profile`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProfileSpec {
    /// Rules for packets towards the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    #[serde(skip_serializing_if = "zero")]
    pub egress: Vec<Rule>,
    /// Labels that endpoints with this profile inherit.
    #[serde(skip_serializing_if = "zero")]
    pub labels_to_apply: BTreeMap<String, String>,
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
    type Status = NoStatus;

    fn validate(object: &Object<Self>, errors: &mut Vec<FieldError>) {
        crate::validate::profile(object, errors);
    }
}

/// The static profile `projectcalico-default-allow`, with revision 1: get and list return it, nothing stores it.
#[must_use]
pub fn default_allow_profile() -> Profile {
    let allow = || vec![Rule::matching_all(Action::Allow)];
    let mut profile = Profile::default();
    profile.metadata.name = DEFAULT_ALLOW_PROFILE.to_owned();
    profile.metadata.resource_version = "1".to_owned();
    profile.spec.ingress = allow();
    profile.spec.egress = allow();
    profile
}
