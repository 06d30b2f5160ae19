//! A BGP-4 speaker: library and daemon.

pub mod bfd;
pub mod bmp;
pub mod config;
pub mod fib;
mod monitor;
pub mod mrt;
pub mod policy;
pub mod rib;
pub mod rpc;
pub mod session;
pub mod speaker;
pub mod wire;
