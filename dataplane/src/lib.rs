//! The user side of the dataplane: loads, attaches and pins the eBPF programs, fills their maps, and keeps the
//! routes, neighbours, links and sysctls of workloads.
//!
//! A [`Dataplane`] is synchronous and belongs to one thread, in the network namespace that it is to serve. What it
//! puts into the kernel stays there when it is dropped or its process dies, and goes on enforcing; the next
//! [`Dataplane::open`] adopts it.
//!
//! ```no_run
//! # fn main() -> Result<(), dataplane::Error> {
//! # let first_full_batch = Vec::new();
//! let mut dataplane = dataplane::Dataplane::open(dataplane::Config::default())?;
//! let report = dataplane.apply(&first_full_batch)?; // everything that is desired
//! let rest = dataplane.end_of_initial_sync()?; // what was adopted and is not desired goes
//! # let _ = (report, rest);
//! # Ok(()) }
//! ```

mod config;
mod core;
mod error;
mod flow;
pub mod object;
mod status;

pub use config::{Attach, Config, EndpointToHost, Sizes, Timeouts};
pub use core::Dataplane;
pub use error::Error;
pub use flow::{FlowEvent, FlowEvents, Reason, Verdict};
pub use status::{
    ApplyReport, Counters, EndpointState, EndpointStatus, FlowEntry, MapUsage, RouteConflict, RuleHits, Sweep,
};
