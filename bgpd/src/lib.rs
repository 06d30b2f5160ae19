//! A BGP-4 speaker: library and daemon.

pub mod policy;
pub mod wire;
