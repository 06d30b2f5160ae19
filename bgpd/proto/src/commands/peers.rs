//! `peers` and `summary`.

use tonic::transport::Channel;

use super::output::{Format, NONE, document, duration, or_none, print, table};
use super::{CommandError, PeersOptions, request};
use crate::v1::bgp_client::BgpClient;
use crate::v1::{Bfd, GetSpeakerRequest, ListPeersRequest, Messages, Peer, Session, Speaker};

/// Kernel problems that a summary lists.
const PROBLEMS_SHOWN_MAX: usize = 20;

pub(super) async fn run(client: &mut BgpClient<Channel>, options: &PeersOptions) -> Result<(), CommandError> {
    let answer = client.list_peers(request(ListPeersRequest {})).await?;
    let mut peers = answer.into_inner().peers;
    let Some(wanted) = &options.peer else {
        return print(&render(&peers, options.output.output)?);
    };
    peers.retain(|peer| peer.name == *wanted || peer.address == *wanted);
    match peers.as_slice() {
        [] => Err(CommandError::Nothing(format!("peer {wanted} is not configured"))),
        [peer] => print(&render_one(peer, options.output.output)?),
        several => print(&render(several, options.output.output)?),
    }
}

fn render(peers: &[Peer], format: Format) -> Result<String, CommandError> {
    if let Some(text) = document(&peers, format)? {
        return Ok(text);
    }
    if peers.is_empty() {
        return Ok("No peers are configured.\n".to_owned());
    }
    let wide = format == Format::Wide;
    let mut headings = vec![
        "PEER",
        "AS",
        "STATE",
        "SINCE",
        "RECEIVED",
        "ACCEPTED",
        "ADVERTISED",
        "FLAPS",
    ];
    if wide {
        headings.extend(["ROUTER-ID", "HOLD", "KEEPALIVE", "FAMILIES"]);
    }
    headings.extend(["DESCRIPTION", "LAST-ERROR"]);
    let rows: Vec<Vec<String>> = peers.iter().map(|peer| row(peer, wide)).collect();
    Ok(table(&headings, &rows))
}

fn row(peer: &Peer, wide: bool) -> Vec<String> {
    let mut cells = vec![
        peer.name.clone(),
        peer.remote_as.to_string(),
        peer.state.clone(),
        duration(peer.since_seconds),
        peer.prefixes_received.to_string(),
        peer.prefixes_accepted.to_string(),
        peer.prefixes_advertised.to_string(),
        peer.flaps.to_string(),
    ];
    if wide {
        let session =
            |text: fn(&Session) -> String| peer.session.as_ref().map_or_else(|| NONE.to_owned(), text);
        cells.push(or_none(&peer.remote_router_id));
        cells.push(session(|s| format!("{}s", s.hold_time_seconds)));
        cells.push(session(|s| format!("{}s", s.keepalive_milliseconds / 1000)));
        cells.push(session(|s| s.families.join(",")));
    }
    cells.push(or_none(&peer.description));
    cells.push(or_none(&peer.last_error));
    cells
}

fn render_one(peer: &Peer, format: Format) -> Result<String, CommandError> {
    if let Some(text) = document(peer, format)? {
        return Ok(text);
    }
    let mut lines = vec![
        ("Peer", peer.name.clone()),
        ("Description", or_none(&peer.description)),
        ("AS", peer.remote_as.to_string()),
        ("Our AS", peer.local_as.to_string()),
        (
            "State",
            format!("{} for {}", peer.state, duration(peer.since_seconds)),
        ),
        ("Router id", or_none(&peer.remote_router_id)),
    ];
    if let Some(session) = &peer.session {
        let restart = match session.restart_time_seconds {
            0 => "does not ask for it".to_owned(),
            seconds => format!("asks to keep its routes for {seconds} s"),
        };
        let keepalive = session.keepalive_milliseconds as f64 / 1000.0;
        lines.extend([
            ("Our address", session.local_address.clone()),
            ("Hold time", format!("{} s", session.hold_time_seconds)),
            ("Keepalive", format!("{keepalive} s")),
            ("Families", session.families.join(", ")),
            ("Capabilities", or_none(&session.capabilities.join(", "))),
            ("Graceful restart", restart),
        ]);
    }
    lines.extend(peer.bfd.as_ref().map(|bfd| ("BFD", bfd_in_words(bfd))));
    lines.extend([
        ("Routes received", peer.prefixes_received.to_string()),
        ("Routes accepted", peer.prefixes_accepted.to_string()),
        ("Routes dampened", peer.prefixes_dampened.to_string()),
        ("Routes advertised", peer.prefixes_advertised.to_string()),
        ("Flaps", peer.flaps.to_string()),
    ]);
    let directions = [
        ("Messages sent", &peer.messages_sent),
        ("Messages received", &peer.messages_received),
    ];
    for (name, messages) in directions {
        lines.extend(
            messages
                .as_ref()
                .map(|messages| (name, messages_in_words(messages))),
        );
    }
    if peer.far_connections > 0 {
        let refused = format!(
            "{} connections, from further than ttl-security allows",
            peer.far_connections
        );
        lines.push(("Refused", refused));
    }
    lines.push(("Last error", or_none(&peer.last_error)));
    Ok(lines
        .into_iter()
        .map(|(name, value)| format!("{:<19}{value}\n", format!("{name}:")))
        .collect())
}

fn messages_in_words(messages: &Messages) -> String {
    format!(
        "{} OPEN, {} UPDATE, {} NOTIFICATION, {} KEEPALIVE, {} ROUTE-REFRESH",
        messages.open, messages.update, messages.notification, messages.keepalive, messages.route_refresh
    )
}

fn bfd_in_words(bfd: &Bfd) -> String {
    let mut text = format!("{} for {}", bfd.state, duration(bfd.since_seconds));
    if bfd.state == "Up" {
        text.push_str(&format!(
            ", fails after {} ms of silence",
            bfd.detection_time_us / 1000
        ));
    } else {
        text.push_str(&format!(
            " ({}), the other side {}",
            bfd.diagnostic, bfd.remote_state
        ));
    }
    text.push_str(&format!(", {} failures", bfd.failures));
    if !bfd.error.is_empty() {
        text.push_str(&format!("; {}", bfd.error));
    }
    text
}

pub(super) async fn summary(client: &mut BgpClient<Channel>, format: Format) -> Result<(), CommandError> {
    let answer = client.get_speaker(request(GetSpeakerRequest {})).await?;
    print(&render_summary(&answer.into_inner(), format)?)
}

fn render_summary(speaker: &Speaker, format: Format) -> Result<String, CommandError> {
    if let Some(text) = document(speaker, format)? {
        return Ok(text);
    }
    let state = match (speaker.draining, speaker.restart_complete) {
        (true, _) => "draining (graceful shutdown)",
        (false, false) => "restarting: waiting for the peers' routes",
        (false, true) => "up",
    };
    let kernel = match &speaker.kernel {
        None => "routes are not installed".to_owned(),
        Some(kernel) => format!(
            "{} routes installed, {} on their way, {} refused",
            kernel.installed,
            kernel.pending,
            kernel.problems.len()
        ),
    };
    let mut text: String = [
        ("State", state.to_owned()),
        ("AS", speaker.local_as.to_string()),
        ("Router id", speaker.router_id.clone()),
        ("Listening", or_none(&speaker.listen.join(", "))),
        (
            "Peers",
            format!("{} of {} established", speaker.peers_established, speaker.peers),
        ),
        ("Prefixes", speaker.prefixes.to_string()),
        ("Paths", speaker.paths.to_string()),
        ("Attribute sets", speaker.attribute_sets.to_string()),
        ("Next hops", speaker.next_hops.to_string()),
        ("Bytes/prefix", speaker.bytes_per_prefix.to_string()),
        ("Bytes/path", speaker.bytes_per_path.to_string()),
        ("Update groups", speaker.update_groups.to_string()),
        ("Kernel", kernel),
    ]
    .into_iter()
    .map(|(name, value)| format!("{:<16}{value}\n", format!("{name}:")))
    .collect();
    let problems = speaker.kernel.iter().flat_map(|kernel| &kernel.problems);
    for problem in problems.take(PROBLEMS_SHOWN_MAX) {
        text.push_str(&format!("  {}: {}\n", problem.prefix, problem.reason));
    }
    for station in &speaker.bmp_stations {
        let state = match (station.connected, station.last_error.as_str()) {
            (true, _) => "connected".to_owned(),
            (false, "") => "not connected".to_owned(),
            (false, error) => format!("not connected: {error}"),
        };
        let row = format!("{} {state}, {} resyncs", station.address, station.resyncs);
        text.push_str(&format!("{:<16}{row}\n", "BMP station:"));
    }
    if let Some(updates) = &speaker.mrt_updates {
        let row = format!(
            "{} files, {} gaps {}",
            updates.files, updates.gaps, updates.last_error
        );
        text.push_str(&format!("{:<16}{}\n", "MRT updates:", row.trim_end()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{BmpStation, Kernel, KernelProblem, MrtUpdates};

    fn peer() -> Peer {
        Peer {
            address: "10.0.0.1".into(),
            name: "10.0.0.1".into(),
            port: 179,
            remote_as: 65001,
            local_as: 64512,
            state: "Established".into(),
            since_seconds: 3_723,
            prefixes_received: 3,
            prefixes_accepted: 2,
            prefixes_advertised: 12,
            remote_router_id: "10.0.0.1".into(),
            description: "BGPPeer(tor-a)".into(),
            session: Some(Session {
                local_address: "10.0.0.9".into(),
                hold_time_seconds: 90,
                keepalive_milliseconds: 30_000,
                families: vec!["ipv4".into()],
                capabilities: vec!["four-octet-as".into(), "route-refresh".into()],
                restart_time_seconds: 120,
            }),
            ..Peer::default()
        }
    }

    fn down() -> Peer {
        Peer {
            name: "[fd00::1]:1790".into(),
            address: "fd00::1".into(),
            port: 1790,
            remote_as: 4_200_000_000,
            state: "Active".into(),
            since_seconds: 5,
            last_error: "Connection refused (os error 111)".into(),
            flaps: 2,
            ..Peer::default()
        }
    }

    #[test]
    fn a_table_of_peers() {
        assert_eq!(
            render(&[peer(), down()], Format::Ps).unwrap(),
            "\
PEER            AS          STATE        SINCE     RECEIVED  ACCEPTED  ADVERTISED  FLAPS  DESCRIPTION     LAST-ERROR
10.0.0.1        65001       Established  01:02:03  3         2         12          0      BGPPeer(tor-a)  -
[fd00::1]:1790  4200000000  Active       00:00:05  0         0         0           2      -               Connection refused (os error 111)
"
        );
        let wide = render(&[peer(), down()], Format::Wide).unwrap();
        assert!(wide.contains("10.0.0.1   90s   30s        ipv4"), "{wide}");
        assert_eq!(render(&[], Format::Ps).unwrap(), "No peers are configured.\n");
    }

    #[test]
    fn one_peer_at_length() {
        assert_eq!(
            render_one(&peer(), Format::Ps).unwrap(),
            "\
Peer:              10.0.0.1
Description:       BGPPeer(tor-a)
AS:                65001
Our AS:            64512
State:             Established for 01:02:03
Router id:         10.0.0.1
Our address:       10.0.0.9
Hold time:         90 s
Keepalive:         30 s
Families:          ipv4
Capabilities:      four-octet-as, route-refresh
Graceful restart:  asks to keep its routes for 120 s
Routes received:   3
Routes accepted:   2
Routes dampened:   0
Routes advertised: 12
Flaps:             0
Last error:        -
"
        );
    }

    #[test]
    fn messages_have_a_line_for_each_direction() {
        let peer = Peer {
            messages_received: Some(Messages {
                open: 1,
                update: 1200,
                keepalive: 7,
                ..Messages::default()
            }),
            ..peer()
        };
        let shown = render_one(&peer, Format::Ps).unwrap();
        let line = "Messages received: 1 OPEN, 1200 UPDATE, 0 NOTIFICATION, 7 KEEPALIVE, 0 ROUTE-REFRESH";
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
        assert!(!shown.contains("Messages sent"), "{shown}");
    }

    #[test]
    fn refused_connections_have_a_line() {
        let far = Peer {
            far_connections: 3,
            ..peer()
        };
        let line = "Refused:           3 connections, from further than ttl-security allows";
        let shown = render_one(&far, Format::Ps).unwrap();
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
        assert!(!render_one(&peer(), Format::Ps).unwrap().contains("Refused"));
    }

    #[test]
    fn bfd_has_a_line() {
        let mut bfd = Bfd {
            state: "Up".into(),
            since_seconds: 61,
            diagnostic: "no diagnostic".into(),
            remote_state: "Up".into(),
            detection_time_us: 150_000,
            ..Bfd::default()
        };
        let line = |bfd: &Bfd| {
            let peer = Peer {
                bfd: Some(bfd.clone()),
                ..peer()
            };
            let shown = render_one(&peer, Format::Ps).unwrap();
            shown
                .lines()
                .find(|line| line.starts_with("BFD:"))
                .map(str::to_owned)
                .unwrap()
        };
        assert_eq!(
            line(&bfd),
            "BFD:               Up for 00:01:01, fails after 150 ms of silence, 0 failures"
        );
        bfd.state = "Down".into();
        bfd.diagnostic = "control detection time expired".into();
        bfd.remote_state = "Down".into();
        bfd.failures = 1;
        bfd.error = "cannot send: Network is unreachable".into();
        assert_eq!(
            line(&bfd),
            "BFD:               Down for 00:01:01 (control detection time expired), the other side Down, 1 failures; \
             cannot send: Network is unreachable"
        );
    }

    #[test]
    fn documents_name_the_contracts_fields() {
        let json: serde_json::Value =
            serde_json::from_str(&render(&[peer()], Format::Json).unwrap()).unwrap();
        assert_eq!(json[0]["prefixesAccepted"], 2);
        assert_eq!(json[0]["session"]["holdTimeSeconds"], 90);
        let yaml = render(&[peer()], Format::Yaml).unwrap();
        assert!(yaml.starts_with("- address: \"10.0.0.1\"\n"), "{yaml}");
    }

    #[test]
    fn a_summary() {
        let speaker = Speaker {
            local_as: 64512,
            router_id: "10.0.0.9".into(),
            listen: vec!["0.0.0.0:179".into()],
            draining: true,
            peers: 2,
            peers_established: 1,
            prefixes: 5,
            paths: 7,
            kernel: Some(Kernel {
                installed: 4,
                pending: 0,
                problems: vec![KernelProblem {
                    prefix: "10.1.0.0/26".into(),
                    reason: "protocol 80 has a blackhole or unreachable route to this prefix".into(),
                }],
                ..Kernel::default()
            }),
            bmp_stations: vec![BmpStation {
                address: "192.0.2.9:5000".into(),
                last_error: "no answer".into(),
                resyncs: 1,
                ..BmpStation::default()
            }],
            mrt_updates: Some(MrtUpdates {
                files: 3,
                ..MrtUpdates::default()
            }),
            ..Speaker::default()
        };
        assert_eq!(
            render_summary(&speaker, Format::Ps).unwrap(),
            "\
State:          draining (graceful shutdown)
AS:             64512
Router id:      10.0.0.9
Listening:      0.0.0.0:179
Peers:          1 of 2 established
Prefixes:       5
Paths:          7
Attribute sets: 0
Next hops:      0
Bytes/prefix:   0
Bytes/path:     0
Update groups:  0
Kernel:         4 routes installed, 0 on their way, 1 refused
  10.1.0.0/26: protocol 80 has a blackhole or unreachable route to this prefix
BMP station:    192.0.2.9:5000 not connected: no answer, 1 resyncs
MRT updates:    3 files, 0 gaps
"
        );
    }
}
