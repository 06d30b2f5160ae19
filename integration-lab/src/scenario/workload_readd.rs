//! A workload is deleted, leaves nothing in the store or on its host, and is made again.

use anyhow::{Context, bail};

use super::Stage;
use crate::deploy::Progress;
use crate::fabric::Family;
use crate::observe::ipam::IpamView;
use crate::observe::routes;
use crate::provision::etcdctl;
use crate::verify::Report;
use crate::workloads;

const ENDPOINTS: &str = "/calico/resources/v3/projectcalico.org/workloadendpoints/";

pub(super) fn run(stage: &Stage, report: &mut Report, progress: Progress) -> anyhow::Result<()> {
    let (lab, fabric) = (stage.lab, stage.fabric);
    let name = stage.workload_readd()?;
    let workload = fabric
        .workload(name)
        .context("the workload is gone from the fabric")?;
    let mut records = workloads::records(lab)?;
    let Some(at) = records.iter().position(|r| r.name == *name) else {
        bail!("{name} is not there")
    };
    let old = records.remove(at);

    workloads::remove(lab, fabric, &old)?;
    workloads::record(lab, &records)?;
    progress(&format!("{name} deleted"));
    let mut none_left = |what: &str, seen: Vec<String>| {
        let seen = if seen.is_empty() {
            "none".to_string()
        } else {
            seen.join(" ")
        };
        report.compare("workload-readd", format!("{name} deleted: {what}"), "none", &seen);
    };
    let ipam = IpamView::read(lab, fabric)?;
    let allocated = ipam
        .allocations
        .iter()
        .filter(|a| old.addresses.contains(&a.address));
    none_left(
        "its addresses still allocated",
        allocated.map(|a| a.address.to_string()).collect(),
    );
    let keys = etcdctl(lab, fabric, &["get", "--prefix", ENDPOINTS, "--keys-only"])?;
    let endpoints = keys.lines().filter(|k| k.contains(&old.container_id));
    none_left(
        "its endpoints in the store",
        endpoints.map(str::to_string).collect(),
    );
    let mut left = Vec::new();
    for family in [Family::V4, Family::V6] {
        let routes = routes::read(lab, &old.host, family)?;
        left.extend(
            routes
                .into_iter()
                .filter(|r| r.text.contains(&old.host_interface))
                .map(|r| r.text),
        );
    }
    none_left("routes by its interface on the host", left);

    let new = workloads::add(lab, fabric, workload)?;
    progress(&format!("{name} made again: {:?}", new.addresses));
    records.insert(at, new);
    workloads::record(lab, &records)
}
