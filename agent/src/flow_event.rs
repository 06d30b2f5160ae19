//! A flow event of the dataplane as the local API shows it.

use api_proto::v1::Flow;
use dataplane::{FlowEvent, Reason, Verdict};
use policy_engine::output::{Direction, RuleId};

use crate::dataplane_thread::text;

/// Index shown where no rule of a list decided, but its end.
const RULE_END: i32 = -1;

/// Translates an event; the log gives it its sequence number.
pub(crate) fn to_proto(event: &FlowEvent) -> Flow {
    let action = match event.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Log => "log",
    };
    let (icmp_type, icmp_code) = event.icmp.unwrap_or_default();
    let destination_port = match event.icmp {
        Some(_) => u32::from(icmp_type) * 256 + u32::from(icmp_code),
        None => u32::from(event.destination_port),
    };
    let mut flow = Flow {
        sequence: 0,
        time: jiff::Timestamp::try_from(event.time)
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            .to_string(),
        source: event.source.to_string(),
        destination: event.destination.to_string(),
        protocol: event.protocol.into(),
        source_port: if event.icmp.is_some() {
            0
        } else {
            event.source_port.into()
        },
        destination_port,
        action: action.to_owned(),
        direction: match event.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
        .to_owned(),
        interface: event.interface.to_string(),
        endpoint: event.endpoint.as_ref().map(text).unwrap_or_default(),
        reason: event.reason.name().to_owned(),
        rule: RULE_END,
        ..Flow::default()
    };
    let decided = matches!(
        event.reason,
        Reason::PolicyAllow | Reason::PolicyDeny | Reason::Reevaluated | Reason::Log
    );
    match event.rule.as_ref() {
        Some(RuleId::Policy {
            tier,
            kind,
            namespace,
            name,
            index,
        }) => {
            flow.tier.clone_from(tier);
            flow.policy_kind.clone_from(kind);
            flow.policy_namespace.clone_from(namespace);
            flow.policy.clone_from(name);
            flow.rule = i32::try_from(*index).unwrap_or(i32::MAX);
            if decided {
                "policy".clone_into(&mut flow.reason);
            }
        }
        Some(RuleId::EndOfTier { tier }) => {
            flow.tier.clone_from(tier);
            if decided {
                "end-of-tier".clone_into(&mut flow.reason);
            }
        }
        Some(RuleId::Profile { name, index }) => {
            "Profile".clone_into(&mut flow.policy_kind);
            flow.policy.clone_from(name);
            flow.rule = i32::try_from(*index).unwrap_or(i32::MAX);
            if decided {
                "profile".clone_into(&mut flow.reason);
            }
        }
        Some(RuleId::EndOfProfiles) if decided => "no-profile-match".clone_into(&mut flow.reason),
        Some(RuleId::EndOfProfiles) | None => {}
    }
    flow
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn event(rule: Option<RuleId>, reason: Reason, icmp: Option<(u8, u8)>) -> FlowEvent {
        FlowEvent {
            time: SystemTime::UNIX_EPOCH,
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: if icmp.is_some() { 1 } else { 6 },
            source_port: 1000,
            destination_port: 80,
            icmp,
            verdict: Verdict::Deny,
            direction: Direction::Ingress,
            reason,
            rule,
            passes: Vec::new(),
            endpoint: None,
            interface: 7,
            length: 60,
        }
    }

    #[test]
    fn a_denial_names_tier_policy_and_rule() {
        let rule = RuleId::Policy {
            tier: "security".into(),
            kind: "GlobalNetworkPolicy".into(),
            namespace: String::new(),
            name: "deny-db".into(),
            index: 2,
        };
        let flow = to_proto(&event(Some(rule), Reason::PolicyDeny, None));
        assert_eq!(
            (flow.tier.as_str(), flow.policy.as_str(), flow.rule),
            ("security", "deny-db", 2)
        );
        assert_eq!(
            (flow.reason.as_str(), flow.action.as_str(), flow.destination_port),
            ("policy", "deny", 80)
        );
        let flow = to_proto(&event(
            Some(RuleId::EndOfTier {
                tier: "default".into(),
            }),
            Reason::PolicyDeny,
            None,
        ));
        assert_eq!(
            (flow.reason.as_str(), flow.tier.as_str(), flow.rule),
            ("end-of-tier", "default", -1)
        );
    }

    #[test]
    fn what_no_rule_decided_keeps_its_own_reason() {
        let flow = to_proto(&event(None, Reason::Spoofed, Some((8, 0))));
        assert_eq!(
            (flow.reason.as_str(), flow.destination_port, flow.source_port),
            ("spoofed_source", 2048, 0)
        );
    }
}
