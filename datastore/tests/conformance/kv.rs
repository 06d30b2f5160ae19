//! Put, range, delete, compaction.

use datastore::server::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;

group!(kv: put_and_get, delete_keys, empty_keys, spans, zero_byte_keys, binary, sorting, sorting_with_limit, limits,
    keys_and_counts, revision_bounds, history, ignore_value, ignore_lease_needs_a_key, compaction,
    compaction_bounds, serializable);

async fn put_and_get(case: &mut Case) {
    case.get("k").await;
    for value in ["1", "2", "", "4"] {
        case.put(PutRequest {
            prev_kv: true,
            ..put("k", value)
        })
        .await;
        case.get("k").await;
    }
    case.delete(DeleteRangeRequest {
        prev_kv: true,
        ..delete("k")
    })
    .await;
    case.get("k").await;
    case.set("k", "again").await;
    case.get("k").await;
}

async fn delete_keys(case: &mut Case) {
    for key in ["a", "b1", "b2", "b3", "c"] {
        case.set(key, key).await;
    }
    // Deleting nothing moves no revision.
    case.delete(delete("nothing")).await;
    case.delete(DeleteRangeRequest {
        range_end: "x".into(),
        ..delete("y")
    })
    .await;
    case.get("a").await;
    case.delete(DeleteRangeRequest {
        range_end: "c".into(),
        prev_kv: true,
        ..delete("b")
    })
    .await;
    case.delete(DeleteRangeRequest {
        range_end: "c".into(),
        prev_kv: true,
        ..delete("b")
    })
    .await;
    case.all().await;
    case.delete(DeleteRangeRequest {
        range_end: vec![0].into(),
        ..delete("b")
    })
    .await;
    case.delete(DeleteRangeRequest {
        range_end: vec![0].into(),
        prev_kv: true,
        ..delete("\0")
    })
    .await;
    case.all().await;
}

async fn empty_keys(case: &mut Case) {
    case.range(range("")).await;
    case.put(put("", "x")).await;
    case.delete(delete("")).await;
    case.range(RangeRequest {
        range_end: vec![0].into(),
        ..range("")
    })
    .await;
    case.set("k", "").await;
    case.get("k").await;
}

async fn spans(case: &mut Case) {
    for key in ["a", "ab", "abc", "b", "ba", "c", "/x/1", "/x/2", "/x0"] {
        case.set(key, key).await;
    }
    case.range(prefix("a")).await;
    case.range(prefix("/x/")).await;
    for (key, end) in [
        ("a", "b"),
        ("ab", "ac"),
        ("a", "a"),
        ("b", "a"),
        ("a", "zz"),
        ("abc", "abc0"),
        ("x", "y"),
    ] {
        case.range(RangeRequest {
            range_end: end.into(),
            ..range(key)
        })
        .await;
    }
    for key in ["b", "ba", "zz", "\0", "/x/1"] {
        case.range(RangeRequest {
            range_end: vec![0].into(),
            ..range(key)
        })
        .await;
    }
}

async fn zero_byte_keys(case: &mut Case) {
    for key in [
        &b"\0"[..],
        b"\0\0",
        b"\0a",
        b"\x01",
        b"a",
        b"a\0",
        b"a\0b",
        b"\xff",
        b"\xff\xff",
    ] {
        case.put(PutRequest {
            key: key.to_vec().into(),
            value: "v".into(),
            ..Default::default()
        })
        .await;
    }
    case.all().await;
    let bounds: [(&[u8], &[u8]); 7] = [
        (b"\0", b"\0\0"),
        (b"\0", b"\x01"),
        (b"a", b"a\0"),
        (b"a\0", b"\0"),
        (b"\xff", b"\0"),
        (b"\xff", b"\xff\xff"),
        (b"a", b"\0\0"),
    ];
    for (key, end) in bounds {
        let request = RangeRequest {
            key: key.to_vec().into(),
            range_end: end.to_vec().into(),
            ..Default::default()
        };
        case.range(request).await;
    }
}

async fn binary(case: &mut Case) {
    let every: Vec<u8> = (0..=255).collect();
    case.put(PutRequest {
        key: every.clone().into(),
        value: every.clone().into(),
        ..Default::default()
    })
    .await;
    case.range(RangeRequest {
        key: every.into(),
        ..Default::default()
    })
    .await;
}

/// Keys whose order differs by key, value, version, creation and modification.
async fn unsorted(case: &mut Case) {
    for (key, value) in [
        ("s3", "b"),
        ("s1", "d"),
        ("s4", "a"),
        ("s2", "c"),
        ("s1", "e"),
        ("s3", "bb"),
        ("s3", "f"),
    ] {
        case.set(key, value).await;
    }
}

const ORDERS: [SortOrder; 3] = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
const TARGETS: [SortTarget; 5] = [
    SortTarget::Key,
    SortTarget::Version,
    SortTarget::Create,
    SortTarget::Mod,
    SortTarget::Value,
];

async fn sorting(case: &mut Case) {
    unsorted(case).await;
    for order in ORDERS {
        for target in TARGETS {
            let sorted = RangeRequest {
                sort_order: order.into(),
                sort_target: target.into(),
                ..prefix("s")
            };
            case.range(sorted.clone()).await;
            case.range(RangeRequest {
                keys_only: true,
                ..sorted
            })
            .await;
        }
    }
}

async fn sorting_with_limit(case: &mut Case) {
    unsorted(case).await;
    for order in ORDERS {
        for target in TARGETS {
            for limit in [1, 2, 3, 4] {
                let sorted = RangeRequest {
                    sort_order: order.into(),
                    sort_target: target.into(),
                    limit,
                    ..prefix("s")
                };
                case.range(sorted).await;
            }
        }
    }
}

async fn limits(case: &mut Case) {
    for n in 0..10 {
        case.set(&format!("l{n}"), "v").await;
    }
    for limit in [-1, 0, 1, 9, 10, 11, i64::MAX] {
        case.range(RangeRequest { limit, ..prefix("l") }).await;
    }
    // A page at one revision while another key arrives.
    let first = case
        .range(RangeRequest {
            limit: 4,
            ..prefix("l")
        })
        .await
        .expect("a page");
    case.set("l35", "new").await;
    let revision = first.header.expect("a header").revision;
    let next = RangeRequest {
        key: "l3\0".into(),
        revision,
        limit: 4,
        ..prefix("l")
    };
    case.range(next.clone()).await;
    case.range(RangeRequest { revision: 0, ..next }).await;
}

async fn keys_and_counts(case: &mut Case) {
    for n in 0..5 {
        case.set(&format!("k{n}"), "value").await;
    }
    case.range(RangeRequest {
        keys_only: true,
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        limit: 2,
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        keys_only: true,
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        ..prefix("none")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        sort_order: SortOrder::Descend.into(),
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        count_only: true,
        min_mod_revision: case.base + 3,
        ..prefix("k")
    })
    .await;
    case.range(RangeRequest {
        keys_only: true,
        limit: 3,
        ..prefix("k")
    })
    .await;
}

async fn revision_bounds(case: &mut Case) {
    for key in ["r1", "r2", "r3", "r4", "r2", "r1"] {
        case.set(key, "v").await;
    }
    let base = case.base;
    for bound in 0..=7 {
        let bound = base + bound;
        case.range(RangeRequest {
            min_mod_revision: bound,
            ..prefix("r")
        })
        .await;
        case.range(RangeRequest {
            max_mod_revision: bound,
            ..prefix("r")
        })
        .await;
        case.range(RangeRequest {
            min_create_revision: bound,
            ..prefix("r")
        })
        .await;
        case.range(RangeRequest {
            max_create_revision: bound,
            ..prefix("r")
        })
        .await;
        let both = RangeRequest {
            min_create_revision: base + 2,
            max_mod_revision: bound,
            limit: 1,
            ..prefix("r")
        };
        case.range(both).await;
    }
}

async fn history(case: &mut Case) {
    case.set("h", "1").await;
    case.set("h", "2").await;
    case.delete(delete("h")).await;
    case.set("h", "3").await;
    case.set("other", "x").await;
    for relative in 0..=6 {
        case.range(RangeRequest {
            revision: case.base + relative,
            ..prefix("h")
        })
        .await;
    }
    case.range(RangeRequest {
        revision: i64::MAX,
        ..range("h")
    })
    .await;
    case.range(RangeRequest {
        revision: -1,
        ..range("h")
    })
    .await;
    case.range(RangeRequest {
        revision: case.base + 2,
        count_only: true,
        ..prefix("h")
    })
    .await;
}

async fn ignore_value(case: &mut Case) {
    case.put(PutRequest {
        ignore_value: true,
        ..put("i", "")
    })
    .await;
    case.put(PutRequest {
        ignore_value: true,
        ..put("i", "given")
    })
    .await;
    case.set("i", "kept").await;
    case.put(PutRequest {
        ignore_value: true,
        prev_kv: true,
        ..put("i", "")
    })
    .await;
    case.put(PutRequest {
        ignore_value: true,
        ..put("i", "given")
    })
    .await;
    case.get("i").await;
    case.delete(delete("i")).await;
    case.put(PutRequest {
        ignore_value: true,
        ..put("i", "")
    })
    .await;
    case.get("i").await;
}

async fn ignore_lease_needs_a_key(case: &mut Case) {
    case.put(PutRequest {
        ignore_lease: true,
        ..put("i", "v")
    })
    .await;
    case.put(PutRequest {
        ignore_lease: true,
        lease: 77,
        ..put("i", "v")
    })
    .await;
    case.put(PutRequest {
        lease: 77,
        ..put("i", "v")
    })
    .await;
    case.put(PutRequest {
        lease: 77,
        ignore_value: true,
        ..put("i", "")
    })
    .await;
    case.put(PutRequest {
        ignore_lease: true,
        ignore_value: true,
        ..put("i", "")
    })
    .await;
    case.get("i").await;
}

async fn compaction(case: &mut Case) {
    for value in ["1", "2", "3"] {
        case.set("c", value).await;
    }
    case.set("gone", "x").await;
    case.delete(delete("gone")).await;
    case.set("c", "4").await;
    for (revision, physical) in [(2, false), (2, false), (1, true), (5, true), (6, true)] {
        case.compact(revision, physical).await;
        for relative in 1..=6 {
            case.range(RangeRequest {
                revision: case.base + relative,
                ..prefix("c")
            })
            .await;
            case.range(RangeRequest {
                revision: case.base + relative,
                ..range("gone")
            })
            .await;
        }
    }
    case.compact(7, false).await;
    case.set("c", "5").await;
    case.get("c").await;
}

async fn compaction_bounds(case: &mut Case) {
    case.set("c", "1").await;
    case.compact(2, false).await;
    case.compact(1000, true).await;
    for revision in [0, -1, -2, i64::MIN, i64::MAX] {
        let answer = case
            .kv
            .compact(CompactionRequest {
                revision,
                physical: false,
            })
            .await;
        case.answer(answer);
    }
    case.compact(1, true).await;
    case.compact(1, true).await;
    case.get("c").await;
}

async fn serializable(case: &mut Case) {
    case.set("k", "v").await;
    case.range(RangeRequest {
        serializable: true,
        ..range("k")
    })
    .await;
    case.range(RangeRequest {
        serializable: true,
        revision: case.base + 9,
        ..range("k")
    })
    .await;
    case.range(RangeRequest {
        serializable: true,
        revision: 0,
        limit: 1,
        ..prefix("k")
    })
    .await;
}
