//! Leases.

use std::time::Duration;

use datastore::server::pb::etcdserverpb::*;
use tokio_stream::wrappers::ReceiverStream;

use crate::case::*;
use crate::group;
use crate::watching::watch;

group!(leases: grants, chosen_ids, revoking, attaching, detaching, lists, keep_alive, unknown, ends_on_time, kept_alive_does_not_end);

impl Case {
    async fn time_to_live(&mut self, id: i64) {
        let answer = self
            .lease
            .lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true })
            .await;
        self.answer(answer);
    }

    async fn keep(&mut self, ids: &[i64]) {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let ask = async |id| {
            sender
                .send(LeaseKeepAliveRequest { id })
                .await
                .expect("an open stream")
        };
        // etcd opens the stream with its first answer.
        let (opened, ()) = tokio::join!(
            self.lease.lease_keep_alive(ReceiverStream::new(receiver)),
            ask(ids[0])
        );
        let mut answers = opened.expect("a stream").into_inner();
        for (place, id) in ids.iter().enumerate() {
            if place > 0 {
                ask(*id).await;
            }
            let answer = tokio::time::timeout(Duration::from_secs(5), answers.message())
                .await
                .expect("an answer");
            match answer {
                Ok(Some(answer)) => {
                    self.answer(Ok(tonic::Response::new(answer)));
                }
                Ok(None) => self.note("the stream ended"),
                Err(status) => self.refusal(&status),
            }
        }
        drop(sender);
        let end = tokio::time::timeout(Duration::from_secs(5), answers.message())
            .await
            .expect("the end");
        self.note(end.map(|answer| answer.is_some()).map_err(|status| status.code()));
    }
}

async fn grants(case: &mut Case) {
    for (id, ttl) in [
        (1, 100),
        (1, 100),
        (2, 1),
        (3, 2),
        (4, 3),
        (5, 0),
        (6, -5),
        (7, 9_000_000_000),
        (8, 9_000_000_001),
        (9, i64::MAX),
        (-1, 60),
    ] {
        case.grant(id, ttl).await;
    }
    for id in [1, 4, 7, -1] {
        case.time_to_live(id).await;
        case.revoke(id).await;
    }
    for id in [2, 3, 5, 6] {
        let _ = case.lease.lease_revoke(LeaseRevokeRequest { id }).await;
    }
    case.get("k").await;
}

async fn chosen_ids(case: &mut Case) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = case
            .lease
            .lease_grant(LeaseGrantRequest { id: 0, ttl: 60 })
            .await
            .expect("a lease")
            .into_inner();
        case.note((answer.id > 0, answer.ttl, answer.error));
        ids.push(answer.id);
    }
    ids.sort_unstable();
    ids.dedup();
    case.note(ids.len());
    for id in ids {
        case.revoke(id).await;
    }
}

async fn revoking(case: &mut Case) {
    case.revoke(1001).await;
    case.grant(1001, 100).await;
    case.revoke(1001).await;
    case.revoke(1001).await;
    case.grant(1002, 100).await;
    for key in ["r3", "r1", "r2"] {
        case.put(PutRequest {
            lease: 1002,
            ..put(key, "v")
        })
        .await;
    }
    let mut watching = case.watching();
    watching
        .create(WatchCreateRequest {
            range_end: vec![0].into(),
            prev_kv: true,
            ..watch("\0")
        })
        .await;
    watching.next(case).await;
    // All keys go in one revision.
    case.revoke(1002).await;
    watching.next(case).await;
    watching.silence(case).await;
    case.all().await;
}

async fn attaching(case: &mut Case) {
    case.put(PutRequest {
        lease: 1101,
        ..put("k", "v")
    })
    .await;
    case.grant(1101, 100).await;
    case.grant(1102, 100).await;
    case.put(PutRequest {
        lease: 1101,
        ..put("k", "v")
    })
    .await;
    case.put(PutRequest {
        lease: 1101,
        ..put("l", "v")
    })
    .await;
    case.get("k").await;
    case.time_to_live(1101).await;
    // To the other lease, then a value that keeps it.
    case.put(PutRequest {
        lease: 1102,
        prev_kv: true,
        ..put("k", "w")
    })
    .await;
    case.put(PutRequest {
        ignore_lease: true,
        ..put("k", "x")
    })
    .await;
    case.put(PutRequest {
        ignore_value: true,
        lease: 1102,
        ..put("l", "")
    })
    .await;
    case.time_to_live(1101).await;
    case.time_to_live(1102).await;
    case.revoke(1101).await;
    case.all().await;
    case.revoke(1102).await;
    case.all().await;
}

async fn detaching(case: &mut Case) {
    case.grant(1201, 100).await;
    for key in ["d1", "d2", "d3"] {
        case.put(PutRequest {
            lease: 1201,
            ..put(key, "v")
        })
        .await;
    }
    case.set("d1", "no lease").await;
    case.put(PutRequest {
        ignore_value: true,
        ..put("d2", "")
    })
    .await;
    case.time_to_live(1201).await;
    case.delete(delete("d3")).await;
    case.time_to_live(1201).await;
    case.set("d3", "back").await;
    case.revoke(1201).await;
    case.all().await;
}

async fn lists(case: &mut Case) {
    for id in [1303, 1301, 1302] {
        case.grant(id, 100).await;
    }
    let answer = case.lease.lease_leases(LeaseLeasesRequest {}).await;
    case.answer(answer);
    for id in [1303, 1301, 1302] {
        case.revoke(id).await;
    }
    let answer = case.lease.lease_leases(LeaseLeasesRequest {}).await;
    case.answer(answer);
}

async fn keep_alive(case: &mut Case) {
    case.grant(1401, 50).await;
    case.grant(1402, 1).await;
    case.keep(&[1401, 1402, 1499, 1401, 0]).await;
    case.revoke(1401).await;
    case.keep(&[1401]).await;
    case.revoke(1402).await;
}

async fn unknown(case: &mut Case) {
    for id in [0, 5, -7] {
        case.time_to_live(id).await;
        case.revoke(id).await;
    }
    let answer = case
        .lease
        .lease_time_to_live(LeaseTimeToLiveRequest { id: 5, keys: false })
        .await;
    case.answer(answer);
}

async fn ends_on_time(case: &mut Case) {
    case.grant(1501, 2).await;
    case.put(PutRequest {
        lease: 1501,
        ..put("e1", "v")
    })
    .await;
    case.put(PutRequest {
        lease: 1501,
        ..put("e2", "v")
    })
    .await;
    let mut watching = case.watching();
    watching
        .create(WatchCreateRequest {
            range_end: vec![0].into(),
            ..watch("\0")
        })
        .await;
    watching.next(case).await;
    watching.next(case).await;
    case.all().await;
    case.time_to_live(1501).await;
    case.keep(&[1501]).await;
}

async fn kept_alive_does_not_end(case: &mut Case) {
    case.grant(1601, 2).await;
    case.put(PutRequest {
        lease: 1601,
        ..put("k", "v")
    })
    .await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        case.keep(&[1601]).await;
    }
    case.get("k").await;
    case.revoke(1601).await;
    case.get("k").await;
}
