//! BGP filters as rules of the speaker's policies.

use std::fmt::Display;

use api::v3::bgp_filter::{
    BgpFilter, FilterAction, FilterOperation, FilterPeerType, FilterRule, FilterSource, MatchOperator,
};
use bgpd::policy::{
    Changes, CommunityPattern, LargeCommunityPattern, Match, Number, PeerType, Policy, PrefixMatch,
    PrefixOperator, Range, Rule, RuleAction, SourceMatch, Verdict,
};
use bgpd::wire::{Community, LargeCommunity};
use ipnet::IpNet;

use super::{PRIORITY_SCALE, Resources};

/// Which rules of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// For routes that come in.
    Import,
    /// For routes that go out.
    Export,
}

/// The rules of the named filters, in order, for sessions of one family. Filters that are not there are passed over,
/// as in Calico; what cannot be understood in one is a problem, and that rule is left out.
pub(super) fn rules(
    resources: &Resources,
    names: &[String],
    direction: Direction,
    v4: bool,
    problems: &mut Vec<String>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for name in names {
        let Some(filter) = resources.filters.get(name) else {
            note(
                problems,
                format!("BGPFilter({name}) is not there: peers that name it go without it"),
            );
            continue;
        };
        let (field, listed) = listed(filter, direction, v4);
        for (i, wanted) in listed.iter().enumerate() {
            let id = format!("BGPFilter({name}) {field}[{i}]");
            let read = rule(wanted, &id).and_then(|rule| {
                let alone = Policy::rules([rule.clone()], Verdict::Reject);
                alone.validate().map(|()| rule).map_err(|error| error.reason)
            });
            match read {
                Ok(rule) => rules.push(rule),
                Err(reason) => note(problems, format!("{id}: {reason}: the rule is left out")),
            }
        }
    }
    rules
}

fn listed(filter: &BgpFilter, direction: Direction, v4: bool) -> (&'static str, &[FilterRule]) {
    let spec = &filter.spec;
    match (direction, v4) {
        (Direction::Export, true) => ("exportV4", &spec.export_v4),
        (Direction::Import, true) => ("importV4", &spec.import_v4),
        (Direction::Export, false) => ("exportV6", &spec.export_v6),
        (Direction::Import, false) => ("importV6", &spec.import_v6),
    }
}

/// The same problem is met on each session.
fn note(problems: &mut Vec<String>, problem: String) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

fn rule(rule: &FilterRule, id: &str) -> Result<Rule, String> {
    let action = match rule.action {
        Some(FilterAction::Accept) => RuleAction::Accept,
        Some(FilterAction::Reject) => RuleAction::Reject,
        None => return Err("action is missing".to_owned()),
    };
    let mut matches = Match {
        prefix: prefix(rule)?,
        source: rule.source.map(|FilterSource::RemotePeers| SourceMatch::Learned),
        peer_type: rule.peer_type.map(|kind| match kind {
            FilterPeerType::Ebgp => PeerType::Ebgp,
            FilterPeerType::Ibgp => PeerType::Ibgp,
        }),
        local_pref: rule.priority.map(local_pref).transpose()?.map(Range::only),
        ..Match::default()
    };
    if !rule.interface.is_empty() {
        matches.interface = Some(rule.interface.parse().map_err(text)?);
    }
    if !rule.as_path_prefix.is_empty() {
        let mut words: Vec<String> = rule.as_path_prefix.iter().map(ToString::to_string).collect();
        words.push("*".to_owned());
        matches.as_path = Some(words.join(" ").parse().map_err(text)?);
    }
    for value in rule
        .communities
        .iter()
        .flat_map(|communities| &communities.values)
    {
        match community(value)? {
            AnyCommunity::Standard(community) => matches.communities.push(CommunityPattern::from(community)),
            AnyCommunity::Large(community) => matches.large_communities.push(LargeCommunityPattern {
                global: Some(community.global),
                local1: Some(community.local1),
                local2: Some(community.local2),
            }),
        }
    }
    Ok(Rule {
        changes: changes(&rule.operations)?,
        ..Rule::new(matches, action).named(id)
    })
}

fn prefix(rule: &FilterRule) -> Result<Option<PrefixMatch>, String> {
    if rule.cidr.is_empty() {
        return Ok(None);
    }
    let net: IpNet = rule
        .cidr
        .parse()
        .map_err(|error| format!("cidr '{}': {error}", rule.cidr))?;
    let operator = match rule.match_operator {
        Some(MatchOperator::Equal) => PrefixOperator::Equal,
        Some(MatchOperator::NotEqual) => PrefixOperator::NotEqual,
        Some(MatchOperator::In) => PrefixOperator::In,
        Some(MatchOperator::NotIn) => PrefixOperator::NotIn,
        None => return Err("matchOperator is missing".to_owned()),
    };
    let length =
        |length: i32| u8::try_from(length).map_err(|_| format!("prefixLength {length}: out of range"));
    let lengths = rule.prefix_length.unwrap_or_default();
    Ok(Some(PrefixMatch {
        min_length: lengths.min.map(length).transpose()?,
        max_length: lengths.max.map(length).transpose()?,
        ..PrefixMatch::new(operator, net.trunc())
    }))
}

/// The LOCAL_PREF of a priority.
fn local_pref(priority: i64) -> Result<u32, String> {
    u32::try_from(priority)
        .ok()
        .and_then(|priority| PRIORITY_SCALE.checked_sub(priority))
        .ok_or_else(|| format!("priority {priority}: out of range"))
}

/// All operations at once: what is added is a set, the last priority counts, and of several prefixes the last one
/// comes first.
fn changes(operations: &[FilterOperation]) -> Result<Changes, String> {
    let mut changes = Changes::default();
    for operation in operations {
        if let Some(add) = &operation.add_community {
            match community(&add.value)? {
                AnyCommunity::Standard(community) => changes.add_communities.push(community),
                AnyCommunity::Large(community) => changes.add_large_communities.push(community),
            }
        }
        if let Some(prepend) = &operation.prepend_as_path {
            let front = prepend.prefix.iter().map(|number| number.0);
            changes.prepend = front.chain(changes.prepend).collect();
        }
        if let Some(set) = &operation.set_priority {
            changes.local_pref = Some(Number::Set(local_pref(set.value)?));
        }
    }
    Ok(changes)
}

/// A community as resources write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AnyCommunity {
    /// `aa:nn`.
    Standard(Community),
    /// `aa:nn:mm`.
    Large(LargeCommunity),
}

pub(super) fn community(value: &str) -> Result<AnyCommunity, String> {
    let wrong = || format!("community '{value}': write aa:nn or aa:nn:mm");
    let parts: Vec<&str> = value.split(':').collect();
    let large = |part: &str| part.parse::<u32>().map_err(|_| wrong());
    let standard = |part: &str| part.parse::<u16>().map_err(|_| wrong());
    match parts.as_slice() {
        [high, low] => Ok(AnyCommunity::Standard(Community::new(
            standard(high)?,
            standard(low)?,
        ))),
        [global, local1, local2] => Ok(AnyCommunity::Large(LargeCommunity {
            global: large(global)?,
            local1: large(local1)?,
            local2: large(local2)?,
        })),
        _ => Err(wrong()),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
