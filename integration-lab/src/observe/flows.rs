//! Flow events of a host: which policy denied what.

use std::net::IpAddr;

use anyhow::Context;
use serde::Deserialize;

use crate::fabric::{Denial, Direction, Family, Probe};
use crate::running::RunningLab;

const PROTOCOL_ICMP: u32 = 1;
const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_ICMPV6: u32 = 58;
/// An echo request as a flow's destination port: type * 256 + code.
const ECHO_REQUEST_V4: u32 = 8 << 8;
const ECHO_REQUEST_V6: u32 = 128 << 8;

/// One verdict, as `calicoctl flows -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Grows with every event of a host.
    pub sequence: u64,
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// IP protocol number.
    pub protocol: u32,
    /// For ICMP type * 256 + code.
    #[serde(alias = "destinationPort")]
    pub destination_port: u32,
    /// allow or deny
    pub action: String,
    /// ingress or egress
    pub direction: String,
    /// What kind of decision it was.
    pub reason: String,
    /// The deciding tier.
    pub tier: String,
    /// Kind of the deciding policy.
    #[serde(alias = "policyKind")]
    pub policy_kind: String,
    /// Its namespace.
    #[serde(alias = "policyNamespace")]
    pub policy_namespace: String,
    /// Its name.
    pub policy: String,
    /// Index of the rule, -1 at the end of a tier.
    pub rule: i32,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            sequence: 0,
            source: String::new(),
            destination: String::new(),
            protocol: 0,
            destination_port: 0,
            action: String::new(),
            direction: String::new(),
            reason: String::new(),
            tier: String::new(),
            policy_kind: String::new(),
            policy_namespace: String::new(),
            policy: String::new(),
            rule: -1,
        }
    }
}

impl Flow {
    /// How a person would name what decided.
    pub fn describe(&self) -> String {
        if self.reason == "end-of-tier" {
            return format!("{}: {}, end of tier", self.direction, self.tier);
        }
        if self.policy.is_empty() {
            return format!("{}: {}", self.direction, self.reason);
        }
        let slash = if self.policy_namespace.is_empty() { "" } else { "/" };
        format!(
            "{}: {}, {} {}{slash}{} rule {}",
            self.direction, self.tier, self.policy_kind, self.policy_namespace, self.policy, self.rule
        )
    }

    /// Whether this event is about a probe.
    pub fn is_of(&self, from: IpAddr, to: IpAddr, probe: Probe) -> bool {
        let (protocol, port) = match (probe.port(), from.is_ipv4()) {
            (Some(port), _) => (PROTOCOL_TCP, u32::from(port)),
            (None, true) => (PROTOCOL_ICMP, ECHO_REQUEST_V4),
            (None, false) => (PROTOCOL_ICMPV6, ECHO_REQUEST_V6),
        };
        let is = |text: &str, address: IpAddr| text.parse() == Ok(address);
        self.protocol == protocol
            && self.destination_port == port
            && is(&self.source, from)
            && is(&self.destination, to)
    }

    /// Whether this event says what was expected.
    pub fn agrees_with(&self, denial: &Denial, family: Family) -> bool {
        let direction = match denial.at {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        let decided = match &denial.rule {
            None => self.reason == "end-of-tier",
            Some(rule) => {
                self.reason == "policy"
                    && self.policy_kind == rule.kind
                    && self.policy_namespace == rule.namespace
                    && self.policy == rule.policy
                    && self.rule == rule.index(family)
            }
        };
        self.action == "deny" && self.direction == direction && self.tier == denial.tier && decided
    }
}

/// Denials that a host's agent keeps, newer than an event.
pub fn denials(lab: &RunningLab, host: &str, after: u64) -> anyhow::Result<Vec<Flow>> {
    let after = after.to_string();
    let arguments = [
        "calicoctl",
        "flows",
        "-o",
        "json",
        "--limit",
        "0",
        "--action",
        "deny",
        "--after",
        &after,
    ];
    parse(&lab.run(host, &arguments)?)
}

/// Sequence number of a host's newest event; 0 if there is none.
pub fn newest(lab: &RunningLab, host: &str) -> anyhow::Result<u64> {
    let flows = parse(&lab.run(host, &["calicoctl", "flows", "-o", "json", "--limit", "1"])?)?;
    Ok(flows.iter().map(|f| f.sequence).max().unwrap_or(0))
}

fn parse(text: &str) -> anyhow::Result<Vec<Flow>> {
    serde_json::from_str(text).context("calicoctl's JSON of flows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::DenyingRule;

    #[test]
    fn a_denial_is_recognised_by_probe_and_rule() {
        let text = r#"[{"sequence":7,"source":"10.65.0.1","destination":"10.65.0.2","protocol":1,
            "destination_port":2048,"action":"deny","direction":"ingress","reason":"policy","tier":"security",
            "policy_kind":"GlobalNetworkPolicy","policy":"db-icmp","rule":1,"unknown":true}]"#;
        let flow = &parse(text).unwrap()[0];
        let (from, to) = ("10.65.0.1".parse().unwrap(), "10.65.0.2".parse().unwrap());
        assert!(flow.is_of(from, to, Probe::Icmp) && !flow.is_of(from, to, Probe::Tcp80));
        let rule = DenyingRule {
            kind: "GlobalNetworkPolicy".into(),
            namespace: String::new(),
            policy: "db-icmp".into(),
            index_v4: 1,
            index_v6: 2,
        };
        let denial = Denial {
            at: Direction::Ingress,
            tier: "security".into(),
            rule: Some(rule),
        };
        assert!(flow.agrees_with(&denial, Family::V4) && !flow.agrees_with(&denial, Family::V6));
        assert_eq!(flow.describe(), denial.describe(Family::V4));
        let end = Denial { rule: None, ..denial };
        assert!(!flow.agrees_with(&end, Family::V4));
    }
}
