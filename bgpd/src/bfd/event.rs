//! What goes into a BFD session and what comes out. Everything can be serialised, so that a run can be
//! recorded and replayed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::authentication::Authentication;
use super::wire::{ControlPacket, Diagnostic, State};

/// The settings of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// bfd.DesiredMinTxInterval while the session is Up: how often to send, if the other side can take it.
    pub desired_min_tx: Duration,
    /// bfd.RequiredMinRxInterval: how often we can receive.
    pub required_min_rx: Duration,
    /// Required Min Echo RX Interval: how often this host's forwarding loops Echo packets back; zero for
    /// not at all.
    pub required_min_echo_rx: Duration,
    /// bfd.DetectMult: how many packets may be missed; not zero.
    pub detect_multiplier: u8,
    /// Send nothing until something was received (RFC 5880 section 6.1).
    pub passive: bool,
    /// How packets are authenticated, if they are.
    pub authentication: Option<Authentication>,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A packet came in for this session.
    Received(ControlPacket),
    /// What [`super::Session::poll_timeout`] named is here.
    Timer,
    /// Other settings, in force after a Poll Sequence where one is needed.
    Configure(Settings),
    /// Take the session down on purpose (RFC 5880 section 6.8.16): the other side is told, so that it does
    /// not take this for a failure.
    Disable,
    /// Bring it back.
    Enable,
}

/// A change of a session's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why.
    pub diagnostic: Diagnostic,
    /// What the other side said of itself last.
    pub remote_state: State,
    /// The other side's C bit: its BFD goes on while its control plane does not.
    pub is_remote_control_plane_independent: bool,
}

impl StateChange {
    /// Whether the path to the other side has failed: what was Up is Down, and neither side took it down on
    /// purpose (RFC 5880 section 6.8.16, RFC 5882 section 3.2).
    pub fn is_failure(&self) -> bool {
        self.from == State::Up && self.to == State::Down && self.remote_state != State::AdminDown
    }
}

/// Why a packet was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discard {
    /// It is authenticated and should not be, or the reverse, or with the wrong key, number or digest.
    Authentication,
    /// The session is AdminDown.
    AdminDown,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Send these octets to the other side.
    Send(Vec<u8>),
    /// Take note of a change of state.
    Changed(StateChange),
    /// Count a packet that was not for use.
    Discarded(Discard),
}
