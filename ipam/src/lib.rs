//! Address management: pools are cut into blocks, hosts claim blocks, workloads get addresses of them.
//!
//! Compatible with Calico's IPAM on etcd: the same keys and values, and the same order of single-key writes, so that
//! hosts with either may work on one datastore. [`block`] is arithmetic without I/O; [`Ipam`] runs the
//! compare-and-swap loops. See `docs/ipam.md`.

#![forbid(unsafe_code)]

mod affinity;
mod assign;
pub mod block;
mod claim;
mod config;
mod deletion;
mod error;
mod generator;
mod handle;
mod pool;
mod release;
mod utilisation;

pub use affinity::ClaimResult;
pub use assign::{AssignIpRequest, AutoAssignRequest, AutoAssignResult, FamilyAssignment};
pub use datastore::key::{AffinityType, Family};
pub use error::{Error, Result};
pub use generator::BlockGenerator;
pub use pool::{Pool, PoolRequest, determine_pools};
pub use release::{ReleaseOptions, ReleaseResult};
pub use utilisation::{BlockUtilisation, ORPHANED_BLOCKS, Owner, PoolUtilisation};

use std::fmt;
use std::sync::Arc;

use datastore::{Client, Resources};
use jiff::Timestamp;

/// How often a compare-and-swap loop is repeated.
pub const RETRIES_MAX: usize = 100;
/// The longest pause before a compare-and-swap is tried again, in milliseconds.
const BACK_OFF_MAX_MS: u64 = 50;

/// Waits a little before a repeated attempt, more and more, and everybody differently: many writers of one key would
/// otherwise use up each other's attempts.
pub(crate) async fn back_off(attempt: usize) {
    if attempt == 0 {
        return;
    }
    let longest = u64::try_from(attempt)
        .unwrap_or(BACK_OFF_MAX_MS)
        .min(BACK_OFF_MAX_MS);
    tokio::time::sleep(std::time::Duration::from_millis(rand::random_range(0..=longest))).await;
}
/// How many blocks a host may have when neither the request nor the configuration says.
pub const BLOCKS_PER_HOST_MAX_DEFAULT: u32 = 20;
/// An empty block of another host is reclaimed only this long after it was claimed.
pub const RECLAIM_AGE_MIN_SECONDS: i64 = 60;
/// The virtual host that holds the addresses of load balancers.
pub const LOAD_BALANCER_HOST: &str = "load-balancer";

/// Address management over a datastore. Cheap to clone.
#[derive(Clone)]
pub struct Ipam {
    client: Client,
    resources: Resources,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for Ipam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ipam")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl Ipam {
    /// Address management over this connection.
    pub fn new(client: Client) -> Self {
        Self::with_clock(client, Timestamp::now)
    }

    /// The same with another clock.
    pub fn with_clock(client: Client, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            resources: Resources::new(client.clone()),
            client,
            clock: Arc::new(clock),
        }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// The name under which this host's blocks are: the given one, else the system's, trimmed and in lower case.
pub fn host_name(given: Option<&str>) -> String {
    match given {
        Some(name) if !name.trim().is_empty() => name.to_owned(),
        _ => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_lowercase(),
    }
}
