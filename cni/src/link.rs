//! The pair of interfaces between host and container, and what is set on both ends.
//!
//! The host's end stays down: the agent sets it up once the endpoint's policy is in force.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use netlink::{Connection, Hop, Mac, Neighbour, NetNs, Route, VethSpec, sysctl, table};

use crate::error::{CniError, Code, Context as _};

/// Of every host end: the gateway's address needs no resolution then.
pub(crate) const HOST_MAC: Mac = Mac([0xee; 6]);
/// The gateway of IPv4 workloads: an address that no one has.
pub(crate) const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The gateway of IPv6 workloads: the link-local address that follows from [`HOST_MAC`].
pub(crate) const GATEWAY_V6: IpAddr =
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee));
/// Metric of the host's routes to its workloads.
const HOST_ROUTE_METRIC: u32 = 1024;

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSpec<'a> {
    pub(crate) host_interface: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) mtu: Option<u32>,
    pub(crate) addresses: &'a [IpNet],
    pub(crate) forwarding: bool,
}

/// The container's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerLink {
    pub(crate) mac: String,
    pub(crate) mtu: u32,
}

/// Opens the container's network namespace.
pub(crate) fn open_netns(path: &str) -> Result<NetNs, CniError> {
    NetNs::open(path).cni(
        Code::UnknownContainer,
        format!("cannot open the container's network namespace {path}"),
    )
}

/// Makes the pair and configures both ends.
pub(crate) fn create(spec: LinkSpec<'_>) -> Result<ContainerLink, CniError> {
    let netns = open_netns(spec.netns)?;
    let mut host = open_host()?;
    delete_host_end(spec.host_interface)?;
    host.create_veth(&VethSpec {
        name: spec.host_interface,
        peer_name: spec.interface,
        peer_netns: Some(&netns),
        mac: Some(HOST_MAC),
        peer_mac: None,
        mtu: spec.mtu,
    })
    .cni(
        Code::Network,
        format!("cannot create {} and {}", spec.host_interface, spec.interface),
    )?;
    let link = configure_container(&netns, spec)?;
    configure_host(spec)?;
    Ok(link)
}

fn open_host() -> Result<Connection, CniError> {
    Connection::open().cni(Code::Network, "cannot open a netlink socket")
}

fn configure_container(netns: &NetNs, spec: LinkSpec<'_>) -> Result<ContainerLink, CniError> {
    let failed = |what: &str| format!("cannot {what} on {} in the container", spec.interface);
    let (v4, v6) = families(spec.addresses);
    let on = if spec.forwarding { "1" } else { "0" };
    let own_dad = format!("net/ipv6/conf/{}/accept_dad", spec.interface);
    let own_disable = format!("net/ipv6/conf/{}/disable_ipv6", spec.interface);
    let mut settings = Vec::new();
    if v4 {
        settings.push(("net/ipv4/ip_forward", on));
    }
    if v6 {
        settings.extend([
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            ("net/ipv6/conf/lo/disable_ipv6", "0"),
            (own_disable.as_str(), "0"),
            (own_dad.as_str(), "0"),
            ("net/ipv6/conf/all/forwarding", on),
        ]);
    }
    sysctl::write_in(netns, &settings).cni(Code::Network, failed("change settings"))?;

    let mut inside = Connection::open_in(netns).cni(Code::Network, failed("open a netlink socket"))?;
    let index = inside
        .index_of(spec.interface)
        .cni(Code::Network, failed("find the link"))?;
    inside
        .set_up(index)
        .cni(Code::Network, failed("set the link up"))?;
    for address in spec.addresses {
        inside
            .add_address(index, *address)
            .cni(Code::Network, failed(&format!("add {address}")))?;
    }
    // The gateway answers no ARP where the host has no route for its address, so its entry is written.
    for (gateway, _) in [(GATEWAY_V4, v4), (GATEWAY_V6, v6)]
        .into_iter()
        .filter(|(_, wanted)| *wanted)
    {
        let neighbour = Neighbour::permanent(index, gateway, HOST_MAC);
        inside
            .set_neighbour(&neighbour)
            .cni(Code::Network, failed(&format!("add the neighbour {gateway}")))?;
    }
    for route in container_routes(index, spec.addresses) {
        inside.add_route(&route).cni(
            Code::Network,
            failed(&format!("add a route to {}", route.destination)),
        )?;
    }
    let link = inside
        .link_by_index(index)
        .cni(Code::Network, failed("read the link"))?;
    let link = link.ok_or_else(|| CniError::new(Code::Network, failed("read the link"), "it is gone"))?;
    Ok(ContainerLink {
        mac: link.mac.map(mac_text).unwrap_or_default(),
        mtu: link.mtu,
    })
}

/// The routes of a container with these addresses.
pub(crate) fn container_routes(interface: u32, addresses: &[IpNet]) -> Vec<Route> {
    let (v4, v6) = families(addresses);
    let mut routes = Vec::new();
    if v4 {
        routes.push(Route::new(IpNet::from(GATEWAY_V4)).dev(interface));
        routes.push(Route::new(default_net(GATEWAY_V4)).hop(Hop::via(GATEWAY_V4).on(interface)));
    }
    if v6 {
        routes.push(Route::new(default_net(GATEWAY_V6)).hop(Hop::via(GATEWAY_V6).on(interface)));
    }
    routes
}

fn default_net(of: IpAddr) -> IpNet {
    match of {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

fn configure_host(spec: LinkSpec<'_>) -> Result<(), CniError> {
    let name = spec.host_interface;
    let (v4, v6) = families(spec.addresses);
    let set = |path: String, value: &str| {
        sysctl::write(&path, value).cni(Code::Network, format!("cannot configure {name}"))
    };
    if v4 {
        set(format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
        // Some kernels refuse it; it only makes the first answer faster.
        if let Err(error) = sysctl::write(&format!("net/ipv4/neigh/{name}/proxy_delay"), "0") {
            tracing::warn!(%error, "proxy_delay stays as it is");
        }
        set(format!("net/ipv4/conf/{name}/proxy_arp"), "1")?;
        set(format!("net/ipv4/conf/{name}/forwarding"), "1")?;
    }
    if v6 {
        set(format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
        set(format!("net/ipv6/conf/{name}/accept_dad"), "0")?;
        if let Err(error) = sysctl::write(&format!("net/ipv6/conf/{name}/accept_ra"), "0") {
            tracing::warn!(%error, "accept_ra stays as it is");
        }
        set(format!("net/ipv6/conf/{name}/proxy_ndp"), "1")?;
        set(format!("net/ipv6/conf/{name}/forwarding"), "1")?;
    }
    Ok(())
}

/// The host's routes to the container: makes those that the dataplane has not made yet. The host's end must be up.
pub(crate) fn ensure_host_routes(host_interface: &str, addresses: &[IpNet]) -> Result<(), CniError> {
    let mut host = open_host()?;
    let failed = |address: &IpNet| format!("cannot route {address} to {host_interface}");
    let index = host
        .index_of(host_interface)
        .cni(Code::Network, format!("cannot find {host_interface}"))?;
    for address in addresses {
        match host_route(&mut host, index, address)? {
            HostRoute::Ours => {}
            HostRoute::Missing => {
                let route = Route::new(*address).dev(index).metric(HOST_ROUTE_METRIC);
                match host.add_route(&route) {
                    // The dataplane was faster.
                    Err(error) if error.is_exists() => {}
                    other => other.cni(Code::Network, failed(address))?,
                }
            }
            HostRoute::Foreign(what) => {
                let details =
                    format!("{what} has a route for it; remove that route or the workload behind it");
                return Err(CniError::new(Code::Network, failed(address), details));
            }
        }
    }
    Ok(())
}

enum HostRoute {
    Ours,
    Missing,
    Foreign(String),
}

fn host_route(host: &mut Connection, index: u32, address: &IpNet) -> Result<HostRoute, CniError> {
    let routes = host
        .routes_to(*address, table::MAIN)
        .cni(Code::Network, format!("cannot read the routes to {address}"))?;
    let hops = || routes.iter().flat_map(|route| &route.hops);
    if hops().any(|hop| hop.interface == Some(index)) {
        return Ok(HostRoute::Ours);
    }
    // Another interface that goes straight to the address; routes that were learned have a gateway and do no harm.
    let direct = hops()
        .find(|hop| hop.gateway.is_none())
        .and_then(|hop| hop.interface);
    Ok(match direct {
        None => HostRoute::Missing,
        Some(other) => {
            let name = host.link_by_index(other).ok().flatten().map(|link| link.name);
            HostRoute::Foreign(name.unwrap_or_else(|| format!("interface {other}")))
        }
    })
}

/// Deletes the host's end, and with it the container's. Nothing there is fine.
pub(crate) fn delete_host_end(name: &str) -> Result<(), CniError> {
    let failed = || format!("cannot delete {name}");
    let mut host = open_host()?;
    let Some(link) = host.link(name).cni(Code::Network, failed())? else {
        return Ok(());
    };
    match host.delete_link(link.index) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.cni(Code::Network, failed()),
    }
}

/// Deletes the container's end. A namespace or link that is gone is fine.
pub(crate) fn delete_container_end(netns: &str, interface: &str) -> Result<(), CniError> {
    if netns.is_empty() || !Path::new(netns).exists() {
        return Ok(());
    }
    let failed = || format!("cannot delete {interface} in the container");
    // A path whose namespace was unmounted is a plain file.
    let mut inside = match NetNs::open(netns).and_then(|netns| Connection::open_in(&netns)) {
        Ok(inside) => inside,
        Err(error) => {
            tracing::warn!(netns, %error, "the network namespace is gone");
            return Ok(());
        }
    };
    let Some(link) = inside.link(interface).cni(Code::Network, failed())? else {
        return Ok(());
    };
    // What an ADD that failed for this very reason found there is not ours.
    if link.kind.as_deref() != Some("veth") {
        tracing::warn!(
            interface,
            kind = link.kind,
            "the container's interface is no veth and stays"
        );
        return Ok(());
    }
    match inside.delete_link(link.index) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.cni(Code::Network, failed()),
    }
}

/// Compares what is there with what ADD made; gives the differences.
pub(crate) fn differences(spec: LinkSpec<'_>) -> Result<Vec<String>, CniError> {
    let mut found = Vec::new();
    let netns = open_netns(spec.netns)?;
    let reading = || format!("cannot read the state of {} in the container", spec.interface);
    let mut inside = Connection::open_in(&netns).cni(Code::Network, reading())?;
    match inside.link(spec.interface).cni(Code::Network, reading())? {
        None => found.push(format!(
            "interface {} is missing in the container",
            spec.interface
        )),
        Some(link) => {
            if !link.up {
                found.push(format!("interface {} is down in the container", spec.interface));
            }
            let present = inside.addresses().cni(Code::Network, reading())?;
            for address in spec.addresses {
                if !present
                    .iter()
                    .any(|a| a.interface == link.index && a.address == *address)
                {
                    found.push(format!("address {address} is missing on {}", spec.interface));
                }
            }
            for route in container_routes(link.index, spec.addresses) {
                let there = inside
                    .routes_to(route.destination, table::MAIN)
                    .cni(Code::Network, reading())?;
                let same = |r: &Route| {
                    r.hops.iter().any(|hop| {
                        hop.interface == Some(link.index)
                            && hop.gateway == route.hops.first().and_then(|wanted| wanted.gateway)
                    })
                };
                if !there.iter().any(same) {
                    found.push(format!(
                        "the route to {} is missing in the container",
                        route.destination
                    ));
                }
            }
        }
    }
    let mut host = open_host()?;
    match host.link(spec.host_interface).cni(Code::Network, reading())? {
        None => found.push(format!(
            "interface {} is missing on the host",
            spec.host_interface
        )),
        Some(link) => {
            if !link.up {
                found.push(format!("interface {} is down on the host", spec.host_interface));
            }
            for address in spec.addresses {
                if !matches!(host_route(&mut host, link.index, address)?, HostRoute::Ours) {
                    found.push(format!(
                        "the host has no route to {address} through {}",
                        spec.host_interface
                    ));
                }
            }
        }
    }
    Ok(found)
}

/// Whether the container has the interface with these addresses.
pub(crate) fn container_has(
    netns: &str,
    interface: &str,
    addresses: &[IpNet],
) -> Result<Option<ContainerLink>, CniError> {
    let reading = || format!("cannot read the state of {interface} in the container");
    let mut inside = Connection::open_in(&open_netns(netns)?).cni(Code::Network, reading())?;
    let Some(link) = inside.link(interface).cni(Code::Network, reading())? else {
        return Ok(None);
    };
    let present = inside.addresses().cni(Code::Network, reading())?;
    let all = addresses.iter().all(|address| {
        present
            .iter()
            .any(|a| a.interface == link.index && a.address == *address)
    });
    Ok(all.then(|| ContainerLink {
        mac: link.mac.map(mac_text).unwrap_or_default(),
        mtu: link.mtu,
    }))
}

/// Whether the host's end is there and up.
pub(crate) fn host_end_is_up(name: &str) -> Result<bool, CniError> {
    let link = open_host()?
        .link(name)
        .cni(Code::Network, format!("cannot read the state of {name}"))?;
    Ok(link.is_some_and(|link| link.up))
}

/// Whether there are IPv4 and IPv6 addresses.
fn families(addresses: &[IpNet]) -> (bool, bool) {
    let v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    (addresses.iter().any(v4), !addresses.iter().all(v4))
}

fn mac_text(mac: Mac) -> String {
    mac.0.map(|byte| format!("{byte:02x}")).join(":")
}
