//! Restarts, changes under traffic, interfaces that come and go, repairs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use common::programs::{allow_all, deny_all, empty, policy_rule, update};
use common::{Host, Workload, as_host, as_host_each, drain, passes, pins, wait_for_v6, wait_up};
use dataplane::{ApplyReport, Attach, Dataplane, EndpointState};
use ipnet::IpNet;
use netlink::{Group, Monitor, Route, RouteFilter, table};
use policy_engine::output::{
    Action, BitVector, Delta, EndpointId, IdentityId, Program, ProgramKey, Rule, RuleId, Table,
};

const ALLOW: u64 = 1;
const DENY: u64 = 2;

fn state(a: &Workload, b: &Workload) -> Vec<Delta> {
    vec![
        update(ALLOW, allow_all()),
        update(DENY, deny_all()),
        Delta::EndpointUpdate(Box::new(a.endpoint(DENY, ALLOW))),
        Delta::EndpointUpdate(Box::new(b.endpoint(ALLOW, DENY))),
    ]
}

fn two(host: &mut Host) -> (Workload, Workload) {
    (
        host.workload("a", &["10.65.0.1"]),
        host.workload("b", &["10.65.0.2"]),
    )
}

fn of(dataplane: &Dataplane, id: &EndpointId) -> Option<EndpointState> {
    dataplane
        .statuses()
        .into_iter()
        .find(|status| status.id == *id)
        .map(|status| status.state)
}

fn clean(report: &ApplyReport) {
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(report.conflicts, Vec::new());
}

/// Sends datagrams from ever new ports until told to stop, and counts what arrives.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: std::thread::JoinHandle<u64>,
    got: std::thread::JoinHandle<()>,
    received: Arc<AtomicU64>,
}

impl Traffic {
    fn start(from: &Workload, to: &Workload, every: Duration, new_port_each: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let server = to.udp(5000);
        let address = server.local_addr().unwrap();
        let (stop_sending, from_address) = (Arc::clone(&stop), from.addresses[0]);
        let netns = netlink::NetNs::from(std::fs::File::from(
            std::os::fd::AsFd::as_fd(&from.netns)
                .try_clone_to_owned()
                .unwrap(),
        ));
        let sent = std::thread::spawn(move || {
            netns.enter().unwrap();
            let bind = || std::net::UdpSocket::bind((from_address, 0)).unwrap();
            let (mut client, mut sent) = (bind(), 0u64);
            while !stop_sending.load(Ordering::Relaxed) {
                if sent.is_multiple_of(new_port_each) {
                    client = bind();
                }
                client.send_to(&sent.to_le_bytes(), address).unwrap();
                sent += 1;
                std::thread::sleep(every);
            }
            sent
        });
        let count = Arc::clone(&received);
        let got = std::thread::spawn(move || {
            while server.recv(&mut [0; 16]).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            sent,
            got,
            received,
        }
    }

    /// (sent, received)
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sent.join().unwrap();
        self.got.join().unwrap();
        (sent, self.received.load(Ordering::Relaxed))
    }
}

#[test]
fn restarts_lose_no_packet() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let config = host.config(attach);
        let mut dataplane = Dataplane::open(config.clone()).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        let traffic = Traffic::start(&a, &b, Duration::from_micros(300), 3);
        let denied = dataplane.counters().unwrap().of(dataplane::Reason::PolicyDeny);
        for _ in 0..3 {
            drop(dataplane);
            std::thread::sleep(Duration::from_millis(50));
            dataplane = Dataplane::open(config.clone()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            clean(&dataplane.apply(&state(&a, &b)).unwrap());
            clean(&dataplane.end_of_initial_sync().unwrap());
        }
        let (sent, received) = traffic.end();
        assert!(sent > 200, "{sent}");
        assert_eq!(received, sent);
        assert_eq!(
            dataplane.counters().unwrap().of(dataplane::Reason::PolicyDeny),
            denied
        );
        // And it still enforces.
        assert!(!passes(&b.udp(0), &a.udp(6000)));
        let usage = dataplane.counters().unwrap().maps;
        let rules = usage.iter().find(|m| m.map == "RULES").unwrap();
        assert_eq!(
            rules.used, 2,
            "nothing of the earlier processes is left: {usage:?}"
        );
    });
}

#[test]
fn what_an_earlier_process_enforced_goes_only_after_the_sync() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let config = host.config(attach);
        let mut dataplane = Dataplane::open(config.clone()).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        drop(dataplane);
        let mut dataplane = Dataplane::open(config).unwrap();
        assert!(passes(&a.udp(0), &b.udp(5000)));
        assert!(!passes(&b.udp(0), &a.udp(5001)));
        // Only one of the endpoints is still desired.
        let one = [
            update(ALLOW, allow_all()),
            Delta::EndpointUpdate(Box::new(b.endpoint(ALLOW, ALLOW))),
        ];
        clean(&dataplane.apply(&one).unwrap());
        assert!(passes(&a.udp(0), &b.udp(5002)), "the other is left as it was");
        clean(&dataplane.resync().unwrap());
        assert!(passes(&a.udp(0), &b.udp(5003)));
        clean(&dataplane.end_of_initial_sync().unwrap());
        assert!(
            !passes(&a.udp(0), &b.udp(5004)),
            "its interface has no endpoint any more"
        );
        let routes = host
            .nl
            .routes(&RouteFilter {
                interface: Some(a.ifindex),
                ..RouteFilter::default()
            })
            .unwrap();
        assert!(
            routes
                .iter()
                .all(|route| route.protocol == netlink::protocol::KERNEL),
            "{routes:?}"
        );
    });
}

/// Allows sources of one identity.
fn allow_from(identity: u32) -> Arc<Program> {
    let end = RuleId::EndOfTier {
        tier: "default".to_owned(),
    };
    let mut program = empty(vec![
        Rule {
            action: Action::Allow,
            id: policy_rule("from", 0),
        },
        Rule {
            action: Action::Deny,
            id: end,
        },
    ]);
    program.vectors.push(BitVector::from([0b10]));
    program.source_identity = Some(Table {
        entries: vec![(IdentityId(identity), 0)],
        default: 1,
    });
    Arc::new(program)
}

#[test]
fn a_packet_sees_a_batch_as_a_whole() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
        let net = IpNet::from(a.v4());
        let program = |identity: u32| 100 + u64::from(identity);
        // Before and after each batch a's identity is the one that b's program lets in; a mix would not be.
        let batch = |identity: u32| {
            vec![
                Delta::Identity {
                    net,
                    identity: IdentityId(identity),
                },
                update(program(identity), allow_from(identity)),
                Delta::EndpointUpdate(Box::new(b.endpoint(program(identity), DENY))),
            ]
        };
        clean(&dataplane.apply(&[state(&a, &b), batch(10)].concat()).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        let traffic = Traffic::start(&a, &b, Duration::from_micros(100), 1);
        let until = Instant::now() + Duration::from_millis(900);
        let mut identity = 10;
        while Instant::now() < until {
            identity += 1;
            let old = Delta::ProgramRemove {
                key: ProgramKey(program(identity - 1)),
            };
            clean(&dataplane.apply(&[batch(identity), vec![old]].concat()).unwrap());
            if identity.is_multiple_of(8) {
                dataplane.sweep().unwrap();
            }
        }
        let (sent, received) = traffic.end();
        assert!(sent > 200 && identity > 20, "{sent} packets, {identity} batches");
        assert_eq!(received, sent, "in {identity} batches");
        // The program that is left knows one identity.
        dataplane
            .apply(&[Delta::Identity {
                net,
                identity: IdentityId(9),
            }])
            .unwrap();
        assert!(!passes(&a.udp(0), &b.udp(6000)));
        dataplane
            .apply(&[Delta::Identity {
                net: "10.65.0.0/24".parse().unwrap(),
                identity: IdentityId(identity),
            }])
            .unwrap();
        assert!(!passes(&a.udp(0), &b.udp(6001)), "the longer prefix decides");
        dataplane
            .apply(&[Delta::Identity {
                net,
                identity: IdentityId::UNKNOWN,
            }])
            .unwrap();
        assert!(passes(&a.udp(0), &b.udp(6002)));
        dataplane.sweep().unwrap();
        assert!(passes(&a.udp(0), &b.udp(6003)));
    });
}

#[test]
fn a_change_of_membership_reaches_live_flows() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
        let net = IpNet::from(a.v4());
        let mut deltas = state(&a, &b);
        deltas.push(update(3, allow_from(7)));
        deltas.push(Delta::Identity {
            net,
            identity: IdentityId(7),
        });
        deltas.push(Delta::EndpointUpdate(Box::new(b.endpoint(3, DENY))));
        clean(&dataplane.apply(&deltas).unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        let (client, server) = (a.udp(0), b.udp(5000));
        assert!(passes(&client, &server) && passes(&server, &client));
        dataplane
            .apply(&[Delta::Identity {
                net,
                identity: IdentityId(8),
            }])
            .unwrap();
        assert!(!passes(&server, &client));
        assert!(!passes(&client, &server));
    });
}

#[test]
fn an_endpoint_that_goes_leaves_nothing() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        assert!(passes(&a.udp(0), &b.udp(5000)));
        assert!(!dataplane.flows(10).unwrap().is_empty());
        let neighbours = |host: &mut Host| {
            host.nl
                .neighbours()
                .unwrap()
                .into_iter()
                .filter(|n| n.interface == a.ifindex && n.permanent)
                .count()
        };
        assert_eq!(neighbours(&mut host), 1);
        let report = dataplane
            .apply(&[
                Delta::EndpointRemove(a.id()),
                Delta::ProgramRemove { key: ProgramKey(99) },
            ])
            .unwrap_err();
        assert!(report.to_string().contains("ProgramKey(99)"), "{report}");
        let report = dataplane.apply(&[Delta::EndpointRemove(a.id())]).unwrap();
        clean(&report);
        assert_eq!(report.removed, vec![a.id()]);
        assert!(
            host.nl
                .routes_to("10.65.0.1/32".parse().unwrap(), table::MAIN)
                .unwrap()
                .is_empty()
        );
        assert_eq!(neighbours(&mut host), 0);
        dataplane.sweep().unwrap();
        assert!(dataplane.flows(10).unwrap().is_empty(), "flows of its address");
        // Its interface goes too.
        host.nl.delete_link(a.ifindex).unwrap();
        clean(&dataplane.resync().unwrap());
        assert!(
            pins(&host.pin_dir)
                .iter()
                .all(|pin| !pin.starts_with(&format!("{}_", a.ifindex)))
        );
        dataplane
            .apply(&[
                Delta::EndpointRemove(b.id()),
                Delta::ProgramRemove {
                    key: ProgramKey(ALLOW),
                },
                Delta::ProgramRemove {
                    key: ProgramKey(DENY),
                },
            ])
            .unwrap();
        dataplane.sweep().unwrap();
        for usage in dataplane.counters().unwrap().maps {
            assert_eq!(usage.used, u32::from(usage.map == "VECTORS"), "{}", usage.map);
        }
    });
}

#[test]
fn an_endpoint_waits_for_its_interface() {
    as_host_each(|mut host, attach| {
        let mut monitor = Monitor::open(&[Group::Links]).unwrap();
        let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
        let b = host.workload("b", &["10.65.0.2"]);
        let (mut a, _) = (host.workload("a", &["10.65.0.1"]), ());
        host.nl.delete_link(a.ifindex).unwrap();
        let report = dataplane.apply(&state(&a, &b)).unwrap();
        let told = |id: &EndpointId| {
            report
                .changed
                .iter()
                .any(|s| s.id == *id && s.state == EndpointState::WaitingForInterface)
        };
        assert!(told(&a.id()));
        assert!(told(&b.id()), "nobody told of its interface");
        clean(&dataplane.end_of_initial_sync().unwrap());
        for again in 0..2 {
            if again > 0 {
                host.nl.delete_link(a.ifindex).unwrap();
            }
            a = host.workload("a", &["10.65.0.1"]);
            assert!(
                !host.nl.link("calia").unwrap().unwrap().up,
                "down until the policy is in force"
            );
            let until = Instant::now() + Duration::from_secs(5);
            while dataplane.statuses().iter().any(|s| s.state != EndpointState::Up)
                || dataplane.statuses().is_empty()
                || host
                    .nl
                    .routes_to("10.65.0.1/32".parse().unwrap(), table::MAIN)
                    .unwrap()
                    .is_empty()
            {
                assert!(Instant::now() < until, "{:?}", dataplane.statuses());
                if let Some(event) = monitor.next_within(Duration::from_millis(100)).unwrap() {
                    dataplane.link_event(&event).unwrap();
                }
            }
            // The workload's own end may notice its carrier later than the host's.
            let (client, server) = (a.udp(0), b.udp(5000));
            assert!((0..6).any(|_| passes(&client, &server)), "{again}");
        }
    });
}

#[test]
fn what_others_changed_is_repaired() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        let block: IpNet = "10.65.0.0/26".parse().unwrap();
        clean(
            &dataplane
                .set_local_blocks(&[block, "10.66.0.1/32".parse().unwrap()])
                .unwrap(),
        );
        let blackholes = |host: &mut Host| {
            let all = host.nl.routes(&RouteFilter::owned(table::MAIN, 80)).unwrap();
            all.iter()
                .map(|route| (route.destination, route.metric))
                .collect::<Vec<_>>()
        };
        assert_eq!(blackholes(&mut host), [(block, 1024)]);

        host.nl.set_down(a.ifindex).unwrap();
        host.nl
            .delete_route(&Route::new("10.65.0.2/32".parse().unwrap()))
            .unwrap();
        host.nl
            .delete_route(&Route::new(block).blackhole().protocol(80))
            .unwrap();
        netlink::sysctl::write("net/ipv4/conf/calia/rp_filter", "1").unwrap();
        netlink::sysctl::write("net/ipv4/ip_forward", "0").unwrap();
        match attach {
            Attach::Clsact => {
                assert!(
                    Command::new("tc")
                        .args(["qdisc", "del", "dev", "calia", "clsact"])
                        .status()
                        .unwrap()
                        .success()
                );
            }
            _ => {
                std::fs::remove_file(host.pin_dir.join(format!("links/{}_from_workload", a.ifindex))).unwrap()
            }
        }
        clean(&dataplane.resync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        assert_eq!(blackholes(&mut host), [(block, 1024)]);
        assert_eq!(host.sysctl("net/ipv4/conf/calia/rp_filter"), "0");
        assert_eq!(host.sysctl("net/ipv4/conf/calia/proxy_arp"), "1");
        let route = host
            .nl
            .routes_to("10.65.0.1/32".parse().unwrap(), table::MAIN)
            .unwrap();
        assert_eq!((route[0].protocol, route[0].metric, route.len()), (3, 1024, 1));
        assert!(passes(&a.udp(0), &b.udp(5000)));
        assert!(!passes(&b.udp(0), &a.udp(5001)));
        clean(&dataplane.set_local_blocks(&[]).unwrap());
        assert_eq!(blackholes(&mut host), []);
    });
}

#[test]
fn routes_of_others_are_told_of_and_left_alone() {
    as_host(|mut host| {
        let (a, b) = two(&mut host);
        host.nl
            .create_veth(&netlink::VethSpec::new("other0", "other1"))
            .unwrap();
        let other = host.nl.index_of("other0").unwrap();
        host.nl.set_up(other).unwrap();
        let foreign = Route::new("10.65.0.1/32".parse().unwrap())
            .dev(other)
            .protocol(4)
            .metric(1024);
        host.nl.add_route(&foreign).unwrap();
        let taken = Route::new("10.70.0.0/26".parse().unwrap())
            .dev(other)
            .protocol(4)
            .metric(1024);
        host.nl.add_route(&taken).unwrap();
        // One that someone put on a workload's interface gives way.
        host.nl.set_up(b.ifindex).unwrap();
        host.nl
            .add_route(
                &Route::new("10.65.0.1/32".parse().unwrap())
                    .dev(b.ifindex)
                    .protocol(99)
                    .metric(7),
            )
            .unwrap();
        let mut dataplane = Dataplane::open(host.config(Attach::Auto)).unwrap();
        dataplane.apply(&state(&a, &b)).unwrap();
        dataplane.end_of_initial_sync().unwrap();
        let report = dataplane.resync().unwrap();
        assert_eq!(report.conflicts.len(), 1, "{report:?}");
        let status = dataplane.statuses().into_iter().find(|s| s.id == a.id()).unwrap();
        assert!(
            matches!(&status.state, EndpointState::Error(reason) if reason.contains("10.65.0.1")),
            "{status:?}"
        );
        let report = dataplane
            .set_local_blocks(&["10.70.0.0/26".parse().unwrap()])
            .unwrap();
        assert_eq!(report.conflicts.len(), 2, "{report:?}");
        let there = host
            .nl
            .routes_to("10.65.0.1/32".parse().unwrap(), table::MAIN)
            .unwrap();
        assert_eq!(there.len(), 1, "{there:?}");
        assert_eq!((there[0].protocol, there[0].hops[0].interface), (4, Some(other)));
        // The holder goes: the next resync takes the place.
        host.nl.delete_route(&foreign).unwrap();
        let report = dataplane.resync().unwrap();
        assert_eq!(report.conflicts.len(), 1, "{report:?}");
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        assert!(passes(&a.udp(0), &b.udp(5000)));
    });
}

#[test]
fn maps_of_another_layout_stay_in_force_until_the_sync() {
    as_host_each(|mut host, attach| {
        let (a, b) = two(&mut host);
        let config = host.config(attach);
        let mut dataplane = Dataplane::open(config.clone()).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        drop(dataplane);
        // As if an older version had made them.
        let old = host.pin_dir.join("maps_v0");
        std::fs::create_dir(&old).unwrap();
        for entry in std::fs::read_dir(
            host.pin_dir
                .join(format!("maps_v{}", ebpf_common::LAYOUT_VERSION)),
        )
        .unwrap()
        {
            let entry = entry.unwrap();
            std::fs::rename(entry.path(), old.join(entry.file_name())).unwrap();
        }
        let mut dataplane = Dataplane::open(config).unwrap();
        let traffic = Traffic::start(&a, &b, Duration::from_millis(1), 2);
        std::thread::sleep(Duration::from_millis(100));
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        clean(&dataplane.end_of_initial_sync().unwrap());
        std::thread::sleep(Duration::from_millis(100));
        let (sent, received) = traffic.end();
        assert_eq!(received, sent);
        assert!(sent > 50);
        assert!(!old.exists());
        assert!(!passes(&b.udp(0), &a.udp(5001)));
    });
}

#[test]
fn the_way_of_attaching_can_change() {
    as_host(|mut host| {
        let (a, b) = two(&mut host);
        for attach in [Attach::Clsact, Attach::Tcx, Attach::Clsact] {
            let mut dataplane = Dataplane::open(host.config(attach)).unwrap();
            clean(&dataplane.apply(&state(&a, &b)).unwrap());
            clean(&dataplane.end_of_initial_sync().unwrap());
            // The kernel takes a link away some moments after its pin.
            let attached = || {
                SchedClassifier::query_tcx("calia", TcAttachType::Ingress)
                    .unwrap()
                    .1
                    .len()
            };
            let until = Instant::now() + Duration::from_secs(2);
            while attached() != usize::from(attach == Attach::Tcx) {
                assert!(Instant::now() < until, "{attach:?}: {}", attached());
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(
                pins(&host.pin_dir).len(),
                if attach == Attach::Tcx { 4 } else { 0 }
            );
            let filters = Command::new("tc")
                .args(["filter", "show", "dev", "calia", "ingress"])
                .output()
                .unwrap();
            let filters = String::from_utf8_lossy(&filters.stdout).matches(" tag ").count();
            assert_eq!(filters, usize::from(attach == Attach::Clsact), "{attach:?}");
            let mut events = dataplane.take_flow_events().unwrap().unwrap();
            assert!(passes(&a.udp(0), &b.udp(5000)));
            assert_eq!(drain(&mut events).len(), 2, "one program at each hook");
            assert!(dataplane.take_flow_events().unwrap().is_none());
        }
    });
}

#[test]
fn a_bad_batch_changes_nothing() {
    as_host(|mut host| {
        let (a, b) = two(&mut host);
        let mut config = host.config(Attach::Tcx);
        config.sizes.rules = 16;
        let mut dataplane = Dataplane::open(config).unwrap();
        clean(&dataplane.apply(&state(&a, &b)).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        wait_up(&mut dataplane);
        wait_for_v6(&[&a, &b]);
        let before = dataplane.counters().unwrap().maps;
        let many = Program {
            ..empty(
                (0..15)
                    .map(|at| Rule {
                        action: Action::Deny,
                        id: policy_rule("many", at),
                    })
                    .collect(),
            )
        };
        let too_large = [
            update(5, Arc::new(many)),
            Delta::EndpointUpdate(Box::new(b.endpoint(5, 5))),
        ];
        let error = dataplane.apply(&too_large).unwrap_err().to_string();
        assert!(
            error.contains("RULES") && error.contains("sizes.rules"),
            "{error}"
        );
        let missing = [Delta::EndpointUpdate(Box::new(b.endpoint(77, 77)))];
        assert!(dataplane.apply(&missing).is_err());
        let in_use = [Delta::ProgramRemove {
            key: ProgramKey(ALLOW),
        }];
        assert!(dataplane.apply(&in_use).is_err());
        assert!(dataplane.apply(&[update(ALLOW, deny_all())]).is_err());
        let mut broken = Program::clone(&allow_all());
        broken.source_identity = Some(Table {
            entries: vec![(IdentityId(1), 9)],
            default: 0,
        });
        assert!(dataplane.apply(&[update(6, Arc::new(broken))]).is_err());
        assert_eq!(dataplane.counters().unwrap().maps, before);
        assert!(passes(&a.udp(0), &b.udp(5000)));
        assert!(!passes(&b.udp(0), &a.udp(5001)));
    });
}

#[test]
fn an_interface_has_one_endpoint() {
    as_host(|mut host| {
        let a = host.workload("a", &["10.65.0.1"]);
        let mut dataplane = Dataplane::open(host.config(Attach::Tcx)).unwrap();
        let mut second = a.endpoint(ALLOW, ALLOW);
        second.id.endpoint = "eth1".to_owned();
        let deltas = [
            update(ALLOW, allow_all()),
            update(DENY, deny_all()),
            Delta::EndpointUpdate(Box::new(a.endpoint(DENY, DENY))),
            Delta::EndpointUpdate(Box::new(second.clone())),
        ];
        dataplane.apply(&deltas).unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        while of(&dataplane, &a.id()) != Some(EndpointState::Up) && Instant::now() < until {
            dataplane.resync().unwrap();
        }
        assert_eq!(of(&dataplane, &a.id()), Some(EndpointState::Up));
        assert!(matches!(
            of(&dataplane, &second.id),
            Some(EndpointState::Error(_))
        ));
        // The first goes: the second has the interface.
        dataplane.apply(&[Delta::EndpointRemove(a.id())]).unwrap();
        assert_eq!(of(&dataplane, &second.id), Some(EndpointState::Up));
        assert_eq!(
            host.nl
                .routes_to("10.65.0.1/32".parse().unwrap(), table::MAIN)
                .unwrap()
                .len(),
            1
        );
    });
}

#[test]
fn many_endpoints_come_and_go_at_once() {
    as_host(|mut host| {
        const MANY: u8 = 24;
        let workloads: Vec<_> = (1..=MANY)
            .map(|n| host.workload(&n.to_string(), &[&format!("10.65.1.{n}")]))
            .collect();
        let mut config = host.config(Attach::Auto);
        config.sizes.identities = 50_000;
        let mut dataplane = Dataplane::open(config).unwrap();
        let mut deltas = vec![update(ALLOW, allow_all())];
        deltas.extend(
            workloads
                .iter()
                .map(|w| Delta::EndpointUpdate(Box::new(w.endpoint(ALLOW, ALLOW)))),
        );
        deltas.extend((0..40_000u32).map(|n| Delta::Identity {
            net: IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0000 + n))),
            identity: IdentityId(n % 50 + 1),
        }));
        let started = Instant::now();
        clean(&dataplane.apply(&deltas).unwrap());
        clean(&dataplane.end_of_initial_sync().unwrap());
        println!("{MANY} endpoints and 40000 identities in {:?}", started.elapsed());
        wait_up(&mut dataplane);
        assert!(passes(
            &workloads[0].udp(0),
            &workloads[usize::from(MANY) - 1].udp(5000)
        ));
        // Nothing is left to do.
        let started = Instant::now();
        assert_eq!(dataplane.resync().unwrap(), ApplyReport::default());
        println!("resync in {:?}", started.elapsed());
        let ours = RouteFilter::owned(table::MAIN, 3);
        assert_eq!(host.nl.routes(&ours).unwrap().len(), usize::from(MANY));
        let gone: Vec<_> = workloads.iter().map(|w| Delta::EndpointRemove(w.id())).collect();
        assert_eq!(dataplane.apply(&gone).unwrap().removed.len(), usize::from(MANY));
        assert_eq!(host.nl.routes(&ours).unwrap(), []);
        assert!(host.nl.neighbours().unwrap().iter().all(|n| !n.permanent));
    });
}
