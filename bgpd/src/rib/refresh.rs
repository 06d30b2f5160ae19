//! Route refresh (RFC 2918), with its beginning and its end told (RFC 7313): ours to a peer, and a peer's to us.

use super::groups::{Dump, Membership, Outgoing, Transmit};
use super::{PeerId, Rib};
use crate::wire::{Family, Prefix, RefreshKind};

impl Rib {
    /// The peer is to have the whole table of a family once more. While that is under way, or its first table is,
    /// at most one more follows, however often it asks.
    pub fn refresh(&mut self, id: PeerId, family: Family) {
        if let Some(membership) = self.membership_mut(id, family) {
            membership.refresh_due = true;
            self.start_refresh(id, family);
        }
    }

    /// Begins what is due, unless something else has to end before. RFC 7313 section 4: nothing begins before
    /// End-of-RIB.
    pub(super) fn start_refresh(&mut self, id: PeerId, family: Family) {
        let Some(membership) = self.membership_mut(id, family) else {
            return;
        };
        if !membership.refresh_due || membership.refreshing || membership.end_of_rib_due {
            return;
        }
        membership.refresh_due = false;
        membership.refreshing = true;
        let lag = membership.lag.get_or_insert_default();
        lag.dump = Some(Dump { next: 0, again: true });
        self.queue_refresh(id, family, RefreshKind::Begin);
        if self.peers.get(&id).is_some_and(|peer| !peer.paused) {
            self.groups.lagging.insert((id, family));
        }
    }

    /// Ends a refresh once the last part of the table is on its way.
    pub(super) fn finish_refresh(&mut self, id: PeerId, family: Family) {
        let Some(membership) = self.membership_mut(id, family) else {
            return;
        };
        let dumps = membership.lag.as_ref().is_some_and(|lag| lag.dump.is_some());
        if membership.refreshing && !dumps {
            membership.refreshing = false;
            self.queue_refresh(id, family, RefreshKind::End);
            self.start_refresh(id, family);
        }
    }

    fn queue_refresh(&mut self, id: PeerId, family: Family, kind: RefreshKind) {
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.settings.enhanced_refresh)
        {
            self.groups.outbox.push_back(Transmit {
                peers: vec![id],
                family,
                outgoing: Outgoing::Refresh(kind),
            });
        }
    }

    fn membership_mut(&mut self, id: PeerId, family: Family) -> Option<&mut Membership> {
        self.peers.get_mut(&id)?.membership_mut(family).as_mut()
    }

    /// The peer is about to send a whole family once more: what it does not send is gone with
    /// [`Rib::end_refresh`] (RFC 7313 section 4).
    pub fn begin_refresh(&mut self, id: PeerId, family: Family) {
        if let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.up) {
            peer.refreshing.insert(family);
            self.mark_stale(id, family);
        }
    }

    /// The peer has sent a whole family once more, or was given up on: what is still stale is gone. Gives the
    /// routes that it was, with the identifiers of their paths; 0 without add-path.
    pub fn end_refresh(&mut self, id: PeerId, family: Family) -> Vec<(Prefix, u32)> {
        let peer = self.peers.get_mut(&id);
        if !peer.is_some_and(|peer| peer.refreshing.remove(family)) {
            return Vec::new();
        }
        let gone = self.routes_of(id, family, |path| path.stale);
        let gone = gone.into_iter().map(|(route, _)| route).collect();
        self.sweep_stale(id, family);
        gone
    }
}
