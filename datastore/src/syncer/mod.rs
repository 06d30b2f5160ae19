//! Follows the store: a snapshot, then changes, through everything that may happen to a store and to the way there.
//!
//! [`view`] decides (pure); `follow` lists and watches; one task delivers to the consumer, who may be slow. What the
//! consumer was told is taken back only when the store itself says, within the history that we follow, that a key is
//! gone.

mod event;
mod follow;
mod health;
mod options;
mod queue;
mod stored_bytes;
pub mod view;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use event::{Event, Status, Update};
pub use health::{Health, HealthState};
pub use options::{BATCH_UPDATES_MAX, CHANNEL_BATCHES, FREEZE_POLL, Options, SNAPSHOT_INTERVAL};

use crate::client::ClientConfig;
use crate::snapshot::Snapshot;
use view::View;

/// How long [`Handle::shutdown`] waits for the tasks.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Starts following a store.
#[derive(Debug)]
pub struct Syncer;

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    view: Mutex<View>,
    /// There may be something to deliver.
    pending: Notify,
    /// The operator accepts a new history.
    accepted: Notify,
    health: watch::Sender<Health>,
    stop: CancellationToken,
}

impl Shared {
    fn with_view<T>(&self, act: impl FnOnce(&mut View) -> T) -> T {
        let out = act(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
        self.pending.notify_one();
        out
    }
}

/// A running syncer; it stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    health: watch::Receiver<Health>,
    tasks: Vec<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the syncer on the current runtime. A snapshot that cannot be read is reported and left alone.
    pub fn start(config: ClientConfig, options: Options) -> (Handle, mpsc::Receiver<Event>) {
        let view = match options.snapshot.as_deref().map(Snapshot::load) {
            Some(Ok(Some(saved))) => {
                tracing::info!(
                    keys = saved.entries.len(),
                    revision = saved.history.revision,
                    "last good view loaded"
                );
                View::restore(options.ranges.clone(), saved.history, saved.entries)
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "starting without the last good view");
                View::new(options.ranges.clone())
            }
            Some(Ok(None)) | None => View::new(options.ranges.clone()),
        };
        let (health_tx, health) = watch::channel(Health::default());
        let shared = Arc::new(Shared {
            view: Mutex::new(view),
            pending: Notify::new(),
            accepted: Notify::new(),
            health: health_tx,
            stop: CancellationToken::new(),
        });
        let (events, receiver) = mpsc::channel(options.channel_batches.max(1));
        let mut tasks = vec![
            tokio::spawn(follow::run(shared.clone(), config, options.clone())),
            tokio::spawn(deliver(shared.clone(), events, options.batch_updates_max.max(1))),
        ];
        if let Some(path) = options.snapshot {
            tasks.push(tokio::spawn(crate::snapshot::keep(
                SnapshotSource(shared.clone()),
                path,
                options.snapshot_interval,
            )));
        }
        (
            Handle {
                shared,
                health,
                tasks,
            },
            receiver,
        )
    }
}

impl Handle {
    /// How the syncer is, now and later.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Takes the store as it is now for the truth, also where its history does not continue the one known: after a
    /// restore from a backup, or a move to another cluster.
    pub fn accept_new_history(&self) {
        self.shared.with_view(View::accept_new_history);
        self.shared.accepted.notify_one();
    }

    /// How many keys have changed that the consumer was not told of yet.
    pub fn pending(&self) -> usize {
        self.shared.with_view(|view| view.pending())
    }

    /// Stops, after saving the last good view where a file is set.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(SHUTDOWN_MAX, task).await.is_err() {
                tracing::warn!("a task of the syncer did not stop in time");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Where the snapshot keeper gets the view from.
pub(crate) struct SnapshotSource(Arc<Shared>);

impl SnapshotSource {
    /// The view, if it equals the store as far as we know and is newer than `after`.
    pub(crate) fn newer_than(&self, after: i64) -> Option<Snapshot> {
        self.0.with_view(|view| {
            let revision = view.resume_revision().filter(|revision| *revision > after)?;
            let (history, entries) = view.contents();
            let history = history?;
            let entries = entries
                .iter()
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect();
            Some(Snapshot {
                history,
                revision,
                entries,
            })
        })
    }

    pub(crate) fn stopped(&self) -> CancellationToken {
        self.0.stop.clone()
    }
}

/// Hands events over one at a time; while the consumer is busy, changes gather in the view, one a key.
async fn deliver(shared: Arc<Shared>, events: mpsc::Sender<Event>, updates_max: usize) {
    loop {
        let permit = tokio::select! {
            permit = events.reserve() => permit,
            () = shared.stop.cancelled() => return,
        };
        let Ok(permit) = permit else {
            // The consumer is gone: nothing left to do for anyone.
            shared.stop.cancel();
            return;
        };
        let next = shared
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_event(updates_max);
        match next {
            Some(event) => permit.send(event),
            None => {
                drop(permit);
                tokio::select! {
                    () = shared.pending.notified() => {}
                    () = shared.stop.cancelled() => return,
                }
            }
        }
    }
}
