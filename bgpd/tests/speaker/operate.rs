//! What an operator does, by the commands of the `bgpd` binary on the socket of a speaker.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use bgpd::policy::{Policy, Rule, RuleAction, Verdict};
use bgpd::rpc;
use bgpd::speaker::{RouteView, SpeakerHandle};
use bgpd::wire::Community;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::{address, best, hub, is_established, key, listen_address, network, peer, spoke, start, wait_for};

/// A hub in AS 65000 whose neighbours 2 (AS 65002) and 3 (AS 65003) are established, and its socket.
struct Fabric {
    hub: SpeakerHandle,
    spokes: [SpeakerHandle; 2],
    socket: PathBuf,
    _dir: tempfile::TempDir,
}

async fn fabric() -> Fabric {
    let mut config = hub(1, [2, 3], 65002);
    config.neighbors[1].remote_as = 65003.into();
    config.neighbors[0].description = "upstream".to_owned();
    let not_this = Rule::inside("10.2.0.0/16".parse().unwrap(), RuleAction::Reject).named("not this");
    config.neighbors[0].import = Policy::rules([not_this], Verdict::Accept);
    let hub = start(config);
    let listen = listen_address(&hub).await;
    let spokes = [(2, 65002), (3, 65003)].map(|(last, asn)| {
        let mut config = spoke(last, asn, listen);
        if last == 2 {
            config.networks = ["10.1.0.0/24", "10.2.0.0/24"].map(network).to_vec();
        }
        start(config)
    });
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bgpd.sock");
    let (path, speaker) = (socket.clone(), hub.clone());
    tokio::spawn(async move { rpc::serve(&path, speaker, std::future::pending()).await });
    wait_for("routes at the far side", async || {
        best(&spokes[1]).await == ["10.1.0.0/24"]
    })
    .await;
    Fabric {
        hub,
        spokes,
        socket,
        _dir: dir,
    }
}

fn bgpd(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgpd"));
    command
        .args(arguments)
        .arg("--api")
        .arg(socket)
        .kill_on_drop(true);
    command
}

/// Standard output of a command that must succeed.
async fn says(fabric: &Fabric, arguments: &[&str]) -> String {
    let output = bgpd(&fabric.socket, arguments).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{error}");
    text
}

/// Standard error of a command that must fail.
async fn refuses(fabric: &Fabric, arguments: &[&str]) -> String {
    let output = bgpd(&fabric.socket, arguments).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn since(fabric: &Fabric, last: u8) -> SystemTime {
    peer(&fabric.hub, address(last)).await.since
}

#[tokio::test]
async fn peers_routes_and_reasons() {
    let fabric = fabric().await;
    let peers = says(&fabric, &["peers"]).await;
    let line = peers.lines().find(|line| line.starts_with("127.0.77.2")).unwrap();
    for cell in ["65002", "Established", "2", "1", "upstream"] {
        assert!(
            line.split_whitespace().any(|found| found == cell),
            "{cell}: {line}"
        );
    }
    let json: Value =
        serde_json::from_str(&says(&fabric, &["peers", "127.0.77.2", "-o", "json"]).await).unwrap();
    assert_eq!(json["prefixesReceived"], 2);
    assert_eq!(json["prefixesAccepted"], 1);
    let capabilities = json["session"]["capabilities"].as_array().unwrap();
    assert!(
        capabilities.contains(&Value::from("route-refresh")),
        "{capabilities:?}"
    );
    assert!(
        refuses(&fabric, &["peers", "192.0.2.9"])
            .await
            .contains("peer 192.0.2.9 is not configured")
    );

    let rejected = says(&fabric, &["routes", "--peer", "127.0.77.2", "--view", "rejected"]).await;
    assert!(!rejected.contains("10.1.0.0/24"), "{rejected}");
    assert!(
        rejected.contains("import: rejected by rule 1 \"not this\""),
        "{rejected}"
    );
    let accepted = says(&fabric, &["routes", "--peer", "127.0.77.2", "--view", "accepted"]).await;
    assert!(
        accepted.contains("10.1.0.0/24") && !accepted.contains("10.2.0.0/24"),
        "{accepted}"
    );
    let told = says(
        &fabric,
        &["routes", "--peer", "127.0.77.3", "--view", "advertised"],
    )
    .await;
    assert!(told.contains("65000 65002"), "{told}");
    let limited = bgpd(
        &fabric.socket,
        &["routes", "--peer", "127.0.77.2", "--limit", "1"],
    );
    let limited = { limited }.output().await.unwrap();
    assert!(String::from_utf8_lossy(&limited.stderr).contains("1 more routes are not shown"));
    assert!(
        refuses(&fabric, &["routes", "--view", "received"])
            .await
            .contains("--peer")
    );

    // By an address inside it.
    let explained = says(&fabric, &["explain", "10.1.0.7"]).await;
    for text in [
        "10.1.0.0/24\n",
        "best: the only usable path",
        "export: accepted",
        "65000 65002",
    ] {
        assert!(explained.contains(text), "{text}: {explained}");
    }
    let source = explained
        .lines()
        .rfind(|line| line.starts_with("127.0.77.2"))
        .unwrap();
    assert!(source.contains("no") && source.contains("sent it"), "{explained}");
    assert!(
        refuses(&fabric, &["explain", "198.51.100.0/24"])
            .await
            .contains("no peer has announced it")
    );
    assert!(
        refuses(&fabric, &["explain", "nonsense"])
            .await
            .contains("write it as 10.0.0.0/8")
    );

    let summary = says(&fabric, &["summary"]).await;
    assert!(
        summary.contains("2 of 2 established") && summary.contains("Prefixes:       2"),
        "{summary}"
    );
    let gone = bgpd(Path::new("/nowhere/bgpd.sock"), &["peers"])
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no BGP speaker is running"));
}

#[tokio::test]
async fn a_reset_touches_one_session() {
    let fabric = fabric().await;
    let before = [since(&fabric, 2).await, since(&fabric, 3).await];
    says(&fabric, &["reset", "127.0.77.2", "--soft", "both"]).await;
    says(&fabric, &["reset", "127.0.77.3", "--soft", "in"]).await;
    assert_eq!([since(&fabric, 2).await, since(&fabric, 3).await], before);
    says(&fabric, &["reset", "127.0.77.2"]).await;
    wait_for("a new session", async || {
        is_established(&fabric.hub, address(2)).await && since(&fabric, 2).await != before[0]
    })
    .await;
    wait_for("its routes", async || {
        best(&fabric.spokes[1]).await == ["10.1.0.0/24"]
    })
    .await;
    assert_eq!(since(&fabric, 3).await, before[1]);
    let error = refuses(&fabric, &["reset", "192.0.2.9"]).await;
    assert!(error.contains("is not configured"), "{error}");
}

#[tokio::test]
async fn drain_tells_peers_to_go_elsewhere_and_no_session_ends() {
    let fabric = fabric().await;
    let before = [since(&fabric, 2).await, since(&fabric, 3).await];
    let hub_key = key(address(1), listen_address(&fabric.hub).await.port());
    let is_drained = async || {
        let routes = fabric.spokes[1]
            .routes(RouteView::Received(hub_key))
            .await
            .unwrap();
        let [route] = routes.as_slice() else { return false };
        route.attributes.has_community(Community::GRACEFUL_SHUTDOWN)
    };
    let said = says(&fabric, &["drain", "--wait", "0"]).await;
    assert!(said.contains("2 peers"), "{said}");
    wait_for("the community", is_drained).await;
    assert!(says(&fabric, &["summary"]).await.contains("draining"));
    // It lasts through a change of the configuration.
    let mut config = fabric.hub.config().await.unwrap();
    config.networks.push(network("10.9.0.0/24"));
    fabric.hub.reconfigure(config).await.unwrap();
    wait_for("the other network", async || {
        best(&fabric.spokes[1]).await.len() == 2
    })
    .await;
    let routes = fabric.spokes[1]
        .routes(RouteView::Received(hub_key))
        .await
        .unwrap();
    let drained =
        |route: &&bgpd::speaker::RouteStatus| route.attributes.has_community(Community::GRACEFUL_SHUTDOWN);
    assert_eq!(routes.iter().filter(drained).count(), 2);
    says(&fabric, &["undrain"]).await;
    wait_for("routes as they were", async || {
        let routes = fabric.spokes[1]
            .routes(RouteView::Received(hub_key))
            .await
            .unwrap();
        routes.len() == 2 && routes.iter().filter(drained).count() == 0
    })
    .await;
    assert_eq!([since(&fabric, 2).await, since(&fabric, 3).await], before);
}

#[tokio::test]
async fn watchers_see_routes_and_sessions_change() {
    let fabric = fabric().await;
    let mut watch = bgpd(&fabric.socket, &["watch", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // What changes before the watch has begun is not shown: change until it is.
    let mut next = 0;
    let first = loop {
        fabric.spokes[0]
            .set_networks(vec![
                network("10.1.0.0/24"),
                network(&format!("10.3.{next}.0/24")),
            ])
            .await
            .unwrap();
        next += 1;
        assert!(next < 200, "nothing is shown");
        let pause = std::time::Duration::from_millis(100);
        if let Ok(line) = tokio::time::timeout(pause, lines.next_line()).await {
            break line.unwrap().unwrap();
        }
    };
    let event: Value = serde_json::from_str(&first).unwrap();
    assert!(
        event["route"]["prefix"].as_str().unwrap().starts_with("10.3."),
        "{event}"
    );
    fabric.hub.reset(key(address(3), 179)).await.unwrap();
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != "Established") {
        let line = tokio::time::timeout(crate::TIME_MAX, lines.next_line())
            .await
            .unwrap();
        let event: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        if event["peer"]["peer"] == "127.0.77.3" {
            states.push(event["peer"]["state"].as_str().unwrap().to_owned());
        }
    }
    assert!(states.len() > 1, "{states:?}");
    watch.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn penalties_are_forgotten_by_request() {
    let fabric = fabric().await;
    let forgotten = "The penalties of 0 routes were forgotten.\n";
    assert_eq!(says(&fabric, &["clear-dampening"]).await, forgotten);
    let of_one = ["clear-dampening", "10.1.0.0/24", "--peer", "127.0.77.2"];
    assert_eq!(says(&fabric, &of_one).await, forgotten);
    let error = refuses(&fabric, &["clear-dampening", "--peer", "127.0.77.9"]).await;
    assert!(error.contains("peer \"127.0.77.9\" is not configured"), "{error}");
    let error = refuses(&fabric, &["clear-dampening", "10.1"]).await;
    assert!(error.contains("write it as 10.0.0.0/8"), "{error}");
}
