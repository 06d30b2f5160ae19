//! Conditions on the prefix, and an index over them.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::Rule;
use crate::wire::{Family, Prefix};

/// How a prefix is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixOperator {
    /// It is the net itself.
    Equal,
    /// It is not the net itself.
    NotEqual,
    /// It is the net or lies inside it.
    #[default]
    In,
    /// It neither is the net nor lies inside it.
    NotIn,
}

/// A condition on the prefix. The lengths narrow what `Equal` and `In` match; `NotEqual` and `NotIn` match exactly
/// what these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrefixMatch {
    /// How to compare.
    pub operator: PrefixOperator,
    /// With what; its host bits are zero.
    pub net: Prefix,
    /// Shortest length, in bits; without it, that of `net`.
    pub min_length: Option<u8>,
    /// Longest length, in bits; without it, that of an address.
    pub max_length: Option<u8>,
}

impl PrefixMatch {
    /// With an operator, of any length.
    pub const fn new(operator: PrefixOperator, net: Prefix) -> Self {
        Self {
            operator,
            net,
            min_length: None,
            max_length: None,
        }
    }

    /// The net itself.
    pub const fn exact(net: Prefix) -> Self {
        Self::new(PrefixOperator::Equal, net)
    }

    /// The net and what lies inside it.
    pub const fn inside(net: Prefix) -> Self {
        Self::new(PrefixOperator::In, net)
    }

    /// Whether the condition holds.
    pub fn matches(&self, prefix: &Prefix) -> bool {
        let shortest = self.min_length.unwrap_or(0);
        let longest = self.max_length.unwrap_or(Family::of(&self.net).address_bits());
        let length = (shortest..=longest).contains(&prefix.prefix_len());
        match self.operator {
            PrefixOperator::Equal => length && self.net == *prefix,
            PrefixOperator::NotEqual => !(length && self.net == *prefix),
            PrefixOperator::In => length && self.net.contains(prefix),
            PrefixOperator::NotIn => !(length && self.net.contains(prefix)),
        }
    }

    /// Whether only prefixes in `net` can match.
    fn is_positive(&self) -> bool {
        matches!(self.operator, PrefixOperator::Equal | PrefixOperator::In)
    }
}

/// Fewer rules than this are looked at one by one.
const INDEX_RULES_MIN: usize = 16;

/// Which rules can match a prefix: those about a net that it lies in, and those about no net.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex {
    by_net: FxHashMap<Prefix, Vec<u32>>,
    /// Lengths of the nets, ascending, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
    others: Vec<u32>,
}

/// Positions of rules, ascending.
pub(super) type RulePositions = SmallVec<[u32; 16]>;

impl PrefixIndex {
    /// Nothing where there are too few rules for an index to pay.
    pub(super) fn new(rules: &[Rule]) -> Option<Self> {
        if rules.len() < INDEX_RULES_MIN {
            return None;
        }
        let mut index = Self::default();
        for (at, rule) in (0u32..).zip(rules) {
            match rule.matches.prefix.filter(PrefixMatch::is_positive) {
                Some(PrefixMatch { net, .. }) => {
                    index.by_net.entry(net).or_default().push(at);
                    index.lengths_of(Family::of(&net)).push(net.prefix_len());
                }
                None => index.others.push(at),
            }
        }
        for lengths in &mut index.lengths {
            lengths.sort_unstable();
            lengths.dedup();
        }
        Some(index)
    }

    fn lengths_of(&mut self, family: Family) -> &mut Vec<u8> {
        let [v4, v6] = &mut self.lengths;
        match family {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }

    /// Rules whose condition on the prefix may hold.
    pub(super) fn candidates(&self, prefix: &Prefix) -> RulePositions {
        let [v4, v6] = &self.lengths;
        let lengths = match Family::of(prefix) {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        };
        let mut found: RulePositions = self.others.iter().copied().collect();
        for length in lengths
            .iter()
            .take_while(|length| **length <= prefix.prefix_len())
        {
            let net = Prefix::new(prefix.addr(), *length).map(|net| net.trunc());
            found.extend(
                net.ok()
                    .and_then(|net| self.by_net.get(&net))
                    .into_iter()
                    .flatten()
                    .copied(),
            );
        }
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Match, RuleAction};

    fn net(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn operators_and_lengths() {
        use PrefixOperator::{Equal, In, NotEqual, NotIn};
        // Operator, net, lengths, prefix, whether it matches.
        let cases = [
            (Equal, "10.1.0.0/16", None, None, "10.1.0.0/16", true),
            (Equal, "10.1.0.0/16", None, None, "10.1.0.0/17", false),
            (Equal, "10.1.0.0/16", Some(24), None, "10.1.0.0/16", false),
            (NotEqual, "10.1.0.0/16", None, None, "10.1.0.0/16", false),
            (NotEqual, "10.1.0.0/16", None, None, "10.1.0.0/17", true),
            (NotEqual, "10.1.0.0/16", None, None, "2001:db8::/32", true),
            (In, "10.1.0.0/16", None, None, "10.1.0.0/16", true),
            (In, "10.1.0.0/16", None, None, "10.1.2.3/32", true),
            (In, "10.1.0.0/16", None, None, "10.0.0.0/8", false),
            (In, "10.1.0.0/16", Some(24), Some(26), "10.1.0.0/16", false),
            (In, "10.1.0.0/16", Some(24), Some(26), "10.1.9.0/24", true),
            (In, "10.1.0.0/16", Some(24), Some(26), "10.1.9.0/27", false),
            // A shortest length below the net's own adds nothing.
            (In, "10.1.0.0/16", Some(8), None, "10.0.0.0/8", false),
            (NotIn, "10.1.0.0/16", None, None, "10.1.2.0/24", false),
            (NotIn, "10.1.0.0/16", Some(25), Some(32), "10.1.2.0/24", true),
            (NotIn, "10.1.0.0/16", None, None, "10.2.0.0/16", true),
            (NotIn, "10.1.0.0/16", None, None, "2001:db8::/32", true),
            (In, "0.0.0.0/0", None, None, "2001:db8::/32", false),
            (In, "2001:db8::/32", None, Some(64), "2001:db8:1::/64", true),
        ];
        for (operator, of, min_length, max_length, prefix, expected) in cases {
            let condition = PrefixMatch {
                min_length,
                max_length,
                ..PrefixMatch::new(operator, net(of))
            };
            assert_eq!(
                condition.matches(&net(prefix)),
                expected,
                "{condition:?} {prefix}"
            );
        }
    }

    #[test]
    fn the_index_leaves_out_only_rules_that_cannot_match() {
        let nets = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.0.0/24",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::/0",
            "10.1.0.0/16",
            "192.0.2.0/24",
        ];
        let operators = [PrefixOperator::In, PrefixOperator::Equal, PrefixOperator::NotIn];
        let rules: Vec<Rule> = operators
            .into_iter()
            .flat_map(|operator| nets.map(|text| PrefixMatch::new(operator, net(text))))
            .map(|prefix| {
                let prefix = Some(prefix);
                Rule::new(
                    Match {
                        prefix,
                        ..Match::default()
                    },
                    RuleAction::Accept,
                )
            })
            .collect();
        let index = PrefixIndex::new(&rules).unwrap();
        for text in nets
            .into_iter()
            .chain(["10.1.0.7/32", "2001:db8::1/128", "203.0.113.0/24"])
        {
            let candidates = index.candidates(&net(text));
            assert!(candidates.is_sorted());
            for (at, rule) in (0u32..).zip(&rules) {
                let matches = rule
                    .matches
                    .prefix
                    .is_some_and(|condition| condition.matches(&net(text)));
                assert!(!matches || candidates.contains(&at), "{text} {rule:?}");
            }
            assert!(candidates.len() < rules.len());
        }
        assert!(PrefixIndex::new(&rules[..3]).is_none());
    }
}
