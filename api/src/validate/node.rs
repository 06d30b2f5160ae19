//! Nodes.

use super::{Checks, FieldError, texts};
use crate::v3::node::{Node, NodeBgpSpec};

pub(crate) fn node(node: &Node, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &node.spec;
    if let Some(bgp) = &spec.bgp {
        let mut checks = checks.below("bgp");
        if *bgp == NodeBgpSpec::default() {
            checks.missing(
                "",
                "Spec.BGP should not be empty: set an address or remove the field",
            );
        }
        checks.optional("ipv4Address", &bgp.ipv4_address, texts::net_v4);
        checks.optional("ipv6Address", &bgp.ipv6_address, texts::net_v6);
        checks.optional("ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr, texts::ipv4);
        checks.optional(
            "routeReflectorClusterID",
            &bgp.route_reflector_cluster_id,
            texts::ipv4,
        );
    }
    checks.optional("ipv4VXLANTunnelAddr", &spec.ipv4_vxlan_tunnel_addr, texts::ipv4);
    checks.optional("ipv6VXLANTunnelAddr", &spec.ipv6_vxlan_tunnel_addr, texts::ipv6);
    checks.optional("vxlanTunnelMACAddr", &spec.vxlan_tunnel_mac_addr, texts::mac);
    checks.optional("vxlanTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6, texts::mac);
    if let Some(wireguard) = &spec.wireguard {
        let mut checks = checks.below("wireguard");
        checks.optional(
            "interfaceIPv4Address",
            &wireguard.interface_ipv4_address,
            texts::ipv4,
        );
        checks.optional(
            "interfaceIPv6Address",
            &wireguard.interface_ipv6_address,
            texts::ipv6,
        );
    }
    for (i, address) in spec.addresses.iter().enumerate() {
        // The node's own address carries the length of its subnet, so its host bits are set.
        checks.text(
            &format!("addresses[{i}].address"),
            &address.address,
            texts::loose_net,
        );
    }
    for (i, interface) in spec.interfaces.iter().enumerate() {
        let mut checks = checks.below(&format!("interfaces[{i}]"));
        checks.each("addresses", &interface.addresses, texts::loose_net);
    }
    let mut status = Checks::new(errors, "status");
    status.each("podCIDRs", &node.status.pod_cidrs, texts::loose_net);
}
