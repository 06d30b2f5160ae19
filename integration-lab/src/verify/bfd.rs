//! BFD of the sessions between routers and agents.

use anyhow::bail;

use super::Report;
use crate::fabric::{Fabric, SessionEnd, SpeakerKind};
use crate::observe::bfd;
use crate::running::RunningLab;

pub(super) fn check(lab: &RunningLab, fabric: &Fabric, report: &mut Report) {
    for node in &fabric.bfd_checks {
        let seen = states(lab, fabric, node);
        for peer in agents_of(fabric, node) {
            let state = match &seen {
                Ok(states) => states
                    .get(&peer.address)
                    .cloned()
                    .unwrap_or_else(|| "no session".to_owned()),
                Err(error) => format!("{error:#}"),
            };
            report.compare(
                "bfd",
                format!("{node} with {} {}", peer.node, peer.address),
                bfd::UP,
                &state,
            );
        }
    }
}

/// Fails with the first session that is not up.
pub(super) fn settled(lab: &RunningLab, fabric: &Fabric) -> anyhow::Result<()> {
    for node in &fabric.bfd_checks {
        let states = states(lab, fabric, node)?;
        for peer in agents_of(fabric, node) {
            if states.get(&peer.address).map(String::as_str) != Some(bfd::UP) {
                bail!("{node}: BFD with {} is not up", peer.address);
            }
        }
    }
    Ok(())
}

fn states(lab: &RunningLab, fabric: &Fabric, node: &str) -> anyhow::Result<bfd::States> {
    match fabric.speakers.get(node) {
        Some(speaker) => bfd::read(lab, node, speaker.kind),
        None => bail!("{node} runs no speaker"),
    }
}

/// The agents' ends of a router's sessions.
fn agents_of<'a>(fabric: &'a Fabric, node: &'a str) -> impl Iterator<Item = &'a SessionEnd> {
    let is_agent = |end: &SessionEnd| {
        fabric
            .speakers
            .get(&end.node)
            .is_some_and(|speaker| speaker.kind == SpeakerKind::Agent)
    };
    let pairs = fabric.sessions.iter().flat_map(|session| {
        let [a, b] = &session.ends;
        [(a, b), (b, a)]
    });
    pairs
        .filter(move |(own, peer)| own.node == node && is_agent(peer))
        .map(|(_, peer)| peer)
}
