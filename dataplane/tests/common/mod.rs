//! A host in a network and a mount namespace of its own, with a bpffs of its own, and workloads in namespaces.
#![expect(unreachable_pub, reason = "a module of several test crates")]
#![expect(dead_code, reason = "each test file uses a part")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

pub mod programs;
pub mod sys;

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dataplane::{Attach, Config, Dataplane, EndpointState, EndpointToHost, FlowEvent, FlowEvents};
use ipnet::IpNet;
use netlink::{Connection, Mac, NetNs, Route, VethSpec};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use policy_engine::output::{Endpoint, EndpointId, EndpointPrograms, ProgramKey};

/// How long a packet may take.
pub const PACKET: Duration = Duration::from_millis(300);

/// Runs `test` as the host. Its namespaces end with the thread.
pub fn as_host(test: impl FnOnce(Host) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        mount(Some("bpf"), dir.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
        let mut nl = Connection::open().unwrap();
        nl.set_up(1).unwrap();
        test(Host {
            pin_dir: dir.path().join("margay"),
            nl,
            pings: 0,
        });
        drop(dir);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `test` with each way of attaching.
pub fn as_host_each(test: fn(Host, Attach)) {
    for attach in [Attach::Tcx, Attach::Clsact] {
        as_host(move |host| test(host, attach));
    }
}

pub struct Host {
    pub pin_dir: PathBuf,
    pub nl: Connection,
    pings: u16,
}

/// A namespace behind a `cali` interface.
pub struct Workload {
    pub interface: String,
    pub ifindex: u32,
    pub netns: NetNs,
    pub addresses: Vec<IpAddr>,
    pub mac: [u8; 6],
}

impl Host {
    pub fn config(&self, attach: Attach) -> Config {
        Config {
            pin_dir: self.pin_dir.clone(),
            attach,
            endpoint_to_host: EndpointToHost::Return,
            sizes: dataplane::Sizes {
                flows: 4096,
                new_flows: 4096,
                identities: 4096,
                identity_nets: 1024,
                vectors: 2048,
                rules: 16384,
                classes: 16384,
                nets: 16384,
                ports: 16384,
                tuples: 16384,
                events_bytes: 1 << 18,
            },
            ..Config::default()
        }
    }

    /// Makes what the CNI plugin makes: a veth pair whose host end is down, addresses and routes inside.
    pub fn workload(&mut self, name: &str, addresses: &[&str]) -> Workload {
        let netns = NetNs::unnamed().unwrap();
        let interface = format!("cali{name}");
        let last = addresses
            .iter()
            .flat_map(|a| a.bytes())
            .fold(1u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let mac = [0x02, 0, 0, 0, 1, last];
        let spec = VethSpec {
            peer_netns: Some(&netns),
            mac: Some(Mac([0xee; 6])),
            peer_mac: Some(Mac(mac)),
            ..VethSpec::new(&interface, "eth0")
        };
        self.nl.create_veth(&spec).unwrap();
        let ifindex = self.nl.index_of(&interface).unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        netlink::sysctl::write_in(
            &netns,
            &[
                ("net/ipv6/conf/all/disable_ipv6", "0"),
                ("net/ipv6/conf/eth0/accept_dad", "0"),
                ("net/ipv6/conf/eth0/router_solicitations", "0"),
            ],
        )
        .unwrap();
        let mut inside = Connection::open_in(&netns).unwrap();
        inside.set_up(1).unwrap();
        let eth0 = inside.index_of("eth0").unwrap();
        inside.set_up(eth0).unwrap();
        let gateway: IpAddr = "169.254.1.1".parse().unwrap();
        let link_local: IpAddr = "fe80::ecee:eeff:feee:eeee".parse().unwrap();
        for address in &addresses {
            inside.add_address(eth0, IpNet::from(*address)).unwrap();
        }
        if addresses.iter().any(IpAddr::is_ipv4) {
            inside
                .add_route(&Route::new(IpNet::from(gateway)).dev(eth0))
                .unwrap();
            let hop = netlink::Hop::via(gateway).on(eth0);
            inside
                .add_route(&Route::new("0.0.0.0/0".parse().unwrap()).hop(hop))
                .unwrap();
            inside
                .set_neighbour(&netlink::Neighbour::permanent(eth0, gateway, Mac([0xee; 6])))
                .unwrap();
        }
        if addresses.iter().any(IpAddr::is_ipv6) {
            let hop = netlink::Hop::via(link_local).on(eth0);
            inside
                .add_route(&Route::new("::/0".parse().unwrap()).hop(hop))
                .unwrap();
        }
        Workload {
            interface,
            ifindex,
            netns,
            addresses,
            mac,
        }
    }

    /// An address of the host itself.
    pub fn host_address(&mut self, address: &str) {
        self.nl
            .add_address(1, IpNet::from(address.parse::<IpAddr>().unwrap()))
            .unwrap();
    }

    pub fn sysctl(&self, name: &str) -> String {
        netlink::sysctl::read(name).unwrap()
    }
}

impl Workload {
    pub fn id(&self) -> EndpointId {
        EndpointId {
            orchestrator: "k8s".to_owned(),
            workload: format!("default/{}", self.interface),
            endpoint: "eth0".to_owned(),
        }
    }

    pub fn v4(&self) -> IpAddr {
        *self.addresses.iter().find(|a| a.is_ipv4()).unwrap()
    }

    pub fn v6(&self) -> IpAddr {
        *self.addresses.iter().find(|a| a.is_ipv6()).unwrap()
    }

    /// The endpoint with one program key for each direction.
    pub fn endpoint(&self, ingress: u64, egress: u64) -> Endpoint {
        Endpoint {
            id: self.id(),
            interface: self.interface.clone(),
            addresses: self.addresses.clone(),
            allowed_sources: Vec::new(),
            mac: Some(self.mac),
            programs: EndpointPrograms {
                ingress_v4: ProgramKey(ingress),
                egress_v4: ProgramKey(egress),
                ingress_v6: ProgramKey(ingress),
                egress_v6: ProgramKey(egress),
            },
        }
    }

    pub fn udp(&self, port: u16) -> UdpSocket {
        self.udp_at(self.addresses[0], port)
    }

    pub fn udp_at(&self, address: IpAddr, port: u16) -> UdpSocket {
        let socket = self
            .netns
            .run(|| UdpSocket::bind(SocketAddr::new(address, port)))
            .unwrap()
            .unwrap();
        socket.set_read_timeout(Some(PACKET)).unwrap();
        socket
    }

    pub fn listen(&self, address: IpAddr, port: u16) -> TcpListener {
        self.netns
            .run(|| TcpListener::bind(SocketAddr::new(address, port)))
            .unwrap()
            .unwrap()
    }

    pub fn connect(&self, to: IpAddr, port: u16) -> std::io::Result<TcpStream> {
        let to = SocketAddr::new(to, port);
        let stream = self
            .netns
            .run(|| TcpStream::connect_timeout(&to, PACKET * 3))
            .unwrap()?;
        stream.set_read_timeout(Some(PACKET * 3))?;
        Ok(stream)
    }

    /// One echo request; whether an answer came.
    pub fn ping(&self, to: IpAddr, arguments: &[&str]) -> bool {
        let to = to.to_string();
        let run = || {
            Command::new("ping")
                .args(["-n", "-c1", "-W1"])
                .args(arguments)
                .arg(&to)
                .output()
        };
        self.netns.run(run).unwrap().unwrap().status.success()
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self
            .netns
            .run(|| Command::new(program).args(arguments).output())
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

/// Whether a datagram gets from one socket to another, and is the one that was sent.
pub fn passes(from: &UdpSocket, to: &UdpSocket) -> bool {
    let mark = format!("{:?}", Instant::now());
    from.send_to(mark.as_bytes(), to.local_addr().unwrap()).unwrap();
    received(to, mark.as_bytes())
}

/// Whether a datagram arrives.
pub fn received(at: &UdpSocket, expected: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    let until = Instant::now() + PACKET;
    while Instant::now() < until {
        match at.recv_from(&mut buffer) {
            Ok((length, _)) if buffer.get(..length) == Some(expected) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Answers every connection of a listener with the bytes that it sends, as long as it lives.
pub fn echo(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut reader, &mut stream);
            });
        }
    });
}

/// Sends a line and waits for it to come back.
pub fn round_trip(stream: &mut TcpStream) -> std::io::Result<()> {
    use std::io::{Read, Write};
    stream.write_all(b"margay")?;
    let mut buffer = [0; 6];
    stream.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"margay");
    Ok(())
}

/// Everything that events tell up to now.
pub fn drain(events: &mut FlowEvents) -> Vec<FlowEvent> {
    let mut all = Vec::new();
    for _ in 0..1000 {
        let batch = events.next_batch(1000, Duration::ZERO).unwrap();
        if batch.is_empty() {
            break;
        }
        all.extend(batch);
    }
    all
}

/// Waits until every endpoint is up: the kernel notices carriers with some delay.
pub fn wait_up(dataplane: &mut Dataplane) {
    let until = Instant::now() + Duration::from_secs(5);
    let waits = |d: &Dataplane| {
        d.statuses()
            .iter()
            .any(|s| s.state == EndpointState::WaitingForInterface)
    };
    while waits(dataplane) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        dataplane.resync().unwrap();
    }
    for status in dataplane.statuses() {
        assert_eq!(status.state, EndpointState::Up, "{}", status.interface);
    }
    // The workloads' own ends notice at about the same time; nothing on the host tells when.
    std::thread::sleep(Duration::from_millis(50));
}

/// The kernel notices with some delay that a link has a carrier, and only then gives it a link-local address.
pub fn wait_for_v6(workloads: &[&Workload]) {
    let has = |name: &str| {
        std::fs::read_to_string("/proc/thread-self/net/if_inet6").is_ok_and(|all| all.contains(name))
    };
    let until = Instant::now() + Duration::from_secs(5);
    for workload in workloads {
        while !(has(&workload.interface) && workload.netns.run(|| has("fe80")).unwrap()) {
            assert!(
                Instant::now() < until,
                "{} gets no link-local address",
                workload.interface
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The TCX programs at both hooks of an interface: from and to the workload.
pub fn programs_at(interface: &str) -> [std::os::fd::OwnedFd; 2] {
    use aya::programs::{SchedClassifier, TcAttachType};
    [TcAttachType::Ingress, TcAttachType::Egress].map(|hook| {
        let (_, programs) = SchedClassifier::query_tcx(interface, hook).unwrap();
        sys::program(programs[0].id())
    })
}

pub fn pins(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join("links"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
