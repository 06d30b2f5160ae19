//! The receiving speaker of graceful restart (RFC 4724 section 4.2, RFC 8538, RFC 9494): what of a neighbour's
//! routes is kept when its session ends.

use std::time::Duration;

use super::connection::Connection;
use super::retention::Lease;
use super::{Action, ConnectionId, DownReason, Negotiated, Session, Timestamp};
use crate::wire::notification::{CEASE, cease};
use crate::wire::{Family, FamilySet, Notification};

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
            restart: if restart.families.contains(family) {
                Duration::from_secs(restart.restart_time_s.into())
            } else {
                Duration::ZERO
            },
            long_lived: self.long_lived(negotiated, family),
        };
        // RFC 9494 section 4.2: a family may be in its capability alone.
        let long_lived = negotiated.long_lived.iter().map(|long_lived| long_lived.family);
        let families: FamilySet = families.iter().chain(long_lived).collect();
        let families = families.intersection(negotiated.codec.families);
        let leases = families.iter().map(lease);
        leases
            .filter(|lease| !(lease.restart + lease.long_lived).is_zero())
            .collect()
    }

    /// How long a neighbour's stale routes of a family stay after Restart Time: as it asks, but not longer than
    /// is set here.
    fn long_lived(&self, negotiated: &Negotiated, family: Family) -> Duration {
        let asked = negotiated
            .long_lived
            .iter()
            .find(|long_lived| long_lived.family == family);
        let asked = asked.map_or(0, |long_lived| long_lived.stale_time_s);
        Duration::from_secs(asked.into()).min(self.settings.long_lived_stale_time)
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
        let long_lived = negotiated
            .long_lived
            .iter()
            .filter(|long_lived| long_lived.preserved);
        let long_lived: FamilySet = long_lived.map(|long_lived| long_lived.family).collect();
        self.retention.session_back(
            preserved.intersection(carried),
            long_lived.intersection(carried),
            now,
        )
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
