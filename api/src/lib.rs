//! Calico's v3 resources: types, defaults, validation, the selector language, and the two ways to read them:
//! strictly from a person's file ([`mod@file`]) and tolerantly from the store ([`store`], [`unknown`]).
//!
//! This crate knows nothing of etcd, of the agent or of the kernel: it turns bytes into checked values and back.

#![forbid(unsafe_code)]

mod defaults;
pub mod file;
pub mod ipam_model;
pub mod json;
pub mod kinds;
pub mod meta;
pub mod net;
pub mod object;
pub mod scalar;
pub mod selector;
pub mod store;
pub mod unknown;
pub mod v3;
pub mod validate;
pub mod workload_name;

pub use kinds::{AnyResource, Kind};
pub use meta::ObjectMeta;
pub use object::{API_VERSION, NoStatus, Object, Resource, Spec, Status};
pub use scalar::{AsNumber, Dscp, GoDuration, Port, Protocol, Time};
pub use selector::Selector;
pub use v3::{
    BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, ClusterInformation, GlobalNetworkPolicy,
    GlobalNetworkSet, HostEndpoint, IpPool, IpamBlock, IpamConfiguration, IpamHandle, NetworkPolicy,
    NetworkSet, Node, Profile, Tier, WorkloadEndpoint,
};
pub use validate::FieldError;
