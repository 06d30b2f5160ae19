//! Random resources and packets of a small universe, in which they meet often.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::v3::policy::PolicyType;
use api::v3::rule::{Action, EntityRule, IcmpFields, Rule, ServiceAccountMatch};
use api::v3::tier::TierDefaultAction;
use api::{
    AnyResource, GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, NetworkPolicy, NetworkSet, ObjectMeta,
    Port, Protocol, WorkloadEndpoint,
};
use policy_engine::{Input, Packet};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::build::{self, NODE};

const NAMESPACES: [&str; 2] = ["blue", "red"];
const TIERS: [&str; 4] = ["", "default", "first", "second"];
const PROFILES: [&str; 5] = [
    "kns.blue",
    "kns.red",
    "p1",
    "missing",
    "projectcalico-default-allow",
];
const SELECTORS: [&str; 13] = [
    "",
    "all()",
    "a == 'x'",
    "a != 'x'",
    "has(b)",
    "!has(a)",
    "b in {'x', 'y'} && has(a)",
    "a not in {'y'}",
    "a starts with 'x' || b == 'y'",
    "pcns.team == 'x'",
    "projectcalico.org/namespace == 'red'",
    "has(set)",
    "set == 'g1'",
];
const NETS: [&str; 10] = [
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.4/31",
    "10.0.0.1/32",
    "10.0.0.6/32",
    "0.0.0.0/0",
    "fd00::/64",
    "fd00::/126",
    "fd00::4/127",
    "fd00::1/128",
];
const NOT_NETS: [&str; 6] = [
    "10.0.0.0/30",
    "10.0.0.1/32",
    "10.0.0.4/31",
    "fd00::/126",
    "fd00::1/128",
    "fd00::4/127",
];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const PROTOCOLS: [u8; 6] = [1, 6, 17, 58, 132, 47];
const PORTS: [u16; 8] = [0, 1, 53, 79, 80, 81, 8080, 65535];

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(choices).prop_map(str::to_owned)
}

fn rarely<T: Clone + std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.2, strategy)
}

fn list(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        4 => Just(Vec::new()),
        1 => subsequence(choices.to_vec(), 1..=choices.len().min(3)).prop_map(|l| l.into_iter().map(str::to_owned).collect()),
    ]
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = prop_oneof![
        2 => (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(a, b)| Port::Range { min: a.min(b), max: a.max(b) }),
        2 => select(&PORTS[..]).prop_map(Port::single),
        2 => text(&PORT_NAMES).prop_map(Port::Named),
    ];
    prop_oneof![4 => Just(Vec::new()), 1 => vec(port, 1..3)]
}

fn side() -> impl Strategy<Value = EntityRule> {
    let selectors = (
        prop_oneof![2 => Just(String::new()), 2 => text(&SELECTORS)],
        prop_oneof![6 => Just(String::new()), 1 => text(&SELECTORS)],
        prop_oneof![
            6 => Just(String::new()),
            1 => text(&["all()", "global()", "team == 'x'", "projectcalico.org/name == 'red'"])
        ],
        rarely((
            list(&["sa1", "sa2"]),
            prop_oneof![Just(String::new()), text(&["role == 'x'"])],
        )),
    );
    (selectors, list(&NETS), list(&NOT_NETS), ports(), ports()).prop_map(
        |((selector, not_selector, namespace_selector, accounts), nets, not_nets, ports, not_ports)| {
            EntityRule {
                nets,
                selector,
                namespace_selector,
                services: None,
                ports,
                not_nets,
                not_selector,
                not_ports,
                service_accounts: accounts.map(|(names, selector)| ServiceAccountMatch { names, selector }),
            }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let icmp = || {
        (0..3i64, option::of(0..3i64)).prop_map(|(r#type, code)| IcmpFields {
            r#type: Some(r#type),
            code,
        })
    };
    let protocol = || select(&PROTOCOLS[..]).prop_map(Protocol::Number);
    (
        select(
            &[
                Action::Allow,
                Action::Allow,
                Action::Deny,
                Action::Deny,
                Action::Log,
                Action::Pass,
            ][..],
        ),
        rarely(select(&[4u8, 6][..])),
        option::of(protocol()),
        rarely(protocol()),
        rarely(icmp()),
        rarely(icmp()),
        side(),
        side(),
    )
        .prop_map(
            |(action, ip_version, protocol, not_protocol, icmp, not_icmp, source, destination)| Rule {
                action: Some(action),
                ip_version,
                protocol,
                not_protocol,
                icmp,
                not_icmp,
                source,
                destination,
                ..Rule::default()
            },
        )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 0..4)
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    btree_map(text(&["a", "b", "pcns.team"]), text(&["x", "y", "xy"]), 0..3)
}

fn addresses() -> impl Strategy<Value = Vec<String>> {
    vec((0..8u8, any::<bool>()), 0..3).prop_map(|hosts| {
        let address = |(host, v4)| {
            if v4 {
                format!("10.0.0.{host}/32")
            } else {
                format!("fd00::{host}/128")
            }
        };
        hosts.into_iter().map(address).collect()
    })
}

fn workload() -> impl Strategy<Value = AnyResource> {
    let ports = vec(
        (text(&PORT_NAMES), select(&[6u8, 17][..]), select(&PORTS[1..])),
        0..2,
    );
    (
        (
            select(&NAMESPACES[..]),
            select(&["w1", "w2", "w3"][..]),
            select(&[NODE, NODE, "host2"][..]),
        ),
        addresses(),
        labels(),
        subsequence(PROFILES.to_vec(), 0..3).prop_shuffle(),
        ports,
        prop_oneof![2 => Just(String::new()), 1 => text(&["sa1", "sa2"])],
    )
        .prop_map(
            |((namespace, name, node), addresses, labels, profiles, ports, account)| {
                let mut endpoint: WorkloadEndpoint = build::workload(namespace, name, node, &[], &[]);
                endpoint.metadata.labels.extend(labels);
                endpoint.spec.ip_networks = addresses;
                endpoint.spec.profiles = profiles.into_iter().map(str::to_owned).collect();
                endpoint.spec.service_account_name = account;
                endpoint.spec.ports = ports
                    .into_iter()
                    .map(
                        |(name, protocol, port)| api::v3::workload_endpoint::WorkloadEndpointPort {
                            name,
                            protocol: Protocol::Number(protocol),
                            port,
                            ..Default::default()
                        },
                    )
                    .collect();
                endpoint.into()
            },
        )
}

fn host_endpoint() -> impl Strategy<Value = AnyResource> {
    (labels(), 0..8u8, subsequence(PROFILES.to_vec(), 0..2)).prop_map(|(labels, host, profiles)| {
        let mut endpoint = HostEndpoint::new(ObjectMeta::named("hep"), Default::default());
        endpoint.metadata.labels = labels;
        endpoint.spec.node = "host2".into();
        endpoint.spec.expected_ips = vec![format!("10.0.0.{host}")];
        endpoint.spec.profiles = profiles.into_iter().map(str::to_owned).collect();
        endpoint.into()
    })
}

fn network_set() -> impl Strategy<Value = AnyResource> {
    let nets = || subsequence(NETS.to_vec(), 0..4);
    let nets_text = |nets: Vec<&str>| nets.into_iter().map(str::to_owned).collect::<Vec<_>>();
    prop_oneof![
        (select(&["g1", "g2"][..]), labels(), nets()).prop_map(move |(name, labels, nets)| {
            let mut set = GlobalNetworkSet::new(ObjectMeta::named(name), Default::default());
            set.metadata.labels = labels;
            set.metadata.labels.insert("set".into(), name.into());
            set.spec.nets = nets_text(nets);
            set.into()
        }),
        (select(&NAMESPACES[..]), labels(), nets()).prop_map(move |(namespace, labels, nets)| {
            let mut set = NetworkSet::new(ObjectMeta::namespaced(namespace, "n1"), Default::default());
            set.metadata.labels = labels;
            set.spec.nets = nets_text(nets);
            set.into()
        }),
    ]
}

fn types() -> impl Strategy<Value = Vec<PolicyType>> {
    subsequence(vec![PolicyType::Ingress, PolicyType::Egress], 0..=2)
}

fn order() -> impl Strategy<Value = Option<f64>> {
    option::of(select(&[-1.0, 0.0, 5.0, 1000.0][..]))
}

pub fn policy() -> impl Strategy<Value = AnyResource> {
    let common = || (text(&TIERS), order(), text(&SELECTORS), types(), rules(), rules());
    let account = || prop_oneof![4 => Just(String::new()), 1 => text(&["role == 'x'", "all()"])];
    prop_oneof![
        (
            select(&NAMESPACES[..]),
            select(&["a", "b"][..]),
            common(),
            account()
        )
            .prop_map(
                |(namespace, name, (tier, order, selector, types, ingress, egress), account)| {
                    let mut policy =
                        NetworkPolicy::new(ObjectMeta::namespaced(namespace, name), Default::default());
                    let spec = &mut policy.spec;
                    (spec.tier, spec.order, spec.selector, spec.types) = (tier, order, selector, types);
                    (spec.ingress, spec.egress, spec.service_account_selector) = (ingress, egress, account);
                    policy.into()
                }
            ),
        (
            select(&["a", "g", "z"][..]),
            common(),
            account(),
            prop_oneof![3 => Just(String::new()), 1 => text(&["team == 'x'", "all()"])],
            proptest::bool::weighted(0.05),
        )
            .prop_map(
                |(name, (tier, order, selector, types, ingress, egress), account, namespaces, untracked)| {
                    let mut policy = GlobalNetworkPolicy::new(ObjectMeta::named(name), Default::default());
                    let spec = &mut policy.spec;
                    (spec.tier, spec.order, spec.selector, spec.types) = (tier, order, selector, types);
                    (spec.ingress, spec.egress, spec.service_account_selector) = (ingress, egress, account);
                    (spec.namespace_selector, spec.do_not_track) = (namespaces, untracked);
                    policy.into()
                }
            ),
    ]
}

fn tier() -> impl Strategy<Value = AnyResource> {
    let action = option::of(select(&[TierDefaultAction::Deny, TierDefaultAction::Pass][..]));
    (select(&TIERS[1..]), order(), action)
        .prop_map(|(name, order, action)| build::tier(name, order, action).into())
}

fn profile() -> impl Strategy<Value = AnyResource> {
    let labels = btree_map(
        text(&["a", "b", "pcns.team", "pcsa.role", "pcns.projectcalico.org/name"]),
        text(&["x", "y", "red"]),
        0..3,
    );
    (select(&PROFILES[..3]), labels, rules(), rules()).prop_map(|(name, labels, ingress, egress)| {
        let mut profile = build::profile(name, &[], ingress, egress);
        profile.spec.labels_to_apply = labels;
        profile.into()
    })
}

/// A resource of any kind that bears policy.
pub fn resource() -> impl Strategy<Value = AnyResource> {
    prop_oneof![
        5 => workload(),
        1 => host_endpoint(),
        4 => network_set(),
        5 => policy(),
        1 => tier(),
        2 => profile(),
    ]
}

/// One step of a history.
#[derive(Debug, Clone)]
pub enum Step {
    Set(AnyResource),
    /// Removes what this would set.
    Remove(AnyResource),
    Flush,
}

impl Step {
    pub fn input(&self) -> Option<Input> {
        match self {
            Self::Set(resource) => Some(Input::Set(resource.clone())),
            Self::Remove(resource) => Some(Input::Remove {
                kind: resource.kind(),
                namespace: resource.metadata().namespace.clone(),
                name: resource.metadata().name.clone(),
            }),
            Self::Flush => None,
        }
    }
}

/// A history of changes.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    vec(
        prop_oneof![8 => resource().prop_map(Step::Set), 2 => resource().prop_map(Step::Remove), 3 => Just(Step::Flush)],
        1..40,
    )
}

/// A packet between addresses of the universe.
pub fn packet() -> impl Strategy<Value = Packet> {
    let host = || prop_oneof![8 => 0..8u8, 1 => Just(200u8)];
    (
        any::<bool>(),
        host(),
        host(),
        select(&PROTOCOLS[..]),
        select(&PORTS[..]),
        select(&PORTS[..]),
        (0..4u8, 0..4u8),
    )
        .prop_map(
            |(v4, source, destination, protocol, source_port, destination_port, icmp)| {
                let address = |host: u8| {
                    if v4 {
                        IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))
                    } else {
                        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()))
                    }
                };
                let ports = [6, 17, 132].contains(&protocol);
                let port = |port| if ports { port } else { 0 };
                Packet {
                    source: address(source),
                    destination: address(destination),
                    protocol,
                    source_port: port(source_port),
                    destination_port: port(destination_port),
                    icmp,
                }
            },
        )
}
