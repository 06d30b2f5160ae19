//! Reads: of the newest commit, of history, and for watches.

use std::sync::{Arc, PoisonError};

use prost::Message;

use super::Store;
use crate::server::file::tables::{RecordError, Snapshot};
use crate::server::limits::{CATCH_UP_BYTES_MAX, CATCH_UP_REVISIONS_MAX};
use crate::server::mvcc::hash::HistoryHash;
use crate::server::mvcc::range::{key_at, readable, select};
use crate::server::mvcc::records::Record;
use crate::server::pb::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchResponse};
use crate::server::pb::mvccpb::{Event, KeyValue, event::EventType};
use crate::server::refusal::Refusal;
use crate::server::txn::{self, Failure};
use crate::server::watch::recent::Change;
use crate::server::watch::watcher::{Watchers, group};

/// The hash of the history up to a revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed {
    pub(crate) hash: u32,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// What one step of telling watches gave.
pub(crate) struct Step {
    pub(crate) responses: Vec<WatchResponse>,
    /// Watches that ended because their history is gone, and the compact revision.
    pub(crate) compacted: Vec<(i64, i64)>,
    /// Whether all watches have been told of everything up to `revision`.
    pub(crate) done: bool,
    pub(crate) revision: i64,
}

fn storage(error: RecordError) -> Refusal {
    Refusal::Storage(error.to_string())
}

fn refused(failure: Failure<RecordError>) -> Refusal {
    match failure {
        Failure::Refused(refusal) => refusal,
        Failure::Storage(error) => storage(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::Stopped)?
}

impl Store {
    pub(crate) async fn range(self: &Arc<Self>, request: RangeRequest) -> Result<RangeResponse, Refusal> {
        let store = Arc::clone(self);
        blocking(move || {
            // The index is left before values are read, so that a large range does not hold up the writer. The
            // snapshot is taken under the same lock: no compaction comes between.
            let (selection, snapshot) = {
                let state = store.state();
                (select(&state.index, state.horizon, &request)?, store.snapshot()?)
            };
            selection.load(&snapshot, &request).map_err(storage)
        })
        .await
    }

    pub(crate) async fn read_txn(self: &Arc<Self>, request: TxnRequest) -> Result<TxnResponse, Refusal> {
        let store = Arc::clone(self);
        blocking(move || {
            let state = store.state();
            let snapshot = store.snapshot()?;
            txn::read::txn(&state.index, &snapshot, state.horizon, &request).map_err(refused)
        })
        .await
    }

    /// Hashes the history up to a revision as etcd does; zero for the newest.
    pub(crate) async fn hash(self: &Arc<Self>, revision: i64) -> Result<Hashed, Refusal> {
        let store = Arc::clone(self);
        blocking(move || {
            let (at, horizon, kept, snapshot) = {
                let state = store.state();
                if revision > 0 && revision <= state.horizon.compacted {
                    return Err(Refusal::Compacted);
                }
                let at = readable(revision, state.horizon)?;
                (at, state.horizon, state.index.kept_at(at), store.snapshot()?)
            };
            let mut hash = HistoryHash::new();
            for entry in snapshot.from(i64::MIN).map_err(storage)? {
                let (revision, record) = entry.map_err(storage)?;
                if revision.main > at {
                    break;
                }
                if revision.main <= horizon.compacted && !kept.contains(&revision) {
                    continue;
                }
                match record {
                    Record::Put(kv) => hash.record(revision, false, &kv.encode_to_vec()),
                    Record::Deletion(key) => {
                        let message = KeyValue {
                            key,
                            ..KeyValue::default()
                        }
                        .encode_to_vec();
                        hash.record(revision, true, &message);
                    }
                }
            }
            Ok(Hashed {
                hash: hash.finish(),
                revision: horizon.current,
                compacted: horizon.compacted,
            })
        })
        .await
    }

    /// Tells watches of what they have not seen: a bounded step, from memory or else from the file.
    pub(crate) async fn tell(self: &Arc<Self>, mut watchers: Watchers) -> Result<(Watchers, Step), Refusal> {
        let store = Arc::clone(self);
        blocking(move || {
            let step = store.step(&mut watchers)?;
            Ok((watchers, step))
        })
        .await
    }

    fn step(&self, watchers: &mut Watchers) -> Result<Step, Refusal> {
        let revision = self.revision();
        let mut step = Step {
            responses: Vec::new(),
            compacted: Vec::new(),
            done: true,
            revision,
        };
        let compacted = self.state().horizon.compacted;
        let (oldest, recent) = {
            // Left before history is read, so that a slow disk does not hold up the writer.
            let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
            for id in watchers.end_compacted(compacted, revision, recent.first()) {
                step.compacted.push((id, compacted));
            }
            let Some(oldest) = watchers.behind(revision) else {
                return Ok(step);
            };
            (oldest, recent.from(oldest, CATCH_UP_REVISIONS_MAX))
        };
        let changes = match recent {
            Some(changes) => changes,
            None => match self.history(oldest, revision)? {
                Some(changes) => changes,
                // Compacted since; the next step ends the watch.
                None => return Ok(Step { done: false, ..step }),
            },
        };
        let reached = changes.last().map_or(revision, |change| change.revision);
        for (id, watcher) in watchers.waiting(reached) {
            let whole = reached >= revision;
            let grouped = group(watcher, &changes, CATCH_UP_BYTES_MAX);
            let last = grouped.len();
            for (place, (upto, mut events)) in grouped.into_iter().enumerate() {
                if watcher.prev_kv {
                    self.add_previous(&mut events)?;
                }
                // A watch that catches up to the newest revision is told so by the header of the last response.
                let header = if !watcher.synced && whole && place + 1 == last {
                    revision
                } else {
                    upto
                };
                let header = self.header(header);
                step.responses.push(WatchResponse {
                    header,
                    watch_id: id,
                    events,
                    ..Default::default()
                });
                watcher.sent();
            }
        }
        watchers.advance(reached, revision);
        step.done = watchers.behind(revision).is_none();
        Ok(step)
    }

    /// The changes from a revision on, read from the file; nothing if they are compacted. Revisions that a
    /// compaction left nothing of are skipped.
    fn history(&self, from: i64, upto: i64) -> Result<Option<Vec<Arc<Change>>>, Refusal> {
        let snapshot = {
            let state = self.state();
            if from < state.horizon.compacted {
                return Ok(None);
            }
            self.snapshot()?
        };
        let mut changes: Vec<Change> = Vec::new();
        let mut bytes = 0;
        let mut complete = true;
        for entry in snapshot.from(from).map_err(storage)? {
            let (revision, record) = entry.map_err(storage)?;
            if revision.main > upto {
                break;
            }
            let event = record.event(revision);
            bytes += event.encoded_len();
            let full = changes.len() >= CATCH_UP_REVISIONS_MAX
                || (bytes > CATCH_UP_BYTES_MAX && !changes.is_empty());
            match changes.last_mut() {
                Some(last) if last.revision == revision.main => last.events.push(event),
                _ if full => {
                    complete = false;
                    break;
                }
                _ => changes.push(Change {
                    revision: revision.main,
                    events: vec![event],
                }),
            }
        }
        if complete && changes.last().is_none_or(|last| last.revision < upto) {
            changes.push(Change {
                revision: upto,
                events: Vec::new(),
            });
        }
        Ok(Some(changes.into_iter().map(Arc::new).collect()))
    }

    /// Adds to each event what its key held before, as far as history still knows.
    fn add_previous(&self, events: &mut [Event]) -> Result<(), Refusal> {
        let state = self.state();
        let mut snapshot: Option<Snapshot> = None;
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let created = event.r#type == EventType::Put as i32 && kv.create_revision == kv.mod_revision;
            let before = kv.mod_revision - 1;
            if created || before < state.horizon.compacted {
                continue;
            }
            let snapshot = match &snapshot {
                Some(open) => open,
                None => snapshot.insert(self.snapshot()?),
            };
            event.prev_kv = key_at(&state.index, snapshot, &kv.key, before).map_err(storage)?;
        }
        Ok(())
    }
}
