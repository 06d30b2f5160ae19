//! `margay-store` as a command.

use std::time::{Duration, Instant};

use datastore::server::pb::etcdserverpb::cluster_client::ClusterClient;
use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::pb::etcdserverpb::watch_client::WatchClient;
use datastore::server::pb::etcdserverpb::watch_request::RequestUnion;
use datastore::server::pb::etcdserverpb::*;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::{Process, all, channel, command, put, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listens_on_several_addresses_and_stops_cleanly() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("store.redb");
        let arguments = [
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--data",
            text(&data),
            "--name",
            "lab",
        ];
        let mut process = Process::start(&arguments);
        assert!(process.addresses[0].starts_with("127.0.0.1:") && process.addresses[1].starts_with("[::1]:"));
        let mut first = KvClient::new(channel(&process.url()).await);
        let second = channel(&format!("http://{}", process.addresses[1])).await;
        first.put(put("k", "v")).await.expect("a put");
        assert_eq!(all(&mut KvClient::new(second.clone()), 0).await.count, 1);
        let members = ClusterClient::new(second.clone())
            .member_list(MemberListRequest::default())
            .await;
        let member = members.expect("members").into_inner().members.remove(0);
        assert_eq!(member.name, "lab");
        assert_eq!(
            member.client_ur_ls,
            process
                .addresses
                .iter()
                .map(|a| format!("http://{a}"))
                .collect::<Vec<_>>()
        );

        // An open watch does not hold it up.
        let create = WatchCreateRequest {
            key: "k".into(),
            ..Default::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut watch = WatchClient::new(second)
            .watch(requests)
            .await
            .expect("a stream")
            .into_inner();
        watch.message().await.expect("a response");
        let begun = Instant::now();
        process.signal(signal);
        assert_eq!(process.wait(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(
            watch.message().await.expect_err("the store is gone").code(),
            Code::Unavailable
        );
    }
}

#[test]
fn explains_itself() {
    let help = command(&["--help"]).output().expect("margay-store");
    let words = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success());
    for word in ["--listen", "--data", "--advertise-url", "--relaxed", "--log"] {
        assert!(words.contains(word), "{words}");
    }
    for (arguments, reason) in [
        (&["--listen", "nonsense"][..], "nonsense"),
        (
            &["--listen", "127.0.0.1:0", "--data", "/proc/nowhere/store"],
            "/proc/nowhere/store",
        ),
        (&["--log", "a=b=c"], "--log a=b=c"),
        (
            &["--listen", "203.0.113.1:1", "--data", "/proc/nowhere/store"],
            "cannot listen on 203.0.113.1:1",
        ),
    ] {
        let done = command(arguments).output().expect("margay-store");
        assert!(!done.status.success(), "{arguments:?}");
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(words.contains(reason), "{arguments:?}: {words}");
    }
}

/// On a full disk the store says so, refuses the write, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_it_with_a_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    // A small file system in a mount namespace of its own, which ends with the process.
    let script = format!(
        "mount -t tmpfs -o size=2m none {dir} && exec {store} --listen 127.0.0.1:0 --data {dir}/store.redb",
        dir = text(directory.path()),
        store = env!("CARGO_BIN_EXE_margay-store"),
    );
    let mut process = Process::start_by("unshare", &["--mount", "sh", "-c", &script], 1);
    let mut kv = KvClient::new(channel(&process.url()).await);
    let value = "x".repeat(100_000);
    let mut refusal = None;
    for n in 0..100 {
        if let Err(status) = kv.put(put(&format!("k{n}"), &value)).await {
            refusal = Some(status);
            break;
        }
    }
    let refusal = refusal.expect("the disk is full");
    assert_eq!(refusal.code(), Code::Unavailable);
    assert!(refusal.message().contains("No space left"), "{refusal:?}");
    assert_eq!(process.wait(), Some(1));
}
