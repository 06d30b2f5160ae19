//! The slow, obvious evaluator: v3 resources and a packet in, a verdict out, from scratch every time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::selector::{Selector, effective};
use api::v3::policy::PolicyType;
use api::v3::rule::{Action, EntityRule, Rule};
use api::v3::tier::TierDefaultAction;
use api::{AnyResource, Kind, Port};
use ipnet::IpNet;
use policy_engine::output::{Direction, RuleId};
use policy_engine::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, Packet};

/// Resources by kind, namespace and name.
pub type Resources = BTreeMap<(Kind, String, String), AnyResource>;

type Labels = BTreeMap<String, String>;

/// What the oracle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub allowed: bool,
    pub decided_by: RuleId,
    pub logged: Vec<RuleId>,
}

struct Policy<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    tier: &'a str,
    order: f64,
    rules: &'a [Rule],
}

/// Judges a packet for one endpoint and direction.
pub fn judge(
    all: &Resources,
    endpoint: &(Kind, String, String),
    direction: Direction,
    packet: &Packet,
) -> Judgement {
    let AnyResource::WorkloadEndpoint(workload) = &all[endpoint] else {
        panic!("not an endpoint")
    };
    let labels = labels_of(all, &all[endpoint]);
    let mut logged = Vec::new();
    for (tier, passes, policies) in tiers_for(all, &labels, direction) {
        let mut passed = false;
        'tier: for policy in &policies {
            for (index, rule) in policy.rules.iter().enumerate() {
                if !matches(all, policy.namespace, rule, packet) {
                    continue;
                }
                let id = RuleId::Policy {
                    tier: tier.clone(),
                    kind: policy.kind.into(),
                    namespace: policy.namespace.into(),
                    name: policy.name.into(),
                    index: index as u32,
                };
                match rule.action.unwrap() {
                    Action::Allow => {
                        return Judgement {
                            allowed: true,
                            decided_by: id,
                            logged,
                        };
                    }
                    Action::Deny => {
                        return Judgement {
                            allowed: false,
                            decided_by: id,
                            logged,
                        };
                    }
                    Action::Log => logged.push(id),
                    Action::Pass => {
                        passed = true;
                        break 'tier;
                    }
                }
            }
        }
        if !passed && !passes {
            return Judgement {
                allowed: false,
                decided_by: RuleId::EndOfTier { tier },
                logged,
            };
        }
    }
    for name in &workload.spec.profiles {
        let rules = match (
            all.get(&(Kind::Profile, String::new(), name.clone())),
            name.as_str(),
        ) {
            (Some(AnyResource::Profile(profile)), _) if direction == Direction::Ingress => {
                profile.spec.ingress.clone()
            }
            (Some(AnyResource::Profile(profile)), _) => profile.spec.egress.clone(),
            (_, "projectcalico-default-allow") => vec![Rule::matching_all(Action::Allow)],
            _ => break,
        };
        for (index, rule) in rules.iter().enumerate() {
            if !matches(all, "", rule, packet) {
                continue;
            }
            let id = RuleId::Profile {
                name: name.clone(),
                index: index as u32,
            };
            match rule.action.unwrap() {
                Action::Allow => {
                    return Judgement {
                        allowed: true,
                        decided_by: id,
                        logged,
                    };
                }
                Action::Deny | Action::Pass => {
                    return Judgement {
                        allowed: false,
                        decided_by: id,
                        logged,
                    };
                }
                Action::Log => logged.push(id),
            }
        }
    }
    Judgement {
        allowed: false,
        decided_by: RuleId::EndOfProfiles,
        logged,
    }
}

/// Tiers with an applicable policy, in order: name, whether its end passes, policies in order.
fn tiers_for<'a>(
    all: &'a Resources,
    labels: &Labels,
    direction: Direction,
) -> Vec<(String, bool, Vec<Policy<'a>>)> {
    let mut policies: Vec<Policy<'a>> = Vec::new();
    for resource in all.values() {
        let (policy, selector, types) = match resource {
            AnyResource::NetworkPolicy(p) => (
                Policy {
                    kind: "NetworkPolicy",
                    namespace: &p.metadata.namespace,
                    name: &p.metadata.name,
                    tier: &p.spec.tier,
                    order: p.spec.order.unwrap_or(f64::INFINITY),
                    rules: if direction == Direction::Ingress {
                        &p.spec.ingress
                    } else {
                        &p.spec.egress
                    },
                },
                effective::network_policy(
                    &p.metadata.namespace,
                    &p.spec.selector,
                    &p.spec.service_account_selector,
                ),
                types(&p.spec.types, &p.spec.ingress, &p.spec.egress),
            ),
            AnyResource::GlobalNetworkPolicy(p) if !p.spec.do_not_track && !p.spec.pre_dnat => (
                Policy {
                    kind: "GlobalNetworkPolicy",
                    namespace: "",
                    name: &p.metadata.name,
                    tier: &p.spec.tier,
                    order: p.spec.order.unwrap_or(f64::INFINITY),
                    rules: if direction == Direction::Ingress {
                        &p.spec.ingress
                    } else {
                        &p.spec.egress
                    },
                },
                effective::global_network_policy(
                    &p.spec.selector,
                    &p.spec.namespace_selector,
                    &p.spec.service_account_selector,
                ),
                types(&p.spec.types, &p.spec.ingress, &p.spec.egress),
            ),
            _ => continue,
        };
        let wanted = if direction == Direction::Ingress {
            PolicyType::Ingress
        } else {
            PolicyType::Egress
        };
        if types.contains(&wanted) && Selector::parse(&selector).unwrap().matches(labels) {
            policies.push(policy);
        }
    }
    policies.sort_by(|a, b| {
        let tie = |p: &Policy<'_>| format!("{}/{}/{}", p.name, p.namespace, p.kind);
        a.order
            .partial_cmp(&b.order)
            .unwrap()
            .then_with(|| tie(a).cmp(&tie(b)))
    });
    let tier_of = |p: &Policy<'_>| {
        if p.tier.is_empty() {
            "default".to_owned()
        } else {
            p.tier.to_owned()
        }
    };
    let mut tiers: BTreeMap<String, Vec<Policy<'a>>> = BTreeMap::new();
    for policy in policies {
        tiers.entry(tier_of(&policy)).or_default().push(policy);
    }
    let mut ordered: Vec<(bool, f64, String, bool, Vec<Policy<'a>>)> = tiers
        .into_iter()
        .map(
            |(name, policies)| match all.get(&(Kind::Tier, String::new(), name.clone())) {
                Some(AnyResource::Tier(tier)) => (
                    false,
                    tier.spec.order.unwrap_or(f64::INFINITY),
                    name,
                    tier.spec.default_action == Some(TierDefaultAction::Pass),
                    policies,
                ),
                _ => (true, f64::INFINITY, name, false, policies),
            },
        )
        .collect();
    ordered.sort_by(|a, b| (a.0, a.1, &a.2).partial_cmp(&(b.0, b.1, &b.2)).unwrap());
    ordered
        .into_iter()
        .map(|(_, _, name, passes, policies)| (name, passes, policies))
        .collect()
}

fn types(types: &[PolicyType], ingress: &[Rule], egress: &[Rule]) -> Vec<PolicyType> {
    match (types.is_empty(), ingress.is_empty(), egress.is_empty()) {
        (false, _, _) => types.to_vec(),
        (true, true, false) => vec![PolicyType::Egress],
        (true, false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        _ => vec![PolicyType::Ingress],
    }
}

fn matches(all: &Resources, namespace: &str, rule: &Rule, packet: &Packet) -> bool {
    let v4 = packet.source.is_ipv4();
    let family = if v4 { 4 } else { 6 };
    if rule.ip_version.is_some_and(|v| v != family) {
        return false;
    }
    let number = |p: &api::Protocol| p.number().unwrap();
    if rule
        .protocol
        .as_ref()
        .is_some_and(|p| number(p) != packet.protocol)
        || rule
            .not_protocol
            .as_ref()
            .is_some_and(|p| number(p) == packet.protocol)
    {
        return false;
    }
    let icmp_protocol = if v4 { PROTOCOL_ICMP } else { PROTOCOL_ICMPV6 };
    let is_icmp = |fields: &api::v3::rule::IcmpFields| {
        packet.protocol == icmp_protocol
            && fields.r#type == Some(i64::from(packet.icmp.0))
            && fields.code.is_none_or(|code| code == i64::from(packet.icmp.1))
    };
    if rule.icmp.as_ref().is_some_and(|i| !is_icmp(i)) || rule.not_icmp.as_ref().is_some_and(is_icmp) {
        return false;
    }
    let protocol = rule.protocol.as_ref().map(number);
    side_matches(
        all,
        namespace,
        &rule.source,
        protocol,
        packet,
        packet.source,
        packet.source_port,
    ) && side_matches(
        all,
        namespace,
        &rule.destination,
        protocol,
        packet,
        packet.destination,
        packet.destination_port,
    )
}

fn side_matches(
    all: &Resources,
    namespace: &str,
    side: &EntityRule,
    protocol: Option<u8>,
    packet: &Packet,
    address: IpAddr,
    port: u16,
) -> bool {
    let nets = |texts: &[String]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let (inside, outside) = (nets(&side.nets), nets(&side.not_nets));
    let ours = |net: &&IpNet| net.addr().is_ipv4() == address.is_ipv4();
    // A list of which nothing is left for the family takes the rule with it.
    for list in [&inside, &outside] {
        if !list.is_empty() && list.iter().filter(ours).count() == 0 {
            return false;
        }
    }
    if !inside.is_empty() && !inside.iter().any(|net| net.contains(&address)) {
        return false;
    }
    if outside.iter().any(|net| net.contains(&address)) {
        return false;
    }

    let text = effective::entity(namespace, side);
    let positive = (!text.is_empty()).then_some(text);
    let negative = (!side.not_selector.is_empty()).then_some(side.not_selector.clone());
    let (positive, negative) = match (positive, negative) {
        (Some(p), Some(n)) => (Some(effective::merged(&p, &n)), None),
        other => other,
    };
    let owned_by = |selector: &str| {
        let selector = Selector::parse(selector).unwrap();
        owners(all).iter().any(|owner| {
            nets_of(owner).iter().any(|net| net.contains(&address))
                && selector.matches(&labels_of(all, owner))
        })
    };
    if positive.as_ref().is_some_and(|s| !owned_by(s)) || negative.as_ref().is_some_and(|s| owned_by(s)) {
        return false;
    }

    let has_ports = [6, 17, 132].contains(&packet.protocol);
    let is_port = |wanted: &Port| match wanted {
        Port::Range { min, max } => has_ports && *min <= port && port <= *max,
        Port::Named(name) => {
            protocol.is_none_or(|p| p == packet.protocol)
                && owners(all).iter().any(|owner| {
                    positive
                        .as_ref()
                        .is_none_or(|s| Selector::parse(s).unwrap().matches(&labels_of(all, owner)))
                        && nets_of(owner).iter().any(|net| net.contains(&address))
                        && ports_of(owner).contains(&(name.clone(), packet.protocol, port))
                })
        }
    };
    (side.ports.is_empty() || side.ports.iter().any(is_port)) && !side.not_ports.iter().any(is_port)
}

fn owners(all: &Resources) -> Vec<&AnyResource> {
    let owns = [
        Kind::WorkloadEndpoint,
        Kind::HostEndpoint,
        Kind::NetworkSet,
        Kind::GlobalNetworkSet,
    ];
    all.values()
        .filter(|resource| owns.contains(&resource.kind()))
        .collect()
}

fn nets_of(owner: &AnyResource) -> Vec<IpNet> {
    let texts = match owner {
        AnyResource::WorkloadEndpoint(e) => &e.spec.ip_networks,
        AnyResource::HostEndpoint(e) => &e.spec.expected_ips,
        AnyResource::NetworkSet(s) => &s.spec.nets,
        AnyResource::GlobalNetworkSet(s) => &s.spec.nets,
        _ => return Vec::new(),
    };
    let net = |text: &String| {
        text.parse::<IpNet>()
            .unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
            .trunc()
    };
    texts.iter().map(net).collect()
}

fn ports_of(owner: &AnyResource) -> Vec<(String, u8, u16)> {
    match owner {
        AnyResource::WorkloadEndpoint(e) => e
            .spec
            .ports
            .iter()
            .map(|p| (p.name.clone(), p.protocol.number().unwrap(), p.port))
            .collect(),
        AnyResource::HostEndpoint(e) => e
            .spec
            .ports
            .iter()
            .map(|p| (p.name.clone(), p.protocol.number().unwrap(), p.port))
            .collect(),
        _ => Vec::new(),
    }
}

fn labels_of(all: &Resources, owner: &AnyResource) -> Labels {
    let mut labels = owner.metadata().labels.clone();
    let profiles = match owner {
        AnyResource::WorkloadEndpoint(e) => {
            labels.retain(|name, _| !name.starts_with("pcns.") && !name.starts_with("pcsa."));
            if !e.spec.service_account_name.is_empty() {
                labels.insert(
                    "projectcalico.org/serviceaccount".into(),
                    e.spec.service_account_name.clone(),
                );
            }
            e.spec.profiles.clone()
        }
        AnyResource::HostEndpoint(e) => e.spec.profiles.clone(),
        AnyResource::NetworkSet(s) => {
            labels.insert("projectcalico.org/namespace".into(), s.metadata.namespace.clone());
            vec![format!("kns.{}", s.metadata.namespace)]
        }
        _ => Vec::new(),
    };
    for name in profiles {
        if let Some(AnyResource::Profile(profile)) = all.get(&(Kind::Profile, String::new(), name)) {
            for (label, value) in &profile.spec.labels_to_apply {
                labels.entry(label.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    labels
}
