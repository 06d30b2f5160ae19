//! What BFD tells about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Path;
use super::wire::{Diagnostic, State};

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Our state.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why it changed last.
    pub diagnostic: Diagnostic,
    /// The other side's state.
    pub remote_state: State,
    /// Whether it may be behind routers.
    pub is_multihop: bool,
    /// Our name of the session.
    pub discriminator: u32,
    /// The other side's name of it, zero if not known.
    pub remote_discriminator: u32,
    /// Whether the other side's BFD goes on while its control plane does not: its C bit.
    pub is_remote_control_plane_independent: bool,
    /// How often we send, before jitter.
    pub transmit_interval: Duration,
    /// How long we may hear nothing until the session is Down; zero while nothing was heard.
    pub detection_time: Duration,
    /// How often it went from Up to Down without either side wanting it.
    pub failures: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received for this session.
    pub packets_received: u64,
    /// Of these, packets that were discarded.
    pub packets_discarded: u64,
    /// Why nothing can be sent or received, if so.
    pub error: Option<String>,
}

impl Status {
    pub(super) fn new(path: Path) -> Self {
        Self {
            state: State::Down,
            since: SystemTime::now(),
            diagnostic: Diagnostic::NONE,
            remote_state: State::Down,
            is_multihop: path.is_multihop(),
            discriminator: 0,
            remote_discriminator: 0,
            is_remote_control_plane_independent: false,
            transmit_interval: Duration::ZERO,
            detection_time: Duration::ZERO,
            failures: 0,
            packets_sent: 0,
            packets_received: 0,
            packets_discarded: 0,
            error: None,
        }
    }
}

/// What has happened, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions that are Up now.
    pub sessions_up: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received for a session.
    pub packets_received: u64,
    /// Packets that were not for use, for whatever reason.
    pub packets_discarded: u64,
    /// Of these: no BFD, or wrong by RFC 5880 section 6.8.6.
    pub discarded_malformed: u64,
    /// Single-hop packets from behind a router.
    pub discarded_distant: u64,
    /// For no session.
    pub discarded_unknown: u64,
    /// Not authentic.
    pub discarded_unauthentic: u64,
    /// For a session that is AdminDown.
    pub discarded_admin_down: u64,
    /// Changes of sessions' states.
    pub state_changes: u64,
    /// Sessions that went down because nothing was heard for the detection time.
    pub detection_timeouts: u64,
}

/// The same, as the thread counts it.
#[derive(Debug, Default)]
pub(super) struct SharedCounters {
    pub(super) sessions_up: AtomicU64,
    pub(super) packets_sent: AtomicU64,
    pub(super) packets_received: AtomicU64,
    pub(super) discarded_malformed: AtomicU64,
    pub(super) discarded_distant: AtomicU64,
    pub(super) discarded_unknown: AtomicU64,
    pub(super) discarded_unauthentic: AtomicU64,
    pub(super) discarded_admin_down: AtomicU64,
    pub(super) state_changes: AtomicU64,
    pub(super) detection_timeouts: AtomicU64,
}

impl SharedCounters {
    pub(super) fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let discarded = [
            &self.discarded_malformed,
            &self.discarded_distant,
            &self.discarded_unknown,
            &self.discarded_unauthentic,
            &self.discarded_admin_down,
        ];
        Counters {
            discarded_malformed: read(&self.discarded_malformed),
            discarded_distant: read(&self.discarded_distant),
            discarded_unknown: read(&self.discarded_unknown),
            discarded_unauthentic: read(&self.discarded_unauthentic),
            discarded_admin_down: read(&self.discarded_admin_down),
            state_changes: read(&self.state_changes),
            sessions_up: read(&self.sessions_up),
            packets_sent: read(&self.packets_sent),
            packets_received: read(&self.packets_received),
            packets_discarded: discarded.into_iter().map(read).sum(),
            detection_timeouts: read(&self.detection_timeouts),
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
