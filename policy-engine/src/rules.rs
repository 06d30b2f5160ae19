//! Rules as policies and profiles have them, checked and parsed once, for both address families.

use std::sync::Arc;

use api::selector::Selector;
use api::v3::rule::{Action as ApiAction, EntityRule, IcmpFields, Rule as ApiRule};
use api::{Port, Protocol};
use ipnet::IpNet;

use crate::clause::{Icmp, PortRange};
use crate::output::Family;
use crate::problem::{Instead, Problem};

/// Protocol names, for those that write them in other cases than the API does.
const PROTOCOL_NAMES: [(&str, u8); 6] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("sctp", 132),
    ("udplite", 136),
];

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParsedRule {
    /// Index in the policy's list.
    pub(crate) index: u32,
    pub(crate) action: ApiAction,
    pub(crate) family: Option<Family>,
    pub(crate) protocol: Option<u8>,
    pub(crate) not_protocol: Option<u8>,
    pub(crate) icmp: Option<Icmp>,
    pub(crate) not_icmp: Option<Icmp>,
    pub(crate) source: ParsedSide,
    pub(crate) destination: ParsedSide,
}

/// One side of a rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ParsedSide {
    /// With the negative one folded in where both are given.
    pub(crate) selector: Option<Arc<Selector>>,
    /// Only where there is no positive one.
    pub(crate) not_selector: Option<Arc<Selector>>,
    pub(crate) nets: Vec<IpNet>,
    pub(crate) not_nets: Vec<IpNet>,
    pub(crate) ports: ParsedPorts,
    pub(crate) not_ports: ParsedPorts,
}

/// Ports by number and by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParsedPorts {
    pub(crate) numbers: Vec<PortRange>,
    pub(crate) names: Vec<String>,
}

/// What is wrong with a rule.
struct Fault {
    field: String,
    reason: String,
}

fn fault(field: impl Into<String>, reason: impl Into<String>) -> Fault {
    Fault {
        field: field.into(),
        reason: reason.into(),
    }
}

/// Where a list of rules stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// `Kind(namespace/name)`.
    pub(crate) resource: &'a str,
    /// `spec.ingress` or `spec.egress`.
    pub(crate) list: &'a str,
    /// Namespace of the policy; empty for global kinds and profiles.
    pub(crate) namespace: &'a str,
}

/// Parses a list of rules. A rule that cannot be understood must not open anything: in place of one that denies
/// or passes stands an unconditional deny; one that allows or logs is left out.
pub(crate) fn parse_rules(
    rules: &[ApiRule],
    place: Place<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<ParsedRule> {
    let mut parsed = Vec::with_capacity(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        match parse_rule(rule, index, place, problems) {
            Ok(rule) => parsed.extend(rule),
            Err(Fault { field, reason }) => {
                let instead = match rule.action {
                    Some(ApiAction::Allow | ApiAction::Log) => Instead::IsLeftOut,
                    _ => Instead::Denies,
                };
                if instead == Instead::Denies {
                    parsed.push(ParsedRule::unconditional(index, ApiAction::Deny));
                }
                problems.push(Problem::RuleReplaced {
                    resource: place.resource.to_owned(),
                    field: format!("{}[{at}].{field}", place.list),
                    reason,
                    instead,
                });
            }
        }
    }
    parsed
}

impl ParsedRule {
    fn unconditional(index: u32, action: ApiAction) -> Self {
        Self {
            index,
            action,
            family: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: ParsedSide::default(),
            destination: ParsedSide::default(),
        }
    }
}

fn parse_rule(
    rule: &ApiRule,
    index: u32,
    place: Place<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<ParsedRule>, Fault> {
    let action = rule.action.ok_or_else(|| fault("action", "is required"))?;
    let family = match rule.ip_version {
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(other) => return Err(fault("ipVersion", format!("is {other}, must be 4 or 6"))),
    };
    for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        if entity.services.is_some() {
            let instead = if action == ApiAction::Deny {
                Instead::IgnoresTheField
            } else {
                Instead::IsLeftOut
            };
            problems.push(Problem::RuleReplaced {
                resource: place.resource.to_owned(),
                field: format!("{}[{index}].{side}.services", place.list),
                reason: "the endpoints of services are not known here".to_owned(),
                instead,
            });
            if instead == Instead::IsLeftOut {
                return Ok(None);
            }
        }
    }
    Ok(Some(ParsedRule {
        index,
        action,
        family,
        protocol: protocol(rule.protocol.as_ref(), "protocol")?,
        not_protocol: protocol(rule.not_protocol.as_ref(), "notProtocol")?,
        icmp: icmp(rule.icmp.as_ref(), "icmp")?,
        not_icmp: icmp(rule.not_icmp.as_ref(), "notICMP")?,
        source: side(&rule.source, "source", place.namespace)?,
        destination: side(&rule.destination, "destination", place.namespace)?,
    }))
}

/// The protocol's number, whatever the case of its name.
pub(crate) fn protocol_number(protocol: &Protocol) -> Option<u8> {
    protocol.number().or_else(|| match protocol {
        Protocol::Name(name) => PROTOCOL_NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|&(_, number)| number),
        Protocol::Number(_) => None,
    })
}

fn protocol(protocol: Option<&Protocol>, field: &str) -> Result<Option<u8>, Fault> {
    protocol
        .map(|p| protocol_number(p).ok_or_else(|| fault(field, format!("unknown protocol {p}"))))
        .transpose()
}

fn icmp(fields: Option<&IcmpFields>, field: &str) -> Result<Option<Icmp>, Fault> {
    let Some(fields) = fields else { return Ok(None) };
    let byte = |value: i64, name: &str| {
        u8::try_from(value).map_err(|_| fault(format!("{field}.{name}"), format!("{value} is not in 0..255")))
    };
    let code = fields.code.map(|code| byte(code, "code")).transpose()?;
    match fields.r#type {
        Some(r#type) => Ok(Some(Icmp {
            r#type: byte(r#type, "type")?,
            code,
        })),
        None if code.is_some() => Err(fault(format!("{field}.code"), "needs a type")),
        None => Ok(None),
    }
}

fn side(entity: &EntityRule, name: &str, namespace: &str) -> Result<ParsedSide, Fault> {
    let positive = crate::expression::of_entity(namespace, entity)
        .map_err(|e| fault(format!("{name}.{}", e.field), e.reason))?;
    let negative = crate::expression::optional(&entity.not_selector)
        .map_err(|e| fault(format!("{name}.notSelector"), e))?;
    let (selector, not_selector) = match (positive, negative) {
        (Some(positive), Some(negative)) => {
            let both = crate::expression::but_not(&positive, &negative)
                .map_err(|e| fault(format!("{name}.notSelector"), e))?;
            (Some(both), None)
        }
        (positive, negative) => (positive, negative),
    };
    Ok(ParsedSide {
        selector,
        not_selector,
        nets: nets(&entity.nets, &format!("{name}.nets"))?,
        not_nets: nets(&entity.not_nets, &format!("{name}.notNets"))?,
        ports: ports(&entity.ports),
        not_ports: ports(&entity.not_ports),
    })
}

fn nets(texts: &[String], field: &str) -> Result<Vec<IpNet>, Fault> {
    let parse = |(at, text): (usize, &String)| {
        parse_net(text).ok_or_else(|| fault(format!("{field}[{at}]"), format!("{text:?} is not a CIDR")))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// A CIDR or an address, host bits cleared.
pub(crate) fn parse_net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().map(IpNet::from).ok())
}

fn ports(ports: &[Port]) -> ParsedPorts {
    let mut parsed = ParsedPorts::default();
    for port in ports {
        match port {
            Port::Range { min, max } => parsed.numbers.push(PortRange {
                first: *min,
                last: *max,
            }),
            Port::Named(name) => parsed.names.push(name.clone()),
        }
    }
    parsed
}
