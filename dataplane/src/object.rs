//! The compiled eBPF object, embedded.

/// The ELF object that `build.rs` compiled from `ebpf/`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/margay.bpf.o"));
