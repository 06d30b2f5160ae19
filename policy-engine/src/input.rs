//! What the engine is told.

use api::{AnyResource, Kind};

/// A change of a resource. Kinds that bear no policy are ignored.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The resource is there, with this content.
    Set(AnyResource),
    /// The resource is gone.
    Remove {
        /// Its kind.
        kind: Kind,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// How much the engine has at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workload endpoints of this host.
    pub local_endpoints: usize,
    /// Endpoints and network sets of the whole cluster that own addresses.
    pub owners: usize,
    /// Policies known.
    pub policies: usize,
    /// Policies that select a local endpoint.
    pub active_policies: usize,
    /// Tiers known.
    pub tiers: usize,
    /// Profiles known.
    pub profiles: usize,
    /// Selectors that active rules use.
    pub active_selectors: usize,
    /// Classes of addresses.
    pub identities: usize,
    /// Programs.
    pub programs: usize,
}
