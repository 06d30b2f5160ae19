//! Real packets between workloads of one host.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::programs::{allow_all, allow_port, deny_all, update};
use common::{Host, Workload, as_host_each, drain, echo, passes, round_trip, wait_for_v6, wait_up};
use dataplane::{Attach, Dataplane, Reason, Verdict};
use policy_engine::output::{Delta, Direction};

const ALLOW: u64 = 1;
const DENY: u64 = 2;

fn two(host: &mut Host) -> (Workload, Workload) {
    let a = host.workload("a", &["10.65.0.1", "fd00:65::1"]);
    let b = host.workload("b", &["10.65.0.2", "fd00:65::2"]);
    (a, b)
}

/// Both endpoints, with program keys for (ingress, egress) of each.
fn start(host: &Host, attach: Attach, a: (&Workload, u64, u64), b: (&Workload, u64, u64)) -> Dataplane {
    let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
    let report = dataplane
        .apply(&[
            update(ALLOW, allow_all()),
            update(DENY, deny_all()),
            Delta::EndpointUpdate(Box::new(a.0.endpoint(a.1, a.2))),
            Delta::EndpointUpdate(Box::new(b.0.endpoint(b.1, b.2))),
        ])
        .unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
    let report = dataplane.end_of_initial_sync().unwrap();
    assert_eq!(report.errors, Vec::<String>::new());
    wait_up(&mut dataplane);
    wait_for_v6(&[a.0, b.0]);
    dataplane
}

#[test]
fn what_is_allowed_passes() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = start(&host, attach, (&a, ALLOW, ALLOW), (&b, ALLOW, ALLOW));
        let mut events = dataplane.take_flow_events().unwrap().unwrap();
        for (from, to) in [(a.v4(), b.v4()), (a.v6(), b.v6())] {
            let (client, server) = (a.udp_at(from, 0), b.udp_at(to, 5000));
            assert!(passes(&client, &server), "{from} to {to}");
            assert!(passes(&server, &client), "{to} to {from}");
            echo(b.listen(to, 80));
            round_trip(&mut a.connect(to, 80).unwrap()).unwrap();
            assert!(a.ping(to, &[]), "ping {to}");
        }
        let events = drain(&mut events);
        let udp = events
            .iter()
            .find(|e| e.protocol == 17 && e.destination == b.v4())
            .unwrap();
        assert_eq!(
            (udp.verdict, udp.reason, udp.direction),
            (Verdict::Allow, Reason::PolicyAllow, Direction::Egress)
        );
        assert_eq!(udp.rule, Some(common::programs::policy_rule("allow-all", 0)));
        assert_eq!(udp.endpoint, Some(a.id()));
        assert_eq!(udp.destination_port, 5000);
        // One for each leg.
        let v6: Vec<_> = events
            .iter()
            .filter(|e| e.protocol == 17 && e.destination == b.v6())
            .collect();
        assert_eq!(v6.len(), 2, "{v6:#?}");
        assert_eq!(
            (v6[1].direction, v6[1].endpoint.clone()),
            (Direction::Ingress, Some(b.id()))
        );
    });
}

#[test]
fn egress_may_be_allowed_where_ingress_is_denied() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = start(&host, attach, (&a, DENY, ALLOW), (&b, DENY, ALLOW));
        let mut events = dataplane.take_flow_events().unwrap().unwrap();
        let (client, server) = (a.udp_at(a.v4(), 0), b.udp_at(b.v4(), 5000));
        assert!(!passes(&client, &server));
        assert!(!passes(&server, &client));
        assert!(a.connect(b.v4(), 80).is_err());
        assert!(!a.ping(b.v4(), &[]));
        assert!(!a.ping(b.v6(), &[]));
        let events = drain(&mut events);
        let denied = events
            .iter()
            .find(|e| e.verdict == Verdict::Deny && e.source == a.v4())
            .unwrap();
        assert_eq!(
            (denied.direction, denied.endpoint.clone()),
            (Direction::Ingress, Some(b.id()))
        );
        assert_eq!(denied.rule, Some(policy_engine::output::RuleId::EndOfProfiles));
    });
}

#[test]
fn ports_and_protocols_are_told_apart() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = start(&host, attach, (&a, ALLOW, ALLOW), (&b, DENY, DENY));
        let change = [
            update(3, allow_port(6, 80)),
            Delta::EndpointUpdate(Box::new(b.endpoint(3, DENY))),
        ];
        dataplane.apply(&change).unwrap();
        for to in [b.v4(), b.v6()] {
            echo(b.listen(to, 80));
            echo(b.listen(to, 81));
            round_trip(&mut a.connect(to, 80).unwrap()).unwrap();
            assert!(a.connect(to, 81).is_err());
            assert!(!a.ping(to, &[]));
        }
        let server = b.udp_at(b.v4(), 80);
        assert!(!passes(&a.udp_at(a.v4(), 0), &server));
        let hits = dataplane.rule_hits().unwrap();
        let of = |rule| {
            hits.iter()
                .find(|h| h.rule == rule && h.direction == Direction::Ingress)
                .unwrap()
                .packets
        };
        assert_eq!(of(common::programs::policy_rule("allow-port", 0)), 2);
        assert!(
            of(policy_engine::output::RuleId::EndOfTier {
                tier: "default".to_owned()
            }) >= 5
        );
    });
}

#[test]
fn replies_pass_where_opening_is_denied() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let _dataplane = start(&host, attach, (&a, DENY, ALLOW), (&b, ALLOW, DENY));
        let (client, server) = (a.udp_at(a.v4(), 0), b.udp_at(b.v4(), 5000));
        assert!(!passes(&server, &client), "b may not open");
        assert!(passes(&client, &server));
        assert!(passes(&server, &client), "an answer");
        echo(b.listen(b.v6(), 80));
        round_trip(&mut a.connect(b.v6(), 80).unwrap()).unwrap();
        assert!(a.ping(b.v6(), &[]));
        assert!(!b.ping(a.v6(), &[]));
    });
}

#[test]
fn a_policy_change_reaches_flows_of_which_only_replies_flow() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = start(&host, attach, (&a, ALLOW, ALLOW), (&b, ALLOW, ALLOW));
        let mut events = dataplane.take_flow_events().unwrap().unwrap();
        let (client, server) = (a.udp_at(a.v4(), 0), b.udp_at(b.v4(), 5000));
        assert!(passes(&client, &server));
        echo(b.listen(b.v4(), 80));
        let mut stream = a.connect(b.v4(), 80).unwrap();
        round_trip(&mut stream).unwrap();
        for _ in 0..3 {
            assert!(passes(&server, &client));
        }
        // The client's egress: the server's packets are replies and pass the client's ingress program by no means.
        dataplane
            .apply(&[Delta::EndpointUpdate(Box::new(a.endpoint(ALLOW, DENY)))])
            .unwrap();
        drain(&mut events);
        assert!(
            !passes(&server, &client),
            "a reply of a flow that may not be any more"
        );
        let denied = drain(&mut events);
        let denied = denied.iter().find(|e| e.verdict == Verdict::Deny).unwrap();
        assert_eq!(
            (denied.source, denied.destination),
            (a.v4(), b.v4()),
            "judged on the tuple that opened it"
        );
        assert_eq!(denied.direction, Direction::Egress);
        assert!(
            round_trip(&mut stream).is_err(),
            "not as a connection of unknown direction either"
        );
        // And back.
        dataplane
            .apply(&[Delta::EndpointUpdate(Box::new(a.endpoint(ALLOW, ALLOW)))])
            .unwrap();
        assert!(passes(&client, &server));
        assert!(passes(&server, &client));
    });
}

#[test]
fn an_idle_flow_ends_without_the_agent() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut config = host.config(attach);
        config.timeouts.udp = Duration::from_millis(500);
        let mut dataplane = Dataplane::open(config).unwrap();
        dataplane
            .apply(&[
                update(ALLOW, allow_all()),
                update(DENY, deny_all()),
                Delta::EndpointUpdate(Box::new(a.endpoint(DENY, ALLOW))),
                Delta::EndpointUpdate(Box::new(b.endpoint(ALLOW, DENY))),
            ])
            .unwrap();
        let (client, server) = (a.udp_at(a.v4(), 0), b.udp_at(b.v4(), 5000));
        // On a busy machine the first packet may be lost to the resolution of neighbours.
        assert!((0..5).any(|_| passes(&client, &server)));
        assert!(passes(&server, &client));
        drop(dataplane);
        assert!(
            passes(&server, &client),
            "the dataplane stays when the process goes"
        );
        std::thread::sleep(Duration::from_millis(700));
        assert!(
            !passes(&server, &client),
            "the flow has expired with nobody to sweep it"
        );
        assert!(passes(&client, &server), "and can be opened again");
        assert!(passes(&server, &client));
    });
}
