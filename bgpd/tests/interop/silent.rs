//! Silent loss of one of two ToRs: frames vanish, the carrier stays, and only BFD can tell. A host with `bgpd` and
//! two ToRs with BIRD, which announce the same prefixes; packets with numbers go to some of them all the time.
//!
//! The benchmark measures with it, the tests use a few routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netlink::{Connection, RouteFilter, table};
use nix::sys::socket::{setsockopt, sockopt};

use crate::net::{Netns, Process, wait_for};

/// Flows, each to a prefix of its own.
const FLOWS: usize = 64;
/// Between two packets of a flow.
const PACE: Duration = Duration::from_millis(4);
/// Traffic before the loss: neighbours are resolved by then.
const BEFORE: Duration = Duration::from_millis(1500);
/// Part of it that must be whole.
const WHOLE: Duration = Duration::from_millis(300);
/// Packets that are under way at the end are not missed.
const FLIGHT_TIME: Duration = Duration::from_millis(300);
/// Between the beginning of the loss and that.
const AFTER: Duration = Duration::from_secs(3);
const START_TIME: Duration = Duration::from_secs(60);
/// Receive queue of a sink, so that a busy machine loses nothing by itself.
const SINK_BYTES: usize = 32 << 20;
const PORT: u16 = 7777;
/// Between two sessions' packets of BFD; three missing ones are a failure.
pub(crate) const BFD_INTERVAL_MS: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

impl Ip {
    fn address(self, tor: usize, last: u8) -> String {
        match self {
            Self::V4 => format!("10.255.{tor}.{last}"),
            Self::V6 => format!("fd00:{tor}::{last}"),
        }
    }

    /// The first address of prefix n.
    fn destination(self, n: usize) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(0x0a40_0000 + (n as u32) * 32).into(),
            Self::V6 => Ipv6Addr::from((0xfd64_u128 << 112) | ((n as u128) << 80)).into(),
        }
    }

    fn prefix(self, n: usize) -> String {
        let length = if self == Self::V4 { 27 } else { 48 };
        format!("{}/{length}", self.destination(n))
    }

    fn family(self) -> netlink::Family {
        match self {
            Self::V4 => netlink::Family::V4,
            Self::V6 => netlink::Family::V6,
        }
    }
}

/// What the loss did to the traffic.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// From the first lost packet until the last flow was whole again.
    pub(crate) outage: Duration,
    /// Packets lost.
    pub(crate) lost: usize,
    /// Flows that went to the lost ToR.
    pub(crate) flows_hit: usize,
}

pub(crate) struct Silence {
    ip: Ip,
    routes: usize,
    host: Netns,
    tors: Vec<Netns>,
    directory: tempfile::TempDir,
    _processes: Vec<Process>,
}

impl Silence {
    /// Brings everything up, and waits until the kernel has all routes over both ToRs and BFD watches them.
    pub(crate) fn start(bgpd: &Path, ip: Ip, routes: usize) -> Self {
        let host = Netns::new();
        let tors = vec![Netns::new(), Netns::new()];
        let directory = tempfile::tempdir().unwrap();
        for (n, tor) in tors.iter().enumerate() {
            host.run(&format!(
                "ip link add up{n} type veth peer name eth0 netns {}",
                tor.pid()
            ));
            for (netns, name, last) in [(&host, format!("up{n}"), 1), (tor, "eth0".to_owned(), 2)] {
                let (v4, v6) = (Ip::V4.address(n, last), Ip::V6.address(n, last));
                netns.run(&format!("ip addr add {v4}/24 dev {name}"));
                netns.run(&format!("ip addr add {v6}/64 dev {name} nodad"));
                netns.run(&format!("ip link set {name} up"));
            }
            // All destinations are there.
            tor.run("ip route add local 10.64.0.0/10 dev lo");
            tor.run("ip -6 route add local fd64::/16 dev lo");
        }
        host.run("sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1");
        let mut processes = Vec::new();
        for (n, tor) in tors.iter().enumerate() {
            let file = directory.path().join(format!("bird{n}.conf"));
            std::fs::write(&file, bird(n, ip, routes)).unwrap();
            let line = format!(
                "bird -f -c {} -s {} -P {}",
                file.display(),
                control(directory.path(), n).display(),
                directory.path().join(format!("bird{n}.pid")).display()
            );
            processes.push(tor.spawn(&line, &directory.path().join(format!("bird{n}.log"))));
        }
        let file = directory.path().join("bgpd.toml");
        std::fs::write(&file, ours(ip)).unwrap();
        let line = format!("{} --log warn --config {}", bgpd.display(), file.display());
        processes.push(host.spawn(&line, &directory.path().join("bgpd.log")));
        let silence = Self {
            ip,
            routes,
            host,
            tors,
            directory,
            _processes: processes,
        };
        let mut netlink = silence.host.inside(Connection::open).unwrap();
        wait_for("all routes over both ToRs", START_TIME, || {
            let filter = RouteFilter {
                family: Some(ip.family()),
                ..RouteFilter::owned(table::MAIN, bgpd::fib::PROTOCOL)
            };
            let found = netlink.routes(&filter).unwrap();
            found.iter().filter(|route| route.next_hop_id.is_some()).count() == routes
        });
        for n in 0..silence.tors.len() {
            wait_for("BFD with both ToRs", START_TIME, || {
                silence.ask(n, "show bfd sessions").contains("Up")
            });
        }
        silence
    }

    fn ask(&self, n: usize, command: &str) -> String {
        let control = control(self.directory.path(), n);
        let line = format!("birdc -r -s {} {command}", control.display());
        String::from_utf8_lossy(&self.tors[n].output(&line).stdout).into_owned()
    }

    /// From now on, every frame from and to the second ToR vanishes; its carrier stays.
    fn cut(&self) {
        let file = self.directory.path().join("cut.nft");
        let chain = |hook| {
            format!("chain {hook} {{ type filter hook {hook} device \"eth0\" priority 0; policy drop; }}\n")
        };
        let rules = format!("table netdev cut {{\n{}{}}}\n", chain("ingress"), chain("egress"));
        std::fs::write(&file, rules).unwrap();
        self.tors[1].run(&format!("nft -f {}", file.display()));
    }

    /// Whether the host's link to the second ToR has its carrier.
    pub(crate) fn has_carrier(&self) -> bool {
        let mut netlink = self.host.inside(Connection::open).unwrap();
        netlink.link("up1").unwrap().unwrap().carrier
    }

    /// Traffic, the loss, and what became of the traffic.
    pub(crate) fn lose_one(&self) -> Outcome {
        let stop = AtomicBool::new(false);
        let sinks: Vec<UdpSocket> = self.tors.iter().map(|tor| tor.inside(|| sink(self.ip))).collect();
        std::thread::scope(|scope| {
            let arrivals: Vec<_> = sinks
                .iter()
                .map(|sink| scope.spawn(|| receive(sink, &stop)))
                .collect();
            let sender = scope.spawn(|| self.host.inside(|| send(self.ip, self.routes, &stop)));
            std::thread::sleep(BEFORE);
            let cut_at = Instant::now();
            self.cut();
            std::thread::sleep(AFTER + FLIGHT_TIME);
            stop.store(true, Ordering::Relaxed);
            let sent = sender.join().unwrap();
            let arrived: Vec<_> = arrivals.into_iter().map(|sink| sink.join().unwrap()).collect();
            judge(&sent, &arrived, cut_at)
        })
    }
}

fn judge(sent: &[Vec<Instant>], arrived: &[Vec<(usize, usize)>], cut_at: Instant) -> Outcome {
    let mut delivered: Vec<Vec<bool>> = sent.iter().map(|times| vec![false; times.len()]).collect();
    for (flow, number) in arrived.iter().flatten() {
        delivered[*flow][*number] = true;
    }
    let counted = |at: &Instant| *at > cut_at - WHOLE && *at < cut_at + AFTER;
    let (mut first_lost, mut last_whole, mut lost, mut flows_hit) = (None, None, 0, 0);
    for (times, delivered) in sent.iter().zip(&delivered) {
        let missing = || (0..times.len()).filter(|n| counted(&times[*n]) && !delivered[*n]);
        let Some(last) = missing().next_back() else {
            continue;
        };
        flows_hit += 1;
        lost += missing().count();
        first_lost = first_lost.into_iter().chain(missing().map(|n| times[n])).min();
        let whole_again = times.get(last + 1).copied();
        last_whole = last_whole.max(Some(
            whole_again.expect("a flow that goes on after the last loss"),
        ));
    }
    let first_lost = first_lost.expect("some flows went to the lost ToR");
    assert!(first_lost >= cut_at, "traffic was not whole before the loss");
    let outage = last_whole.expect("some flows were hit") - first_lost;
    assert!(
        outage + WHOLE < AFTER,
        "not whole again: {lost} packets of {flows_hit} flows lost"
    );
    Outcome {
        outage,
        lost,
        flows_hit,
    }
}

fn sink(ip: Ip) -> UdpSocket {
    let any: IpAddr = match ip {
        Ip::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Ip::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, PORT)).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &SINK_BYTES).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// Flow and number of all that arrives.
fn receive(sink: &UdpSocket, stop: &AtomicBool) -> Vec<(usize, usize)> {
    let mut arrived = Vec::new();
    let mut packet = [0; 8];
    loop {
        match sink.recv(&mut packet) {
            Ok(8) => {
                let [f0, f1, f2, f3, n0, n1, n2, n3] = packet;
                let flow = u32::from_be_bytes([f0, f1, f2, f3]);
                arrived.push((flow as usize, u32::from_be_bytes([n0, n1, n2, n3]) as usize));
            }
            Ok(_) => {}
            Err(_) if stop.load(Ordering::Relaxed) => return arrived,
            Err(_) => {}
        }
    }
}

/// All flows at their pace; gives when each packet was sent.
fn send(ip: Ip, routes: usize, stop: &AtomicBool) -> Vec<Vec<Instant>> {
    let from: SocketAddr = match ip {
        Ip::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
        Ip::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let flow = |n: usize| {
        let socket = UdpSocket::bind(from).unwrap();
        (socket, SocketAddr::new(ip.destination(n * routes / FLOWS), PORT))
    };
    let flows: Vec<_> = (0..FLOWS).map(flow).collect();
    let mut sent: Vec<Vec<Instant>> = vec![Vec::new(); FLOWS];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        for (n, (socket, to)) in flows.iter().enumerate() {
            let mut packet = [0; 8];
            packet[..4].copy_from_slice(&(n as u32).to_be_bytes());
            packet[4..].copy_from_slice(&(sent[n].len() as u32).to_be_bytes());
            sent[n].push(Instant::now());
            // What is refused counts as lost.
            let _ = socket.send_to(&packet, to);
        }
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn control(directory: &Path, n: usize) -> PathBuf {
    directory.join(format!("bird{n}.ctl"))
}

fn bird(n: usize, ip: Ip, routes: usize) -> String {
    let channel = if ip == Ip::V4 { "ipv4" } else { "ipv6" };
    let routes: String = (0..routes)
        .map(|at| format!("route {} blackhole;\n", ip.prefix(at)))
        .collect();
    format!(
        "router id 10.255.{n}.2;\nprotocol device {{}}\n\
         protocol bfd {{ interface \"eth0\" {{ interval {BFD_INTERVAL_MS} ms; multiplier 3; }}; }}\n\
         protocol static {{ {channel};\n{routes}}}\n\
         protocol bgp host {{ local {} as 65002; neighbor {} as 65001; bfd on;\n\
         connect retry time 1; error wait time 1, 2;\n\
         {channel} {{ import none; export where source = RTS_STATIC; next hop self; }}; }}\n",
        ip.address(n, 2),
        ip.address(n, 1)
    )
}

fn ours(ip: Ip) -> String {
    let neighbor = |n: usize| {
        format!(
            "[[neighbor]]\naddress = \"{}\"\nas = 65002\nimport = \"accept\"\nexport = \"reject\"\n\
             [neighbor.bfd]\ninterval-ms = {BFD_INTERVAL_MS}\nmultiplier = 3\n",
            ip.address(n, 2)
        )
    };
    format!(
        "[global]\nas = 65001\nrouter-id = \"10.255.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\n{}{}",
        neighbor(0),
        neighbor(1)
    )
}
