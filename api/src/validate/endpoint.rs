//! Workload and host endpoints.

use ipnet::IpNet;

use super::{Checks, FieldError, texts};
use crate::net::parse_net;
use crate::scalar::Protocol;
use crate::v3::host_endpoint::HostEndpoint;
use crate::v3::workload_endpoint::{IpNat, WorkloadEndpoint};
use crate::workload_name;

fn port_protocol(checks: &mut Checks<'_>, protocol: &Protocol) {
    checks.require(
        protocol.supports_ports(),
        "protocol",
        protocol,
        "must be TCP, UDP or SCTP",
    );
}

pub(crate) fn host_endpoint(endpoint: &HostEndpoint, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &endpoint.spec;
    if spec.node.is_empty() {
        checks.missing("node", "the name of the node is required");
    } else {
        checks.text("node", &spec.node, texts::subdomain);
    }
    if spec.interface_name.is_empty() && spec.expected_ips.is_empty() {
        checks.missing(
            "interfaceName",
            "no interfaceName or expectedIPs have been specified: set one of them",
        );
    }
    checks.optional("interfaceName", &spec.interface_name, texts::interface);
    checks.set("expectedIPs", &spec.expected_ips, texts::ip);
    checks.set("profiles", &spec.profiles, texts::subdomain);
    for (i, port) in spec.ports.iter().enumerate() {
        let mut checks = checks.below(&format!("ports[{i}]"));
        checks.text("name", &port.name, texts::port_name);
        port_protocol(&mut checks, &port.protocol);
        checks.require(port.port > 0, "port", port.port, "must be 1..65535");
    }
}

pub(crate) fn workload_endpoint(endpoint: &WorkloadEndpoint, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "");
    let spec = &endpoint.spec;
    match workload_name::build(spec) {
        Ok(name) => checks.require(
            endpoint.metadata.name == name,
            "metadata.name",
            &endpoint.metadata.name,
            &format!("the name must be {name}, or left out"),
        ),
        Err(error) => checks.error(&format!("spec.{}", error.field), error.value, error.reason),
    }
    let mut checks = Checks::new(errors, "spec");
    checks.optional("serviceAccountName", &spec.service_account_name, texts::subdomain);
    checks.optional("containerID", &spec.container_id, texts::container_id);
    let networks: Vec<Option<IpNet>> = spec.ip_networks.iter().map(|text| parse_net(text)).collect();
    for (i, (text, net)) in spec.ip_networks.iter().zip(&networks).enumerate() {
        let whole = net.is_some_and(|net| net.prefix_len() == net.max_prefix_len());
        checks.require(
            whole,
            &format!("ipNetworks[{i}]"),
            text,
            "must be one address, as /32 or /128",
        );
    }
    for (i, nat) in spec.ip_nats.iter().enumerate() {
        ip_nat(&mut checks.below(&format!("ipNATs[{i}]")), nat, &networks);
    }
    checks.optional("ipv4Gateway", &spec.ipv4_gateway, texts::ipv4);
    checks.optional("ipv6Gateway", &spec.ipv6_gateway, texts::ipv6);
    checks.each("profiles", &spec.profiles, texts::subdomain);
    checks.text("interfaceName", &spec.interface_name, texts::interface);
    checks.optional("mac", &spec.mac, texts::mac);
    for (i, port) in spec.ports.iter().enumerate() {
        let mut checks = checks.below(&format!("ports[{i}]"));
        port_protocol(&mut checks, &port.protocol);
        checks.require(port.port > 0, "port", port.port, "must be 1..65535");
        if port.name.is_empty() && port.host_port == 0 {
            checks.missing("name", "a port without hostPort needs a name");
        }
        checks.optional("name", &port.name, texts::port_name);
        checks.optional("hostIP", &port.host_ip, texts::ip);
    }
    checks.each(
        "allowSpoofedSourcePrefixes",
        &spec.allow_spoofed_source_prefixes,
        texts::loose_net,
    );
    if let Some(dscp) = spec.qos_controls.as_ref().and_then(|qos| qos.dscp.as_ref()) {
        checks.require(
            dscp.value().is_some(),
            "qosControls.dscp",
            serde_json::to_string(dscp).unwrap_or_default(),
            "must be 0..63, DF, EF, AF11..AF43 or CS0..CS6",
        );
    }
}

fn ip_nat(checks: &mut Checks<'_>, nat: &IpNat, networks: &[Option<IpNet>]) {
    checks.text("internalIP", &nat.internal_ip, texts::ip);
    checks.text("externalIP", &nat.external_ip, texts::ip);
    let (Some(internal), Some(external)) = (parse_net(&nat.internal_ip), parse_net(&nat.external_ip)) else {
        return;
    };
    checks.require(
        internal.addr().is_ipv4() == external.addr().is_ipv4(),
        "externalIP",
        &nat.external_ip,
        "must be of the same family as internalIP",
    );
    checks.require(
        networks
            .iter()
            .flatten()
            .any(|net| net.contains(&internal.addr())),
        "internalIP",
        &nat.internal_ip,
        "must be one of ipNetworks",
    );
}
