//! How large a request may be.

use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;

group!(sizes: values, transactions_of_large_values, messages_too_large_to_read, large_answers);

const LIMIT: usize = 1536 * 1024;

fn value(bytes: usize) -> String {
    "x".repeat(bytes)
}

async fn values(case: &mut Case) {
    for bytes in [1, LIMIT - 100, LIMIT - 10, LIMIT, LIMIT + 1, LIMIT + 400_000] {
        case.put(put("k", &value(bytes))).await;
        case.range(RangeRequest {
            keys_only: true,
            ..range("k")
        })
        .await;
    }
    let long_key = value(LIMIT);
    case.delete(delete(&long_key)).await;
    case.range(range(&long_key)).await;
}

async fn transactions_of_large_values(case: &mut Case) {
    for bytes in [LIMIT / 4, LIMIT / 2 - 100, LIMIT / 2 + 10] {
        let puts = vec![op_put("a", &value(bytes)), op_put("b", &value(bytes))];
        case.txn(txn(vec![], puts.clone(), vec![])).await;
        case.txn(txn(vec![], vec![], puts)).await;
    }
    // One that only reads may be as large as a message.
    case.txn(txn(vec![], vec![op_range(&value(LIMIT + 100))], vec![]))
        .await;
    case.range(RangeRequest {
        keys_only: true,
        ..prefix("a")
    })
    .await;
}

async fn messages_too_large_to_read(case: &mut Case) {
    let over = 2 * 1024 * 1024 + 1;
    case.put(put("k", &value(over))).await;
    case.range(range(&value(over))).await;
    case.txn(txn(vec![], vec![op_put("k", &value(over))], vec![]))
        .await;
    // The connection goes on.
    case.get("k").await;
}

async fn large_answers(case: &mut Case) {
    for n in 0..6 {
        case.put(put(&format!("g{n}"), &value(1_000_000))).await;
    }
    case.range(prefix("g")).await;
    let deleted = DeleteRangeRequest {
        range_end: "h".into(),
        prev_kv: true,
        ..delete("g")
    };
    case.delete(deleted).await;
}
