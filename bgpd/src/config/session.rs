//! Settings of a neighbour's session that have a structure of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::{AddPath, Family, FamilySet};

/// Longest shutdown communication (RFC 9003 section 2), in bytes.
pub const SHUTDOWN_MESSAGE_MAX_BYTES: usize = 255;
/// Longest long-lived stale time: 24 bits on the wire (RFC 9494 section 3.1), in seconds.
pub const LONG_LIVED_STALE_TIME_MAX_S: u32 = 0x00ff_ffff;
/// Share of a prefix limit from which on a warning is logged, where none is set, in percent.
pub const PREFIX_WARNING_DEFAULT_PERCENT: u8 = 75;

/// Which parts of graceful restart (RFC 4724) we take on a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GracefulRestartMode {
    /// None: the capability is not offered.
    Off,
    /// The neighbour keeps our routes while we restart.
    Restarter,
    /// We keep its routes while it restarts.
    Helper,
    /// Both.
    #[default]
    Both,
}

impl GracefulRestartMode {
    /// Whether the neighbour is asked to keep our routes.
    pub const fn is_restarter(self) -> bool {
        matches!(self, Self::Restarter | Self::Both)
    }

    /// Whether the neighbour's routes are kept.
    pub const fn is_helper(self) -> bool {
        matches!(self, Self::Helper | Self::Both)
    }
}

/// What of route refresh we offer and use on a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteRefreshMode {
    /// Nothing.
    Off,
    /// RFC 2918 alone.
    Plain,
    /// RFC 7313, too.
    #[default]
    Enhanced,
}

impl RouteRefreshMode {
    /// Whether routes may be asked for again.
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Whether what is sent again has a beginning and an end.
    pub const fn is_enhanced(self) -> bool {
        matches!(self, Self::Enhanced)
    }
}

/// Several paths of a prefix on one session (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct AddPaths {
    /// Families in which we take them.
    pub receive: FamilySet,
    /// Families in which we send them.
    pub send: FamilySet,
    /// How many paths of a prefix are sent, the best first; without it, all that may be used.
    pub limit: Option<u16>,
}

impl AddPaths {
    /// What OPEN says of it.
    pub const fn capability(&self) -> AddPath {
        AddPath {
            receive: self.receive,
            send: self.send,
        }
    }
}

/// A limit of the routes of one family that a neighbour may send (RFC 4486 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MaxPrefix {
    /// The family.
    pub family: Family,
    /// Most routes; with more, the session ends with Cease, "maximum number of prefixes reached".
    pub limit: u32,
    /// From this share of the limit on a warning is logged, in percent.
    pub warning_percent: u8,
    /// When the session is opened again; without it, not before the neighbour is enabled, reset or changed.
    pub restart: Option<Duration>,
}

impl MaxPrefix {
    /// A limit with a warning at three quarters, after which the session stays down.
    pub const fn new(family: Family, limit: u32) -> Self {
        Self {
            family,
            limit,
            warning_percent: PREFIX_WARNING_DEFAULT_PERCENT,
            restart: None,
        }
    }

    /// The number of routes at which a warning is due.
    pub fn warning(&self) -> u32 {
        let share = u64::from(self.limit) * u64::from(self.warning_percent) / 100;
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}
