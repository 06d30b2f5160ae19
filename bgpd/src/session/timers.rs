//! What the session's timers do when they go off.

use super::{Action, Attempt, ConnectionId, Outgoing, Session, Timestamp};
use crate::wire::Notification;
use crate::wire::notification::{CEASE, HOLD_TIMER, SEND_HOLD_TIMER, cease};

impl Session {
    pub(super) fn timer(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        match self.attempt {
            Attempt::Hold { until } | Attempt::Wait { until } if until <= now => self.connect(now, out),
            Attempt::Dial { until } if until <= now => {
                self.last_error = Some("connect: no answer".to_owned());
                self.abort_attempt(out);
                self.retry(now);
            }
            _ => {}
        }
        let expired = self.retention.timer(now);
        out.extend((!expired.swept.is_empty()).then_some(Action::Sweep(expired.swept)));
        out.extend((!expired.long_lived.is_empty()).then_some(Action::LongLivedStale(expired.long_lived)));
        for id in self
            .connections
            .iter()
            .map(|connection| connection.id)
            .collect::<Vec<_>>()
        {
            self.connection_timer(id, now, out);
        }
    }

    fn connection_timer(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else {
            return;
        };
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(connection.open_at) {
            return self.send_open(id, now, out);
        }
        if due(connection.hold_at) {
            if !connection.read_paused {
                return self.fail(id, Notification::new(HOLD_TIMER, 0), now, out);
            }
            // What the neighbour sent lies unread in our own queue: that is no silence.
            connection.refresh_hold(now);
        }
        if due(connection.path_until) {
            return self.fail(id, Notification::new(CEASE, cease::BFD_DOWN), now, out);
        }
        if due(connection.send_hold_at) {
            // RFC 9687 section 4.2. The NOTIFICATION will hardly get through; it costs nothing.
            return self.fail(id, Notification::new(SEND_HOLD_TIMER, 0), now, out);
        }
        if due(connection.keepalive_at) {
            let interval = connection
                .negotiated
                .as_ref()
                .map(|negotiated| negotiated.keepalive);
            connection.keepalive_at = interval.map(|interval| now + self.jitter.apply(interval));
            out.push(Action::Send(id, Outgoing::Keepalive));
        }
    }
}
