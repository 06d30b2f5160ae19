//! BFD with BIRD and FRR: sessions come up, silence ends the BGP session, and what is planned does not.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bgpd_proto::v1::{Bfd, Peer};

use crate::capture::{Capture, NOTIFICATION, Seen};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, FrrWithBfd, Router};

const SESSION_TIME: Duration = Duration::from_secs(20);
/// Far more than three times 50 ms, for a loaded machine, and far less than the hold time of 90 s.
const DETECTION_TIME_MAX: Duration = Duration::from_secs(4);

const GLOBAL: &str =
    "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\n";
const NETWORKS: &str = "[[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"2001:db8:1::/48\"\n";
const FAST: &str = "[neighbor.bfd]\ninterval-ms = 50\n";
/// For sessions that must not fail because the machine is busy: 900 ms, not 150.
const STEADY: &str = "[neighbor.bfd]\ninterval-ms = 300\n";
/// Longer than the detection time of those.
const STEADY_SILENCE: Duration = Duration::from_millis(1500);

/// What a router has for those.
fn steady(config: &str) -> String {
    config
        .replace("interval 50 ms", "interval 300 ms")
        .replace("-interval 50", "-interval 300")
}

/// A neighbour with the table `[neighbor.bfd]` in `more`.
fn neighbor(address: &str, more: &str) -> String {
    format!(
        "[[neighbor]]\naddress = \"{address}\"\nas = 65002\nimport = \"accept\"\nexport = \"accept\"\n{more}\n"
    )
}

fn bfd(ours: &Bgpd, address: &str) -> Option<Bfd> {
    ours.peer(address)?.bfd
}

fn is_up(ours: &Bgpd, address: &str) -> bool {
    bfd(ours, address).is_some_and(|bfd| bfd.state == "Up")
}

/// Both BGP and BFD, for longer than FRR needs to make its BFD session once more.
fn wait_for_sessions(ours: &Bgpd, addresses: &[&str]) {
    let is_steady = |peer: &Peer| {
        let bfd = peer.bfd.as_ref();
        let bfd_is = bfd.is_some_and(|bfd| bfd.state == "Up" && bfd.since_seconds >= 1);
        peer.state == "Established" && peer.since_seconds >= 1 && bfd_is
    };
    for address in addresses {
        wait_for(&format!("the session with {address}"), SESSION_TIME, || {
            ours.peer(address).as_ref().is_some_and(is_steady)
        });
    }
}

/// From now on, packets that pass through this hook are dropped; carrier stays.
fn cut(netns: &Netns, hook: &str, matching: &str) {
    netns.run("nft add table inet cut");
    netns.run(&format!(
        "nft add chain inet cut {hook} {{ type filter hook {hook} priority 0 ; policy accept ; }}"
    ));
    netns.run(&format!("nft add rule inet cut {hook} {matching} drop"));
}

fn mend(netns: &Netns) {
    netns.run("nft delete table inet cut");
}

/// Silence in the path, then its end. `hooks` are those that all packets pass through.
fn loses_and_comes_back(ours: &Bgpd, addresses: [&str; 2], netns: &Netns, hooks: &[&str]) {
    let before = addresses.map(|address| ours.peer(address).unwrap());
    let begin = Instant::now();
    for hook in hooks {
        cut(netns, hook, "");
    }
    for (address, before) in addresses.iter().zip(&before) {
        wait_for(&format!("the end of {address}"), DETECTION_TIME_MAX, || {
            ours.peer(address).is_some_and(|peer| peer.flaps > before.flaps)
        });
    }
    let took = begin.elapsed();
    for (address, before) in addresses.iter().zip(before) {
        let peer = ours.peer(address).unwrap();
        assert!(peer.last_error.contains("BFD down"), "{}", peer.last_error);
        let (session, before) = (peer.bfd.unwrap(), before.bfd.unwrap());
        assert_eq!(session.diagnostic, "control detection time expired");
        assert!(session.failures > before.failures && session.state != "Up");
    }
    assert!(ours.best("198.51.100.0/24").is_none() && ours.best("2001:db8:2::/48").is_none());
    mend(netns);
    wait_for_sessions(ours, &addresses);
    println!("detected, reported and asked for within {took:?}");
}

const BIRD_ROUTES: &str = "router id 10.0.0.2;\nprotocol device {}\n\
     protocol static { ipv4; route 198.51.100.0/24 blackhole; }\n\
     protocol static { ipv6; route 2001:db8:2::/48 blackhole; }\n";

fn bird_peers(local: [&str; 2], remote: [&str; 2], more: &str) -> String {
    let peer = |name: &str, family: &str, at: usize| {
        format!(
            "protocol bgp {name} {{ local {} as 65002; neighbor {} as 65001; {more}\n\
               connect retry time 1; error wait time 1, 2;\n\
               {family} {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n",
            local[at], remote[at]
        )
    };
    format!("{}{}", peer("four", "ipv4", 0), peer("six", "ipv6", 1))
}

const ON_LINK: [[&str; 2]; 2] = [["10.0.0.2", "fd00::2"], ["10.0.0.1", "fd00::1"]];
const FAR: [[&str; 2]; 2] = [["10.0.2.2", "fd00:2::2"], ["10.0.1.1", "fd00:1::1"]];

const BIRD_BFD: &str = "protocol bfd { interface \"eth0\" { interval 50 ms; multiplier 3; };\n\
     multihop { interval 50 ms; multiplier 3; }; }\n";

fn our_config(more: &str) -> String {
    let [theirs, _] = ON_LINK;
    format!(
        "{GLOBAL}{}{}{NETWORKS}",
        neighbor(theirs[0], more),
        neighbor(theirs[1], more)
    )
}

#[test]
pub(crate) fn bird_single_hop() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let config = format!("{BIRD_ROUTES}{BIRD_BFD}{}", bird_peers(theirs, our, "bfd on;"));
    let capture = Capture::start(&a, directory.path());
    let _router = Bird::start(&b, directory.path(), &config);
    let ours = Bgpd::start(&a, directory.path(), &our_config(FAST), "");
    wait_for_sessions(&ours, &theirs);
    let session = bfd(&ours, theirs[0]).unwrap();
    assert!(!session.multihop);
    wait_for("the agreed detection time", SESSION_TIME, || {
        bfd(&ours, theirs[0]).is_some_and(|session| session.detection_time_us == 150_000)
    });
    loses_and_comes_back(&ours, theirs, &b, &["output", "input"]);
    // BFD alone is lost, one way: the neighbour is told why, over the session that still works.
    let seen = capture.messages().len();
    cut(&a, "input", "udp dport 3784");
    wait_for("a NOTIFICATION to BIRD", DETECTION_TIME_MAX, || {
        let ours = |seen: &Seen| seen.kind == NOTIFICATION && our[0].parse() == Ok(seen.from);
        capture.messages().iter().skip(seen).any(ours)
    });
    let why = ours.peer(theirs[0]).unwrap().last_error;
    assert!(why.contains("sent BFD down (6/10)"), "{why}");
    mend(&a);
    wait_for_sessions(&ours, &theirs);
    capture.has_no_remarks("bfd", &our);
}

#[test]
fn bird_multihop() {
    let (a, b, middle) = Netns::line();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = FAR;
    let config = format!(
        "{BIRD_ROUTES}{BIRD_BFD}{}",
        bird_peers(theirs, our, "multihop 2; bfd on;")
    );
    let _router = Bird::start(&b, directory.path(), &config);
    let more = format!("ttl = 2\n{FAST}");
    let config = format!(
        "{GLOBAL}{}{}",
        neighbor(theirs[0], &more),
        neighbor(theirs[1], &more)
    );
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for_sessions(&ours, &theirs);
    assert!(bfd(&ours, theirs[0]).unwrap().multihop);
    loses_and_comes_back(&ours, theirs, &middle, &["forward"]);
}

#[test]
fn bird_with_keys() {
    for kind in ["keyed sha1", "meticulous keyed sha1"] {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let [theirs, our] = ON_LINK;
        let keys = format!(
            "protocol bfd {{ interface \"eth0\" {{ interval 50 ms; multiplier 3; authentication {kind};\n\
               password \"a shared secret\" {{ id 7; }}; }}; }}\n"
        );
        let config = format!("{BIRD_ROUTES}{keys}{}", bird_peers(theirs, our, "bfd on;"));
        let capture = Capture::start(&a, directory.path());
        let _router = Bird::start(&b, directory.path(), &config);
        let table = |key: &str| {
            format!(
                "{FAST}authentication = {{ type = \"{}\", key-id = 7, key = \"{key}\" }}\n",
                kind.replace(' ', "-")
            )
        };
        let ours = Bgpd::start(&a, directory.path(), &our_config(&table("a shared secret")), "");
        wait_for_sessions(&ours, &theirs);
        let failures = bfd(&ours, theirs[0]).unwrap().failures;
        // With another key nothing is heard any more: that is a failure of the path.
        ours.reload(&our_config(&table("another secret")));
        wait_for("the end", DETECTION_TIME_MAX, || {
            bfd(&ours, theirs[0])
                .is_some_and(|session| session.failures > failures && session.packets_discarded > 0)
        });
        capture.has_no_remarks("bfd", &our);
    }
}

/// Intervals, multiplier, and BFD itself come and go while the BGP session stays.
#[test]
fn a_change_of_bfd_leaves_the_session_alone() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let config = format!("{BIRD_ROUTES}{BIRD_BFD}{}", bird_peers(theirs, our, "bfd on;"));
    let _router = Bird::start(&b, directory.path(), &config);
    let ours = Bgpd::start(&a, directory.path(), &our_config(""), "");
    for address in theirs {
        wait_for("the session", SESSION_TIME, || ours.is_established(address));
    }
    assert!(bfd(&ours, theirs[0]).is_none());
    ours.reload(&our_config(FAST));
    wait_for_sessions(&ours, &theirs);
    for (table, detection_us) in [
        ("[neighbor.bfd]\ninterval-ms = 400\nmultiplier = 5\n", 1_200_000),
        (FAST, 150_000),
    ] {
        ours.reload(&our_config(table));
        wait_for("the other intervals", SESSION_TIME, || {
            bfd(&ours, theirs[1]).is_some_and(|session| session.detection_time_us == detection_us)
        });
        assert!(is_up(&ours, theirs[1]));
    }
    for address in theirs {
        let peer = ours.peer(address).unwrap();
        assert_eq!(
            (peer.state.as_str(), peer.flaps),
            ("Established", 0),
            "{}",
            peer.last_error
        );
    }
}

const FRR_BFD: &str =
    "bfd\n profile fast\n  detect-multiplier 3\n  receive-interval 50\n  transmit-interval 50\n";

fn frr_bgp(local: [&str; 2], addresses: [&str; 2], more: &str) -> String {
    let [four, six] = addresses;
    // Without update-source, FRR takes its BFD session down and makes another one once it knows its address.
    let neighbor = |address: &str, local: &str| {
        format!(
            " neighbor {address} remote-as 65001\n neighbor {address} timers connect 1\n \
             neighbor {address} update-source {local}\n neighbor {address} bfd\n neighbor {address} bfd profile fast\n{}",
            more.replace("PEER", address)
        )
    };
    format!(
        "router bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n{}{}\
         address-family ipv4 unicast\n  network 198.51.100.0/24\n  no neighbor {six} activate\n exit-address-family\n\
         address-family ipv6 unicast\n  network 2001:db8:2::/48\n  neighbor {six} activate\n exit-address-family\n",
        neighbor(four, local[0]),
        neighbor(six, local[1]),
    )
}

#[test]
pub(crate) fn frr_single_hop() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let router = FrrWithBfd::start(&b, directory.path(), &frr_bgp(theirs, our, ""), FRR_BFD);
    let ours = Bgpd::start(&a, directory.path(), &our_config(FAST), "");
    wait_for_sessions(&ours, &theirs);
    loses_and_comes_back(&ours, theirs, &b, &["output", "input"]);
    // Taken down on purpose over there: no reason to end the BGP session (RFC 5882 section 3.2).
    let before = ours.peer(theirs[0]).unwrap();
    let shut = ["configure terminal", "bfd", "profile fast", "shutdown"];
    router.ask(&shut);
    wait_for("AdminDown", SESSION_TIME, || {
        bfd(&ours, theirs[0]).is_some_and(|session| session.remote_state == "AdminDown")
    });
    std::thread::sleep(Duration::from_millis(500));
    let peer = ours.peer(theirs[0]).unwrap();
    assert_eq!(
        (peer.state.as_str(), peer.flaps),
        ("Established", before.flaps),
        "{}",
        peer.last_error
    );
    assert_eq!(peer.bfd.unwrap().failures, before.bfd.unwrap().failures);
}

#[test]
fn frr_multihop() {
    let (a, b, middle) = Netns::line();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = FAR;
    let far = " neighbor PEER ebgp-multihop 2\n";
    let _router = FrrWithBfd::start(&b, directory.path(), &frr_bgp(theirs, our, far), FRR_BFD);
    let more = format!("ttl = 2\n{FAST}");
    let config = format!(
        "{GLOBAL}{}{}",
        neighbor(theirs[0], &more),
        neighbor(theirs[1], &more)
    );
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for_sessions(&ours, &theirs);
    assert!(bfd(&ours, theirs[1]).unwrap().multihop);
    loses_and_comes_back(&ours, theirs, &middle, &["forward"]);
}

/// Looks over and over whether the router has our route; gives how often it did not.
fn misses(stop: &AtomicBool, router: &impl Router) -> (u32, u32) {
    let (mut looks, mut misses) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        looks += 1;
        misses += u32::from(router.route("192.0.2.0/24").is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    (looks, misses)
}

/// The watcher ends with the test, also if that fails.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends the daemon with a signal and starts it again; how often the router lacked our route meanwhile.
fn restart(netns: &Netns, directory: &std::path::Path, router: &(impl Router + Sync), signal: &str) -> u32 {
    let mut ours = Bgpd::start(netns, directory, &our_config(STEADY), "--stop restart");
    wait_for_sessions(&ours, &ON_LINK[0]);
    wait_for("our route", SESSION_TIME, || {
        router.route("192.0.2.0/24").is_some()
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| misses(&stop, router));
        let _ends = StopsAtEnd(&stop);
        ours.process.signal(signal);
        assert!(ours.process.ended(Duration::from_secs(10)));
        std::thread::sleep(STEADY_SILENCE);
        let again = Bgpd::start(netns, directory, &our_config(STEADY), "--recover --stop restart");
        wait_for_sessions(&again, &ON_LINK[0]);
        wait_for("a fresh route", SESSION_TIME, || {
            router
                .route("192.0.2.0/24")
                .is_some_and(|shown| !shown.contains("stale"))
        });
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let (looks, misses) = watched.join().unwrap();
        assert!(looks >= 10, "{looks}");
        misses
    })
}

fn bird_graceful(signal: &str) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let config = format!(
        "{BIRD_ROUTES}{}{}",
        steady(BIRD_BFD),
        bird_peers(theirs, our, "bfd graceful;")
    );
    let router = Bird::start(&b, directory.path(), &config);
    assert_eq!(restart(&a, directory.path(), &router, signal), 0);
}

#[test]
fn bird_graceful_keeps_our_routes_over_a_restart() {
    bird_graceful("TERM");
}

#[test]
fn bird_graceful_keeps_our_routes_over_a_crash() {
    bird_graceful("KILL");
}

fn frr(more: &str, signal: &str) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let more = format!(" neighbor PEER graceful-restart-helper\n{more}");
    let router = FrrWithBfd::start(
        &b,
        directory.path(),
        &frr_bgp(theirs, our, &more),
        &steady(FRR_BFD),
    );
    assert_eq!(restart(&a, directory.path(), &router.bgp, signal), 0);
}

const CHECKED: &str = " neighbor PEER bfd check-control-plane-failure\n";

#[test]
fn frr_checked_keeps_our_routes_over_a_restart() {
    frr(CHECKED, "TERM");
}

#[test]
fn frr_checked_keeps_our_routes_over_a_crash() {
    frr(CHECKED, "KILL");
}

#[test]
fn frr_as_it_is_keeps_our_routes_over_a_restart() {
    frr("", "TERM");
}

/// draft-ietf-idr-bgp-bfd-strict-mode, between two of ours: FRR and BIRD of Debian 12 do not have it. `neighbors` are
/// the lines that name each for the other.
fn waits_for_bfd(netns: [&Netns; 2], neighbors: [&str; 2], peer: impl Fn(&Bgpd) -> Option<Peer>) {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = |at: usize, passive: bool| {
        format!(
            "[global]\nas = {}\nrouter-id = \"10.0.0.{}\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
             [[neighbor]]\n{}\nas = \"external\"\n[neighbor.bfd]\nstrict-hold-time = 3\npassive = {passive}\n",
            65001 + at,
            1 + at,
            neighbors[at]
        )
    };
    // With both passive, BFD does not come up.
    let start = |at: usize| Bgpd::start(netns[at], directories[at].path(), &config(at, true), "");
    let (ours, other) = (start(0), start(1));
    wait_for("the end of a wait for BFD", SESSION_TIME, || {
        peer(&ours).is_some_and(|peer| peer.last_error.contains("BFD down"))
    });
    assert_eq!(peer(&ours).unwrap().flaps, 0, "it was never established");
    ours.reload(&config(0, false));
    wait_for("BFD and the session", SESSION_TIME, || {
        [&ours, &other].iter().all(|bgpd| {
            peer(bgpd).is_some_and(|peer| {
                peer.state == "Established" && peer.bfd.is_some_and(|bfd| bfd.state == "Up")
            })
        })
    });
    let session = peer(&ours).unwrap().session.unwrap();
    assert!(session.capabilities.iter().any(|name| name == "bfd-strict-mode"));
}

#[test]
fn in_strict_mode_the_session_waits_for_bfd() {
    let (a, b) = Netns::pair();
    let neighbors = ["address = \"10.0.0.2\"", "address = \"10.0.0.1\""];
    waits_for_bfd([&a, &b], neighbors, |bgpd| bgpd.peers().pop());
}

/// BFD goes to the router that is heard of, or to who has connected: the address need not be configured.
#[test]
fn in_strict_mode_a_neighbor_known_by_its_link_waits_for_bfd() {
    let (a, b) = crate::link::link();
    waits_for_bfd([&a, &b], ["interface = \"eth0\""; 2], |bgpd| bgpd.named("eth0"));
}

/// RFC 5880 section 6.3, RFC 5881 section 4: before discriminators are known, a session is found by address and
/// interface, so that the same link-local address on another link is somebody else.
#[test]
fn a_link_local_session_is_that_of_its_link() {
    let (a, b) = crate::link::link();
    a.run(&format!(
        "ip link add eth1 type veth peer name eth1 netns {}",
        b.pid()
    ));
    for (netns, last) in [(&a, 1), (&b, 2)] {
        netns.run("sysctl -qw net.ipv6.conf.eth1.addr_gen_mode=1");
        netns.run(&format!("ip addr add fe80::{last}/64 dev eth1 nodad"));
        netns.run("ip link set eth1 up");
    }
    let directory = tempfile::tempdir().unwrap();
    let config = format!("{GLOBAL}{}", neighbor("fe80::2%eth0", FAST));
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    let state = || Some(ours.named("fe80::2%eth0")?.bfd?.state);
    wait_for("the BFD session", SESSION_TIME, || {
        state().as_deref() == Some("Down")
    });
    let index = |name: &str| -> u32 {
        let line = b.run(&format!("ip -o link show dev {name}"));
        line.split(':').next().unwrap().parse().unwrap()
    };
    let say = |name: &str| {
        let scope = index(name);
        b.inside(|| {
            let from = SocketAddrV6::new("fe80::2".parse().unwrap(), 0, 0, scope);
            let to = SocketAddrV6::new("fe80::1".parse().unwrap(), 3784, 0, scope);
            let socket = UdpSocket::bind(from).unwrap();
            socket2::SockRef::from(&socket).set_unicast_hops_v6(255).unwrap();
            socket.send_to(&says_down(), to).unwrap();
        });
    };
    let before = ours.bfd_discarded();
    // The first ones may come before the socket is open.
    wait_for(
        "packets of the other link that are discarded",
        SESSION_TIME,
        || {
            say("eth1");
            ours.bfd_discarded() >= before + 3
        },
    );
    assert_eq!(state().as_deref(), Some("Down"));
    wait_for("a packet that counts", SESSION_TIME, || {
        say("eth0");
        state().as_deref() == Some("Init")
    });
}

/// RFC 5880 section 6.8.9: FRR sends Echo packets, which the kernel sends back to it by forwarding, and as fast as we
/// allow.
#[test]
fn frr_gets_its_echo_packets_back() {
    let (a, b) = Netns::pair();
    a.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let echo = format!(
        "{} echo-mode\n echo transmit-interval 60\n",
        steady(FRR_BFD).trim_end_matches('\n').to_owned() + "\n "
    );
    let router = FrrWithBfd::start(&b, directory.path(), &frr_bgp(theirs, our, ""), &echo);
    let table = format!("{STEADY}echo-receive-ms = 60\n");
    let ours = Bgpd::start(&a, directory.path(), &our_config(&table), "");
    wait_for_sessions(&ours, &theirs);
    // Of what it sends to us, all that came back.
    let count = |what: &str| -> u32 {
        let shown = router.ask(&["show bfd peer 10.0.0.1 local-address 10.0.0.2 interface eth0 counters"]);
        let line = shown.lines().find_map(|line| line.trim().strip_prefix(what));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_default()
    };
    wait_for("Echo packets", SESSION_TIME, || count("Echo packet input:") >= 20);
    assert!(count("Echo packet output:") >= 20);
    assert_eq!(ours.peer(theirs[0]).unwrap().flaps, 0);
    // Where the kernel does not forward the family, none are asked for.
    let shown = router.ask(&["show bfd peers"]);
    let of = |address: &str| {
        let start = shown.find(&format!("peer {address} ")).unwrap();
        let remote = shown[start..].split_once("Remote timers:").unwrap().1;
        let line = remote
            .lines()
            .find(|line| line.contains("Echo receive interval:"));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(of(our[0]), "Echo receive interval: 60ms");
    assert_eq!(of(our[1]), "Echo receive interval: disabled");
    // Without forwarding, they are what FRR notices it by.
    a.run("sysctl -qw net.ipv4.ip_forward=0");
    wait_for("the end of the session", SESSION_TIME, || {
        ours.peer(theirs[0])
            .is_some_and(|peer| peer.flaps > 0 && peer.bfd.is_some_and(|bfd| bfd.state != "Up"))
    });
}

/// A control packet: version 1, Down, multiplier 3, discriminator 7, one packet a second.
fn says_down() -> Vec<u8> {
    let mut packet = vec![0x20, 0x40, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0];
    packet.extend(1_000_000_u32.to_be_bytes());
    packet.extend(1_000_000_u32.to_be_bytes());
    packet.extend([0; 4]);
    packet
}

/// Sends control packets in Down to us, from an address of the namespace, each with this TTL.
fn say_down(netns: &Netns, from: &str, to: &str, ttl: u32) {
    let packet = says_down();
    let (from, to): (IpAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    netns.inside(|| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        if to.is_ipv4() {
            socket.set_ttl(ttl).unwrap();
        } else {
            let socket = socket2::SockRef::from(&socket);
            socket.set_unicast_hops_v6(ttl).unwrap();
        }
        socket.send_to(&packet, to).unwrap();
    });
}

/// Packets from too far away change nothing; then one that may come does.
fn only_near(more: &str, port: u16, too_far: u32, near: u32) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let [theirs, our] = ON_LINK;
    let ours = Bgpd::start(&a, directory.path(), &our_config(more), "");
    for (their, our) in theirs.into_iter().zip(our) {
        let to = if our.contains(':') {
            format!("[{our}]:{port}")
        } else {
            format!("{our}:{port}")
        };
        wait_for("the BFD session", SESSION_TIME, || {
            bfd(&ours, their).is_some_and(|session| session.state == "Down")
        });
        let discarded = || ours.bfd_discarded();
        let before = discarded();
        // The first ones may come before the socket is open.
        wait_for("packets that are discarded", SESSION_TIME, || {
            say_down(&b, their, &to, too_far);
            discarded() >= before + 3
        });
        assert_eq!(bfd(&ours, their).unwrap().state, "Down", "{their}: TTL {too_far}");
        wait_for("a packet that counts", SESSION_TIME, || {
            say_down(&b, their, &to, near);
            bfd(&ours, their)
                .is_some_and(|session| session.state == "Init" && session.remote_discriminator == 7)
        });
    }
}

#[test]
fn single_hop_packets_come_from_the_link() {
    only_near(FAST, 3784, 254, 255);
}

#[test]
fn multihop_packets_come_from_as_near_as_is_said() {
    let more = format!("ttl-security = 3\n{FAST}multihop = true\n");
    only_near(&more, 4784, 252, 253);
}
