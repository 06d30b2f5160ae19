//! What the speaker is told to do.
//!
//! An embedding program fills in a [`Config`] itself; the daemon reads one from a TOML file
//! ([`load_file`]), which offers fewer settings.

mod bfd;
mod dampening;
mod diff;
mod dynamic;
mod file;
mod key;
mod monitoring;
mod neighbor_file;
#[cfg(test)]
mod neighbor_tests;
mod peer_as;
mod policy_file;
mod routing;
mod session;
mod tcp_ao;
mod validate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use bfd::{
    BFD_INTERVAL_DEFAULT_MS, BFD_INTERVAL_MAX_MS, BFD_INTERVAL_MIN_MS, BFD_MULTIPLIER_DEFAULT, BfdSettings,
};
pub use dampening::Dampening;
pub use diff::{ChangedNeighbor, ConfigDiff, NeighborChange};
pub use dynamic::{DYNAMIC_LIMIT_DEFAULT, DYNAMIC_LIMIT_MAX, DynamicNeighbors, RangeName};
pub use file::{FileError, load_file, parse_file};
pub use key::{InterfaceName, InterfaceNameError, NeighborKey};
pub use monitoring::{
    BMP_STATIONS_MAX, BmpStation, BmpView, MRT_ROTATE_DEFAULT_S, Mrt, MrtRib, MrtSource, MrtUpdates,
    STATS_INTERVAL_DEFAULT_S, Timing,
};
pub use peer_as::PeerAs;
pub use routing::{Aggregate, ExportOptions, ImportOptions, PrivateAs, Routing, Selection};
pub use session::{
    AddPaths, GracefulRestartMode, LONG_LIVED_STALE_TIME_MAX_S, MaxPrefix, PREFIX_WARNING_DEFAULT_PERCENT,
    RouteRefreshMode, SHUTDOWN_MESSAGE_MAX_BYTES,
};
pub use tcp_ao::{TcpAoAlgorithm, TcpAoKey};
pub use validate::ConfigError;

use crate::fib::METRIC_NORMAL;
use crate::policy::Policy;
use crate::wire::{Community, Family, FamilySet, LargeCommunity, Prefix, Role};

/// The port that IANA assigned to BGP.
pub const BGP_PORT: u16 = 179;
/// Proposed hold time where none is set (RFC 4271 section 10), in seconds.
pub const HOLD_TIME_DEFAULT_S: u16 = 90;
/// Graceful-restart time where none is set, in seconds.
pub const RESTART_TIME_DEFAULT_S: u16 = 120;
/// Longest graceful-restart time: 12 bits on the wire (RFC 4724 section 3), in seconds.
pub const RESTART_TIME_MAX_S: u16 = 4095;
/// Longest TCP MD5 key that Linux takes, in bytes.
pub const PASSWORD_MAX_BYTES: usize = 80;
/// fe80::/10, where the link-local addresses of all interfaces are (RFC 4291 section 2.5.6).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// The whole configuration of a speaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Our AS number.
    pub local_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Where to accept sessions; empty for a speaker that only connects out.
    pub listen: Vec<SocketAddr>,
    /// Whether learned routes are installed in the kernel.
    pub fib: bool,
    /// From which metric on a learned route gives way to a workload of this host with the same address, for IPv4 and
    /// IPv6: the normal priority. Not in the file, where all routes have it.
    pub normal_metrics: [u32; 2],
    /// Restart time that neighbours are told, and the longest wait for their End-of-RIB after our
    /// own restart. At most [`RESTART_TIME_MAX_S`] seconds.
    pub restart_time: Duration,
    /// Most paths that all neighbours together may have sent; with more, the session with the one that sent most ends.
    pub max_paths: Option<u32>,
    /// The Unix socket of the gRPC service; without it there is none.
    pub api: Option<PathBuf>,
    /// The neighbours, each with its own address and port.
    pub neighbors: Vec<Neighbor>,
    /// Ranges of addresses that neighbours may connect from.
    pub dynamic_neighbors: Vec<DynamicNeighbors>,
    /// Prefixes that we originate.
    pub networks: Vec<Network>,
    /// BMP stations.
    pub bmp: Vec<BmpStation>,
    /// MRT files that are written.
    pub mrt: Mrt,
    /// MRT files whose routes are taken in.
    pub sources: Vec<MrtSource>,
    /// A directory for recordings of sessions.
    pub record: Option<PathBuf>,
    /// How paths are selected.
    pub selection: Selection,
    /// Prefixes that we originate as long as there is a route inside them.
    pub aggregates: Vec<Aggregate>,
}

impl Config {
    /// A configuration with no neighbour, no network and no listener.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            listen: Vec::new(),
            fib: true,
            normal_metrics: [METRIC_NORMAL; 2],
            restart_time: Duration::from_secs(RESTART_TIME_DEFAULT_S.into()),
            max_paths: None,
            api: None,
            neighbors: Vec::new(),
            dynamic_neighbors: Vec::new(),
            networks: Vec::new(),
            bmp: Vec::new(),
            mrt: Mrt::default(),
            sources: Vec::new(),
            record: None,
            selection: Selection::default(),
            aggregates: Vec::new(),
        }
    }
}

/// How the next hop of routes is set that we send to a neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopMode {
    /// By RFC 4271 section 5.1.3: ourselves towards eBGP, unchanged towards iBGP.
    #[default]
    Auto,
    /// Always ourselves.
    #[serde(rename = "self")]
    SelfAddress,
    /// Always as it is.
    Keep,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// What to call it besides its address.
    pub description: String,
    /// Its address; `::` if it is known by its interface alone.
    pub address: IpAddr,
    /// The interface that it is on, for a link-local address or none.
    pub interface: Option<InterfaceName>,
    /// False keeps its session down: Cease, administrative shutdown.
    pub enabled: bool,
    /// What it is told when its session is shut down (RFC 9003), at most [`SHUTDOWN_MESSAGE_MAX_BYTES`].
    pub shutdown_message: Option<String>,
    /// The port that we connect to. What comes in is matched by address alone.
    pub port: u16,
    /// The AS that its OPEN must name.
    pub remote_as: PeerAs,
    /// Our AS on this session, if not the global one.
    pub local_as: Option<u32>,
    /// With `local_as`: the neighbour may expect either AS of ours.
    pub dual_as: bool,
    /// The address that we connect from, and that it must connect to.
    pub source: Option<IpAddr>,
    /// The TTL of what we send. Without it: 1 towards eBGP neighbours, 255 towards iBGP ones.
    pub ttl: Option<u8>,
    /// RFC 5082: send with TTL 255 and drop what has come further than this many hops.
    pub ttl_security_hops: Option<u8>,
    /// Wait for it to connect.
    pub passive: bool,
    /// RFC 4456: we reflect to it, and what it sends.
    pub route_reflector_client: bool,
    /// The cluster that we reflect for; without it, our router id.
    pub cluster_id: Option<Ipv4Addr>,
    /// The families to offer.
    pub families: FamilySet,
    /// Offer to take IPv4 routes with IPv6 next hops, and to send them where the session runs over IPv6 (RFC 8950).
    /// Without it: where the session runs over IPv6.
    pub extended_next_hop: Option<bool>,
    /// Proposed hold time: zero (no keepalives) or at least 3 s.
    pub hold_time: Duration,
    /// Keepalive interval; without it, a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// How long to wait after a connection is there for the neighbour's OPEN before ours is sent:
    /// DelayOpenTime (RFC 4271 section 8.1.1). Without it, ours is sent at once.
    pub delay_open: Option<Duration>,
    /// TCP MD5 key (RFC 2385).
    pub password: Option<String>,
    /// TCP-AO keys (RFC 5925), instead of a password; the first one is sent with.
    pub tcp_ao: Vec<TcpAoKey>,
    /// What we are on this session (RFC 9234), for a neighbour in another AS.
    pub role: Option<Role>,
    /// Refuse a neighbour that does not say what it is (RFC 9234 section 4.2).
    pub role_strict: bool,
    /// What of route refresh is offered.
    pub route_refresh: RouteRefreshMode,
    /// Which parts of graceful restart we take.
    pub graceful_restart: GracefulRestartMode,
    /// Restart time to advertise, if not the global one.
    pub restart_time: Option<Duration>,
    /// How long its routes are kept as a last resort after its restart time, and what it is asked to keep
    /// ours (RFC 9494). Zero for not at all.
    pub long_lived_stale_time: Duration,
    /// Whether several paths of a prefix are sent and taken, each with an identifier.
    pub add_paths: AddPaths,
    /// Limits of what it may send, at most one a family.
    pub max_prefixes: Vec<MaxPrefix>,
    /// Take and send routes with AS_SETs, which RFC 9774 section 3 has treated as withdrawn.
    pub as_sets: bool,
    /// How the next hop is set.
    pub next_hop: NextHopMode,
    /// How often our own AS may occur in an AS_PATH that it sends.
    pub allow_own_as: u8,
    /// BFD with it, if there is any.
    pub bfd: Option<BfdSettings>,
    /// What is done with its routes beside policies.
    pub routing: Routing,
    /// What to take from it.
    pub import: Policy,
    /// What to tell it.
    pub export: Policy,
}

impl Neighbor {
    /// A neighbour with everything at its default. Its policies are those for a neighbour in
    /// `local_as`, accepted both ways, or else rejected both ways (RFC 8212).
    pub fn new(address: IpAddr, remote_as: impl Into<PeerAs>, local_as: u32) -> Self {
        let remote_as = remote_as.into();
        let policy = if remote_as.is_external(local_as) {
            Policy::Reject
        } else {
            Policy::Accept
        };
        Self {
            description: String::new(),
            address,
            interface: None,
            enabled: true,
            shutdown_message: None,
            port: BGP_PORT,
            remote_as,
            local_as: None,
            dual_as: false,
            source: None,
            ttl: None,
            ttl_security_hops: None,
            passive: false,
            route_reflector_client: false,
            cluster_id: None,
            families: [Family::of_address(address)].into_iter().collect(),
            extended_next_hop: None,
            hold_time: Duration::from_secs(HOLD_TIME_DEFAULT_S.into()),
            keepalive: None,
            delay_open: None,
            password: None,
            tcp_ao: Vec::new(),
            role: None,
            role_strict: false,
            route_refresh: RouteRefreshMode::default(),
            graceful_restart: GracefulRestartMode::default(),
            restart_time: None,
            long_lived_stale_time: Duration::ZERO,
            add_paths: AddPaths::default(),
            max_prefixes: Vec::new(),
            as_sets: false,
            next_hop: NextHopMode::Auto,
            allow_own_as: 0,
            bfd: None,
            routing: Routing::default(),
            import: policy.clone(),
            export: policy,
        }
    }

    /// What tells this neighbour from the others.
    pub fn key(&self) -> NeighborKey {
        NeighborKey {
            address: self.address,
            port: self.port,
            interface: self.interface,
        }
    }

    /// Our AS on this session.
    pub fn session_as(&self, config: &Config) -> u32 {
        self.local_as.unwrap_or(config.local_as)
    }

    /// Whether it is in another AS than we are on this session.
    pub fn is_ebgp(&self, config: &Config) -> bool {
        self.remote_as.is_external(self.session_as(config))
    }

    /// Whether it is known by its interface alone, and its link-local address is learned.
    pub fn is_unnumbered(&self) -> bool {
        self.interface.is_some() && self.address.is_unspecified()
    }

    /// What its segments are authenticated with.
    pub(crate) fn authentication(&self) -> Option<TcpAuthentication<'_>> {
        match (&self.password, self.tcp_ao.as_slice()) {
            (Some(password), _) => Some(TcpAuthentication::Md5(password)),
            (None, []) => None,
            (None, keys) => Some(TcpAuthentication::Ao(keys)),
        }
    }

    /// The addresses that it may connect from. One that is known by its interface has any link-local one.
    pub fn connects_from(&self) -> IpNet {
        if self.is_unnumbered() {
            return LINK_LOCAL.into();
        }
        self.address.into()
    }

    /// Whether IPv4 routes with IPv6 next hops are offered (RFC 8950).
    pub fn offers_extended_next_hop(&self) -> bool {
        self.families.contains(Family::Ipv4Unicast)
            && self.extended_next_hop.unwrap_or(self.address.is_ipv6())
    }

    /// The limit of its routes of a family.
    pub fn max_prefix(&self, family: Family) -> Option<&MaxPrefix> {
        self.max_prefixes.iter().find(|limit| limit.family == family)
    }
}

/// What segments of a connection are authenticated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpAuthentication<'a> {
    /// RFC 2385.
    Md5(&'a str),
    /// RFC 5925.
    Ao(&'a [TcpAoKey]),
}

/// A prefix that we originate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Network {
    /// The prefix, its host bits zero.
    pub prefix: Prefix,
    /// LOCAL_PREF towards iBGP neighbours; without it, 100.
    pub local_pref: Option<u32>,
    /// Communities to attach.
    pub communities: Vec<Community>,
    /// Large communities to attach.
    pub large_communities: Vec<LargeCommunity>,
}

impl From<Prefix> for Network {
    fn from(prefix: Prefix) -> Self {
        Self {
            prefix,
            local_pref: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
        }
    }
}
