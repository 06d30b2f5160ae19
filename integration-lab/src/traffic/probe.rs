//! Probes from one workload: all targets at once, each with a short limit.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::fabric::Probe;

/// Long enough for one repeated SYN, which the kernel sends after a second.
const TCP_TIMEOUT: Duration = Duration::from_millis(1500);
/// Echo requests before silence counts as a denial, and how long ping waits for the last answer.
const ECHO_REQUESTS: &str = "2";
const ECHO_INTERVAL_S: &str = "0.5";
const ECHO_WAIT_S: &str = "1";
/// The longest answer that a server may give, in bytes.
const ANSWER_BYTES_MAX: u64 = 256;

/// What to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where.
    pub address: IpAddr,
    /// What.
    pub probe: Probe,
    /// The name that the server must answer with.
    pub name: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "seen", content = "detail")]
pub enum Seen {
    /// An answer, from the right one.
    Allow,
    /// Silence.
    Deny,
    /// Anything else: an error, or an answer from somebody else. Never right.
    Other(String),
}

/// The longest that a run of probes takes.
pub const PROBES_MAX: Duration = Duration::from_secs(15);

/// Reads a list of targets as JSON, writes a list of what was seen in the same order.
pub fn run() -> anyhow::Result<()> {
    let targets: Vec<Target> =
        serde_json::from_reader(std::io::stdin().lock()).context("reading the targets")?;
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let threads: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(move || probe(target)))
            .collect();
        let failed = |_| Seen::Other("the probe's thread failed".to_string());
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(failed))
            .collect()
    });
    super::print(&seen)
}

fn probe(target: &Target) -> Seen {
    match target.probe.port() {
        Some(port) => connect(SocketAddr::new(target.address, port), &target.name),
        None => ping(target.address),
    }
}

fn connect(address: SocketAddr, name: &str) -> Seen {
    let mut stream = match TcpStream::connect_timeout(&address, TCP_TIMEOUT) {
        Ok(stream) => stream,
        Err(e) if e.kind() == ErrorKind::TimedOut => return Seen::Deny,
        Err(e) => return Seen::Other(e.to_string()),
    };
    let _ = stream.set_read_timeout(Some(TCP_TIMEOUT));
    let mut answer = String::new();
    match stream.by_ref().take(ANSWER_BYTES_MAX).read_to_string(&mut answer) {
        Ok(_) if answer.trim() == name => Seen::Allow,
        Ok(_) => Seen::Other(format!("answered as {:?}", answer.trim())),
        Err(e) => Seen::Other(format!("connected, then: {e}")),
    }
}

fn ping(address: IpAddr) -> Seen {
    let output = Command::new("ping")
        .args([
            "-n",
            "-q",
            "-c",
            ECHO_REQUESTS,
            "-i",
            ECHO_INTERVAL_S,
            "-W",
            ECHO_WAIT_S,
        ])
        .arg(address.to_string())
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Seen::Allow,
        // 1: no answer. An ICMP error is counted in the summary.
        Ok(output) if output.status.code() == Some(1) => {
            let text = String::from_utf8_lossy(&output.stdout);
            match text.lines().find(|l| l.contains("errors")) {
                Some(line) => Seen::Other(line.trim().to_string()),
                None => Seen::Deny,
            }
        }
        Ok(output) => Seen::Other(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(e) => Seen::Other(format!("running ping: {e}")),
    }
}
