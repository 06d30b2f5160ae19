//! One BGP peer is changed in a way that its session cannot survive, and changed back: no other session notices.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::Stage;
use super::witnesses::{self, Facts};
use crate::deploy::Progress;
use crate::observe::sessions;
use crate::provision::{all_established, apply, eventually};
use crate::verify::Report;

const AREA: &str = "peer-change";
const BACK_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(stage: &Stage, report: &mut Report, progress: Progress) -> anyhow::Result<()> {
    let acted_on = stage
        .acted_on
        .peer_change
        .as_ref()
        .context("lab.yml has no peer-change")?;
    for (what, file) in [("changed", &acted_on.change), ("changed back", &acted_on.revert)] {
        change(stage, &acted_on.host, acted_on.peer, what, file, report, progress)?;
    }
    Ok(())
}

fn change(
    stage: &Stage,
    host: &str,
    peer: IpAddr,
    what: &str,
    file: &Path,
    report: &mut Report,
    progress: Progress,
) -> anyhow::Result<()> {
    let ends = ends_of(stage, host, peer)?;
    let is_of_it = |node: &str, peer: IpAddr| ends.iter().any(|(end, other)| end == node && *other == peer);
    let others = witnesses::sessions_but(stage, is_of_it)?;
    let since = up_since(stage, host, peer)?;
    apply(stage.lab, stage.fabric, file)?;
    let is_new = eventually(BACK_MAX, || {
        all_established(stage.lab, stage.fabric)?;
        let now = up_since(stage, host, peer)?;
        if now == since || witnesses::same_moment(&now, &since) {
            bail!("{host}: the session with {peer} is {now}, as before");
        }
        Ok(now)
    });
    let seen = is_new.unwrap_or_else(|error| format!("{error:#}"));
    progress(&format!("peer {peer} of {host} {what}: its session is {seen}"));
    report.add(
        AREA,
        format!("{what}: the session of {host} with {peer} is a new one"),
        &format!("not {since}"),
        &seen,
        seen.starts_with("up since"),
    );
    let after: Facts = witnesses::sessions_but(stage, is_of_it)?;
    witnesses::compare(report, AREA, what, &others, &after);
    Ok(())
}

/// Both ends of the session, each as a node and the address of its peer.
fn ends_of(stage: &Stage, host: &str, peer: IpAddr) -> anyhow::Result<[(String, IpAddr); 2]> {
    let sessions = stage.fabric.sessions.iter().map(|session| &session.ends);
    let pairs = sessions.flat_map(|[a, b]| [(a, b), (b, a)]);
    let (own, other) = pairs
        .into_iter()
        .find(|(own, other)| own.node == host && other.address == peer)
        .with_context(|| format!("lab.yml has no session of {host} with {peer}"))?;
    Ok([
        (own.node.clone(), other.address),
        (other.node.clone(), own.address),
    ])
}

fn up_since(stage: &Stage, host: &str, peer: IpAddr) -> anyhow::Result<String> {
    let speaker = stage
        .fabric
        .speakers
        .get(host)
        .with_context(|| format!("{host} runs no speaker"))?;
    let seen = sessions::read(stage.lab, host, speaker.kind)?;
    let view = seen
        .get(&peer)
        .with_context(|| format!("{host} has no session with {peer}"))?;
    if !view.established {
        bail!("{host}: the session with {peer} is {}", view.state);
    }
    Ok(format!("up since {}", view.since))
}
