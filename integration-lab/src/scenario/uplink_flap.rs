//! A host loses the carrier of its uplinks, one after the other and then of all, and gets them back; its agent sees
//! it happen, or is dead meanwhile. On carrier loss the kernel deletes next-hop objects and the routes that depend
//! on them, and restores nothing: afterwards the routes must be what they were.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Stage;
use crate::deploy::Progress;
use crate::fabric::Family;
use crate::observe::ipam::IpamView;
use crate::observe::routes;
use crate::provision::{all_established, eventually};
use crate::verify::Report;

/// For so long a carrier is away, and for so long it is there before the next one goes.
const AWAY: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_secs(1);
const BACK_MAX: Duration = Duration::from_secs(60);

/// Routes inside the pools, by node, as the kernel shows them.
type Routes = BTreeMap<String, BTreeSet<String>>;

pub(super) fn run(
    stage: &Stage,
    agent_dead: bool,
    report: &mut Report,
    progress: Progress,
) -> anyhow::Result<()> {
    for host in &stage.acted_on.uplink_flap {
        flap(stage, host, agent_dead, report, progress).with_context(|| format!("uplinks of {host}"))?;
    }
    Ok(())
}

fn flap(
    stage: &Stage,
    host: &str,
    agent_dead: bool,
    report: &mut Report,
    progress: Progress,
) -> anyhow::Result<()> {
    let area = if agent_dead {
        "uplink-flap-agent-dead"
    } else {
        "uplink-flap"
    };
    let uplinks = far_ends(stage, host);
    if uplinks.is_empty() {
        bail!("{host} has no uplinks");
    }
    let ipam = IpamView::read(stage.lab, stage.fabric)?;
    let before = in_pools(stage, &ipam)?;
    let learned = before.get(host).map_or(0, |routes| {
        routes.iter().filter(|route| route.contains(" via ")).count()
    });
    report.add(
        area,
        format!("{host}: learned routes before"),
        "some",
        &learned.to_string(),
        learned > 0,
    );

    if agent_dead {
        stage.kill_speaker(host)?;
        progress(&format!("agent of {host} killed"));
    }
    for uplink in &uplinks {
        lose(stage, std::slice::from_ref(uplink), progress)?;
        sleep(PAUSE);
    }
    lose(stage, &uplinks, progress)?;
    let began = Instant::now();
    if agent_dead {
        stage.start_speaker(host)?;
    }
    let back = eventually(BACK_MAX, || {
        all_established(stage.lab, stage.fabric)?;
        let now = in_pools(stage, &ipam)?;
        match before
            .iter()
            .find(|(node, routes)| now.get(*node) != Some(routes))
        {
            Some((node, _)) => bail!("{node}: other routes than before"),
            None => Ok(()),
        }
    });
    let seen = match back {
        Ok(()) => format!("after {:.1} s", began.elapsed().as_secs_f64()),
        Err(error) => format!("{error:#}"),
    };
    progress(&format!("{host}: sessions and routes are back {seen}"));
    report.add(
        area,
        format!("{host}: sessions and routes come back"),
        &format!("within {BACK_MAX:?}"),
        &seen,
        seen.starts_with("after"),
    );
    let after = in_pools(stage, &ipam)?;
    for (node, routes) in &before {
        let shown = |routes: &BTreeSet<String>| routes.iter().cloned().collect::<Vec<_>>().join("; ");
        let now = after.get(node).map(shown).unwrap_or_default();
        let subject = format!("{host}'s uplinks: routes of {node}");
        report.compare(area, subject, &shown(routes), &now);
    }
    Ok(())
}

/// Takes the carrier of some uplinks away for a while, as a cable does: from the other end, so that the host's own
/// interfaces and addresses stay.
fn lose(stage: &Stage, uplinks: &[(String, String)], progress: Progress) -> anyhow::Result<()> {
    let set = |state: &str| -> anyhow::Result<()> {
        for (node, interface) in uplinks {
            stage
                .lab
                .run(node, &["ip", "link", "set", "dev", interface, state])?;
        }
        Ok(())
    };
    set("down")?;
    let names: Vec<String> = uplinks.iter().map(|(n, i)| format!("{n}:{i}")).collect();
    progress(&format!("no carrier by {} for {AWAY:?}", names.join(" and ")));
    sleep(AWAY);
    set("up")
}

/// The other ends of a host's links: nodes and interfaces.
fn far_ends(stage: &Stage, host: &str) -> Vec<(String, String)> {
    let links = stage.lab.topology.links.iter().map(|link| &link.ends);
    links
        .filter(|ends| ends.iter().any(|end| end.node == host))
        .flat_map(|ends| ends.iter().filter(|end| end.node != host))
        .map(|end| (end.node.clone(), end.interface.clone()))
        .collect()
}

fn in_pools(stage: &Stage, ipam: &IpamView) -> anyhow::Result<Routes> {
    let mut all = Routes::new();
    for node in stage.fabric.speakers.keys() {
        let mut of_node = BTreeSet::new();
        for family in [Family::V4, Family::V6] {
            let routes = routes::read(stage.lab, node, family)?.into_iter();
            of_node.extend(
                routes
                    .filter(|route| ipam.in_pool(&route.destination))
                    .map(|route| route.text),
            );
        }
        all.insert(node.clone(), of_node);
    }
    Ok(all)
}
