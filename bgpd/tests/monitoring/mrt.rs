//! Files that are written, as `bgpdump` reads them, and taken in again.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bgpd::config::{Config, Mrt, MrtRib, MrtSource, MrtUpdates, Neighbor, NeighborKey, Timing};
use bgpd::mrt::{
    Ends, MessageRecord, PeerEntry, PeerIndexTable, Record, Records, RibEntry, RibRecord, StateChange,
};
use bgpd::policy::Policy;
use bgpd::speaker::{RouteStatus, RouteView, SpeakerHandle, StopMode};
use bgpd::wire::{self, AsPath, Attributes, Codec, Community, Family, NextHop};

use crate::{address, best, hub, network, spoke, start, wait_for};

/// The lines that bgpdump makes of a file, its fields apart.
fn bgpdump(path: &Path) -> Vec<Vec<String>> {
    let output = Command::new("bgpdump")
        .args(["-m", "-v"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success());
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(warnings, "", "bgpdump warns");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split('|').map(str::to_owned).collect())
        .collect()
}

fn records(path: &Path) -> Vec<(Duration, Record)> {
    let file = std::fs::File::open(path).unwrap();
    Records::new(std::io::BufReader::new(file))
        .collect::<Result<_, _>>()
        .unwrap()
}

fn source(path: &Path) -> MrtSource {
    MrtSource {
        path: path.to_owned(),
        timing: Timing::Fast,
    }
}

/// A speaker with nothing but a source.
fn reader(last: u8, path: &Path) -> SpeakerHandle {
    let mut config = Config::new(64999, [10, 0, 0, last].into());
    config.fib = false;
    config.sources = vec![source(path)];
    start(config)
}

fn of_file(address: std::net::IpAddr) -> RouteView {
    RouteView::Received(NeighborKey::new(address, 0))
}

fn shown(routes: &[RouteStatus]) -> BTreeSet<String> {
    let line = |route: &RouteStatus| {
        let a = &route.attributes;
        format!(
            "{} {} {} {:?} {:?} {:?}",
            route.prefix,
            a.as_path,
            a.next_hop.address(),
            a.med,
            a.communities,
            a.large_communities
        )
    };
    routes.iter().map(line).collect()
}

#[tokio::test]
async fn a_dump_is_what_the_rib_has() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = hub(21, 22);
    config.mrt.rib = Some(MrtRib {
        path: directory.path().join("sub/rib.%Y%m%d.%H%M%S.mrt"),
        interval_s: None,
    });
    let left = start(config);
    let right = start(spoke(22, left.listen_addresses().await.unwrap()[0]));
    wait_for("the routes", async || best(&left).await.len() == 4).await;
    let dumped = left.dump_mrt(None).await.unwrap();
    assert_eq!((dumped.prefixes, dumped.paths, dumped.left_out), (5, 5, 0));
    let name = dumped.path.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("rib.20") && name.ends_with(".mrt") && !name.contains('%'),
        "{name}"
    );
    let files = std::fs::read_dir(directory.path().join("sub")).unwrap().count();
    assert_eq!(files, 1, "nothing unfinished is left");

    let field = |line: &[String]| format!("{} {} {} {} {}", line[5], line[3], line[4], line[6], line[7]);
    let read: BTreeSet<String> = bgpdump(&dumped.path).iter().map(|line| field(line)).collect();
    let expected = [
        "10.1.0.0/24 0.0.0.0 65000  IGP",
        "10.1.1.0/24 0.0.0.0 65000  IGP",
        "10.2.0.0/24 127.0.78.22 65001 65001 IGP",
        "10.2.1.0/24 127.0.78.22 65001 65001 IGP",
        "10.66.0.0/24 127.0.78.22 65001 65001 IGP",
    ];
    assert_eq!(read, expected.map(str::to_owned).into());

    // What another takes in of the file is what we have received, what our policy rejects included.
    let other = reader(23, &dumped.path);
    let key = left.config().await.unwrap().neighbors[0].key();
    let received = left.routes(RouteView::Received(key)).await.unwrap();
    wait_for("the file's routes", async || {
        shown(&other.routes(of_file(address(22))).await.unwrap()) == shown(&received)
    })
    .await;
    // Without the source they are gone.
    let mut config = other.config().await.unwrap();
    config.sources.clear();
    other.reconfigure(config).await.unwrap();
    wait_for("their end", async || best(&other).await.is_empty()).await;
    let nowhere = other.dump_mrt(None).await.unwrap_err().to_string();
    assert!(nowhere.contains("mrt rib.path"), "{nowhere}");
    right.stop(StopMode::Shutdown).await;
}

#[tokio::test]
async fn updates_are_written_as_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = hub(31, 32);
    config.mrt = Mrt {
        rib: Some(MrtRib {
            path: directory.path().join("latest.mrt"),
            interval_s: Some(1),
        }),
        updates: Some(MrtUpdates {
            path: directory.path().join("updates.%s"),
            rotate_s: 1,
        }),
    };
    let left = start(config);
    let right = start(spoke(32, left.listen_addresses().await.unwrap()[0]));
    wait_for("the routes", async || best(&left).await.len() == 4).await;
    right.set_networks(vec![network("10.2.1.0/24")]).await.unwrap();
    wait_for("the withdrawal", async || best(&left).await.len() == 3).await;
    wait_for("a dump now and then", async || {
        directory.path().join("latest.mrt").exists()
    })
    .await;
    right.stop(StopMode::Shutdown).await;
    wait_for("the end", async || best(&left).await.len() == 2).await;
    left.stop(StopMode::Shutdown).await;

    let mut files: Vec<PathBuf> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains("updates."))
        .collect();
    files.sort();
    assert!(
        files
            .iter()
            .all(|path| !path.to_str().unwrap().ends_with(".part")),
        "{files:?}"
    );
    let lines: Vec<String> = files
        .iter()
        .flat_map(|path| bgpdump(path))
        .map(|line| {
            // Without the time.
            [&line[..1], &line[2..line.len().min(9)]].concat().join("|")
        })
        .collect();
    let at = |start: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{start} in {lines:#?}"))
    };
    let up = at("BGP4MP_ET|STATE|127.0.78.32|65001|5|6");
    let announced = at("BGP4MP_ET|A|127.0.78.32|65001|10.66.0.0/24|65001|IGP|127.0.78.32");
    let withdrawn = at("BGP4MP_ET|W|127.0.78.32|65001|10.66.0.0/24");
    let down = at("BGP4MP_ET|STATE|127.0.78.32|65001|6|1");
    assert!(up < announced && announced < withdrawn && withdrawn < down);

    // Replayed one after another, they leave nothing: the session was lost at the end.
    let whole = directory.path().join("whole");
    let octets: Vec<u8> = files
        .iter()
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    std::fs::write(&whole, &octets).unwrap();
    let cut = records(&whole).len();
    let mut before_the_end = Vec::new();
    for (at, record) in records(&whole).into_iter().take(cut - 1) {
        record.encode(at, &mut before_the_end);
    }
    assert!(
        octets.starts_with(&before_the_end),
        "records are written again as they were"
    );
    let part = directory.path().join("part");
    std::fs::write(&part, before_the_end).unwrap();
    let other = reader(33, &part);
    wait_for("what was left", async || best(&other).await == ["10.2.1.0/24"]).await;
    let mut config = other.config().await.unwrap();
    config.sources = vec![source(&whole)];
    other.reconfigure(config).await.unwrap();
    wait_for("nothing", async || best(&other).await.is_empty()).await;
}

fn attributes(next_hop: NextHop) -> Attributes {
    let mut attributes = Attributes::originated(next_hop);
    attributes.as_path = AsPath::sequence([65010, 4_200_000_001]);
    attributes.med = Some(7);
    attributes.communities = vec![Community::new(65010, 1)];
    attributes
}

fn update(attributes: &Attributes, prefix: &str) -> Vec<u8> {
    let codec = Codec {
        four_octet_as: true,
        families: Family::ALL.into_iter().collect(),
        ..Codec::default()
    };
    let mut out = Vec::new();
    let prefixes: Vec<ipnet::IpNet> = vec![prefix.parse().unwrap()];
    wire::encode_announcement(attributes, prefixes.as_slice(), codec, &mut out).unwrap();
    out
}

/// IPv6, both ways to write its next hop, records that are not known and one that is wrong.
#[tokio::test]
async fn what_can_be_read_of_a_file_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mixed.mrt");
    let next_hop: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let six = attributes(NextHop::V6 {
        global: next_hop,
        link_local: None,
    });
    let peer = PeerEntry {
        router_id: [10, 9, 9, 9].into(),
        address: "2001:db8::9".parse().unwrap(),
        asn: 65010,
    };
    // ORIGIN, AS_PATH and MP_REACH_NLRI: as RFC 6396 says, and with everything.
    let base = [
        0x40, 1, 1, 0, 0x40, 2, 10, 2, 2, 0, 0, 0xfd, 0xf2, 0xfa, 0x56, 0xea, 1,
    ];
    let short = [&base[..], &[0x80, 14, 17, 16], &next_hop.octets()].concat();
    let long = [
        &base[..],
        &[0x80, 14, 26, 0, 2, 1, 16],
        &next_hop.octets(),
        &[0, 32, 0x20, 1, 0x0d, 0xb8],
    ]
    .concat();
    let rib = |sequence, prefix: &str, attributes: Vec<u8>| {
        Record::Rib(RibRecord {
            sequence,
            prefix: prefix.parse().unwrap(),
            entries: vec![RibEntry {
                peer: 0,
                originated_s: 1,
                path_id: None,
                attributes,
            }],
        })
    };
    let ends = Ends {
        peer_as: 65010,
        local_as: 64999,
        interface: 0,
        peer: "10.9.9.9".parse().unwrap(),
        local: "10.9.9.1".parse().unwrap(),
    };
    let message = |message| {
        Record::Message(MessageRecord {
            ends,
            four_octet_as: true,
            sent: false,
            add_path: false,
            message,
        })
    };
    let four = attributes(NextHop::V4([10, 9, 9, 9].into()));
    let table = PeerIndexTable {
        collector: [10, 0, 0, 9].into(),
        view: "test".to_owned(),
        peers: vec![peer],
    };
    let all = [
        Record::PeerIndexTable(table),
        rib(0, "2001:db8:a::/48", short),
        rib(1, "2001:db8:b::/48", long),
        rib(2, "2001:db8:c::/48", vec![0x40, 1, 9]),
        message(update(&four, "10.77.0.0/16")),
        message(update(&six, "2001:db8:d::/48")),
        message(b"no message".to_vec()),
        Record::StateChange(StateChange {
            ends: Ends {
                peer: "10.9.9.8".parse().unwrap(),
                ..ends
            },
            old: 6,
            new: 1,
        }),
    ];
    let mut octets = Vec::new();
    for (second, record) in all.iter().enumerate() {
        record.encode(Duration::from_secs(second as u64), &mut octets);
        // OSPFv2, which is none of ours.
        octets.extend([0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 2, 1, 2]);
    }
    // A record whose content is cut off, in a file that goes on and ends in the middle of a record.
    octets.extend([0, 0, 0, 0, 0, 13, 0, 1, 0, 0, 0, 2, 1, 2]);
    message(update(&four, "10.78.0.0/16")).encode(Duration::from_secs(9), &mut octets);
    octets.extend([0, 0, 0, 0, 0, 13]);
    std::fs::write(&path, octets).unwrap();
    let speaker = reader(41, &path);
    let expected = [
        "10.77.0.0/16",
        "10.78.0.0/16",
        "2001:db8:a::/48",
        "2001:db8:b::/48",
        "2001:db8:d::/48",
    ];
    wait_for("what can be read", async || best(&speaker).await == expected).await;
    let routes = speaker.routes(of_file(peer.address)).await.unwrap();
    assert!(
        routes
            .iter()
            .all(|route| route.attributes.next_hop.address() == next_hop)
    );
    assert_eq!(routes[0].attributes.as_path.to_string(), "65010 4200000001");
    let routes = speaker.routes(of_file(ends.peer)).await.unwrap();
    let four = routes
        .iter()
        .find(|route| route.prefix.to_string() == "10.77.0.0/16")
        .unwrap();
    assert_eq!(
        (four.attributes.med, four.attributes.communities.len()),
        (Some(7), 1)
    );

    // What was read is dumped, and bgpdump reads it.
    let dumped = speaker
        .dump_mrt(Some(directory.path().join("again")))
        .await
        .unwrap();
    let lines = bgpdump(&dumped.path);
    let prefixes: BTreeSet<&str> = lines.iter().map(|line| line[5].as_str()).collect();
    assert_eq!(prefixes, expected.into());
    let six = lines.iter().find(|line| line[5] == "2001:db8:d::/48").unwrap();
    assert_eq!(
        (six[6].as_str(), six[8].as_str()),
        ("65010 4200000001", "2001:db8::1")
    );
}

/// RFC 8050: the identifiers of paths are in the records, and taken in again with them.
#[tokio::test]
async fn paths_of_one_peer_are_in_a_dump_with_their_identifiers() {
    let directory = tempfile::tempdir().unwrap();
    let neighbor = |last: u8, remote_as: u32| {
        let mut neighbor = Neighbor::new(address(last), remote_as, 65000);
        neighbor.passive = true;
        (neighbor.import, neighbor.export) = (Policy::Accept, Policy::Accept);
        neighbor
    };
    let mut config = hub(71, 72);
    config.neighbors = vec![neighbor(72, 65001), neighbor(73, 65003), neighbor(74, 65004)];
    let both = config.neighbors[2].families;
    config.neighbors[2].add_paths.send = both;
    config.networks.clear();
    let middle = start(config);
    let to = middle.listen_addresses().await.unwrap()[0];
    let in_as = |last: u8, local_as: u32| {
        let mut config = spoke(last, to);
        config.local_as = local_as;
        config.neighbors[0].families = both;
        config
    };
    let origins = [start(in_as(72, 65001)), start(in_as(73, 65003))];
    let mut config = in_as(74, 65004);
    config.networks.clear();
    config.neighbors[0].add_paths.receive = both;
    config.mrt.rib = Some(MrtRib {
        path: directory.path().join("rib.mrt"),
        interval_s: None,
    });
    let key = config.neighbors[0].key();
    let collector = start(config);
    let received = async || collector.routes(RouteView::Received(key)).await.unwrap();
    wait_for("two paths of three prefixes", async || {
        received().await.len() == 6
    })
    .await;
    let dumped = collector.dump_mrt(None).await.unwrap();
    assert_eq!((dumped.prefixes, dumped.paths, dumped.left_out), (3, 6, 0));
    for (_, record) in records(&dumped.path).into_iter().skip(1) {
        let Record::Rib(rib) = record else {
            panic!("{record:?}")
        };
        let ids: Vec<u32> = rib.entries.iter().filter_map(|entry| entry.path_id).collect();
        assert!(matches!(ids.as_slice(), [one, other] if one != other), "{ids:?}");
    }
    let other = reader(75, &dumped.path);
    let with_ids = |routes: &[RouteStatus]| -> BTreeSet<String> {
        let line = |route: &RouteStatus| {
            format!(
                "{} {:?} {}",
                route.prefix, route.path_id, route.attributes.as_path
            )
        };
        routes.iter().map(line).collect()
    };
    let expected = with_ids(&received().await);
    assert_eq!(expected.len(), 6);
    wait_for("the file's routes", async || {
        with_ids(&other.routes(of_file(to.ip())).await.unwrap()) == expected
    })
    .await;
    for origin in origins {
        origin.stop(StopMode::Shutdown).await;
    }
}

/// With its own timing, a file says as late as its records do, from the first one on; what is older than that
/// comes at once.
#[tokio::test]
async fn a_file_may_take_its_time() {
    const PAUSE: Duration = Duration::from_millis(4500);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slow.mrt");
    let ends = Ends {
        peer_as: 65010,
        local_as: 64999,
        interface: 0,
        peer: "10.9.9.9".parse().unwrap(),
        local: "10.9.9.1".parse().unwrap(),
    };
    let attributes = attributes(NextHop::V4([10, 9, 9, 9].into()));
    let begin = Duration::from_secs(1000);
    let mut octets = Vec::new();
    for (at, prefix) in [
        (begin, "10.77.0.0/16"),
        (begin + PAUSE, "10.78.0.0/16"),
        (begin - PAUSE, "10.79.0.0/16"),
    ] {
        let record = Record::Message(MessageRecord {
            ends,
            four_octet_as: true,
            sent: false,
            add_path: false,
            message: update(&attributes, prefix),
        });
        record.encode(at, &mut octets);
    }
    std::fs::write(&path, octets).unwrap();
    let mut config = Config::new(64999, [10, 0, 0, 42].into());
    config.fib = false;
    config.sources = vec![MrtSource {
        timing: Timing::Original,
        ..source(&path)
    }];
    let started = std::time::Instant::now();
    let speaker = start(config);
    wait_for("the first record alone", async || {
        best(&speaker).await == ["10.77.0.0/16"]
    })
    .await;
    wait_for("all of them", async || {
        best(&speaker).await == ["10.77.0.0/16", "10.78.0.0/16", "10.79.0.0/16"]
    })
    .await;
    assert!(started.elapsed() >= PAUSE, "{:?}", started.elapsed());
    speaker.stop(StopMode::Shutdown).await;
}
