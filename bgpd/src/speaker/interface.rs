//! What the host's interfaces say about a session.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::wire::{Family, NextHop, Prefix};

/// The surroundings of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// What we are as a next hop, for IPv4 and IPv6 prefixes.
    pub(super) next_hops: [Option<NextHop>; 2],
    /// The subnet of our address, if the neighbour is in it.
    pub(super) shared_subnet: Option<Prefix>,
}

impl Surroundings {
    /// Looks at the interface that has our address of the session.
    pub(super) fn of(local: IpAddr, remote: IpAddr) -> Self {
        let addresses = match getifaddrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(%error, "cannot list the host's addresses");
                return Self::from_addresses(local, remote, &[]);
            }
        };
        let nets: Vec<(String, IpNet)> = addresses
            .filter_map(|entry| {
                let address = ip(entry.address.as_ref()?)?;
                let mask = ip(entry.netmask.as_ref()?)?;
                Some((entry.interface_name, IpNet::with_netmask(address, mask).ok()?))
            })
            .collect();
        Self::from_addresses(local, remote, &nets)
    }

    fn from_addresses(local: IpAddr, remote: IpAddr, nets: &[(String, IpNet)]) -> Self {
        let own = nets.iter().find(|(_, net)| net.addr() == local);
        let on_interface = |(name, _): &&(String, IpNet)| own.is_some_and(|(own, _)| own == name);
        let next_hop = |family| {
            if Family::of_address(local) == family {
                return Some(NextHop::from(local));
            }
            // Routes of the other family need an address of it on the same link.
            let usable =
                |address: &IpAddr| Family::of_address(*address) == family && !is_link_local(*address);
            nets.iter()
                .filter(on_interface)
                .map(|(_, net)| net.addr())
                .find(usable)
                .map(NextHop::from)
        };
        Self {
            next_hops: Family::ALL.map(next_hop),
            shared_subnet: own
                .map(|(_, net)| net.trunc())
                .filter(|net| net.contains(&remote)),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|address| IpAddr::V6(Ipv6Addr::from(address.ip().octets())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_family_comes_from_the_same_interface() {
        let nets: Vec<(String, IpNet)> = [
            ("lo", "127.0.0.1/8"),
            ("eth0", "10.0.0.1/24"),
            ("eth0", "fe80::1/64"),
            ("eth0", "2001:db8::1/64"),
            ("eth1", "2001:db8:1::1/64"),
        ]
        .map(|(name, net)| (name.to_owned(), net.parse().unwrap()))
        .into();
        let around =
            Surroundings::from_addresses("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), &nets);
        let addresses = around
            .next_hops
            .map(|hop| hop.map(|hop| hop.address().to_string()));
        assert_eq!(
            addresses,
            [Some("10.0.0.1".to_owned()), Some("2001:db8::1".to_owned())]
        );
        assert_eq!(around.shared_subnet, Some("10.0.0.0/24".parse().unwrap()));
        let far = Surroundings::from_addresses(
            "2001:db8:1::1".parse().unwrap(),
            "2001:db8:9::1".parse().unwrap(),
            &nets,
        );
        assert_eq!((far.next_hops[0], far.shared_subnet), (None, None));
    }
}
