//! Asking a policy.

use std::fmt;

use super::{Match, Policy, Route, Rule, RuleAction, RuleSet, Verdict};
use crate::wire::{Attributes, Prefix};

/// The outcome for one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does not pass.
    Reject,
    /// It passes as it is.
    Unchanged,
    /// It passes with these attributes.
    Changed(Box<Attributes>),
}

/// What in a policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// The policy is the same for all routes.
    Policy,
    /// A rule.
    Rule {
        /// Its position, from 1.
        position: usize,
        /// Its name.
        name: Option<String>,
    },
    /// No rule: the default.
    Default,
    /// The neighbour is told a default route of ours whatever there is (`default-originate`).
    DefaultOriginate,
}

impl fmt::Display for DecidedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("by the policy for all routes"),
            Self::Rule {
                position,
                name: Some(name),
            } => write!(f, "by rule {position} {name:?}"),
            Self::Rule { position, name: None } => write!(f, "by rule {position}"),
            Self::Default => f.write_str("by default"),
            Self::DefaultOriginate => f.write_str("because of default-originate"),
        }
    }
}

/// Why a route passes or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The outcome.
    pub verdict: Verdict,
    /// What decided.
    pub by: DecidedBy,
    /// Rules that matched before and had the others go on.
    pub continued: Vec<DecidedBy>,
    /// Whether the route is changed.
    pub changed: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Accept => "accepted",
            Verdict::Reject => "rejected",
        };
        write!(f, "{verdict} {}", self.by)?;
        for (at, rule) in self.continued.iter().enumerate() {
            write!(f, "{} {rule}", if at == 0 { ", changed before" } else { "," })?;
        }
        Ok(())
    }
}

impl Policy {
    /// Judges a route.
    pub fn decide(&self, prefix: &Prefix, route: &Route<'_>) -> Decision {
        match self {
            Self::Accept => Decision::Unchanged,
            Self::Reject => Decision::Reject,
            Self::Rules(set) => match set.index() {
                None => {
                    let matching = |matches: &Match| Some(matches.matches_prefix(prefix));
                    walk(set.rules().iter(), set, route, matching, |_| {}).unwrap_or(Decision::Reject)
                }
                Some(index) => {
                    let candidates = index.candidates(prefix);
                    let rules = candidates.iter().filter_map(|at| set.rules().get(*at as usize));
                    let matching = |matches: &Match| Some(matches.matches_prefix(prefix));
                    walk(rules, set, route, matching, |_| {}).unwrap_or(Decision::Reject)
                }
            },
        }
    }

    /// Judges a route for all prefixes at once; nothing if that depends on the prefix.
    pub fn judge(&self, route: &Route<'_>) -> Option<Decision> {
        match self {
            Self::Accept => Some(Decision::Unchanged),
            Self::Reject => Some(Decision::Reject),
            Self::Rules(set) => {
                let matching = |matches: &Match| (!matches.looks_at_prefix()).then_some(true);
                walk(set.rules().iter(), set, route, matching, |_| {})
            }
        }
    }

    /// Why [`Policy::decide`] says what it does.
    pub fn explain(&self, prefix: &Prefix, route: &Route<'_>) -> Explanation {
        let set = match self {
            Self::Accept | Self::Reject => {
                return Explanation {
                    verdict: match self {
                        Self::Accept => Verdict::Accept,
                        _ => Verdict::Reject,
                    },
                    by: DecidedBy::Policy,
                    continued: Vec::new(),
                    changed: false,
                };
            }
            Self::Rules(set) => set,
        };
        let mut met: Vec<&Rule> = Vec::new();
        let matching = |matches: &Match| Some(matches.matches_prefix(prefix));
        let decision = walk(set.rules().iter(), set, route, matching, |rule| met.push(rule));
        let name = |rule: &Rule| {
            let position = set.rules().iter().position(|other| std::ptr::eq(other, rule));
            DecidedBy::Rule {
                position: position.unwrap_or_default() + 1,
                name: rule.name.clone(),
            }
        };
        let by = match met.last() {
            Some(rule) if rule.action != RuleAction::Continue => name(rule),
            _ => DecidedBy::Default,
        };
        let continued = met.iter().filter(|rule| rule.action == RuleAction::Continue);
        Explanation {
            verdict: match decision {
                Some(Decision::Unchanged | Decision::Changed(_)) => Verdict::Accept,
                Some(Decision::Reject) | None => Verdict::Reject,
            },
            by,
            continued: continued.map(|rule| name(rule)).collect(),
            changed: matches!(decision, Some(Decision::Changed(_))),
        }
    }
}

/// Asks rule by rule. `prefix_matches` says whether a rule's conditions on the prefix hold; nothing for "it depends",
/// which ends the walk if the rule's other conditions hold. `met` is told of each rule that matches.
fn walk<'r>(
    rules: impl Iterator<Item = &'r Rule>,
    set: &RuleSet,
    route: &Route<'_>,
    prefix_matches: impl Fn(&Match) -> Option<bool>,
    mut met: impl FnMut(&'r Rule),
) -> Option<Decision> {
    let mut changed: Option<Box<Attributes>> = None;
    let mut verdict = set.default_verdict();
    for rule in rules {
        let on_prefix = prefix_matches(&rule.matches);
        let current = changed.as_deref().unwrap_or(route.attributes);
        if on_prefix == Some(false) || !rule.matches.matches_route(route, current) {
            continue;
        }
        on_prefix?;
        met(rule);
        if rule.action != RuleAction::Reject && !rule.changes.is_empty() {
            let attributes = changed.get_or_insert_with(|| Box::new(route.attributes.clone()));
            rule.changes.apply(route, attributes);
        }
        match rule.action {
            RuleAction::Continue => continue,
            RuleAction::Accept => verdict = Verdict::Accept,
            RuleAction::Reject => verdict = Verdict::Reject,
        }
        break;
    }
    Some(match (verdict, changed) {
        (Verdict::Reject, _) => Decision::Reject,
        (Verdict::Accept, None) => Decision::Unchanged,
        (Verdict::Accept, Some(attributes)) => Decision::Changed(attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Changes, Number};
    use crate::wire::{Community, Family, NextHop};

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn attributes() -> Attributes {
        Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast))
    }

    /// The export policy of a host: its block as an aggregate, nothing inside it, the pool else.
    fn host_export() -> Policy {
        let rules = [
            Rule::exact(prefix("10.1.0.0/26"), RuleAction::Accept).named("own block"),
            Rule::inside(prefix("10.1.0.0/26"), RuleAction::Reject),
            Rule::inside(prefix("10.1.0.0/16"), RuleAction::Accept),
        ];
        Policy::rules(rules, Verdict::Reject)
    }

    #[test]
    fn the_first_matching_rule_decides_and_is_named() {
        let cases = [
            (
                "10.1.0.0/26",
                Decision::Unchanged,
                "accepted by rule 1 \"own block\"",
            ),
            ("10.1.0.5/32", Decision::Reject, "rejected by rule 2"),
            ("10.1.7.5/32", Decision::Unchanged, "accepted by rule 3"),
            ("10.2.0.0/26", Decision::Reject, "rejected by default"),
            ("0.0.0.0/0", Decision::Reject, "rejected by default"),
            ("2001:db8::/64", Decision::Reject, "rejected by default"),
        ];
        let attributes = attributes();
        let route = Route::new(&attributes);
        for (net, expected, why) in cases {
            assert_eq!(host_export().decide(&prefix(net), &route), expected, "{net}");
            assert_eq!(host_export().explain(&prefix(net), &route).to_string(), why);
        }
        assert_eq!(host_export().judge(&route), None, "it depends on the prefix");
        let all = Policy::Reject.explain(&prefix("10.0.0.0/8"), &route).to_string();
        assert_eq!(all, "rejected by the policy for all routes");
    }

    #[test]
    fn a_rule_that_continues_changes_what_later_ones_see() {
        let tag = Rule {
            changes: Changes {
                add_communities: vec![Community::new(65000, 1)],
                local_pref: Some(Number::Set(7)),
                prepend: vec![1, 2],
                ..Changes::default()
            },
            ..Rule::new(Match::default(), RuleAction::Continue)
        };
        let tagged = Match {
            communities: vec!["65000:1".parse().unwrap()],
            ..Match::default()
        };
        let rules = [
            tag.clone().named("tag"),
            tag,
            Rule::new(tagged, RuleAction::Accept),
        ];
        let policy = Policy::rules(rules, Verdict::Reject);
        let attributes = attributes();
        let route = Route::new(&attributes);
        let Decision::Changed(changed) = policy.decide(&prefix("10.0.0.0/8"), &route) else {
            panic!("not changed");
        };
        assert_eq!(changed.communities, [Community::new(65000, 1)]);
        assert_eq!(changed.local_pref, Some(7));
        assert_eq!(changed.as_path.to_string(), "1 2 1 2");
        assert_eq!(policy.judge(&route), Some(Decision::Changed(changed)));
        assert_eq!(
            policy.explain(&prefix("10.0.0.0/8"), &route).to_string(),
            "accepted by rule 3, changed before by rule 1 \"tag\", by rule 2"
        );
    }

    #[test]
    fn a_rule_about_prefixes_that_cannot_match_the_route_does_not_keep_it_from_being_judged() {
        let mut about_others = Rule::inside(prefix("10.0.0.0/8"), RuleAction::Reject);
        about_others.matches.communities = vec!["1:1".parse().unwrap()];
        let policy = Policy::rules([about_others], Verdict::Accept);
        let mut attributes = attributes();
        assert_eq!(policy.judge(&Route::new(&attributes)), Some(Decision::Unchanged));
        attributes.communities.push(Community::new(1, 1));
        assert_eq!(policy.judge(&Route::new(&attributes)), None);
    }

    #[test]
    fn many_rules_decide_like_few() {
        let nets: Vec<Prefix> = (0..40u8)
            .flat_map(|n| {
                [
                    format!("10.{n}.0.0/16"),
                    format!("10.{n}.1.0/24"),
                    format!("2001:db8:{n:x}::/48"),
                ]
            })
            .map(|text| prefix(&text))
            .collect();
        let action = |at: usize| [RuleAction::Accept, RuleAction::Reject][at % 2];
        let rules: Vec<Rule> = nets
            .iter()
            .enumerate()
            .map(|(at, net)| Rule::inside(*net, action(at)))
            .collect();
        let all = Policy::rules(rules.clone(), Verdict::Reject);
        let attributes = attributes();
        let route = Route::new(&attributes);
        for net in nets
            .iter()
            .copied()
            .chain(["10.7.1.9/32", "10.99.0.0/16", "::/0"].map(prefix))
        {
            let first = rules.iter().find(|rule| rule.matches.matches_prefix(&net));
            let expected = match first.map(|rule| rule.action) {
                Some(RuleAction::Accept) => Decision::Unchanged,
                _ => Decision::Reject,
            };
            assert_eq!(all.decide(&net, &route), expected, "{net}");
        }
    }

    #[test]
    fn wrong_rules_are_named() {
        let base = || Rule::inside(prefix("10.0.0.0/8"), RuleAction::Accept);
        type Break = fn(&mut Rule);
        let cases: [(Break, &str); 6] = [
            (
                |r| r.matches.prefix.as_mut().unwrap().max_length = Some(33),
                "rule 2 \"bad\": the prefix lengths",
            ),
            (
                |r| {
                    let prefix = r.matches.prefix.as_mut().unwrap();
                    (prefix.min_length, prefix.max_length) = (Some(24), Some(16));
                },
                "rule 2 \"bad\": min-length",
            ),
            (
                |r| r.matches.prefix.as_mut().unwrap().net = "10.0.0.1/8".parse().unwrap(),
                "rule 2 \"bad\": prefix 10.0.0.1/8",
            ),
            (
                |r| r.changes.prepend_own = 33,
                "rule 2 \"bad\": puts more than 32",
            ),
            (|r| r.changes.prepend = vec![0], "rule 2 \"bad\": prepend: AS 0"),
            (
                |r| {
                    r.action = RuleAction::Reject;
                    r.changes.weight = Some(1);
                },
                "rule 2 \"bad\": changes a route",
            ),
        ];
        for (spoil, expected) in cases {
            let mut bad = base().named("bad");
            spoil(&mut bad);
            let error = Policy::rules([base(), bad], Verdict::Accept)
                .validate()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!(host_export().validate(), Ok(()));
    }

    #[test]
    fn a_policy_survives_being_written_down() {
        let policy = host_export();
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
    }
}
