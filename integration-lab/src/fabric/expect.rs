//! Which workload may reach which: an ordered table, the first entry that matches decides. It is written by
//! hand from the policies and never computed by the engine under test.

use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::file::At;
use super::{Fabric, Workload};
use crate::topology::TopologyError;

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// What is tried from one workload to another, in each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// A TCP connection to port 80.
    Tcp80,
    /// A TCP connection to port 81.
    Tcp81,
    /// An echo request.
    Icmp,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp80, Self::Tcp81, Self::Icmp];

    /// TCP port, if it is TCP.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Tcp80 => Some(80),
            Self::Tcp81 => Some(81),
            Self::Icmp => None,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp80 => "tcp 80",
            Self::Tcp81 => "tcp 81",
            Self::Icmp => "icmp",
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// Which of the two policies on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// That of the source, at its host.
    Egress,
    /// That of the destination, at its host.
    Ingress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// What must happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes through.
    Allow,
    /// It is dropped, by this.
    Deny(Denial),
}

/// What drops a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// At the source's or the destination's host.
    pub at: Direction,
    /// The tier.
    pub tier: String,
    /// The rule; none at the end of the tier.
    pub rule: Option<DenyingRule>,
}

/// A policy's rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyingRule {
    /// Kind of the policy.
    pub kind: String,
    /// Its namespace, empty for global kinds.
    pub namespace: String,
    /// Its name.
    pub policy: String,
    /// Index of the rule in the policy's list, for IPv4.
    pub index_v4: i32,
    /// The same for IPv6.
    pub index_v6: i32,
}

impl DenyingRule {
    /// Index of the rule for a family.
    pub fn index(&self, family: Family) -> i32 {
        match family {
            Family::V4 => self.index_v4,
            Family::V6 => self.index_v6,
        }
    }
}

impl Denial {
    /// How a person would name it.
    pub fn describe(&self, family: Family) -> String {
        match &self.rule {
            None => format!("{}: {}, end of tier", self.at, self.tier),
            Some(rule) => {
                let slash = if rule.namespace.is_empty() { "" } else { "/" };
                format!(
                    "{}: {}, {} {}{slash}{} rule {}",
                    self.at,
                    self.tier,
                    rule.kind,
                    rule.namespace,
                    rule.policy,
                    rule.index(family)
                )
            }
        }
    }
}

/// One entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    from: IndexMap<String, String>,
    to: IndexMap<String, String>,
    probes: Vec<Probe>,
    verdict: Verdict,
}

impl Expectation {
    fn matches(&self, from: &Workload, to: &Workload, probe: Probe) -> bool {
        let has = |labels: &IndexMap<String, String>, wanted: &IndexMap<String, String>| {
            wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
        };
        has(&from.labels, &self.from)
            && has(&to.labels, &self.to)
            && (self.probes.is_empty() || self.probes.contains(&probe))
    }
}

/// What the table says of a probe. `None` cannot happen for a fabric that was loaded: the table is complete.
pub fn expected<'a>(
    table: &'a [Expectation],
    from: &Workload,
    to: &Workload,
    probe: Probe,
) -> Option<&'a Verdict> {
    table
        .iter()
        .find(|e| e.matches(from, to, probe))
        .map(|e| &e.verdict)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectText {
    #[serde(default)]
    from: IndexMap<String, String>,
    #[serde(default)]
    to: IndexMap<String, String>,
    #[serde(default)]
    probes: Vec<Probe>,
    #[serde(default)]
    allow: Option<bool>,
    #[serde(default)]
    deny: Option<DenyText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DenyText {
    at: Direction,
    tier: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    rule: Option<RuleText>,
    #[serde(default)]
    end_of_tier: bool,
}

/// One index, or one a family where a policy has a rule for each.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RuleText {
    Both(i32),
    Each { v4: i32, v6: i32 },
}

pub(super) fn build(at: At, index: usize, text: Spanned<ExpectText>) -> Result<Expectation, TopologyError> {
    let line = text.defined.line();
    let field = format!("expect[{index}]");
    let ExpectText {
        from,
        to,
        probes,
        allow,
        deny,
    } = text.value;
    let verdict = match (allow, deny) {
        (Some(true), None) => Verdict::Allow,
        (None, Some(deny)) => Verdict::Deny(denial(at, line, &field, deny)?),
        _ => return Err(at.error(line, field, "either `allow: true` or `deny: {...}`")),
    };
    Ok(Expectation {
        from,
        to,
        probes,
        verdict,
    })
}

fn denial(at: At, line: u64, field: &str, text: DenyText) -> Result<Denial, TopologyError> {
    let rule = match (text.kind, text.policy, text.rule, text.end_of_tier) {
        (None, None, None, true) => None,
        (Some(kind), Some(policy), Some(rule), false) => {
            let (index_v4, index_v6) = match rule {
                RuleText::Both(index) => (index, index),
                RuleText::Each { v4, v6 } => (v4, v6),
            };
            Some(DenyingRule {
                kind,
                namespace: text.namespace,
                policy,
                index_v4,
                index_v6,
            })
        }
        _ => {
            let reason = "either kind, policy and rule, or `end-of-tier: true`";
            return Err(at.error(line, format!("{field}.deny"), reason));
        }
    };
    Ok(Denial {
        at: text.at,
        tier: text.tier,
        rule,
    })
}

/// Refuses a table that leaves a pair of workloads open: nothing is expected by silence.
pub(super) fn check_complete(at: At, fabric: &Fabric) -> Result<(), TopologyError> {
    for from in &fabric.workloads {
        for to in fabric.workloads.iter().filter(|to| to.name != from.name) {
            for probe in Probe::ALL {
                if expected(&fabric.expectations, from, to, probe).is_none() {
                    let reason = format!(
                        "no entry says what becomes of {probe} from {} to {}",
                        from.name, to.name
                    );
                    return Err(at.error(0, "expect", reason));
                }
            }
        }
    }
    Ok(())
}
