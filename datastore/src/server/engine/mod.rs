//! The store at work: one writer that commits, any number of readers, and word of each commit to watches.

mod reads;
mod writer;

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::reads::Step;
pub(crate) use self::writer::Writer;
use crate::server::file::Identity;
use crate::server::file::tables::{REVISIONS, Snapshot};
use crate::server::lease::{Leases, Milliseconds};
use crate::server::mvcc::Horizon;
use crate::server::mvcc::index::Index;
use crate::server::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
    TxnRequest, TxnResponse,
};
use crate::server::refusal::Refusal;
use crate::server::watch::recent::Recent;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the writer is asked to do.
pub(crate) enum Command {
    Put(PutRequest, Reply<PutResponse>),
    Delete(DeleteRangeRequest, Reply<DeleteRangeResponse>),
    Txn(TxnRequest, Reply<TxnResponse>),
    /// Answers the revision.
    Compact(CompactionRequest, Reply<i64>),
    /// Asks for an id (zero: choose one) and seconds; answers id, seconds and revision.
    Grant(i64, i64, Reply<Granted>),
    /// Answers the revision.
    Revoke(i64, Reply<i64>),
    /// A renewal that the file must know before it is answered.
    Renewed(crate::server::lease::StoredLease, Reply<()>),
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) id: i64,
    pub(crate) ttl_seconds: i64,
    pub(crate) revision: i64,
}

/// What readers see. The index may already hold changes that are not committed; the horizon hides them.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) leases: Leases,
    pub(crate) horizon: Horizon,
}

/// The store as its services share it.
pub(crate) struct Store {
    pub(crate) identity: Identity,
    state: RwLock<State>,
    recent: RwLock<Recent>,
    /// Gone once the store is closed.
    database: RwLock<Option<Arc<Database>>>,
    commands: mpsc::Sender<Command>,
    committed: watch::Sender<i64>,
    /// Why the store takes no more writes.
    failure: OnceLock<String>,
    started: Instant,
}

impl Store {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest committed revision.
    pub(crate) fn revision(&self) -> i64 {
        *self.committed.borrow()
    }

    /// Follows the newest committed revision.
    pub(crate) fn committed(&self) -> watch::Receiver<i64> {
        self.committed.subscribe()
    }

    /// The store's clock.
    pub(crate) fn now(&self) -> Milliseconds {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Why the store takes no more writes, if it does not.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until the writer takes no more commands.
    pub(crate) async fn closed(&self) {
        self.commands.closed().await;
    }

    /// Hands a command to the writer and waits for its answer, which comes after the commit.
    pub(crate) async fn write<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())?
    }

    /// Gives a lease its whole time again; nothing if there is no such lease.
    pub(crate) async fn renew(&self, id: i64) -> Result<Option<i64>, Refusal> {
        let renewal = self.state_mut().leases.renew(id, self.now());
        let Some(renewal) = renewal else { return Ok(None) };
        if let Some(stored) = renewal.must_store {
            self.write(|reply| Command::Renewed(stored, reply)).await?;
        }
        Ok(Some(renewal.ttl_seconds))
    }

    /// An answer's header.
    pub(crate) fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let Identity {
            cluster_id,
            member_id,
            starts,
        } = self.identity;
        Some(ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term: starts,
        })
    }

    fn stopped(&self) -> Refusal {
        self.failure()
            .map_or(Refusal::Stopped, |reason| Refusal::Storage(reason.to_owned()))
    }

    fn database(&self) -> Result<Arc<Database>, Refusal> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.as_ref().map(Arc::clone).ok_or_else(|| self.stopped())
    }

    /// The records as of the newest commit.
    fn snapshot(&self) -> Result<Snapshot, Refusal> {
        let read = self
            .database()?
            .begin_read()
            .map_err(|error| Refusal::Storage(error.to_string()))?;
        Ok(Snapshot(
            read.open_table(REVISIONS)
                .map_err(|error| Refusal::Storage(error.to_string()))?,
        ))
    }
}
