//! What is done with routes beside policies: settings of a neighbour, of selection, and aggregates.

use serde::{Deserialize, Serialize};

use super::Dampening;
use crate::policy::Policy;
use crate::rib::MULTIPATH_MAX_DEFAULT;
use crate::wire::{Community, FamilySet, LargeCommunity, Prefix};

/// What is done with a neighbour's routes, in both directions. A change never ends the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Routing {
    /// For routes that it sends.
    pub import: ImportOptions,
    /// For routes that it is sent.
    pub export: ExportOptions,
    /// Move traffic away from this session before it ends (RFC 8326 section 4.2): what it is sent carries
    /// GRACEFUL_SHUTDOWN, within our AS with LOCAL_PREF 0; what comes from another AS has LOCAL_PREF 0.
    pub drain: bool,
}

/// For routes that a neighbour sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImportOptions {
    /// Our own preference for its routes, before LOCAL_PREF; without it, 0.
    pub weight: Option<u32>,
    /// LOCAL_PREF of routes from another AS; without it, 100.
    pub local_pref: Option<u32>,
    /// Routes from another AS must have it first in their AS_PATH (RFC 4271 section 6.3).
    pub enforce_first_as: bool,
    /// Routes with GRACEFUL_SHUTDOWN from another AS get LOCAL_PREF 0 (RFC 8326 section 4.1).
    pub honor_graceful_shutdown: bool,
    /// Take routes with BLACKHOLE from another AS (RFC 7999), and discard what goes there.
    pub accept_blackhole: bool,
    /// Put our AS on this session in front of its routes' AS_PATH, if it is not the global one.
    pub prepend_local_as: bool,
    /// Keep routes from another AS from use that come and go too often (RFC 2439).
    pub dampening: Option<Dampening>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            weight: None,
            local_pref: None,
            enforce_first_as: false,
            honor_graceful_shutdown: true,
            accept_blackhole: false,
            prepend_local_as: false,
            dampening: None,
        }
    }
}

/// For routes that a neighbour is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExportOptions {
    /// Its AS in an AS_PATH is replaced by ours: sites of one AS hear of each other through us.
    pub as_override: bool,
    /// Put the global AS behind our AS on this session, if that is another.
    pub prepend_global_as: bool,
    /// What becomes of private ASes (RFC 6996) in AS_PATHs sent to another AS.
    pub private_as: PrivateAs,
    /// Send communities.
    pub communities: bool,
    /// Send extended communities.
    pub extended_communities: bool,
    /// Send large communities.
    pub large_communities: bool,
    /// Reflect routes of other clients to it, if it is one: not needed where the clients are fully meshed
    /// (RFC 4456 section 6).
    pub client_to_client: bool,
    /// Within our AS, tell it of long-lived stale routes though it has not offered to understand them, confined to the
    /// AS and least preferred (RFC 9494 section 4.6).
    pub long_lived_stale: bool,
    /// Families in which it is told a default route of ours, whether or not there is one here.
    pub default_originate: FamilySet,
    /// What becomes of that route on its way; the export policy is not asked.
    pub default_policy: Policy,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            as_override: false,
            prepend_global_as: false,
            private_as: PrivateAs::Keep,
            communities: true,
            extended_communities: true,
            large_communities: true,
            client_to_client: true,
            long_lived_stale: false,
            default_originate: FamilySet::EMPTY,
            default_policy: Policy::Accept,
        }
    }
}

/// What becomes of private AS numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivateAs {
    /// They stay.
    #[default]
    Keep,
    /// They are left out.
    Remove,
    /// Our AS on the session takes the place of each, so that the path keeps its length.
    Replace,
}

/// How paths are selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Equal paths to use together, at least 1.
    pub multipath_max: usize,
    /// Paths used together need AS_PATHs of equal length only; false: equal in content.
    pub multipath_relax: bool,
    /// Paths within our AS are used together with an equal best path from another AS.
    pub multipath_eibgp: bool,
    /// Compare MULTI_EXIT_DISC between paths from different ASes too.
    pub always_compare_med: bool,
    /// A path without MULTI_EXIT_DISC counts as having the highest one, not 0.
    pub missing_med_worst: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            multipath_max: MULTIPATH_MAX_DEFAULT,
            multipath_relax: true,
            multipath_eibgp: false,
            always_compare_med: false,
            missing_med_worst: false,
        }
    }
}

/// A prefix that we originate as long as there is a route to something inside it
/// (RFC 4271 section 9.2.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aggregate {
    /// The prefix, its host bits zero.
    pub prefix: Prefix,
    /// Tell neighbours the aggregate alone, and nothing inside it.
    pub summary_only: bool,
    /// LOCAL_PREF towards iBGP neighbours; without it, 100.
    pub local_pref: Option<u32>,
    /// Communities to attach.
    pub communities: Vec<Community>,
    /// Large communities to attach.
    pub large_communities: Vec<LargeCommunity>,
}

impl From<Prefix> for Aggregate {
    fn from(prefix: Prefix) -> Self {
        Self {
            prefix,
            summary_only: false,
            local_pref: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
        }
    }
}
