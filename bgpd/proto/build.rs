//! Generates the gRPC types and services from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/margay/bgp/v1/bgp.proto"], &["proto"])
}
