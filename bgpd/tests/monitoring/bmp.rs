//! Stations of the tests' own, pmacct's, and what tshark makes of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bgpd::bmp::{
    self, DownReason, Message, PeerHeader, Statistic, information, mirroring, peer_flag, peer_type, statistic,
};
use bgpd::config::{BmpStation, BmpView};
use bgpd::policy::Policy;
use bgpd::speaker::{RouteView, SpeakerHandle, StopMode};
use bgpd::wire::{self, AsPath, Attributes, Capabilities, Codec, Family, NextHop, Open, RefreshKind};
use tokio::io::AsyncWriteExt;

use crate::{address, best, capture, hub, network, spoke, start, wait_for};

const ALL: [BmpView; 4] = [
    BmpView::PrePolicy,
    BmpView::PostPolicy,
    BmpView::AdjRibOut,
    BmpView::LocRib,
];

/// A station: everything that it was sent on its connections.
#[derive(Clone)]
struct Station {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Station {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.78.250:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&connections);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let at = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    all.lock().unwrap()[at].extend(&buffer[..count]);
                }
            }
        });
        Self { address, connections }
    }

    fn config(&self, monitor: &[BmpView]) -> BmpStation {
        BmpStation {
            address: self.address,
            monitor: monitor.to_vec(),
            stats_interval_s: 1,
            mirror: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.connections
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }

    /// The messages of its last connection.
    fn messages(&self) -> Vec<Message> {
        let bytes = self.bytes();
        let mut rest = bytes.as_slice();
        let mut messages = Vec::new();
        while let Some(length) = bmp::frame(rest).unwrap() {
            let (message, after) = rest.split_at(length);
            messages.push(bmp::decode(message).unwrap());
            rest = after;
        }
        messages
    }

    fn table(&self) -> Table {
        table_of(&self.messages())
    }
}

/// View, peer and prefix; what the attributes are, or that there is no such route any more.
type Table = BTreeMap<(&'static str, String, String), String>;

fn view_of(peer: &PeerHeader) -> &'static str {
    match (
        peer.kind,
        peer.flags & (peer_flag::POST_POLICY | peer_flag::ADJ_RIB_OUT),
    ) {
        (peer_type::LOC_RIB, _) => "loc",
        (_, 0) => "pre",
        (_, peer_flag::POST_POLICY) => "post",
        _ => "out",
    }
}

/// What a station knows after these messages.
fn table_of(messages: &[Message]) -> Table {
    let codec = Codec {
        four_octet_as: true,
        extended_message: true,
        families: Family::ALL.into_iter().collect(),
        ..Codec::default()
    };
    let mut table = Table::new();
    let mut up = Vec::new();
    for message in messages {
        match message {
            Message::PeerUp(peer, _) => up.push((peer.kind, peer.address)),
            Message::PeerDown(peer, _) => {
                up.retain(|known| *known != (peer.kind, peer.address));
                let gone = peer.address.to_string();
                table.retain(|(_, peer, _), _| *peer != gone);
            }
            Message::RouteMonitoring(peer, update) => {
                assert!(up.contains(&(peer.kind, peer.address)), "no Peer Up for {peer:?}");
                let wire::Message::Update(update) = wire::decode(update, codec).unwrap() else {
                    panic!("not an UPDATE");
                };
                let key =
                    |prefix: &ipnet::IpNet| (view_of(peer), peer.address.to_string(), prefix.to_string());
                // A route of our own has no next hop yet; our decoder refuses that of a neighbour.
                let own =
                    peer.kind == peer_type::LOC_RIB && update.faults.iter().any(|fault| fault.code == 3);
                for prefix in &update.withdrawn {
                    if own {
                        table.insert(key(prefix), "our own".to_owned());
                    } else {
                        table.remove(&key(prefix));
                    }
                }
                for announcement in &update.announced {
                    for prefix in &announcement.prefixes {
                        let attributes = &announcement.attributes;
                        let text = format!("{} via {:?}", attributes.as_path, attributes.next_hop);
                        table.insert(key(prefix), text);
                    }
                }
            }
            _ => {}
        }
    }
    table
}

fn prefixes(table: &Table, view: &str) -> Vec<String> {
    let of_view = table.keys().filter(|(of, _, _)| *of == view);
    of_view.map(|(_, _, prefix)| prefix.clone()).collect()
}

/// The ends of table that a station heard of: view and peer.
fn ends(messages: &[Message]) -> Vec<(&'static str, bool)> {
    let codec = Codec {
        four_octet_as: true,
        families: Family::ALL.into_iter().collect(),
        ..Codec::default()
    };
    let end = |message: &Message| match message {
        Message::RouteMonitoring(peer, update) => match wire::decode(update, codec) {
            Ok(wire::Message::Update(update)) => update
                .end_of_rib
                .map(|family| (view_of(peer), family == Family::Ipv4Unicast)),
            _ => None,
        },
        _ => None,
    };
    messages.iter().filter_map(end).collect()
}

async fn pair(left: u8, right: u8, stations: &[BmpStation]) -> (SpeakerHandle, SpeakerHandle) {
    let mut config = hub(left, right);
    config.bmp = stations.to_vec();
    let left = start(config);
    let listen = left.listen_addresses().await.unwrap()[0];
    let right = start(spoke(right, listen));
    wait_for("the routes", async || {
        best(&left).await.len() == 4 && best(&right).await.len() == 5
    })
    .await;
    (left, right)
}

/// One station from the start and one that comes later know the same in the end, which is what the speaker
/// knows.
#[tokio::test]
async fn stations_know_what_the_speaker_knows() {
    let early = Station::start();
    let (left, right) = pair(1, 2, &[early.config(&ALL)]).await;
    let views = || {
        let table = early.table();
        ["pre", "post", "out", "loc"].map(|view| prefixes(&table, view))
    };
    let theirs = ["10.2.0.0/24", "10.2.1.0/24"].map(str::to_owned);
    let with_rejected = ["10.2.0.0/24", "10.2.1.0/24", "10.66.0.0/24"].map(str::to_owned);
    let ours = ["10.1.0.0/24", "10.1.1.0/24"].map(str::to_owned);
    let selected: Vec<String> = ours.iter().chain(&theirs).cloned().collect();
    wait_for("the early station", async || {
        views()
            == [
                with_rejected.to_vec(),
                theirs.to_vec(),
                ours.to_vec(),
                selected.clone(),
            ]
    })
    .await;

    let late = Station::start();
    let mut config = left.config().await.unwrap();
    config.bmp.push(late.config(&ALL));
    let diff = left.reconfigure(config.clone()).await.unwrap();
    assert!(diff.monitoring && diff.changed.is_empty());
    wait_for("the late station", async || late.table() == early.table()).await;
    wait_for("its ends of table", async || {
        let mut ends = ends(&late.messages());
        ends.sort_unstable();
        ends.dedup();
        ends.len() == 8
    })
    .await;

    // A change of the import policy shows after it, and in nothing that is as it was received.
    config.neighbors[0].import = Policy::Accept;
    left.reconfigure(config.clone()).await.unwrap();
    right
        .set_networks(vec![network("10.2.1.0/24"), network("10.66.0.0/24")])
        .await
        .unwrap();
    for station in [&early, &late] {
        wait_for("the changes", async || {
            let table = station.table();
            ["pre", "post"]
                .iter()
                .all(|view| prefixes(&table, view) == ["10.2.1.0/24", "10.66.0.0/24"])
                && prefixes(&table, "loc") == best(&left).await
        })
        .await;
    }
    let received = left
        .routes(RouteView::Received(config.neighbors[0].key()))
        .await
        .unwrap();
    assert_eq!(prefixes(&early.table(), "pre").len(), received.len());
    assert_eq!(
        left.peers().await.unwrap()[0].flaps,
        0,
        "nobody's session was touched"
    );

    // Statistics say how many there are.
    wait_for("statistics", async || {
        late.messages().iter().any(|message| {
            let Message::StatisticsReport(peer, statistics) = message else {
                return false;
            };
            peer.kind == peer_type::GLOBAL && statistics.contains(&Statistic::Gauge(statistic::ADJ_RIB_IN, 2))
        }) && late.messages().iter().any(|message| {
            let Message::StatisticsReport(peer, statistics) = message else {
                return false;
            };
            peer.kind == peer_type::LOC_RIB && statistics.contains(&Statistic::Gauge(statistic::LOC_RIB, 4))
        })
    })
    .await;

    right.stop(StopMode::Shutdown).await;
    wait_for("Peer Down", async || {
        let down =
            |message: &Message| matches!(message, Message::PeerDown(_, DownReason::RemoteNotification(_)));
        early.messages().iter().any(down) && early.table().keys().all(|(view, ..)| *view == "loc")
    })
    .await;
    wait_for("what is left", async || prefixes(&early.table(), "loc") == ours).await;
    left.stop(StopMode::Shutdown).await;
    for station in [&early, &late] {
        wait_for("Termination", async || {
            matches!(station.messages().last(), Some(Message::Termination(_)))
        })
        .await;
        assert_eq!(station.connections.lock().unwrap().len(), 1);
    }
    first_messages(&early.messages());
    decodes_in_tshark(&early.bytes(), 1);
    decodes_in_tshark(&late.bytes(), 2);
}

fn first_messages(messages: &[Message]) {
    let [Message::Initiation(tlvs), Message::PeerUp(loc_rib, up), ..] = messages else {
        panic!("Initiation and the Loc-RIB's Peer Up come first: {messages:?}");
    };
    assert!(
        tlvs.iter()
            .any(|tlv| tlv.kind == information::SYS_NAME && !tlv.value.is_empty())
    );
    assert_eq!(
        (loc_rib.kind, loc_rib.asn, loc_rib.address),
        (peer_type::LOC_RIB, 65000, [0, 0, 0, 0].into())
    );
    assert_eq!(up.sent_open, up.received_open, "none was exchanged");
    let session = messages.iter().find_map(|message| match message {
        Message::PeerUp(peer, up) if peer.kind == peer_type::GLOBAL => Some((peer, up)),
        _ => None,
    });
    let (peer, up) = session.unwrap();
    assert_eq!(
        (peer.address, peer.asn, up.local),
        (address(2), 65001, address(1))
    );
    for (open, asn) in [(&up.sent_open, 65000), (&up.received_open, 65001)] {
        let Ok(wire::Message::Open(open)) = wire::decode(open, Codec::default()) else {
            panic!("not an OPEN");
        };
        assert_eq!(open.asn, asn);
    }
}

fn decodes_in_tshark(stream: &[u8], which: u16) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(format!("bmp{which}.pcap"));
    let port = 5000 + which;
    let mut segments = Vec::new();
    let mut rest = stream;
    while let Some(length) = bmp::frame(rest).unwrap() {
        let (message, after) = rest.split_at(length);
        segments.push(message);
        rest = after;
    }
    capture::write(&path, &segments, port);
    let summary = capture::tshark(&path, port, &["-V", "-Y", "bmp"]);
    for expected in [
        "Initiation Message",
        "Peer Up Notification",
        "Route Monitoring",
        "Statistics Report",
        "Termination Message",
    ] {
        assert!(
            summary.contains(expected),
            "{which}: {expected} is missing: {summary}"
        );
    }
    let experts = capture::tshark(
        &path,
        port,
        &["-Y", "bmp && _ws.expert.severity >= 0x00400000 || _ws.malformed"],
    );
    assert_eq!(experts, "", "tshark warns");
}

/// A station that takes nothing in does not hold up anybody, and one that comes back is shown everything.
#[tokio::test]
async fn a_station_that_goes_away_is_shown_everything_again() {
    let listener = TcpListener::bind("127.0.78.250:0").unwrap();
    let settings = BmpStation {
        address: listener.local_addr().unwrap(),
        monitor: vec![BmpView::PrePolicy],
        stats_interval_s: 0,
        mirror: false,
    };
    let (left, _right) = pair(3, 4, &[settings]).await;
    let (first, _) = listener.accept().unwrap();
    wait_for("the connection", async || {
        left.monitoring().await.unwrap().stations[0].1.connected
    })
    .await;
    drop(first);
    let (mut second, _) = tokio::task::spawn_blocking(move || listener.accept().unwrap())
        .await
        .unwrap();
    second.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut bytes = Vec::new();
    wait_for("the routes once more", async || {
        let mut buffer = [0; 4096];
        if let Ok(count) = second.read(&mut buffer) {
            bytes.extend(&buffer[..count]);
        }
        let mut rest = bytes.as_slice();
        let mut messages = Vec::new();
        while let Some(length) = bmp::frame(rest).unwrap() {
            messages.push(bmp::decode(&rest[..length]).unwrap());
            rest = &rest[length..];
        }
        prefixes(&table_of(&messages), "pre").len() == 3 && ends(&messages).len() == 2
    })
    .await;
    let status = &left.monitoring().await.unwrap().stations[0].1;
    assert_eq!((status.connections, status.resyncs), (2, 0));
    assert!(status.last_error.is_some() && status.bytes_sent >= bytes.len() as u64);
}

/// What was mirrored: each message, and whether it was of use.
fn mirrored(messages: &[Message]) -> Vec<(Vec<u8>, bool)> {
    let mirror = |message: &Message| {
        let Message::RouteMirroring(peer, tlvs) = message else {
            return None;
        };
        assert_eq!((peer.kind, peer.asn), (peer_type::GLOBAL, 65001));
        let (last, before) = tlvs.split_last().unwrap();
        assert_eq!(last.kind, mirroring::BGP_MESSAGE);
        let errored = before.iter().any(|tlv| {
            assert_eq!(tlv.kind, mirroring::INFORMATION);
            tlv.value == mirroring::ERRORED_PDU.to_be_bytes()
        });
        Some((last.value.clone(), !errored))
    };
    messages.iter().filter_map(mirror).collect()
}

/// RFC 7854 section 4.7: every message as it came, in its order, before the session's end; the bad ones are marked.
#[tokio::test]
async fn messages_are_mirrored_as_they_came() {
    let (station, other) = (Station::start(), Station::start());
    let mut config = hub(71, 72);
    config.bmp = vec![
        BmpStation {
            mirror: true,
            ..station.config(&[])
        },
        other.config(&[BmpView::PrePolicy]),
    ];
    let speaker = start(config);
    wait_for("the stations", async || {
        let stations = speaker.monitoring().await.unwrap().stations;
        stations.iter().all(|(_, status)| status.bytes_sent > 0)
    })
    .await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address(72), 0)).unwrap();
    let to = speaker.listen_addresses().await.unwrap()[0];
    let mut stream = socket.connect(to).await.unwrap();
    let families = [Family::Ipv4Unicast].into_iter().collect();
    let open = Open {
        asn: 65001,
        hold_time_s: 90,
        router_id: [10, 0, 0, 72].into(),
        capabilities: Capabilities {
            families,
            four_octet_as: Some(65001),
            route_refresh: true,
            ..Capabilities::default()
        },
    };
    let codec = Codec {
        four_octet_as: true,
        families,
        external: true,
        ..Codec::default()
    };
    stream.write_all(&wire::encode_open(&open)).await.unwrap();
    stream.write_all(&wire::encode_keepalive()).await.unwrap();
    let is_up = |message: &Message| matches!(message, Message::PeerUp(..));
    wait_for("the session", async || station.messages().iter().any(is_up)).await;

    let mut attributes = Attributes::originated(NextHop::V4([127, 0, 78, 72].into()));
    attributes.as_path = AsPath::sequence([65001]);
    let mut good = Vec::new();
    let prefix: [ipnet::IpNet; 1] = ["10.7.0.0/24".parse().unwrap()];
    wire::encode_announcement(&attributes, &prefix[..], codec, &mut good).unwrap();
    // RFC 7606 section 7.1: an ORIGIN that is none makes withdrawals of the routes.
    let mut wrong = good.clone();
    let origin = wrong
        .windows(4)
        .position(|octets| octets == [0x40, 1, 1, 0])
        .unwrap();
    wrong[origin + 3] = 9;
    let refresh = wire::encode_route_refresh(Family::Ipv4Unicast, RefreshKind::Request);
    let sent = [
        (wire::encode_keepalive(), true),
        (good.clone(), true),
        (wrong, false),
        (refresh, true),
    ];
    for (message, _) in &sent {
        stream.write_all(message).await.unwrap();
    }
    wait_for("what was sent", async || mirrored(&station.messages()) == sent).await;
    // Lengths that contradict each other end the session.
    let mut fatal = good;
    fatal[19..21].copy_from_slice(&[0xff, 0xff]);
    stream.write_all(&fatal).await.unwrap();
    let is_down = |message: &Message| matches!(message, Message::PeerDown(..));
    wait_for("the session's end", async || {
        station.messages().iter().any(is_down)
    })
    .await;
    let messages = station.messages();
    let all: Vec<(Vec<u8>, bool)> = sent.into_iter().chain([(fatal, false)]).collect();
    assert_eq!(mirrored(&messages), all);
    assert!(is_down(messages.last().unwrap()), "nothing of it comes after it");
    let monitored = |message: &Message| matches!(message, Message::RouteMonitoring(..));
    assert!(!messages.iter().any(monitored), "not asked for");
    wait_for("the other station", async || other.messages().iter().any(is_down)).await;
    assert!(mirrored(&other.messages()).is_empty() && other.messages().iter().any(monitored));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mirror.pcap");
    let mut octets: Vec<Vec<u8>> = Vec::new();
    for message in &messages {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        octets.push(encoded);
    }
    let segments: Vec<&[u8]> = octets.iter().map(Vec::as_slice).collect();
    capture::write(&path, &segments, 5071);
    let summary = capture::tshark(&path, 5071, &["-V", "-Y", "bmp"]);
    // Versions up to 4.0 do not show the TLVs, but the messages in them.
    for (text, times) in [
        ("Type: Route Mirroring (6)", 5),
        ("Border Gateway Protocol - UPDATE Message", 3),
        ("Border Gateway Protocol - KEEPALIVE Message", 1),
        ("Border Gateway Protocol - ROUTE-REFRESH Message", 1),
    ] {
        assert_eq!(summary.matches(text).count(), times, "{text}: {summary}");
    }
}

/// Ends the process with the test.
struct Collector(Child);

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// pmacct's collector takes us for what we are.
#[tokio::test]
async fn pmacct_understands_us() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("bmp.json");
    let port = TcpListener::bind("127.0.78.251:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let config = format!(
        "bmp_daemon_ip: 127.0.78.251\nbmp_daemon_port: {port}\nbmp_daemon_max_peers: 4\n\
         bmp_daemon_msglog_file: {}\nbmp_daemon_msglog_output: json\n",
        log.display()
    );
    let file = directory.path().join("pmbmpd.conf");
    std::fs::write(&file, config).unwrap();
    let stderr = std::fs::File::create(directory.path().join("pmbmpd.log")).unwrap();
    let collector = Command::new("/usr/sbin/pmbmpd")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(stderr.try_clone().unwrap())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let _collector = Collector(collector);
    let station = BmpStation {
        address: SocketAddr::new("127.0.78.251".parse().unwrap(), port),
        monitor: ALL.to_vec(),
        stats_interval_s: 1,
        mirror: false,
    };
    let (left, right) = pair(5, 6, &[station]).await;
    let lines = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
        text.lines().filter_map(parse).collect::<Vec<_>>()
    };
    let has = |lines: &[serde_json::Value], wanted: &[(&str, &str)]| {
        let text =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.iter().any(|line| {
            wanted
                .iter()
                .all(|(key, value)| line.get(key).map(text).as_deref() == Some(value))
        })
    };
    let wanted: &[&[(&str, &str)]] = &[
        &[("bmp_msg_type", "init")],
        &[
            ("bmp_msg_type", "peer_up"),
            ("peer_ip", "127.0.78.6"),
            ("peer_asn", "65001"),
        ],
        &[
            ("bmp_msg_type", "route_monitor"),
            ("ip_prefix", "10.66.0.0/24"),
            ("as_path", "65001"),
            ("is_post", "0"),
        ],
        &[
            ("bmp_msg_type", "route_monitor"),
            ("ip_prefix", "10.2.0.0/24"),
            ("is_post", "1"),
            ("is_in", "1"),
        ],
        &[
            ("bmp_msg_type", "route_monitor"),
            ("ip_prefix", "10.1.0.0/24"),
            ("is_out", "1"),
            ("as_path", "65000"),
        ],
        &[
            ("bmp_msg_type", "route_monitor"),
            ("ip_prefix", "10.1.1.0/24"),
            ("is_loc", "1"),
        ],
        &[("bmp_msg_type", "stats"), ("peer_ip", "127.0.78.6")],
    ];
    let end = std::time::Instant::now() + crate::TIME_MAX;
    while !wanted.iter().all(|fields| has(&lines(), fields)) {
        let missing: Vec<_> = wanted.iter().filter(|fields| !has(&lines(), fields)).collect();
        let log = std::fs::read_to_string(directory.path().join("pmbmpd.log")).unwrap();
        assert!(
            std::time::Instant::now() < end,
            "{missing:?} in {:#?}\n{log}",
            lines()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    right.stop(StopMode::Shutdown).await;
    wait_for("peer_down", async || {
        has(
            &lines(),
            &[("bmp_msg_type", "peer_down"), ("peer_ip", "127.0.78.6")],
        )
    })
    .await;
    left.stop(StopMode::Shutdown).await;
    wait_for("term", async || has(&lines(), &[("bmp_msg_type", "term")])).await;
}
