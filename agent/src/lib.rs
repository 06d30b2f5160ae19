//! The daemon: wires datastore, BGP speaker, policy engine and dataplane together, and tells how they are.
//!
//! It holds no logic of its own beyond translation: v3 resources and this host's blocks into a BGP
//! configuration (`fabric`), syncer updates into policy-engine inputs, policy-engine deltas into the dataplane.

pub mod config;
pub mod endpoint_status;
pub mod fabric;
pub mod flows;
pub mod health;
pub mod metrics;
pub mod rpc;
pub mod view;
