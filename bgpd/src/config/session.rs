//! Settings of a neighbour's session that have a structure of their own.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Neighbor;
use crate::wire::{Family, Prefix};

/// Longest shutdown communication (RFC 9003 section 2), in bytes.
pub const SHUTDOWN_MESSAGE_MAX_BYTES: usize = 255;
/// Longest long-lived stale time: 24 bits on the wire (RFC 9494 section 3.1), in seconds.
pub const LONG_LIVED_STALE_TIME_MAX_S: u32 = 0x00ff_ffff;
/// Longest secret of a TCP-AO key that Linux takes, in bytes.
pub const TCP_AO_SECRET_MAX_BYTES: usize = 80;
/// TCP-AO keys of a neighbour: key ids have eight bits.
pub const TCP_AO_KEYS_MAX: usize = 256;
/// Share of a prefix limit from which on a warning is logged, where none is set, in percent.
pub const PREFIX_WARNING_DEFAULT_PERCENT: u8 = 75;
/// Neighbours of a range where no limit is set.
pub const RANGE_LIMIT_DEFAULT: usize = 128;

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

/// How the code of a TCP-AO segment is computed (RFC 5926).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpAoAlgorithm {
    /// HMAC-SHA-1-96.
    #[default]
    HmacSha1,
    /// AES-128-CMAC-96.
    Aes128Cmac,
    /// HMAC-SHA-256, beyond RFC 5926; Linux offers it.
    HmacSha256,
}

/// A TCP-AO key (RFC 5925 section 3.1, "master key tuple").
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpAoKey {
    /// SendID: in what we send.
    pub send_id: u8,
    /// RecvID: in what the neighbour sends.
    pub receive_id: u8,
    /// How codes are computed.
    pub algorithm: TcpAoAlgorithm,
    /// The master key.
    pub secret: String,
}

/// The secret is not shown.
impl fmt::Debug for TcpAoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpAoKey")
            .field("send_id", &self.send_id)
            .field("receive_id", &self.receive_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// AS numbers from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AsRange {
    /// The lowest.
    pub first: u32,
    /// The highest.
    pub last: u32,
}

impl AsRange {
    /// Whether an AS is among them.
    pub const fn contains(self, asn: u32) -> bool {
        self.first <= asn && asn <= self.last
    }
}

impl From<u32> for AsRange {
    fn from(asn: u32) -> Self {
        Self {
            first: asn,
            last: asn,
        }
    }
}

/// Neighbours that are not known one by one: whoever connects from an address of the prefix, and says in
/// its OPEN that it is in one of the ASes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborRange {
    /// The addresses.
    pub prefix: Prefix,
    /// The ASes.
    pub ases: Vec<AsRange>,
    /// Most neighbours at a time.
    pub limit: usize,
    /// What such a neighbour is, but for its address and AS. It never is connected to.
    pub template: Neighbor,
}
