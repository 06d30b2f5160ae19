//! Workloads and their host; ICMP errors.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use common::programs::{allow_all, allow_port, deny_all, update};
use common::{Host, PACKET, Workload, as_host_each, drain, echo, passes, round_trip, wait_for_v6, wait_up};
use dataplane::{Config, Dataplane, EndpointToHost, Reason};
use netlink::{Connection, Route};
use policy_engine::output::Delta;

const ALLOW: u64 = 1;
const DENY: u64 = 2;

fn start(config: Config, workload: &Workload, ingress: u64, egress: u64) -> Dataplane {
    let mut dataplane = Dataplane::open(config).unwrap();
    dataplane
        .apply(&[
            update(ALLOW, allow_all()),
            update(DENY, deny_all()),
            Delta::EndpointUpdate(Box::new(workload.endpoint(ingress, egress))),
        ])
        .unwrap();
    dataplane.end_of_initial_sync().unwrap();
    wait_up(&mut dataplane);
    wait_for_v6(&[workload]);
    dataplane
}

fn one(host: &mut Host) -> Workload {
    host.host_address("192.0.2.1");
    host.host_address("2001:db8::1");
    host.workload("h", &["10.65.0.1", "fd00:65::1"])
}

#[test]
fn the_host_reaches_its_workloads_whatever_the_policy() {
    as_host_each(|mut host, attach| {
        let workload = one(&mut host);
        let mut config = host.config(attach);
        config.endpoint_to_host = EndpointToHost::Drop;
        let dataplane = start(config, &workload, DENY, DENY);
        for (own, to) in [("192.0.2.1", workload.v4()), ("2001:db8::1", workload.v6())] {
            let own: IpAddr = own.parse().unwrap();
            echo(workload.listen(to, 80));
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, 80), PACKET * 3).unwrap();
            stream.set_read_timeout(Some(PACKET * 3)).unwrap();
            round_trip(&mut stream).unwrap();
            let client = UdpSocket::bind(SocketAddr::new(own, 0)).unwrap();
            client.set_read_timeout(Some(PACKET)).unwrap();
            let server = workload.udp_at(to, 5000);
            assert!(passes(&client, &server), "{to}");
            assert!(passes(&server, &client), "an answer from {to}");
            // But no opening in the answers' shadow.
            let other = workload.udp_at(to, 5001);
            assert!(!passes(&other, &client), "{to}");
            assert!(
                Command::new("ping")
                    .args(["-c1", "-W1", &to.to_string()])
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
        }
        assert!(dataplane.counters().unwrap().of(Reason::FromHost) >= 6);
    });
}

#[test]
fn workloads_reach_their_host_only_where_it_is_switched_on() {
    as_host_each(|mut host, attach| {
        let workload = one(&mut host);
        let server = UdpSocket::bind("192.0.2.1:5000").unwrap();
        server.set_read_timeout(Some(PACKET)).unwrap();
        let server6 = UdpSocket::bind("[2001:db8::1]:5000").unwrap();
        server6.set_read_timeout(Some(PACKET)).unwrap();
        let (client, client6) = (
            workload.udp_at(workload.v4(), 0),
            workload.udp_at(workload.v6(), 0),
        );

        let mut config = host.config(attach);
        config.endpoint_to_host = EndpointToHost::Drop;
        let mut dataplane = start(config.clone(), &workload, ALLOW, ALLOW);
        let mut events = dataplane.take_flow_events().unwrap().unwrap();
        assert!(!passes(&client, &server));
        assert!(!passes(&client6, &server6));
        let told = drain(&mut events);
        assert!(
            told.iter().filter(|e| e.reason == Reason::EndpointToHost).count() >= 2,
            "{told:#?}"
        );
        drop((dataplane, events));

        config.endpoint_to_host = EndpointToHost::Return;
        let dataplane = start(config.clone(), &workload, ALLOW, ALLOW);
        for (client, server) in [(&client, &server), (&client6, &server6)] {
            assert!(passes(client, server));
            assert!(passes(server, client), "the host's answer");
        }
        drop(dataplane);
        // The policy has its say first.
        let _dataplane = start(config, &workload, ALLOW, DENY);
        assert!(!passes(&client, &server));
        assert!(!passes(&client6, &server6));
    });
}

/// A router behind the host, which has the network 10.99.0.0/24 and fd00:99::/64 behind it.
fn uplink(host: &mut Host, mtu: u32) -> Workload {
    let far = netlink::NetNs::unnamed().unwrap();
    let spec = netlink::VethSpec {
        peer_netns: Some(&far),
        mtu: Some(mtu),
        ..netlink::VethSpec::new("up0", "eth0")
    };
    host.nl.create_veth(&spec).unwrap();
    let up0 = host.nl.index_of("up0").unwrap();
    netlink::sysctl::write("net/ipv6/conf/up0/accept_dad", "0").unwrap();
    host.nl.add_address(up0, "10.98.0.1/24".parse().unwrap()).unwrap();
    host.nl.set_up(up0).unwrap();
    host.nl
        .add_address(up0, "fd00:98::1/64".parse().unwrap())
        .unwrap();
    netlink::sysctl::write_in(&far, &[("net/ipv6/conf/eth0/accept_dad", "0")]).unwrap();
    let mut inside = Connection::open_in(&far).unwrap();
    let eth0 = inside.index_of("eth0").unwrap();
    inside.add_address(eth0, "10.98.0.2/24".parse().unwrap()).unwrap();
    inside.set_up(1).unwrap();
    inside.set_up(eth0).unwrap();
    inside
        .add_address(eth0, "fd00:98::2/64".parse().unwrap())
        .unwrap();
    inside
        .add_route(&Route::new("10.65.0.0/24".parse().unwrap()).via("10.98.0.1".parse().unwrap()))
        .unwrap();
    inside
        .add_route(&Route::new("fd00:65::/64".parse().unwrap()).via("fd00:98::1".parse().unwrap()))
        .unwrap();
    Workload {
        interface: "up0".to_owned(),
        ifindex: up0,
        netns: far,
        addresses: vec!["10.98.0.2".parse().unwrap(), "fd00:98::2".parse().unwrap()],
        mac: [0; 6],
    }
}

#[test]
fn a_host_without_a_default_route_serves_its_workloads() {
    as_host_each(|mut host, attach| {
        let far = uplink(&mut host, 1500);
        let (a, b) = (
            host.workload("a", &["10.65.0.1", "fd00:65::1"]),
            host.workload("b", &["10.65.0.2", "fd00:65::2"]),
        );
        let mut dataplane = start(host.config(attach), &a, DENY, ALLOW);
        dataplane
            .apply(&[Delta::EndpointUpdate(Box::new(b.endpoint(ALLOW, ALLOW)))])
            .unwrap();
        wait_for_v6(&[&b, &far]);
        for (to, peer) in [(b.v4(), &b), (b.v6(), &b), (far.v4(), &far), (far.v6(), &far)] {
            let from = if to.is_ipv4() { a.v4() } else { a.v6() };
            let (client, server) = (a.udp_at(from, 0), peer.udp_at(to, 5000));
            assert!(passes(&client, &server), "{to}");
            assert!(passes(&server, &client), "{to}");
        }
        let nowhere = a.udp_at(a.v4(), 0);
        nowhere.send_to(b"x", "203.0.113.1:9").unwrap();
    });
}

#[test]
fn errors_about_a_flow_pass_with_it() {
    as_host_each(|mut host, attach| {
        let far = uplink(&mut host, 1500);
        let a = host.workload("a", &["10.65.0.1", "fd00:65::1"]);
        let mut dataplane = start(host.config(attach), &a, DENY, DENY);
        // UDP to port 5000 only: no ICMP at all is allowed.
        dataplane
            .apply(&[
                update(3, allow_port(17, 5000)),
                Delta::EndpointUpdate(Box::new(a.endpoint(DENY, 3))),
            ])
            .unwrap();
        wait_for_v6(&[&far]);
        for (from, to) in [(a.v4(), far.v4()), (a.v6(), far.v6())] {
            // Nobody listens: the far side says that the port is unreachable.
            let client = a.udp_at(from, 0);
            client.connect(SocketAddr::new(to, 5000)).unwrap();
            client.send(b"x").unwrap();
            let error = client.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        }
        assert_eq!(dataplane.counters().unwrap().of(Reason::IcmpRelated), 2);
        // An error about a flow that nobody opened is for policy.
        let before = dataplane.counters().unwrap().of(Reason::PolicyDeny);
        let hooks_flow = far.udp_at(far.v4(), 6000);
        hooks_flow.send_to(b"x", SocketAddr::new(a.v4(), 7)).unwrap();
        std::thread::sleep(PACKET / 3);
        assert!(dataplane.counters().unwrap().of(Reason::PolicyDeny) > before);
    });
}

#[test]
fn path_mtu_discovery_works() {
    as_host_each(|mut host, attach| {
        let far = uplink(&mut host, 1500);
        let (a, b) = (
            host.workload("a", &["10.65.0.1", "fd00:65::1"]),
            host.workload("b", &["10.65.0.2"]),
        );
        let mut dataplane = start(host.config(attach), &a, DENY, ALLOW);
        dataplane
            .apply(&[
                update(3, allow_port(17, 5000)),
                Delta::EndpointUpdate(Box::new(b.endpoint(3, DENY))),
            ])
            .unwrap();
        wait_for_v6(&[&far]);
        // A narrow link behind the far side: its errors are of another address than the flow's ends.
        netlink::sysctl::write_in(
            &far.netns,
            &[
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
            ],
        )
        .unwrap();
        let mut inside = Connection::open_in(&far.netns).unwrap();
        inside
            .create_veth(&netlink::VethSpec {
                mtu: Some(1300),
                ..netlink::VethSpec::new("n0", "n1")
            })
            .unwrap();
        for name in ["n0", "n1"] {
            let index = inside.index_of(name).unwrap();
            inside.set_up(index).unwrap();
        }
        let n0 = inside.index_of("n0").unwrap();
        inside
            .add_route(&Route::new("10.99.0.0/24".parse().unwrap()).dev(n0))
            .unwrap();
        inside
            .add_route(&Route::new("fd00:99::/64".parse().unwrap()).dev(n0))
            .unwrap();
        host.nl
            .add_route(&Route::new("10.99.0.0/24".parse().unwrap()).via("10.98.0.2".parse().unwrap()))
            .unwrap();
        host.nl
            .add_route(&Route::new("fd00:99::/64".parse().unwrap()).via("fd00:98::2".parse().unwrap()))
            .unwrap();
        for (to, family) in [("10.99.0.9", "-4"), ("fd00:99::9", "-6")] {
            let size = if family == "-4" { "1400" } else { "1380" };
            a.run("ping", &[family, "-n", "-c1", "-W1", "-M", "do", "-s", size, to]);
            let route = a.run("ip", &[family, "route", "get", to]);
            assert!(route.contains("mtu 1300"), "{route}");
        }
        assert!(dataplane.counters().unwrap().of(Reason::IcmpRelated) >= 2);
    });
}

#[test]
fn a_host_that_answers_after_a_denial_opens_nothing() {
    as_host_each(|mut host, attach| {
        let workload = one(&mut host);
        let mut dataplane = start(host.config(attach), &workload, DENY, ALLOW);
        let listener = TcpListener::bind("192.0.2.1:80").unwrap();
        let mut client = workload.connect("192.0.2.1".parse().unwrap(), 80).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer).unwrap();
        // Denied while the connection lives: what the host goes on sending must not let the workload speak.
        dataplane
            .apply(&[Delta::EndpointUpdate(Box::new(workload.endpoint(DENY, DENY)))])
            .unwrap();
        server.set_read_timeout(Some(PACKET * 2)).unwrap();
        server.write_all(b"still there?").unwrap();
        client.write_all(b"hello").unwrap();
        assert!(server.read_exact(&mut buffer).is_err());
    });
}
