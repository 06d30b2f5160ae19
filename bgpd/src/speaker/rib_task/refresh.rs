//! Neighbours that send a family once more (RFC 7313 section 4).

use super::RibTask;
use crate::config::NeighborKey;
use crate::monitor::Touched;
use crate::rib::PeerId;
use crate::session::Timestamp;
use crate::wire::{Family, RefreshKind, RouteRefresh};

impl RibTask {
    /// A neighbour begins to send a family once more, or has done so (RFC 7313 section 4).
    pub(super) fn refreshed(&mut self, key: NeighborKey, id: PeerId, refresh: RouteRefresh) {
        let RouteRefresh { kind, family } = refresh;
        match kind {
            RefreshKind::Request => {}
            RefreshKind::Begin => {
                let up = self.peers.get(&key).and_then(|peer| peer.up.as_ref());
                let restarts = up.is_some_and(|up| up.negotiated.graceful_restart.is_some());
                if restarts && !self.rib.has_end_of_rib(id, family) {
                    tracing::warn!(neighbor = %key, %family, "beginning of a refresh before End-of-RIB passed over");
                    return;
                }
                tracing::debug!(neighbor = %key, %family, "a refresh begins");
                self.rib.begin_refresh(id, family);
                let now = Timestamp(self.epoch.elapsed());
                self.refreshes.begin(key, family, now);
            }
            RefreshKind::End => {
                if self.refreshes.end(key, family) {
                    tracing::debug!(neighbor = %key, %family, "a refresh ends");
                    self.end_refresh(key, id, family);
                } else {
                    tracing::debug!(neighbor = %key, %family, "end of a refresh that has not begun passed over");
                }
            }
        }
    }

    pub(super) fn end_refresh(&mut self, key: NeighborKey, id: PeerId, family: Family) {
        let gone = self.rib.end_refresh(id, family);
        if gone.is_empty() {
            return;
        }
        tracing::info!(neighbor = %key, %family, routes = gone.len(), "routes that a refresh has not brought again go");
        if self.monitors.wants_updates() {
            let touched = Touched::routes(gone);
            self.monitors.updates((key, id), None, &touched, &self.rib);
        }
    }

    /// Gives up on refreshes whose end does not come.
    pub(super) fn expire_refreshes(&mut self) {
        for (key, family) in self.refreshes.expired(Timestamp(self.epoch.elapsed())) {
            tracing::warn!(neighbor = %key, %family, "a refresh has not ended in time");
            if let Some(id) = self.peers.get(&key).map(|peer| peer.id) {
                self.end_refresh(key, id, family);
            }
        }
    }
}
