//! Policy as a pure, incremental function: resources in, deltas for the dataplane out.

mod bits;
mod clause;
mod compile;
mod engine;
mod evaluate;
mod input;
pub mod output;
mod problem;

pub use self::engine::Engine;
pub use self::evaluate::{Packet, Replica, ReplicaError, Verdict, evaluate};
pub use self::input::{Counts, Input};
pub use self::problem::{Instead, Kept, Problem};
