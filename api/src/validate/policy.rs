//! Policies, profiles and tiers.

use std::collections::BTreeSet;

use super::rule::{Side, rules};
use super::{Checks, FieldError, texts};
use crate::v3::policy::{GlobalNetworkPolicy, NetworkPolicy, PolicyType};
use crate::v3::profile::Profile;
use crate::v3::tier::{INITIAL_TIERS, Tier, TierDefaultAction};

const PERFORMANCE_HINTS: [&str; 1] = ["AssumeNeededOnEveryNode"];

pub(crate) fn network_policy(policy: &NetworkPolicy, errors: &mut Vec<FieldError>) {
    let spec = &policy.spec;
    let mut checks = Checks::new(errors, "spec");
    common(&mut checks, &spec.tier, &spec.types, &spec.performance_hints);
    checks.selector("selector", &spec.selector);
    checks.selector("serviceAccountSelector", &spec.service_account_selector);
    rules(&mut checks, "ingress", &spec.ingress, Side::Ingress, true);
    rules(&mut checks, "egress", &spec.egress, Side::Egress, true);
}

pub(crate) fn global_network_policy(policy: &GlobalNetworkPolicy, errors: &mut Vec<FieldError>) {
    let spec = &policy.spec;
    let mut checks = Checks::new(errors, "spec");
    common(&mut checks, &spec.tier, &spec.types, &spec.performance_hints);
    checks.selector("selector", &spec.selector);
    checks.selector("serviceAccountSelector", &spec.service_account_selector);
    checks.selector("namespaceSelector", &spec.namespace_selector);
    rules(&mut checks, "ingress", &spec.ingress, Side::Ingress, false);
    rules(&mut checks, "egress", &spec.egress, Side::Egress, false);
    checks.require(
        !(spec.do_not_track && spec.pre_dnat),
        "preDNAT",
        true,
        "PreDNAT and DoNotTrack cannot both be true, for a given policy",
    );
    checks.require(
        spec.apply_on_forward || !(spec.do_not_track || spec.pre_dnat),
        "applyOnForward",
        false,
        "ApplyOnForward must be true if either PreDNAT or DoNotTrack is true, for a given policy",
    );
    if spec.pre_dnat {
        checks.require(
            spec.egress.is_empty(),
            "egress",
            format!("{} rules", spec.egress.len()),
            "PreDNAT policy cannot have any egress rules",
        );
        checks.require(
            !spec.types.contains(&PolicyType::Egress),
            "types",
            PolicyType::Egress,
            "PreDNAT policy cannot have 'Egress' type",
        );
    }
}

fn common(checks: &mut Checks<'_>, tier: &str, types: &[PolicyType], hints: &[String]) {
    checks.optional("tier", tier, |tier| {
        if texts::is_dns_label(tier) {
            Ok(())
        } else {
            Err("must be the name of a tier".to_owned())
        }
    });
    let mut seen = BTreeSet::new();
    for (i, policy_type) in types.iter().enumerate() {
        checks.require(
            seen.insert(policy_type),
            &format!("types[{i}]"),
            policy_type,
            "the value is listed twice: remove one",
        );
    }
    checks.set("performanceHints", hints, |hint| {
        if PERFORMANCE_HINTS.contains(&hint) {
            Ok(())
        } else {
            Err("must be AssumeNeededOnEveryNode".to_owned())
        }
    });
}

pub(crate) fn profile(profile: &Profile, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    rules(
        &mut checks,
        "ingress",
        &profile.spec.ingress,
        Side::Ingress,
        false,
    );
    rules(&mut checks, "egress", &profile.spec.egress, Side::Egress, false);
    for (key, value) in &profile.spec.labels_to_apply {
        checks.text("labelsToApply", key, texts::label_key);
        checks.text(&format!("labelsToApply.{key}"), value, texts::label_value);
    }
}

pub(crate) fn tier(tier: &Tier, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let fixed = INITIAL_TIERS
        .iter()
        .find(|(name, ..)| *name == tier.metadata.name);
    let Some((name, order, action)) = fixed else {
        return;
    };
    if let Some(given) = tier.spec.order {
        checks.require(
            given == *order,
            "order",
            given,
            &format!("{name} tier order must be {order}: leave it out"),
        );
    }
    let given = tier.spec.default_action.unwrap_or(TierDefaultAction::Deny);
    checks.require(
        given == *action,
        "defaultAction",
        given,
        &format!("{name} tier default action must be {action}"),
    );
}
