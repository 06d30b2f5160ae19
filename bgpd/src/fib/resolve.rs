//! From a route's next hop to ways out of this host: by a connected subnet, then by what the kernel's
//! own lookup found. Pure: what was read from the kernel is a parameter.

use std::net::IpAddr;

use netlink::{Address, Hop, Link, Route, RouteKind};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::rib::{Gateway, NextHopState};
use crate::wire::Prefix;

/// Ways out, sorted and without repetition.
pub(super) type Hops = SmallVec<[Hop; 2]>;

/// The links, addresses and what is known of each tracked next hop.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    /// Subnets of links that can carry packets, with the link's index.
    connected: Vec<(Prefix, u32)>,
    own: Vec<IpAddr>,
    /// Links that can carry packets.
    usable: FxHashSet<u32>,
    names: FxHashMap<u32, String>,
    next_hops: FxHashMap<Gateway, Resolution>,
}

/// How a next hop is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    pub(super) hops: Hops,
    metric: u32,
    /// On a link of this host, not by way of another route.
    pub(super) connected: bool,
}

impl Resolver {
    /// New links and addresses. True if they differ from before.
    pub(super) fn set_links(&mut self, links: &[Link], addresses: &[Address]) -> bool {
        // Without carrier a neighbour cannot be reached, and the kernel refuses next-hop objects there.
        let carrying = links.iter().filter(|link| link.up && link.carrier);
        let usable_links: FxHashSet<u32> = carrying.map(|link| link.index).collect();
        let usable = |index| usable_links.contains(&index);
        let mut connected: Vec<_> = addresses
            .iter()
            .filter(|address| !address.no_prefix_route && address.peer.is_none() && usable(address.interface))
            .map(|address| (address.address.trunc(), address.interface))
            .collect();
        // The other end of a point-to-point address.
        connected.extend(
            addresses
                .iter()
                .filter(|a| usable(a.interface))
                .filter_map(|address| {
                    let peer = address.peer?;
                    Some((
                        Prefix::new(peer, address.address.prefix_len()).ok()?.trunc(),
                        address.interface,
                    ))
                }),
        );
        // The longest prefix first.
        connected.sort_by_key(|(subnet, index)| (std::cmp::Reverse(subnet.prefix_len()), *subnet, *index));
        connected.dedup();
        let own = addresses.iter().map(|address| address.address.addr()).collect();
        self.names = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let changed = connected != self.connected || own != self.own || usable_links != self.usable;
        (self.connected, self.own, self.usable) = (connected, own, usable_links);
        changed
    }

    /// Begin or end to follow a next hop.
    pub(super) fn track(&mut self, gateway: Gateway) {
        self.next_hops.entry(gateway).or_default();
    }

    pub(super) fn forget(&mut self, gateway: Gateway) {
        self.next_hops.remove(&gateway);
    }

    pub(super) fn tracked(&self) -> Vec<Gateway> {
        self.next_hops.keys().copied().collect()
    }

    /// Store a resolution; true if it differs from before.
    pub(super) fn set(&mut self, gateway: Gateway, resolution: Resolution) -> bool {
        self.next_hops.get_mut(&gateway).is_some_and(|known| {
            let changed = *known != resolution;
            *known = resolution;
            changed
        })
    }

    /// What the RIB is told of a next hop that is reached like this.
    pub(super) fn state(&self, resolution: &Resolution) -> NextHopState {
        let Some(first) = resolution.hops.first() else {
            return NextHopState::Unreachable;
        };
        let name = first.interface.and_then(|index| self.name(index));
        NextHopState::Reachable {
            metric: resolution.metric,
            interface: name.and_then(|name| name.parse().ok()),
        }
    }

    pub(super) fn get(&self, gateway: Gateway) -> Option<&Resolution> {
        self.next_hops.get(&gateway)
    }

    /// Whether a link could carry packets when it was last looked at.
    pub(super) fn is_usable(&self, index: u32) -> bool {
        self.usable.contains(&index)
    }

    /// Whether next hops are on a link, or would be if it were up.
    pub(super) fn leads_over(&self, interface: u32) -> bool {
        let is_there = |hop: &Hop| hop.interface == Some(interface);
        self.connected.iter().any(|(_, index)| *index == interface)
            || self.next_hops.iter().any(|(gateway, known)| {
                gateway.interface == Some(interface) || known.hops.iter().any(is_there)
            })
    }

    /// Whether what is known of a next hop that is on no link may depend on a route to this prefix.
    pub(super) fn leans_on(&self, destination: &Prefix) -> bool {
        let mut unconnected = self.next_hops.iter().filter(|(_, known)| !known.connected);
        unconnected.any(|(gateway, _)| destination.contains(&gateway.address))
    }

    /// A link has this name now.
    pub(super) fn name_link(&mut self, index: u32, name: &str) {
        if self.name(index) != Some(name) {
            self.names.insert(index, name.to_owned());
        }
    }

    /// The name of a link.
    pub(super) fn name(&self, index: u32) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    /// A neighbour on a link.
    pub(super) fn connected(&self, gateway: Gateway) -> Option<Resolution> {
        let Gateway { address, interface } = gateway;
        if let Some(interface) = interface {
            return Some(self.on_link(address, interface));
        }
        if self.own.contains(&address) {
            return Some(Resolution::default()); // ourselves: no way out
        }
        let (_, interface) = self
            .connected
            .iter()
            .find(|(subnet, _)| subnet.contains(&address))?;
        let hops = [Hop::via(address).on(*interface)].into_iter().collect();
        Some(Resolution {
            hops,
            metric: 0,
            connected: true,
        })
    }

    /// A link-local neighbour: it is on its link as long as that can carry packets, whatever the addresses there.
    fn on_link(&self, address: IpAddr, interface: u32) -> Resolution {
        if !self.usable.contains(&interface) {
            return Resolution::default();
        }
        let hops = [Hop::via(address).on(interface)].into_iter().collect();
        Resolution {
            hops,
            metric: 0,
            connected: true,
        }
    }

    /// What the kernel's lookup says. `is_own` tells routes of ours that may not be leant on, because their
    /// own next hops are not on a link: two such could hold each other up (RFC 4271 section 9.1.2.1).
    pub(super) fn looked_up(
        &self,
        address: IpAddr,
        found: Option<&Route>,
        is_recursive: impl Fn(&Route) -> bool,
    ) -> Resolution {
        let usable = |route: &&Route| route.kind == RouteKind::Unicast && !is_recursive(route);
        let Some(route) = found.filter(usable) else {
            return Resolution::default();
        };
        let ways = route
            .hops
            .iter()
            .filter(|hop| !hop.unusable && hop.interface.is_some());
        let mut hops: Hops = ways
            .map(|hop| Hop {
                gateway: Some(hop.gateway.unwrap_or(address)),
                weight: 1,
                ..*hop
            })
            .collect();
        hops.sort_unstable();
        hops.dedup();
        // Farther than anything on a link.
        Resolution {
            hops,
            metric: route.metric.saturating_add(1),
            connected: false,
        }
    }

    /// The ways out of a route with these next hops.
    pub(super) fn hops<'a>(&self, next_hops: impl IntoIterator<Item = &'a Gateway>) -> Hops {
        let known = next_hops
            .into_iter()
            .filter_map(|gateway| self.next_hops.get(gateway));
        let mut hops: Hops = known
            .flat_map(|resolution| resolution.hops.iter().copied())
            .collect();
        hops.sort_unstable();
        hops.dedup();
        hops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(index: u32, carrier: bool) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            kind: None,
            mac: None,
            mtu: 1500,
            up: true,
            carrier,
            running: carrier,
            loopback: false,
            master: None,
            peer: None,
        }
    }

    fn resolver() -> Resolver {
        let mut resolver = Resolver::default();
        let addresses = [
            Address::new(1, "10.0.0.1/24".parse().unwrap()),
            Address::new(2, "10.0.0.129/25".parse().unwrap()),
            Address::new(3, "10.3.0.1/24".parse().unwrap()),
            Address {
                peer: Some(ip("192.0.2.9")),
                ..Address::new(1, "192.0.2.1/32".parse().unwrap())
            },
            Address::new(2, "fd00::1/64".parse().unwrap()),
        ];
        assert!(resolver.set_links(&[link(1, true), link(2, true), link(3, false)], &addresses));
        assert!(!resolver.set_links(&[link(1, true), link(2, true), link(3, false)], &addresses));
        resolver
    }

    #[test]
    fn a_neighbour_is_on_the_link_with_the_longest_subnet() {
        let resolver = resolver();
        for (address, interface) in [
            ("10.0.0.2", Some(1)),
            ("10.0.0.130", Some(2)),
            ("192.0.2.9", Some(1)),
            ("fd00::9", Some(2)),
            ("192.0.2.1", None),
            ("10.0.0.1", None),
        ] {
            let resolution = resolver.connected(ip(address).into()).unwrap();
            assert_eq!(
                resolution.hops.first().and_then(|hop| hop.interface),
                interface,
                "{address}"
            );
        }
        for elsewhere in ["10.3.0.2", "10.4.0.2", "fd01::1"] {
            assert_eq!(resolver.connected(ip(elsewhere).into()), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_lookup_counts_only_if_it_leads_out() {
        let resolver = resolver();
        let base = Route::new("10.4.0.0/16".parse().unwrap()).metric(20);
        let hop = Hop::via(ip("10.0.0.2")).on(1);
        let never = |_: &Route| false;
        let found = resolver.looked_up(ip("10.4.0.2"), Some(&base.clone().hop(hop)), never);
        let state = NextHopState::Reachable {
            metric: 21,
            interface: "eth1".parse().ok(),
        };
        assert_eq!(resolver.state(&found), state);
        assert_eq!(found.hops.as_slice(), [hop]);
        let direct = base.clone().dev(1);
        let found = resolver.looked_up(ip("10.4.0.2"), Some(&direct), never);
        assert_eq!(found.hops.as_slice(), [Hop::via(ip("10.4.0.2")).on(1)]);
        let dead = base.clone().blackhole();
        let lame = base.clone().hop(Hop {
            unusable: true,
            ..hop
        });
        let own = base.clone().hop(hop);
        for (route, recursive) in [
            (Some(&dead), false),
            (Some(&lame), false),
            (Some(&own), true),
            (None, false),
        ] {
            let found = resolver.looked_up(ip("10.4.0.2"), route, |_| recursive);
            assert_eq!(resolver.state(&found), NextHopState::Unreachable);
        }
    }
}
