//! Import and export policy of a neighbour: which prefixes pass, and with which attributes.

use serde::{Deserialize, Serialize};

use crate::wire::{Attributes, Community, Family, LargeCommunity, Prefix};

/// What a policy says about one route in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The route passes.
    Accept,
    /// The route does not exist for the other side.
    Reject,
}

/// What a rule does with the routes that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Let the route pass, with the rule's changes.
    Accept,
    /// Stop the route.
    Reject,
    /// Apply the rule's changes and go on with the next rule.
    Continue,
}

/// Changes to the attributes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttributeChanges {
    /// Sets LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Sets MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Adds communities that are not there yet.
    pub add_communities: Vec<Community>,
    /// Adds large communities that are not there yet.
    pub add_large_communities: Vec<LargeCommunity>,
    /// Puts these ASes in front of AS_PATH, the first one nearest.
    pub prepend: Vec<u32>,
}

impl AttributeChanges {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn apply(&self, attributes: &mut Attributes) {
        attributes.local_pref = self.local_pref.or(attributes.local_pref);
        attributes.med = self.med.or(attributes.med);
        for community in &self.add_communities {
            if !attributes.communities.contains(community) {
                attributes.communities.push(*community);
            }
        }
        for community in &self.add_large_communities {
            if !attributes.large_communities.contains(community) {
                attributes.large_communities.push(*community);
            }
        }
        for asn in self.prepend.iter().rev() {
            attributes.as_path.prepend(*asn, 1);
        }
    }
}

/// One rule: prefixes inside `prefix` whose length is in the range.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrefixRule {
    /// Matches this prefix and what lies inside it; without it, every prefix of either family.
    pub prefix: Option<Prefix>,
    /// Shortest length that matches, in bits; without it, the length of `prefix`.
    pub min_length: Option<u8>,
    /// Longest length that matches, in bits; without it, the length of an address.
    pub max_length: Option<u8>,
    /// What to do.
    pub action: RuleAction,
    /// Applied on accept and continue.
    pub changes: AttributeChanges,
}

impl PrefixRule {
    /// A rule for one prefix and nothing inside it.
    pub fn exact(prefix: Prefix, action: RuleAction) -> Self {
        let length = Some(prefix.prefix_len());
        Self {
            min_length: length,
            max_length: length,
            ..Self::inside(prefix, action)
        }
    }

    /// A rule for a prefix and everything inside it.
    pub fn inside(prefix: Prefix, action: RuleAction) -> Self {
        Self {
            prefix: Some(prefix),
            min_length: None,
            max_length: None,
            action,
            changes: AttributeChanges::default(),
        }
    }

    /// Whether the rule is about this prefix.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        let shortest = self
            .min_length
            .or(self.prefix.map(|net| net.prefix_len()))
            .unwrap_or(0);
        let longest = self.max_length.unwrap_or(Family::of(prefix).address_bits());
        (shortest..=longest).contains(&prefix.prefix_len())
            && self.prefix.is_none_or(|net| net.contains(prefix))
    }
}

/// The policy of a neighbour in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Every route passes.
    Accept,
    /// No route passes.
    Reject,
    /// The first rule that matches and does not say `continue` decides.
    Rules {
        /// Rules in order.
        rules: Vec<PrefixRule>,
        /// For routes that no rule decided.
        default: Verdict,
    },
}

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

impl Policy {
    /// Judges a route.
    pub fn decide(&self, prefix: &Prefix, attributes: &Attributes) -> Decision {
        let (rules, default) = match self {
            Self::Accept => return Decision::Unchanged,
            Self::Reject => return Decision::Reject,
            Self::Rules { rules, default } => (rules, *default),
        };
        let mut changed: Option<Box<Attributes>> = None;
        let mut verdict = default;
        for rule in rules.iter().filter(|rule| rule.matches(prefix)) {
            if rule.action != RuleAction::Reject && !rule.changes.is_empty() {
                rule.changes
                    .apply(changed.get_or_insert_with(|| Box::new(attributes.clone())));
            }
            match rule.action {
                RuleAction::Continue => continue,
                RuleAction::Accept => verdict = Verdict::Accept,
                RuleAction::Reject => verdict = Verdict::Reject,
            }
            break;
        }
        match (verdict, changed) {
            (Verdict::Reject, _) => Decision::Reject,
            (Verdict::Accept, None) => Decision::Unchanged,
            (Verdict::Accept, Some(attributes)) => Decision::Changed(attributes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::NextHop;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn attributes() -> Attributes {
        Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast))
    }

    /// The export policy of a host: its block as an aggregate, nothing inside it, the pool else.
    fn host_export() -> Policy {
        Policy::Rules {
            rules: vec![
                PrefixRule::exact(prefix("10.1.0.0/26"), RuleAction::Accept),
                PrefixRule::inside(prefix("10.1.0.0/26"), RuleAction::Reject),
                PrefixRule::inside(prefix("10.1.0.0/16"), RuleAction::Accept),
            ],
            default: Verdict::Reject,
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let cases = [
            ("10.1.0.0/26", Decision::Unchanged),
            ("10.1.0.5/32", Decision::Reject),
            ("10.1.7.5/32", Decision::Unchanged),
            ("10.2.0.0/26", Decision::Reject),
            ("0.0.0.0/0", Decision::Reject),
            ("2001:db8::/64", Decision::Reject),
        ];
        for (net, expected) in cases {
            assert_eq!(
                host_export().decide(&prefix(net), &attributes()),
                expected,
                "{net}"
            );
        }
    }

    #[test]
    fn a_rule_that_continues_changes_what_a_later_one_accepts() {
        let tag = PrefixRule {
            changes: AttributeChanges {
                add_communities: vec![Community::new(65000, 1)],
                local_pref: Some(7),
                prepend: vec![1, 2],
                ..AttributeChanges::default()
            },
            prefix: None,
            ..PrefixRule::inside(prefix("0.0.0.0/0"), RuleAction::Continue)
        };
        let policy = Policy::Rules {
            rules: vec![tag.clone(), tag],
            default: Verdict::Accept,
        };
        let Decision::Changed(changed) = policy.decide(&prefix("10.0.0.0/8"), &attributes()) else {
            panic!("not changed");
        };
        assert_eq!(changed.communities, [Community::new(65000, 1)]);
        assert_eq!(changed.local_pref, Some(7));
        assert_eq!(changed.as_path.to_string(), "1 2 1 2");
    }

    #[test]
    fn lengths_bound_a_rule() {
        let mut rule = PrefixRule::inside(prefix("10.0.0.0/8"), RuleAction::Accept);
        (rule.min_length, rule.max_length) = (Some(16), Some(24));
        for (net, matches) in [
            ("10.0.0.0/8", false),
            ("10.1.0.0/16", true),
            ("10.1.1.0/24", true),
            ("10.1.1.1/32", false),
        ] {
            assert_eq!(rule.matches(&prefix(net)), matches, "{net}");
        }
    }
}
