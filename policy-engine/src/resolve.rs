//! From the ordered policies of an endpoint to the clauses of a program, one direction and family.

use std::sync::Arc;

use api::selector::Selector;
use api::v3::rule::Action as ApiAction;
use ipnet::IpNet;

use crate::clause::{Clause, NamedPort, SelectorId, Side};
use crate::output::{Action, Direction, Family, Rule, RuleId};
use crate::policies::{PolicyKey, PolicyTable};
use crate::rules::{ParsedPorts, ParsedRule, ParsedSide};

/// What a program is made of. Endpoints with equal specs share a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProgramSpec {
    pub(crate) direction: Direction,
    pub(crate) family: Family,
    /// In order; each has at least one policy.
    pub(crate) tiers: Vec<TierSpec>,
    pub(crate) profiles: Vec<String>,
}

/// The policies of one tier that apply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TierSpec {
    pub(crate) name: String,
    /// Its default action is Pass.
    pub(crate) passes: bool,
    /// In order.
    pub(crate) policies: Vec<PolicyKey>,
}

impl ProgramSpec {
    /// No policy and no profile: a single deny.
    pub(crate) fn deny_all(direction: Direction, family: Family) -> Self {
        Self {
            direction,
            family,
            tiers: Vec::new(),
            profiles: Vec::new(),
        }
    }

    /// All policies that it names.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.tiers.iter().flat_map(|tier| &tier.policies)
    }
}

/// The clauses of a program, or `None` if a policy that it names is not there any more.
pub(crate) fn resolve(
    spec: &ProgramSpec,
    policies: &PolicyTable,
    intern: &mut dyn FnMut(&Arc<Selector>) -> SelectorId,
) -> Option<Vec<Clause>> {
    let v4 = spec.family == Family::V4;
    let mut clauses: Vec<Clause> = Vec::new();
    for tier in &spec.tiers {
        let start = clauses.len();
        for key in &tier.policies {
            let policy = policies.policy(key)?;
            for rule in policy.rules(spec.direction)? {
                let id = RuleId::Policy {
                    tier: tier.name.clone(),
                    kind: key.kind.name().to_owned(),
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                    index: rule.index,
                };
                expand(rule, action(rule.action), &id, spec.family, intern, &mut clauses);
            }
        }
        let end = if tier.passes { PASS } else { Action::Deny };
        clauses.push(Clause::unconditional(
            Rule {
                action: end,
                id: RuleId::EndOfTier {
                    tier: tier.name.clone(),
                },
            },
            v4,
        ));
        // Beyond u16 the program is refused for its length.
        let next = u16::try_from(clauses.len()).unwrap_or(u16::MAX);
        let mut passed = false;
        for clause in clauses.iter_mut().skip(start) {
            if let Action::Pass { next: target } = &mut clause.rule.action {
                *target = next;
                passed = true;
            }
        }
        if !passed {
            return Some(clauses);
        }
    }
    for name in &spec.profiles {
        // A profile that is not there denies all.
        let Some(profile) = policies.profile(name) else {
            break;
        };
        for rule in profile.rules(spec.direction) {
            let id = RuleId::Profile {
                name: name.clone(),
                index: rule.index,
            };
            let action = match rule.action {
                ApiAction::Pass => Action::Deny,
                other => action(other),
            };
            expand(rule, action, &id, spec.family, intern, &mut clauses);
        }
    }
    clauses.push(Clause::unconditional(
        Rule {
            action: Action::Deny,
            id: RuleId::EndOfProfiles,
        },
        v4,
    ));
    Some(clauses)
}

/// A pass whose target is not known yet.
const PASS: Action = Action::Pass { next: 0 };

fn action(action: ApiAction) -> Action {
    match action {
        ApiAction::Allow => Action::Allow,
        ApiAction::Deny => Action::Deny,
        ApiAction::Log => Action::Log,
        ApiAction::Pass => PASS,
    }
}

/// The clauses of a rule: none if it cannot hold in this family; more than one where it names ports both by
/// number and by name.
fn expand(
    rule: &ParsedRule,
    action: Action,
    id: &RuleId,
    family: Family,
    intern: &mut dyn FnMut(&Arc<Selector>) -> SelectorId,
    clauses: &mut Vec<Clause>,
) {
    if rule.family.is_some_and(|f| f != family) {
        return;
    }
    let Some(source) = sides(&rule.source, rule.protocol, family, intern) else {
        return;
    };
    let Some(destination) = sides(&rule.destination, rule.protocol, family, intern) else {
        return;
    };
    for source in &source {
        for destination in &destination {
            clauses.push(Clause {
                rule: Rule {
                    action,
                    id: id.clone(),
                },
                v4: family == Family::V4,
                protocol: rule.protocol,
                not_protocol: rule.not_protocol,
                icmp: rule.icmp,
                not_icmp: rule.not_icmp,
                source: source.clone(),
                destination: destination.clone(),
            });
        }
    }
}

/// One side, once for ports by number and once for ports by name; `None` if nothing of this family is left.
fn sides(
    side: &ParsedSide,
    protocol: Option<u8>,
    family: Family,
    intern: &mut dyn FnMut(&Arc<Selector>) -> SelectorId,
) -> Option<Vec<Side>> {
    let nets = of_family(&side.nets, family)?;
    let not_nets = of_family(&side.not_nets, family)?;
    if not_nets.iter().any(|net| net.prefix_len() == 0) {
        return None;
    }
    let selector = side.selector.as_ref().map(&mut *intern);
    let names = |ports: &ParsedPorts| -> Vec<NamedPort> {
        ports
            .names
            .iter()
            .map(|name| NamedPort {
                selector,
                protocol,
                name: name.clone(),
            })
            .collect()
    };
    let base = Side {
        selector,
        not_selector: side.not_selector.as_ref().map(&mut *intern),
        nets: (!side.nets.is_empty()).then_some(nets),
        not_nets,
        ports: None,
        not_ports: side.not_ports.numbers.clone(),
        named: None,
        not_named: names(&side.not_ports),
    };
    let by_number = Side {
        ports: Some(side.ports.numbers.clone()),
        ..base.clone()
    };
    let by_name = Side {
        named: Some(names(&side.ports)),
        ..base.clone()
    };
    Some(
        match (side.ports.numbers.is_empty(), side.ports.names.is_empty()) {
            (true, true) => vec![base],
            (false, true) => vec![by_number],
            (true, false) => vec![by_name],
            (false, false) => vec![by_number, by_name],
        },
    )
}

/// The nets of a family; `None` if there were some and none is left.
fn of_family(nets: &[IpNet], family: Family) -> Option<Vec<IpNet>> {
    let left: Vec<IpNet> = nets
        .iter()
        .filter(|net| matches!(net, IpNet::V4(_)) == (family == Family::V4))
        .copied()
        .collect();
    (nets.is_empty() || !left.is_empty()).then_some(left)
}
