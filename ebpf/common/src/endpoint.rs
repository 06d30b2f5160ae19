//! What a hook knows of the endpoint behind its interface.

use crate::Address;

/// Addresses held in a [`Generation`]; an endpoint's further ones are entries of the `SOURCES` map.
pub const OWN_ADDRESSES_MAX: usize = 4;

/// Index of a program id in [`Generation::programs`].
pub const INGRESS_V4: usize = 0;
/// See [`INGRESS_V4`].
pub const EGRESS_V4: usize = 1;
/// See [`INGRESS_V4`].
pub const INGRESS_V6: usize = 2;
/// See [`INGRESS_V4`].
pub const EGRESS_V6: usize = 3;

/// Value of `INTERFACES`, keyed by interface index. It is read as one 64-bit load and names its own key, because the
/// kernel may reuse a replaced element while a program still looks at it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// The interface that this is for.
    pub ifindex: u32,
    /// Key in `GENERATIONS`.
    pub generation: u32,
}

/// What is enforced on an interface: published whole, never changed afterwards.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Program ids: [`INGRESS_V4`], [`EGRESS_V4`], [`INGRESS_V6`], [`EGRESS_V6`].
    pub programs: [u32; 4],
    /// Which side of a changing [`Identity`](crate::program::Identity) holds; approvals of another epoch are void.
    pub epoch: u32,
    /// Number of the endpoint, for events.
    pub endpoint: u32,
    /// First part of [`SourceKey`]; 0 if the endpoint has no sources but `addresses`.
    pub sources: u32,
    /// [`HOST_ALLOWED`].
    pub flags: u32,
    /// How many of `addresses` count.
    pub address_count: u32,
    /// 0.
    pub padding: u32,
    /// The endpoint's own addresses.
    pub addresses: [Address; OWN_ADDRESSES_MAX],
}

/// The workload may talk to its host where its egress policy allows it.
pub const HOST_ALLOWED: u32 = 1;

/// Key of `SOURCES`, a longest-prefix map: the sources that an endpoint may use besides its first addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// [`source_set`] of [`Generation::sources`].
    pub set: u32,
    /// A prefix's bits.
    pub address: Address,
}

/// The sources of one family: `::/0` covers no IPv4 address.
pub const fn source_set(sources: u32, is_v6: bool) -> u32 {
    sources << 1 | is_v6 as u32
}

/// The highest [`Generation::sources`].
pub const SOURCES_ID_MAX: u32 = u32::MAX >> 1;

/// Bits of a [`SourceKey`] before the address.
pub const SOURCE_KEY_BITS: u32 = 32;
