//! Flows: their states, their ends, and connections that begin in the middle.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use common::programs::{allow_all, allow_port, deny_all, frame, transport, update};
use common::{Host, Workload, as_host, drain, sys};
use dataplane::{Attach, Config, Dataplane, FlowEvents, Reason, Verdict};
use policy_engine::output::{Delta, Direction};

const ALLOW: u64 = 1;
const DENY: u64 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x11;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SYN_ACK: u8 = 0x12;
const US: &str = "10.65.0.1";
const THEM: &str = "10.9.9.9";

struct Bench {
    dataplane: Dataplane,
    events: FlowEvents,
    hooks: [OwnedFd; 2],
    workload: Workload,
}

impl Bench {
    fn new(host: &mut Host, ingress: u64, egress: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let workload = host.workload("c", &[US, "fd00:65::1"]);
        let mut config = host.config(Attach::Tcx);
        configure(&mut config);
        let mut dataplane = Dataplane::open(config).unwrap();
        dataplane
            .apply(&[
                update(ALLOW, allow_all()),
                update(DENY, deny_all()),
                update(3, allow_port(TCP, 80)),
                Delta::EndpointUpdate(Box::new(workload.endpoint(ingress, egress))),
            ])
            .unwrap();
        dataplane.end_of_initial_sync().unwrap();
        let events = dataplane.take_flow_events().unwrap().unwrap();
        let hooks = common::programs_at(&workload.interface);
        Self {
            dataplane,
            events,
            hooks,
            workload,
        }
    }

    fn policy(&mut self, ingress: u64, egress: u64) {
        let endpoint = Box::new(self.workload.endpoint(ingress, egress));
        self.dataplane.apply(&[Delta::EndpointUpdate(endpoint)]).unwrap();
    }

    /// Whether a TCP packet from the workload passes.
    fn out(&self, ours: u16, theirs: u16, flags: u8) -> bool {
        self.packet(0, TCP, US, THEM, ours, theirs, flags)
    }

    /// Whether one to the workload does.
    fn back(&self, theirs: u16, ours: u16, flags: u8) -> bool {
        self.packet(1, TCP, THEM, US, theirs, ours, flags)
    }

    #[expect(clippy::too_many_arguments, reason = "a packet's fields")]
    fn packet(
        &self,
        hook: usize,
        protocol: u8,
        source: &str,
        destination: &str,
        from: u16,
        to: u16,
        flags: u8,
    ) -> bool {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let frame = frame(
            ip(source),
            ip(destination),
            protocol,
            &transport(protocol, from, to, flags),
        );
        sys::test_run(&self.hooks[hook], &frame, self.workload.ifindex, 1, 1).0 == -1
    }

    fn count(&self, reason: Reason) -> u64 {
        self.dataplane.counters().unwrap().of(reason)
    }
}

#[test]
fn a_handshake_makes_an_established_flow() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, DENY, 3, |_| {});
        assert!(bench.out(1000, 80, SYN));
        let flow = &bench.dataplane.flows(10).unwrap()[0];
        assert_eq!(
            (flow.source, flow.destination_port, flow.established),
            (US.parse().unwrap(), 80, false)
        );
        assert!(bench.back(80, 1000, SYN_ACK));
        assert!(bench.out(1000, 80, ACK));
        assert!(bench.back(80, 1000, ACK));
        let flow = &bench.dataplane.flows(10).unwrap()[0];
        assert!(flow.established);
        assert_eq!((flow.packets, flow.bytes), ([2, 2], [80, 80]));
        let sweep = bench.dataplane.sweep().unwrap();
        assert_eq!((sweep.flows, sweep.new_flows), (1, 0));
        // One event for all of it.
        let told = drain(&mut bench.events);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(
            (told[0].verdict, told[0].direction),
            (Verdict::Allow, Direction::Egress)
        );
        assert!(!bench.out(1000, 81, SYN));
        assert!(!bench.back(80, 1001, SYN), "their own opening");
    });
}

#[test]
fn an_opening_from_the_far_side_is_no_reply() {
    as_host(|mut host| {
        let bench = Bench::new(&mut host, DENY, 3, |_| {});
        assert!(bench.out(1000, 80, SYN));
        assert!(bench.back(80, 1000, SYN_ACK));
        assert!(bench.out(1000, 80, ACK));
        assert!(!bench.back(80, 1000, SYN), "on the same ports");
        assert!(bench.back(80, 1000, ACK), "the flow lives on");
        // An echo request the other way with the same identifier is not a reply either.
        bench.packet(0, 1, US, THEM, 8, 0, 0);
        assert!(!bench.packet(1, 1, THEM, US, 8, 0, 0));
    });
}

#[test]
fn ports_can_be_used_again_after_an_end() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, ALLOW, 3, |_| {});
        for end in [RST, FIN] {
            assert!(bench.out(1000, 80, SYN));
            assert!(bench.back(80, 1000, SYN_ACK));
            assert!(bench.out(1000, 80, ACK));
            assert!(bench.back(80, 1000, end));
            if end == FIN {
                assert!(bench.out(1000, 80, FIN));
            }
            drain(&mut bench.events);
            assert!(bench.out(1000, 80, SYN));
            assert_eq!(drain(&mut bench.events).len(), 1, "a new flow");
            assert!(!bench.dataplane.flows(10).unwrap()[0].established);
            assert!(bench.back(80, 1000, RST));
        }
        // Or by the other side.
        assert!(bench.back(80, 1000, SYN));
        assert_eq!(
            bench.dataplane.flows(10).unwrap()[0].source,
            THEM.parse::<IpAddr>().unwrap()
        );
    });
}

#[test]
fn a_connection_may_begin_in_the_middle_where_either_side_might_have_opened_it() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, DENY, 3, |_| {});
        // The far side's data, of a connection that the workload may open.
        assert!(bench.back(80, 2000, ACK));
        assert!(bench.out(2000, 80, ACK));
        assert!(bench.back(80, 2000, ACK));
        let told = drain(&mut bench.events);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert_eq!(
            (told[0].reason, told[0].source),
            (Reason::MidflowAllowed, US.parse().unwrap())
        );
        assert_eq!(bench.count(Reason::MidflowAllowed), 1);
        // None that it may not.
        assert!(!bench.back(81, 2000, ACK));
        assert!(!bench.out(2000, 81, ACK));
        assert_eq!(bench.count(Reason::MidflowDenied), 2);
        // An opening in its place is still an opening.
        assert!(!bench.back(80, 2000, SYN));
        // And a change of policy ends it.
        bench.policy(DENY, DENY);
        assert!(!bench.out(2000, 80, ACK));
        assert!(!bench.back(80, 2000, ACK));
        bench.policy(ALLOW, DENY);
        assert!(
            bench.back(80, 2000, ACK),
            "now the other side might have opened it"
        );
        assert!(bench.out(2000, 80, ACK));
    });
}

#[test]
fn strict_mode_knows_no_middle() {
    as_host(|mut host| {
        let bench = Bench::new(&mut host, ALLOW, ALLOW, |config| config.strict_midflow = true);
        assert!(!bench.out(2000, 80, ACK));
        assert!(!bench.back(80, 2000, SYN_ACK));
        assert_eq!(bench.count(Reason::MidflowStrict), 2);
        assert!(bench.out(2000, 80, SYN));
        assert!(bench.back(80, 2000, SYN_ACK));
        assert!(bench.out(2000, 80, ACK));
    });
}

#[test]
fn a_flood_of_openings_drives_out_no_established_flow() {
    as_host(|mut host| {
        let bench = Bench::new(&mut host, DENY, ALLOW, |config| config.sizes.new_flows = 1024);
        assert!(bench.out(1, 80, SYN));
        assert!(bench.back(80, 1, SYN_ACK));
        assert!(bench.out(1, 80, ACK));
        for port in 2..12_000 {
            assert!(bench.out(port, 80, SYN));
        }
        assert!(bench.back(80, 1, ACK));
        assert!(bench.dataplane.flows(100_000).unwrap().len() < 2100);
    });
}

#[test]
fn a_full_table_of_established_flows_costs_none_its_life() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, DENY, ALLOW, |config| config.sizes.flows = 64);
        for port in 1..=100 {
            assert!(bench.packet(0, UDP, US, THEM, port, 53, 0));
            assert!(bench.packet(1, UDP, THEM, US, 53, port, 0));
        }
        assert_eq!(bench.count(Reason::FlowsFull), 36);
        for port in 1..=100 {
            assert!(bench.packet(1, UDP, THEM, US, 53, port, 0), "{port}");
        }
        let sweep = bench.dataplane.sweep().unwrap();
        assert_eq!((sweep.flows, sweep.new_flows), (64, 36));
    });
}

#[test]
fn sweeps_remove_what_has_expired() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, DENY, ALLOW, |config| {
            config.timeouts.udp = Duration::from_millis(200);
            config.timeouts.icmp = Duration::from_secs(60);
        });
        for port in 1..=20 {
            assert!(bench.packet(0, UDP, US, THEM, port, 53, 0));
        }
        assert!(bench.packet(0, UDP, "fd00:65::1", "fd00::9", 7, 53, 0));
        assert!(bench.packet(1, UDP, "fd00::9", "fd00:65::1", 53, 7, 0));
        assert!(bench.packet(0, 1, US, THEM, 8, 0, 0));
        assert_eq!(bench.dataplane.sweep().unwrap().removed, 0);
        std::thread::sleep(Duration::from_millis(300));
        let sweep = bench.dataplane.sweep().unwrap();
        assert_eq!((sweep.removed, sweep.flows, sweep.new_flows), (21, 0, 1));
    });
}

#[test]
fn what_does_not_fit_the_ring_is_counted() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, DENY, ALLOW, |config| config.sizes.events_bytes = 4096);
        for port in 1..=100 {
            assert!(bench.packet(0, UDP, US, THEM, port, 53, 0));
        }
        let told = drain(&mut bench.events).len() as u64;
        assert!(told > 10 && told < 100);
        assert_eq!(bench.events.lost().unwrap(), 100 - told);
    });
}
