//! `node status`: what the agent says of itself and of its BGP sessions, in Calico's words.

use std::fmt::Write;

use api_proto::v1::{BgpPeer, GetStatusRequest, GetStatusResponse, ListBgpPeersRequest};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::agent::{self, AgentError};
use crate::arguments::AgentOptions;
use crate::failure::{Failure, print};
use crate::output::boxes;

/// A session that entered its state longer ago than this shows the date instead of the time of day.
const TIME_OF_DAY_SECONDS_MAX: i64 = 20 * 3600;

pub(crate) async fn run(options: &AgentOptions) -> Result<(), Failure> {
    let mut client = match agent::connect(&options.agent_socket).await {
        Ok(client) => client,
        Err(AgentError::NotRunning(_)) => return Err(Failure::new("Calico process is not running.")),
        Err(error) => return Err(Failure::new(error)),
    };
    let failed =
        |status: tonic::Status| Failure::new(format!("the agent did not answer: {}", status.message()));
    let status = client
        .get_status(GetStatusRequest {})
        .await
        .map_err(failed)?
        .into_inner();
    let peers = client
        .list_bgp_peers(ListBgpPeersRequest {})
        .await
        .map_err(failed)?
        .into_inner()
        .peers;
    print(&render(&status, &peers, Timestamp::now(), &TimeZone::system()))
}

/// What the agent calls sessions with workloads: as with Calico, they are not shown here (but by `bgp peers`).
const LOCAL_WORKLOAD: &str = "local workload";

/// The whole output.
fn render(status: &GetStatusResponse, peers: &[BgpPeer], now: Timestamp, zone: &TimeZone) -> String {
    let mut text = "Calico process is running.\n".to_owned();
    let running = |speaker: &Option<api_proto::v1::BgpSpeaker>| speaker.as_ref().is_some_and(|s| s.running);
    let (v4, v6) = (running(&status.bgp_v4), running(&status.bgp_v6));
    match (v4, v6) {
        (false, false) => text.push_str("\nThe BGP backend process (BIRD) is not running.\n"),
        (false, true) => text.push_str("\nINFO: BIRDv4 process: 'bird' is not running.\n"),
        (true, false) => text.push_str("\nINFO: BIRDv6 process: 'bird6' is not running.\n"),
        (true, true) => {}
    }
    for (running, version) in [(v4, 4), (v6, 6)] {
        if running {
            let _ = writeln!(text, "\nIPv{version} BGP status");
            let rows: Vec<Vec<String>> = peers
                .iter()
                .filter(|peer| peer.ip_version == version && peer.peer_type != LOCAL_WORKLOAD)
                .map(|peer| row(peer, now, zone))
                .collect();
            if rows.is_empty() {
                let _ = writeln!(text, "No IPv{version} peers found.");
            } else {
                text.push_str(&boxes::table(
                    &["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"],
                    &rows,
                    &[],
                ));
            }
        }
    }
    text.push('\n');
    if !status.problems.is_empty() {
        text.push_str("Not honoured as written:\n");
        for problem in &status.problems {
            let _ = writeln!(text, "- {problem}");
        }
        text.push('\n');
    }
    text
}

fn row(peer: &BgpPeer, now: Timestamp, zone: &TimeZone) -> Vec<String> {
    // BIRD's state of the protocol, of which the BGP state is a detail.
    let state = if peer.state == "Established" {
        "up"
    } else {
        "start"
    };
    let text = if peer.info.is_empty() {
        peer.state.clone()
    } else {
        format!("{} {}", peer.state, peer.info)
    };
    vec![
        peer.address.clone(),
        peer.peer_type.clone(),
        state.to_owned(),
        since(&peer.since, now, zone),
        text,
    ]
}

/// Time of day when it is recent, else the date; local, as BIRD prints it.
fn since(text: &str, now: Timestamp, zone: &TimeZone) -> String {
    let Ok(since) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let local = since.to_zoned(zone.clone());
    let recent = now.duration_since(since).abs() < SignedDuration::from_secs(TIME_OF_DAY_SECONDS_MAX);
    local
        .strftime(if recent { "%H:%M:%S" } else { "%Y-%m-%d" })
        .to_string()
}

#[cfg(test)]
mod tests {
    use api_proto::v1::BgpSpeaker;

    use super::*;

    fn speaker(running: bool) -> Option<BgpSpeaker> {
        Some(BgpSpeaker {
            running,
            ..BgpSpeaker::default()
        })
    }

    fn peer(address: &str, version: u32, state: &str, info: &str, since: &str) -> BgpPeer {
        BgpPeer {
            address: address.to_owned(),
            ip_version: version,
            peer_type: "node-to-node mesh".to_owned(),
            state: state.to_owned(),
            info: info.to_owned(),
            since: since.to_owned(),
            ..BgpPeer::default()
        }
    }

    fn rendered(v4: bool, v6: bool, peers: &[BgpPeer]) -> String {
        let status = GetStatusResponse {
            bgp_v4: speaker(v4),
            bgp_v6: speaker(v6),
            ..GetStatusResponse::default()
        };
        render(
            &status,
            peers,
            "2026-08-22T23:40:00Z".parse().unwrap(),
            &TimeZone::UTC,
        )
    }

    #[test]
    fn as_the_reference_prints_it() {
        let workload = BgpPeer {
            peer_type: LOCAL_WORKLOAD.to_owned(),
            ..peer("10.65.0.7", 4, "Established", "", "2026-08-22T23:30:04Z")
        };
        let node = peer("172.17.8.102", 4, "Established", "", "2026-08-22T23:30:04Z");
        assert_eq!(
            rendered(true, true, &[node, workload]),
            "Calico process is running.\n\
             \n\
             IPv4 BGP status\n\
             +--------------+-------------------+-------+----------+-------------+\n\
             | PEER ADDRESS | PEER TYPE         | STATE | SINCE    | INFO        |\n\
             +--------------+-------------------+-------+----------+-------------+\n\
             | 172.17.8.102 | node-to-node mesh | up    | 23:30:04 | Established |\n\
             +--------------+-------------------+-------+----------+-------------+\n\
             \n\
             IPv6 BGP status\n\
             No IPv6 peers found.\n\
             \n"
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_listed() {
        let status = GetStatusResponse {
            problems: vec!["BGPPeer(a) spec.peerIP = 'x': the peer is left out".to_owned()],
            ..GetStatusResponse::default()
        };
        let text = render(&status, &[], Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert!(
            text.ends_with(
                "\nNot honoured as written:\n- BGPPeer(a) spec.peerIP = 'x': the peer is left out\n\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn states_and_times() {
        let peers = [peer(
            "fd00::1",
            6,
            "Active",
            "Socket: Connection refused",
            "2026-08-20T01:00:00Z",
        )];
        let text = rendered(false, true, &peers);
        assert!(
            text.contains("\n\nINFO: BIRDv4 process: 'bird' is not running.\n\nIPv6 BGP status\n"),
            "{text}"
        );
        assert!(
            text.contains("| start | 2026-08-20 | Active Socket: Connection refused |"),
            "{text}"
        );
        assert!(rendered(true, false, &[]).contains("INFO: BIRDv6 process: 'bird6' is not running."));
        assert_eq!(
            rendered(false, false, &peers),
            "Calico process is running.\n\nThe BGP backend process (BIRD) is not running.\n\n"
        );
    }
}
