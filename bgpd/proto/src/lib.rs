//! The gRPC contract of the BGP speaker.

/// Version 1 of the contract.
pub mod v1 {
    #![allow(
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        reason = "generated code"
    )]
    tonic::include_proto!("margay.bgp.v1");
}
