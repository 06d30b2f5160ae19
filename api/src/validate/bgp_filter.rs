//! BGP filters.

use ipnet::IpNet;

use super::bgp::ROUTE_PRIORITY_MAX;
use super::{Checks, FieldError, texts};
use crate::v3::bgp_filter::{BgpFilter, FilterAction, FilterOperation, FilterRule};

/// The most changes of one rule.
const OPERATIONS_MAX: usize = 10;
/// The most ASes that one change puts in front.
const PREPEND_MAX: usize = 10;
const ROUTE_PRIORITY_REASON: &str = "must be 1..2147483646";

pub(crate) fn bgp_filter(filter: &BgpFilter, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &filter.spec;
    for (field, rules, bits) in [
        ("exportV4", &spec.export_v4, 32),
        ("importV4", &spec.import_v4, 32),
        ("exportV6", &spec.export_v6, 128),
        ("importV6", &spec.import_v6, 128),
    ] {
        for (i, rule) in rules.iter().enumerate() {
            self::rule(&mut checks.below(&format!("{field}[{i}]")), rule, bits);
        }
    }
}

/// A rule of the family whose addresses have so many `bits`.
fn rule(checks: &mut Checks<'_>, rule: &FilterRule, bits: i32) {
    checks.optional("cidr", &rule.cidr, |text| {
        texts::masked_cidr(text)?;
        let v4 = matches!(text.parse(), Ok(IpNet::V4(_)));
        match (v4, bits) {
            (true, 32) | (false, 128) => Ok(()),
            (_, 32) => Err("must be an IPv4 CIDR".to_owned()),
            _ => Err("must be an IPv6 CIDR".to_owned()),
        }
    });
    match (rule.cidr.is_empty(), rule.match_operator) {
        (true, Some(operator)) => {
            checks.error(
                "matchOperator",
                operator,
                "cidr and matchOperator must both be set or both be empty",
            );
        }
        (false, None) => checks.error(
            "cidr",
            &rule.cidr,
            "cidr and matchOperator must both be set or both be empty",
        ),
        _ => {}
    }
    if let Some(lengths) = &rule.prefix_length {
        if rule.cidr.is_empty() {
            checks.missing("prefixLength", "cidr is required when prefixLength is set");
        }
        for (field, length) in [
            ("prefixLength.min", lengths.min),
            ("prefixLength.max", lengths.max),
        ] {
            if let Some(length) = length.filter(|length| !(0..=bits).contains(length)) {
                checks.error(field, length, format!("must be 0..{bits}"));
            }
        }
    }
    checks.optional("interface", &rule.interface, interface_pattern);
    if let Some(communities) = &rule.communities {
        match communities.values.as_slice() {
            [value] => checks.text("communities.values[0]", value, community),
            values => checks.error(
                "communities.values",
                format!("{} entries", values.len()),
                "must be exactly one community",
            ),
        }
    }
    if let Some(priority) = rule.priority {
        route_priority(checks, "priority", priority);
    }
    if rule.action.is_none() {
        checks.missing("action", "is required: Accept or Reject");
    }
    if !rule.operations.is_empty() && rule.action != Some(FilterAction::Accept) {
        checks.missing("operations", "operations may only be used with action Accept");
    }
    checks.count("operations", rule.operations.len(), OPERATIONS_MAX);
    for (i, operation) in rule.operations.iter().enumerate() {
        self::operation(&mut checks.below(&format!("operations[{i}]")), operation);
    }
}

fn operation(checks: &mut Checks<'_>, operation: &FilterOperation) {
    let FilterOperation {
        add_community,
        prepend_as_path,
        set_priority,
    } = operation;
    let set = [
        add_community.is_some(),
        prepend_as_path.is_some(),
        set_priority.is_some(),
    ];
    if set.iter().filter(|set| **set).count() != 1 {
        checks.missing("", "exactly one operation must be set");
    }
    if let Some(add) = add_community {
        checks.text("addCommunity.value", &add.value, community);
    }
    if let Some(prepend) = prepend_as_path {
        let count = prepend.prefix.len();
        checks.require(
            (1..=PREPEND_MAX).contains(&count),
            "prependASPath.prefix",
            format!("{count} entries"),
            "must be 1..10 AS numbers",
        );
    }
    if let Some(set) = set_priority {
        route_priority(checks, "setPriority.value", set.value);
    }
}

fn route_priority(checks: &mut Checks<'_>, field: &str, priority: i64) {
    checks.require(
        (1..=ROUTE_PRIORITY_MAX).contains(&priority),
        field,
        priority,
        ROUTE_PRIORITY_REASON,
    );
}

fn community(text: &str) -> super::Refusal {
    if texts::is_community(text) {
        Ok(())
    } else {
        Err("must be aa:nn with parts of 16 bits or aa:nn:mm with parts of 32 bits".to_owned())
    }
}

fn interface_pattern(text: &str) -> super::Refusal {
    let ok = (1..=15).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.*-".contains(&b));
    if ok {
        Ok(())
    } else {
        Err("must be an interface name of at most 15 characters, in which * stands for any text".to_owned())
    }
}
