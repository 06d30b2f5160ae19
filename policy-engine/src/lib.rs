//! Policy as a pure, incremental function: resources in, deltas for the dataplane out.

mod bits;
mod clause;
mod compile;
mod engine;
mod evaluate;
mod expression;
mod index;
mod input;
pub mod output;
mod policies;
mod problem;
mod resolve;
mod rules;

pub use self::engine::Engine;
pub use self::evaluate::{PROTOCOL_ICMP, PROTOCOL_ICMPV6, Packet, Replica, ReplicaError, Verdict, evaluate};
pub use self::input::{Counts, Input};
pub use self::problem::{Instead, Kept, Problem};
