//! `flows`: verdicts on recent flows, each with the tier, policy and rule behind it.

use api_proto::v1::{Flow, ListFlowsRequest, WatchFlowsRequest};
use serde_json::{Value, json};

use crate::agent;
use crate::arguments::FlowsOptions;
use crate::failure::{Failure, print};
use crate::output::table;

const HEADINGS: [&str; 11] = [
    "TIME",
    "ACTION",
    "DIRECTION",
    "PROTOCOL",
    "SOURCE",
    "DESTINATION",
    "ENDPOINT",
    "TIER",
    "POLICY",
    "RULE",
    "REASON",
];
/// Widths of the columns while following, where what comes is not known.
const FOLLOW_WIDTHS: [usize; 11] = [32, 8, 11, 10, 24, 24, 36, 12, 40, 6, 8];
/// Cells that hold nothing.
const NONE: &str = "-";

/// IP protocol numbers by the names that people use.
const PROTOCOLS: [(u32, &str); 6] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (58, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
];
const ICMP_PROTOCOLS: [u32; 2] = [1, 58];

pub(crate) async fn run(options: &FlowsOptions) -> Result<(), Failure> {
    let as_json = match options.output.as_str() {
        "ps" | "wide" | "table" => false,
        "json" => true,
        other => {
            return Err(Failure::new(format!(
                "unrecognized output format '{other}', use ps or json"
            )));
        }
    };
    let action = options.action.clone().unwrap_or_default();
    let failed =
        |status: tonic::Status| Failure::new(format!("the agent did not answer: {}", status.message()));
    let mut client = agent::connect(&options.agent.agent_socket)
        .await
        .map_err(Failure::new)?;
    // Subscribe first, so that nothing falls between the list and the stream.
    let stream = if options.follow {
        let mut client = agent::connect_for_stream(&options.agent.agent_socket)
            .await
            .map_err(Failure::new)?;
        Some(
            client
                .watch_flows(WatchFlowsRequest {
                    action: action.clone(),
                })
                .await
                .map_err(failed)?
                .into_inner(),
        )
    } else {
        None
    };
    let request = ListFlowsRequest {
        limit: options.limit,
        after_sequence: options.after,
        action,
    };
    let listed = client.list_flows(request).await.map_err(failed)?.into_inner();
    if listed.lost > 0 {
        eprintln!(
            "{} flow events were lost because the agent could not keep up.",
            listed.lost
        );
    }
    let Some(mut stream) = stream else {
        return print(&render(&listed.flows, as_json)?);
    };
    let mut last = options.after;
    print(&heading(as_json))?;
    for flow in &listed.flows {
        last = last.max(flow.sequence);
        print(&line(flow, as_json)?)?;
    }
    while let Some(flow) = stream.message().await.map_err(failed)? {
        if flow.sequence > last {
            print(&line(&flow, as_json)?)?;
        }
    }
    Err(Failure::new("the agent ended the stream"))
}

/// All at once: a table, or a JSON array.
fn render(flows: &[Flow], as_json: bool) -> Result<String, Failure> {
    if as_json {
        let values: Vec<Value> = flows.iter().map(to_json).collect();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&values)?));
    }
    let rows: Vec<Vec<String>> = flows.iter().map(cells).collect();
    Ok(table::render(&HEADINGS, &rows))
}

fn heading(as_json: bool) -> String {
    if as_json {
        String::new()
    } else {
        padded(HEADINGS.map(str::to_owned).as_slice())
    }
}

/// One flow: a line of a table of fixed widths, or of JSON.
fn line(flow: &Flow, as_json: bool) -> Result<String, Failure> {
    if as_json {
        Ok(format!("{}\n", serde_json::to_string(&to_json(flow))?))
    } else {
        Ok(padded(&cells(flow)))
    }
}

fn padded(cells: &[String]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(FOLLOW_WIDTHS) {
        text.push_str(&format!("{cell:<width$} "));
    }
    format!("{}\n", text.trim_end())
}

fn protocol(number: u32) -> String {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn endpoint(address: &str, port: u32) -> String {
    match (port, address.contains(':')) {
        (0, _) => address.to_owned(),
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}

/// `Kind(namespace/name)` or `Kind(name)`.
fn policy(flow: &Flow) -> String {
    match (flow.policy.as_str(), flow.policy_namespace.as_str()) {
        ("", _) => NONE.to_owned(),
        (name, "") => format!("{}({name})", flow.policy_kind),
        (name, namespace) => format!("{}({namespace}/{name})", flow.policy_kind),
    }
}

fn cells(flow: &Flow) -> Vec<String> {
    let or_none = |text: &str| {
        if text.is_empty() {
            NONE.to_owned()
        } else {
            text.to_owned()
        }
    };
    let icmp = ICMP_PROTOCOLS.contains(&flow.protocol);
    let protocol = protocol(flow.protocol);
    vec![
        flow.time.clone(),
        flow.action.clone(),
        flow.direction.clone(),
        if icmp {
            format!(
                "{protocol} {}/{}",
                flow.destination_port / 256,
                flow.destination_port % 256
            )
        } else {
            protocol
        },
        endpoint(&flow.source, if icmp { 0 } else { flow.source_port }),
        endpoint(&flow.destination, if icmp { 0 } else { flow.destination_port }),
        or_none(&flow.endpoint),
        or_none(&flow.tier),
        policy(flow),
        if flow.rule < 0 {
            NONE.to_owned()
        } else {
            flow.rule.to_string()
        },
        or_none(&flow.reason),
    ]
}

/// The agent's own names for the fields.
fn to_json(flow: &Flow) -> Value {
    json!({
        "sequence": flow.sequence,
        "time": flow.time,
        "source": flow.source,
        "destination": flow.destination,
        "protocol": flow.protocol,
        "source_port": flow.source_port,
        "destination_port": flow.destination_port,
        "action": flow.action,
        "direction": flow.direction,
        "interface": flow.interface,
        "endpoint": flow.endpoint,
        "reason": flow.reason,
        "tier": flow.tier,
        "policy_kind": flow.policy_kind,
        "policy_namespace": flow.policy_namespace,
        "policy": flow.policy,
        "rule": flow.rule,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            sequence: 7,
            time: "2026-08-22T10:11:12.5Z".to_owned(),
            source: "10.0.0.1".to_owned(),
            destination: "fd00::2".to_owned(),
            protocol: 6,
            source_port: 40000,
            destination_port: 80,
            action: "deny".to_owned(),
            direction: "ingress".to_owned(),
            interface: "cali1".to_owned(),
            endpoint: "k8s/ns/pod/eth0".to_owned(),
            reason: "policy".to_owned(),
            tier: "default".to_owned(),
            policy_kind: "NetworkPolicy".to_owned(),
            policy_namespace: "ns".to_owned(),
            policy: "web".to_owned(),
            rule: 2,
        }
    }

    #[test]
    fn a_denied_flow_names_its_policy() {
        assert_eq!(
            cells(&flow()),
            [
                "2026-08-22T10:11:12.5Z",
                "deny",
                "ingress",
                "tcp",
                "10.0.0.1:40000",
                "[fd00::2]:80",
                "k8s/ns/pod/eth0",
                "default",
                "NetworkPolicy(ns/web)",
                "2",
                "policy"
            ]
        );
        let json = to_json(&flow());
        assert_eq!(
            (json["rule"].as_i64(), json["policy"].as_str()),
            (Some(2), Some("web"))
        );
    }

    #[test]
    fn icmp_and_ends_of_tiers() {
        let icmp = Flow {
            protocol: 58,
            source_port: 0,
            destination_port: 128 * 256,
            rule: -1,
            policy: String::new(),
            tier: String::new(),
            ..flow()
        };
        let cells = cells(&icmp);
        assert_eq!(&cells[3..6], ["icmpv6 128/0", "10.0.0.1", "fd00::2"]);
        assert_eq!(&cells[7..10], ["-", "-", "-"]);
    }
}
