//! An agent is killed with SIGKILL and started again while a UDP stream and a TCP connection cross its host:
//! the kernel must go on forwarding and judging, and the fabric must not notice.

use std::net::IpAddr;
use std::thread::{ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::de::DeserializeOwned;

use super::Stage;
use super::witnesses::{self, Facts};
use crate::deploy::Progress;
use crate::fabric::Family;
use crate::provision::{all_established, eventually};
use crate::traffic::tcp::{TcpReceived, TcpSent};
use crate::traffic::udp::{Received, Sent};
use crate::verify::Report;
use crate::workloads::{self, WorkloadRecord};

const AREA: &str = "agent-restart";
/// What is asked for is more than what must be reached, because sending shares the machine.
const RATE_PPS: u32 = 6000;
const RATE_PPS_MIN: f64 = 5000.0;
const REORDER_MAX: u64 = 3;
const UDP_PORT: u16 = 7000;
const TCP_PORT: u16 = 7001;
/// Before the kill, while the agent is away, and after its start.
const BEFORE: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(4);
const STREAM_SECONDS: u32 = 20;
/// Beyond the stream's own length.
const SLACK_SECONDS: u32 = 15;
const LISTEN_WAIT: Duration = Duration::from_millis(500);
const BACK_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(stage: &Stage, report: &mut Report, progress: Progress) -> anyhow::Result<()> {
    let records = workloads::records(stage.lab)?;
    let find = |name: &str| {
        records
            .iter()
            .find(|r| r.name == name)
            .with_context(|| format!("{name} is not there"))
    };
    let acted_on = stage
        .acted_on
        .agent_restart
        .as_ref()
        .context("lab.yml has no agent-restart")?;
    let (from, to) = (find(&acted_on.stream.from)?, find(&acted_on.stream.to)?);
    for host in &acted_on.hosts {
        for family in [Family::V4, Family::V6] {
            restart_under_traffic(stage, host, family, from, to, report, progress)
                .with_context(|| format!("restart of {host} under {family} traffic"))?;
        }
    }
    Ok(())
}

fn restart_under_traffic(
    stage: &Stage,
    host: &str,
    family: Family,
    from: &WorkloadRecord,
    to: &WorkloadRecord,
    report: &mut Report,
    progress: Progress,
) -> anyhow::Result<()> {
    let address = to
        .addresses
        .iter()
        .find(|a| a.is_ipv4() == (family == Family::V4))
        .context("the receiver has no address of the family")?;
    let before = undisturbed(stage, host)?;
    progress(&format!(
        "{} to {}: {RATE_PPS} packets/s and a TCP connection over {family}",
        from.name, to.name
    ));

    let (udp, tcp, back_under_traffic) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let udp_received = spawn::<Received>(scope, stage, to, udp_receive(*address));
        let tcp_received = spawn::<TcpReceived>(scope, stage, to, tcp_receive());
        sleep(LISTEN_WAIT);
        let udp_sent = spawn::<Sent>(scope, stage, from, udp_send(*address));
        let tcp_sent = spawn::<TcpSent>(scope, stage, from, tcp_send(*address));
        let traffic = Instant::now();
        sleep(BEFORE);
        stage.kill_speaker(host)?;
        progress(&format!("agent of {host} killed"));
        sleep(AWAY);
        stage.start_speaker(host)?;
        let started = Instant::now();
        eventually(BACK_MAX, || all_established(stage.lab, stage.fabric)).context("the agent's sessions")?;
        let back_after = traffic.elapsed();
        progress(&format!(
            "agent of {host} back: sessions after {:.1} s",
            started.elapsed().as_secs_f64()
        ));
        Ok((
            (join(udp_sent)?, join(udp_received)?),
            (join(tcp_sent)?, join(tcp_received)?),
            back_after,
        ))
    })?;
    let after = undisturbed(stage, host)?;

    let ((sent, received), (tcp_sent, tcp_received)) = (udp, tcp);
    progress(&format!(
        "sent {} at {:.0}/s, received {}, reordered by {}, longest gap {} ms, {} TCP retransmissions",
        sent.packets,
        sent.packets_per_second,
        received.packets,
        received.reordered_by_max,
        received.gap_max_ms,
        tcp_sent.total_retransmissions
    ));
    let mut check = |what: &str, expected: String, seen: String, ok: bool| {
        report.add(AREA, format!("{host}, {family}: {what}"), &expected, &seen, ok);
    };
    let (back_s, stream_s) = (back_under_traffic.as_secs_f64(), f64::from(STREAM_SECONDS));
    check(
        "back while the streams last",
        format!("within {stream_s:.0} s"),
        format!("after {back_s:.1} s"),
        back_s < stream_s,
    );
    let rate = sent.packets_per_second;
    check(
        "rate",
        format!("at least {RATE_PPS_MIN}/s"),
        format!("{rate:.0}/s"),
        rate >= RATE_PPS_MIN,
    );
    let whole = received.complete && received.packets == sent.packets && sent.refused == 0;
    check(
        "UDP packets lost",
        "0".to_string(),
        format!(
            "{} of {}, end seen: {}",
            sent.packets.saturating_sub(received.packets),
            sent.packets,
            received.complete
        ),
        whole,
    );
    let reordered = received.reordered_by_max;
    check(
        "UDP reordered",
        format!("by at most {REORDER_MAX}"),
        format!("by {reordered}"),
        reordered <= REORDER_MAX,
    );
    let retransmissions = tcp_sent.total_retransmissions;
    check(
        "TCP retransmissions",
        "0".to_string(),
        retransmissions.to_string(),
        retransmissions == 0,
    );
    let bytes = (tcp_sent.bytes, tcp_received.bytes);
    check(
        "TCP bytes",
        bytes.0.to_string(),
        bytes.1.to_string(),
        bytes.0 == bytes.1,
    );
    witnesses::compare(report, AREA, &format!("{host}, {family}"), &before, &after);
    Ok(())
}

/// What a restart of this host's agent must not change: withdrawals received by the spines, and since when all
/// sessions are up that are not the host's own.
fn undisturbed(stage: &Stage, host: &str) -> anyhow::Result<Facts> {
    let ends = stage.fabric.sessions.iter().flat_map(|s| &s.ends);
    let own: Vec<IpAddr> = ends.filter(|e| e.node == host).map(|e| e.address).collect();
    let mut facts = witnesses::withdrawals(stage)?;
    facts.extend(witnesses::sessions_but(stage, |node, peer| {
        node == host || own.contains(&peer)
    })?);
    Ok(facts)
}

fn udp_receive(address: IpAddr) -> Vec<String> {
    let listen = std::net::SocketAddr::new(address, UDP_PORT).to_string();
    words(&[
        "udp-receive",
        "--listen",
        &listen,
        "--seconds",
        &(STREAM_SECONDS + SLACK_SECONDS).to_string(),
    ])
}

fn udp_send(address: IpAddr) -> Vec<String> {
    let to = std::net::SocketAddr::new(address, UDP_PORT).to_string();
    let (rate, seconds) = (RATE_PPS.to_string(), STREAM_SECONDS.to_string());
    words(&["udp-send", "--to", &to, "--rate", &rate, "--seconds", &seconds])
}

fn tcp_receive() -> Vec<String> {
    words(&[
        "tcp-receive",
        "--port",
        &TCP_PORT.to_string(),
        "--seconds",
        &(STREAM_SECONDS + SLACK_SECONDS).to_string(),
    ])
}

fn tcp_send(address: IpAddr) -> Vec<String> {
    let (to, port) = (address.to_string(), TCP_PORT.to_string());
    words(&[
        "tcp-send",
        "--to",
        &to,
        "--port",
        &port,
        "--seconds",
        &STREAM_SECONDS.to_string(),
    ])
}

fn words(words: &[&str]) -> Vec<String> {
    ["lab", "traffic"]
        .iter()
        .chain(words)
        .map(ToString::to_string)
        .collect()
}

type Running<'scope, T> = ScopedJoinHandle<'scope, anyhow::Result<T>>;

/// Runs a traffic command in a workload and reads its result.
fn spawn<'scope, 'env, T: DeserializeOwned + Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    stage: &'env Stage,
    at: &'env WorkloadRecord,
    command: Vec<String>,
) -> Running<'scope, T> {
    scope.spawn(move || {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let limit = Duration::from_secs(u64::from(STREAM_SECONDS + 2 * SLACK_SECONDS));
        let text = stage
            .lab
            .run_with_input(&at.host, Some(&at.name), &arguments, b"", limit)?;
        serde_json::from_str(&text).with_context(|| format!("the result of {}", command.join(" ")))
    })
}

fn join<T>(running: Running<T>) -> anyhow::Result<T> {
    running
        .join()
        .map_err(|_| anyhow::anyhow!("a thread of the scenario failed"))?
}
