//! The daemon: wires datastore, BGP speaker, policy engine and dataplane together, and tells how they are.
//!
//! It holds no logic of its own beyond translation: v3 resources and this host's blocks into a BGP
//! configuration ([`fabric`]), syncer updates into policy-engine inputs ([`world`]), policy-engine deltas into the
//! dataplane ([`dataplane_thread`]). [`agent`] is the wiring.

pub mod agent;
pub mod bgp;
pub mod config;
pub mod dataplane_thread;
pub mod endpoint_status;
pub mod fabric;
mod feeds;
mod flow_event;
pub mod flows;
pub mod health;
pub mod metrics;
mod metrics_bgp;
mod node;
mod peer_access;
pub mod rpc;
mod secrets;
mod status_writer;
pub mod view;
pub mod world;
