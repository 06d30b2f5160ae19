//! The export policy of every session: what may leave a node.

use bgpd::policy::{Policy, Rule, RuleAction, Verdict};
use ipnet::IpNet;

use super::Resources;

/// The pools with a CIDR that parses, and whether their prefixes may be announced.
pub(super) fn pools(resources: &Resources) -> impl Iterator<Item = (IpNet, bool)> {
    resources.pools.values().filter_map(|pool| {
        Some((
            pool.spec.cidr.parse::<IpNet>().ok()?.trunc(),
            !pool.spec.disable_bgp_export,
        ))
    })
}

/// In order: nothing from pools that are not exported; own blocks as aggregates and nothing inside them; whatever
/// else lies in a pool; nothing else (node subnets and default routes never leave a node).
pub(super) fn policy(resources: &Resources, problems: &mut Vec<String>) -> Policy {
    for (name, pool) in &resources.pools {
        if let Err(error) = pool.spec.cidr.parse::<IpNet>() {
            problems.push(format!(
                "IPPool({name}) spec.cidr = '{}': {error}: not announced",
                pool.spec.cidr
            ));
        }
    }
    let mut rules: Vec<Rule> = pools(resources)
        .filter(|(_, exported)| !exported)
        .map(|(cidr, _)| Rule::inside(cidr, RuleAction::Reject))
        .collect();
    for block in &resources.blocks {
        rules.push(Rule::exact(*block, RuleAction::Accept));
        rules.push(Rule::inside(*block, RuleAction::Reject));
    }
    rules.extend(
        pools(resources)
            .filter(|(_, exported)| *exported)
            .map(|(cidr, _)| Rule::inside(cidr, RuleAction::Accept)),
    );
    Policy::rules(rules, Verdict::Reject)
}
