//! Addresses and prefixes as the maps hold them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_common::{Address, V4_MAPPED, V4_MAPPED_BITS};
use ipnet::IpNet;

/// The map's form of an address.
pub(crate) fn to_map(address: IpAddr) -> Address {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let word = |at: usize| {
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(octets.iter().skip(at)) {
            *to = *from;
        }
        u32::from_ne_bytes(bytes)
    };
    [word(0), word(4), word(8), word(12)]
}

/// The address that the map's form stands for.
pub(crate) fn from_map(address: Address) -> IpAddr {
    let [a, b, c, d] = address;
    if a == 0 && b == 0 && c == V4_MAPPED {
        return Ipv4Addr::from(d.to_ne_bytes()).into();
    }
    let mut octets = [0; 16];
    for (to, word) in octets.chunks_exact_mut(4).zip([a, b, c, d]) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).into()
}

/// The map's form of a prefix: its length there and its bits.
pub(crate) fn net_to_map(net: IpNet) -> (u32, Address) {
    let more = if net.addr().is_ipv4() { V4_MAPPED_BITS } else { 0 };
    (u32::from(net.prefix_len()) + more, to_map(net.network()))
}

/// The reverse of [`net_to_map`]; nothing for what it does not make.
pub(crate) fn net_from_map(length: u32, address: Address) -> Option<IpNet> {
    let address = from_map(address);
    let length = if address.is_ipv4() {
        length.checked_sub(V4_MAPPED_BITS)?
    } else {
        length
    };
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// Whether a prefix is a single address.
pub(crate) fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_survive(bits in any::<u128>(), v4 in any::<bool>(), length in 0u8..=128) {
            let address: IpAddr = if v4 { Ipv4Addr::from(bits as u32).into() } else { Ipv6Addr::from(bits).into() };
            prop_assume!(v4 || from_map(to_map(address)).is_ipv6());
            let length = if v4 { length % 33 } else { length };
            let net = IpNet::new(address, length).unwrap().trunc();
            prop_assume!(v4 || from_map(to_map(net.addr())).is_ipv6());
            let (bits, key) = net_to_map(net);
            prop_assert_eq!(net_from_map(bits, key), Some(net));
        }
    }
}
