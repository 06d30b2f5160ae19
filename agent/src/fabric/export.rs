//! What may leave a node, and what it takes: the policies of every session.

use std::collections::BTreeSet;

use api::v3::BgpConfigurationSpec;
use bgpd::policy::{Changes, Match, Policy, PrefixMatch, Range, Rule, RuleAction, Verdict};
use ipnet::IpNet;

use super::filters::{self, AnyCommunity, Direction};
use super::{Local, PRIORITY_SCALE, Resources, default_configuration, is_reflector, normal_priority};

/// Interfaces of tunnels between nodes: what they lead to, nodes of this AS know better.
const TUNNEL_INTERFACES: [&str; 2] = ["*.cali", "*.calico"];
/// Interfaces of the dataplane itself.
const DATAPLANE_INTERFACES: &str = "bpf*.cali";

/// The pools with a CIDR that parses, and whether their prefixes may be announced.
pub(super) fn pools(resources: &Resources) -> impl Iterator<Item = (&str, IpNet, bool)> {
    resources.pools.iter().filter_map(|(name, pool)| {
        Some((
            name.as_str(),
            pool.spec.cidr.parse::<IpNet>().ok()?.trunc(),
            !pool.spec.disable_bgp_export,
        ))
    })
}

/// The rules that every session of a family ends with, computed once.
#[derive(Debug, Clone)]
pub(super) struct BaseRules {
    v4: Vec<Rule>,
    v6: Vec<Rule>,
}

impl BaseRules {
    pub(super) fn new(resources: &Resources, local: &Local<'_>, problems: &mut Vec<String>) -> Self {
        for (name, pool) in &resources.pools {
            if let Err(error) = pool.spec.cidr.parse::<IpNet>() {
                problems.push(format!(
                    "IPPool({name}) spec.cidr = '{}': {error}: not announced",
                    pool.spec.cidr
                ));
            }
        }
        let mut of_family = |v4: bool| export_rules(resources, local, v4, problems);
        Self {
            v4: of_family(true),
            v6: of_family(false),
        }
    }

    /// What a session is told: filters first, in order; then what Calico announces; nothing else.
    pub(super) fn export(
        &self,
        resources: &Resources,
        filters: &[String],
        v4: bool,
        problems: &mut Vec<String>,
    ) -> Policy {
        let mut rules = filters::rules(resources, filters, Direction::Export, v4, problems);
        rules.extend_from_slice(if v4 { &self.v4 } else { &self.v6 });
        Policy::rules(rules, Verdict::Reject)
    }
}

/// What is taken from a session: what the filters let pass; everything, where they say nothing.
pub(super) fn import(
    resources: &Resources,
    filters: &[String],
    v4: bool,
    problems: &mut Vec<String>,
) -> Policy {
    let rules = filters::rules(resources, filters, Direction::Import, v4, problems);
    if rules.is_empty() {
        Policy::Accept
    } else {
        Policy::rules(rules, Verdict::Accept)
    }
}

/// In order: nothing from pools that are not exported; within the AS nothing that leads into tunnels; communities of
/// prefix advertisements; own blocks as aggregates and nothing inside them, unless it has a higher priority than normal
/// (a workload that is moving here); on reflectors, service addresses; whatever else lies in a pool.
fn export_rules(resources: &Resources, local: &Local<'_>, v4: bool, problems: &mut Vec<String>) -> Vec<Rule> {
    let of_family = |net: &IpNet| net.addr().is_ipv4() == v4;
    let pools: Vec<_> = pools(resources).filter(|(_, cidr, _)| of_family(cidr)).collect();
    let hidden = pools.iter().filter(|(_, _, exported)| !exported);
    let mut rules: Vec<Rule> = hidden
        .map(|(name, cidr, _)| {
            Rule::inside(*cidr, RuleAction::Reject).named(format!("IPPool({name}) disableBGPExport"))
        })
        .collect();
    let interfaces = TUNNEL_INTERFACES.map(|pattern| (pattern, Some(bgpd::policy::PeerType::Ibgp)));
    for (pattern, peer_type) in interfaces.into_iter().chain([(DATAPLANE_INTERFACES, None)]) {
        let matches = Match {
            peer_type,
            interface: pattern.parse().ok(),
            ..Match::default()
        };
        rules.push(Rule::new(matches, RuleAction::Reject).named(format!("interface {pattern}")));
    }
    rules.extend(advertised_communities(resources, local, v4, problems));
    let raised = PRIORITY_SCALE.saturating_sub(normal_priority(resources, v4));
    for block in resources.blocks.iter().filter(|block| of_family(block)) {
        rules.push(Rule::exact(*block, RuleAction::Accept).named(format!("own block {block}")));
        let moving = Match {
            local_pref: Some(Range {
                min: raised.saturating_add(1),
                max: u32::MAX,
            }),
            ..Match::prefix(PrefixMatch::inside(*block))
        };
        let moving = Rule::new(moving, RuleAction::Accept);
        rules.push(moving.named(format!("in own block {block}, with raised priority")));
        rules.push(Rule::inside(*block, RuleAction::Reject).named(format!("part of own block {block}")));
    }
    if is_reflector(local.node)
        && let Some(spec) = default_configuration(resources)
    {
        for (field, ranges) in [
            ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
            ("serviceExternalIPs", &spec.service_external_ips),
        ] {
            let nets = ranges.iter().filter_map(|range| range.cidr.parse::<IpNet>().ok());
            for net in nets.filter(of_family) {
                rules.push(Rule::inside(net.trunc(), RuleAction::Accept).named(format!("{field} {net}")));
            }
        }
    }
    let exported = pools.iter().filter(|(_, _, exported)| *exported);
    rules.extend(
        exported
            .map(|(name, cidr, _)| Rule::inside(*cidr, RuleAction::Accept).named(format!("IPPool({name})"))),
    );
    rules
}

/// The communities that prefixes are announced with: those of this node's own configuration for the family, if it has
/// any, else the fabric's.
fn advertised_communities(
    resources: &Resources,
    local: &Local<'_>,
    v4: bool,
    problems: &mut Vec<String>,
) -> Vec<Rule> {
    let own = format!("node.{}", local.name);
    [own.as_str(), "default"]
        .into_iter()
        .filter_map(|name| Some((name, &resources.configurations.get(name)?.spec)))
        .map(|(name, spec)| communities_of(name, spec, v4, problems))
        .find(|(any, _)| *any)
        .map(|(_, rules)| rules)
        .unwrap_or_default()
}

/// Whether a configuration has advertisements of the family, and the rules of those that have communities.
fn communities_of(
    name: &str,
    spec: &BgpConfigurationSpec,
    v4: bool,
    problems: &mut Vec<String>,
) -> (bool, Vec<Rule>) {
    let mut any = false;
    let mut rules = Vec::new();
    for (i, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let field = format!("BGPConfiguration({name}) spec.prefixAdvertisements[{i}]");
        let net = match advertisement.cidr.parse::<IpNet>() {
            Ok(net) => net.trunc(),
            Err(error) => {
                problems.push(format!(
                    "{field}.cidr = '{}': {error}: left out",
                    advertisement.cidr
                ));
                continue;
            }
        };
        if net.addr().is_ipv4() != v4 {
            continue;
        }
        any = true;
        let mut wanted = BTreeSet::new();
        for text in &advertisement.communities {
            let named = spec.communities.iter().find(|community| community.name == *text);
            match filters::community(named.map_or(text.as_str(), |community| &community.value)) {
                Ok(community) => drop(wanted.insert(community)),
                Err(reason) => problems.push(format!(
                    "{field}.communities: {reason}, or the name of one: left out"
                )),
            }
        }
        if wanted.is_empty() {
            continue;
        }
        let mut changes = Changes::default();
        for community in wanted {
            match community {
                AnyCommunity::Standard(community) => changes.add_communities.push(community),
                AnyCommunity::Large(community) => changes.add_large_communities.push(community),
            }
        }
        rules.push(Rule {
            changes,
            ..Rule::inside(net, RuleAction::Continue).named(format!("prefixAdvertisements {net}"))
        });
    }
    (any, rules)
}
