//! What stops the dataplane as a whole. Failures of single endpoints are in [`ApplyReport`](crate::ApplyReport).

use std::path::PathBuf;

/// Errors of the dataplane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pin directory cannot be used.
    #[error(
        "pin directory {path}: {reason}; mount a bpffs there (mount -t bpf bpf /sys/fs/bpf) or change pin_dir"
    )]
    PinDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A program was refused.
    #[error("eBPF program {name} does not load: {reason}; kernel 5.11 or newer with BTF is needed")]
    Program {
        /// The program.
        name: &'static str,
        /// The end of the verifier's words.
        reason: String,
    },
    /// A program does not go to an interface.
    #[error("interface {interface}: {hook} cannot be attached: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// The program.
        hook: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A map operation failed.
    #[error("eBPF map {map}: {action}: {reason}")]
    Map {
        /// The map.
        map: &'static str,
        /// What was being done.
        action: &'static str,
        /// The system's words.
        reason: String,
    },
    /// A map has no room.
    #[error(
        "eBPF map {map} is full ({used} of {size} in use, {wanted} more needed); raise sizes.{key} and restart"
    )]
    Full {
        /// The map.
        map: &'static str,
        /// The key in the configuration.
        key: &'static str,
        /// Entries in use.
        used: u32,
        /// Entries that fit.
        size: u32,
        /// Entries needed.
        wanted: u32,
    },
    /// A batch refers to something that is not there.
    #[error(
        "delta for {subject}: {reason}; the batch was not applied, a full resync of the policy engine is needed"
    )]
    Delta {
        /// What the delta is about.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// A system call.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// The system's error.
        source: std::io::Error,
    },
}
