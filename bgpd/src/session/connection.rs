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
    OpenSent,
    OpenConfirm,
    Established,
}

impl Phase {
    pub(super) const fn state(self) -> State {
        match self {
            Self::OpenSent => State::OpenSent,
            Self::OpenConfirm => State::OpenConfirm,
            Self::Established => State::Established,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    pub(super) negotiated: Option<Negotiated>,
    pub(super) read_paused: bool,
    pub(super) hold_at: Option<Timestamp>,
    pub(super) keepalive_at: Option<Timestamp>,
    pub(super) send_hold_at: Option<Timestamp>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, direction: Direction, now: Timestamp) -> Self {
        Self {
            id,
            direction,
            phase: Phase::OpenSent,
            negotiated: None,
            read_paused: false,
            hold_at: Some(now + OPEN_HOLD_TIME),
            keepalive_at: None,
            send_hold_at: None,
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
        [self.hold_at, self.keepalive_at, self.send_hold_at]
            .into_iter()
            .flatten()
            .min()
    }
}
