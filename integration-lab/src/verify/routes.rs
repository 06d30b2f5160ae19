//! Routes inside the pools on the routers against what the store says is in use.

use std::collections::BTreeSet;

use anyhow::bail;
use ipnet::IpNet;

use super::Report;
use crate::fabric::{Fabric, Family};
use crate::observe::ipam::IpamView;
use crate::observe::routes;
use crate::running::RunningLab;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

pub(super) fn check(lab: &RunningLab, fabric: &Fabric, ipam: &IpamView, report: &mut Report) {
    for node in &fabric.route_checks {
        for family in FAMILIES {
            let expected = list(&ipam.announced(family));
            let seen = match in_pools(lab, node, family, ipam) {
                Ok(routes) => list(&routes),
                Err(e) => format!("{e:#}"),
            };
            let subject =
                format!("{node} {family}: routes in pools are the blocks and stray addresses in use");
            report.compare("routes", subject, &expected, &seen);
        }
    }
}

/// Fails while a router's routes differ from what the store says.
pub(super) fn settled(lab: &RunningLab, fabric: &Fabric) -> anyhow::Result<()> {
    let ipam = IpamView::read(lab, fabric)?;
    for node in &fabric.route_checks {
        for family in FAMILIES {
            if in_pools(lab, node, family, &ipam)? != ipam.announced(family) {
                bail!("{node} {family}: routes differ");
            }
        }
    }
    Ok(())
}

pub(super) fn print(lab: &RunningLab, fabric: &Fabric, report: &mut Report) {
    for node in &fabric.route_prints {
        let mut text = String::new();
        for family in FAMILIES {
            match routes::read(lab, node, family) {
                Ok(routes) => text.extend(routes.iter().map(|r| format!("{}\n", r.text))),
                Err(e) => text.push_str(&format!("{e:#}\n")),
            }
        }
        report.section(format!("Kernel routes of {node}"), text);
    }
}

fn in_pools(
    lab: &RunningLab,
    node: &str,
    family: Family,
    ipam: &IpamView,
) -> anyhow::Result<BTreeSet<IpNet>> {
    let routes = routes::read(lab, node, family)?;
    Ok(routes
        .into_iter()
        .map(|r| r.destination)
        .filter(|d| ipam.in_pool(d))
        .collect())
}

fn list(nets: &BTreeSet<IpNet>) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
