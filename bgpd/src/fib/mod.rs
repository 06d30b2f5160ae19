//! Learned routes in the kernel: a reconciler with its own thread.
//!
//! The caller says what is wanted ([`Fib::apply`], from [`Rib::poll_fib`](crate::rib::Rib::poll_fib)) and
//! which next hops matter ([`Fib::track`]); the driver makes the kernel's routes so, tells what it finds out
//! about next hops ([`Fib::next_hop_changes`]) and reports what it could not do ([`Fib::status`]).
//! Nothing here waits for the kernel but the driver's thread: what changes several times before it gets
//! there is installed once.
//!
//! Our routes are those of our protocol number in our table. What was there at the start is adopted and
//! kept, even where it is not wanted, until [`Fib::sweep`]. When the driver stops, all routes stay.
//! A route of anybody else is never changed or removed: see [`Refusal`].
//!
//! `plan` and `objects` are pure: they hold what is wanted and what the kernel is believed to have and
//! give the requests that make them equal. `driver` sends them.

mod driver;
mod next_hop_sets;
mod objects;
mod plan;
#[cfg(test)]
mod plan_tests;
mod resolve;
mod routes;
mod status;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use netlink::NetNs;
use tokio::sync::Notify;

use crate::rib::{FibChange, Gateway, NextHopInterest, NextHopState};
use crate::wire::{Family, FamilySet};

pub use status::{FibStatus, Refusal, RefusedRoute};

/// Protocol number of our routes and next-hop objects.
pub const PROTOCOL: u8 = 201;
/// Metric of our routes, and of routes of normal priority elsewhere on the host: what IPv6 makes of 0.
pub const METRIC_NORMAL: u32 = 1024;
/// Calico's priorities: LOCAL_PREF is this minus the metric.
pub const PRIORITY_MAX: u32 = 2_147_483_647;
/// The first id of our next-hop objects; there is room for 16 million.
pub const NEXT_HOP_ID_FIRST: u32 = 0xc900_0000;
/// How often the kernel's routes are read back and repaired.
pub const READ_BACK_INTERVAL: Duration = Duration::from_secs(30);
/// How often next hops that are not on a link are looked up again.
pub const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);
/// Changes that may wait for the driver: with so many, the RIB keeps the rest, as one bit each.
pub const INBOX_CHANGES_MAX: usize = 8192;

/// Which metric our routes get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The same for all.
    Fixed(u32),
    /// [`PRIORITY_MAX`] minus LOCAL_PREF, as Calico maps priorities; this for routes without LOCAL_PREF.
    FromLocalPref(u32),
}

impl Metric {
    fn of(self, local_pref: Option<u32>) -> u32 {
        match (self, local_pref) {
            (Self::Fixed(metric), _) | (Self::FromLocalPref(metric), None) => metric,
            // 0 would be the kernel's own default, which is not the highest priority.
            (Self::FromLocalPref(_), Some(preference)) => PRIORITY_MAX.saturating_sub(preference).max(1),
        }
    }
}

/// How routes are installed.
#[derive(Clone, Debug)]
pub struct FibSettings {
    /// Marks our routes and next-hop objects.
    pub protocol: u8,
    /// The routing table.
    pub table: u32,
    /// The metric.
    pub metric: Metric,
    /// Multipath routes use next-hop objects; otherwise, or where the kernel has none, plain ones.
    pub next_hop_objects: bool,
    /// Names of workload interfaces begin so: a host route to one of them wins over a learned route to the same
    /// address, unless that has a better metric than normal ([`Fib::set_normal_metrics`]).
    pub workload_interface_prefix: String,
    /// How often to read back.
    pub read_back_interval: Duration,
    /// How often to look up.
    pub lookup_interval: Duration,
}

impl Default for FibSettings {
    fn default() -> Self {
        Self {
            protocol: PROTOCOL,
            table: netlink::table::MAIN,
            metric: Metric::Fixed(METRIC_NORMAL),
            next_hop_objects: true,
            workload_interface_prefix: "cali".into(),
            read_back_interval: READ_BACK_INTERVAL,
            lookup_interval: LOOKUP_INTERVAL,
        }
    }
}

/// Why the driver could not start.
#[derive(Debug, thiserror::Error)]
pub enum FibError {
    /// The kernel's routes cannot be read.
    #[error("kernel routes: {0}; the speaker needs CAP_NET_ADMIN, or `fib = false`")]
    Kernel(#[from] netlink::Error),
    /// No thread.
    #[error("kernel routes: cannot start the driver's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The driver's handle. Dropping it stops the driver; the routes stay.
#[derive(Debug)]
pub struct Fib {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What callers and the driver's thread have in common.
#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    /// The driver has something to do.
    wake: Notify,
    /// The driver has taken changes out of the inbox.
    room: Notify,
    resolved: Mutex<indexmap::IndexMap<Gateway, NextHopState>>,
    /// Callers have something to read.
    resolved_wake: Notify,
    status: Mutex<FibStatus>,
    /// The driver has done everything that it can.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Next hops to do without (or to use again) at once.
    suspensions: indexmap::IndexMap<Gateway, bool>,
    /// In the order in which they came: what is said last of a prefix counts.
    changes: Vec<FibChange>,
    interests: indexmap::IndexMap<Gateway, NextHopInterest>,
    sweep: FamilySet,
    normal_metrics: Option<[u32; 2]>,
    stop: bool,
    /// Counts what was put in, so that a caller can wait until it is done.
    received: u64,
}

impl Fib {
    /// Read what the kernel has and start the driver, in the calling thread's network namespace.
    pub fn start(settings: FibSettings) -> Result<Self, FibError> {
        Self::start_in(settings, &NetNs::current()?)
    }

    /// The same in another network namespace.
    pub fn start_in(settings: FibSettings, netns: &NetNs) -> Result<Self, FibError> {
        let shared = Arc::new(Shared::default());
        let driver = driver::Driver::open(settings, netns, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("fib".into())
            .spawn(move || driver.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// What is wanted for some prefixes now. Does not wait, and takes any number: who has many looks at
    /// [`Fib::room`] first.
    pub fn apply(&self, changes: Vec<FibChange>) {
        self.put(|inbox| {
            if inbox.changes.is_empty() {
                inbox.changes = changes;
            } else {
                inbox.changes.extend(changes);
            }
        });
    }

    /// How many changes the driver has room for now.
    pub fn room(&self) -> usize {
        INBOX_CHANGES_MAX.saturating_sub(lock(&self.shared.inbox).changes.len())
    }

    /// Waits until the driver has room for changes. Cancel-safe; for one caller.
    pub async fn has_room(&self) {
        while self.room() == 0 {
            self.shared.room.notified().await;
        }
    }

    /// Next hops to resolve or to forget.
    pub fn track(&self, interests: Vec<NextHopInterest>) {
        let gateway = |interest: &NextHopInterest| match interest {
            NextHopInterest::Resolve(gateway) | NextHopInterest::Forget(gateway) => *gateway,
        };
        self.put(|inbox| {
            inbox
                .interests
                .extend(interests.into_iter().map(|i| (gateway(&i), i)))
        });
    }

    /// A next hop is known to be lost, before the routes that say so are: next-hop groups do without it at once, in
    /// one change whatever the number of routes. Plain routes, and groups that would have nothing left, wait for
    /// [`Fib::apply`].
    pub fn suspend(&self, next_hop: Gateway) {
        self.put(|inbox| {
            inbox.suspensions.insert(next_hop, true);
        });
    }

    /// A next hop may be used again.
    pub fn resume(&self, next_hop: Gateway) {
        self.put(|inbox| {
            inbox.suspensions.insert(next_hop, false);
        });
    }

    /// From these metrics on, for IPv4 and IPv6, a learned route gives way to a workload with the same address;
    /// [`METRIC_NORMAL`] until something else is said.
    pub fn set_normal_metrics(&self, metrics: [u32; 2]) {
        self.put(|inbox| inbox.normal_metrics = Some(metrics));
    }

    /// Routes of a family have converged: adopted routes that are not wanted go now.
    pub fn sweep(&self, family: Family) {
        self.put(|inbox| {
            inbox.sweep.insert(family);
        });
    }

    fn put(&self, change: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.shared.inbox);
        change(&mut inbox);
        inbox.received += 1;
        drop(inbox);
        self.shared.wake.notify_one();
    }

    /// What became known of next hops since the last call (of each, the latest), waiting until there is
    /// something. Cancel-safe.
    pub async fn next_hop_changes(&self) -> Vec<(Gateway, NextHopState)> {
        loop {
            let known = std::mem::take(&mut *lock(&self.shared.resolved));
            if !known.is_empty() {
                return known.into_iter().collect();
            }
            self.shared.resolved_wake.notified().await;
        }
    }

    /// Wait until everything given to the driver before this call has been carried out or refused.
    pub async fn settled(&self) {
        let target = lock(&self.shared.inbox).received;
        loop {
            let settled = self.shared.settled.notified();
            if lock(&self.shared.status).done >= target {
                return;
            }
            settled.await;
        }
    }

    /// Where it stands.
    pub fn status(&self) -> FibStatus {
        let waiting = lock(&self.shared.inbox).changes.len();
        FibStatus {
            waiting,
            ..lock(&self.shared.status).clone()
        }
    }
}

impl Drop for Fib {
    fn drop(&mut self) {
        self.put(|inbox| inbox.stop = true);
        if let Some(thread) = self.thread.take() {
            // It ends after the batch that it is at; a panic there has been reported by itself.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
