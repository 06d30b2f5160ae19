//! Policies as they are configured.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::prefixes::PrefixIndex;
use super::{Changes, Match, PATTERN_TOKENS_MAX, PrefixMatch};
use crate::wire::{Family, Prefix};

/// Most rules that a policy may have.
pub const RULES_MAX: usize = 65_536;
/// Most ASes that a rule may put in front of AS_PATH.
pub const PREPEND_MAX: usize = 32;

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

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// What it is called where decisions are explained.
    pub name: Option<String>,
    /// Which routes it is about.
    pub matches: Match,
    /// What to do.
    pub action: RuleAction,
    /// Applied on accept and continue.
    pub changes: Changes,
}

impl Rule {
    /// A rule without name and changes.
    pub fn new(matches: Match, action: RuleAction) -> Self {
        Self {
            name: None,
            matches,
            action,
            changes: Changes::default(),
        }
    }

    /// A rule for one prefix and nothing inside it.
    pub fn exact(prefix: Prefix, action: RuleAction) -> Self {
        Self::new(Match::prefix(PrefixMatch::exact(prefix)), action)
    }

    /// A rule for a prefix and everything inside it.
    pub fn inside(prefix: Prefix, action: RuleAction) -> Self {
        Self::new(Match::prefix(PrefixMatch::inside(prefix)), action)
    }

    /// The same with a name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    fn validate(&self) -> Result<(), String> {
        if let Some(PrefixMatch {
            net,
            min_length,
            max_length,
            ..
        }) = self.matches.prefix
        {
            let bits = Family::of(&net).address_bits();
            if net.trunc() != net {
                return Err(format!("prefix {net} has host bits set: write {}", net.trunc()));
            }
            if [min_length, max_length]
                .iter()
                .flatten()
                .any(|length| *length > bits)
            {
                return Err(format!("the prefix lengths must be at most {bits}"));
            }
            if min_length.unwrap_or(0) > max_length.unwrap_or(bits) {
                return Err("min-length must be at most max-length".to_owned());
            }
        }
        let ranges = [
            self.matches.med,
            self.matches.local_pref,
            self.matches.as_path_length,
        ];
        if ranges.iter().flatten().any(|range| range.min > range.max) {
            return Err("a range ends before it begins".to_owned());
        }
        let words = self
            .matches
            .as_path
            .as_ref()
            .map_or(0, |pattern| pattern.token_count());
        if words > PATTERN_TOKENS_MAX {
            return Err(format!("as-path has more than {PATTERN_TOKENS_MAX} words"));
        }
        let prepended = self.changes.prepend.len() + usize::from(self.changes.prepend_own);
        if prepended > PREPEND_MAX {
            return Err(format!("puts more than {PREPEND_MAX} ASes in front of AS_PATH"));
        }
        if self.changes.prepend.contains(&0) {
            return Err("prepend: AS 0 is reserved (RFC 7607)".to_owned());
        }
        if self.action == RuleAction::Reject && !self.changes.is_empty() {
            return Err("changes a route that it rejects: use accept or continue".to_owned());
        }
        Ok(())
    }
}

/// A rule that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {position}{}: {reason}", .name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default())]
pub struct RuleError {
    /// Which rule, from 1.
    pub position: usize,
    /// Its name.
    pub name: Option<String>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Policy {
    /// Whether the outcome may depend on the interface that a route leads out of.
    pub(crate) fn looks_at_interfaces(&self) -> bool {
        matches!(self, Self::Rules(rules) if rules.looks_at_interfaces())
    }
}

/// Rules in order, ready to be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "RuleList", into = "RuleList")]
pub struct RuleSet {
    rules: Vec<Rule>,
    default: Verdict,
    /// Computed from the rules.
    index: Option<PrefixIndex>,
    /// Likewise: whether one asks for the interface.
    looks_at_interfaces: bool,
}

#[derive(Serialize, Deserialize)]
struct RuleList {
    rules: Vec<Rule>,
    default: Verdict,
}

impl RuleSet {
    /// Prepares rules. `default` is for routes that no rule decided.
    pub fn new(rules: Vec<Rule>, default: Verdict) -> Self {
        let index = PrefixIndex::new(&rules);
        let looks_at_interfaces = rules.iter().any(|rule| rule.matches.interface.is_some());
        Self {
            rules,
            default,
            index,
            looks_at_interfaces,
        }
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// For routes that no rule decided.
    pub const fn default_verdict(&self) -> Verdict {
        self.default
    }

    pub(super) const fn looks_at_interfaces(&self) -> bool {
        self.looks_at_interfaces
    }

    pub(super) const fn index(&self) -> Option<&PrefixIndex> {
        self.index.as_ref()
    }
}

impl From<RuleList> for RuleSet {
    fn from(RuleList { rules, default }: RuleList) -> Self {
        Self::new(rules, default)
    }
}

impl From<RuleSet> for RuleList {
    fn from(set: RuleSet) -> Self {
        Self {
            rules: set.rules,
            default: set.default,
        }
    }
}

impl Clone for RuleSet {
    fn clone(&self) -> Self {
        Self::new(self.rules.clone(), self.default)
    }
}

impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        (&self.rules, self.default) == (&other.rules, other.default)
    }
}

impl Eq for RuleSet {}

impl Hash for RuleSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.rules, self.default).hash(state);
    }
}

/// The policy of a neighbour in one direction. Clones share the rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Every route passes.
    Accept,
    /// No route passes.
    Reject,
    /// The first rule that matches and does not say `continue` decides.
    Rules(Arc<RuleSet>),
}

/// How a policy is written down: sharing is lost.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PolicyText {
    Accept,
    Reject,
    Rules(RuleSet),
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Accept => PolicyText::Accept,
            Self::Reject => PolicyText::Reject,
            Self::Rules(set) => PolicyText::Rules(RuleSet::clone(set)),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match PolicyText::deserialize(deserializer)? {
            PolicyText::Accept => Self::Accept,
            PolicyText::Reject => Self::Reject,
            PolicyText::Rules(set) => Self::Rules(Arc::new(set)),
        })
    }
}

impl Policy {
    /// A policy of rules. `default` is for routes that no rule decided.
    pub fn rules(rules: impl IntoIterator<Item = Rule>, default: Verdict) -> Self {
        Self::Rules(Arc::new(RuleSet::new(rules.into_iter().collect(), default)))
    }

    /// Refuses what cannot work, naming the rule.
    pub fn validate(&self) -> Result<(), RuleError> {
        let Self::Rules(set) = self else { return Ok(()) };
        if set.rules.len() > RULES_MAX {
            return Err(RuleError {
                position: set.rules.len(),
                name: None,
                reason: format!("a policy has at most {RULES_MAX} rules"),
            });
        }
        for (at, rule) in set.rules.iter().enumerate() {
            rule.validate().map_err(|reason| RuleError {
                position: at + 1,
                name: rule.name.clone(),
                reason,
            })?;
        }
        Ok(())
    }
}
