//! BGP configuration and peers.

use std::collections::BTreeSet;

use super::{Checks, FieldError, Refusal, texts};
use crate::net::parse_peer_address;
use crate::scalar::AsNumber;
use crate::v3::bgp_configuration::BgpConfiguration;
use crate::v3::bgp_peer::BgpPeer;

/// The most named communities, and the most prefix advertisements.
const COMMUNITIES_MAX: usize = 500;
/// The most communities of one prefix.
const PREFIX_COMMUNITIES_MAX: usize = 50;
/// The largest metric of a route; the one above it stays free.
pub(super) const ROUTE_PRIORITY_MAX: i64 = 2_147_483_646;
const LOG_SEVERITIES: [&str; 6] = ["trace", "debug", "info", "warning", "error", "fatal"];

fn log_severity(text: &str) -> Refusal {
    if LOG_SEVERITIES.contains(&text.to_ascii_lowercase().as_str()) {
        Ok(())
    } else {
        Err("must be Trace, Debug, Info, Warning, Error or Fatal".to_owned())
    }
}

pub(crate) fn bgp_configuration(configuration: &BgpConfiguration, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &configuration.spec;
    checks.optional("logSeverityScreen", &spec.log_severity_screen, log_severity);
    for (field, blocks) in [
        ("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
        ("serviceExternalIPs", &spec.service_external_ips),
        ("serviceClusterIPs", &spec.service_cluster_ips),
    ] {
        for (i, block) in blocks.iter().enumerate() {
            checks.text(&format!("{field}[{i}].cidr"), &block.cidr, texts::masked_net);
        }
    }
    if configuration.metadata.name != "default" {
        for (set, field) in [
            (spec.node_to_node_mesh_enabled.is_some(), "nodeToNodeMeshEnabled"),
            (spec.as_number.is_some(), "asNumber"),
            (
                !spec.service_load_balancer_ips.is_empty(),
                "serviceLoadBalancerIPs",
            ),
            (!spec.service_external_ips.is_empty(), "serviceExternalIPs"),
            (!spec.service_cluster_ips.is_empty(), "serviceClusterIPs"),
            (spec.node_mesh_password.is_some(), "nodeMeshPassword"),
            (
                spec.node_mesh_max_restart_time.is_some(),
                "nodeMeshMaxRestartTime",
            ),
        ] {
            if set {
                checks.missing(
                    field,
                    format!("Cannot set {field} on a non default BGP Configuration."),
                );
            }
        }
    }
    if spec.node_to_node_mesh_enabled == Some(false) {
        for (set, field) in [
            (spec.node_mesh_password.is_some(), "nodeMeshPassword"),
            (
                spec.node_mesh_max_restart_time.is_some(),
                "nodeMeshMaxRestartTime",
            ),
        ] {
            if set {
                checks.missing(
                    field,
                    format!("Cannot set {field} when the node-to-node mesh is disabled"),
                );
            }
        }
    }
    communities(&mut checks, configuration);
    for (i, pattern) in spec.ignored_interfaces.iter().enumerate() {
        let ok = (1..=15).contains(&pattern.len())
            && pattern != "*"
            && pattern
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.*-".contains(&b));
        checks.require(
            ok,
            &format!("ignoredInterfaces[{i}]"),
            pattern,
            "must be an interface name, in which * stands for any text, but not * alone",
        );
    }
    checks.optional(
        "localWorkloadPeeringIPV4",
        &spec.local_workload_peering_ip_v4,
        texts::ipv4,
    );
    checks.optional(
        "localWorkloadPeeringIPV6",
        &spec.local_workload_peering_ip_v6,
        texts::ipv6,
    );
    for (field, priority) in [
        ("ipv4NormalRoutePriority", spec.ipv4_normal_route_priority),
        ("ipv6NormalRoutePriority", spec.ipv6_normal_route_priority),
    ] {
        if let Some(priority) = priority {
            checks.require(
                (1..=ROUTE_PRIORITY_MAX).contains(&priority),
                field,
                priority,
                "must be 1..2147483646",
            );
        }
    }
}

fn communities(checks: &mut Checks<'_>, configuration: &BgpConfiguration) {
    let spec = &configuration.spec;
    checks.count("communities", spec.communities.len(), COMMUNITIES_MAX);
    checks.count(
        "prefixAdvertisements",
        spec.prefix_advertisements.len(),
        COMMUNITIES_MAX,
    );
    if !spec.communities.is_empty() && spec.prefix_advertisements.is_empty() {
        checks.missing(
            "communities",
            "communities need prefixAdvertisements that use them",
        );
    }
    let names: BTreeSet<&str> = spec
        .communities
        .iter()
        .map(|community| community.name.as_str())
        .collect();
    for (i, community) in spec.communities.iter().enumerate() {
        checks.require(
            texts::is_community(&community.value),
            &format!("communities[{i}].value"),
            &community.value,
            "must be aa:nn or aa:nn:mm",
        );
    }
    for (i, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        let mut checks = checks.below(&format!("prefixAdvertisements[{i}]"));
        checks.text("cidr", &advertisement.cidr, texts::masked_net);
        checks.count(
            "communities",
            advertisement.communities.len(),
            PREFIX_COMMUNITIES_MAX,
        );
        for (j, community) in advertisement.communities.iter().enumerate() {
            checks.require(
                names.contains(community.as_str()) || texts::is_community(community),
                &format!("communities[{j}]"),
                community,
                "must be aa:nn, aa:nn:mm or the name of one of communities",
            );
        }
    }
}

pub(crate) fn bgp_peer(peer: &BgpPeer, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &peer.spec;
    let set = |text: &String| !text.is_empty();
    checks.optional("node", &spec.node, texts::subdomain);
    checks.require(
        !(set(&spec.node) && set(&spec.node_selector)),
        "nodeSelector",
        &spec.node_selector,
        "cannot be combined with node: remove one of them",
    );
    for (field, selector) in [
        ("nodeSelector", &spec.node_selector),
        ("peerSelector", &spec.peer_selector),
        ("localWorkloadSelector", &spec.local_workload_selector),
    ] {
        checks.selector_with_global(field, selector);
    }
    let address = parse_peer_address(&spec.peer_ip);
    if set(&spec.peer_ip) {
        checks.require(
            address.is_some_and(|(_, port)| port != Some(0)),
            "peerIP",
            &spec.peer_ip,
            "must be an address, ipv4:port or [ipv6]:port, with a port of 1..65535",
        );
    }
    checks.require(
        !(set(&spec.peer_ip) && set(&spec.peer_selector)),
        "peerSelector",
        &spec.peer_selector,
        "cannot be combined with peerIP: remove one of them",
    );
    checks.require(
        !(set(&spec.peer_ip) && set(&spec.local_workload_selector)),
        "localWorkloadSelector",
        &spec.local_workload_selector,
        "cannot be combined with peerIP: remove one of them",
    );
    let as_set = spec.as_number != AsNumber(0);
    checks.require(
        !(as_set && set(&spec.peer_selector)),
        "asNumber",
        spec.as_number,
        "must be empty with peerSelector: peers use the AS numbers of their nodes",
    );
    if set(&spec.local_workload_selector) && !as_set {
        checks.missing("asNumber", "is required with localWorkloadSelector");
    }
    if spec.keep_original_next_hop
        && let Some(mode) = spec.next_hop_mode
    {
        checks.error(
            "nextHopMode",
            mode,
            "cannot be combined with keepOriginalNextHop: remove the latter",
        );
    }
    if set(&spec.reachable_by) {
        checks.text("reachableBy", &spec.reachable_by, texts::ip);
        match address {
            None => checks.error("reachableBy", &spec.reachable_by, "needs peerIP"),
            Some((peer, _)) => {
                let same = parse_peer_address(&spec.reachable_by)
                    .is_none_or(|(gateway, _)| gateway.is_ipv4() == peer.is_ipv4());
                checks.require(
                    same,
                    "reachableBy",
                    &spec.reachable_by,
                    "must be of the same family as peerIP",
                );
            }
        }
    }
    checks.each("filters", &spec.filters, texts::subdomain);
}
