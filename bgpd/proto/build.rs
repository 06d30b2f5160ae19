//! Generates the gRPC types and services from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // What `-o json` prints is the contract's messages.
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .type_attribute(".", "#[serde(rename_all = \"camelCase\")]")
        .field_attribute("Event.what", "#[serde(flatten)]")
        .compile_protos(&["proto/margay/bgp/v1/bgp.proto"], &["proto"])
}
