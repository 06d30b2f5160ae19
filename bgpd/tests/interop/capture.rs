//! What passes over a link, as `tshark` reads it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bgpd::wire;

use crate::net::{Netns, Process, wait_for};

/// What `tshark` up to 4.0 says of messages that are good, and why.
const FALSE_ALARMS: [&str; 2] = [
    // Sessions between two ASes are on one link.
    "\"Time To Live\" only 1",
    // RFC 9687 is younger.
    "Unknown notification error (8)",
];

/// BGP and BFD packets on the link of a namespace, from now on.
pub(crate) struct Capture {
    process: Process,
    file: PathBuf,
}

/// A BGP message in a capture.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) from: IpAddr,
    /// Types of RFC 4271 section 4.1 and RFC 2918.
    pub(crate) kind: u8,
    /// Of ROUTE-REFRESH: what RFC 7313 section 3.2 says. 0 of others.
    pub(crate) subtype: u8,
}

pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const ROUTE_REFRESH: u8 = 5;
/// Subtypes of ROUTE-REFRESH.
pub(crate) const REQUEST: u8 = 0;
pub(crate) const BEGIN: u8 = 1;
pub(crate) const END: u8 = 2;

impl Capture {
    pub(crate) fn start(netns: &Netns, directory: &Path) -> Self {
        let file = directory.join("eth0.pcap");
        let log = directory.join("tcpdump.log");
        let line = format!(
            "tcpdump -i eth0 -U --immediate-mode -B 4096 -Z root -w {} \
             tcp port 179 or udp port 3784 or udp port 4784",
            file.display()
        );
        let process = netns.spawn(&line, &log);
        wait_for("tcpdump", Duration::from_secs(10), || {
            process.log().contains("listening on")
        });
        Self { process, file }
    }

    /// The BGP messages so far.
    pub(crate) fn messages(&self) -> Vec<Seen> {
        let file = std::fs::read(&self.file).unwrap_or_default();
        let mut seen = Vec::new();
        let mut rest = file.get(FILE_HEADER_BYTES..).unwrap_or_default();
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_ne_bytes(length.try_into().unwrap()) as usize;
            let Some(packet) = rest.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length) else {
                break;
            };
            rest = &rest[RECORD_HEADER_BYTES + length..];
            let Some((from, payload)) = tcp(packet) else {
                continue;
            };
            for (at, octets) in payload.windows(wire::HEADER_BYTES).enumerate() {
                if octets.starts_with(&[0xff; 16]) {
                    let kind = octets[18];
                    // After the AFI.
                    let subtype = payload.get(at + wire::HEADER_BYTES + 2);
                    seen.push(Seen {
                        from,
                        kind,
                        subtype: subtype.copied().filter(|_| kind == ROUTE_REFRESH).unwrap_or(0),
                    });
                }
            }
        }
        seen
    }

    /// Ends it: of what these addresses sent, nothing may be malformed or remarked on.
    #[track_caller]
    pub(crate) fn has_no_remarks(mut self, protocol: &str, addresses: &[&str]) {
        self.process.signal("INT");
        assert!(self.process.ended(Duration::from_secs(5)), "tcpdump ends");
        let from = addresses.iter().map(|address| {
            let field = if address.contains(':') {
                "ipv6.src"
            } else {
                "ip.src"
            };
            format!("{field} == {address}")
        });
        let from = from.collect::<Vec<_>>().join(" || ");
        let seen = tshark(&self.file, &format!("{protocol} && ({from})"), &["frame.number"]);
        assert!(seen.lines().count() > 0, "packets of {addresses:?}");
        let remarked =
            format!("{protocol} && ({from}) && (_ws.malformed || _ws.expert.severity >= \"Note\")");
        let said = tshark(
            &self.file,
            &remarked,
            &["frame.number", "_ws.expert.message", "_ws.malformed"],
        );
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !FALSE_ALARMS.iter().any(|known| line.contains(known)))
            .collect();
        assert!(
            said.is_empty(),
            "{said:#?}\n{}",
            tshark_in_full(&self.file, &remarked)
        );
    }
}

const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const ETHERNET_HEADER_BYTES: usize = 14;

/// Who sent a TCP segment, and what is in it.
fn tcp(frame: &[u8]) -> Option<(IpAddr, &[u8])> {
    let packet = frame.get(ETHERNET_HEADER_BYTES..)?;
    let (from, segment) = if packet.first()? >> 4 == 4 {
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        (
            from.into(),
            packet.get(usize::from(packet.first()? & 0xf) * 4..length)?,
        )
    } else {
        let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        (from.into(), packet.get(40..)?)
    };
    Some((from, segment.get(usize::from(segment.get(12)? >> 4) * 4..)?))
}

/// Sequence numbers are not looked at: that a segment was sent twice is no fault of its payload.
const PREFERENCES: [&str; 2] = ["-o", "tcp.analyze_sequence_numbers:TRUE"];

fn tshark(file: &Path, filter: &str, fields: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(file).args(PREFERENCES).args(["-Y", filter]);
    command.args(["-T", "fields", "-E", "aggregator=,"]);
    for field in fields {
        command.args(["-e", field]);
    }
    output(command)
}

fn tshark_in_full(file: &Path, filter: &str) -> String {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(PREFERENCES)
        .args(["-V", "-Y", filter]);
    output(command)
}

fn output(mut command: Command) -> String {
    let output = command.output().expect("tshark is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
