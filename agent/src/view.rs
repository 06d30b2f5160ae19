//! What the agent's parts publish for readers: the local API and the metrics take it from here and never ask back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_proto::v1::{BgpPeer, BgpSpeaker, Endpoint};

/// The latest published state. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct View {
    inner: Arc<Mutex<Published>>,
}

/// Everything that is published.
#[derive(Debug, Default)]
pub struct Published {
    /// `wait-for-datastore`, `resync`, `in-sync` or `frozen`.
    pub datastore_state: &'static str,
    /// Why, where it is not in sync.
    pub datastore_detail: String,
    /// The IPv4 half of the speaker.
    pub bgp_v4: BgpSpeaker,
    /// The IPv6 half of the speaker.
    pub bgp_v6: BgpSpeaker,
    /// Sessions, by address.
    pub bgp_peers: Vec<BgpPeer>,
    /// The same as the speaker has them, for the metrics.
    pub sessions: Vec<bgpd::speaker::PeerStatus>,
    /// What BFD has done, over all sessions.
    pub bfd: bgpd::bfd::Counters,
    /// Where the driver of learned routes stands.
    pub kernel_routes: bgpd::fib::FibStatus,
    /// Local workload endpoints, by id.
    pub endpoints: Vec<Endpoint>,
    /// Whether these are all: the dataplane has been told the whole view.
    pub endpoints_complete: bool,
    /// What cannot be honoured as it is written, each naming resource and field.
    pub problems: Vec<String>,
    /// Counts for the metrics.
    pub counts: Counts,
}

/// Figures that the metrics show.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Hosts in the cluster.
    pub hosts: i64,
    /// Workload endpoints in the cluster.
    pub workload_endpoints: i64,
    /// Host endpoints in the cluster.
    pub host_endpoints: i64,
    /// Tiers in the cluster.
    pub tiers: i64,
    /// Policies in the cluster.
    pub policies: i64,
    /// Profiles in the cluster.
    pub profiles: i64,
    /// Endpoints on this host.
    pub local_endpoints: i64,
    /// Policies that apply to an endpoint on this host.
    pub local_policies: i64,
    /// Selectors that those policies use.
    pub local_selectors: i64,
}

impl View {
    /// The published state, to read or to change.
    pub fn lock(&self) -> MutexGuard<'_, Published> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
