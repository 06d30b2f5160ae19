//! The session's state machine: alone under chosen events, and in pairs over a simulated network
//! with virtual time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod bench;
mod network;

mod collision;
mod negotiation;
mod pairs;
mod path;
mod recording;
mod restart;
mod states;
mod timers;
