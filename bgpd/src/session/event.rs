//! What goes into a session and what comes out. Everything can be serialised, so that a run can be
//! recorded and replayed.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Negotiated, Settings};
use crate::wire::notification::{CEASE, cease};
use crate::wire::{Codec, Family, FamilySet, Notification, Open};

/// A point in time, counted from a start of the caller's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub Duration);

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// A TCP connection, by a number that the caller never gives twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Why a session is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// For good.
    Shutdown,
    /// This speaker will be back: the connection is closed without NOTIFICATION, so that the
    /// neighbour keeps our routes (RFC 4724 section 5).
    Restart,
    /// The neighbour was removed.
    Deconfigured,
    /// To start again with other settings.
    ConfigurationChange,
    /// To start again.
    Reset,
}

impl StopReason {
    /// What the neighbour is told, with the text of RFC 9003 where there is a place for it.
    pub(crate) fn notification(self, text: Option<&str>) -> Option<Notification> {
        let subcode = match self {
            Self::Restart => return None,
            Self::Shutdown => cease::ADMIN_SHUTDOWN,
            Self::Deconfigured => cease::DECONFIGURED,
            Self::ConfigurationChange => cease::CONFIGURATION_CHANGE,
            Self::Reset => cease::ADMIN_RESET,
        };
        let text = text.filter(|_| matches!(self, Self::Shutdown | Self::Reset));
        Some(match text {
            Some(text) => Notification::with_communication(subcode, text),
            None => Notification::new(CEASE, subcode),
        })
    }

    /// Whether the session is meant to be gone for good: then nothing is kept on either side, whatever was
    /// agreed on about restarts (RFC 8538 section 4).
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Shutdown | Self::Deconfigured)
    }
}

/// A message that came in, as far as the state machine cares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Received {
    /// OPEN.
    Open(Open),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(Notification),
    /// UPDATE. Of several in a row, one has to be reported.
    Update,
    /// UPDATE that ends the neighbour's table of a family. Each has to be reported.
    EndOfRib(Family),
    /// ROUTE-REFRESH.
    RouteRefresh,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Open the session and keep it open.
    Start,
    /// Close the session and leave it closed.
    Stop(StopReason),
    /// Other settings. What OPEN says counts from the next session on; to have it now, stop before and
    /// start after it.
    Configure(Box<Settings>),
    /// The neighbour has sent more routes than it may.
    PrefixLimit {
        /// Of which family.
        family: Family,
        /// The limit.
        limit: u32,
        /// When to open the session again; without it, not before [`Event::Stop`] and [`Event::Start`].
        restart: Option<Duration>,
    },
    /// There is no more room for the neighbour's routes.
    OutOfResources {
        /// When to open the session again.
        restart: Duration,
    },
    /// What [`super::Session::poll_timeout`] named is here.
    Timer,
    /// The connection that [`Action::Connect`] asked for is there.
    Connected(ConnectionId),
    /// That connection could not be made.
    ConnectFailed(String),
    /// The neighbour has connected.
    Accepted(ConnectionId),
    /// A connection ended, from the other side or by an error.
    Closed(ConnectionId, String),
    /// A message came in.
    Received(ConnectionId, Received),
    /// Something came in that is no message; this is to be answered.
    Malformed(ConnectionId, Notification),
    /// Nothing is read for now, because what was read before is not processed yet.
    ReadPaused(ConnectionId),
    /// Reading goes on.
    ReadResumed(ConnectionId),
    /// The neighbour takes nothing in.
    WriteStalled(ConnectionId),
    /// The neighbour takes something in again.
    WriteResumed(ConnectionId),
    /// BFD is up, or no longer. At first it is not.
    PathState {
        /// Whether it is.
        is_up: bool,
    },
    /// BFD says that the path to the neighbour has failed (RFC 5882 section 4).
    PathFailed {
        /// Whether BFD over there goes on while the neighbour's control plane restarts: its C bit.
        is_control_plane_independent: bool,
    },
    /// This speaker's own restart is complete: no R bit from now on.
    RestartComplete,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outgoing {
    /// OPEN.
    Open(Open),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(Notification),
}

/// Why a session is no longer established.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownReason {
    /// We stopped it.
    Stopped(StopReason),
    /// We sent this.
    Sent(Notification),
    /// The neighbour sent this.
    Received(Notification),
    /// The connection ended without one.
    Closed(String),
    /// The neighbour opened a new connection after a restart of its own (RFC 4724 section 4.2).
    PeerRestarted,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(StopReason::Shutdown) => f.write_str("administratively shut down"),
            Self::Stopped(StopReason::Restart) => f.write_str("this speaker restarts"),
            Self::Stopped(StopReason::Deconfigured) => f.write_str("removed from the configuration"),
            Self::Stopped(StopReason::ConfigurationChange) => f.write_str("the configuration changed"),
            Self::Stopped(StopReason::Reset) => f.write_str("reset"),
            Self::Sent(notification) => write!(f, "sent {notification}"),
            Self::Received(notification) => write!(f, "received {notification}"),
            Self::Closed(reason) => write!(f, "connection lost: {reason}"),
            Self::PeerRestarted => f.write_str("the neighbor restarted"),
        }
    }
}

/// What the caller has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Connect, and report [`Event::Connected`] or [`Event::ConnectFailed`].
    Connect,
    /// Give that up, and report nothing.
    AbortConnect,
    /// Send a message.
    Send(ConnectionId, Outgoing),
    /// Close a connection after what was sent on it, and report nothing.
    Close(ConnectionId),
    /// OPEN was accepted: read what follows with this codec.
    Opened(ConnectionId, Codec),
    /// The session is established.
    Up(ConnectionId, Negotiated),
    /// The session is no longer established.
    Down {
        /// Why.
        reason: DownReason,
        /// Families whose routes are kept for the neighbour's return (RFC 4724 section 4.2). Those kept
        /// before go, but for long-lived stale ones.
        retain: FamilySet,
    },
    /// Routes of these families that are still stale go.
    Sweep(FamilySet),
    /// Routes of these families that are still stale become long-lived stale ones (RFC 9494 section 4.2).
    LongLivedStale(FamilySet),
}
