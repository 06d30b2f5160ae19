//! `etcdctl` against both servers: the same commands print the same.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::servers::{Embedded, Etcd};

const ETCDCTL: &str = "/usr/bin/etcdctl";
const COMMAND_WITHIN: Duration = Duration::from_secs(20);

fn etcdctl(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(ETCDCTL);
    command
        .env_clear()
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", url])
        .args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    let running = command.output();
    tokio::time::timeout(COMMAND_WITHIN, running)
        .await
        .expect("etcdctl ends")
        .expect("etcdctl is installed")
}

/// What a command prints, and whether it failed. Log lines have times; the error's words are compared.
async fn run(url: &str, arguments: &[&str]) -> String {
    let done = output(etcdctl(url, arguments)).await;
    let errors = String::from_utf8_lossy(&done.stderr);
    let error = errors
        .lines()
        .filter(|line| line.starts_with("Error:"))
        .collect::<Vec<_>>()
        .join("\n");
    format!(
        "{}{error}\nsuccess: {}",
        String::from_utf8_lossy(&done.stdout),
        done.status.success()
    )
}

/// Runs the transaction given on standard input.
async fn run_txn(url: &str, script: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let mut command = etcdctl(url, &["txn"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("etcdctl is installed");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(script.as_bytes()).await.expect("its input");
    drop(stdin);
    let done = tokio::time::timeout(COMMAND_WITHIN, child.wait_with_output())
        .await
        .expect("etcdctl ends");
    String::from_utf8_lossy(&done.expect("its output").stdout).into_owned()
}

/// The commands, in order; each must print the same on both.
const COMMANDS: &[&[&str]] = &[
    &["get", "k"],
    &["put", "k", "v1"],
    &["put", "k", "v2", "--prev-kv"],
    &["get", "k"],
    &["get", "k", "--print-value-only"],
    &["get", "k", "-w", "fields", "--rev", "2"],
    &["put", "--ignore-value", "k"],
    &["put", "--ignore-value", "missing"],
    &["put", "dir/a", "1"],
    &["put", "dir/b", "2"],
    &["put", "dir/c", "3"],
    &["put", "dis", "4"],
    &["get", "--prefix", "dir/"],
    &["get", "--prefix", "--keys-only", ""],
    &["get", "--prefix", "--count-only", "dir/", "-w", "fields"],
    &["get", "--prefix", "--limit", "2", "dir/"],
    &[
        "get",
        "--prefix",
        "--order",
        "DESCEND",
        "--sort-by",
        "KEY",
        "dir/",
    ],
    &[
        "get",
        "--prefix",
        "--order",
        "ASCEND",
        "--sort-by",
        "VALUE",
        "--keys-only",
        "",
    ],
    &[
        "get",
        "--prefix",
        "--order",
        "DESCEND",
        "--sort-by",
        "MODIFY",
        "--keys-only",
        "",
    ],
    &["get", "--from-key", "dir/b"],
    &["get", "dir/a", "dir/c"],
    &["get", "k", "--rev", "2"],
    &["get", "k", "--rev", "1000"],
    &["get", ""],
    &["put", "", "v"],
    &["del", "dir/a", "--prev-kv"],
    &["del", "dir/a"],
    &["del", "--prefix", "dir/"],
    &["get", "--prefix", "--keys-only", ""],
    &["compaction", "4"],
    &["compaction", "4"],
    &["compaction", "5", "--physical"],
    &["compaction", "1000"],
    &["get", "k", "--rev", "3"],
    &["endpoint", "health", "-w", "fields"],
    &["lease", "revoke", "7b"],
    &["lease", "timetolive", "7b"],
    &["lease", "keep-alive", "7b", "--once"],
    &["alarm", "list"],
    &["defrag"],
    &["user", "list"],
    &["role", "list"],
    &["--user", "root:secret", "get", "k"],
    &["del", "--from-key", ""],
];

/// A header's ids and term, addresses and times are a server's own; everything else must be equal.
fn comparable(printed: &str, url: &str) -> String {
    let address = url.trim_start_matches("http://");
    printed
        .lines()
        .filter(|line| {
            !["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\"", "\"Took\""]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .map(|line| line.replace(url, "URL").replace(address, "ADDRESS"))
        .map(|line| line.split(" took = ").next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prints_the_same() {
    let (etcd, store) = tokio::join!(Etcd::start(), Embedded::start());
    let mut differences = Vec::new();
    for arguments in COMMANDS {
        let (expected, found) = tokio::join!(run(&etcd.url, arguments), run(&store.url, arguments));
        let (expected, found) = (comparable(&expected, &etcd.url), comparable(&found, &store.url));
        if expected != found {
            differences.push(format!(
                "etcdctl {}\netcd:\n{expected}\nstore:\n{found}",
                arguments.join(" ")
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    store.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_print_the_same() {
    let (etcd, store) = tokio::join!(Etcd::start(), Embedded::start());
    let create = "version(\"t\") = \"0\"\n\nput t first\nput u 1\n\nget t\n\n";
    let update = "mod(\"t\") = \"2\"\nvalue(\"u\") > \"0\"\n\ndel u\nget t\n\nget u\n\n";
    for script in [create, create, update, update] {
        let (expected, found) = tokio::join!(run_txn(&etcd.url, script), run_txn(&store.url, script));
        assert!(
            expected.contains("SUCCESS") || expected.contains("FAILURE"),
            "etcdctl txn printed {expected:?}"
        );
        assert_eq!(expected, found, "of the script\n{script}");
    }
    store.server.shutdown().await;
}

/// Watches, makes changes, and gives the lines that the watch printed.
async fn watched(url: &str, watch: &[&str], lines: usize, changes: &[&[&str]]) -> Vec<String> {
    let mut command = etcdctl(url, watch);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("etcdctl is installed");
    let mut printed = BufReader::new(child.stdout.take().expect("its output")).lines();
    // The watch says nothing when it is created.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for change in changes {
        run(url, change).await;
    }
    let mut seen = Vec::new();
    while seen.len() < lines {
        match tokio::time::timeout(Duration::from_secs(5), printed.next_line()).await {
            Ok(Ok(Some(line))) => seen.push(line),
            _ => break,
        }
    }
    child.kill().await.expect("etcdctl ends");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_print_the_same() {
    let (etcd, store) = tokio::join!(Etcd::start(), Embedded::start());
    let changes: &[&[&str]] = &[
        &["put", "w/a", "1"],
        &["put", "other", "x"],
        &["put", "w/a", "2"],
        &["del", "w/a"],
    ];
    let live: &[&str] = &["watch", "--prefix", "--prev-kv", "w/"];
    let past: &[&str] = &["watch", "--prefix", "--rev", "2", ""];
    for (arguments, lines, changes) in [(live, 13, changes), (past, 11, &[][..])] {
        let (expected, found) = tokio::join!(
            watched(&etcd.url, arguments, lines, changes),
            watched(&store.url, arguments, lines, changes)
        );
        assert_eq!(expected.len(), lines, "etcd's watch printed {expected:?}");
        assert_eq!(expected, found);
    }
    store.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_print_the_same() {
    let (etcd, store) = tokio::join!(Etcd::start(), Embedded::start());
    let mut transcripts = Vec::new();
    for url in [&etcd.url, &store.url] {
        let mut transcript = Vec::new();
        let granted = run(url, &["lease", "grant", "100"]).await;
        let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
        let put = format!("--lease={id}");
        for arguments in [
            &["put", &put, "leased", "v"][..],
            &["lease", "list"],
            &["lease", "timetolive", "--keys", &id],
            &["lease", "keep-alive", "--once", &id],
            &["get", "leased"],
            &["lease", "revoke", &id],
            &["get", "leased"],
            &["lease", "list"],
        ] {
            transcript.push(
                run(url, arguments)
                    .await
                    .replace(&id, "ID")
                    .replace("remaining(100s)", "remaining(99s)"),
            );
        }
        transcript.insert(0, granted.replace(&id, "ID"));
        transcripts.push(transcript);
    }
    assert!(
        transcripts[0][0].starts_with("lease ID granted with TTL(100s)"),
        "{}",
        transcripts[0][0]
    );
    assert_eq!(transcripts[0], transcripts[1]);
    store.server.shutdown().await;
}

/// The same fields in the same order, with values of the same kind.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Number(number) => Value::from(if number.as_u64() == Some(0) {
            "zero"
        } else {
            "number"
        }),
        Value::String(_) => Value::from("text"),
        other => other.clone(),
    }
}

async fn json(url: &str, arguments: &[&str]) -> Value {
    let printed = output(etcdctl(url, arguments)).await.stdout;
    serde_json::from_slice(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_status_have_the_same_shape() {
    let (etcd, store) = tokio::join!(Etcd::start(), Embedded::start());
    run(&etcd.url, &["put", "k", "v"]).await;
    run(&store.url, &["put", "k", "v"]).await;
    for arguments in [
        // With the scheme in the endpoint, which 3.4 then sends as the authority, and without.
        &["endpoint", "status", "-w", "json"][..],
        &["endpoint", "hashkv", "-w", "json"],
        &["get", "k", "-w", "json"],
    ] {
        let expected = shape(&json(&etcd.url, arguments).await);
        assert_eq!(
            expected,
            shape(&json(&store.url, arguments).await),
            "{arguments:?}"
        );
        let address = store.url.trim_start_matches("http://");
        assert_eq!(
            expected,
            shape(&json(address, arguments).await),
            "{arguments:?} of {address}"
        );
    }
    let hash = |value: &Value| value.pointer("/0/HashKV/hash").cloned();
    let hashes = [&etcd.url, &store.url].map(|url| json(url, &["endpoint", "hashkv", "-w", "json"]));
    let [expected, found] = hashes;
    let (expected, found) = (expected.await, found.await);
    assert!(hash(&expected).is_some());
    assert_eq!(
        hash(&expected),
        hash(&found),
        "one put gives the same history on both"
    );

    // A member of a cluster of one has no peers to name; the rest is as etcd's.
    let [expected, found] = [&etcd.url, &store.url].map(|url| json(url, &["member", "list", "-w", "json"]));
    let (mut expected, found) = (expected.await, found.await);
    let member = expected
        .pointer_mut("/members/0")
        .and_then(Value::as_object_mut)
        .expect("a member");
    member.remove("peerURLs").expect("etcd's peer address");
    assert_eq!(shape(&expected), shape(&found));
    assert_eq!(
        found.pointer("/members/0/clientURLs/0").and_then(Value::as_str),
        Some(store.url.as_str())
    );
    let listed = run(&store.url, &["member", "list"]).await;
    assert!(
        listed.contains(", started, margay-store, , http://127.0.0.1:"),
        "{listed}"
    );
    let healthy = run(&store.url, &["endpoint", "health", "--cluster"]).await;
    assert!(healthy.contains("success: true"), "{healthy}");
    store.server.shutdown().await;
}
