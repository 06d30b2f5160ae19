//! What a session needs to know of the configuration, and the limits of its timers.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{GracefulRestartMode, LONG_LIVED_STALE_TIME_MAX_S, PeerAs, RouteRefreshMode};
use crate::wire::{AddPath, Capabilities, Family, FamilySet, GracefulRestart, LongLivedFamily, Open, Role};

/// Hold time until OPEN is received (RFC 4271 section 8.2.2 suggests four minutes).
pub const OPEN_HOLD_TIME: Duration = Duration::from_secs(240);
/// How long one attempt to connect may take: ConnectRetryTimer in the Connect state.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);
/// First wait between attempts: ConnectRetryTimer in Active, IdleHoldTimer in Idle. It doubles
/// with each failure in a row (DampPeerOscillations). Jitter takes up to a quarter off, which leaves a second.
pub const RETRY_TIME_MIN: Duration = Duration::from_millis(1334);
/// Longest wait between attempts.
pub const RETRY_TIME_MAX: Duration = Duration::from_secs(5);
/// A session that held this long does not count as a failure.
pub const STABLE_TIME: Duration = Duration::from_secs(10);
/// Shortest send hold time (RFC 9687 section 4.3: the larger of this and twice the hold time).
pub const SEND_HOLD_TIME_MIN: Duration = Duration::from_secs(480);

/// The settings of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Our AS on this session.
    pub local_as: u32,
    /// Another AS of ours, tried when the neighbour does not expect that one.
    #[serde(default)]
    pub alternative_as: Option<u32>,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// The AS that the neighbour must be in.
    pub remote_as: PeerAs,
    /// Never connect.
    pub passive: bool,
    /// Families to offer.
    pub families: FamilySet,
    /// Offer to take IPv4 routes with IPv6 next hops (RFC 8950).
    #[serde(default)]
    pub extended_next_hop: bool,
    /// Families with several paths of a prefix (RFC 7911), as OPEN offers them.
    #[serde(default)]
    pub add_path: AddPath,
    /// Proposed hold time: zero or at least 3 s, whole seconds.
    pub hold_time: Duration,
    /// Keepalive interval; without it, a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// DelayOpenTime: how long the neighbour's OPEN is waited for before ours is sent.
    pub delay_open: Option<Duration>,
    /// What we are on this session (RFC 9234).
    pub role: Option<Role>,
    /// Refuse a neighbour that does not say what it is.
    pub role_strict: bool,
    /// What of route refresh is offered.
    #[serde(default)]
    pub route_refresh: RouteRefreshMode,
    /// Our part in graceful restart.
    pub graceful_restart: GracefulRestartMode,
    /// How long stale routes are kept as a last resort after Restart Time, theirs here and ours there
    /// (RFC 9494). Zero for not at all.
    pub long_lived_stale_time: Duration,
    /// Restart time to advertise, in seconds.
    pub restart_time_s: u16,
    /// Whether our forwarding of learned routes outlives this process: the F bit.
    pub forwarding_preserved: bool,
    /// Whether this process takes over from an earlier one: the R bit.
    pub restarting: bool,
    /// Wait for BFD before the session is established, at most so long, if the neighbour does the same.
    #[serde(default)]
    pub bfd_strict: Option<Duration>,
    /// Take and send routes with AS_SETs.
    #[serde(default)]
    pub as_sets: bool,
    /// What the neighbour is told with an administrative shutdown or reset (RFC 9003).
    pub shutdown_message: Option<String>,
}

impl Settings {
    /// Our OPEN. `again` if the session was established before in the life of this process.
    pub(super) fn open(&self, again: bool) -> Open {
        Open {
            asn: self.local_as,
            hold_time_s: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities: Capabilities {
                families: self.families,
                route_refresh: self.route_refresh.is_on(),
                enhanced_route_refresh: self.route_refresh.is_enhanced(),
                extended_next_hop: self.extended_next_hops(),
                extended_message: true,
                four_octet_as: Some(self.local_as),
                bfd_strict: self.bfd_strict.is_some(),
                role: self.role,
                add_path: self.add_path,
                graceful_restart: self.graceful_restart(again),
                long_lived: self.long_lived(again),
                ..Capabilities::default()
            },
        }
    }

    /// Families whose next hops may be IPv6 addresses though their own are not.
    pub(super) fn extended_next_hops(&self) -> FamilySet {
        let v4: FamilySet = [Family::Ipv4Unicast].into_iter().collect();
        match self.extended_next_hop {
            true => self.families.intersection(v4),
            false => FamilySet::EMPTY,
        }
    }

    /// The neighbour expects another AS of ours, if there is one.
    pub(super) fn swap_as(&mut self) {
        if let Some(other) = &mut self.alternative_as {
            std::mem::swap(other, &mut self.local_as);
        }
    }

    fn graceful_restart(&self, again: bool) -> Option<GracefulRestart> {
        if self.graceful_restart == GracefulRestartMode::Off {
            return None;
        }
        // RFC 4724 section 3: without a family, the sender only keeps what others send.
        let families = if self.graceful_restart.is_restarter() {
            self.families
        } else {
            FamilySet::EMPTY
        };
        Some(GracefulRestart {
            restarted: self.restarting,
            // RFC 8538 section 3.
            notification: true,
            restart_time_s: self.restart_time_s,
            families,
            preserved: if self.preserved(again) {
                families
            } else {
                FamilySet::EMPTY
            },
        })
    }

    /// F says that forwarding survived what ended the last session: a restart of ours, or a loss of the
    /// connection alone.
    const fn preserved(&self, again: bool) -> bool {
        self.forwarding_preserved && (self.restarting || again)
    }

    /// RFC 9494 section 4.1: only together with graceful restart.
    fn long_lived(&self, again: bool) -> Vec<LongLivedFamily> {
        if !self.graceful_restart.is_restarter() || self.long_lived_stale_time.is_zero() {
            return Vec::new();
        }
        let seconds = u32::try_from(self.long_lived_stale_time.as_secs()).unwrap_or(u32::MAX);
        let family = |family| LongLivedFamily {
            family,
            preserved: self.preserved(again),
            stale_time_s: seconds.min(LONG_LIVED_STALE_TIME_MAX_S),
        };
        self.families.iter().map(family).collect()
    }
}
