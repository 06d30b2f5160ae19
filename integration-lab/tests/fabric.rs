//! The shipped topologies end to end: two racks, four agents, real routers, workloads by the CNI plugin; every
//! session, route, address and verdict. Needs the other binaries beside `lab`: `cargo build --workspace --bins`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails where it cannot go on"
)]

mod common;

use std::path::{Path, PathBuf};

use common::TestLab;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../containerlab")
        .join(name)
}

/// Runs `lab verify`, fails with its differences, and returns its JSON.
fn verified(lab: &TestLab, arguments: &[&str]) -> serde_json::Value {
    let mut line = vec!["verify", "--lab", &lab.name, "-o", "json"];
    line.extend(arguments);
    let output = lab.run(&line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let differences: Vec<_> = report["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["ok"] == false)
        .collect();
    assert!(
        output.status.success() && differences.is_empty(),
        "{said}\n{differences:#?}"
    );
    report
}

fn count(report: &serde_json::Value, area: &str) -> usize {
    report["list"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["area"] == area)
        .count()
}

#[test]
fn two_racks_hold_before_and_after_changes() {
    let lab = TestLab::new("two-rack");
    let printed = lab.up(&shipped("two-rack.clab.yml"));
    assert!(printed.contains("14 sessions established"), "{printed}");

    let report = verified(&lab, &[]);
    assert!(report["checks"].as_u64().unwrap() >= 300);
    assert!(count(&report, "deciders") >= 60);
    assert_eq!(count(&report, "sessions"), 28);
    let sections = report["sections"].as_object().unwrap();
    let shown = |title: &str| {
        sections
            .iter()
            .find(|(t, _)| t.starts_with(title))
            .unwrap()
            .1
            .as_str()
            .unwrap()
    };
    assert!(shown("Kernel routes of tor1").contains("proto bird"));
    assert!(shown("Kernel routes of host2").contains("blackhole 10.65."));
    assert!(
        !shown("Kernel routes of host2").contains("0.0.0.0/0"),
        "host2 has no default route"
    );
    assert!(shown("calicoctl ipam show").contains("10.66.0.0/28"));

    // Each scenario measures its own and is followed by the whole of verify.
    let changed = verified(&lab, &["--scenario", "policy-change"]);
    assert_eq!(count(&changed, "policy-change"), 4);
    let readded = verified(&lab, &["--scenario", "workload-readd"]);
    assert_eq!(count(&readded, "workload-readd"), 3);

    lab.ok(&["down", "--lab", &lab.name]);
    assert_eq!(lab.holders(), Vec::<i32>::new());
    assert!(!lab.state_dir().exists());
}

#[test]
fn an_as_per_host_holds() {
    let lab = TestLab::new("as-per-host");
    lab.up(&shipped("as-per-host.clab.yml"));
    let report = verified(&lab, &[]);
    assert!(report["checks"].as_u64().unwrap() >= 300);
    let rib = lab.exec("collector", &["gobgp", "global", "rib"]);
    assert!(
        rib.contains("65000 65001 65011") && rib.contains("65000 65002 65024"),
        "{rib}"
    );
}

/// With BFD on every session: routes are what they were after both uplinks of a host have flapped, while its agent was
/// up and while it was dead; and a change of one peer touches no other session.
#[test]
fn two_uplinks_with_bfd_survive_flaps_and_a_change() {
    let lab = TestLab::new("dual-tor");
    lab.up(&shipped("dual-tor.clab.yml"));
    let report = verified(&lab, &[]);
    assert_eq!((count(&report, "sessions"), count(&report, "bfd")), (16, 8));
    let routes = report["sections"]["Kernel routes of host1"].as_str().unwrap();
    assert!(
        routes.contains("nexthop via 10.1.1.0 dev eth1 nexthop via 10.2.1.0 dev eth2"),
        "{routes}"
    );
    let flapped = verified(&lab, &["--scenario", "uplink-flap"]);
    assert_eq!(count(&flapped, "uplink-flap"), 6);
    let dead = verified(&lab, &["--scenario", "uplink-flap-agent-dead"]);
    assert_eq!(count(&dead, "uplink-flap-agent-dead"), 6);
    let changed = verified(&lab, &["--scenario", "peer-change"]);
    assert!(count(&changed, "peer-change") >= 30);
}

#[test]
fn a_difference_is_found_and_fails() {
    let lab = TestLab::new("difference");
    lab.up(&shipped("two-rack.clab.yml"));
    // Somebody opens what must be closed, and cuts a session.
    lab.exec("store", &["calicoctl", "delete", "globalnetworkpolicy", "web"]);
    lab.exec("spine", &["birdc", "disable", "collector_v4"]);
    let output = lab.run(&["verify", "--lab", &lab.name, "--settle", "3"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("DIFFERENCE sessions: spine (BIRD) with collector 10.0.3.1"),
        "{text}"
    );
    assert!(text.contains(
        "DIFFERENCE verdicts: client1 to web1, tcp 81 v4\n    expected: deny\n    seen:     allow"
    ));
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("verify: ") && !last.ends_with(" 0 differences"),
        "{last}"
    );
}
