//! One TCP connection of a session, from OPEN on.

use std::time::Duration;

use super::settings::{OPEN_HOLD_TIME, SEND_HOLD_TIME_MIN};
use super::{ConnectionId, Negotiated, State, Timestamp};

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Outgoing,
    Incoming,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// DelayOpenTimer runs.
    Delayed,
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    pub(super) negotiated: Option<Negotiated>,
    pub(super) read_paused: bool,
    /// Until then, OPEN is not confirmed, because BFD is not up.
    pub(super) path_until: Option<Timestamp>,
    /// The neighbour has confirmed ours meanwhile.
    pub(super) confirmed: bool,
    /// DelayOpenTimer.
    pub(super) open_at: Option<Timestamp>,
    pub(super) hold_at: Option<Timestamp>,
    pub(super) keepalive_at: Option<Timestamp>,
    pub(super) send_hold_at: Option<Timestamp>,
}

impl Connection {
    /// A connection on which nothing was sent yet.
    pub(super) const fn new(id: ConnectionId, direction: Direction) -> Self {
        Self {
            id,
            direction,
            phase: Phase::Delayed,
            negotiated: None,
            read_paused: false,
            path_until: None,
            confirmed: false,
            open_at: None,
            hold_at: None,
            keepalive_at: None,
            send_hold_at: None,
        }
    }

    /// Our OPEN is on its way.
    pub(super) fn open_sent(&mut self, now: Timestamp) {
        self.phase = Phase::OpenSent;
        self.open_at = None;
        self.hold_at = Some(now + OPEN_HOLD_TIME);
    }

    pub(super) const fn state(&self) -> State {
        match (self.phase, self.direction) {
            // RFC 4271 section 8.2.2: the state stays as it was when the connection came.
            (Phase::Delayed, Direction::Outgoing) => State::Connect,
            (Phase::Delayed, Direction::Incoming) => State::Active,
            (Phase::OpenSent, _) => State::OpenSent,
            (Phase::OpenConfirm, _) if self.path_until.is_some() => State::OpenSent,
            (Phase::OpenConfirm, _) => State::OpenConfirm,
            (Phase::Established, _) => State::Established,
        }
    }

    pub(super) fn hold_time(&self) -> Option<Duration> {
        self.negotiated
            .as_ref()
            .map(|negotiated| negotiated.hold_time)
            .filter(|time| !time.is_zero())
    }

    /// The hold timer starts again: something came in.
    pub(super) fn refresh_hold(&mut self, now: Timestamp) {
        self.hold_at = self.hold_time().map(|time| now + time);
    }

    pub(super) fn stall(&mut self, now: Timestamp) {
        let time = SEND_HOLD_TIME_MIN.max(self.hold_time().unwrap_or_default() * 2);
        self.send_hold_at.get_or_insert(now + time);
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let timers = [
            self.open_at,
            self.hold_at,
            self.keepalive_at,
            self.send_hold_at,
            self.path_until,
        ];
        timers.into_iter().flatten().min()
    }
}
