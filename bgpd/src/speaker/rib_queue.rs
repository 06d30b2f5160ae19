//! What the RIB's owner is told and asked, and the two ways to it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::connection::FromConnection;
use super::interface::Surroundings;
use super::refresh::RefreshAsked;
use super::write_queue::PeerOut;
use crate::config::{Config, Neighbor, NeighborKey, Network};
use crate::monitor::{self, Mirrored, MonitoredPeer, Wanted};
use crate::rib::{PeerSettings, ReceivedUpdate, Rib};
use crate::session::{DownReason, Negotiated};
use crate::wire::{FamilySet, Prefix, RouteRefresh, Update};

/// One establishment of a session; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionId(pub(super) u64);

/// The RIB's thread has ended: the speaker stops.
#[derive(Debug)]
pub(super) struct Gone;

/// UPDATEs of one session, in order.
pub(super) struct Updates {
    pub(super) key: NeighborKey,
    pub(super) session: SessionId,
    pub(super) batch: Vec<ReceivedUpdate>,
    /// The messages as they came, where somebody wants to see them.
    pub(super) raw: Option<Bytes>,
    /// Those and all others, where somebody wants to see these.
    pub(super) mirrored: Option<Mirrored>,
    /// What came after them: the beginning or the end of a refresh (RFC 7313).
    pub(super) refresh: Option<RouteRefresh>,
}

impl Updates {
    pub(super) fn of(key: NeighborKey, session: SessionId, batch: Vec<Update>) -> Self {
        Self {
            key,
            session,
            batch: batch.into_iter().map(ReceivedUpdate::from).collect(),
            raw: None,
            mirrored: None,
            refresh: None,
        }
    }
}

/// An established session.
pub(super) struct PeerUp {
    pub(super) key: NeighborKey,
    pub(super) session: SessionId,
    pub(super) negotiated: Negotiated,
    pub(super) local: IpAddr,
    pub(super) surroundings: Surroundings,
    pub(super) out: PeerOut,
    /// For those who watch.
    pub(super) monitored: Arc<MonitoredPeer>,
    /// Where the session hears of what its routes lead to.
    pub(super) events: mpsc::UnboundedSender<FromConnection>,
}

/// What the RIB is told and asked.
pub(super) enum RibControl {
    /// A new configuration; it comes before any session of its neighbours.
    Configure(Box<Config>),
    /// One more neighbour, before any session of it.
    Neighbor(Box<Neighbor>),
    /// One less.
    Forget(NeighborKey),
    Networks(Vec<Network>),
    PeerUp(Box<PeerUp>),
    PeerDown {
        key: NeighborKey,
        session: SessionId,
        retain: FamilySet,
        reason: DownReason,
    },
    /// ROUTE-REFRESH was received. No second one waits here for a session.
    Refresh {
        key: NeighborKey,
        session: SessionId,
        asked: RefreshAsked,
    },
    /// Send a neighbour everything again.
    SendAgain {
        key: NeighborKey,
    },
    /// A peer that has no connection: its routes come from a file.
    SourceUp {
        session: SessionId,
        settings: Box<PeerSettings>,
    },
    /// Stale routes of a neighbour become a last resort.
    LongLivedStale {
        key: NeighborKey,
        families: FamilySet,
    },
    /// Stale routes of a neighbour go.
    Sweep {
        key: NeighborKey,
        families: FamilySet,
    },
    /// The writer has room again.
    Room {
        key: NeighborKey,
    },
    /// The message that ends a session, as it came, for those who watch.
    MirrorLast {
        key: NeighborKey,
        session: SessionId,
        mirrored: Mirrored,
    },
    /// Forget penalties of routes; answers how many there were.
    ClearDampening {
        neighbor: Option<NeighborKey>,
        prefix: Option<Prefix>,
        answer: oneshot::Sender<usize>,
    },
    Query(Box<dyn FnOnce(&Rib) + Send>),
    /// From those who watch.
    Monitor(monitor::Request),
    Stop,
}

/// Both ways to the RIB.
#[derive(Clone)]
pub(super) struct RibSender {
    pub(super) control: mpsc::UnboundedSender<RibControl>,
    pub(super) updates: mpsc::Sender<Updates>,
    /// What is wanted of received messages as they come.
    pub(super) wanted: Wanted,
}

impl RibSender {
    pub(super) fn control(&self, control: RibControl) {
        // Without a RIB the speaker is stopping, and nothing is to be told any more.
        let _ = self.control.send(control);
    }

    /// Waits for the end of the RIB's thread.
    pub(super) async fn closed(&self) {
        self.control.closed().await;
    }

    /// Sends UPDATEs, or gives them back for [`RibSender::updates`] if the RIB is behind.
    pub(super) fn try_updates(&self, updates: Updates) -> Result<Result<(), Updates>, Gone> {
        match self.updates.try_send(updates) {
            Ok(()) => Ok(Ok(())),
            Err(TrySendError::Full(updates)) => Ok(Err(updates)),
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// The same for threads that may wait.
    pub(super) fn updates_blocking(
        &self,
        key: NeighborKey,
        session: SessionId,
        batch: Vec<Update>,
    ) -> Result<(), Gone> {
        let updates = Updates::of(key, session, batch);
        self.updates.blocking_send(updates).map_err(|_| Gone)
    }

    /// Sends UPDATEs, waiting as long as it takes.
    pub(super) async fn updates(&self, updates: Updates) -> Result<(), Gone> {
        self.updates.send(updates).await.map_err(|_| Gone)
    }
}
