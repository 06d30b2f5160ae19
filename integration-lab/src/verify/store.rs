//! The store: Calico's keys, the borrowed address, the affinity that was left pending.

use super::Report;
use crate::fabric::Fabric;
use crate::observe::ipam::IpamView;
use crate::provision::etcdctl;
use crate::running::RunningLab;
use crate::workloads;

/// One key of each kind that another component of Calico would look for.
const KEYS: [&str; 10] = [
    "/calico/ipam/v2/assignment/ipv4/block/",
    "/calico/ipam/v2/assignment/ipv6/block/",
    "/calico/ipam/v2/handle/",
    "/calico/ipam/v2/host/",
    "/calico/resources/v3/projectcalico.org/bgppeers/",
    "/calico/resources/v3/projectcalico.org/clusterinformations/default",
    "/calico/resources/v3/projectcalico.org/globalnetworkpolicies/",
    "/calico/resources/v3/projectcalico.org/ippools/",
    "/calico/resources/v3/projectcalico.org/tiers/default",
    "/calico/resources/v3/projectcalico.org/workloadendpoints/default/",
];

pub(super) fn check(
    lab: &RunningLab,
    fabric: &Fabric,
    ipam: &IpamView,
    report: &mut Report,
) -> anyhow::Result<()> {
    let keys = etcdctl(lab, fabric, &["get", "--prefix", "/calico", "--keys-only"])?;
    for prefix in KEYS {
        let there = keys.lines().any(|k| k.starts_with(prefix));
        report.compare(
            "store",
            format!("keys {prefix}"),
            "there",
            if there { "there" } else { "missing" },
        );
    }
    for pending in &fabric.pending_affinities {
        let of = |a: &&crate::observe::ipam::Affinity| a.host == pending.host && a.block == pending.block;
        let state = ipam
            .affinities
            .iter()
            .find(of)
            .map_or("missing", |a| a.state.as_str());
        report.compare(
            "store",
            format!("affinity of {} for {}", pending.host, pending.block),
            "pending",
            state,
        );
    }
    for record in workloads::records(lab)? {
        let borrowed = fabric.workload(&record.name).is_some_and(|w| w.borrowed);
        let expected = if borrowed {
            "borrowed"
        } else {
            "from a block of its host"
        };
        for address in &record.addresses {
            let seen = match ipam.allocations.iter().find(|a| a.address == *address) {
                None => "not allocated",
                Some(a) if a.node.as_ref() != Some(&record.host) => "allocated to another host",
                Some(a) if a.block_host == a.node => "from a block of its host",
                Some(_) => "borrowed",
            };
            report.compare("store", format!("{} {address}", record.name), expected, seen);
        }
    }
    let shown = lab.run(
        &fabric.store_node,
        &["calicoctl", "ipam", "show", "--show-blocks"],
    );
    report.section(
        "calicoctl ipam show --show-blocks",
        shown.unwrap_or_else(|e| format!("{e:#}")),
    );
    Ok(())
}
