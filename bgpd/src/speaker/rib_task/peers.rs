//! Sessions that come and go.

use super::super::established::{Established, peer_settings};
use super::super::limits::Limits;
use super::super::rib_queue::{PeerUp, SessionId};
use super::super::write_queue::write_queue;
use super::{Peer, RibTask};
use crate::config::NeighborKey;
use crate::rib::PeerSettings;
use crate::session::{DownReason, StopReason, Timestamp};
use crate::wire::{Codec, Family, FamilySet};

impl RibTask {
    pub(super) fn peer_up(&mut self, up: PeerUp) {
        let PeerUp {
            key,
            session,
            negotiated,
            local,
            surroundings,
            out,
            monitored,
            events,
        } = up;
        if let Some(previous) = self.peers.get(&key).map(|peer| peer.session) {
            // The task of that session was replaced and has not said so yet.
            let reason = DownReason::Stopped(StopReason::ConfigurationChange);
            self.peer_down(key, previous, FamilySet::EMPTY, reason);
        }
        let Some(neighbor) = self.neighbors.get(&key) else {
            return;
        };
        let codec = negotiated.codec;
        let up = Established {
            negotiated,
            local,
            remote: monitored.remote.ip().to_canonical(),
            surroundings,
            events,
        };
        let id = self.rib.peer_up(peer_settings(neighbor, &self.config, &up));
        let now = Timestamp(self.epoch.elapsed());
        self.deferral
            .peer_up(key, codec.families, up.negotiated.graceful_restart.as_ref(), now);
        self.by_id.insert(id, key);
        self.monitors.peer_up(monitored);
        self.peers.insert(
            key,
            Peer {
                session,
                id,
                codec,
                out,
                up: Some(up),
                limits: Limits::of(neighbor),
            },
        );
    }

    pub(super) fn source_up(&mut self, session: SessionId, settings: PeerSettings) {
        let key = settings.key;
        if let Some(previous) = self.peers.get(&key).map(|peer| peer.session) {
            // Two files with the same peer: the later one counts.
            let reason = DownReason::Stopped(StopReason::ConfigurationChange);
            self.peer_down(key, previous, FamilySet::EMPTY, reason);
        }
        let codec = Codec {
            families: settings.families,
            add_path_receive: settings.add_path_receive,
            ..Codec::default()
        };
        let id = self.rib.peer_up(settings);
        self.by_id.insert(id, key);
        // What is written there goes nowhere.
        let (out, _) = write_queue();
        self.peers.insert(
            key,
            Peer {
                session,
                id,
                codec,
                out,
                up: None,
                limits: Limits::default(),
            },
        );
    }

    pub(super) fn peer_down(
        &mut self,
        key: NeighborKey,
        session: SessionId,
        retain: FamilySet,
        reason: DownReason,
    ) {
        if self.peers.get(&key).is_none_or(|peer| peer.session != session) {
            return;
        }
        if let Some(peer) = self.peers.remove(&key) {
            self.by_id.remove(&peer.id);
            self.refreshes.forget(key);
            self.monitors.peer_down(key, reason);
            self.rib.peer_down(peer.id, retain);
        }
    }

    /// RFC 4486 section 4: where all neighbours together have sent too much, the session with the one that sent most
    /// ends. Those that sent little are not the reason, whoever was the last to send something.
    pub(super) fn check_total(&mut self) {
        let Some(max) = self.config.max_paths else { return };
        let total = self.rib.received_total();
        if total <= u64::from(max) {
            return;
        }
        let received = |peer: &Peer| Family::ALL.map(|family| self.rib.received_count(peer.id, family));
        let sessions = self.peers.iter_mut().filter(|(_, peer)| peer.up.is_some());
        let most =
            sessions.max_by_key(|(key, peer)| (received(peer).iter().sum::<u32>(), std::cmp::Reverse(**key)));
        // It may have been told so already: then its routes are about to go.
        if let Some((key, peer)) = most.filter(|(_, peer)| !peer.limits.are_passed()) {
            tracing::error!(neighbor = %key, total, limit = max, "too many paths: the session with the neighbor that sent most ends");
            let event = peer.limits.run_out();
            peer.tell(event);
        }
    }
}
