//! A compiled rule list in maps: classes, bit vectors and rules.

use crate::Address;

/// Words of 64 rules in a vector.
pub const VECTOR_WORDS: usize = 64;

/// One bit a rule. Bit `i` of `summary` says whether `words[i]` has a bit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Which words are not 0.
    pub summary: u64,
    /// Bit `i % 64` of word `i / 64` is rule `i`.
    pub words: [u64; VECTOR_WORDS],
}

/// Slot of the vector that has every bit; dimensions that a program does not use point to it.
pub const VECTOR_ALL: u32 = 0;

/// The dimensions of a program; the value is the bit in [`Program::dimensions`] and the index in
/// [`Program::defaults`].
pub mod dimension {
    /// Identity of the source.
    pub const SOURCE_IDENTITY: u32 = 0;
    /// Identity of the destination.
    pub const DESTINATION_IDENTITY: u32 = 1;
    /// Source prefix.
    pub const SOURCE_NET: u32 = 2;
    /// Destination prefix.
    pub const DESTINATION_NET: u32 = 3;
    /// Protocol and source port.
    pub const SOURCE_PORT: u32 = 4;
    /// Protocol and destination port.
    pub const DESTINATION_PORT: u32 = 5;
    /// Source address, protocol, port.
    pub const SOURCE_TUPLE: u32 = 6;
    /// Destination address, protocol, port.
    pub const DESTINATION_TUPLE: u32 = 7;
    /// ICMP type and code.
    pub const ICMP: u32 = 8;
    /// How many there are.
    pub const COUNT: usize = 9;
}

/// Value of `PROGRAMS`, keyed by program id. Vectors are named by their slot in `VECTORS`, here and in the tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// First slot in `RULES` and `RULE_HITS`.
    pub rules: u32,
    /// Slots used there.
    pub rule_count: u32,
    /// Bit `d` is set if dimension `d` constrains a rule.
    pub dimensions: u32,
    /// The vector of ICMP packets whose type has no class.
    pub icmp_other: u32,
    /// Per dimension the vector of everything without a class.
    pub defaults: [u32; dimension::COUNT],
}

/// Value of `RULES`: an action in the upper 16 bits and the next rule of [`ACTION_PASS`] in the lower.
pub type Rule = u32;

/// The packet passes.
pub const ACTION_ALLOW: u32 = 1;
/// The packet is dropped.
pub const ACTION_DENY: u32 = 2;
/// Evaluation goes on at another rule.
pub const ACTION_PASS: u32 = 3;
/// The packet is recorded and evaluation goes on.
pub const ACTION_LOG: u32 = 4;

/// Builds a [`Rule`].
pub const fn rule(action: u32, next: u16) -> Rule {
    action << 16 | next as u32
}

/// Value of `RULE_HITS`, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// How often the rule decided, logged or passed.
    pub packets: u64,
    /// Bytes of those packets, without link headers.
    pub bytes: u64,
}

/// Key of `IDENTITY_NETS`, a longest-prefix map. The family comes first: `::/0` covers no IPv4 address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdentityNetKey {
    /// 4 or 6.
    pub family: u32,
    /// A prefix's bits.
    pub address: Address,
}

/// Bits of an [`IdentityNetKey`] before the address.
pub const IDENTITY_NET_KEY_BITS: u32 = 32;

/// Value of `IDENTITIES` (keyed by address) and `IDENTITY_NETS` (by prefix).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// For generations of an epoch before `since`.
    pub before: u32,
    /// For the others.
    pub after: u32,
    /// First epoch of `after`.
    pub since: u32,
}

/// Key of `CLASSES`: identities and ICMP types.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassKey {
    /// Program id.
    pub program: u32,
    /// One of [`dimension`].
    pub dimension: u32,
    /// An identity, or [`icmp_class`].
    pub value: u32,
}

/// The code that stands for every code without an entry of its own.
pub const ICMP_CODE_ANY: u32 = 0x100;

/// The class value of an ICMP type and a code (or [`ICMP_CODE_ANY`]).
pub const fn icmp_class(kind: u8, code: u32) -> u32 {
    (kind as u32) << 16 | code
}

/// Key of `NETS`, a longest-prefix map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetKey {
    /// Program id.
    pub program: u32,
    /// [`dimension::SOURCE_NET`] or [`dimension::DESTINATION_NET`].
    pub dimension: u32,
    /// A prefix's bits.
    pub address: Address,
}

/// Bits of a [`NetKey`] before the address.
pub const NET_KEY_BITS: u32 = 64;

/// Key of `PORTS`, a longest-prefix map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PortKey {
    /// Program id.
    pub program: u32,
    /// [`dimension::SOURCE_PORT`] or [`dimension::DESTINATION_PORT`].
    pub dimension: u8,
    /// IP protocol.
    pub protocol: u8,
    /// Network byte order.
    pub port: u16,
}

/// Bits of a [`PortKey`] before the port.
pub const PORT_KEY_BITS: u32 = 48;

/// Key of `TUPLES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TupleKey {
    /// Program id.
    pub program: u32,
    /// [`dimension::SOURCE_TUPLE`] or [`dimension::DESTINATION_TUPLE`].
    pub dimension: u8,
    /// IP protocol.
    pub protocol: u8,
    /// Host byte order.
    pub port: u16,
    /// The address of the side that the port belongs to.
    pub address: Address,
}
