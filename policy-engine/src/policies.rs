//! Tiers, policies and profiles, and their order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Kind;
use api::selector::Selector;
use rustc_hash::FxHashMap;

use crate::output::{Direction, Family};
use crate::resolve::{ProgramSpec, TierSpec};
use crate::rules::ParsedRule;

/// Names a policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PolicyKey {
    pub(crate) kind: Kind,
    /// Empty for global kinds.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A policy that applies to workloads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    pub(crate) tier: String,
    pub(crate) order: Option<f64>,
    pub(crate) selector: Arc<Selector>,
    /// `None`: does not govern the direction.
    pub(crate) ingress: Option<Vec<ParsedRule>>,
    pub(crate) egress: Option<Vec<ParsedRule>>,
}

impl Policy {
    /// The rules of a direction, if it governs that.
    pub(crate) fn rules(&self, direction: Direction) -> Option<&[ParsedRule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// The rules of a profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ProfileRules {
    pub(crate) ingress: Vec<ParsedRule>,
    pub(crate) egress: Vec<ParsedRule>,
}

impl ProfileRules {
    /// The rules of a direction.
    pub(crate) fn rules(&self, direction: Direction) -> &[ParsedRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TierOrder {
    pub(crate) order: Option<f64>,
    pub(crate) passes: bool,
}

/// All policies, tiers and profiles.
#[derive(Debug, Default)]
pub(crate) struct PolicyTable {
    policies: BTreeMap<PolicyKey, Policy>,
    tiers: BTreeMap<String, TierOrder>,
    profiles: BTreeMap<String, ProfileRules>,
    changed_policies: BTreeSet<PolicyKey>,
    changed_profiles: BTreeSet<String>,
    reordered: bool,
}

/// What changed since the last time it was asked.
#[derive(Debug, Default)]
pub(crate) struct PolicyChanges {
    pub(crate) policies: BTreeSet<PolicyKey>,
    pub(crate) profiles: BTreeSet<String>,
    /// A tier changed, or what decides the order or the scope of a policy.
    pub(crate) reordered: bool,
}

impl PolicyTable {
    pub(crate) fn set_policy(&mut self, key: PolicyKey, policy: Option<Policy>) {
        let before = match policy.clone() {
            Some(policy) => self.policies.insert(key.clone(), policy),
            None => self.policies.remove(&key),
        };
        if before == policy {
            return;
        }
        let place = |p: &Policy| (p.tier.clone(), p.order, p.ingress.is_some(), p.egress.is_some());
        self.reordered |= before.as_ref().map(place) != policy.as_ref().map(place);
        self.changed_policies.insert(key);
    }

    pub(crate) fn set_tier(&mut self, name: &str, tier: Option<TierOrder>) {
        let before = match tier {
            Some(tier) => self.tiers.insert(name.to_owned(), tier),
            None => self.tiers.remove(name),
        };
        self.reordered |= before != tier;
    }

    pub(crate) fn set_profile(&mut self, name: &str, rules: Option<ProfileRules>) {
        let before = match rules.clone() {
            Some(rules) => self.profiles.insert(name.to_owned(), rules),
            None => self.profiles.remove(name),
        };
        if before != rules {
            self.changed_profiles.insert(name.to_owned());
        }
    }

    pub(crate) fn policy(&self, key: &PolicyKey) -> Option<&Policy> {
        self.policies.get(key)
    }

    pub(crate) fn policies(&self) -> impl Iterator<Item = (&PolicyKey, &Policy)> {
        self.policies.iter()
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&ProfileRules> {
        self.profiles.get(name)
    }

    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.policies.len(), self.tiers.len(), self.profiles.len())
    }

    pub(crate) fn take_changes(&mut self) -> PolicyChanges {
        PolicyChanges {
            policies: std::mem::take(&mut self.changed_policies),
            profiles: std::mem::take(&mut self.changed_profiles),
            reordered: std::mem::take(&mut self.reordered),
        }
    }

    /// What an endpoint enforces that these policies select.
    pub(crate) fn spec(
        &self,
        selected: &BTreeSet<PolicyKey>,
        profiles: &[String],
        direction: Direction,
        family: Family,
    ) -> ProgramSpec {
        let mut by_tier: FxHashMap<&str, Vec<(&PolicyKey, &Policy)>> = FxHashMap::default();
        for (key, policy) in selected.iter().filter_map(|key| self.policies.get_key_value(key)) {
            if policy.rules(direction).is_some() {
                by_tier.entry(&policy.tier).or_default().push((key, policy));
            }
        }
        let mut tiers: Vec<(&str, Option<TierOrder>)> = by_tier
            .keys()
            .map(|name| (*name, self.tiers.get(*name).copied()))
            .collect();
        tiers.sort_by(|(a_name, a), (b_name, b)| {
            b.is_some()
                .cmp(&a.is_some())
                .then_with(|| compare(a.and_then(|t| t.order), b.and_then(|t| t.order)))
                .then_with(|| a_name.cmp(b_name))
        });
        let tiers = tiers.into_iter().map(|(name, tier)| {
            let mut policies = by_tier.remove(name).unwrap_or_default();
            policies.sort_by(|(a_key, a), (b_key, b)| {
                compare(a.order, b.order).then_with(|| tie(a_key).cmp(&tie(b_key)))
            });
            TierSpec {
                name: name.to_owned(),
                passes: tier.is_some_and(|tier| tier.passes),
                policies: policies.into_iter().map(|(key, _)| key.clone()).collect(),
            }
        });
        ProgramSpec {
            direction,
            family,
            tiers: tiers.collect(),
            profiles: profiles.to_vec(),
        }
    }
}

/// Smaller first, unset last.
fn compare(a: Option<f64>, b: Option<f64>) -> Ordering {
    // Adding 0 makes -0 and 0 equal.
    (a.unwrap_or(f64::INFINITY) + 0.0).total_cmp(&(b.unwrap_or(f64::INFINITY) + 0.0))
}

fn tie(key: &PolicyKey) -> String {
    format!("{}/{}/{}", key.name, key.namespace, key.kind)
}
