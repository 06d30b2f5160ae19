//! BFD sessions as routers show them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::fabric::SpeakerKind;
use crate::running::RunningLab;

/// What a session's state is called when it is up, whoever shows it.
pub const UP: &str = "up";

/// States of a router's BFD sessions by the peer's address, in small letters.
pub type States = BTreeMap<IpAddr, String>;

/// Asks a router.
pub fn read(lab: &RunningLab, node: &str, kind: SpeakerKind) -> anyhow::Result<States> {
    match kind {
        SpeakerKind::Bird => Ok(parse_bird(&lab.run(node, &["birdc", "show", "bfd", "sessions"])?)),
        SpeakerKind::Frr => parse_frr(&lab.run(node, &["vtysh", "-c", "show bfd peers json"])?),
        other => bail!("{node}: BFD sessions of {} are not read", other.name()),
    }
}

/// `birdc show bfd sessions`: address, interface, state, and times.
fn parse_bird(text: &str) -> States {
    let rows = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let address = fields.next()?.parse().ok()?;
        Some((address, fields.nth(1)?.to_lowercase()))
    });
    rows.collect()
}

/// `show bfd peers json`: a list.
fn parse_frr(text: &str) -> anyhow::Result<States> {
    let json: Value = serde_json::from_str(text).context("vtysh's JSON")?;
    let mut states = States::new();
    for peer in json.as_array().into_iter().flatten() {
        let address = peer["peer"].as_str().unwrap_or_default();
        let address = address
            .parse()
            .with_context(|| format!("FRR's BFD peer {address:?}"))?;
        let state = peer["status"].as_str().unwrap_or("unknown").to_lowercase();
        // A session that FRR has made once more: one that is up is enough.
        if states.get(&address).is_none_or(|known| known != UP) {
            states.insert(address, state);
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read() {
        let bird = "\
BIRD 2.0.12 ready.
bfd1:
IP address                Interface  State      Since         Interval  Timeout
fd00:1:1::1               eth1       Up         21:48:11.120    0.300    0.900
10.1.2.1                  eth2       Down       21:48:12.000    1.000    0.000
";
        let shown = |states: States| -> Vec<String> {
            states
                .into_iter()
                .map(|(peer, state)| format!("{peer} {state}"))
                .collect()
        };
        assert_eq!(shown(parse_bird(bird)), ["10.1.2.1 down", "fd00:1:1::1 up"]);
        let frr = r#"[{"peer":"10.2.1.1","local":"10.2.1.0","vrf":"default","status":"up","uptime":4},
            {"peer":"fd00:2:1::1","status":"down"}]"#;
        assert_eq!(
            shown(parse_frr(frr).unwrap()),
            ["10.2.1.1 up", "fd00:2:1::1 down"]
        );
        assert!(parse_frr("").is_err());
    }
}
