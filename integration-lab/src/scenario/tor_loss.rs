//! A rack loses its router: the other racks must lose its routes within the hold time, and get them back.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ipnet::IpNet;

use super::Stage;
use crate::deploy::{self, Progress};
use crate::fabric::{Family, Rack};
use crate::observe::ipam::IpamView;
use crate::observe::routes;
use crate::provision::{all_established, eventually};
use crate::verify::Report;

/// How the router is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its processes are killed; the kernel closes their connections.
    Process,
    /// It neither receives nor sends a frame, and its links stay up: only timers tell.
    Silent,
    /// Its namespaces and interfaces are gone.
    Namespace,
}

const POLL: Duration = Duration::from_millis(100);
/// Reading a router's table takes its time; loss is seen this much late at most.
const OBSERVATION_SLACK: Duration = Duration::from_secs(1);
/// When routes did not go, they are not waited for longer than this beyond the hold time.
const GIVE_UP: Duration = Duration::from_secs(20);
const BACK_MAX: Duration = Duration::from_secs(90);
/// nftables table that makes a node silent.
const TABLE: &str = "lab_silent";

pub(super) fn run(stage: &Stage, loss: Loss, report: &mut Report, progress: Progress) -> anyhow::Result<()> {
    let name = stage
        .acted_on
        .tor_loss
        .as_ref()
        .context("lab.yml has no tor-loss")?;
    let rack = stage
        .fabric
        .racks
        .get(name)
        .context("the rack is gone from lab.yml")?;
    let others: Vec<&Rack> = stage
        .fabric
        .racks
        .iter()
        .filter(|(n, _)| *n != name)
        .map(|(_, r)| r)
        .collect();
    let ipam = IpamView::read(stage.lab, stage.fabric)?;
    let lost = routes_of(&ipam, rack);
    let watched: Vec<&str> = others
        .iter()
        .flat_map(|r| std::iter::once(&r.tor).chain(&r.hosts))
        .map(String::as_str)
        .collect();
    if lost.is_empty() || watched.is_empty() {
        bail!("rack {name} has no routes that another rack could lose");
    }
    for node in &watched {
        let there = lost.intersection(&routes_at(stage, node)?).count();
        let subject = format!("{node}: routes of the rack before the loss");
        report.compare("tor-loss", subject, &lost.len().to_string(), &there.to_string());
    }

    let began = Instant::now();
    cause(stage, loss, &rack.tor)?;
    progress(&format!("{} lost ({loss:?})", rack.tor));
    let hold = Duration::from_secs(stage.fabric.hold_time_s);
    let mut left: BTreeSet<&str> = watched.iter().copied().collect();
    while !left.is_empty() && began.elapsed() < hold + GIVE_UP {
        for node in left.clone() {
            if lost.is_disjoint(&routes_at(stage, node)?) {
                let took = began.elapsed();
                progress(&format!(
                    "{node} lost the rack's routes after {:.1} s",
                    took.as_secs_f64()
                ));
                let (subject, expected) = (
                    format!("{node}: routes of the rack go"),
                    format!("within {hold:?}"),
                );
                let seen = format!("after {:.1} s", took.as_secs_f64());
                report.add(
                    "tor-loss",
                    subject,
                    &expected,
                    &seen,
                    took <= hold + OBSERVATION_SLACK,
                );
                left.remove(node);
            }
        }
        sleep(POLL);
    }
    for node in left {
        let there: Vec<String> = lost
            .intersection(&routes_at(stage, node)?)
            .map(ToString::to_string)
            .collect();
        let (subject, expected) = (
            format!("{node}: routes of the rack go"),
            format!("within {hold:?}"),
        );
        report.add(
            "tor-loss",
            subject,
            &expected,
            &format!("still there: {}", there.join(" ")),
            false,
        );
    }

    let began = Instant::now();
    undo(stage, loss, &rack.tor)?;
    let back = eventually(BACK_MAX, || {
        all_established(stage.lab, stage.fabric)?;
        for node in &watched {
            let missing = lost.difference(&routes_at(stage, node)?).count();
            if missing > 0 {
                bail!("{node} lacks {missing} routes of the rack");
            }
        }
        Ok(())
    });
    let seen = match &back {
        Ok(()) => format!("after {:.1} s", began.elapsed().as_secs_f64()),
        Err(e) => format!("{e:#}"),
    };
    progress(&format!("{} is back: sessions and routes {seen}", rack.tor));
    report.add(
        "tor-loss",
        "sessions and routes come back",
        &format!("within {BACK_MAX:?}"),
        &seen,
        back.is_ok(),
    );
    Ok(())
}

/// Blocks of the rack's hosts, and addresses that they use outside them.
fn routes_of(ipam: &IpamView, rack: &Rack) -> BTreeSet<IpNet> {
    let blocks = ipam
        .affinities
        .iter()
        .filter(|a| a.state == "confirmed" && rack.hosts.contains(&a.host))
        .map(|a| a.block);
    let strays = ipam
        .allocations
        .iter()
        .filter(|a| a.node != a.block_host && a.node.as_ref().is_some_and(|n| rack.hosts.contains(n)))
        .map(|a| IpNet::from(a.address));
    blocks.chain(strays).collect()
}

fn routes_at(stage: &Stage, node: &str) -> anyhow::Result<BTreeSet<IpNet>> {
    let mut all = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        all.extend(
            routes::read(stage.lab, node, family)?
                .into_iter()
                .map(|r| r.destination),
        );
    }
    Ok(all)
}

fn cause(stage: &Stage, loss: Loss, tor: &str) -> anyhow::Result<()> {
    match loss {
        Loss::Process => stage.kill_speaker(tor),
        Loss::Silent => {
            let rules = silence(&interfaces(stage, tor));
            let limit = Duration::from_secs(10);
            stage
                .lab
                .run_with_input(tor, None, &["nft", "-f", "-"], rules.as_bytes(), limit)
                .map(|_| ())
        }
        Loss::Namespace => deploy::end_node(stage.lab, tor),
    }
}

fn undo(stage: &Stage, loss: Loss, tor: &str) -> anyhow::Result<()> {
    match loss {
        Loss::Process => stage.start_speaker(tor),
        Loss::Silent => stage
            .lab
            .run(tor, &["nft", "delete", "table", "netdev", TABLE])
            .map(|_| ()),
        Loss::Namespace => deploy::restart_node(stage.lab, tor),
    }
}

/// The links of a node, without its management interface.
fn interfaces(stage: &Stage, node: &str) -> Vec<String> {
    let ends = stage.lab.topology.links.iter().flat_map(|l| &l.ends);
    ends.filter(|e| e.node == node)
        .map(|e| e.interface.clone())
        .collect()
}

/// Drops every frame in both directions, ARP and neighbour discovery with the rest.
fn silence(interfaces: &[String]) -> String {
    let devices = interfaces
        .iter()
        .map(|i| format!("\"{i}\""))
        .collect::<Vec<_>>()
        .join(", ");
    let mut rules = format!("table netdev {TABLE} {{\n");
    for hook in ["ingress", "egress"] {
        rules.push_str(&format!(
            "chain {hook} {{ type filter hook {hook} devices = {{ {devices} }} priority -500; policy drop; }}\n"
        ));
    }
    rules + "}\n"
}
