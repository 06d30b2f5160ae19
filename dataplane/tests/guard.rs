//! What a workload may send at all, packet by packet through the loaded programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use common::programs::{allow_all, allow_port, deny_all, frame, transport, update};
use common::{Host, Workload, as_host, drain, sys};
use dataplane::{Attach, Dataplane, FlowEvents, Reason};
use policy_engine::output::Delta;

const PASS: i32 = -1;
const UDP: u8 = 17;

struct Bench {
    dataplane: Dataplane,
    events: FlowEvents,
    hooks: [OwnedFd; 2],
    workload: Workload,
}

impl Bench {
    fn new(host: &mut Host, change: impl FnOnce(&mut policy_engine::output::Endpoint)) -> Self {
        let workload = host.workload("g", &["10.65.0.1", "fd00:65::1"]);
        let mut dataplane = Dataplane::open(host.config(Attach::Tcx)).unwrap();
        let mut endpoint = workload.endpoint(1, 1);
        change(&mut endpoint);
        dataplane
            .apply(&[
                update(1, allow_all()),
                update(2, deny_all()),
                update(3, allow_port(UDP, 5000)),
                Delta::EndpointUpdate(Box::new(endpoint)),
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

    /// A frame that the workload sends: `None` if it passes, else why not.
    fn sends(&mut self, frame: &[u8]) -> Option<Reason> {
        self.runs(0, frame)
    }

    /// A forwarded frame to the workload.
    fn receives(&mut self, frame: &[u8]) -> Option<Reason> {
        self.runs(1, frame)
    }

    fn runs(&mut self, hook: usize, frame: &[u8]) -> Option<Reason> {
        drain(&mut self.events);
        let before = self.dataplane.counters().unwrap();
        let (code, _) = sys::test_run(&self.hooks[hook], frame, self.workload.ifindex, 1, 1);
        if code == PASS {
            return None;
        }
        assert_eq!(code, 2);
        let after = self.dataplane.counters().unwrap();
        let mut reasons: Vec<_> = Reason::ALL
            .iter()
            .copied()
            .filter(|r| after.of(*r) > before.of(*r))
            .collect();
        // The workload's own kernel speaks meanwhile: listener reports, neighbour discovery.
        reasons.retain(|reason| *reason != Reason::LinkLocal);
        if reasons.len() > 1 {
            reasons.retain(|reason| *reason != Reason::Spoofed);
        }
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        if let Some(event) = drain(&mut self.events).first() {
            assert_eq!(event.reason, reasons[0]);
        }
        Some(reasons[0])
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn udp(source: &str, destination: &str, from: u16, to: u16) -> Vec<u8> {
    frame(ip(source), ip(destination), UDP, &transport(UDP, from, to, 0))
}

fn icmp6(source: &str, destination: &str, kind: u8, hop_limit: u8) -> Vec<u8> {
    let mut bytes = frame(ip(source), ip(destination), 58, &transport(58, kind.into(), 0, 0));
    bytes[21] = hop_limit;
    bytes
}

#[test]
fn sources_are_the_workloads_own() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |endpoint| {
            for n in 10..16 {
                endpoint.addresses.push(ip(&format!("10.65.0.{n}")));
            }
            endpoint.allowed_sources =
                vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        });
        for own in ["10.65.0.1", "10.65.0.10", "10.65.0.15", "192.0.2.77"] {
            assert_eq!(bench.sends(&udp(own, "10.9.9.9", 1, 5000)), None, "{own}");
        }
        for own in ["fd00:65::1", "2001:db8::5"] {
            assert_eq!(bench.sends(&udp(own, "fd00:9::9", 1, 5000)), None, "{own}");
        }
        for other in [
            "10.65.0.2",
            "10.65.0.16",
            "192.0.3.1",
            "0.0.0.0",
            "169.254.1.1",
            "255.255.255.255",
        ] {
            assert_eq!(
                bench.sends(&udp(other, "10.9.9.9", 1, 5000)),
                Some(Reason::Spoofed),
                "{other}"
            );
        }
        for other in ["fd00:65::2", "::", "fe80::1", "ff02::1", "::1"] {
            assert_eq!(
                bench.sends(&udp(other, "fd00:9::9", 1, 5000)),
                Some(Reason::Spoofed),
                "{other}"
            );
        }
        assert_eq!(
            bench.sends(&udp("::ffff:10.65.0.1", "fd00:9::9", 1, 2)),
            Some(Reason::Malformed)
        );
        // Also on a flow that is known.
        assert_eq!(bench.receives(&udp("10.9.9.9", "10.65.0.1", 7, 8)), None);
        assert_eq!(
            bench.sends(&udp("10.9.9.9", "10.65.0.1", 7, 8)),
            Some(Reason::Spoofed)
        );
    });
}

#[test]
fn allowing_every_ipv6_source_allows_no_ipv4_one() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |endpoint| {
            endpoint.allowed_sources = vec!["::/0".parse().unwrap()]
        });
        assert_eq!(bench.sends(&udp("fd00:65::2", "fd00:9::9", 1, 5000)), None);
        assert_eq!(
            bench.sends(&udp("10.65.0.2", "10.9.9.9", 1, 5000)),
            Some(Reason::Spoofed)
        );
    });
}

#[test]
fn arp_has_the_workload_as_its_sender() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |_| {});
        let arp = |sender: [u8; 4]| {
            let mut frame = vec![0xff; 6];
            frame.extend([
                2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1,
            ]);
            frame.extend(sender);
            frame.extend([0, 0, 0, 0, 0, 0, 169, 254, 1, 1]);
            frame
        };
        assert_eq!(bench.sends(&arp([10, 65, 0, 1])), None);
        assert_eq!(bench.sends(&arp([0, 0, 0, 0])), None);
        assert_eq!(bench.sends(&arp([10, 65, 0, 2])), Some(Reason::SpoofedArp));
        assert_eq!(bench.sends(&arp([10, 65, 0, 1])[..30]), Some(Reason::Malformed));
        assert_eq!(bench.receives(&arp([10, 65, 0, 9])), None);
    });
}

#[test]
fn neighbour_discovery_passes_whatever_the_policy() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |endpoint| {
            endpoint.programs.egress_v6 = policy_engine::output::ProgramKey(2);
        });
        let group = "ff02::1:ffee:eeee";
        for kind in [133, 135, 136] {
            for source in ["fd00:65::1", "fe80::1", "::"] {
                assert_eq!(
                    bench.sends(&icmp6(source, group, kind, 255)),
                    None,
                    "{kind} {source}"
                );
            }
            assert_eq!(bench.sends(&icmp6("fe80::1", "fe80::2", kind, 255)), None);
            assert_eq!(
                bench.sends(&icmp6("fe80::1", group, kind, 64)),
                Some(Reason::NeighbourDiscovery)
            );
            assert_eq!(
                bench.sends(&icmp6("fd00:65::2", group, kind, 255)),
                Some(Reason::Spoofed)
            );
        }
        for kind in 130..=132 {
            assert_eq!(
                bench.sends(&icmp6("fe80::1", "ff02::16", kind, 1)),
                None,
                "{kind}"
            );
        }
        // To another workload's address it is for policy.
        assert_eq!(
            bench.sends(&icmp6("fd00:65::1", "2001:db8::1", 128, 64)),
            Some(Reason::PolicyDeny)
        );
        for kind in [134, 137] {
            assert_eq!(
                bench.sends(&icmp6("fd00:65::1", group, kind, 255)),
                Some(Reason::RouterMessage)
            );
            assert_eq!(
                bench.sends(&icmp6("fe80::1", "fe80::2", kind, 255)),
                Some(Reason::RouterMessage)
            );
        }
        let redirect = frame(ip("10.65.0.1"), ip("10.9.9.9"), 1, &transport(1, 5, 0, 0));
        assert_eq!(bench.sends(&redirect), Some(Reason::RouterMessage));
    });
}

#[test]
fn a_workload_is_no_dhcp_server() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |_| {});
        assert_eq!(
            bench.sends(&udp("10.65.0.1", "10.9.9.9", 67, 68)),
            Some(Reason::DhcpServer)
        );
        assert_eq!(
            bench.sends(&udp("fd00:65::1", "fd00:9::9", 547, 546)),
            Some(Reason::DhcpServer)
        );
        assert_eq!(bench.sends(&udp("10.65.0.1", "10.9.9.9", 68, 67)), None);
    });
}

#[test]
fn what_cannot_be_judged_is_dropped() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |_| {});
        let good = udp("10.65.0.1", "10.9.9.9", 1, 5000);
        let mut other = good.clone();
        other[12..14].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(bench.sends(&other), Some(Reason::NotIp));
        let mut options = good.clone();
        options[14] = 0x46;
        options.extend([0; 4]);
        assert_eq!(bench.sends(&options), Some(Reason::IpOptions));
        let mut short = good.clone();
        short[14] = 0x44;
        assert_eq!(bench.sends(&short), Some(Reason::Malformed));
        let mut lying = good.clone();
        lying[14] = 0x65;
        assert_eq!(bench.sends(&lying), Some(Reason::Malformed));
        for protocol in [6, UDP, 1] {
            let whole = frame(
                ip("10.65.0.1"),
                ip("10.9.9.9"),
                protocol,
                &transport(protocol, 8, 0, 2),
            );
            let needed = 34 + if protocol == 6 { 20 } else { 8 };
            // The kernel itself refuses to run shorter ones.
            for length in 34..needed {
                assert_eq!(
                    bench.sends(&whole[..length]),
                    Some(Reason::Malformed),
                    "{protocol} {length}"
                );
            }
            assert_eq!(bench.sends(&whole[..needed]), None, "{protocol}");
        }
        for length in 54..62 {
            let whole = udp("fd00:65::1", "fd00:9::9", 1, 5000);
            assert_eq!(bench.sends(&whole[..length]), Some(Reason::Malformed), "{length}");
        }
    });
}

/// An IPv6 packet with `headers` (type, bytes after the next-header field) before UDP.
fn extended(headers: &[(u8, &[u8])], port: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    for (at, (_, rest)) in headers.iter().enumerate() {
        payload.push(headers.get(at + 1).map_or(UDP, |(kind, _)| *kind));
        payload.extend(*rest);
    }
    payload.extend(transport(UDP, 1, port, 0));
    frame(ip("fd00:65::1"), ip("fd00:9::9"), headers[0].0, &payload)
}

#[test]
fn extension_headers_are_followed_to_a_bound() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |endpoint| {
            endpoint.programs.egress_v6 = policy_engine::output::ProgramKey(3);
        });
        let options: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
        let hop_by_hop: (u8, &[u8]) = (0, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let authentication: (u8, &[u8]) = (51, &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
        let routing: (u8, &[u8]) = (43, &[0, 4, 0, 0, 0, 0, 0]);
        for headers in [
            vec![options],
            vec![hop_by_hop, options],
            vec![hop_by_hop, authentication, options],
        ] {
            assert_eq!(bench.sends(&extended(&headers, 5000)), None);
            assert_eq!(bench.sends(&extended(&headers, 5001)), Some(Reason::PolicyDeny));
        }
        assert_eq!(
            bench.sends(&extended(&[routing], 5000)),
            Some(Reason::ExtensionHeaders)
        );
        assert_eq!(bench.sends(&extended(&[options; 5], 5000)), None);
        assert_eq!(
            bench.sends(&extended(&[options; 7], 5000)),
            Some(Reason::ExtensionHeaders)
        );
        // A header that says it is longer than the packet.
        let endless: (u8, &[u8]) = (60, &[255, 1, 4, 0, 0, 0, 0]);
        assert_eq!(bench.sends(&extended(&[endless], 5000)), Some(Reason::Malformed));
    });
}

/// Sets the fragment field (flags and offset in units of 8 bytes) and the identification of an IPv4 frame.
fn fragment(mut frame: Vec<u8>, id: u16, field: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

#[test]
fn later_fragments_are_judged_by_the_first_ones_ports() {
    as_host(|mut host| {
        let mut bench = Bench::new(&mut host, |endpoint| {
            endpoint.programs.egress_v4 = policy_engine::output::ProgramKey(3);
            endpoint.programs.egress_v6 = policy_engine::output::ProgramKey(3);
        });
        const MORE: u16 = 0x2000;
        let (good, bad) = (
            udp("10.65.0.1", "10.9.9.9", 1, 5000),
            udp("10.65.0.1", "10.9.9.9", 1, 5001),
        );
        let rest = frame(
            ip("10.65.0.1"),
            ip("10.9.9.9"),
            UDP,
            &[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0],
        );
        assert_eq!(
            bench.sends(&fragment(rest.clone(), 7, 100)),
            Some(Reason::FragmentWithoutFirst)
        );
        assert_eq!(bench.sends(&fragment(good, 7, MORE)), None);
        assert_eq!(bench.sends(&fragment(rest.clone(), 7, MORE | 100)), None);
        assert_eq!(bench.sends(&fragment(rest.clone(), 7, 200)), None);
        assert_eq!(
            bench.sends(&fragment(rest.clone(), 8, 200)),
            Some(Reason::FragmentWithoutFirst)
        );
        assert_eq!(bench.sends(&fragment(bad, 9, MORE)), Some(Reason::PolicyDeny));
        assert_eq!(
            bench.sends(&fragment(rest.clone(), 9, 200)),
            Some(Reason::PolicyDeny)
        );
        // It would overwrite the header that was judged.
        assert_eq!(bench.sends(&fragment(rest, 7, 1)), Some(Reason::Malformed));

        let v6 = |field: u16, port: u16| {
            let mut rest = vec![0];
            rest.extend(field.to_be_bytes());
            rest.extend([0, 0, 0, 42]);
            extended(&[(44, &rest)], port)
        };
        assert_eq!(bench.sends(&v6(80 << 3, 9)), Some(Reason::FragmentWithoutFirst));
        assert_eq!(bench.sends(&v6(1, 5000)), None);
        assert_eq!(bench.sends(&v6(80 << 3, 9)), None);
        // A datagram in one fragment is no fragment.
        assert_eq!(bench.sends(&v6(0, 5001)), Some(Reason::PolicyDeny));
    });
}

#[test]
fn an_interface_without_endpoint_drops_everything() {
    as_host(|mut host| {
        let workload = host.workload("x", &["10.65.0.1"]);
        let mut dataplane = Dataplane::open(host.config(Attach::Tcx)).unwrap();
        let hooks = common::programs_at(&workload.interface);
        let frame = udp("10.65.0.1", "10.9.9.9", 1, 2);
        for hook in &hooks {
            assert_eq!(sys::test_run(hook, &frame, workload.ifindex, 1, 1).0, 2);
            // Even the host's own.
            assert_eq!(sys::test_run(hook, &frame, workload.ifindex, 0, 1).0, 2);
        }
        assert_eq!(dataplane.counters().unwrap().of(Reason::NoEndpoint), 4);
        // And again when the endpoint goes.
        let change = [
            update(1, allow_all()),
            Delta::EndpointUpdate(Box::new(workload.endpoint(1, 1))),
        ];
        dataplane.apply(&change).unwrap();
        assert_eq!(sys::test_run(&hooks[0], &frame, workload.ifindex, 1, 1).0, PASS);
        let report = dataplane.apply(&[Delta::EndpointRemove(workload.id())]).unwrap();
        assert_eq!(report.removed, vec![workload.id()]);
        assert_eq!(sys::test_run(&hooks[0], &frame, workload.ifindex, 1, 1).0, 2);
    });
}
