//! Policies, and the settings of routes, in the daemon's TOML file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

use crate::policy::{
    AsPathPattern, Changes, CommunityPattern, ExtendedCommunityPattern, InterfacePattern,
    LargeCommunityPattern, Match, NextHopChange, Number, PeerType, Policy, PrefixMatch, PrefixOperator,
    Range, Rule, RuleAction, SourceMatch, Verdict,
};
use crate::wire::{Community, ExtendedCommunity, Family, LargeCommunity, Origin, Prefix};

/// Names that stand for policies without rules.
const ACCEPT: &str = "accept";
const REJECT: &str = "reject";

/// Something wrong with a policy: where in the file, and what.
pub(super) type Fault = (usize, String);

/// `[[policy]]`
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct FilePolicy {
    name: Spanned<String>,
    default: Verdict,
    #[serde(default)]
    rule: Vec<Spanned<FileRule>>,
}

/// `[[policy.rule]]`
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileRule {
    name: Option<String>,
    action: RuleAction,
    family: Option<Family>,
    prefix: Option<Prefix>,
    operator: Option<PrefixOperator>,
    min_length: Option<u8>,
    max_length: Option<u8>,
    #[serde(default)]
    communities: Vec<CommunityPattern>,
    #[serde(default)]
    large_communities: Vec<LargeCommunityPattern>,
    #[serde(default)]
    extended_communities: Vec<ExtendedCommunityPattern>,
    as_path: Option<AsPathPattern>,
    as_path_length: Option<FileRange>,
    next_hop: Option<FileNet>,
    neighbor: Option<FileNet>,
    source: Option<SourceMatch>,
    interface: Option<InterfacePattern>,
    peer_type: Option<PeerType>,
    med: Option<FileRange>,
    local_pref: Option<FileRange>,
    origin: Option<FileOrigin>,
    set_local_pref: Option<u32>,
    add_local_pref: Option<i64>,
    set_med: Option<u32>,
    add_med: Option<i64>,
    set_weight: Option<u32>,
    set_origin: Option<FileOrigin>,
    set_next_hop: Option<FileNextHop>,
    set_communities: Option<Vec<One<Community>>>,
    #[serde(default)]
    add_communities: Vec<One<Community>>,
    #[serde(default)]
    remove_communities: Vec<CommunityPattern>,
    set_large_communities: Option<Vec<One<LargeCommunity>>>,
    #[serde(default)]
    add_large_communities: Vec<One<LargeCommunity>>,
    #[serde(default)]
    remove_large_communities: Vec<LargeCommunityPattern>,
    set_extended_communities: Option<Vec<One<ExtendedCommunity>>>,
    #[serde(default)]
    add_extended_communities: Vec<One<ExtendedCommunity>>,
    #[serde(default)]
    remove_extended_communities: Vec<ExtendedCommunityPattern>,
    #[serde(default)]
    prepend: Vec<u32>,
    #[serde(default)]
    prepend_own: u8,
}

impl FilePolicy {
    fn policy(&self) -> Result<Policy, Fault> {
        let mut rules = Vec::with_capacity(self.rule.len());
        for rule in &self.rule {
            let start = rule.span().start;
            rules.push(rule.get_ref().rule().map_err(|reason| (start, reason))?);
        }
        let policy = Policy::rules(rules, self.default);
        policy.validate().map_err(|error| {
            let rule = error.position.checked_sub(1).and_then(|at| self.rule.get(at));
            let start = rule.map_or(self.name.span().start, |rule| rule.span().start);
            (start, format!("policy {:?} {error}", self.name.get_ref()))
        })?;
        Ok(policy)
    }
}

/// The policies of a file, by name.
pub(super) struct Policies(BTreeMap<String, Policy>);

impl Policies {
    pub(super) fn read(file: &[FilePolicy]) -> Result<Self, Fault> {
        let mut policies = BTreeMap::new();
        for entry in file {
            let (name, start) = (entry.name.get_ref(), entry.name.span().start);
            if [ACCEPT, REJECT, ""].contains(&name.as_str()) {
                return Err((start, format!("policy {name:?}: choose another name")));
            }
            if policies.insert(name.clone(), entry.policy()?).is_some() {
                return Err((start, format!("policy {name:?} is there twice: rename one")));
            }
        }
        Ok(Self(policies))
    }

    /// The policy that a neighbour names.
    pub(super) fn find(&self, name: &Spanned<String>) -> Result<Policy, Fault> {
        match name.get_ref().as_str() {
            ACCEPT => Ok(Policy::Accept),
            REJECT => Ok(Policy::Reject),
            other => self.0.get(other).cloned().ok_or_else(|| {
                let reason = format!(
                    "must be \"accept\", \"reject\" or the name of a [[policy]], which {other:?} is not"
                );
                (name.span().start, reason)
            }),
        }
    }
}

impl FileRule {
    fn rule(&self) -> Result<Rule, String> {
        if self.prefix.is_none() && (self.operator.is_some() || self.min_length.or(self.max_length).is_some())
        {
            return Err("operator, min-length and max-length need a prefix".to_owned());
        }
        Ok(Rule {
            name: self.name.clone(),
            matches: self.matches(),
            action: self.action,
            changes: self.changes()?,
        })
    }

    fn matches(&self) -> Match {
        Match {
            family: self.family,
            prefix: self.prefix.map(|net| PrefixMatch {
                operator: self.operator.unwrap_or_default(),
                net,
                min_length: self.min_length,
                max_length: self.max_length,
            }),
            communities: self.communities.clone(),
            large_communities: self.large_communities.clone(),
            extended_communities: self.extended_communities.clone(),
            as_path: self.as_path.clone(),
            as_path_length: self.as_path_length.map(|range| range.0),
            next_hop: self.next_hop.map(|net| net.0),
            neighbor: self.neighbor.map(|net| net.0),
            source: self.source,
            interface: self.interface.clone(),
            peer_type: self.peer_type,
            med: self.med.map(|range| range.0),
            local_pref: self.local_pref.map(|range| range.0),
            origin: self.origin.map(Origin::from),
        }
    }

    fn changes(&self) -> Result<Changes, String> {
        let number = |name: &str, set: Option<u32>, add: Option<i64>| match (set, add) {
            (Some(_), Some(_)) => Err(format!("set-{name} and add-{name} exclude each other")),
            (Some(value), None) => Ok(Some(Number::Set(value))),
            (None, add) => Ok(add.map(Number::Add)),
        };
        let (remove_communities, add_communities) = exchange(
            (&self.set_communities, CommunityPattern::ANY),
            &self.remove_communities,
            &self.add_communities,
        );
        let (remove_large_communities, add_large_communities) = exchange(
            (&self.set_large_communities, LargeCommunityPattern::ANY),
            &self.remove_large_communities,
            &self.add_large_communities,
        );
        let (remove_extended_communities, add_extended_communities) = exchange(
            (&self.set_extended_communities, ExtendedCommunityPattern::ANY),
            &self.remove_extended_communities,
            &self.add_extended_communities,
        );
        Ok(Changes {
            local_pref: number("local-pref", self.set_local_pref, self.add_local_pref)?,
            med: number("med", self.set_med, self.add_med)?,
            weight: self.set_weight,
            origin: self.set_origin.map(Origin::from),
            next_hop: self.set_next_hop.map(|hop| hop.0),
            remove_communities,
            add_communities,
            remove_large_communities,
            add_large_communities,
            remove_extended_communities,
            add_extended_communities,
            prepend: self.prepend.clone(),
            prepend_own: self.prepend_own,
        })
    }
}

/// What is removed and added; `set` removes all.
fn exchange<P: Copy, C: Copy>(
    (set, any): (&Option<Vec<One<C>>>, P),
    remove: &[P],
    add: &[One<C>],
) -> (Vec<P>, Vec<C>) {
    let removed = set.iter().map(|_| any).chain(remove.iter().copied()).collect();
    let added = set.iter().flatten().chain(add).map(|one| one.0).collect();
    (removed, added)
}

/// A community that is not a pattern.
#[derive(Clone, Copy)]
pub(super) struct One<C>(pub(super) C);

macro_rules! one {
    ($($community:ty, $pattern:ty;)*) => {$(
        impl<'de> Deserialize<'de> for One<$community> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let pattern = <$pattern>::deserialize(deserializer)?;
                let one = pattern.exact().map(One);
                one.ok_or_else(|| D::Error::custom(format!("{pattern}: a wildcard cannot be added")))
            }
        }
    )*};
}

one! {
    Community, CommunityPattern;
    LargeCommunity, LargeCommunityPattern;
    ExtendedCommunity, ExtendedCommunityPattern;
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileOrigin {
    Igp,
    Egp,
    Incomplete,
}

impl From<FileOrigin> for Origin {
    fn from(origin: FileOrigin) -> Self {
        match origin {
            FileOrigin::Igp => Self::Igp,
            FileOrigin::Egp => Self::Egp,
            FileOrigin::Incomplete => Self::Incomplete,
        }
    }
}

/// A net, or an address alone.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct FileNet(Prefix);

impl TryFrom<String> for FileNet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let net = text.parse::<Prefix>().ok();
        let address = || IpAddr::from_str(&text).ok().map(Prefix::from);
        net.or_else(address)
            .map(|net| Self(net.trunc()))
            .ok_or_else(|| format!("{text:?} is neither an address nor a prefix such as 10.0.0.0/8"))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct FileNextHop(NextHopChange);

impl TryFrom<String> for FileNextHop {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(Self(match text.as_str() {
            "self" => NextHopChange::SelfAddress,
            "unchanged" => NextHopChange::Unchanged,
            address => NextHopChange::Address(
                address
                    .parse()
                    .map_err(|_| format!("{text:?} is neither an address nor \"self\" nor \"unchanged\""))?,
            ),
        }))
    }
}

/// A number, or `"FIRST-LAST"`.
#[derive(Clone, Copy)]
struct FileRange(Range);

impl<'de> Deserialize<'de> for FileRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RangeVisitor)
    }
}

struct RangeVisitor;

impl Visitor<'_> for RangeVisitor {
    type Value = FileRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number up to 4294967295, or a range such as \"10-20\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<FileRange, E> {
        let number = u32::try_from(number)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))?;
        Ok(FileRange(Range::only(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FileRange, E> {
        let ends = text
            .split_once('-')
            .and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
        let (min, max) = ends.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        Ok(FileRange(Range { min, max }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CommunityKind {
    Standard,
    Extended,
    Large,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, FileError, PrivateAs, parse_file};

    const GOOD: &str = r#"
[global]
as = 65001
router-id = "10.0.0.1"

[selection]
multipath = 4
multipath-eibgp = true
missing-med-worst = true

[[policy]]
name = "to-tor"
default = "reject"

[[policy.rule]]
name = "own blocks"
action = "accept"
prefix = "10.65.0.0/16"
min-length = 26
max-length = 26
source = "own"
set-communities = ["65001:1", "no-export"]
add-large-communities = ["65001:1:2"]
prepend-own = 2

[[policy.rule]]
action = "continue"
family = "ipv6"
communities = ["65002:*", "blackhole"]
large-communities = ["1:*:*"]
extended-communities = ["rt:65000:*"]
as-path = "65002 * 64512-65534"
as-path-length = "1-3"
next-hop = "10.0.0.2"
neighbor = "10.0.0.0/24"
peer-type = "ebgp"
med = 10
local-pref = "100-200"
origin = "igp"
add-local-pref = -10
set-med = 5
set-weight = 7
set-origin = "incomplete"
set-next-hop = "self"
remove-communities = ["65002:*"]
remove-extended-communities = ["*"]
add-extended-communities = ["ro:10.0.0.1:5"]
prepend = [65009, 65008]

[[neighbor]]
address = "10.0.0.2"
as = 65002
import = "accept"
export = "to-tor"
weight = 3
local-pref = 150
enforce-first-as = true
graceful-shutdown = false
blackhole = true
drain = true
as-override = true
private-as = "replace"
send-communities = ["standard", "large"]
client-to-client = false

[[aggregate]]
prefix = "10.64.0.0/10"
summary-only = true
communities = ["65001:8"]

[[network]]
prefix = "10.65.0.0/26"
local-pref = 300
communities = ["65001:9"]
"#;

    fn parse(text: &str) -> Result<Config, FileError> {
        parse_file(Path::new("bgpd.toml"), text)
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(GOOD).unwrap();
        let selection = &config.selection;
        assert_eq!(
            (
                selection.multipath_max,
                selection.multipath_eibgp,
                selection.missing_med_worst
            ),
            (4, true, true)
        );
        let neighbor = &config.neighbors[0];
        let (import, export) = (&neighbor.routing.import, &neighbor.routing.export);
        assert_eq!((import.weight, import.local_pref), (Some(3), Some(150)));
        assert!(import.enforce_first_as && import.accept_blackhole && !import.honor_graceful_shutdown);
        assert!(neighbor.routing.drain && export.as_override && !export.client_to_client);
        assert!(export.communities && export.large_communities && !export.extended_communities);
        assert_eq!(export.private_as, PrivateAs::Replace);
        assert_eq!(config.networks[0].local_pref, Some(300));
        let aggregate = &config.aggregates[0];
        assert_eq!(
            (aggregate.summary_only, aggregate.communities.as_slice()),
            (true, [Community::new(65001, 8)].as_slice())
        );
        let Policy::Rules(set) = &neighbor.export else {
            panic!("rules")
        };
        let [own, other] = set.rules() else {
            panic!("two rules")
        };
        assert_eq!(own.name.as_deref(), Some("own blocks"));
        assert_eq!(own.matches.source, Some(SourceMatch::Own));
        assert_eq!(own.changes.remove_communities, [CommunityPattern::ANY]);
        assert_eq!(
            own.changes.add_communities,
            [Community::new(65001, 1), Community::NO_EXPORT]
        );
        assert_eq!(
            (own.changes.prepend_own, set.default_verdict()),
            (2, Verdict::Reject)
        );
        assert_eq!(other.matches.med, Some(Range::only(10)));
        assert_eq!(other.matches.local_pref, Some(Range { min: 100, max: 200 }));
        assert_eq!(other.matches.next_hop, "10.0.0.2/32".parse().ok());
        assert_eq!(other.changes.local_pref, Some(Number::Add(-10)));
        assert_eq!(other.changes.next_hop, Some(NextHopChange::SelfAddress));
        assert_eq!(other.changes.prepend, [65009, 65008]);
    }

    #[test]
    fn errors_name_line_policy_and_rule() {
        let cases = [
            (
                "default = \"reject\"",
                "default = \"maybe\"",
                "bgpd.toml:13: unknown variant `maybe`",
            ),
            (
                "max-length = 26",
                "max-length = 33",
                "bgpd.toml:15: policy \"to-tor\" rule 1 \"own blocks\": the prefix lengths",
            ),
            (
                "prefix = \"10.65.0.0/16\"\n",
                "",
                "bgpd.toml:15: operator, min-length and max-length need a prefix",
            ),
            (
                "add-local-pref = -10",
                "add-local-pref = 1\nset-local-pref = 1",
                "bgpd.toml:26: set-local-pref and add-local-pref",
            ),
            (
                "\"65002:*\", \"blackhole\"",
                "\"65002\"",
                "bgpd.toml:29: \"65002\": must be a community",
            ),
            (
                "set-communities = [\"65001:1\"",
                "set-communities = [\"65001:*\"",
                "bgpd.toml:22: 65001:*: a wildcard cannot be added",
            ),
            (
                "med = 10",
                "med = \"x\"",
                "bgpd.toml:37: invalid value: string \"x\", expected a number",
            ),
            (
                "export = \"to-tor\"",
                "export = \"to-spine\"",
                "bgpd.toml:54: must be \"accept\"",
            ),
            (
                "name = \"to-tor\"",
                "name = \"accept\"",
                "bgpd.toml:12: policy \"accept\": choose another name",
            ),
            (
                "multipath = 4",
                "multipath = 0",
                "bgpd.toml:2: global selection multipath: must be 1..256",
            ),
            (
                "as = 65002",
                "as = 65001",
                "bgpd.toml:50: neighbor 10.0.0.2 local-pref: is for neighbors in other ASes",
            ),
            (
                "10.64.0.0/10",
                "10.65.0.0/26",
                "bgpd.toml:66: aggregate 10.65.0.0/26: is a network too",
            ),
            (
                "blackhole = true",
                "prepend-local-as = true",
                "bgpd.toml:50: neighbor 10.0.0.2 prepend-local-as: needs a local-as",
            ),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            let message = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(
                message.starts_with(expected),
                "{message:?} does not start with {expected:?}"
            );
        }
    }
}
