//! A client that does not read its watch costs no memory, and misses nothing when it reads again.

use std::time::Duration;

use datastore::server::limits::{RECENT_BYTES_MAX, RECENT_REVISIONS_MAX};
use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::pb::etcdserverpb::request_op::Request;
use datastore::server::pb::etcdserverpb::watch_client::WatchClient;
use datastore::server::pb::etcdserverpb::watch_request::RequestUnion;
use datastore::server::pb::etcdserverpb::*;
use tokio_stream::StreamExt;

use crate::support::{Process, channel, put, text};

const TRANSACTIONS: i64 = 300;
const PUTS: i64 = 20;
const VALUE_BYTES: usize = 16 * 1024;
/// The page cache, the kept revisions and the process itself; the events written are several times as much.
const RESIDENT_BYTES_MAX: u64 = 260 * 1024 * 1024;

fn resident_bytes(pid_of: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid_of.id())).expect("its status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("its size");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn falls_back_to_history() {
    let bytes_written = TRANSACTIONS as usize * PUTS as usize * VALUE_BYTES;
    assert!(bytes_written > 4 * RECENT_BYTES_MAX && (TRANSACTIONS as usize) < RECENT_REVISIONS_MAX);
    let directory = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory");
    let data = directory.path().join("store.redb");
    let process = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--data",
        text(&data),
        "--relaxed",
        "--log",
        "warn",
    ]);
    let channel = channel(&process.url()).await;
    let mut kv = KvClient::new(channel.clone());
    let create = WatchCreateRequest {
        key: "w".into(),
        range_end: "x".into(),
        ..Default::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut watch = client.watch(requests).await.expect("a stream").into_inner();
    assert!(
        watch
            .message()
            .await
            .expect("a response")
            .expect("a response")
            .created
    );

    // Nothing is read while this is written.
    let value = "v".repeat(VALUE_BYTES);
    for _ in 0..TRANSACTIONS {
        let success = (0..PUTS)
            .map(|n| RequestOp {
                request: Some(Request::RequestPut(put(&format!("w{n:02}"), &value))),
            })
            .collect();
        kv.txn(TxnRequest {
            success,
            ..Default::default()
        })
        .await
        .expect("a transaction");
    }
    let resident = resident_bytes(&process);
    assert!(
        resident < RESIDENT_BYTES_MAX,
        "{resident} bytes resident after {bytes_written} written"
    );

    let mut expected = 2;
    while expected < 2 + TRANSACTIONS {
        let message = tokio::time::timeout(Duration::from_secs(20), watch.message())
            .await
            .expect("a response in time");
        let response = message.expect("a response").expect("a response");
        for revision in response.events.chunks(PUTS as usize) {
            // Each revision whole, in order, once.
            let keys: Vec<_> = revision
                .iter()
                .map(|event| event.kv.clone().expect("a key"))
                .collect();
            assert!(
                keys.iter().all(|kv| kv.mod_revision == expected),
                "expected revision {expected}"
            );
            assert_eq!(keys.len(), PUTS as usize);
            expected += 1;
        }
        assert!(response.header.expect("a header").revision >= expected - 1);
    }
    // It keeps up again.
    kv.put(put("w-live", "v")).await.expect("a put");
    let live = watch.message().await.expect("a response").expect("a response");
    assert_eq!(live.events.len(), 1);
    assert_eq!(live.header.expect("a header").revision, 2 + TRANSACTIONS);
}
