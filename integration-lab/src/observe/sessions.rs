//! BGP sessions as each implementation shows them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::fabric::SpeakerKind;
use crate::running::RunningLab;

/// GoBGP's number of the state Established.
const GOBGP_ESTABLISHED: u64 = 6;

/// A session seen from one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Address of the other end.
    pub peer: IpAddr,
    /// Whether routes flow.
    pub established: bool,
    /// The state in the implementation's own words.
    pub state: String,
    /// Since when it is in this state: only good for comparing with an earlier view of the same session.
    pub since: String,
}

/// Sessions of a node by the peer's address.
pub type Sessions = BTreeMap<IpAddr, SessionView>;

/// Asks a node's speaker.
pub fn read(lab: &RunningLab, node: &str, kind: SpeakerKind) -> anyhow::Result<Sessions> {
    let views = match kind {
        SpeakerKind::Bird => parse_bird(&lab.run(node, &["birdc", "show", "protocols", "all"])?),
        SpeakerKind::Frr => parse_frr(&lab.run(node, &["vtysh", "-c", "show bgp summary json"])?)?,
        SpeakerKind::Gobgp => parse_gobgp(&lab.run(node, &["gobgp", "-j", "neighbor"])?)?,
        SpeakerKind::Agent => parse_node_status(&lab.run(node, &["calicoctl", "node", "status"])?),
    };
    Ok(views.into_iter().map(|v| (v.peer, v)).collect())
}

/// `birdc show protocols all`: a line a protocol, indented lines of detail below it.
pub fn parse_bird(text: &str) -> Vec<SessionView> {
    let mut views = Vec::new();
    let mut head: Option<(String, String)> = None;
    for line in text.lines() {
        if !line.starts_with(' ') {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // Name Proto Table State Since Info...
            head = match fields.as_slice() {
                [_, "BGP", _, _, since, info @ ..] => Some((since.to_string(), info.join(" "))),
                _ => None,
            };
        } else if let Some(address) = line.trim().strip_prefix("Neighbor address:")
            && let Some((since, info)) = head.take()
            && let Ok(peer) = address.trim().parse()
        {
            views.push(SessionView {
                peer,
                established: info == "Established",
                state: info,
                since,
            });
        }
    }
    views
}

/// `show bgp summary json`: a table a family.
fn parse_frr(text: &str) -> anyhow::Result<Vec<SessionView>> {
    let json: Value = serde_json::from_str(text).context("vtysh's JSON")?;
    let mut views = Vec::new();
    for family in ["ipv4Unicast", "ipv6Unicast"] {
        let Some(peers) = json[family]["peers"].as_object() else {
            continue;
        };
        for (address, peer) in peers {
            let state = peer["state"].as_str().unwrap_or("unknown").to_string();
            views.push(SessionView {
                peer: address
                    .parse()
                    .with_context(|| format!("FRR's peer {address:?}"))?,
                established: state == "Established",
                state,
                // The epoch that FRR prints is computed anew each time and wavers by a second; this count does not.
                since: format!("connection {}", peer["connectionsEstablished"]),
            });
        }
    }
    Ok(views)
}

/// `gobgp -j neighbor`: a list.
fn parse_gobgp(text: &str) -> anyhow::Result<Vec<SessionView>> {
    let json: Value = serde_json::from_str(text).context("gobgp's JSON")?;
    let mut views = Vec::new();
    for peer in json.as_array().into_iter().flatten() {
        let address = peer["conf"]["neighbor_address"]
            .as_str()
            .context("gobgp: a neighbour without address")?;
        let state = peer["state"]["session_state"].as_u64().unwrap_or(0);
        let established = state == GOBGP_ESTABLISHED;
        views.push(SessionView {
            peer: address
                .parse()
                .with_context(|| format!("gobgp's peer {address:?}"))?,
            established,
            state: if established {
                "Established".to_string()
            } else {
                format!("state {state}")
            },
            since: peer["timers"]["state"]["uptime"]["seconds"].to_string(),
        });
    }
    Ok(views)
}

/// `calicoctl node status`: a boxed table a family.
pub fn parse_node_status(text: &str) -> Vec<SessionView> {
    let mut views = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [address, _kind, _state, since, info, ..] = cells.as_slice()
            && let Ok(peer) = address.parse()
        {
            views.push(SessionView {
                peer,
                established: info.starts_with("Established"),
                state: info.to_string(),
                since: since.to_string(),
            });
        }
    }
    views
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIRD: &str = "\
BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     15:36:21.000
kernel4    Kernel     master4    up     15:36:21.000
  Channel ipv4
    State:          UP

tor1_v4    BGP        ---        up     15:36:22.742  Established
  BGP state:          Established
    Neighbor address: 10.0.1.1
    Neighbor AS:      65001

tor2_v6    BGP        ---        start  15:36:21.113  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: fd00:0:2::1
";

    #[test]
    fn bird_sessions_are_read() {
        let views = parse_bird(BIRD);
        assert_eq!(views.len(), 2);
        assert!(views[0].established && views[0].since == "15:36:22.742");
        assert_eq!(views[1].peer.to_string(), "fd00:0:2::1");
        assert_eq!(
            (views[1].established, views[1].state.as_str()),
            (false, "Active Socket: Connection refused")
        );
    }

    #[test]
    fn frr_sessions_are_read() {
        let text = r#"{"ipv4Unicast":{"peers":{"10.0.2.0":{"state":"Established","pfxRcd":0,
            "connectionsEstablished":2}}},"ipv6Unicast":{"peers":{"fd00:2:3::1":{"state":"Active"}}}}"#;
        let views = parse_frr(text).unwrap();
        assert_eq!(
            views.iter().map(|v| v.established).collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(views[0].since, "connection 2");
    }

    #[test]
    fn gobgp_sessions_are_read() {
        let text = r#"[{"conf":{"neighbor_address":"10.0.3.0"},"state":{"session_state":6},
            "timers":{"state":{"uptime":{"seconds":1795448182}}}},
            {"conf":{"neighbor_address":"fd00:0:3::"},"state":{"session_state":3},"timers":{"state":{}}}]"#;
        let views = parse_gobgp(text).unwrap();
        assert_eq!(
            views.iter().map(|v| v.established).collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn calicoctl_sessions_are_read() {
        let text = "\
Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS | PEER TYPE         | STATE | SINCE    | INFO        |
+--------------+-------------------+-------+----------+-------------+
| 10.1.1.0     | node specific     | up    | 23:30:04 | Established |
+--------------+-------------------+-------+----------+-------------+

IPv6 BGP status
No IPv6 peers found.
";
        let views = parse_node_status(text);
        assert_eq!(views.len(), 1);
        assert!(views[0].established && views[0].since == "23:30:04");
    }
}
