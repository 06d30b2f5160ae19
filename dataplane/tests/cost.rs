//! The cost of a verdict does not grow with the number of rules.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use common::programs::{allow_all, empty, frame, policy_rule, transport, update};
use common::{as_host, sys};
use dataplane::{Attach, Dataplane};
use ipnet::IpNet;
use policy_engine::output::{Action, BitVector, Delta, Program, Rule, Table};

/// Sources that each rule names.
const MEMBERS: u32 = 8;
const RUNS: u32 = 200_000;

/// Rule `n` allows sources of its own; the last one those of the packet.
fn program(rules: u32) -> Arc<Program> {
    let mut program = empty(
        (0..=rules)
            .map(|at| Rule {
                action: if at == rules { Action::Deny } else { Action::Allow },
                id: policy_rule("many", at),
            })
            .collect(),
    );
    let words = program.rules.len().div_ceil(64);
    let vector = |bits: &[u32]| {
        let mut vector = vec![0u64; words];
        for bit in bits {
            vector[*bit as usize / 64] |= 1 << (bit % 64);
        }
        BitVector::from(vector)
    };
    let mut entries = Vec::new();
    for rule in 0..rules {
        program.vectors.push(vector(&[rule, rules]));
        for member in 0..MEMBERS {
            let address = Ipv4Addr::from(0x0a00_0000 + rule * MEMBERS + member);
            entries.push((IpNet::from(IpAddr::from(address)), (rule + 1) as u16));
        }
    }
    program.vectors.push(vector(&[rules]));
    program.source_net = Some(Table {
        entries,
        default: (rules + 1) as u16,
    });
    Arc::new(program)
}

#[test]
fn four_thousand_rules_cost_what_ten_do() {
    as_host(|mut host| {
        let workload = host.workload("p", &["10.200.0.1"]);
        let mut config = host.config(Attach::Tcx);
        config.sizes.vectors = 16_384;
        config.sizes.nets = 131_072;
        let mut dataplane = Dataplane::open(config).unwrap();
        dataplane.apply(&[update(1, allow_all())]).unwrap();
        let mut costs = Vec::new();
        for (key, rules) in [(10, 10), (11, 1000), (12, 4000)] {
            let change = [
                update(key, program(rules)),
                Delta::EndpointUpdate(Box::new(workload.endpoint(key, 1))),
            ];
            dataplane.apply(&change).unwrap();
            // An ICMP message that makes no flow: each run is a verdict and nothing else.
            let source = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + (rules - 1) * MEMBERS));
            let packet = frame(source, workload.v4(), 1, &transport(1, 13, 0, 0));
            let [_, hook] = common::programs_at(&workload.interface);
            let best = (0..5).map(|_| {
                let (code, ns) = sys::test_run(&hook, &packet, workload.ifindex, 1, RUNS);
                assert_eq!(code, -1);
                ns
            });
            costs.push((rules, best.min().unwrap()));
        }
        // A packet of a known flow.
        let packet = frame(
            "10.0.0.0".parse().unwrap(),
            workload.v4(),
            17,
            &transport(17, 1, 2, 0),
        );
        let [from, hook] = common::programs_at(&workload.interface);
        assert_eq!(sys::test_run(&hook, &packet, workload.ifindex, 1, 1).0, -1);
        let answer = frame(
            workload.v4(),
            "10.0.0.0".parse().unwrap(),
            17,
            &transport(17, 2, 1, 0),
        );
        assert_eq!(sys::test_run(&from, &answer, workload.ifindex, 1, 1).0, -1);
        let known = (0..5)
            .map(|_| sys::test_run(&hook, &packet, workload.ifindex, 1, RUNS).1)
            .min()
            .unwrap();
        println!("ns a packet by rules: {costs:?}; known flow: {known}");
        let (few, many) = (costs[0].1, costs[2].1);
        assert!(many < few * 3, "{costs:?}");
    });
}
