//! What the speaker tells about itself.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::counts::{MessageCounters, MessageCounts};
use crate::bfd;
use crate::config::{InterfaceName, NeighborKey};
use crate::policy::Explanation;
use crate::rib::{DampeningView, PathStatus};
use crate::session::{Negotiated, Settings, State};
use crate::wire::{Attributes, Prefix};

/// A neighbour's session, as its task sees it.
#[derive(Clone, Debug)]
pub(super) struct SessionStatus {
    pub(super) remote_as: u32,
    pub(super) local_as: u32,
    pub(super) state: State,
    pub(super) since: SystemTime,
    pub(super) last_error: Option<String>,
    pub(super) flaps: u64,
    pub(super) remote_id: Option<Ipv4Addr>,
    pub(super) bfd: Option<Arc<Mutex<bfd::Status>>>,
    pub(super) negotiated: Option<Negotiated>,
    pub(super) local_address: Option<IpAddr>,
    pub(super) counters: Arc<MessageCounters>,
    pub(super) remote_address: Option<IpAddr>,
    pub(super) far_connections: u64,
}

impl SessionStatus {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            remote_as: settings.remote_as.number(settings.local_as).unwrap_or(0),
            local_as: settings.local_as,
            state: State::Idle,
            since: SystemTime::now(),
            last_error: None,
            flaps: 0,
            remote_id: None,
            bfd: None,
            negotiated: None,
            local_address: None,
            counters: Arc::default(),
            remote_address: None,
            far_connections: 0,
        }
    }
}

/// A neighbour and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The neighbour's address; `::` if it is known by its interface alone.
    pub address: IpAddr,
    /// Its interface, where its address is link-local or not known beforehand.
    pub interface: Option<InterfaceName>,
    /// The address that it has on this session, while that is established.
    pub remote_address: Option<IpAddr>,
    /// The port that we connect to.
    pub port: u16,
    /// Its AS; 0 while that is not known.
    pub remote_as: u32,
    /// Our AS on this session.
    pub local_as: u32,
    /// Where the session stands.
    pub state: State,
    /// Since when it stands there.
    pub since: SystemTime,
    /// Why the session, or an attempt at it, failed last.
    pub last_error: Option<String>,
    /// Routes that it told us.
    pub prefixes_received: u64,
    /// Of these, routes that passed loop checks and import policy.
    pub prefixes_accepted: u64,
    /// Of those received, routes that are dampened because they flap.
    pub prefixes_dampened: u64,
    /// Routes that we told it.
    pub prefixes_advertised: u64,
    /// How often the session has left Established.
    pub flaps: u64,
    /// Messages sent since the neighbour was configured, on all its sessions.
    pub messages_sent: MessageCounts,
    /// Messages received.
    pub messages_received: MessageCounts,
    /// Connections refused because they came over more hops than its setting allows (RFC 5082).
    pub far_connections: u64,
    /// Its BGP identifier, while the session is established.
    pub remote_id: Option<Ipv4Addr>,
    /// BFD with it, if there is any.
    pub bfd: Option<bfd::Status>,
    /// What both ends agreed on, while the session is established.
    pub negotiated: Option<Negotiated>,
    /// Our address, while the session is established.
    pub local_address: Option<IpAddr>,
    /// What the configuration says of it.
    pub description: String,
}

impl PeerStatus {
    /// What tells this neighbour from the others.
    pub fn key(&self) -> NeighborKey {
        NeighborKey {
            address: self.address,
            port: self.port,
            interface: self.interface,
        }
    }
}

/// A session changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEvent {
    /// Whose.
    pub neighbor: NeighborKey,
    /// The state that it is in now.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
}

/// Which routes to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteView {
    /// What a neighbour told us.
    Received(NeighborKey),
    /// What was selected, paths used together with the best one among it.
    Best,
    /// What we tell a neighbour.
    Advertised(NeighborKey),
}

/// A route in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: Prefix,
    /// The neighbour: where it came from, or for [`RouteView::Advertised`] where it goes. None for
    /// our own networks.
    pub neighbor: Option<NeighborKey>,
    /// The identifier of its path, if the session has such (RFC 7911): the neighbour's, or for
    /// [`RouteView::Advertised`] ours.
    pub path_id: Option<u32>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
    /// Kept from before the neighbour's restart.
    pub stale: bool,
    /// In [`RouteView::Advertised`]: a default route that the neighbour is told whether or not there is one.
    pub is_own_default: bool,
    /// How it fared in the selection; none for [`RouteView::Advertised`].
    pub status: Option<PathStatus>,
    /// The penalty for its flaps, if it has one.
    pub dampening: Option<DampeningView>,
    /// What the import policy said; none for our own networks and for [`RouteView::Advertised`].
    pub import: Option<Explanation>,
}
