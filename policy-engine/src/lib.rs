//! Policy as a pure, incremental function: resources in, deltas for the dataplane out.

mod bits;
mod clause;
mod compile;
mod evaluate;
pub mod output;

pub use self::evaluate::{Packet, Replica, ReplicaError, Verdict, evaluate};
