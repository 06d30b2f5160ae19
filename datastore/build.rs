//! Generates the etcd v3 services from `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/rpc.proto"], &["proto"])
}
