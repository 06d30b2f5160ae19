//! Rules, order, profiles and limits, case by case.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use api::v3::policy::PolicyType;
use api::v3::rule::{Action, EntityRule, IcmpFields, Rule, ServiceMatch};
use api::v3::tier::TierDefaultAction;
use api::v3::workload_endpoint::WorkloadEndpointPort;
use api::{Kind, Port, Protocol};
use policy_engine::output::{Delta, Direction, EndpointId, IdentityId, PROGRAM_RULES_MAX, RuleId};
use policy_engine::{Input, Instead, Kept, Packet, Problem};
use support::build::*;
use support::oracle::Judgement;
use support::universe::Universe;

fn endpoint(namespace: &str, name: &str) -> EndpointId {
    EndpointId {
        orchestrator: "cni".into(),
        workload: format!("{namespace}/{name}"),
        endpoint: "eth0".into(),
    }
}

fn tcp(source: &str, destination: &str, port: u16) -> Packet {
    Packet {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 6,
        source_port: 40000,
        destination_port: port,
        icmp: (0, 0),
    }
}

fn icmp(protocol: u8, r#type: u8, code: u8) -> Packet {
    let (source, destination) = if protocol == 1 {
        ("10.0.0.9", "10.0.0.1")
    } else {
        ("fd00::9", "fd00::1")
    };
    Packet {
        protocol,
        icmp: (r#type, code),
        ..tcp(source, destination, 0)
    }
}

fn ingress(universe: &Universe, packet: &Packet) -> Judgement {
    universe.judge(&endpoint("blue", "w"), Direction::Ingress, packet)
}

fn local() -> Input {
    set(workload(
        "blue",
        "w",
        NODE,
        &["10.0.0.1/32", "fd00::1/128"],
        &["app=w"],
    ))
}

fn tcp_port(action: Action, ports: &[Port]) -> Rule {
    Rule {
        protocol: Some(Protocol::name("TCP")),
        destination: EntityRule {
            ports: ports.to_vec(),
            ..EntityRule::default()
        },
        ..rule(action)
    }
}

fn policy_rule(name: &str, tier: &str, index: u32) -> RuleId {
    RuleId::Policy {
        tier: tier.into(),
        kind: "GlobalNetworkPolicy".into(),
        namespace: String::new(),
        name: name.into(),
        index,
    }
}

#[test]
fn nothing_selects_and_no_profile_denies() {
    let universe = Universe::of([local()]);
    let judgement = ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80));
    assert_eq!(
        (judgement.allowed, judgement.decided_by),
        (false, RuleId::EndOfProfiles)
    );
}

#[test]
fn static_profile_allows_and_cannot_be_replaced() {
    let mut endpoint = workload("blue", "w", NODE, &["10.0.0.1/32"], &[]);
    endpoint.spec.profiles = vec!["projectcalico-default-allow".into()];
    let mut universe = Universe::of([set(endpoint)]);
    assert!(ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80)).allowed);
    universe.engine.update(set(profile(
        "projectcalico-default-allow",
        &[],
        vec![rule(Action::Deny)],
        vec![],
    )));
    let (kind, name) = (Kind::Profile, "projectcalico-default-allow".to_owned());
    universe.engine.update(Input::Remove {
        kind,
        namespace: String::new(),
        name,
    });
    assert!(universe.flush().is_empty());
}

#[test]
fn missing_profile_denies_even_before_one_that_allows() {
    let mut endpoint = workload("blue", "w", NODE, &["10.0.0.1/32"], &[]);
    endpoint.spec.profiles = vec!["gone".into(), "projectcalico-default-allow".into()];
    let universe = Universe::of([set(endpoint)]);
    assert!(!ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80)).allowed);
}

#[test]
fn ties_are_broken_by_name_then_namespace_then_kind() {
    // Same name and order: "a//GlobalNetworkPolicy" sorts before "a/blue/NetworkPolicy".
    let universe = Universe::of([
        local(),
        set(policy("blue", "a", "", vec![rule(Action::Deny)])),
        set(global_policy("a", None, "", vec![rule(Action::Allow)])),
        set(global_policy("b", None, "", vec![rule(Action::Deny)])),
    ]);
    assert_eq!(
        ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80)).decided_by,
        policy_rule("a", "default", 0)
    );
}

#[test]
fn order_unset_comes_last_and_tiers_without_object_after_all_others() {
    let mut ghost = global_policy("ghost", Some(-5.0), "", vec![rule(Action::Allow)]);
    ghost.spec.tier = "ghost".into();
    let mut universe = Universe::of([
        local(),
        set(tier("default", Some(1_000_000.0), Some(TierDefaultAction::Pass))),
        set(global_policy(
            "first",
            Some(1.0),
            "",
            vec![tcp_port(Action::Deny, &[Port::single(1)])],
        )),
        set(global_policy(
            "aaa",
            None,
            "",
            vec![tcp_port(Action::Deny, &[Port::single(2)])],
        )),
        set(ghost),
    ]);
    let by = |universe: &Universe, port| ingress(universe, &tcp("10.0.0.9", "10.0.0.1", port)).decided_by;
    assert_eq!(by(&universe, 1), policy_rule("first", "default", 0));
    assert_eq!(by(&universe, 2), policy_rule("aaa", "default", 0));
    assert_eq!(by(&universe, 3), policy_rule("ghost", "ghost", 0));
    universe.update(set(tier("ghost", Some(0.0), None)));
    universe.flush();
    assert_eq!(by(&universe, 1), policy_rule("ghost", "ghost", 0));
}

#[test]
fn a_policy_of_the_other_direction_leaves_this_one_to_the_profiles() {
    let mut egress_only = global_policy("e", None, "", vec![]);
    egress_only.spec.types = vec![PolicyType::Egress];
    let mut endpoint = workload("blue", "w", NODE, &["10.0.0.1/32"], &[]);
    endpoint.spec.profiles = vec!["projectcalico-default-allow".into()];
    let universe = Universe::of([set(endpoint), set(egress_only)]);
    assert!(ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80)).allowed);
    let egress = universe.judge(
        &self::endpoint("blue", "w"),
        Direction::Egress,
        &tcp("10.0.0.1", "10.0.0.9", 80),
    );
    assert_eq!(
        egress.decided_by,
        RuleId::EndOfTier {
            tier: "default".into()
        }
    );
}

#[test]
fn untracked_and_pre_dnat_policies_are_not_for_workloads() {
    let mut untracked = global_policy("u", None, "", vec![rule(Action::Allow)]);
    untracked.spec.do_not_track = true;
    let mut pre_dnat = global_policy("p", None, "", vec![rule(Action::Allow)]);
    pre_dnat.spec.pre_dnat = true;
    let universe = Universe::of([local(), set(untracked), set(pre_dnat)]);
    let judgement = ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80));
    assert_eq!(judgement.decided_by, RuleId::EndOfProfiles);
}

#[test]
fn ports_by_number_and_by_name_in_one_rule() {
    let mut endpoint = workload("blue", "w", NODE, &["10.0.0.1/32"], &[]);
    endpoint.spec.ports = vec![WorkloadEndpointPort {
        name: "web".into(),
        protocol: Protocol::name("TCP"),
        port: 8080,
        ..WorkloadEndpointPort::default()
    }];
    let ports = [Port::Range { min: 80, max: 83 }, Port::Named("web".into())];
    let mut universe = Universe::of([
        set(endpoint.clone()),
        set(global_policy(
            "g",
            None,
            "",
            vec![tcp_port(Action::Allow, &ports)],
        )),
    ]);
    let allowed =
        |universe: &Universe, port: u16| ingress(universe, &tcp("10.0.0.9", "10.0.0.1", port)).allowed;
    let open: Vec<u16> = (70..9000).filter(|port| allowed(&universe, *port)).collect();
    assert_eq!(open, [80, 81, 82, 83, 8080]);
    // The port moves, and goes.
    endpoint.spec.ports[0].port = 9090;
    universe.update(set(endpoint.clone()));
    universe.flush();
    assert!(!allowed(&universe, 8080) && allowed(&universe, 9090));
    endpoint.spec.ports.clear();
    universe.update(set(endpoint));
    universe.flush();
    assert!(!allowed(&universe, 9090) && allowed(&universe, 80));
}

#[test]
fn icmp_by_type_code_and_family() {
    let fields = |r#type, code| {
        Some(IcmpFields {
            r#type: Some(r#type),
            code,
        })
    };
    let mut echo = rule(Action::Allow);
    echo.icmp = fields(8, None);
    let mut unreachable = rule(Action::Allow);
    unreachable.icmp = fields(3, Some(4));
    let universe = Universe::of([
        local(),
        set(global_policy("g", None, "", vec![echo, unreachable])),
    ]);
    let allowed = |packet: &Packet| ingress(&universe, packet).allowed;
    assert!(allowed(&icmp(1, 8, 0)) && allowed(&icmp(1, 8, 7)) && allowed(&icmp(1, 3, 4)));
    assert!(!allowed(&icmp(1, 3, 1)) && !allowed(&icmp(1, 0, 0)));
    // The number means an ICMPv6 type in IPv6, and nothing for ICMPv4 inside IPv6 or for TCP.
    assert!(allowed(&icmp(58, 8, 0)));
    assert!(!allowed(&Packet {
        protocol: 1,
        ..icmp(58, 8, 0)
    }));
    assert!(!allowed(&tcp("10.0.0.9", "10.0.0.1", 8)));
}

#[test]
fn not_icmp_holds_for_what_is_not_icmp() {
    let mut rule = rule(Action::Allow);
    rule.not_icmp = Some(IcmpFields {
        r#type: Some(8),
        code: None,
    });
    let universe = Universe::of([local(), set(global_policy("g", None, "", vec![rule]))]);
    assert!(!ingress(&universe, &icmp(1, 8, 0)).allowed);
    assert!(ingress(&universe, &icmp(1, 0, 0)).allowed);
    assert!(ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 8)).allowed);
}

#[test]
fn identities_move_only_where_membership_changes() {
    let mut universe = Universe::of([
        local(),
        set(workload("blue", "peer", "host2", &["10.0.0.9/32"], &["app=peer"])),
        set(workload(
            "blue",
            "other",
            "host2",
            &["10.0.0.8/32"],
            &["app=other"],
        )),
    ]);
    assert!(universe.replica.identities.is_empty(), "no rule has a selector");
    universe.update(set(global_policy(
        "g",
        None,
        "",
        vec![from_selector(Action::Allow, "app == 'peer'")],
    )));
    let deltas = universe.flush();
    let nets: Vec<String> = deltas
        .iter()
        .filter_map(|delta| match delta {
            Delta::Identity { net, .. } => Some(net.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(nets, ["10.0.0.9/32"]);
    // A second selector for the same endpoint renames the class and moves no address.
    universe.update(set(global_policy(
        "h",
        None,
        "",
        vec![from_selector(Action::Deny, "app in {'peer'}")],
    )));
    assert!(
        !universe
            .flush()
            .iter()
            .any(|delta| matches!(delta, Delta::Identity { .. }))
    );
    // A new endpoint of a known class is one delta and no new program.
    universe.update(set(workload(
        "blue",
        "peer2",
        "host2",
        &["10.0.0.7/32"],
        &["app=peer"],
    )));
    let deltas = universe.flush();
    assert!(
        matches!(deltas.as_slice(), [Delta::Identity { identity, .. }] if *identity != IdentityId::UNKNOWN)
    );
    assert!(ingress(&universe, &tcp("10.0.0.7", "10.0.0.1", 80)).allowed);
    // An endpoint with other labels that the selectors do not tell apart joins the class too.
    universe.update(set(workload(
        "red",
        "peer3",
        "host2",
        &["10.0.0.6/32"],
        &["app=peer", "x=y"],
    )));
    assert!(matches!(universe.flush().as_slice(), [Delta::Identity { .. }]));
}

#[test]
fn programs_are_shared_and_only_what_changed_is_sent() {
    let mut universe = Universe::of([
        set(workload("blue", "w1", NODE, &["10.0.0.1/32"], &["app=w"])),
        set(workload("blue", "w2", NODE, &["10.0.0.2/32"], &["app=w", "v=2"])),
        set(global_policy(
            "g",
            None,
            "app == 'w'",
            vec![from_nets(Action::Allow, &["10.0.0.0/24"])],
        )),
    ]);
    let programs: Vec<_> = universe.replica.endpoints.values().map(|e| e.programs).collect();
    assert_eq!(programs[0], programs[1]);
    universe.update(set(global_policy(
        "elsewhere",
        None,
        "app == 'x'",
        vec![rule(Action::Deny)],
    )));
    assert!(universe.flush().is_empty());
    universe.update(set(global_policy(
        "g",
        None,
        "app == 'w'",
        vec![from_nets(Action::Deny, &["10.0.0.0/24"])],
    )));
    let deltas = universe.flush();
    let added = deltas.iter().filter(|d| matches!(d, Delta::ProgramAdd { .. }));
    assert_eq!(
        added.count(),
        1,
        "IPv6 has no such rule and does not change: {deltas:?}"
    );
    assert!(
        matches!(
            deltas.as_slice(),
            [
                _,
                Delta::EndpointUpdate(_),
                Delta::EndpointUpdate(_),
                Delta::ProgramRemove { .. }
            ]
        ),
        "the endpoints move, and what they leave goes: {deltas:?}"
    );
}

#[test]
fn too_many_rules_keep_the_previous_program() {
    let many = |rules: usize| {
        let nets = |i: usize| from_nets(Action::Allow, &[&format!("10.{}.{}.0/24", i / 256, i % 256)]);
        (0..rules).map(nets).collect::<Vec<_>>()
    };
    let mut universe = Universe::of([
        local(),
        set(global_policy("g", None, "", many(PROGRAM_RULES_MAX - 1))),
    ]);
    assert!(universe.engine.problems().is_empty());
    let last = PROGRAM_RULES_MAX - 2;
    let packet = tcp(&format!("10.{}.{}.7", last / 256, last % 256), "10.0.0.1", 80);
    assert!(ingress(&universe, &packet).allowed);

    universe.update(set(global_policy("g", None, "", many(PROGRAM_RULES_MAX))));
    assert!(universe.flush().is_empty(), "the old program stays");
    let problems = universe.engine.problems();
    let [Problem::TooManyRules { rules, kept, .. }] = problems.as_slice() else {
        panic!("{problems:?}")
    };
    assert_eq!((*rules, *kept), (PROGRAM_RULES_MAX + 1, Kept::Previous));
    assert!(problems[0].to_string().contains("4097 rules, the limit is 4096"));

    // A new endpoint has nothing before it: it denies all.
    universe.update(set(workload("blue", "new", NODE, &["10.0.0.2/32"], &["new=yes"])));
    universe.update(set(global_policy("h", None, "new == 'yes'", vec![])));
    universe.flush();
    let new = universe.judge(
        &endpoint("blue", "new"),
        Direction::Ingress,
        &tcp("10.0.0.7", "10.0.0.2", 80),
    );
    assert_eq!((new.allowed, new.decided_by), (false, RuleId::EndOfProfiles));
    assert!(universe.engine.problems().iter().any(|p| matches!(
        p,
        Problem::TooManyRules {
            kept: Kept::DenyAll,
            ..
        }
    )));

    // A policy is added to an endpoint whose list is refused: the old list stays in force as a whole.
    universe.update(set(global_policy(
        "z",
        Some(0.0),
        "app == 'w'",
        vec![rule(Action::Deny)],
    )));
    universe.flush();
    assert!(ingress(&universe, &packet).allowed);

    universe.update(set(global_policy("g", None, "", many(1))));
    universe.flush();
    assert!(universe.engine.problems().is_empty());
    assert_eq!(
        ingress(&universe, &packet).decided_by,
        policy_rule("z", "default", 0)
    );
    let new = universe.judge(
        &endpoint("blue", "new"),
        Direction::Ingress,
        &tcp("10.0.0.7", "10.0.0.2", 80),
    );
    assert!(new.allowed);
}

#[test]
fn rules_that_cannot_be_understood_do_not_open_anything() {
    let bad = |action| from_selector(action, "app ==");
    let universe = Universe::of([
        local(),
        set(global_policy(
            "g",
            None,
            "",
            vec![bad(Action::Allow), bad(Action::Deny), rule(Action::Allow)],
        )),
    ]);
    let judgement = ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80));
    assert_eq!(
        (judgement.allowed, judgement.decided_by),
        (false, policy_rule("g", "default", 1))
    );
    let problems = universe.engine.problems();
    let instead: Vec<_> = problems
        .iter()
        .filter_map(|problem| match problem {
            Problem::RuleReplaced { field, instead, .. } => Some((field.as_str(), *instead)),
            _ => None,
        })
        .collect();
    assert_eq!(
        instead,
        [
            ("spec.ingress[0].source.selector", Instead::IsLeftOut),
            ("spec.ingress[1].source.selector", Instead::Denies)
        ]
    );
    assert!(
        problems[0]
            .to_string()
            .starts_with("GlobalNetworkPolicy(g): spec.ingress[0].source.selector: ")
    );
}

#[test]
fn services_match_nothing_for_allow_and_are_left_out_of_deny() {
    let services = Some(ServiceMatch {
        name: "dns".into(),
        namespace: "kube-system".into(),
    });
    let with = |action| Rule {
        source: EntityRule {
            services: services.clone(),
            ..EntityRule::default()
        },
        ..rule(action)
    };
    let allow = Universe::of([
        local(),
        set(global_policy("g", None, "", vec![with(Action::Allow)])),
    ]);
    assert!(!ingress(&allow, &tcp("10.0.0.9", "10.0.0.1", 80)).allowed);
    let deny = Universe::of([
        local(),
        set(global_policy(
            "g",
            None,
            "",
            vec![with(Action::Deny), rule(Action::Allow)],
        )),
    ]);
    assert!(!ingress(&deny, &tcp("10.0.0.9", "10.0.0.1", 80)).allowed);
    assert_eq!(deny.engine.problems().len(), 1);
}

#[test]
fn a_policy_whose_own_selector_is_bad_is_ignored_and_named() {
    let mut universe = Universe::of([
        local(),
        set(global_policy("g", None, "", vec![rule(Action::Allow)])),
    ]);
    universe.engine.update(set(global_policy(
        "g",
        None,
        "app = 'x'",
        vec![rule(Action::Allow)],
    )));
    universe.flush();
    assert_eq!(
        ingress(&universe, &tcp("10.0.0.9", "10.0.0.1", 80)).decided_by,
        RuleId::EndOfProfiles
    );
    let problems = universe.engine.problems();
    assert!(matches!(problems.as_slice(), [Problem::Ignored { field, .. }] if field == "spec.selector"));
    universe
        .engine
        .update(set(global_policy("g", None, "", vec![rule(Action::Allow)])));
    universe.flush();
    assert!(universe.engine.problems().is_empty());
}

#[test]
fn bad_addresses_are_named_and_the_others_kept() {
    let mut universe = Universe::default();
    universe.engine.update(set(global_set(
        "s",
        &["set=s"],
        &["10.9.0.0/16", "nonsense", "10.8.0.1"],
    )));
    universe.engine.update(set(global_policy(
        "g",
        None,
        "",
        vec![from_selector(Action::Allow, "set == 's'")],
    )));
    universe.engine.update(local());
    universe.flush();
    assert!(ingress(&universe, &tcp("10.8.0.1", "10.0.0.1", 80)).allowed);
    assert!(ingress(&universe, &tcp("10.9.3.1", "10.0.0.1", 80)).allowed);
    let problems = universe.engine.problems();
    assert!(matches!(problems.as_slice(), [Problem::EntryIgnored { field, .. }] if field == "spec.nets[1]"));
}

#[test]
fn an_endpoint_that_changes_its_id_leaves_before_its_successor_comes() {
    let mut universe = Universe::of([local()]);
    let mut successor = workload("blue", "w", NODE, &["10.0.0.1/32"], &[]);
    successor.spec.container_id = "w2".into();
    universe.update(set(successor));
    let deltas = universe.flush();
    let removed = deltas
        .iter()
        .position(|d| matches!(d, Delta::EndpointRemove(_)))
        .unwrap();
    let updated = deltas
        .iter()
        .position(|d| matches!(d, Delta::EndpointUpdate(_)))
        .unwrap();
    assert!(removed < updated);
    assert_eq!(universe.replica.endpoints.len(), 1);
}
