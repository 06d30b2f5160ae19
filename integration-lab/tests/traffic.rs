//! The lab's own traffic tools tell silence from refusal, the right server from a wrong one, and see every
//! packet that is lost.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{TestLab, topology};

fn background(lab: &TestLab, node: &str, arguments: &[&str]) -> std::process::Child {
    let mut command = lab.command();
    command.args([
        "exec", "--lab", &lab.name, node, "--", "timeout", "30", "lab", "traffic",
    ]);
    command.args(arguments).stdout(Stdio::piped()).spawn().unwrap()
}

fn json(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn probes_and_streams_tell_what_happened() {
    let lab = TestLab::new("traffic");
    lab.up(&topology("pair.clab.yml"));
    let node = ["exec", "--lab", &lab.name];
    let mut server = background(&lab, "b", &["serve", "--name", "b", "--ports", "80"]);
    let mut wrong = background(&lab, "b", &["serve", "--name", "somebody", "--ports", "81"]);
    common::eventually(10, || {
        let sockets = lab.exec("b", &["ss", "-ltnH"]);
        (sockets.lines().count() < 2).then_some(sockets)
    });

    let probe = |targets: &str| {
        let mut child = lab
            .command()
            .args(node)
            .args(["a", "--", "lab", "traffic", "probe"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(targets.as_bytes()).unwrap();
        json(&child.wait_with_output().unwrap().stdout)
    };
    let targets = r#"[{"address":"10.0.0.1","probe":"tcp80","name":"b"},
        {"address":"10.0.0.1","probe":"tcp81","name":"b"},
        {"address":"10.0.0.1","probe":"icmp","name":"b"},
        {"address":"10.9.9.9","probe":"tcp80","name":"b"}]"#;
    let seen = probe(targets);
    assert_eq!(seen[0]["seen"], "allow");
    assert_eq!(seen[1]["detail"], "answered as \"somebody\"");
    assert_eq!(seen[2]["seen"], "allow");
    assert!(
        seen[3]["detail"].as_str().unwrap().contains("unreachable"),
        "{seen}"
    );

    // A stream across the link arrives whole; with a dropping rule for a while, the loss is counted.
    let stream = || {
        let receiver = background(
            &lab,
            "b",
            &["udp-receive", "--listen", "10.0.0.1:7000", "--seconds", "15"],
        );
        std::thread::sleep(std::time::Duration::from_millis(300));
        let sender = background(
            &lab,
            "a",
            &[
                "udp-send",
                "--to",
                "10.0.0.1:7000",
                "--rate",
                "5000",
                "--seconds",
                "2",
            ],
        );
        (sender, receiver)
    };
    let (sender, receiver) = stream();
    let (sent, received) = (
        json(&sender.wait_with_output().unwrap().stdout),
        json(&receiver.wait_with_output().unwrap().stdout),
    );
    assert_eq!(
        (&sent["packets"], &received["packets"]),
        (&10_000.into(), &10_000.into())
    );
    assert_eq!(
        (&received["complete"], &received["reordered_by_max"]),
        (&true.into(), &0.into())
    );

    let tcp_receiver = background(&lab, "b", &["tcp-receive", "--port", "7001", "--seconds", "15"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let tcp_sender = background(
        &lab,
        "a",
        &["tcp-send", "--to", "10.0.0.1", "--port", "7001", "--seconds", "2"],
    );
    let (sender, receiver) = stream();
    std::thread::sleep(std::time::Duration::from_millis(700));
    lab.exec(
        "b",
        &[
            "nft",
            "add table ip silent; add chain ip silent in { type filter hook input priority 0; policy drop; }",
        ],
    );
    let denied = probe(targets);
    lab.exec("b", &["nft", "delete table ip silent"]);
    let (sent, received) = (
        json(&sender.wait_with_output().unwrap().stdout),
        json(&receiver.wait_with_output().unwrap().stdout),
    );
    assert!(
        received["packets"].as_u64() < sent["packets"].as_u64(),
        "{received}"
    );
    let _ = tcp_receiver.wait_with_output().unwrap();
    let tcp_sent = json(&tcp_sender.wait_with_output().unwrap().stdout);
    assert!(
        tcp_sent["total_retransmissions"].as_u64().unwrap() > 0,
        "{tcp_sent}"
    );
    assert_eq!(
        (&denied[0]["seen"], &denied[2]["seen"]),
        (&"deny".into(), &"deny".into()),
        "{denied}"
    );

    // A port that closes and opens is timed.
    let flips = background(
        &lab,
        "a",
        &["flips", "--to", "10.0.0.1", "--port", "80", "--seconds", "4"],
    );
    std::thread::sleep(std::time::Duration::from_millis(1000));
    lab.exec(
        "b",
        &[
            "nft",
            "add table ip silent; add chain ip silent in { type filter hook input priority 0; policy drop; }",
        ],
    );
    std::thread::sleep(std::time::Duration::from_millis(1000));
    lab.exec("b", &["nft", "delete table ip silent"]);
    let flips = json(&flips.wait_with_output().unwrap().stdout);
    let open: Vec<bool> = flips
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["open"].as_bool().unwrap())
        .collect();
    assert_eq!(open, [true, false, true]);
    let closed = flips[2]["at_unix_ms"].as_u64().unwrap() - flips[1]["at_unix_ms"].as_u64().unwrap();
    assert!((900..3000).contains(&closed), "closed for {closed} ms");

    lab.ok(&["down", "--lab", &lab.name]);
    assert!(!server.wait().unwrap().success() && !wrong.wait().unwrap().success());
}
