//! Rules.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::names::annotations;
use super::{Checks, Refusal, texts};
use crate::scalar::{Port, Protocol};
use crate::selector::Selector;
use crate::v3::rule::{Action, EntityRule, HttpMatch, IcmpFields, Rule};

const RULES_MAX: usize = 1024;
const NETS_MAX: usize = 256;
const PORTS_MAX: usize = 50;
const HTTP_ENTRIES_MAX: usize = 20;
const HTTP_PATH_LEN_MAX: usize = 1024;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TCP: u8 = 6;

/// The direction that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ingress,
    Egress,
}

/// Checks the rules of one direction. `namespaced` is whether the policy has a namespace of its own.
pub(super) fn rules(checks: &mut Checks<'_>, field: &str, rules: &[Rule], side: Side, namespaced: bool) {
    checks.count(field, rules.len(), RULES_MAX);
    for (i, rule) in rules.iter().enumerate() {
        self::rule(
            &mut checks.below(&format!("{field}[{i}]")),
            rule,
            side,
            namespaced,
        );
    }
}

fn rule(checks: &mut Checks<'_>, rule: &Rule, side: Side, namespaced: bool) {
    if rule.action.is_none() {
        checks.missing("action", "is required: Allow, Deny, Log or Pass");
    }
    if let Some(version) = rule.ip_version {
        checks.require(matches!(version, 4 | 6), "ipVersion", version, "must be 4 or 6");
    }
    for (field, protocol) in [("protocol", &rule.protocol), ("notProtocol", &rule.not_protocol)] {
        if let Some(protocol) = protocol {
            self::protocol(checks, field, protocol, rule.ip_version);
        }
    }
    if let Some(fields) = &rule.icmp {
        icmp(checks, "icmp", fields);
        let number = rule.protocol.as_ref().and_then(Protocol::number);
        if !matches!(number, Some(ICMP | ICMPV6)) {
            checks.missing(
                "icmp",
                "protocol must be ICMP or ICMPv6 when icmp fields are given",
            );
        }
    }
    if let Some(fields) = &rule.not_icmp {
        icmp(checks, "notICMP", fields);
    }
    families(checks, rule);
    for (field, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        self::entity(
            &mut checks.below(field),
            entity,
            rule.protocol.as_ref(),
            namespaced,
        );
    }
    services(checks, rule, side);
    if let Some(http) = &rule.http {
        self::http(&mut checks.below("http"), http, rule, side);
    }
    if let Some(metadata) = &rule.metadata {
        annotations(&mut checks.below("metadata"), &metadata.annotations);
    }
}

fn protocol(checks: &mut Checks<'_>, field: &str, protocol: &Protocol, ip_version: Option<u8>) {
    match protocol.number() {
        None => checks.error(
            field,
            protocol,
            "must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite (in this spelling) or a number 1..255",
        ),
        Some(0) => checks.error(field, protocol, "must be a protocol name or a number 1..255"),
        Some(ICMP) if ip_version == Some(6) => {
            checks.error(
                field,
                protocol,
                "ICMP is of IPv4: set ipVersion to 4, or use ICMPv6",
            );
        }
        Some(ICMPV6) if ip_version == Some(4) => {
            checks.error(
                field,
                protocol,
                "ICMPv6 is of IPv6: set ipVersion to 6, or use ICMP",
            );
        }
        Some(_) => {}
    }
}

fn icmp(checks: &mut Checks<'_>, field: &str, icmp: &IcmpFields) {
    let mut checks = checks.below(field);
    if let Some(icmp_type) = icmp.r#type {
        checks.require(
            (0..=254).contains(&icmp_type),
            "type",
            icmp_type,
            "must be 0..254",
        );
    }
    if let Some(code) = icmp.code {
        checks.require((0..=255).contains(&code), "code", code, "must be 0..255");
        checks.require(
            icmp.r#type.is_some(),
            "code",
            code,
            "ICMP code specified without an ICMP type",
        );
    }
}

/// The CIDRs of a rule are all of one family, which is that of `ipVersion`.
fn families(checks: &mut Checks<'_>, rule: &Rule) {
    let mut wanted = rule.ip_version;
    for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        for (field, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
            for (i, text) in nets.iter().enumerate() {
                let Ok(net) = text.parse::<IpNet>() else {
                    continue;
                };
                let version = if net.addr().is_ipv4() { 4 } else { 6 };
                if *wanted.get_or_insert(version) != version {
                    checks.error(
                        &format!("{side}.{field}[{i}]"),
                        text,
                        "rule contains IP versions that do not agree: use one family, that of ipVersion, in a rule",
                    );
                }
            }
        }
    }
}

fn entity(checks: &mut Checks<'_>, entity: &EntityRule, protocol: Option<&Protocol>, namespaced: bool) {
    for (field, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
        checks.count(field, nets.len(), NETS_MAX);
        checks.set(field, nets, texts::masked_cidr);
    }
    for (i, net) in entity.not_nets.iter().enumerate() {
        let catch_all = net.parse::<IpNet>().is_ok_and(|net| net.prefix_len() == 0);
        checks.require(
            !catch_all,
            &format!("notNets[{i}]"),
            net,
            "catch-all CIDR in negation matches nothing: remove it",
        );
    }
    checks.selector("selector", &entity.selector);
    checks.selector_with_global("notSelector", &entity.not_selector);
    namespace_selector(checks, &entity.namespace_selector);
    for (field, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
        checks.count(field, ports.len(), PORTS_MAX);
        for (i, port) in ports.iter().enumerate() {
            if let Err(reason) = self::port(port, protocol) {
                checks.error(&format!("{field}[{i}]"), port, reason);
            }
        }
    }
    if let Some(accounts) = &entity.service_accounts {
        checks.each("serviceAccounts.names", &accounts.names, texts::subdomain);
        checks.selector("serviceAccounts.selector", &accounts.selector);
    }
    if let Some(service) = &entity.services {
        if service.name.is_empty() {
            checks.missing("services.name", "must specify a service name");
        }
        checks.optional("services.name", &service.name, texts::subdomain);
        checks.optional("services.namespace", &service.namespace, texts::subdomain);
        if !namespaced && service.namespace.is_empty() {
            checks.missing(
                "services.namespace",
                "must specify a namespace in a global policy",
            );
        }
        let others = [
            ("selector", !entity.selector.is_empty()),
            ("notSelector", !entity.not_selector.is_empty()),
            ("namespaceSelector", !entity.namespace_selector.is_empty()),
            ("nets", !entity.nets.is_empty()),
            ("notNets", !entity.not_nets.is_empty()),
            ("serviceAccounts", entity.service_accounts.is_some()),
        ];
        for (field, set) in others {
            if set {
                checks.missing(
                    "services",
                    format!("cannot specify {field} and services together: use one of them"),
                );
            }
        }
    }
}

fn namespace_selector(checks: &mut Checks<'_>, text: &str) {
    let field = "namespaceSelector";
    if text.contains("global(") {
        let alone = text.trim().starts_with("global(")
            && Selector::parse(text.trim()).is_ok_and(|selector| selector.to_string() == "global()");
        checks.require(
            alone,
            field,
            text,
            "global() cannot be combined with other selectors",
        );
    } else {
        checks.selector_with_global(field, text);
    }
}

fn port(port: &Port, protocol: Option<&Protocol>) -> Refusal {
    match port {
        Port::Range { min: 0, .. } => return Err("port 0 is not allowed: use 1..65535".to_owned()),
        Port::Range { .. } => {}
        Port::Named(name) => texts::port_name(name)?,
    }
    match protocol {
        Some(protocol) if protocol.supports_ports() => Ok(()),
        None if !port.is_numeric() => Ok(()),
        _ => Err("rules that specify ports must set protocol to TCP, UDP or SCTP (or 6, 17, 132)".to_owned()),
    }
}

fn services(checks: &mut Checks<'_>, rule: &Rule, side: Side) {
    let (field, forbidden) = match side {
        Side::Ingress => ("destination.services", &rule.destination),
        Side::Egress => ("source.services", &rule.source),
    };
    if forbidden.services.is_some() {
        let reason = match side {
            Side::Ingress => "not allowed in the destination of an ingress rule",
            Side::Egress => "not allowed in the source of an egress rule",
        };
        checks.missing(field, reason);
    }
    let destination = &rule.destination;
    if destination.services.is_some() && !(destination.ports.is_empty() && destination.not_ports.is_empty()) {
        checks.missing(
            "destination.ports",
            "cannot specify ports with a service selector: the service gives the ports",
        );
    }
}

fn http(checks: &mut Checks<'_>, http: &HttpMatch, rule: &Rule, side: Side) {
    if side == Side::Egress {
        checks.missing("", "not allowed in egress rule");
    }
    if let Some(action) = rule.action.filter(|action| *action != Action::Allow) {
        checks.missing(
            "",
            format!("http is only allowed with action Allow, not {action}"),
        );
    }
    if let Some(protocol) = rule.protocol.as_ref().filter(|p| p.number() != Some(TCP)) {
        checks.missing(
            "",
            format!("rules with HTTP match must have protocol TCP or unset, not {protocol}"),
        );
    }
    checks.count("methods", http.methods.len(), HTTP_ENTRIES_MAX);
    checks.count("paths", http.paths.len(), HTTP_ENTRIES_MAX);
    let mut seen = BTreeSet::new();
    for (i, method) in http.methods.iter().enumerate() {
        checks.require(
            seen.insert(method),
            &format!("methods[{i}]"),
            method,
            "the method is listed twice: remove one",
        );
    }
    for (i, path) in http.paths.iter().enumerate() {
        let mut checks = checks.below(&format!("paths[{i}]"));
        let text = match (path.exact.as_str(), path.prefix.as_str()) {
            (exact, "") if !exact.is_empty() => exact,
            ("", prefix) if !prefix.is_empty() => prefix,
            _ => {
                checks.missing("", "must set exactly one of exact and prefix");
                continue;
            }
        };
        let ok = text.starts_with('/') && !text.contains([' ', '?', '#']) && text.len() <= HTTP_PATH_LEN_MAX;
        checks.require(
            ok,
            "",
            text,
            "a path starts with /, has no space, ? or #, and at most 1024 characters",
        );
    }
}
