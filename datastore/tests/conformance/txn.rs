//! Transactions.

use datastore::server::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use datastore::server::pb::etcdserverpb::request_op::Request;
use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;
use crate::watching::watch;

group!(transactions: create_and_update, compares, compares_of_missing_keys, compares_of_ranges, odd_compares, leases_compared,
    several_compares, own_changes, one_revision, deletes_nothing, duplicates, duplicates_with_deletes,
    duplicates_in_nested, put_then_nested_delete, nested, nested_compares_see_the_start, operation_limit, nested_operation_limit,
    empty, empty_keys, ranges_at_revisions, refused_whole, read_only);

fn compare(key: &str, result: CompareResult, union: TargetUnion) -> Compare {
    let target = match union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Default::default()
    }
}

fn is_new(key: &str) -> Compare {
    compare(key, CompareResult::Equal, TargetUnion::Version(0))
}

async fn create_and_update(case: &mut Case) {
    let create = txn(vec![is_new("k")], vec![op_put("k", "1")], vec![op_range("k")]);
    case.txn(create.clone()).await;
    case.txn(create).await;
    for revision in [case.base + 1, case.base + 1, case.base + 2] {
        let unchanged = compare("k", CompareResult::Equal, TargetUnion::ModRevision(revision));
        case.txn(txn(vec![unchanged], vec![op_put("k", "2")], vec![op_range("k")]))
            .await;
    }
    let revision = case.base + 3;
    let unchanged = compare("k", CompareResult::Equal, TargetUnion::ModRevision(revision));
    let delete_it = op(Request::RequestDeleteRange(DeleteRangeRequest {
        prev_kv: true,
        ..delete("k")
    }));
    let remove = txn(vec![unchanged], vec![delete_it], vec![op_range("k")]);
    case.txn(remove.clone()).await;
    case.txn(remove).await;
}

const RESULTS: [CompareResult; 4] = [
    CompareResult::Equal,
    CompareResult::NotEqual,
    CompareResult::Greater,
    CompareResult::Less,
];

fn unions(base: i64) -> Vec<TargetUnion> {
    let mut unions = Vec::new();
    for number in [-1, 0, 1, 2, 3] {
        unions.push(TargetUnion::Version(number));
        unions.push(TargetUnion::Lease(number));
        unions.push(TargetUnion::CreateRevision(base + number));
        unions.push(TargetUnion::ModRevision(base + number));
        unions.push(TargetUnion::CreateRevision(number));
        unions.push(TargetUnion::ModRevision(number));
    }
    for value in ["", "a", "m", "mm", "z"] {
        unions.push(TargetUnion::Value(value.into()));
    }
    unions
}

/// Every result of every target, as one line.
async fn verdicts(case: &mut Case, key: &str, range_end: &str) {
    let mut verdicts = Vec::new();
    for union in unions(case.base) {
        for result in RESULTS {
            let compare = Compare {
                range_end: range_end.to_owned().into(),
                ..compare(key, result, union.clone())
            };
            let answer = case
                .kv
                .txn(txn(vec![compare], vec![], vec![]))
                .await
                .expect("an answer");
            verdicts.push(if answer.into_inner().succeeded { '1' } else { '0' });
        }
    }
    case.note(verdicts.into_iter().collect::<String>());
}

async fn compares(case: &mut Case) {
    case.set("k", "first").await;
    case.set("k", "m").await;
    verdicts(case, "k", "").await;
}

async fn compares_of_missing_keys(case: &mut Case) {
    verdicts(case, "k", "").await;
    verdicts(case, "k", "l").await;
    case.set("k", "m").await;
    case.delete(delete("k")).await;
    verdicts(case, "k", "").await;
}

async fn compares_of_ranges(case: &mut Case) {
    for (key, value) in [("r1", "m"), ("r2", "m"), ("r3", "z")] {
        case.set(key, value).await;
    }
    verdicts(case, "r", "s").await;
    verdicts(case, "r1", "r3").await;
    verdicts(case, "r3", "\0").await;
    verdicts(case, "\0", "\0").await;
    verdicts(case, "s", "r").await;
}

async fn odd_compares(case: &mut Case) {
    case.set("k", "v").await;
    for target in 0..7 {
        for result in 0..6 {
            for union in [
                None,
                Some(TargetUnion::Version(1)),
                Some(TargetUnion::Value("v".into())),
            ] {
                let odd = Compare {
                    result,
                    target,
                    key: "k".into(),
                    target_union: union,
                    ..Default::default()
                };
                case.txn(txn(vec![odd], vec![], vec![])).await;
            }
        }
    }
}

async fn leases_compared(case: &mut Case) {
    case.grant(9101, 100).await;
    case.put(PutRequest {
        lease: 9101,
        ..put("k", "v")
    })
    .await;
    for id in [0, 9100, 9101] {
        for result in RESULTS {
            let compare = compare("k", result, TargetUnion::Lease(id));
            case.txn(txn(vec![compare], vec![op_range("k")], vec![])).await;
        }
    }
    case.revoke(9101).await;
}

async fn several_compares(case: &mut Case) {
    case.set("a", "1").await;
    let (yes, no) = (is_new("b"), is_new("a"));
    for compares in [
        vec![],
        vec![yes.clone(), yes.clone()],
        vec![yes.clone(), no.clone()],
        vec![no, yes],
    ] {
        case.txn(txn(
            compares,
            vec![op_put("s", "then")],
            vec![op_put("f", "else")],
        ))
        .await;
    }
    case.all().await;
}

async fn own_changes(case: &mut Case) {
    case.set("k", "before").await;
    let with_prev = op(Request::RequestPut(PutRequest {
        prev_kv: true,
        ..put("k", "after")
    }));
    let all = op(Request::RequestRange(RangeRequest {
        range_end: vec![0].into(),
        ..range("\0")
    }));
    let ops = vec![
        op_range("k"),
        with_prev,
        op_range("k"),
        op_put("l", "new"),
        all.clone(),
        op_delete("m"),
        all,
    ];
    case.txn(txn(vec![], ops, vec![])).await;
    // A deletion is seen as well, and history is not changed by it.
    let at_start = RangeRequest {
        revision: case.base + 1,
        ..range("k")
    };
    let ops = vec![
        op_delete("k"),
        op_range("k"),
        op(Request::RequestRange(at_start)),
        op_range("l"),
    ];
    case.txn(txn(vec![], ops, vec![])).await;
    case.all().await;
}

async fn one_revision(case: &mut Case) {
    let mut watching = case.watching();
    watching
        .create(WatchCreateRequest {
            range_end: vec![0].into(),
            prev_kv: true,
            ..watch("\0")
        })
        .await;
    watching.next(case).await;
    case.set("z", "0").await;
    watching.next(case).await;
    let ops = vec![
        op_put("c", "1"),
        op_delete("z"),
        op_put("a", "2"),
        op_put("b", "3"),
        op_delete("none"),
    ];
    case.txn(txn(vec![], ops, vec![])).await;
    watching.next(case).await;
    watching.silence(case).await;
    case.all().await;
}

async fn deletes_nothing(case: &mut Case) {
    case.txn(txn(vec![], vec![op_delete("x"), op_delete("y")], vec![]))
        .await;
    case.get("x").await;
    case.txn(txn(vec![], vec![], vec![op_put("never", "v")])).await;
    case.get("x").await;
}

async fn duplicates(case: &mut Case) {
    let twice = vec![op_put("k", "1"), op_put("k", "2")];
    case.txn(txn(vec![], twice.clone(), vec![])).await;
    case.txn(txn(vec![], vec![], twice.clone())).await;
    case.txn(txn(
        vec![is_new("k")],
        vec![op_put("k", "1")],
        vec![op_put("k", "2")],
    ))
    .await;
    case.txn(txn(vec![], vec![op_delete("k"), op_delete("k")], vec![]))
        .await;
    case.all().await;
}

fn op_delete_range(key: &str, end: &str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        range_end: end.to_owned().into(),
        ..delete(key)
    }))
}

async fn duplicates_with_deletes(case: &mut Case) {
    case.set("b", "0").await;
    for delete in [
        op_delete("b"),
        op_delete_range("a", "c"),
        op_delete_range("b", "b\0"),
        op_delete_range("a", "b"),
        op_delete_range("c", "d"),
        op_delete_range("c", "a"),
        op_delete_range("a", "\0"),
        op_delete_range("c", "\0"),
        op_delete_range("\0", "\0"),
    ] {
        case.txn(txn(vec![], vec![delete.clone(), op_put("b", "1")], vec![]))
            .await;
        case.txn(txn(vec![], vec![op_put("b", "1"), delete], vec![]))
            .await;
    }
    case.all().await;
}

async fn duplicates_in_nested(case: &mut Case) {
    let then_b = || op_txn(vec![], vec![op_put("b", "then")], vec![]);
    let else_b = || op_txn(vec![], vec![], vec![op_put("b", "else")]);
    let both_b = || op_txn(vec![], vec![op_put("b", "then")], vec![op_put("b", "else")]);
    let delete_b = || op_txn(vec![], vec![op_delete_range("a", "c")], vec![]);
    let deeper = || op_txn(vec![], vec![then_b()], vec![]);
    let lists = [
        vec![then_b(), op_put("b", "1")],
        vec![else_b(), op_put("b", "1")],
        vec![op_put("b", "1"), both_b()],
        vec![both_b()],
        vec![both_b(), both_b()],
        vec![then_b(), else_b()],
        vec![then_b(), op_delete("b")],
        vec![op_delete("b"), else_b()],
        vec![delete_b(), op_put("b", "1")],
        vec![delete_b(), then_b()],
        vec![delete_b(), op_put("d", "1")],
        vec![deeper(), op_put("b", "1")],
        vec![deeper(), op_put("d", "1")],
        vec![deeper(), delete_b()],
    ];
    for list in lists {
        case.txn(txn(vec![], list.clone(), vec![])).await;
        case.txn(txn(vec![is_new("never-there")], vec![], list)).await;
    }
    case.all().await;
}

async fn put_then_nested_delete(case: &mut Case) {
    let mut watching = case.watching();
    watching
        .create(WatchCreateRequest {
            range_end: vec![0].into(),
            prev_kv: true,
            ..watch("\0")
        })
        .await;
    watching.next(case).await;
    let ops = vec![
        op_txn(vec![], vec![op_put("k", "1")], vec![]),
        op_txn(vec![], vec![op_delete("k")], vec![]),
    ];
    case.txn(txn(vec![], ops, vec![])).await;
    watching.next(case).await;
    case.get("k").await;
    case.set("k", "2").await;
    case.get("k").await;
}

async fn nested(case: &mut Case) {
    case.set("k", "v").await;
    let inner = op_txn(
        vec![is_new("k")],
        vec![op_put("i", "new")],
        vec![op_range("k"), op_put("i", "old")],
    );
    let outer = op_txn(
        vec![compare("k", CompareResult::Equal, TargetUnion::Value("v".into()))],
        vec![op_range("i"), inner, op_range("i")],
        vec![op_put("wrong", "x")],
    );
    case.txn(txn(
        vec![],
        vec![
            op_put("a", "1"),
            outer,
            op_txn(vec![], vec![], vec![]),
            op_range("a"),
        ],
        vec![],
    ))
    .await;
    case.all().await;
    // Nested transactions that only read move no revision.
    case.txn(txn(
        vec![],
        vec![
            op_txn(vec![], vec![op_range("a")], vec![]),
            op_txn(vec![], vec![op_delete("-")], vec![]),
        ],
        vec![],
    ))
    .await;
    case.get("a").await;
}

async fn nested_compares_see_the_start(case: &mut Case) {
    let inner = op_txn(
        vec![is_new("k")],
        vec![op_put("new", "1")],
        vec![op_put("old", "1")],
    );
    case.txn(txn(vec![], vec![op_put("k", "v"), inner.clone()], vec![]))
        .await;
    case.txn(txn(vec![], vec![op_delete("k"), inner], vec![])).await;
    case.all().await;
}

fn puts(count: usize) -> Vec<RequestOp> {
    (0..count).map(|n| op_put(&format!("n{n:04}"), "v")).collect()
}

async fn operation_limit(case: &mut Case) {
    let compares = |count| vec![is_new("c"); count];
    for count in [128, 129] {
        case.txn(txn(vec![], puts(count), vec![])).await;
        case.txn(txn(vec![], vec![], puts(count))).await;
        case.txn(txn(compares(count), vec![], vec![])).await;
        case.txn(txn(compares(count), puts(128), vec![op_range("x"); 128]))
            .await;
    }
    case.range(RangeRequest {
        count_only: true,
        ..prefix("n")
    })
    .await;
}

async fn nested_operation_limit(case: &mut Case) {
    for (outer, inner) in [
        (1, 127),
        (1, 128),
        (64, 64),
        (64, 65),
        (127, 1),
        (128, 1),
        (128, 0),
    ] {
        let mut list: Vec<RequestOp> = (1..outer).map(|n| op_put(&format!("o{n}"), "v")).collect();
        list.push(op_txn(vec![], puts(inner), vec![]));
        case.txn(txn(vec![], list, vec![])).await;
    }
    // Deep rather than wide.
    let mut deep = op_put("deep", "v");
    for _ in 0..40 {
        deep = op_txn(vec![], vec![deep], vec![]);
    }
    case.txn(txn(vec![], vec![deep], vec![])).await;
}

async fn empty(case: &mut Case) {
    case.txn(TxnRequest::default()).await;
    case.txn(txn(vec![is_new("k")], vec![], vec![])).await;
    case.txn(txn(vec![], vec![RequestOp { request: None }], vec![]))
        .await;
    case.txn(txn(
        vec![],
        vec![],
        vec![op_put("k", "v"), RequestOp { request: None }],
    ))
    .await;
    case.all().await;
}

async fn empty_keys(case: &mut Case) {
    case.txn(txn(vec![is_new("")], vec![], vec![])).await;
    for op in [op_range(""), op_put("", "v"), op_delete("")] {
        case.txn(txn(vec![], vec![op_put("k", "v"), op.clone()], vec![]))
            .await;
        case.txn(txn(vec![], vec![op_txn(vec![], vec![], vec![op])], vec![]))
            .await;
    }
    let both = PutRequest {
        ignore_value: true,
        ..put("k", "v")
    };
    case.txn(txn(vec![], vec![op(Request::RequestPut(both))], vec![]))
        .await;
    let both = PutRequest {
        ignore_lease: true,
        lease: 5,
        ..put("k", "v")
    };
    case.txn(txn(vec![], vec![op(Request::RequestPut(both))], vec![]))
        .await;
    case.all().await;
}

async fn ranges_at_revisions(case: &mut Case) {
    for value in ["1", "2", "3", "4"] {
        case.set("k", value).await;
    }
    case.compact(2, true).await;
    for relative in 1..=6 {
        let at = op(Request::RequestRange(RangeRequest {
            revision: case.base + relative,
            ..range("k")
        }));
        case.txn(txn(vec![], vec![at.clone()], vec![])).await;
        case.txn(txn(vec![], vec![op_put("w", "x"), at.clone()], vec![]))
            .await;
        case.txn(txn(
            vec![],
            vec![op_txn(vec![], vec![op_put("w", "y"), at.clone()], vec![])],
            vec![],
        ))
        .await;
        // The branch that is not taken is not checked.
        case.txn(txn(vec![], vec![op_put("w", "z")], vec![at])).await;
    }
    case.all().await;
}

async fn refused_whole(case: &mut Case) {
    let unknown_lease = op(Request::RequestPut(PutRequest {
        lease: 424_242,
        ..put("l", "v")
    }));
    case.txn(txn(vec![], vec![op_put("a", "1"), unknown_lease.clone()], vec![]))
        .await;
    case.txn(txn(vec![], vec![op_put("a", "1")], vec![unknown_lease]))
        .await;
    let no_key = op(Request::RequestPut(PutRequest {
        ignore_value: true,
        ..put("none", "")
    }));
    case.txn(txn(vec![], vec![op_put("b", "1"), no_key.clone()], vec![]))
        .await;
    case.txn(txn(
        vec![],
        vec![op_put("b", "1"), op_txn(vec![], vec![no_key], vec![])],
        vec![],
    ))
    .await;
    let keeps = op(Request::RequestPut(PutRequest {
        ignore_value: true,
        prev_kv: true,
        ..put("a", "")
    }));
    case.txn(txn(vec![], vec![keeps], vec![])).await;
    case.all().await;
}

async fn read_only(case: &mut Case) {
    case.set("k", "v").await;
    let many = op(Request::RequestRange(RangeRequest {
        limit: 1,
        keys_only: true,
        ..prefix("k")
    }));
    let ahead = op(Request::RequestRange(RangeRequest {
        revision: case.base + 10,
        ..range("k")
    }));
    case.txn(txn(vec![], vec![op_range("k"), many, op_range("none")], vec![]))
        .await;
    case.txn(txn(vec![], vec![op_range("k"), ahead.clone()], vec![]))
        .await;
    case.txn(txn(vec![], vec![op_range("k")], vec![ahead])).await;
}
