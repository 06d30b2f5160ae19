//! Every session, from both ends.

use std::collections::HashMap;

use comfy_table::{Table, presets};

use super::Report;
use crate::fabric::{Fabric, SessionEnd};
use crate::observe::sessions::{self, Sessions};
use crate::running::RunningLab;

const ESTABLISHED: &str = "Established";

pub(super) fn check(lab: &RunningLab, fabric: &Fabric, report: &mut Report) {
    let seen: HashMap<&str, anyhow::Result<Sessions>> = fabric
        .speakers
        .iter()
        .map(|(node, speaker)| (node.as_str(), sessions::read(lab, node, speaker.kind)))
        .collect();
    let state = |own: &SessionEnd, peer: &SessionEnd| match seen.get(own.node.as_str()) {
        Some(Ok(views)) => match views.get(&peer.address) {
            Some(view) if view.established => (ESTABLISHED.to_string(), view.since.clone()),
            Some(view) => (view.state.clone(), view.since.clone()),
            None => ("no such session".to_string(), String::new()),
        },
        Some(Err(e)) => (format!("{e:#}"), String::new()),
        None => ("nobody asked".to_string(), String::new()),
    };
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["NODE", "SPEAKER", "ADDRESS", "PEER", "STATE", "SINCE"]);
    for session in &fabric.sessions {
        let [a, b] = &session.ends;
        for (own, peer) in [(a, b), (b, a)] {
            let (state, since) = state(own, peer);
            let kind = fabric.speakers.get(&own.node).map_or("", |s| s.kind.name());
            table.add_row([
                own.node.as_str(),
                kind,
                &own.address.to_string(),
                &format!("{} {}", peer.node, peer.address),
                &state,
                &since,
            ]);
            let subject = format!("{} ({kind}) with {} {}", own.node, peer.node, peer.address);
            report.compare("sessions", subject, ESTABLISHED, &state);
        }
    }
    report.section("BGP sessions, each from both ends", table.to_string());
}
