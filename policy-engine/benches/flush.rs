//! What a policy change costs: 4,000 rules of 8 members each, by nets and by selectors, and a new endpoint
//! among 32,000.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use api::v3::rule::{Action, EntityRule, Rule};
use api::{GlobalNetworkPolicy, ObjectMeta, WorkloadEndpoint};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use policy_engine::{Engine, Input};

const RULES: usize = 4000;
const MEMBERS: usize = 8;

fn endpoint(node: &str, name: String, address: usize, label: (&str, String)) -> Input {
    let mut endpoint = WorkloadEndpoint::new(
        ObjectMeta::namespaced("default", name.clone()),
        Default::default(),
    );
    endpoint.metadata.labels.insert(label.0.to_owned(), label.1);
    endpoint.spec.orchestrator = "cni".to_owned();
    endpoint.spec.node = node.to_owned();
    endpoint.spec.container_id = name.clone();
    endpoint.spec.endpoint = "eth0".to_owned();
    endpoint.spec.interface_name = format!("cali{name}");
    endpoint.spec.ip_networks = vec![format!("{}/32", text(address))];
    Input::Set(endpoint.into())
}

fn text(address: usize) -> String {
    std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(address).unwrap()).to_string()
}

fn policy(source: impl Fn(usize) -> EntityRule) -> Input {
    let rule = |i| Rule {
        source: source(i),
        ..Rule::matching_all(Action::Allow)
    };
    let mut policy = GlobalNetworkPolicy::new(ObjectMeta::named("big"), Default::default());
    policy.spec.ingress = (0..RULES).map(rule).collect();
    Input::Set(policy.into())
}

fn by_nets() -> Input {
    let nets = |i: usize| {
        (0..MEMBERS)
            .map(|m| format!("{}/32", text(0x10000 + i * MEMBERS + m)))
            .collect()
    };
    policy(|i| EntityRule {
        nets: nets(i),
        ..EntityRule::default()
    })
}

fn by_selectors() -> Input {
    policy(|i| EntityRule {
        selector: format!("group == 'g{i}'"),
        ..EntityRule::default()
    })
}

fn cluster() -> Engine {
    let mut engine = Engine::new("host1");
    engine.update(endpoint(
        "host1",
        "local".to_owned(),
        1,
        ("app", "local".to_owned()),
    ));
    for i in 0..RULES * MEMBERS {
        engine.update(endpoint(
            "host2",
            format!("w{i}"),
            0x10000 + i,
            ("group", format!("g{}", i / MEMBERS)),
        ));
    }
    engine.flush();
    engine
}

fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush");
    group.sample_size(10);
    for (name, policy) in [
        ("4000 rules of 8 nets", by_nets()),
        ("4000 rules of 8 endpoints", by_selectors()),
    ] {
        group.bench_function(name, |b| {
            b.iter_batched(
                || (cluster(), policy.clone()),
                |(mut engine, policy)| {
                    engine.update(policy);
                    let deltas = engine.flush();
                    (black_box(deltas), engine)
                },
                BatchSize::PerIteration,
            );
        });
    }
    let mut engine = cluster();
    engine.update(by_selectors());
    engine.flush();
    let mut address = 0x20000;
    group.bench_function("one more endpoint among 32000", |b| {
        b.iter(|| {
            address += 1;
            engine.update(endpoint(
                "host2",
                "new".to_owned(),
                address,
                ("group", format!("g{}", address % RULES)),
            ));
            black_box(engine.flush())
        });
    });
    group.finish();
}

criterion_group!(benches, flush);
criterion_main!(benches);
