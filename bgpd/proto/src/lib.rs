//! The gRPC contract of the BGP speaker, and the commands that speak it: `bgpd` and `calicoctl bgp` share them.

pub mod client;
pub mod commands;

/// Version 1 of the contract.
pub mod v1 {
    #![allow(
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        reason = "generated code"
    )]
    tonic::include_proto!("margay.bgp.v1");
}
