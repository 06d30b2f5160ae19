//! The hash of history: equal hashes mean that both servers hold the same records, byte for byte.

use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;

group!(hashes: history);

impl Case {
    async fn hash(&mut self, revision: i64) {
        let answer = self.maintenance.hash_kv(HashKvRequest { revision }).await;
        let answer = answer.map(|answer| {
            answer.map(|hashed| HashKvResponse {
                hash_revision: 0,
                ..hashed
            })
        });
        self.answer(answer);
    }

    async fn hashes(&mut self) {
        for relative in 0..=10 {
            self.hash(self.base + relative).await;
        }
        self.hash(0).await;
    }
}

async fn history(case: &mut Case) {
    case.hash(0).await;
    case.grant(9, 100).await;
    case.set("a", "1").await;
    case.put(PutRequest {
        lease: 9,
        ..put("b", "2")
    })
    .await;
    case.txn(txn(
        vec![],
        vec![op_put("c", "3"), op_put("d", "4"), op_delete("a")],
        vec![],
    ))
    .await;
    case.set("a", "").await;
    case.delete(DeleteRangeRequest {
        range_end: "d".into(),
        ..delete("b")
    })
    .await;
    case.set("d", "5").await;
    case.hashes().await;
    case.compact(2, true).await;
    case.hashes().await;
    case.compact(4, true).await;
    case.hashes().await;
    case.set("a", "6").await;
    case.revoke(9).await;
    case.hashes().await;
}
