//! Watches.

use std::time::Duration;

use datastore::server::pb::etcdserverpb::watch_create_request::FilterType;
use datastore::server::pb::etcdserverpb::watch_request::RequestUnion;
use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;
use crate::watching::{Watching, watch};

group!(watches: one_key, spans, several_of_one_stream, ids, empty_ranges, cancelling, past_start, past_start_with_previous,
    past_start_of_a_transaction, future_start, start_at_the_next, filters, previous_values, unknown_requests, half_close,
    progress_by_hand, progress_on_time, compacted_start, compacted_while_watching, previous_compacted, many_in_one_revision,
    fragments, ordered, streams_apart);

fn all() -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: vec![0].into(),
        ..watch("\0")
    }
}

async fn created(case: &mut Case, request: WatchCreateRequest) -> Watching {
    let mut watching = case.watching();
    watching.create(request).await;
    watching.next(case).await;
    watching
}

async fn one_key(case: &mut Case) {
    let mut watching = created(case, watch("k")).await;
    for value in ["1", "2"] {
        case.set("k", value).await;
        watching.next(case).await;
    }
    case.set("k2", "not watched").await;
    case.delete(delete("k")).await;
    watching.next(case).await;
    case.set("k", "3").await;
    watching.next(case).await;
    watching.silence(case).await;
}

async fn spans(case: &mut Case) {
    let mut watching = case.watching();
    let ends: [(&str, &[u8]); 6] = [
        ("b", b""),
        ("b", b"c"),
        ("b", b"\0"),
        ("\0", b"\0"),
        ("", b"\0"),
        ("", b""),
    ];
    for (key, end) in ends {
        watching
            .create(WatchCreateRequest {
                range_end: end.to_vec().into(),
                ..watch(key)
            })
            .await;
        watching.next(case).await;
    }
    for (key, watches) in [("a", 2), ("b", 5), ("bb", 4), ("c", 3), ("\0", 3)] {
        case.set(key, "v").await;
        watching.next_of_each(case, watches).await;
    }
    watching.silence(case).await;
}

async fn several_of_one_stream(case: &mut Case) {
    let mut watching = case.watching();
    for key in ["a", "b", "a"] {
        watching.create(watch(key)).await;
        watching.next(case).await;
    }
    case.set("a", "1").await;
    watching.next_of_each(case, 2).await;
    case.set("b", "1").await;
    watching.next(case).await;
    case.txn(txn(vec![], vec![op_put("a", "2"), op_put("b", "2")], vec![]))
        .await;
    watching.next_of_each(case, 3).await;
    watching.silence(case).await;
}

async fn ids(case: &mut Case) {
    let mut watching = case.watching();
    for watch_id in [0, 7, 7, 1, 0, 0, -3, -3, i64::MAX] {
        watching
            .create(WatchCreateRequest {
                watch_id,
                ..watch("k")
            })
            .await;
        watching.next(case).await;
    }
    case.set("k", "v").await;
    watching.next_of_each(case, 7).await;
    // An id that was cancelled can be used again.
    watching.cancel(7).await;
    watching.next(case).await;
    watching
        .create(WatchCreateRequest {
            watch_id: 7,
            ..watch("k")
        })
        .await;
    watching.next(case).await;
}

async fn empty_ranges(case: &mut Case) {
    let mut watching = case.watching();
    for (key, end) in [("b", "a"), ("b", "b"), ("b", "b\0")] {
        watching
            .create(WatchCreateRequest {
                range_end: end.into(),
                ..watch(key)
            })
            .await;
        watching.next(case).await;
    }
    case.set("b", "v").await;
    watching.next(case).await;
    watching.silence(case).await;
}

async fn cancelling(case: &mut Case) {
    let mut watching = case.watching();
    for _ in 0..2 {
        watching.create(watch("k")).await;
        watching.next(case).await;
    }
    watching.cancel(0).await;
    watching.next(case).await;
    // Not there any more, and never there.
    watching.cancel(0).await;
    watching.cancel(99).await;
    watching.silence(case).await;
    case.set("k", "v").await;
    watching.next(case).await;
    watching.silence(case).await;
}

/// Five revisions: three of keys under `p/`.
async fn past(case: &mut Case) {
    case.set("p/1", "a").await;
    case.set("q", "not watched").await;
    case.txn(txn(
        vec![],
        vec![op_put("p/2", "b"), op_put("q", "c"), op_put("p/3", "d")],
        vec![],
    ))
    .await;
    case.delete(delete("p/1")).await;
    case.set("q", "e").await;
}

async fn past_start(case: &mut Case) {
    past(case).await;
    let mut streams = Vec::new();
    for (relative, events) in [(1, 4), (2, 3), (3, 3), (4, 1), (5, 0), (6, 0)] {
        let start_revision = case.base + relative;
        let request = WatchCreateRequest {
            range_end: after("p/").into(),
            start_revision,
            ..watch("p/")
        };
        let mut watching = created(case, request).await;
        if events > 0 {
            let header = watching.events(case, events).await;
            case.note(("caught up to", header));
        }
        streams.push(watching);
    }
    // What was caught up is not sent again, and what follows comes alone. (etcd looks for watches that are behind
    // ten times a second; one that it has not looked at yet would get both revisions at once.)
    tokio::time::sleep(Duration::from_millis(400)).await;
    case.set("p/9", "live").await;
    case.delete(delete("p/9")).await;
    for watching in &mut streams {
        watching.next(case).await;
        watching.next(case).await;
        watching.silence(case).await;
    }
}

async fn past_start_with_previous(case: &mut Case) {
    past(case).await;
    case.set("p/2", "bb").await;
    let start_revision = case.base + 1;
    let request = WatchCreateRequest {
        prev_kv: true,
        start_revision,
        ..all()
    };
    let mut watching = created(case, request).await;
    watching.events(case, 8).await;
}

async fn past_start_of_a_transaction(case: &mut Case) {
    for round in 0..3 {
        let puts = (0..50)
            .map(|n| op_put(&format!("t{n:02}"), &round.to_string()))
            .collect();
        case.txn(txn(vec![], puts, vec![])).await;
    }
    let start_revision = case.base + 2;
    let mut watching = created(
        case,
        WatchCreateRequest {
            start_revision,
            ..all()
        },
    )
    .await;
    watching.events(case, 100).await;
}

async fn future_start(case: &mut Case) {
    let start_revision = case.base + 3;
    let mut watching = created(
        case,
        WatchCreateRequest {
            start_revision,
            ..watch("k")
        },
    )
    .await;
    for value in ["1", "2"] {
        case.set("k", value).await;
    }
    watching.silence(case).await;
    for value in ["3", "4"] {
        case.set("k", value).await;
        watching.next(case).await;
    }
}

async fn start_at_the_next(case: &mut Case) {
    case.set("k", "0").await;
    let start_revision = case.base + 2;
    let mut watching = created(
        case,
        WatchCreateRequest {
            start_revision,
            ..watch("k")
        },
    )
    .await;
    watching.silence(case).await;
    case.set("k", "1").await;
    watching.next(case).await;
}

async fn filters(case: &mut Case) {
    let mut watching = case.watching();
    let (no_put, no_delete) = (FilterType::Noput.into(), FilterType::Nodelete.into());
    for filters in [
        vec![],
        vec![no_put],
        vec![no_delete],
        vec![no_put, no_delete],
        vec![no_put, no_put],
        vec![9],
    ] {
        watching
            .create(WatchCreateRequest {
                filters,
                ..watch("k")
            })
            .await;
        watching.next(case).await;
    }
    case.set("k", "v").await;
    watching.next_of_each(case, 3).await;
    case.delete(delete("k")).await;
    watching.next_of_each(case, 4).await;
    watching.silence(case).await;
    // Filters hold while catching up as well.
    let start_revision = case.base + 1;
    watching
        .create(WatchCreateRequest {
            filters: vec![no_put],
            start_revision,
            ..watch("k")
        })
        .await;
    watching.next(case).await;
    watching.events(case, 1).await;
}

async fn previous_values(case: &mut Case) {
    case.set("k", "0").await;
    let mut watching = case.watching();
    for prev_kv in [true, false] {
        watching
            .create(WatchCreateRequest {
                prev_kv,
                ..watch("k")
            })
            .await;
        watching.next(case).await;
    }
    case.set("k", "1").await;
    watching.next_of_each(case, 2).await;
    case.delete(delete("k")).await;
    watching.next_of_each(case, 2).await;
    case.set("k", "2").await;
    watching.next_of_each(case, 2).await;
    case.set("k", "2").await;
    watching.next_of_each(case, 2).await;
}

async fn unknown_requests(case: &mut Case) {
    let mut watching = created(case, watch("k")).await;
    watching.ask_nothing().await;
    watching
        .ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: -1 }))
        .await;
    watching.silence(case).await;
    case.set("k", "v").await;
    watching.next(case).await;
}

async fn half_close(case: &mut Case) {
    let mut watching = created(case, watch("k")).await;
    watching.half_close();
    tokio::time::sleep(Duration::from_millis(100)).await;
    case.set("k", "v").await;
    watching.next(case).await;
}

async fn progress_by_hand(case: &mut Case) {
    let mut watching = case.watching();
    watching.progress().await;
    watching.next(case).await;
    for key in ["a", "b"] {
        watching.create(watch(key)).await;
        watching.next(case).await;
    }
    watching.progress().await;
    watching.next(case).await;
    case.set("a", "1").await;
    watching.next(case).await;
    case.set("other", "1").await;
    watching.progress().await;
    watching.next(case).await;
    watching.silence(case).await;
}

async fn progress_on_time(case: &mut Case) {
    // Not asked for first, so that the other's notice shows that this one gets none.
    let mut watching = case.watching();
    watching.create(watch("a")).await;
    watching.next(case).await;
    watching
        .create(WatchCreateRequest {
            progress_notify: true,
            ..watch("b")
        })
        .await;
    watching.next(case).await;
    case.set("other", "1").await;
    for _ in 0..2 {
        let response = watching.message().await.expect("a notice");
        let header = response.header.as_ref().expect("a header").revision - case.base;
        case.note((
            response.watch_id,
            header,
            response.events.len(),
            response.created,
            response.canceled,
        ));
    }
}

async fn compacted_start(case: &mut Case) {
    for value in ["1", "2", "3", "4"] {
        case.set("k", value).await;
    }
    case.compact(3, true).await;
    let mut watching = case.watching();
    for relative in [1, 2] {
        let start_revision = case.base + relative;
        watching
            .create(WatchCreateRequest {
                start_revision,
                ..watch("k")
            })
            .await;
        watching.next(case).await;
        watching.next(case).await;
    }
    for start_revision in [1, 2] {
        watching
            .create(WatchCreateRequest {
                start_revision,
                ..watch("nothing")
            })
            .await;
        watching.next(case).await;
        watching.next(case).await;
    }
    // The compact revision itself can be watched from.
    let start_revision = case.base + 3;
    watching
        .create(WatchCreateRequest {
            start_revision,
            ..watch("k")
        })
        .await;
    watching.next(case).await;
    watching.events(case, 2).await;
    // The stream goes on.
    case.set("k", "5").await;
    watching.next(case).await;
    // A cancelled watch is gone.
    watching.cancel(0).await;
    watching.silence(case).await;
}

async fn compacted_while_watching(case: &mut Case) {
    let mut watching = created(case, watch("k")).await;
    case.set("k", "1").await;
    watching.next(case).await;
    case.set("other", "1").await;
    case.compact(2, true).await;
    watching.silence(case).await;
    case.set("k", "2").await;
    watching.next(case).await;
}

async fn previous_compacted(case: &mut Case) {
    for value in ["1", "2", "3"] {
        case.set("k", value).await;
    }
    case.compact(2, true).await;
    let start_revision = case.base + 2;
    let mut watching = created(
        case,
        WatchCreateRequest {
            prev_kv: true,
            start_revision,
            ..watch("k")
        },
    )
    .await;
    watching.events(case, 2).await;
}

async fn many_in_one_revision(case: &mut Case) {
    for n in 0..100 {
        case.put(put(&format!("m{n:03}"), "v")).await;
    }
    let mut watching = created(
        case,
        WatchCreateRequest {
            prev_kv: true,
            ..all()
        },
    )
    .await;
    case.delete(DeleteRangeRequest {
        range_end: "n".into(),
        ..delete("m")
    })
    .await;
    watching.next(case).await;
    watching.silence(case).await;
}

async fn fragments(case: &mut Case) {
    let large = "x".repeat(300_000);
    let keys: Vec<String> = (0..12).map(|n| format!("f{n:02}")).collect();
    for key in &keys {
        case.kv.put(put(key, &large)).await.expect("a put");
    }
    // One revision whose previous values make it larger than a message may be.
    let request = WatchCreateRequest {
        fragment: true,
        prev_kv: true,
        ..all()
    };
    let mut watching = created(case, request).await;
    case.delete(DeleteRangeRequest {
        range_end: "g".into(),
        ..delete("f")
    })
    .await;
    let mut marks = Vec::new();
    let mut events = Vec::new();
    loop {
        let response = watching.message().await.expect("a fragment");
        assert!(response.events.len() < 12, "the revision came in one piece");
        marks.push(response.fragment);
        events.extend(response.events.into_iter().map(|event| {
            let (kv, previous) = (event.kv.expect("a key"), event.prev_kv.expect("a previous value"));
            (kv.key, kv.mod_revision - case.base, previous.value.len())
        }));
        if !response.fragment {
            break;
        }
    }
    case.note((events, marks));
    // Without the wish for fragments it comes whole.
    for key in &keys {
        case.kv.put(put(key, &large)).await.expect("a put");
    }
    let mut whole = created(
        case,
        WatchCreateRequest {
            prev_kv: true,
            ..all()
        },
    )
    .await;
    case.delete(DeleteRangeRequest {
        range_end: "g".into(),
        ..delete("f")
    })
    .await;
    let response = whole.message().await.expect("a response");
    case.note((response.fragment, response.events.len()));
}

async fn ordered(case: &mut Case) {
    let mut watching = created(case, all()).await;
    let mut writes = Vec::new();
    for n in 0..200 {
        let mut kv = case.kv.clone();
        writes.push(tokio::spawn(async move {
            kv.put(put(&format!("o{:02}", n % 20), "v")).await
        }));
    }
    for write in writes {
        write.await.expect("a task").expect("a put");
    }
    let mut revisions = Vec::new();
    while revisions.len() < 200 {
        let response = watching.message().await.expect("events");
        revisions.extend(
            response
                .events
                .into_iter()
                .map(|event| event.kv.expect("a key").mod_revision - case.base),
        );
    }
    case.note(revisions);
}

async fn streams_apart(case: &mut Case) {
    let mut first = created(case, watch("k")).await;
    let mut second = created(
        case,
        WatchCreateRequest {
            prev_kv: true,
            ..watch("k")
        },
    )
    .await;
    case.set("k", "1").await;
    first.next(case).await;
    second.next(case).await;
    drop(first);
    case.set("k", "2").await;
    second.next(case).await;
}
