//! What a restart keeps: identity, history, compaction, leases with the time they had left.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::pb::etcdserverpb::lease_client::LeaseClient;
use datastore::server::pb::etcdserverpb::*;
use datastore::server::{Durability, RunningServer, Server, ServerOptions};
use tonic::Code;
use tonic::transport::Channel;

use crate::support::{Process, all, channel, client, put, range, start, text};

async fn lease(server: &RunningServer) -> LeaseClient<Channel> {
    LeaseClient::new(channel(&server.urls()[0]).await)
}

async fn header(kv: &mut KvClient<Channel>) -> ResponseHeader {
    all(kv, 0).await.header.expect("a header")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_and_identity() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let server = start(&data).await.expect("a store");
    let mode = std::fs::metadata(&data).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the file is its owner's alone");
    let mut kv = client(&server).await;
    for value in ["1", "2", "3"] {
        kv.put(put("a", value)).await.expect("a put");
    }
    kv.put(put("b", "x")).await.expect("a put");
    kv.compact(CompactionRequest {
        revision: 3,
        physical: true,
    })
    .await
    .expect("a compaction");
    let before = header(&mut kv).await;
    let kept = [all(&mut kv, 3).await.kvs, all(&mut kv, 0).await.kvs];
    server.shutdown().await;

    let server = start(&data).await.expect("the same store");
    let mut kv = client(&server).await;
    let after = header(&mut kv).await;
    assert_eq!(
        (after.cluster_id, after.member_id),
        (before.cluster_id, before.member_id)
    );
    assert_eq!(after.revision, before.revision);
    assert!(after.raft_term > before.raft_term);
    assert_eq!([all(&mut kv, 3).await.kvs, all(&mut kv, 0).await.kvs], kept);
    let compacted = kv
        .range(RangeRequest {
            revision: 2,
            ..range("a")
        })
        .await
        .expect_err("compacted");
    assert_eq!(compacted.code(), Code::OutOfRange);
    // The next version goes on from the last.
    kv.put(put("a", "4")).await.expect("a put");
    let found = all(&mut kv, 0).await.kvs.remove(0);
    assert_eq!(
        (found.create_revision, found.version, found.mod_revision),
        (2, 4, before.revision + 1)
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_whose_records_are_gone_is_not_used_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let server = start(&data).await.expect("a store");
    let mut kv = client(&server).await;
    kv.put(put("a", "1")).await.expect("a put");
    let deleted = DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let revision = kv
        .delete_range(deleted)
        .await
        .expect("a deletion")
        .into_inner()
        .header
        .expect("a header")
        .revision;
    kv.compact(CompactionRequest {
        revision,
        physical: true,
    })
    .await
    .expect("a compaction");
    server.shutdown().await;
    let server = start(&data).await.expect("the same store");
    assert_eq!(server.revision(), revision);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_keep_the_time_they_had_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let server = start(&data).await.expect("a store");
    let mut kv = client(&server).await;
    let mut leases = lease(&server).await;
    for (id, ttl) in [(1, 100), (2, 3), (3, 50)] {
        leases
            .lease_grant(LeaseGrantRequest { id, ttl })
            .await
            .expect("a lease");
        kv.put(PutRequest {
            lease: id,
            ..put(&format!("k{id}"), "v")
        })
        .await
        .expect("a put");
    }
    kv.put(put("k3", "detached")).await.expect("a put");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.shutdown().await;

    let server = start(&data).await.expect("the same store");
    let mut kv = client(&server).await;
    let mut leases = lease(&server).await;
    let mut state = async |id| {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        leases
            .lease_time_to_live(request)
            .await
            .expect("an answer")
            .into_inner()
    };
    let long = state(1).await;
    assert_eq!((long.granted_ttl, long.keys.len()), (100, 1));
    assert!((95..=99).contains(&long.ttl), "{long:?}");
    assert_eq!(
        state(3).await.keys.len(),
        0,
        "a put without a lease detached the key"
    );
    // The short one ends when its rest is over, and takes its key.
    let mut gone = false;
    for _ in 0..50 {
        if all(&mut kv, 0).await.kvs.iter().all(|kv| kv.key != "k2") {
            gone = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gone, "the key of the ended lease is still there");
    assert_eq!(state(2).await.ttl, -1);
    assert_eq!(all(&mut kv, 0).await.kvs.len(), 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_lease_has_its_whole_time_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let server = start(&data).await.expect("a store");
    lease(&server)
        .await
        .lease_grant(LeaseGrantRequest { id: 7, ttl: 100 })
        .await
        .expect("a lease");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    server.shutdown().await;
    // The file now says 98 s; the renewal is answered only once the file says otherwise, so a crash right after
    // it does not shorten what was promised.
    let arguments = ["--listen", "127.0.0.1:0", "--data", text(&data), "--log", "warn"];
    let mut process = Process::start(&arguments);
    let mut leases = LeaseClient::new(channel(&process.url()).await);
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: 7 }]);
    let mut answers = leases
        .lease_keep_alive(requests)
        .await
        .expect("a stream")
        .into_inner();
    assert_eq!(
        answers
            .message()
            .await
            .expect("an answer")
            .expect("an answer")
            .ttl,
        100
    );
    process.crash();
    let process = Process::start(&arguments);
    let request = LeaseTimeToLiveRequest { id: 7, keys: false };
    let mut leases = LeaseClient::new(channel(&process.url()).await);
    let state = leases
        .lease_time_to_live(request)
        .await
        .expect("an answer")
        .into_inner();
    assert!(state.ttl >= 99, "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relaxed_writes_are_there_after_a_clean_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let mut options = ServerOptions::new(([127, 0, 0, 1], 0).into(), &data);
    options.durability = Durability::Relaxed;
    let server = Server::start(options).await.expect("a store");
    let mut kv = client(&server).await;
    for n in 0..500 {
        kv.put(put(&format!("k{n:03}"), "v")).await.expect("a put");
    }
    server.shutdown().await;
    let server = start(&data).await.expect("the same store");
    assert_eq!(all(&mut client(&server).await, 0).await.count, 500);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_compacted_by_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = ServerOptions::new(([127, 0, 0, 1], 0).into(), directory.path().join("store.redb"));
    options.keep_revisions = Some(20);
    options.durability = Durability::Relaxed;
    let server = Server::start(options).await.expect("a store");
    let mut kv = client(&server).await;
    kv.put(put("kept", "v")).await.expect("a put");
    for n in 0..100 {
        kv.put(put("k", &n.to_string())).await.expect("a put");
    }
    let newest = server.revision();
    let at = async |revision| {
        kv.clone()
            .range(RangeRequest {
                revision,
                ..range("kept")
            })
            .await
    };
    assert_eq!(
        at(newest - 20).await.expect("recent history").into_inner().count,
        1
    );
    assert_eq!(
        at(newest - 40).await.expect_err("compacted").code(),
        Code::OutOfRange
    );
    assert_eq!(all(&mut kv.clone(), 0).await.count, 2);
    server.shutdown().await;
}
