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

mod address;
mod adopt;
mod attach;
mod batch;
mod config;
mod conntrack;
mod error;
mod flow;
mod identity;
mod kernel;
mod names;
pub mod object;
mod plane;
mod programs;
mod publish;
mod settle;
mod slots;
mod status;
mod sys;
mod tc;
mod vectors;
mod workload;

pub use config::{Attach, Config, EndpointToHost, Sizes, Timeouts};
pub use error::Error;
pub use flow::{FlowEvent, FlowEvents, Reason, Verdict};
pub use plane::Dataplane;
pub use status::{
    ApplyReport, Counters, EndpointState, EndpointStatus, FlowEntry, MapUsage, RouteConflict, RuleHits, Sweep,
};
