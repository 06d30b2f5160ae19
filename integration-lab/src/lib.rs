//! Runs a containerlab topology in namespaces: the same `*.clab.yml` that `containerlab deploy` takes,
//! with no container engine. What a topology is and how a node is made is here; the `lab` binary is the
//! command line around it.

pub mod bench;
pub mod commands;
pub mod deploy;
pub mod fabric;
pub mod node;
pub mod observe;
pub(crate) mod preflight;
pub mod provision;
pub mod running;
pub mod scenario;
pub mod state;
pub(crate) mod sys;
pub mod topology;
pub mod traffic;
pub mod verify;
pub mod workloads;
