//! The writer: takes commands in groups, applies each to one commit of the file, and answers after it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, Table, WriteTransaction};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Command, Granted, Reply, State, Store};
use crate::server::Durability;
use crate::server::file::Opened;
use crate::server::file::tables::{LEASES, META, REVISIONS, RecordError, RecordsTable, meta};
use crate::server::lease::{Leases, StoredLease};
use crate::server::limits::{
    COMMANDS_QUEUED_MAX, COMMIT_COMMANDS_MAX, COMPACTION_RECORDS_PER_COMMIT_MAX, LEASE_CHECKPOINT_INTERVAL,
    LEASES_REVOKED_PER_STEP_MAX, RELAXED_SYNC_INTERVAL,
};
use crate::server::mvcc::{FIRST_REVISION, Horizon, Revision};
use crate::server::pb::etcdserverpb::CompactionRequest;
use crate::server::refusal::Refusal;
use crate::server::txn::write::Writing;
use crate::server::txn::{Failure, apply};
use crate::server::watch::recent::Change;

/// An answer that waits for its commit.
type Answer = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Why a commit failed. The store takes no more writes after it.
type CommitError = Box<dyn std::error::Error + Send + Sync>;

/// Owns every change of the store.
pub(crate) struct Writer {
    store: Arc<Store>,
    /// Gone once the store is closed or has failed.
    database: Option<Arc<Database>>,
    durability: Durability,
    keep_revisions: Option<u32>,
    /// The newest revision, committed or not.
    revision: i64,
    /// Records that a compaction left for removal, oldest first.
    doomed: VecDeque<Revision>,
    /// Compactions that are answered once nothing is doomed.
    physical: Vec<(i64, Reply<i64>)>,
    last_sync: Instant,
    unsynced: bool,
    next_checkpoint: Instant,
}

/// The tables of a commit in progress.
struct Tables<'txn> {
    records: RecordsTable<'txn>,
    leases: Table<'txn, i64, (i64, i64)>,
    meta: Table<'txn, &'static str, u64>,
}

/// What a commit did, to be published once it is done.
#[derive(Default)]
struct Outcome {
    answers: Vec<Answer>,
    changes: Vec<Arc<Change>>,
}

impl Writer {
    /// Makes the store that readers share, and its writer.
    pub(crate) fn new(
        opened: Opened,
        durability: Durability,
        keep_revisions: Option<u32>,
    ) -> (Arc<Store>, Self, mpsc::Receiver<Command>) {
        let Opened { database, contents } = opened;
        let started = Instant::now();
        let mut leases = Leases::default();
        for lease in &contents.leases {
            leases.restore(*lease, 0);
        }
        for (key, version) in contents.index.live() {
            leases.attach(version.lease, key);
        }
        let database = Arc::new(database);
        let (commands, receiver) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let revision = contents.horizon.current;
        let store = Arc::new(Store {
            identity: contents.identity,
            state: RwLock::new(State {
                index: contents.index,
                leases,
                horizon: contents.horizon,
            }),
            recent: RwLock::default(),
            database: RwLock::new(Some(Arc::clone(&database))),
            commands,
            committed: watch::channel(revision).0,
            failure: OnceLock::new(),
            started,
        });
        let writer = Self {
            store: Arc::clone(&store),
            database: Some(database),
            durability,
            keep_revisions,
            revision,
            doomed: contents.doomed.into(),
            physical: Vec::new(),
            last_sync: started,
            unsynced: false,
            next_checkpoint: started + LEASE_CHECKPOINT_INTERVAL,
        };
        (store, writer, receiver)
    }

    /// Serves commands until told to stop, then writes down what is left and closes the file.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        loop {
            let mut batch = Vec::new();
            let wake = tokio::time::Instant::from_std(self.wake_at());
            let stopping = tokio::select! {
                biased;
                received = commands.recv_many(&mut batch, COMMIT_COMMANDS_MAX) => received == 0,
                () = stop.cancelled() => true,
                () = tokio::time::sleep_until(wake) => false,
            };
            let worked = tokio::task::spawn_blocking(move || {
                if stopping {
                    self.close();
                } else {
                    self.work(batch);
                }
                self
            })
            .await;
            match worked {
                Ok(writer) if !stopping && writer.database.is_some() => self = writer,
                Ok(_) => return,
                Err(_) => {
                    tracing::error!("the writer ended unexpectedly; the store takes no more writes");
                    return;
                }
            }
        }
    }

    /// When there is something to do even if no command comes.
    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        if !self.doomed.is_empty() {
            return now;
        }
        let mut wake = self.next_checkpoint;
        if let Some(deadline) = self.store.state().leases.next_deadline() {
            wake = wake.min(self.store.started + Duration::from_millis(deadline));
        }
        if self.unsynced {
            wake = wake.min(self.last_sync + RELAXED_SYNC_INTERVAL);
        }
        wake
    }

    /// One round: the commands, then leases that ran out, records to remove, and times to write down.
    fn work(&mut self, batch: Vec<Command>) {
        let mut group = Vec::new();
        for command in batch {
            match command {
                // What comes before a compaction is committed first, so that readers can see it.
                Command::Compact(request, reply) => {
                    self.commit(std::mem::take(&mut group));
                    self.compact(request, reply);
                }
                other => group.push(other),
            }
        }
        self.commit(group);
        self.compact_if_due();
    }

    /// Applies commands, and whatever else is due, in one commit; then publishes it and answers.
    fn commit(&mut self, commands: Vec<Command>) {
        let now = self.store.now();
        let expired = self
            .store
            .state()
            .leases
            .expired(now, LEASES_REVOKED_PER_STEP_MAX);
        let checkpoint = self.take_checkpoint(false);
        let sync_due = self.unsynced && self.last_sync.elapsed() >= RELAXED_SYNC_INTERVAL;
        let idle = commands.is_empty() && expired.is_empty() && checkpoint.is_empty();
        if idle && self.doomed.is_empty() && !sync_due {
            return;
        }
        let removed = self.doomed.len().min(COMPACTION_RECORDS_PER_COMMIT_MAX);
        let mut outcome = Outcome::default();
        let done = self.transaction(|writer, tables| {
            for command in commands {
                writer.apply(command, tables, &mut outcome)?;
            }
            for id in expired {
                tracing::debug!(lease = id, "lease ran out");
                let (reply, _) = tokio::sync::oneshot::channel();
                writer.apply(Command::Revoke(id, reply), tables, &mut outcome)?;
            }
            for lease in checkpoint {
                tables
                    .leases
                    .insert(lease.id, (lease.ttl_seconds, lease.remaining_seconds))?;
            }
            for revision in writer.doomed.iter().take(removed) {
                tables.records.0.remove((revision.main, revision.sub))?;
            }
            Ok(())
        });
        match done {
            Ok(()) => {
                self.doomed.drain(..removed);
                self.publish(outcome);
            }
            Err(error) => self.fail(&error.to_string(), outcome.answers),
        }
    }

    /// One commit of the file.
    fn transaction(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Tables<'_>) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let database = self.database.clone().ok_or("the store is closed")?;
        let mut write = database.begin_write()?;
        let synced =
            self.durability == Durability::Immediate || self.last_sync.elapsed() >= RELAXED_SYNC_INTERVAL;
        if !synced {
            write.set_durability(redb::Durability::None)?;
        }
        {
            let mut tables = Tables::open(&write)?;
            work(self, &mut tables)?;
        }
        write.commit()?;
        self.unsynced = !synced;
        if synced {
            self.last_sync = Instant::now();
        }
        Ok(())
    }

    /// Applies one command to the index and the tables. A refusal is an answer; an error fails the store.
    fn apply(
        &mut self,
        command: Command,
        tables: &mut Tables<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), CommitError> {
        let store = Arc::clone(&self.store);
        let now = store.now();
        let mut state = store.state_mut();
        let State {
            index,
            leases,
            horizon,
        } = &mut *state;
        let horizon = Horizon {
            current: self.revision,
            ..*horizon
        };
        let mut writing = Writing {
            index,
            records: &mut tables.records,
            leases,
            horizon,
            events: Vec::new(),
        };
        let answer: Answer = match command {
            Command::Put(request, reply) => later(reply, settle(apply::put(&mut writing, &request))?),
            Command::Delete(request, reply) => later(reply, settle(writing.delete(&request))?),
            Command::Txn(request, reply) => later(reply, settle(apply::txn(&mut writing, &request))?),
            Command::Grant(id, ttl_seconds, reply) => {
                let granted = grant(writing.leases, id, ttl_seconds, now);
                if let Ok((id, ttl_seconds)) = granted {
                    tables.leases.insert(id, (ttl_seconds, 0))?;
                }
                let revision = self.revision;
                later(
                    reply,
                    granted.map(|(id, ttl_seconds)| Granted {
                        id,
                        ttl_seconds,
                        revision,
                    }),
                )
            }
            Command::Revoke(id, reply) => match writing.leases.revoke(id) {
                Ok(keys) => {
                    settle(writing.delete_keys(keys))?.map_err(Box::new)?;
                    tables.leases.remove(id)?;
                    later(reply, Ok(writing.revision()))
                }
                Err(refusal) => later(reply, Err(refusal)),
            },
            Command::Renewed(lease, reply) => {
                if writing.leases.exists(lease.id) {
                    tables
                        .leases
                        .insert(lease.id, (lease.ttl_seconds, lease.remaining_seconds))?;
                }
                later(reply, Ok(()))
            }
            // Committed alone, by `compact`.
            Command::Compact(_, reply) => later(reply, Err(Refusal::Stopped)),
        };
        outcome.answers.push(answer);
        if !writing.events.is_empty() {
            self.revision += 1;
            let change = Change {
                revision: self.revision,
                events: writing.events,
            };
            outcome.changes.push(Arc::new(change));
        }
        Ok(())
    }

    /// Forgets history before a revision: first as a fact in the file, then record by record.
    fn compact(&mut self, request: CompactionRequest, reply: Reply<i64>) {
        if let Some(refusal) = self.check_compaction(request.revision) {
            let _ = reply.send(Err(refusal));
            return;
        }
        match self.compact_at(request.revision) {
            Err(reason) => self.fail(&reason, vec![later(reply, Ok(self.revision))]),
            Ok(()) if request.physical => {
                self.physical.push((self.revision, reply));
                self.answer_physical();
            }
            Ok(()) => {
                let _ = reply.send(Ok(self.revision));
            }
        }
    }

    fn check_compaction(&self, revision: i64) -> Option<Refusal> {
        let horizon = self.store.state().horizon;
        if revision <= horizon.compacted {
            Some(Refusal::Compacted)
        } else if revision > horizon.current {
            Some(Refusal::FutureRevision)
        } else {
            None
        }
    }

    fn compact_at(&mut self, revision: i64) -> Result<(), String> {
        let stored = u64::try_from(revision).unwrap_or(0);
        self.transaction(|_, tables| {
            tables.meta.insert(meta::COMPACTED, stored)?;
            Ok(())
        })
        .map_err(|error| error.to_string())?;
        let mut state = self.store.state_mut();
        state.horizon.compacted = revision;
        self.doomed.extend(state.index.compact(revision));
        drop(state);
        tracing::info!(revision, records = self.doomed.len(), "compacted");
        Ok(())
    }

    /// Compacts by itself once half as many revisions again as are to be kept have gathered.
    fn compact_if_due(&mut self) {
        let Some(kept) = self.keep_revisions.map(i64::from) else {
            return;
        };
        let oldest = self.store.state().horizon.compacted.max(FIRST_REVISION);
        if self.database.is_some() && self.revision - oldest > kept + kept / 2 {
            let revision = self.revision - kept;
            if let Err(reason) = self.compact_at(revision) {
                self.fail(&reason, Vec::new());
            }
        }
    }

    fn answer_physical(&mut self) {
        if self.doomed.is_empty() {
            for (revision, reply) in self.physical.drain(..) {
                let _ = reply.send(Ok(revision));
            }
        }
    }

    /// Shows a commit to readers and watches, then answers.
    fn publish(&mut self, outcome: Outcome) {
        if !outcome.changes.is_empty() {
            let mut recent = self.store.recent.write().unwrap_or_else(PoisonError::into_inner);
            outcome.changes.into_iter().for_each(|change| recent.push(change));
        }
        self.store.state_mut().horizon.current = self.revision;
        self.store
            .committed
            .send_if_modified(|revision| std::mem::replace(revision, self.revision) != self.revision);
        outcome.answers.into_iter().for_each(|answer| answer(Ok(())));
        self.answer_physical();
    }

    /// After a failed commit the index no longer agrees with the file: reads of what was committed go on,
    /// writes do not, until the store is started again.
    fn fail(&mut self, reason: &str, answers: Vec<Answer>) {
        tracing::error!(reason, "the store cannot write its file and takes no more writes");
        let reason = self.store.failure.get_or_init(|| reason.to_owned());
        for answer in answers {
            answer(Err(Refusal::Storage(reason.clone())));
        }
        for (_, reply) in self.physical.drain(..) {
            let _ = reply.send(Err(Refusal::Storage(reason.clone())));
        }
        self.database = None;
    }

    /// The remaining times that are due to be written down.
    fn take_checkpoint(&mut self, all: bool) -> Vec<StoredLease> {
        let now = Instant::now();
        if !all && now < self.next_checkpoint {
            return Vec::new();
        }
        self.next_checkpoint = now + LEASE_CHECKPOINT_INTERVAL;
        self.store.state_mut().leases.checkpoint(self.store.now(), all)
    }

    /// Writes down how long each lease has left, and closes the file.
    fn close(&mut self) {
        let checkpoint = self.take_checkpoint(true);
        self.durability = Durability::Immediate;
        if !checkpoint.is_empty() || self.unsynced {
            let done = self.transaction(|_, tables| {
                for lease in checkpoint {
                    tables
                        .leases
                        .insert(lease.id, (lease.ttl_seconds, lease.remaining_seconds))?;
                }
                Ok(())
            });
            if let Err(error) = done {
                tracing::error!(%error, "the remaining times of leases could not be written");
            }
        }
        self.database = None;
        let shared = self
            .store
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Readers hold the database only while they take a snapshot.
        if let Some(database) = shared.and_then(Arc::into_inner)
            && let Err(error) = database.close()
        {
            tracing::error!(%error, "the store's file was not closed cleanly");
        }
    }
}

impl<'txn> Tables<'txn> {
    fn open(write: &'txn WriteTransaction) -> Result<Self, CommitError> {
        Ok(Self {
            records: RecordsTable(write.open_table(REVISIONS)?),
            leases: write.open_table(LEASES)?,
            meta: write.open_table(META)?,
        })
    }
}

/// Separates a refusal, which is an answer, from a failure of the file.
fn settle<T>(result: Result<T, Failure<RecordError>>) -> Result<Result<T, Refusal>, CommitError> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Failure::Refused(refusal)) => Ok(Err(refusal)),
        Err(Failure::Storage(error)) => Err(error.into()),
    }
}

/// An answer for after the commit. The caller may be gone by then, which is no matter.
fn later<T: Send + 'static>(reply: Reply<T>, result: Result<T, Refusal>) -> Answer {
    Box::new(move |committed| {
        let _ = reply.send(committed.and(result));
    })
}

/// Grants a lease, under an id of the store's choice if none is asked for.
fn grant(leases: &mut Leases, id: i64, ttl_seconds: i64, now: u64) -> Result<(i64, i64), Refusal> {
    let mut chosen = id;
    while chosen == 0 || (id == 0 && leases.exists(chosen)) {
        chosen = rand::random::<i64>() & i64::MAX;
    }
    leases
        .grant(chosen, ttl_seconds, now)
        .map(|ttl_seconds| (chosen, ttl_seconds))
}
