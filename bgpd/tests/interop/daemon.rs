//! The daemon itself: its file, its signals, bad peers, and the settings of a session.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bgpd::wire::{self, Capabilities, Codec, Family, Message, Notification, Open};

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Router};

const SESSION_TIME: Duration = Duration::from_secs(15);
const ROUTE_TIME: Duration = Duration::from_secs(10);

const GLOBAL: &str =
    "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n";
const NETWORK: &str = "[[network]]\nprefix = \"192.0.2.0/24\"\n";

fn neighbor(address: &str, peer_as: u32, more: &str) -> String {
    format!(
        "[[neighbor]]\naddress = \"{address}\"\nas = {peer_as}\nhold-time = 9\n\
         import = \"accept\"\nexport = \"accept\"\n{more}\n"
    )
}

fn bird_config(more: &str) -> String {
    format!(
        "router id 10.0.0.2;\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 198.51.100.0/24 blackhole; }}\n\
         protocol bgp four {{ local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001; hold time 9;\n\
           connect retry time 1; error wait time 1, 2; {more}\n\
           ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    )
}

/// A peer of the test's own at 10.0.0.3 that speaks as it likes.
struct RawPeer(TcpStream);

impl RawPeer {
    fn connect(netns: &Netns) -> Self {
        let dial = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&std::net::SocketAddr::from(([10, 0, 0, 3], 0)).into())?;
            let to = std::net::SocketAddr::from(([10, 0, 0, 1], 179));
            socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
            Ok::<_, std::io::Error>(TcpStream::from(socket))
        };
        let mut stream = None;
        wait_for("a connection", Duration::from_secs(10), || {
            stream = netns.inside(dial).ok();
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(stream)
    }

    fn message(&mut self) -> Option<Message> {
        let mut buffer = vec![0; wire::HEADER_BYTES];
        self.0.read_exact(&mut buffer).ok()?;
        let length = usize::from(u16::from_be_bytes([buffer[16], buffer[17]]));
        buffer.resize(length, 0);
        self.0.read_exact(&mut buffer[wire::HEADER_BYTES..]).ok()?;
        Some(wire::decode(&buffer, Codec::default()).unwrap())
    }

    /// The next NOTIFICATION, after which the connection must be closed.
    fn notification(&mut self) -> Option<Notification> {
        loop {
            if let Message::Notification(notification) = self.message()? {
                assert_eq!(
                    self.0.read(&mut [0]).unwrap_or(0),
                    0,
                    "closed after the NOTIFICATION"
                );
                return Some(notification);
            }
        }
    }

    fn open(&mut self) {
        let open = Open {
            asn: 65003,
            hold_time_s: 9,
            router_id: [10, 0, 0, 3].into(),
            capabilities: Capabilities {
                families: [Family::Ipv4Unicast].into_iter().collect(),
                four_octet_as: Some(65003),
                ..Capabilities::default()
            },
        };
        self.0.write_all(&wire::encode_open(&open)).unwrap();
        self.0.write_all(&wire::encode_keepalive()).unwrap();
    }
}

/// A session with BIRD at 10.0.0.2 and a neighbour at 10.0.0.3 for the test to play.
fn with_raw_peer(run: impl FnOnce(&Netns, &Bgpd, &Bird)) {
    let (a, b) = Netns::pair();
    b.run("ip addr add 10.0.0.3/24 dev eth0");
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), &bird_config(""));
    let config = format!(
        "{GLOBAL}{}{}{NETWORK}",
        neighbor("10.0.0.2", 65002, ""),
        neighbor("10.0.0.3", 65003, "passive = true")
    );
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for("the session with BIRD", SESSION_TIME, || {
        ours.is_established("10.0.0.2")
    });
    run(&b, &ours, &router);
    let bird = ours.peer("10.0.0.2").unwrap();
    assert_eq!(
        (bird.state.as_str(), bird.flaps),
        ("Established", 0),
        "BIRD's session is untouched"
    );
    assert!(ours.best("198.51.100.0/24").is_some());
}

#[test]
fn garbage_is_answered_and_harms_nobody_else() {
    with_raw_peer(|netns, ours, _| {
        let mut header = wire::encode_keepalive();
        header[18] = 9;
        let mut short = wire::encode_keepalive();
        short[17] = 18;
        let cases: [(&[u8], (u8, u8)); 4] = [
            (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", (1, 1)),
            (&header, (1, 3)),
            (&short, (1, 2)),
            (&wire::encode_keepalive(), (5, 1)),
        ];
        for (octets, expected) in cases {
            let mut answer = None;
            // For a moment after each, the session is in Idle and takes no connection.
            wait_for("an answer", SESSION_TIME, || {
                let mut peer = RawPeer::connect(netns);
                answer = peer.0.write_all(octets).ok().and_then(|()| peer.notification());
                answer.is_some()
            });
            let notification = answer.unwrap();
            assert_eq!(
                (notification.code, notification.subcode),
                expected,
                "{octets:02x?}"
            );
        }
        let log = ours.process.log();
        let lines = log.lines().filter(|line| line.contains("malformed message"));
        let octets = lines.clone().filter_map(|line| line.split("octets=").nth(1));
        let met: std::collections::BTreeSet<&str> = octets.collect();
        assert_eq!(met.len(), 3, "what each connection sent: {met:#?}");
        // An answer that was lost on its way is asked for again; a connection is never logged twice.
        let answers = log
            .lines()
            .filter(|line| line.contains("notification sent") && line.contains("10.0.0.3"));
        assert!(
            lines.count() < answers.count(),
            "one more answer for the KEEPALIVE before OPEN"
        );
        assert!(
            met.iter()
                .any(|octets| octets.starts_with("474554202f20485454502f312e31")),
            "{met:#?}"
        );
    });
}

#[test]
fn a_malformed_update_resets_only_when_it_must() {
    with_raw_peer(|netns, ours, _| {
        let mut peer = RawPeer::connect(netns);
        peer.open();
        wait_for("the raw session", SESSION_TIME, || {
            ours.is_established("10.0.0.3")
        });
        // ORIGIN, AS_PATH 65003, NEXT_HOP and 203.0.113.0/24; then the same with an ORIGIN of 9,
        // which withdraws the route; then it again.
        let update = |origin: u8| {
            let mut octets = vec![0xff; 16];
            octets.extend([0, 0x2f, 2, 0, 0, 0, 20]);
            octets.extend([0x40, 1, 1, origin, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xeb]);
            octets.extend([0x40, 3, 4, 10, 0, 0, 3, 24, 203, 0, 113]);
            octets[17] = octets.len() as u8;
            octets
        };
        peer.0.write_all(&update(0)).unwrap();
        wait_for("the route", ROUTE_TIME, || ours.best("203.0.113.0/24").is_some());
        peer.0.write_all(&update(9)).unwrap();
        wait_for("its withdrawal", ROUTE_TIME, || {
            ours.best("203.0.113.0/24").is_none()
        });
        assert!(
            ours.is_established("10.0.0.3"),
            "treat-as-withdraw keeps the session"
        );
        peer.0.write_all(&update(0)).unwrap();
        wait_for("the route again", ROUTE_TIME, || {
            ours.best("203.0.113.0/24").is_some()
        });
        // A prefix of 40 bits cannot be skipped.
        let mut broken = update(0);
        let at = broken.len() - 4;
        broken[at] = 40;
        peer.0.write_all(&broken).unwrap();
        let notification = peer.notification().expect("a NOTIFICATION before the end");
        assert_eq!((notification.code, notification.subcode), (3, 10));
        wait_for("the route's end", ROUTE_TIME, || {
            ours.best("203.0.113.0/24").is_none()
        });
    });
}

#[test]
fn a_reload_touches_only_what_differs() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), &bird_config(""));
    let config = format!("{GLOBAL}{}", neighbor("10.0.0.2", 65002, ""));
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    assert!(router.route("192.0.2.0/24").is_none());
    // Another network and another neighbour.
    ours.reload(&format!("{config}{NETWORK}{}", neighbor("10.0.0.9", 65009, "")));
    wait_for("the network at BIRD", ROUTE_TIME, || {
        router.route("192.0.2.0/24").is_some()
    });
    assert_eq!(ours.peers().len(), 2);
    // Nothing is exported any more: the route is withdrawn, the session stays.
    let silent = config.replace("export = \"accept\"", "export = \"reject\"");
    ours.reload(&format!("{silent}{NETWORK}"));
    wait_for("the withdrawal at BIRD", ROUTE_TIME, || {
        router.route("192.0.2.0/24").is_none()
    });
    // What is wrong changes nothing.
    ours.reload(&format!("{config}nonsense = 1\n"));
    wait_for("the complaint", ROUTE_TIME, || {
        ours.process.log().contains("unknown field `nonsense`")
    });
    let peers = ours.peers();
    assert_eq!(
        (peers.len(), peers[0].state.as_str(), peers[0].flaps),
        (1, "Established", 0)
    );
}

#[test]
fn a_stop_is_told_or_not() {
    for (option, told) in [("--stop shutdown", true), ("--stop restart", false)] {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let router = Bird::start(&b, directory.path(), &bird_config(""));
        let config = format!("{GLOBAL}{}{NETWORK}", neighbor("10.0.0.2", 65002, ""));
        let mut ours = Bgpd::start(&a, directory.path(), &config, option);
        wait_for("the route at BIRD", SESSION_TIME, || {
            router.route("192.0.2.0/24").is_some()
        });
        ours.process.signal("TERM");
        assert!(
            ours.process.ended(Duration::from_secs(5)),
            "SIGTERM ends the daemon"
        );
        wait_for("the session's end at BIRD", ROUTE_TIME, || {
            !router.is_established("10.0.0.1")
        });
        let shown = router.ask("show protocols all four");
        assert_eq!(
            shown.contains("Administrative shutdown"),
            told,
            "{option}: {shown}"
        );
        // BIRD is a helper: without a NOTIFICATION it keeps the route for our return.
        assert_eq!(router.route("192.0.2.0/24").is_none(), told, "{option}");
    }
}

#[test]
fn passwords_are_checked() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), &bird_config("password \"sesame\";"));
    let with = |password: &str| {
        format!(
            "{GLOBAL}{}{NETWORK}",
            neighbor("10.0.0.2", 65002, &format!("password = \"{password}\""))
        )
    };
    let ours = Bgpd::start(&a, directory.path(), &with("wrong"), "");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!ours.is_established("10.0.0.2") && !router.is_established("10.0.0.1"));
    ours.reload(&with("sesame"));
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    wait_for("the route at BIRD", ROUTE_TIME, || {
        router.route("192.0.2.0/24").is_some()
    });
}

#[test]
fn either_side_may_be_passive() {
    for (our_side, their_side) in [("passive = true", ""), ("", "passive yes;")] {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let router = Bird::start(&b, directory.path(), &bird_config(their_side));
        let config = format!("{GLOBAL}{}{NETWORK}", neighbor("10.0.0.2", 65002, our_side));
        let ours = Bgpd::start(&a, directory.path(), &config, "");
        wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
        wait_for("the route at BIRD", ROUTE_TIME, || {
            router.route("192.0.2.0/24").is_some()
        });
    }
}

#[test]
fn loopback_addresses_need_a_ttl() {
    let (a, b) = Netns::pair();
    for (netns, own, other, gateway) in [(&a, 1, 2, 2), (&b, 2, 1, 1)] {
        netns.run(&format!("ip addr add 172.16.0.{own}/32 dev lo"));
        netns.run(&format!("ip route add 172.16.0.{other}/32 via 10.0.0.{gateway}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let bird = bird_config("multihop 2;").replace("10.0.0.", "172.16.0.");
    let router = Bird::start(&b, directory.path(), &bird);
    let more = "source = \"172.16.0.1\"\nttl = 2";
    let config = format!("{GLOBAL}{}{NETWORK}", neighbor("172.16.0.2", 65002, more));
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for("the session", SESSION_TIME, || ours.is_established("172.16.0.2"));
    wait_for("the route at BIRD", ROUTE_TIME, || {
        router.route("192.0.2.0/24").is_some()
    });
    let ttl = a.run("ss -tnio dst 172.16.0.2");
    assert!(ttl.contains("172.16.0.1"), "the source address: {ttl}");
}

#[test]
fn a_session_outlives_its_hold_time_and_ends_with_it() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(
        &b,
        directory.path(),
        &bird_config("").replace("hold time 9", "hold time 3"),
    );
    let config = format!("{GLOBAL}{}{NETWORK}", neighbor("10.0.0.2", 65002, ""));
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    std::thread::sleep(Duration::from_secs(5));
    let peer = ours.peer("10.0.0.2").unwrap();
    assert_eq!(
        (peer.state.as_str(), peer.flaps),
        ("Established", 0),
        "keepalives hold it"
    );
    assert!(router.is_established("10.0.0.1"));
    // The link goes silent.
    b.run("ip link set eth0 down");
    let silent = Instant::now();
    wait_for("the hold timer", Duration::from_secs(6), || {
        !ours.is_established("10.0.0.2")
    });
    assert!(
        silent.elapsed() > Duration::from_millis(1500),
        "not before the hold time: {:?}",
        silent.elapsed()
    );
    wait_for("its route's end", ROUTE_TIME, || {
        ours.best("198.51.100.0/24").is_none()
    });
    b.run("ip link set eth0 up");
    wait_for("the session again", SESSION_TIME, || {
        ours.is_established("10.0.0.2")
    });
}

#[test]
fn a_wrong_file_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let daemon = Command::new(env!("CARGO_BIN_EXE_bgpd"))
            .arg("--check")
            .arg("--config")
            .arg(&path)
            .output();
        let output = daemon.unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
            path,
        )
    };
    let good = format!("{GLOBAL}{}", neighbor("10.0.0.2", 65002, ""));
    assert!(check("good.toml", &good).0);
    let (success, message, path) = check("bad.toml", &good.replace("hold-time", "holdtime"));
    let line = 3 + GLOBAL.lines().count() + 1;
    let expected = format!("bgpd: {}:{line}: unknown field `holdtime`", path.display());
    assert!(
        !success && message.starts_with(&expected),
        "{message} instead of {expected}"
    );
    let missing = Path::new("/nonexistent/bgpd.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_bgpd"))
        .arg("--config")
        .arg(missing)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/bgpd.toml: No such file"));
}
