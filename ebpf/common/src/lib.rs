//! The map layout: what the eBPF programs and user space agree on.
//!
//! Every type is `repr(C)` with its padding spelled out, because map keys are compared byte by byte. Raise
//! [`LAYOUT_VERSION`] with every change of a type, a map's kind, or the meaning of a field: maps of another version
//! are not adopted.
#![no_std]

pub mod conntrack;
pub mod endpoint;
pub mod event;
pub mod program;
#[cfg(feature = "user")]
mod sys;

/// Version of everything in this crate.
pub const LAYOUT_VERSION: u32 = 1;

/// An address of either family in network byte order; IPv4 is mapped (`::ffff:a.b.c.d`). IPv6 packets with mapped
/// addresses are dropped, so the two never meet.
pub type Address = [u32; 4];

/// The third word of a mapped IPv4 address.
pub const V4_MAPPED: u32 = 0xffff_u32.to_be();

/// Bits that a mapped IPv4 prefix has more than the IPv4 prefix.
pub const V4_MAPPED_BITS: u32 = 96;
