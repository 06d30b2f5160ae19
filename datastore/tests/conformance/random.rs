//! Random operations, generated from a seed that a failure names: the same sequence on both servers must give
//! the same answers and, at the end, the same history.

use datastore::server::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use datastore::server::pb::etcdserverpb::request_op::Request;
use datastore::server::pb::etcdserverpb::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::case::*;
use crate::group;

const OPERATIONS: usize = 250;
const KEYS: [&str; 6] = ["a", "b", "ba", "c", "c/1", "c/2"];

group!(random: first_seed, second_seed, third_seed, fourth_seed);

async fn first_seed(case: &mut Case) {
    sequence(case, 1).await;
}

async fn second_seed(case: &mut Case) {
    sequence(case, 2).await;
}

async fn third_seed(case: &mut Case) {
    sequence(case, 3).await;
}

async fn fourth_seed(case: &mut Case) {
    sequence(case, 4).await;
}

fn any_key(random: &mut StdRng) -> &'static str {
    KEYS[random.random_range(0..KEYS.len())]
}

fn any_end(random: &mut StdRng) -> &'static str {
    ["", "", "", "\0", "b", "c", "d"][random.random_range(0..7)]
}

fn any_range(random: &mut StdRng, base: i64) -> RangeRequest {
    RangeRequest {
        range_end: any_end(random).into(),
        revision: if random.random_bool(0.3) {
            base + random.random_range(-2..60)
        } else {
            0
        },
        limit: random.random_range(0..4),
        sort_order: random.random_range(0..3),
        sort_target: random.random_range(0..5),
        keys_only: random.random_bool(0.2),
        count_only: random.random_bool(0.1),
        min_mod_revision: if random.random_bool(0.1) {
            base + random.random_range(1..30)
        } else {
            0
        },
        max_create_revision: if random.random_bool(0.1) {
            base + random.random_range(1..30)
        } else {
            0
        },
        ..range(any_key(random))
    }
}

fn any_put(random: &mut StdRng) -> PutRequest {
    let ignore_value = random.random_bool(0.1);
    let value = if ignore_value {
        String::new()
    } else {
        random.random_range(0..100).to_string()
    };
    PutRequest {
        prev_kv: random.random_bool(0.3),
        ignore_value,
        lease: if random.random_bool(0.2) {
            random.random_range(8000..8003)
        } else {
            0
        },
        ..put(any_key(random), &value)
    }
}

fn any_delete(random: &mut StdRng) -> DeleteRangeRequest {
    let range_end = if random.random_bool(0.8) {
        ""
    } else {
        any_end(random)
    };
    DeleteRangeRequest {
        range_end: range_end.into(),
        prev_kv: random.random_bool(0.3),
        ..delete(any_key(random))
    }
}

fn any_compare(random: &mut StdRng, base: i64) -> Compare {
    let number = random.random_range(0..4);
    let revision = base + random.random_range(0..40);
    let (target, union) = match random.random_range(0..5) {
        0 => (CompareTarget::Version, TargetUnion::Version(number)),
        1 => (CompareTarget::Create, TargetUnion::CreateRevision(revision)),
        2 => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
        3 => (
            CompareTarget::Lease,
            TargetUnion::Lease(random.random_range(7999..8003)),
        ),
        _ => (
            CompareTarget::Value,
            TargetUnion::Value(random.random_range(0..100).to_string().into()),
        ),
    };
    Compare {
        result: random.random_range(0..4),
        target: target.into(),
        key: any_key(random).into(),
        range_end: any_end(random).into(),
        target_union: Some(union),
    }
}

fn any_txn(random: &mut StdRng, base: i64, depth: usize) -> TxnRequest {
    let mut ops = |most: usize| -> Vec<RequestOp> {
        (0..random.random_range(0..=most))
            .map(|_| {
                op(match random.random_range(0..10) {
                    0..=2 => Request::RequestRange(any_range(random, base)),
                    3..=6 => Request::RequestPut(any_put(random)),
                    7..=8 => Request::RequestDeleteRange(any_delete(random)),
                    _ if depth > 0 => Request::RequestTxn(any_txn(random, base, depth - 1)),
                    _ => Request::RequestRange(range("a")),
                })
            })
            .collect()
    };
    let (success, failure) = (ops(4), ops(3));
    let compare = (0..random.random_range(0..3))
        .map(|_| any_compare(random, base))
        .collect();
    TxnRequest {
        compare,
        success,
        failure,
    }
}

async fn sequence(case: &mut Case, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let base = case.base;
    case.note(("seed", seed));
    let mut compacted = 0;
    for _ in 0..OPERATIONS {
        match random.random_range(0..100) {
            0..=24 => drop(case.range(any_range(&mut random, base)).await),
            25..=54 => drop(case.put(any_put(&mut random)).await),
            55..=64 => drop(case.delete(any_delete(&mut random)).await),
            65..=91 => drop(case.txn(any_txn(&mut random, base, 2)).await),
            92..=94 => drop(case.grant(random.random_range(8000..8003), 1000).await),
            95..=96 => case.revoke(random.random_range(8000..8003)).await,
            _ => {
                compacted += random.random_range(0..10);
                case.compact(compacted, true).await;
            }
        }
    }
    for id in 8000..8003 {
        case.revoke(id).await;
    }
    case.all().await;
    let hashed = case
        .maintenance
        .hash_kv(HashKvRequest { revision: 0 })
        .await
        .expect("a hash")
        .into_inner();
    case.note(("hash", hashed.hash));
}
