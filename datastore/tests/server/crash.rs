//! A killed store has every write that it answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datastore::server::pb::etcdserverpb::kv_client::KvClient;

use crate::support::{Process, all, channel, put, range, text};

const ROUNDS: u64 = 5;
const WRITERS: usize = 8;
/// Writes answered before the kill, which then hits some that are not.
const ANSWERED_MIN: usize = 10 * WRITERS;
const WRITES_WITHIN: Duration = Duration::from_secs(20);

/// What a writer was told of its newest write.
#[derive(Clone, Copy, Debug, Default)]
struct Acknowledged {
    value: u64,
    revision: i64,
}

async fn write_until_away(
    url: String,
    key: String,
    mut newest: Acknowledged,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> Acknowledged {
    let mut kv = KvClient::new(channel(&url).await);
    while !stop.load(Ordering::Relaxed) {
        let value = newest.value + 1;
        let Ok(answer) = kv.put(put(&key, &value.to_string())).await else {
            break;
        };
        let revision = answer.into_inner().header.expect("a header").revision;
        newest = Acknowledged { value, revision };
        answered.fetch_add(1, Ordering::Relaxed);
    }
    newest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("store.redb");
    let arguments = ["--listen", "127.0.0.1:0", "--data", text(&data), "--log", "warn"];
    let mut newest = [Acknowledged::default(); WRITERS];
    for round in 0..ROUNDS {
        let mut process = Process::start(&arguments);
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = newest
            .iter()
            .enumerate()
            .map(|(writer, newest)| {
                let key = format!("writer/{writer}");
                tokio::spawn(write_until_away(
                    process.url(),
                    key,
                    *newest,
                    Arc::clone(&stop),
                    Arc::clone(&answered),
                ))
            })
            .collect();
        let end = Instant::now() + WRITES_WITHIN;
        while answered.load(Ordering::Relaxed) < ANSWERED_MIN && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        process.crash();
        stop.store(true, Ordering::Relaxed);
        for (newest, writer) in newest.iter_mut().zip(writers) {
            *newest = writer.await.expect("a writer");
        }
        let answered = answered.load(Ordering::Relaxed);
        assert!(
            answered >= ANSWERED_MIN,
            "only {answered} writes were answered in round {round}"
        );

        let process = Process::start(&arguments);
        let mut kv = KvClient::new(channel(&process.url()).await);
        let revision = all(&mut kv, 0).await.header.expect("a header").revision;
        for (writer, newest) in newest.iter().enumerate() {
            let key = format!("writer/{writer}");
            let found = kv.range(range(&key)).await.expect("a range").into_inner();
            let value: u64 = String::from_utf8_lossy(&found.kvs[0].value)
                .parse()
                .expect("a number");
            // The write in flight at the kill may be there as well; never less than what was answered.
            assert!(
                (newest.value..=newest.value + 1).contains(&value),
                "{key} is {value}, answered were {newest:?}"
            );
            assert!(revision >= newest.revision);
            let mut then = range(&key);
            then.revision = newest.revision;
            let then = kv.range(then).await.expect("history").into_inner();
            assert_eq!(then.kvs[0].value, newest.value.to_string().as_bytes());
            assert_eq!(then.kvs[0].mod_revision, newest.revision);
        }
        // What is there now counts as answered.
        for (writer, newest) in newest.iter_mut().enumerate() {
            let found = kv
                .range(range(&format!("writer/{writer}")))
                .await
                .expect("a range")
                .into_inner();
            newest.value = String::from_utf8_lossy(&found.kvs[0].value)
                .parse()
                .expect("a number");
            newest.revision = found.kvs[0].mod_revision;
        }
    }
}
