//! What a rule looks at.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    AsPathPattern, CommunityPattern, ExtendedCommunityPattern, LargeCommunityPattern, PatternError,
    PrefixMatch,
};
use crate::wire::{Attributes, Family, NextHop, Origin, Prefix};

/// Longest interface name that Linux has, in bytes.
const INTERFACE_MAX_BYTES: usize = 15;

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A network of ours.
    Network,
    /// An aggregate of ours.
    Aggregate,
    /// A neighbour in another AS.
    Ebgp,
    /// A neighbour in our AS.
    Ibgp,
}

/// Which sources match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceMatch {
    /// Networks and aggregates of ours.
    Own,
    /// Aggregates of ours.
    Aggregate,
    /// Learned from any neighbour.
    Learned,
    /// Learned from a neighbour in another AS.
    Ebgp,
    /// Learned from a neighbour in our AS.
    Ibgp,
}

impl SourceMatch {
    /// Whether the source is one of these.
    pub const fn matches(self, source: Source) -> bool {
        match self {
            Self::Own => matches!(source, Source::Network | Source::Aggregate),
            Self::Aggregate => matches!(source, Source::Aggregate),
            Self::Learned => matches!(source, Source::Ebgp | Source::Ibgp),
            Self::Ebgp => matches!(source, Source::Ebgp),
            Self::Ibgp => matches!(source, Source::Ibgp),
        }
    }
}

/// The kind of the session that a policy is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerType {
    /// To another AS.
    Ebgp,
    /// Within our AS.
    Ibgp,
}

/// A route as policies see it, without its prefix: all prefixes of an UPDATE share it.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Import: as received. Export: with the next hop that it will have, and before our AS is put in front.
    pub attributes: &'a Attributes,
    /// Where it comes from.
    pub source: Source,
    /// The neighbour that it was learned from.
    pub neighbor: Option<IpAddr>,
    /// The interface that it leads out of, where that is known.
    pub interface: Option<&'a str>,
    /// The session that the policy is asked for.
    pub peer_type: PeerType,
    /// Our AS on that session.
    pub local_as: u32,
    /// What we are as a next hop on that session; without it, a rule cannot set it.
    pub self_next_hop: Option<NextHop>,
    /// Export: the next hop before it was set for this session.
    pub unchanged_next_hop: NextHop,
}

impl<'a> Route<'a> {
    /// A route learned from another AS, with nothing else known.
    pub const fn new(attributes: &'a Attributes) -> Self {
        Self {
            attributes,
            source: Source::Ebgp,
            neighbor: None,
            interface: None,
            peer_type: PeerType::Ebgp,
            local_as: 0,
            self_next_hop: None,
            unchanged_next_hop: attributes.next_hop,
        }
    }
}

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl Range {
    /// One number.
    pub const fn only(number: u32) -> Self {
        Self {
            min: number,
            max: number,
        }
    }

    /// Whether the number is in the range.
    pub const fn contains(self, number: u32) -> bool {
        self.min <= number && number <= self.max
    }
}

/// An interface's name, in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfacePattern(String);

impl InterfacePattern {
    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty(); // no `*` at all
        };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl FromStr for InterfacePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > INTERFACE_MAX_BYTES {
            return Err(PatternError::new(text, "must have 1 to 15 characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for InterfacePattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<InterfacePattern> for String {
    fn from(pattern: InterfacePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Conditions; all that are set must hold. With none, every route matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Match {
    /// The prefix is of this family.
    pub family: Option<Family>,
    /// The prefix.
    pub prefix: Option<PrefixMatch>,
    /// For each of these, the route carries a community that matches.
    pub communities: Vec<CommunityPattern>,
    /// Likewise for large communities.
    pub large_communities: Vec<LargeCommunityPattern>,
    /// Likewise for extended communities.
    pub extended_communities: Vec<ExtendedCommunityPattern>,
    /// The whole AS_PATH.
    pub as_path: Option<AsPathPattern>,
    /// Its length as route selection counts it.
    pub as_path_length: Option<Range>,
    /// The next hop lies in this net.
    pub next_hop: Option<Prefix>,
    /// The neighbour that the route was learned from lies in this net.
    pub neighbor: Option<Prefix>,
    /// Where the route comes from.
    pub source: Option<SourceMatch>,
    /// The interface that the route leads out of; a route without one does not match: what we originate, and a
    /// route whose next hop was not found, as all are where no kernel is asked for them.
    pub interface: Option<InterfacePattern>,
    /// The session that the policy is asked for.
    pub peer_type: Option<PeerType>,
    /// MULTI_EXIT_DISC; a route without it does not match.
    pub med: Option<Range>,
    /// LOCAL_PREF; a route without it does not match. On export all have it.
    pub local_pref: Option<Range>,
    /// ORIGIN.
    pub origin: Option<Origin>,
}

impl Match {
    /// Conditions on the prefix alone.
    pub fn prefix(prefix: PrefixMatch) -> Self {
        Self {
            prefix: Some(prefix),
            ..Self::default()
        }
    }

    /// Whether a condition is about the prefix.
    pub(super) const fn looks_at_prefix(&self) -> bool {
        self.family.is_some() || self.prefix.is_some()
    }

    /// Whether the conditions on the prefix hold.
    pub(super) fn matches_prefix(&self, prefix: &Prefix) -> bool {
        self.family.is_none_or(|family| family == Family::of(prefix))
            && self.prefix.is_none_or(|condition| condition.matches(prefix))
    }

    /// Whether the other conditions hold. `attributes` are those of the route after the changes of earlier rules.
    pub(super) fn matches_route(&self, route: &Route<'_>, attributes: &Attributes) -> bool {
        let in_range = |range: Option<Range>, value: Option<u32>| {
            range.is_none_or(|range| value.is_some_and(|value| range.contains(value)))
        };
        let hops = || u32::try_from(attributes.as_path.hop_count()).unwrap_or(u32::MAX);
        self.peer_type.is_none_or(|kind| kind == route.peer_type)
            && self.source.is_none_or(|source| source.matches(route.source))
            && self
                .neighbor
                .is_none_or(|net| route.neighbor.is_some_and(|address| net.contains(&address)))
            && self
                .interface
                .as_ref()
                .is_none_or(|pattern| route.interface.is_some_and(|name| pattern.matches(name)))
            && self.origin.is_none_or(|origin| origin == attributes.origin)
            && in_range(self.med, attributes.med)
            && in_range(self.local_pref, attributes.local_pref)
            && self
                .next_hop
                .is_none_or(|net| net.contains(&attributes.next_hop.address()))
            && self.as_path_length.is_none_or(|range| range.contains(hops()))
            && all(
                &self.communities,
                &attributes.communities,
                CommunityPattern::matches,
            )
            && all(
                &self.large_communities,
                &attributes.large_communities,
                LargeCommunityPattern::matches,
            )
            && all(
                &self.extended_communities,
                &attributes.extended_communities,
                ExtendedCommunityPattern::matches,
            )
            && self
                .as_path
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&attributes.as_path))
    }
}

/// Whether each pattern matches one of the route's.
fn all<P, C: Copy>(patterns: &[P], carried: &[C], matches: impl Fn(&P, C) -> bool) -> bool {
    patterns
        .iter()
        .all(|pattern| carried.iter().any(|community| matches(pattern, *community)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AsPath, Community, ExtendedCommunity, LargeCommunity};

    fn attributes() -> Attributes {
        Attributes {
            as_path: AsPath::sequence([65001, 65002]),
            med: Some(10),
            local_pref: Some(200),
            origin: Origin::Egp,
            communities: vec![Community::new(65000, 1), Community::new(65000, 2)],
            large_communities: vec![LargeCommunity {
                global: 65000,
                local1: 1,
                local2: 2,
            }],
            extended_communities: vec![ExtendedCommunity([0, 2, 0xfd, 0xe8, 0, 0, 0, 1])],
            ..Attributes::originated(NextHop::V4("192.0.2.1".parse().unwrap()))
        }
    }

    #[test]
    fn each_condition_holds_and_fails() {
        let attributes = attributes();
        let route = Route {
            neighbor: Some("10.0.0.2".parse().unwrap()),
            interface: Some("cali12ab"),
            source: Source::Ibgp,
            ..Route::new(&attributes)
        };
        type Set = fn(&mut Match, bool);
        let cases: [(&str, Set); 14] = [
            ("peer type", |m, yes| {
                m.peer_type = Some(if yes { PeerType::Ebgp } else { PeerType::Ibgp })
            }),
            ("source", |m, yes| {
                m.source = Some(if yes {
                    SourceMatch::Learned
                } else {
                    SourceMatch::Own
                })
            }),
            ("neighbor", |m, yes| {
                m.neighbor = if yes { "10.0.0.0/24" } else { "10.0.1.0/24" }.parse().ok();
            }),
            ("interface", |m, yes| {
                m.interface = if yes { "cali*" } else { "eth*" }.parse().ok()
            }),
            ("origin", |m, yes| {
                m.origin = Some(if yes { Origin::Egp } else { Origin::Igp })
            }),
            ("med", |m, yes| {
                m.med = Some(if yes {
                    Range { min: 0, max: 10 }
                } else {
                    Range::only(11)
                })
            }),
            ("local pref", |m, yes| {
                m.local_pref = Some(Range::only(if yes { 200 } else { 100 }))
            }),
            ("next hop", |m, yes| {
                m.next_hop = if yes { "192.0.2.0/24" } else { "2001:db8::/32" }.parse().ok();
            }),
            ("length", |m, yes| {
                m.as_path_length = Some(Range::only(if yes { 2 } else { 3 }))
            }),
            ("communities", |m, yes| {
                m.communities = vec!["65000:1".parse().unwrap(), "65000:*".parse().unwrap()];
                m.communities
                    .extend((!yes).then(|| CommunityPattern::from(Community::new(1, 1))));
            }),
            ("large", |m, yes| {
                m.large_communities = vec![if yes { "65000:*:2" } else { "65000:*:3" }.parse().unwrap()];
            }),
            ("extended", |m, yes| {
                m.extended_communities = vec![if yes { "rt:65000:1" } else { "ro:65000:1" }.parse().unwrap()];
            }),
            ("path", |m, yes| {
                m.as_path = if yes { "65001 *" } else { "65002 *" }.parse().ok()
            }),
            ("none", |m, yes| m.med = (!yes).then_some(Range::only(0))),
        ];
        for (name, set) in cases {
            for yes in [true, false] {
                let mut conditions = Match::default();
                set(&mut conditions, yes);
                assert_eq!(conditions.matches_route(&route, &attributes), yes, "{name}");
            }
        }
    }

    #[test]
    fn what_a_route_lacks_does_not_match() {
        let attributes = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
        let all = Range {
            min: 0,
            max: u32::MAX,
        };
        let conditions = [
            Match {
                med: Some(all),
                ..Match::default()
            },
            Match {
                local_pref: Some(all),
                ..Match::default()
            },
            Match {
                interface: "*".parse().ok(),
                ..Match::default()
            },
            Match {
                neighbor: "0.0.0.0/0".parse().ok(),
                ..Match::default()
            },
            Match {
                communities: vec![CommunityPattern::ANY],
                ..Match::default()
            },
        ];
        for condition in conditions {
            assert!(
                !condition.matches_route(&Route::new(&attributes), &attributes),
                "{condition:?}"
            );
        }
    }

    #[test]
    fn interface_names() {
        let cases = [
            ("*", "eth0", true),
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("*.cali", "vxlan.cali", true),
            ("*.cali", "vxlan.calico", false),
            ("b*f*.cali", "bpfin.cali", true),
            ("a*a", "a", false),
            ("eth*", "xeth0", false),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(
                pattern.parse::<InterfacePattern>().unwrap().matches(name),
                matches,
                "{pattern} {name}"
            );
        }
        assert!(
            "".parse::<InterfacePattern>().is_err()
                && "0123456789abcdef".parse::<InterfacePattern>().is_err()
        );
    }
}
