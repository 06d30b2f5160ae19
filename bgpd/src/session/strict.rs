//! What BFD says of the path to the neighbour: whether it has failed, and, in strict mode
//! (draft-ietf-idr-bgp-bfd-strict-mode), whether it is there at all.
//!
//! In strict mode an OPEN that is acceptable is not confirmed before BFD is up: KEEPALIVE is held back, and the state
//! is still OpenSent. A neighbour that has seen BFD come up a little earlier may have confirmed ours meanwhile.

use super::{Action, ConnectionId, Outgoing, Session, Timestamp};
use crate::wire::Notification;
use crate::wire::notification::{CEASE, cease};

impl Session {
    /// BFD is up, or no longer: what has waited for it goes on.
    pub(super) fn path_state(&mut self, is_up: bool, now: Timestamp, out: &mut Vec<Action>) {
        self.path_up = is_up;
        let waiting = self.connections.iter();
        let waiting = waiting.filter(|connection| is_up && connection.path_until.is_some());
        for id in waiting.map(|connection| connection.id).collect::<Vec<_>>() {
            self.confirm(id, now, out);
            if self.find(id).is_some_and(|connection| connection.confirmed) {
                self.establish(id, now, out);
            }
        }
    }

    /// The neighbour's OPEN is confirmed, unless BFD has to be up for that and is not.
    pub(super) fn confirm_when_reachable(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        let negotiated = self
            .find(id)
            .and_then(|connection| connection.negotiated.as_ref());
        match negotiated.and_then(|negotiated| negotiated.bfd_strict) {
            Some(time) if !self.path_up => {
                self.with(id, |connection| connection.path_until = Some(now + time));
            }
            _ => self.confirm(id, now, out),
        }
    }

    fn confirm(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        let negotiated = self
            .find(id)
            .and_then(|connection| connection.negotiated.as_ref());
        let keepalive = negotiated
            .map(|negotiated| negotiated.keepalive)
            .unwrap_or_default();
        let keepalive_at = (!keepalive.is_zero()).then(|| now + self.jitter.apply(keepalive));
        self.with(id, |connection| {
            connection.path_until = None;
            connection.keepalive_at = keepalive_at;
            connection.refresh_hold(now);
        });
        out.push(Action::Send(id, Outgoing::Keepalive));
    }

    /// RFC 9384 section 3: ends what runs over the path. No routes are kept, on either side, because packets
    /// would not arrive. What was kept before, for a neighbour whose control plane restarts, stays if its BFD
    /// ends with its control plane (RFC 5882 section 4.3.2), and goes if not (section 4.3.1).
    pub(super) fn path_failed(
        &mut self,
        is_control_plane_independent: bool,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        self.path_up = false;
        let ids: Vec<ConnectionId> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            let down = self.hardened(id, Notification::new(CEASE, cease::BFD_DOWN), true);
            self.fail(id, down, now, out);
        }
        if is_control_plane_independent {
            self.sweep_all(out);
        }
    }
}
