//! The receiving speaker of graceful restart (RFC 4724 section 4.2, RFC 8538): what of a neighbour's routes
//! is kept when its session ends.

use std::time::Duration;

use super::connection::Connection;
use super::retention::Lease;
use super::{Action, ConnectionId, DownReason, Negotiated, Session, Timestamp};
use crate::wire::notification::{CEASE, cease};
use crate::wire::{FamilySet, Notification};

impl Session {
    /// Families whose routes are kept although the session ends, and for how long.
    pub(super) fn leases(&self, connection: &Connection, reason: &DownReason) -> Vec<Lease> {
        let Some(negotiated) = &connection.negotiated else {
            return Vec::new();
        };
        let Some(restart) = &negotiated.graceful_restart else {
            return Vec::new();
        };
        if !self.settings.graceful_restart.is_helper() || !outlives(negotiated, reason) {
            return Vec::new();
        }
        let families = restart.families.intersection(negotiated.codec.families);
        let lease = |family| Lease {
            family,
            restart: Duration::from_secs(restart.restart_time_s.into()),
            long_lived: Duration::ZERO,
        };
        let leases = families.iter().map(lease);
        leases
            .filter(|lease| !(lease.restart + lease.long_lived).is_zero())
            .collect()
    }

    /// The session is back: gives the families whose stale routes go at once, because the neighbour no longer
    /// says that it has forwarded on.
    pub(super) fn session_back(&mut self, negotiated: &Negotiated, now: Timestamp) -> FamilySet {
        let preserved = negotiated
            .graceful_restart
            .as_ref()
            .map_or(FamilySet::EMPTY, |restart| {
                restart.preserved.intersection(restart.families)
            });
        let carried = negotiated.codec.families;
        self.retention
            .session_back(preserved.intersection(carried), FamilySet::EMPTY, now)
    }

    /// Keeps nothing any more.
    pub(super) fn sweep_all(&mut self, out: &mut Vec<Action>) {
        let families = self.retention.clear();
        out.extend((!families.is_empty()).then_some(Action::Sweep(families)));
    }

    /// RFC 8538 section 3.1: with a neighbour that would keep our routes over a NOTIFICATION, one that is
    /// meant to end it all goes as a Hard Reset, the other inside of it.
    pub(super) fn hardened(&self, id: ConnectionId, notification: Notification, hard: bool) -> Notification {
        let survives = self
            .find(id)
            .and_then(|connection| connection.negotiated.as_ref())
            .is_some_and(Negotiated::survives_notification);
        if !(hard && survives) {
            return notification;
        }
        notification.hard_reset()
    }
}

/// Whether this end of a session lets the neighbour's routes stay.
fn outlives(negotiated: &Negotiated, reason: &DownReason) -> bool {
    // A path that has failed carries nothing any more, whatever the neighbour goes on to do (RFC 5882 section 4.3).
    let hard = |notification: &Notification| {
        notification.code == CEASE
            && matches!(
                notification.subcode,
                cease::HARD_RESET | cease::MAX_PREFIXES | cease::BFD_DOWN
            )
    };
    match reason {
        DownReason::Closed(_) | DownReason::PeerRestarted => true,
        // RFC 4724 section 4: a NOTIFICATION ends it all. RFC 8538 section 4: but not between speakers that
        // both say so, unless it is a Hard Reset.
        DownReason::Sent(notification) | DownReason::Received(notification) => {
            negotiated.survives_notification() && !hard(notification)
        }
        DownReason::Stopped(reason) => negotiated.survives_notification() && !reason.is_final(),
    }
}
