//! What the host's interfaces say about a session.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockaddrStorage;

use crate::config::InterfaceName;
use crate::wire::{Family, NextHop, Prefix};

/// The surroundings of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// What we are as a next hop, for IPv4 and IPv6 prefixes.
    pub(super) next_hops: [Option<NextHop>; 2],
    /// The subnet of our address, if the neighbour is in it.
    pub(super) shared_subnet: Option<Prefix>,
    /// The index of the interface that has our address, if the neighbour is in its subnet.
    pub(super) interface: Option<u32>,
}

/// The two ends of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// Our address.
    pub(super) local: IpAddr,
    /// The neighbour's.
    pub(super) remote: IpAddr,
    /// The interface, where our address is link-local: others may have the same.
    pub(super) interface: Option<InterfaceName>,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub(super) extended_next_hop: bool,
}

impl Surroundings {
    /// Looks at the interface that has our address of the session.
    pub(super) fn of(ends: Ends) -> Self {
        let addresses = match getifaddrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(%error, "cannot list the host's addresses");
                return Self::from_addresses(ends, &[]);
            }
        };
        let nets: Vec<(String, IpNet)> = addresses
            .filter_map(|entry| {
                let address = ip(entry.address.as_ref()?)?;
                let mask = ip(entry.netmask.as_ref()?)?;
                Some((entry.interface_name, IpNet::with_netmask(address, mask).ok()?))
            })
            .collect();
        Self::from_addresses(ends, &nets)
    }

    fn from_addresses(ends: Ends, nets: &[(String, IpNet)]) -> Self {
        let Ends {
            local,
            remote,
            interface,
            extended_next_hop,
        } = ends;
        let is_there = |name: &str| interface.is_none_or(|interface| interface.as_str() == name);
        let own = nets
            .iter()
            .find(|(name, net)| net.addr() == local && is_there(name));
        let on_interface = |(name, _): &&(String, IpNet)| own.is_some_and(|(own, _)| own == name);
        let on_link = |family| {
            let usable =
                |address: &IpAddr| Family::of_address(*address) == family && !is_link_local(*address);
            nets.iter()
                .filter(on_interface)
                .map(|(_, net)| net.addr())
                .find(usable)
        };
        let next_hop = |family| match (local, family) {
            // RFC 2545 section 3: the link-local address goes with a global one, where there is one.
            (IpAddr::V6(link_local), Family::Ipv6Unicast) if link_local.is_unicast_link_local() => {
                Some(match on_link(family) {
                    Some(IpAddr::V6(global)) => NextHop::V6 {
                        global,
                        link_local: Some(link_local),
                    },
                    _ => NextHop::link_local(link_local),
                })
            }
            _ if Family::of_address(local) == family => Some(NextHop::from(local)),
            // Routes of the other family need an address of it on the same link.
            _ => on_link(family).map(NextHop::from),
        };
        let [v4, v6] = Family::ALL.map(next_hop);
        let over_v6 = extended_next_hop && local.is_ipv6();
        let shared = own.filter(|(_, net)| net.contains(&remote));
        Self {
            next_hops: [if over_v6 { v6 } else { v4 }, v6],
            shared_subnet: shared
                .map(|(_, net)| net.trunc())
                .filter(|_| !is_link_local(remote)),
            interface: shared.and_then(|(name, _)| if_nametoindex(name.as_str()).ok()),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

pub(super) fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
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
        let ends = |local: &str, remote: &str| Ends {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            interface: None,
            extended_next_hop: false,
        };
        let around = Surroundings::from_addresses(ends("10.0.0.1", "10.0.0.2"), &nets);
        let addresses = around
            .next_hops
            .map(|hop| hop.map(|hop| hop.address().to_string()));
        assert_eq!(
            addresses,
            [Some("10.0.0.1".to_owned()), Some("2001:db8::1".to_owned())]
        );
        assert_eq!(around.shared_subnet, Some("10.0.0.0/24".parse().unwrap()));
        let far = Surroundings::from_addresses(ends("2001:db8:1::1", "2001:db8:9::1"), &nets);
        assert_eq!((far.next_hops[0], far.shared_subnet), (None, None));
    }

    #[test]
    fn on_a_link_the_address_there_is_the_next_hop_of_both_families() {
        let nets: Vec<(String, IpNet)> = [
            ("eth0", "fe80::1/64"),
            ("eth1", "10.0.0.1/24"),
            ("eth1", "fe80::1/64"),
            ("eth2", "fe80::1/64"),
            ("eth2", "2001:db8::1/64"),
        ]
        .map(|(name, net)| (name.to_owned(), net.parse().unwrap()))
        .into();
        let around = |interface: &str, extended_next_hop| {
            let ends = Ends {
                local: "fe80::1".parse().unwrap(),
                remote: "fe80::2".parse().unwrap(),
                interface: Some(interface.parse().unwrap()),
                extended_next_hop,
            };
            let around = Surroundings::from_addresses(ends, &nets);
            assert_eq!(around.shared_subnet, None);
            around.next_hops
        };
        let link_local = Some(NextHop::link_local("fe80::1".parse().unwrap()));
        let both = Some(NextHop::V6 {
            global: "2001:db8::1".parse().unwrap(),
            link_local: Some("fe80::1".parse().unwrap()),
        });
        let v4 = Some(NextHop::V4("10.0.0.1".parse().unwrap()));
        assert_eq!(around("eth0", true), [link_local, link_local]);
        assert_eq!(around("eth0", false), [None, link_local]);
        assert_eq!(around("eth1", true), [link_local, link_local]);
        assert_eq!(around("eth1", false), [v4, link_local]);
        assert_eq!(around("eth2", true), [both, both]);
    }
}
