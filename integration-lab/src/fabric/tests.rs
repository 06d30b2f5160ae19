use std::path::{Path, PathBuf};

use super::{Fabric, Family, Probe, Verdict, expected};
use crate::topology::Topology;

fn containerlab() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../containerlab")
}

fn shipped(topology: &str) -> Fabric {
    let topology = Topology::load(&containerlab().join(topology), None).unwrap();
    Fabric::load(&topology).unwrap().unwrap()
}

fn two_rack() -> Fabric {
    shipped("two-rack.clab.yml")
}

#[test]
fn a_fabric_like_another_differs_in_its_resources() {
    let (base, like) = (two_rack(), shipped("as-per-host.clab.yml"));
    assert_eq!(
        (&like.sessions, &like.workloads),
        (&base.sessions, &base.workloads)
    );
    assert!(
        like.resources
            .iter()
            .any(|r| r.ends_with("as-per-host/resources"))
    );
    assert!(
        like.resources
            .iter()
            .any(|r| r.ends_with("two-rack/resources/policy"))
    );
}

fn verdict(fabric: &Fabric, from: &str, to: &str, probe: Probe) -> String {
    let (from, to) = (fabric.workload(from).unwrap(), fabric.workload(to).unwrap());
    match expected(&fabric.expectations, from, to, probe).unwrap() {
        Verdict::Allow => "allow".to_string(),
        Verdict::Deny(denial) => denial.describe(Family::V6),
    }
}

#[test]
fn the_shipped_fabric_has_the_breadth_that_it_is_for() {
    let fabric = two_rack();
    let (mut probes, mut denials, mut on_one_host) = (0, 0, 0);
    for from in &fabric.workloads {
        for to in fabric.workloads.iter().filter(|to| to.name != from.name) {
            for probe in Probe::ALL {
                let verdict = expected(&fabric.expectations, from, to, probe).unwrap();
                probes += 2;
                denials += if matches!(verdict, Verdict::Deny(_)) { 2 } else { 0 };
                on_one_host += if from.host == to.host { 2 } else { 0 };
            }
        }
    }
    assert!(probes >= 300, "{probes}");
    assert!(denials >= 60, "{denials}");
    assert!(on_one_host >= 30, "{on_one_host}");
    assert_eq!(fabric.sessions.len(), 14);
    assert_eq!(fabric.agents().count(), 4);
}

#[test]
fn the_first_entry_that_matches_decides() {
    let fabric = two_rack();
    let verdict = |from, to, probe| verdict(&fabric, from, to, probe);
    assert_eq!(verdict("client1", "web1", Probe::Tcp80), "allow");
    assert_eq!(
        verdict("client1", "web1", Probe::Tcp81),
        "ingress: application, end of tier"
    );
    assert_eq!(
        verdict("web2", "db1", Probe::Icmp),
        "egress: security, GlobalNetworkPolicy teams rule 0"
    );
    assert_eq!(
        verdict("web1", "db1", Probe::Icmp),
        "ingress: security, GlobalNetworkPolicy db-icmp rule 2"
    );
    assert_eq!(
        verdict("client1", "db1", Probe::Tcp80),
        "ingress: application, NetworkPolicy default/db rule 1"
    );
    assert_eq!(verdict("monitor1", "db1", Probe::Icmp), "allow");
    assert_eq!(
        verdict("client1", "client2", Probe::Icmp),
        "ingress: application, end of tier"
    );
}

/// Copies the shipped files, changes one, and returns the complaint.
fn refused(file: &str, from: &str, to: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(containerlab())
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(copied.success());
    let path = dir.path().join("containerlab").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    let topology = Topology::load(&dir.path().join("containerlab/two-rack.clab.yml"), None).unwrap();
    Fabric::load(&topology).expect_err(to).to_string()
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_field() {
    let (lab, workloads) = ("two-rack/lab.yml", "two-rack/workloads.yml");
    for (file, from, to, reason) in [
        (
            lab,
            "node: store",
            "node: stor",
            "store.node: the topology has no node \"stor\"",
        ),
        (lab, "kind: frr", "kind: quagga", "unknown variant"),
        (lab, "hold-time-s: 9", "hold-time: 9", "hold-time"),
        (
            lab,
            "spine 10.0.1.0,",
            "spine 10.0.1,",
            "sessions[0]: \"spine 10.0.1\" is not \"NODE ADDRESS\"",
        ),
        (
            lab,
            "spine 10.0.1.0,",
            "spin 10.0.1.0,",
            "sessions[0]: \"spin\" is not among the speakers",
        ),
        (
            lab,
            "tor: tor1,",
            "tor: tor9,",
            "racks.r1: the topology has no node \"tor9\"",
        ),
        (
            lab,
            "10.65.200.0/26",
            "10.65.200.1/26",
            "pending-affinities: \"10.65.200.1/26\" is no block",
        ),
        (lab, "resources/policy", "resources/polic", "resources: "),
        (
            workloads,
            "name: web2",
            "name: web1",
            "workloads.web1: there are two of this name",
        ),
        (
            workloads,
            "host: host1",
            "host: tor1",
            "workloads.web1: \"tor1\" is no node that runs the agent",
        ),
        (
            workloads,
            "allow: true",
            "allow: false",
            "either `allow: true` or",
        ),
        (
            workloads,
            ", rule: 0}",
            "}",
            "expect[0].deny: either kind, policy and rule",
        ),
        (
            workloads,
            "  - to: {role: monitor}\n",
            "  - to: {role: nobody}\n",
            "no entry says what becomes of",
        ),
    ] {
        let message = refused(file, from, to);
        assert!(
            message.contains(file) && message.contains(reason),
            "{to:?} gave: {message}"
        );
    }
}
