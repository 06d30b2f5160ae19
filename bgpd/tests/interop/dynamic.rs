//! Neighbours that are not configured one by one: they connect from a range of addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bgpd::wire::{self, Codec, Message};

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Router};

const SESSION_TIME: Duration = Duration::from_secs(20);
const ROUTE_TIME: Duration = Duration::from_secs(10);

fn config(range: &str) -> String {
    format!(
        "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
         [[dynamic-neighbors]]\n{range}\nhold-time = 9\nimport = \"accept\"\nexport = \"accept\"\n\
         [[network]]\nprefix = \"192.0.2.0/24\"\n"
    )
}

fn bird_config(more: &str) -> String {
    format!(
        "router id 10.0.0.2;\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 198.51.100.0/24 blackhole; }}\n\
         protocol bgp four {{ local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001; hold time 9;\n\
           graceful restart off; connect retry time 1; error wait time 1, 2; {more}\n\
           ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    )
}

/// With a password for the whole range: it is there as long as its session.
#[test]
fn a_neighbor_comes_and_goes() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), &bird_config("password \"sesame\";"));
    let range = "prefix = \"10.0.0.0/24\"\nas = [65002, 65003]\npassword = \"sesame\"\ndescription = \"leaves\"\n\
                 graceful-restart = \"off\"";
    let ours = Bgpd::start(&a, directory.path(), &config(range), "");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    let peer = ours.peer("10.0.0.2").unwrap();
    assert_eq!((peer.remote_as, peer.description.as_str()), (65002, "leaves"));
    wait_for("its route", ROUTE_TIME, || ours.best("198.51.100.0/24").is_some());
    wait_for("our route", ROUTE_TIME, || router.route("192.0.2.0/24").is_some());
    // What is changed for the range is changed for those that are there; their sessions stay.
    ours.reload(&config(&range.replace("leaves", "spines")));
    wait_for("the new description", ROUTE_TIME, || {
        ours.peer("10.0.0.2")
            .is_some_and(|peer| peer.description == "spines")
    });
    assert_eq!(ours.peer("10.0.0.2").unwrap().flaps, 0);
    router.ask_writing("disable four");
    wait_for("its end", ROUTE_TIME, || ours.peers().is_empty());
    assert!(ours.best("198.51.100.0/24").is_none());
    router.ask_writing("enable four");
    wait_for("its return", SESSION_TIME, || ours.is_established("10.0.0.2"));
    // The range is taken away, and its neighbours with it.
    let without = config(range).replace("10.0.0.0/24", "10.9.0.0/24");
    ours.reload(&without);
    wait_for("the range's end", ROUTE_TIME, || ours.peers().is_empty());
}

/// What a connection from an address gets before it is closed.
fn answer(netns: &Netns, from: Ipv4Addr) -> Option<(u8, u8)> {
    let mut stream = netns.inside(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
        socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
        let to = SocketAddr::from(([10, 0, 0, 1], 179));
        socket.connect_timeout(&to.into(), Duration::from_secs(2)).ok()?;
        Some(TcpStream::from(socket))
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // As one does who opens a session: it must not destroy the answer.
    stream.write_all(&wire::encode_keepalive()).ok()?;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).ok()?;
    // The last message says why; an OPEN may stand before it.
    let mut rest = octets.as_slice();
    let mut last = None;
    while let Ok(Some(length)) = wire::frame(rest, Codec::default()) {
        last = wire::decode(rest.get(..length)?, Codec::default()).ok();
        rest = rest.get(length..)?;
    }
    match last? {
        Message::Notification(notification) => Some((notification.code, notification.subcode)),
        _ => None,
    }
}

#[test]
fn strangers_are_told_that_they_are_not_wanted() {
    let (a, b) = Netns::pair();
    for last in [3, 9] {
        b.run(&format!("ip addr add 10.0.0.{last}/24 dev eth0"));
    }
    let directory = tempfile::tempdir().unwrap();
    let _router = Bird::start(&b, directory.path(), &bird_config(""));
    let range = "prefix = \"10.0.0.2/31\"\nlimit = 1\nas = \"external\"";
    let ours = Bgpd::start(&a, directory.path(), &config(range), "");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    // Of the range, but that is full; and of no range at all (RFC 4486 section 4).
    for last in [3, 9] {
        assert_eq!(answer(&b, [10, 0, 0, last].into()), Some((6, 5)), "10.0.0.{last}");
    }
    assert_eq!(ours.peers().len(), 1);
    assert_eq!(ours.peer("10.0.0.2").unwrap().flaps, 0);
}

/// Where the kernel has no TCP-AO, there is no session, in neither direction, and it is said why. (Where it has, there
/// is none either, because BIRD here has no key.)
#[test]
fn without_tcp_ao_in_the_kernel_there_is_no_session() {
    let (a, b) = Netns::pair();
    b.run("ip addr add 10.0.0.3/24 dev eth0");
    let directory = tempfile::tempdir().unwrap();
    let _router = Bird::start(&b, directory.path(), &bird_config(""));
    let config = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\n\
         tcp-ao = [{ send-id = 1, receive-id = 1, algorithm = \"hmac-sha-1-96\", key = \"sesame\" }]\n\
         [[neighbor]]\naddress = \"10.0.0.3\"\nas = 65003\npassive = true\n";
    let ours = Bgpd::start(&a, directory.path(), config, "");
    let lacks = || {
        ours.peer("10.0.0.2")
            .is_some_and(|peer| peer.last_error.contains("CONFIG_TCP_AO"))
    };
    let has = || !ours.process.log().contains("CONFIG_TCP_AO");
    wait_for("an attempt", SESSION_TIME, || {
        lacks()
            || (has()
                && ours
                    .peer("10.0.0.2")
                    .is_some_and(|peer| !peer.last_error.is_empty()))
    });
    if lacks() {
        let log = ours.process.log();
        assert!(
            log.lines()
                .any(|line| line.contains("no session") && line.contains("10.0.0.2")),
            "{log}"
        );
        // Without a key that could be asked for, nobody is let in.
        assert_eq!(answer(&b, [10, 0, 0, 2].into()), Some((6, 5)));
    }
    assert!(!ours.is_established("10.0.0.2"));
    // Others are not concerned: this one is heard out, and answered.
    wait_for("an answer to another neighbor", SESSION_TIME, || {
        answer(&b, [10, 0, 0, 3].into()) == Some((5, 1))
    });
}
