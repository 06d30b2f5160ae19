//! The session with one neighbour: the state machine of RFC 4271 section 8, without I/O or clock.
//!
//! [`Session::handle`] takes an event and the time and returns what to do; [`Session::poll_timeout`]
//! says when it wants [`Event::Timer`]. Connections are the caller's: the session knows them by
//! number. There may be two at once, one in each direction, until OPEN tells which one stays
//! (section 6.8). Routes do not pass through here: the caller takes them from the connection that
//! [`Action::Up`] names.

mod collision;
mod connection;
mod event;
pub(crate) mod jitter;
mod negotiation;
mod record;
mod restart;
mod retention;
mod settings;
mod strict;
mod timers;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use connection::{Connection, Direction, Phase};
pub use event::{Action, ConnectionId, DownReason, Event, Outgoing, Received, StopReason, Timestamp};
use jitter::Jitter;
pub use negotiation::Negotiated;
use negotiation::negotiate;
pub use record::{Entry, Recording, ReplayError, Step, replay};
use retention::Retention;
pub use retention::STALE_PATH_TIME;
pub use settings::{
    CONNECT_TIME, OPEN_HOLD_TIME, RETRY_TIME_MAX, RETRY_TIME_MIN, SEND_HOLD_TIME_MIN, STABLE_TIME, Settings,
};

use crate::wire::notification::{CEASE, FSM, OPEN, cease, fsm, open};
use crate::wire::{FamilySet, MessageType, Notification, Open};

/// The states of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// Stopped, or waiting after an error.
    Idle,
    /// Connecting.
    Connect,
    /// Waiting for the neighbour to connect, or for the next attempt.
    Active,
    /// OPEN was sent.
    OpenSent,
    /// OPEN was received.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What is done to get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Nothing: stopped, or there is a connection.
    None,
    /// IdleHoldTimer runs: nothing is tried and nothing is accepted.
    Hold { until: Timestamp },
    /// The neighbour sent too many routes: nothing is tried and nothing is accepted until an operator acts.
    Barred,
    /// ConnectRetryTimer runs, and the neighbour may connect.
    Wait { until: Timestamp },
    /// The neighbour has to connect.
    Listen,
    /// We are connecting.
    Dial { until: Timestamp },
}

/// The session with one neighbour.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    jitter: Jitter,
    running: bool,
    attempt: Attempt,
    /// At most one that we made, and of those that the neighbour made, one before OPEN and one after.
    connections: Vec<Connection>,
    /// What is kept of the neighbour's routes while it is away.
    retention: Retention,
    /// Whether BFD is up.
    path_up: bool,
    /// Attempts and short sessions in a row that came to nothing.
    failures: u32,
    /// When the session was established last.
    established_at: Option<Timestamp>,
    flaps: u64,
    since: Timestamp,
    last_error: Option<String>,
}

impl Session {
    /// A stopped session. Equal seeds give equal jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            jitter: Jitter::new(seed),
            running: false,
            attempt: Attempt::None,
            connections: Vec::new(),
            retention: Retention::default(),
            path_up: false,
            failures: 0,
            established_at: None,
            flaps: 0,
            since: Timestamp::default(),
            last_error: None,
        }
    }

    /// The state of the connection that has come furthest.
    pub fn state(&self) -> State {
        let furthest = self.connections.iter().map(Connection::state).max();
        furthest.unwrap_or(match self.attempt {
            Attempt::None | Attempt::Hold { .. } | Attempt::Barred => State::Idle,
            Attempt::Wait { .. } | Attempt::Listen => State::Active,
            Attempt::Dial { .. } => State::Connect,
        })
    }

    /// When the state changed last.
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// How often the session was lost after it had been established.
    pub const fn flaps(&self) -> u64 {
        self.flaps
    }

    /// What went wrong last.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Families whose routes are kept while the neighbour is away, or until it has sent them again.
    pub fn retained(&self) -> FamilySet {
        self.retention.families()
    }

    /// What was agreed on, while established.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established()?.negotiated.as_ref()
    }

    /// When [`Event::Timer`] is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let attempt = match self.attempt {
            Attempt::None | Attempt::Listen | Attempt::Barred => None,
            Attempt::Hold { until } | Attempt::Wait { until } | Attempt::Dial { until } => Some(until),
        };
        self.connections
            .iter()
            .filter_map(Connection::deadline)
            .chain(attempt)
            .chain(self.retention.deadline())
            .min()
    }

    /// Takes an event and says what to do.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let before = self.state();
        let mut actions = Vec::new();
        self.dispatch(event, now, &mut actions);
        if self.state() != before {
            self.since = now;
        }
        actions
    }

    fn dispatch(&mut self, event: Event, now: Timestamp, out: &mut Vec<Action>) {
        match event {
            Event::Start if self.running => {}
            Event::Start => {
                self.running = true;
                self.failures = 0;
                self.connect(now, out);
            }
            Event::Stop(reason) => self.stop(reason, now, out),
            Event::Configure(settings) => self.configure(*settings, now, out),
            Event::PrefixLimit {
                family,
                limit,
                restart,
            } => self.refuse_routes(Notification::max_prefixes(family, limit), restart, now, out),
            Event::OutOfResources { restart } => {
                let notification = Notification::new(CEASE, cease::OUT_OF_RESOURCES);
                self.refuse_routes(notification, Some(restart), now, out);
            }
            Event::Timer => self.timer(now, out),
            Event::Connected(id) => match self.attempt {
                Attempt::Dial { .. } => {
                    self.attempt = Attempt::None;
                    self.open(id, Direction::Outgoing, now, out);
                }
                _ => out.push(Action::Close(id)),
            },
            Event::ConnectFailed(reason) => {
                if matches!(self.attempt, Attempt::Dial { .. }) {
                    self.last_error = Some(format!("connect: {reason}"));
                    self.attempt = Attempt::None;
                    self.retry(now);
                }
            }
            Event::Accepted(id) => self.accept(id, now, out),
            Event::Closed(id, reason) => self.closed(id, reason, now, out),
            Event::Received(id, message) => self.received(id, message, now, out),
            Event::Malformed(id, notification) => self.fail(id, notification, now, out),
            Event::ReadPaused(id) => self.with(id, |connection| connection.read_paused = true),
            Event::ReadResumed(id) => self.with(id, |connection| {
                connection.read_paused = false;
                connection.refresh_hold(now);
            }),
            Event::WriteStalled(id) => self.with(id, |connection| connection.stall(now)),
            Event::WriteResumed(id) => self.with(id, |connection| connection.send_hold_at = None),
            Event::PathState { is_up } => self.path_state(is_up, now, out),
            Event::PathFailed {
                is_control_plane_independent,
            } => self.path_failed(is_control_plane_independent, now, out),
            Event::RestartComplete => self.settings.restarting = false,
        }
    }

    fn established(&self) -> Option<&Connection> {
        self.connections
            .iter()
            .find(|connection| connection.phase == Phase::Established)
    }

    fn find(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|connection| connection.id == id)
    }

    fn with(&mut self, id: ConnectionId, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            change(connection);
        }
    }

    /// Starts to connect, or to wait for the neighbour.
    fn connect(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.settings.passive {
            self.attempt = Attempt::Listen;
        } else {
            self.attempt = Attempt::Dial {
                until: now + CONNECT_TIME,
            };
            out.push(Action::Connect);
        }
    }

    fn abort_attempt(&mut self, out: &mut Vec<Action>) {
        if matches!(self.attempt, Attempt::Dial { .. }) {
            out.push(Action::AbortConnect);
        }
        self.attempt = Attempt::None;
    }

    fn retry_time(&mut self) -> Duration {
        let doubled = RETRY_TIME_MIN.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        self.jitter.apply(doubled.min(RETRY_TIME_MAX))
    }

    /// Waits for the next attempt, if nothing else is under way.
    fn retry(&mut self, now: Timestamp) {
        if !self.running || self.attempt != Attempt::None || !self.connections.is_empty() {
            return;
        }
        self.attempt = if self.settings.passive {
            Attempt::Listen
        } else {
            Attempt::Wait {
                until: now + self.retry_time(),
            }
        };
    }

    /// Waits in Idle after an error, if nothing else is under way.
    fn hold(&mut self, now: Timestamp) {
        if self.running && self.attempt == Attempt::None && self.connections.is_empty() {
            self.attempt = Attempt::Hold {
                until: now + self.retry_time(),
            };
        }
    }

    /// A connection is there: OPEN is sent, at once or after DelayOpenTime.
    fn open(&mut self, id: ConnectionId, direction: Direction, now: Timestamp, out: &mut Vec<Action>) {
        let mut connection = Connection::new(id, direction);
        connection.open_at = self.settings.delay_open.map(|delay| now + delay);
        let delayed = connection.open_at.is_some();
        self.connections.push(connection);
        if !delayed {
            self.send_open(id, now, out);
        }
    }

    fn send_open(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        let open = self.settings.open(self.established_at.is_some());
        self.with(id, |connection| connection.open_sent(now));
        out.push(Action::Send(id, Outgoing::Open(open)));
    }

    fn accept(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        if !self.running || self.attempt == Attempt::Barred {
            // RFC 4486 section 4: it will not be wanted soon.
            let rejected = Notification::new(CEASE, cease::CONNECTION_REJECTED);
            out.extend([
                Action::Send(id, Outgoing::Notification(rejected)),
                Action::Close(id),
            ]);
            return;
        }
        if matches!(self.attempt, Attempt::Hold { .. }) {
            out.push(Action::Close(id));
            return;
        }
        // The neighbour has given up on one that got nowhere, or it would not connect again.
        let waiting =
            |other: &&Connection| other.direction == Direction::Incoming && other.phase <= Phase::OpenSent;
        if let Some(old) = self.connections.iter().find(waiting).map(|other| other.id) {
            self.drop_connection(old, None, out);
        }
        if matches!(self.attempt, Attempt::Wait { .. } | Attempt::Listen) {
            self.attempt = Attempt::None;
        }
        self.open(id, Direction::Incoming, now, out);
    }

    /// Forgets a connection, with a NOTIFICATION if there is one to send.
    fn drop_connection(
        &mut self,
        id: ConnectionId,
        notification: Option<Notification>,
        out: &mut Vec<Action>,
    ) {
        self.connections.retain(|connection| connection.id != id);
        out.extend(notification.map(|notification| Action::Send(id, Outgoing::Notification(notification))));
        out.push(Action::Close(id));
    }

    /// The session is no longer established. Call it before the connection is forgotten.
    fn down(&mut self, id: ConnectionId, reason: DownReason, now: Timestamp, out: &mut Vec<Action>) {
        self.last_error = Some(reason.to_string());
        let Some(connection) = self.established().filter(|connection| connection.id == id) else {
            return;
        };
        let leases = self.leases(connection, &reason);
        self.retention.session_lost(&leases, now);
        let stable = self.established_at.is_none_or(|at| at + STABLE_TIME <= now);
        self.failures = if stable { 0 } else { self.failures };
        self.flaps += 1;
        out.push(Action::Down {
            reason,
            retain: self.retention.families(),
        });
    }

    fn stop(&mut self, reason: StopReason, now: Timestamp, out: &mut Vec<Action>) {
        self.running = false;
        self.abort_attempt(out);
        let notification = reason.notification(self.settings.shutdown_message.as_deref());
        for id in self
            .connections
            .iter()
            .map(|connection| connection.id)
            .collect::<Vec<_>>()
        {
            let notification = notification
                .clone()
                .map(|notification| self.hardened(id, notification, reason.is_final()));
            self.down(id, DownReason::Stopped(reason), now, out);
            self.drop_connection(id, notification, out);
        }
        if reason == StopReason::Shutdown {
            self.last_error = Some(DownReason::Stopped(reason).to_string());
        }
        if reason.is_final() {
            self.sweep_all(out);
        }
    }

    fn configure(&mut self, settings: Settings, now: Timestamp, out: &mut Vec<Action>) {
        // Whether this process has completed its restart is no setting.
        let restarting = self.settings.restarting;
        let before = std::mem::replace(
            &mut self.settings,
            Settings {
                restarting,
                ..settings
            },
        );
        // Nor is which of our ASes the neighbour expects.
        if self.settings.alternative_as == Some(before.local_as)
            && before.alternative_as == Some(self.settings.local_as)
        {
            self.settings.swap_as();
        }
        if !self.settings.graceful_restart.is_helper() {
            self.sweep_all(out);
        }
        let keepalive = self.settings.keepalive;
        for connection in &mut self.connections {
            if let Some(negotiated) = &mut connection.negotiated {
                negotiated.keepalive = negotiation::keepalive(keepalive, negotiated.hold_time);
                let soon = (!negotiated.keepalive.is_zero()).then(|| now + negotiated.keepalive);
                connection.keepalive_at = connection.keepalive_at.min(soon);
            }
        }
        if self.attempt == Attempt::Listen && !self.settings.passive {
            self.connect(now, out);
        }
    }

    /// RFC 4271 section 6.7, RFC 4486 section 4: the session ends because of what the neighbour has sent, which is not
    /// kept.
    fn refuse_routes(
        &mut self,
        notification: Notification,
        restart: Option<Duration>,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        let Some(id) = self.established().map(|connection| connection.id) else {
            return;
        };
        let hard = self.hardened(id, notification.clone(), true);
        self.abort_attempt(out);
        self.down(id, DownReason::Sent(notification), now, out);
        self.drop_connection(id, Some(hard), out);
        self.sweep_all(out);
        self.attempt = match restart {
            Some(time) => Attempt::Hold { until: now + time },
            None => Attempt::Barred,
        };
    }

    /// Answers an error on a connection and ends it.
    fn fail(&mut self, id: ConnectionId, notification: Notification, now: Timestamp, out: &mut Vec<Action>) {
        if self.find(id).is_none() {
            return;
        }
        self.down(id, DownReason::Sent(notification.clone()), now, out);
        self.drop_connection(id, Some(notification), out);
        self.hold(now);
    }

    fn closed(&mut self, id: ConnectionId, reason: String, now: Timestamp, out: &mut Vec<Action>) {
        if self.find(id).is_none() {
            return;
        }
        self.down(id, DownReason::Closed(reason), now, out);
        self.drop_connection(id, None, out);
        self.retry(now);
    }

    fn received(&mut self, id: ConnectionId, message: Received, now: Timestamp, out: &mut Vec<Action>) {
        let Some(phase) = self.find(id).map(|connection| connection.phase) else {
            return;
        };
        match (phase, message) {
            (_, Received::Notification(notification)) => {
                if (notification.code, notification.subcode) == (OPEN, open::BAD_PEER_AS) {
                    self.settings.swap_as();
                }
                self.down(id, DownReason::Received(notification), now, out);
                self.drop_connection(id, None, out);
                self.retry(now);
            }
            // RFC 4271 section 8.2.2, event 20: the neighbour's OPEN ends the wait.
            (Phase::Delayed, Received::Open(open)) => {
                self.send_open(id, now, out);
                self.opened(id, &open, now, out);
            }
            // Nothing was sent yet, and nothing is now.
            (Phase::Delayed, _) => self.closed(id, "unexpected message before OPEN".to_owned(), now, out),
            (Phase::OpenSent, Received::Open(open)) => self.opened(id, &open, now, out),
            (Phase::OpenConfirm, Received::Keepalive) => {
                if self
                    .find(id)
                    .is_some_and(|connection| connection.path_until.is_some())
                {
                    self.with(id, |connection| connection.confirmed = true);
                } else {
                    self.establish(id, now, out);
                }
            }
            (Phase::Established, Received::EndOfRib(family)) => {
                self.retention.end_of_rib(family);
                self.with(id, |connection| connection.refresh_hold(now));
            }
            (Phase::Established, Received::Keepalive | Received::Update | Received::RouteRefresh) => {
                self.with(id, |connection| connection.refresh_hold(now));
            }
            (phase, message) => self.fail(id, unexpected(phase, &message), now, out),
        }
    }

    fn opened(&mut self, id: ConnectionId, open: &Open, now: Timestamp, out: &mut Vec<Action>) {
        let negotiated = match negotiate(&self.settings, open) {
            Ok(negotiated) => negotiated,
            Err(notification) => return self.fail(id, notification, now, out),
        };
        if !self.survives_collision(id, &negotiated, now, out) {
            return;
        }
        let codec = negotiated.codec;
        self.with(id, |connection| {
            connection.phase = Phase::OpenConfirm;
            connection.negotiated = Some(negotiated);
        });
        out.push(Action::Opened(id, codec));
        self.confirm_when_reachable(id, now, out);
    }

    fn establish(&mut self, id: ConnectionId, now: Timestamp, out: &mut Vec<Action>) {
        self.abort_attempt(out);
        let others = self
            .connections
            .iter()
            .filter(|other| other.id != id)
            .map(|other| other.id);
        for other in others.collect::<Vec<_>>() {
            self.drop_connection(other, Some(Notification::new(CEASE, cease::COLLISION)), out);
        }
        self.established_at = Some(now);
        self.with(id, |connection| {
            connection.phase = Phase::Established;
            connection.refresh_hold(now);
        });
        let Some(negotiated) = self.negotiated().cloned() else {
            return;
        };
        let gone = self.session_back(&negotiated, now);
        out.push(Action::Up(id, negotiated));
        out.extend((!gone.is_empty()).then_some(Action::Sweep(gone)));
    }
}

/// RFC 6608: the data is the type of the message that was not expected.
fn unexpected(phase: Phase, message: &Received) -> Notification {
    let subcode = match phase {
        Phase::Delayed | Phase::OpenSent => fsm::OPEN_SENT,
        Phase::OpenConfirm => fsm::OPEN_CONFIRM,
        Phase::Established => fsm::ESTABLISHED,
    };
    let kind = match message {
        Received::Open(_) => MessageType::Open,
        Received::Keepalive => MessageType::Keepalive,
        Received::Notification(_) => MessageType::Notification,
        Received::Update | Received::EndOfRib(_) => MessageType::Update,
        Received::RouteRefresh => MessageType::RouteRefresh,
    };
    Notification::with_data(FSM, subcode, &[kind.code()])
}
