//! The routers of the two-rack topology come up, hold their sessions, and go without a trace.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod common;

use common::{TestLab, eventually, topology};

/// Network interfaces of the machine's root namespace.
fn root_interfaces() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn lines_with<'a>(text: &'a str, needle: &str) -> Vec<&'a str> {
    text.lines().filter(|l| l.contains(needle)).collect()
}

#[test]
fn bird_frr_and_gobgp_establish_a_session_a_family_and_down_leaves_nothing() {
    let before = root_interfaces();
    let lab = TestLab::new("routers");
    let printed = lab.up(&topology("routers.clab.yml"));
    assert!(printed.contains("links: 3"), "{printed}");

    eventually(30, || {
        let spine = lab.exec("spine", &["birdc", "show", "protocols"]);
        let established = lines_with(&spine, "Established").len();
        (established != 6).then(|| format!("{established} of 6 sessions at the spine:\n{spine}"))
    });
    let tor1 = lab.exec("tor1", &["birdc", "show", "protocols"]);
    assert_eq!(lines_with(&tor1, "Established").len(), 2, "{tor1}");
    let tor2 = lab.exec("tor2", &["vtysh", "-c", "show bgp summary json"]);
    assert_eq!(tor2.matches("\"state\":\"Established\"").count(), 2, "{tor2}");
    let collector = lab.exec("collector", &["gobgp", "neighbor"]);
    assert_eq!(lines_with(&collector, "Establ").len(), 2, "{collector}");

    let status = lab.ok(&["status", "--lab", &lab.name]);
    assert!(status.contains("4 of 4 nodes up"), "{status}");
    assert!(status.contains("bgpd zebra"), "{status}");
    let logs = lab.ok(&["logs", "--lab", &lab.name, "tor2"]);
    assert!(logs.contains("tor2:/var/log/frr/bgpd.log"), "{logs}");

    // What a node sees is its own: first process, host name, links, users, bpf file system, private places.
    assert_eq!(lab.exec("tor1", &["cat", "/proc/1/comm"]).trim(), "lab");
    assert_eq!(lab.exec("tor1", &["hostname"]).trim(), "tor1");
    assert_eq!(
        lab.exec("tor1", &["ls", "/sys/class/net"])
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["eth0", "eth1", "lo"]
    );
    assert!(lab.exec("tor2", &["id", "frr"]).contains("frr"));
    assert_eq!(
        lab.exec("tor1", &["stat", "-f", "-c", "%T", "/sys/fs/bpf"])
            .trim(),
        "bpf_fs"
    );
    lab.exec(
        "tor1",
        &["touch", "/run/x", "/etc/lab-test-x", "/var/lib/x", "/tmp/x"],
    );
    assert!(!std::path::Path::new("/etc/lab-test-x").exists());
    assert!(
        lab.exec("tor2", &["ls", "/run", "/etc", "/var/lib", "/tmp"])
            .lines()
            .all(|l| !l.ends_with('x') || l.ends_with("linux") || l.ends_with("selinux"))
    );
    // The store will be reached by this network: every node reaches every other.
    lab.exec("tor1", &["ping", "-c1", "-W2", "collector"]);
    let refused = lab.run(&["exec", "--lab", &lab.name, "tor1", "--", "sh", "-c", "exit 7"]);
    assert_eq!(refused.status.code(), Some(7));
    let unknown = lab.run(&["exec", "--lab", &lab.name, "nobody", "--", "true"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("collector, mgmt-switch, spine"));

    // A router that is lost with its interfaces comes back, its neighbours' ends of the links too.
    lab.ok(&["restart", "--lab", &lab.name, "tor1"]);
    eventually(30, || {
        let spine = lab.exec("spine", &["birdc", "show", "protocols"]);
        let established = lines_with(&spine, "Established").len();
        (established != 6).then(|| format!("after the restart of tor1 {established} of 6 sessions:\n{spine}"))
    });

    assert_eq!(lab.holders().len(), 5, "four nodes and the switch");
    lab.ok(&["down", "--lab", &lab.name]);
    assert_eq!(lab.holders(), Vec::<i32>::new());
    assert!(!lab.state_dir().exists());
    assert_eq!(root_interfaces(), before);
}

#[test]
fn labs_live_side_by_side_and_down_works_after_a_crash() {
    let lab = TestLab::new("side");
    let file = topology("pair.clab.yml");
    lab.up(&file);
    let other = format!("{}-b", lab.name);
    lab.ok(&["up", file.to_str().unwrap(), "--name", &other]);
    let again = lab.run(&["up", file.to_str().unwrap(), "--name", &other]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already there"));
    // The same addresses in both, and each is its own.
    lab.exec("a", &["ping", "-c1", "-W2", "10.0.0.1"]);
    let ambiguous = lab.run(&["exec", "a", "--", "true"]);
    assert!(
        String::from_utf8_lossy(&ambiguous.stderr).contains("--lab"),
        "{ambiguous:?}"
    );

    // A node's holder dies: its neighbours live, status says so, down works.
    let record = lab.state_dir().join(&lab.name).join("nodes/b/holder.json");
    let holder: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let pid = holder["pid"].as_i64().unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    eventually(5, || {
        let status = lab.ok(&["status", "--lab", &lab.name]);
        (!status.contains("1 of 2 nodes up")).then_some(status)
    });
    let into_dead = lab.run(&["exec", "--lab", &lab.name, "b", "--", "true"]);
    assert!(String::from_utf8_lossy(&into_dead.stderr).contains("node b is down"));
    lab.ok(&["down", "--lab", &lab.name]);
    assert!(lab.ok(&["status", "--lab", &other]).contains("2 of 2 nodes up"));
    lab.ok(&["down", "--lab", &other]);
    assert_eq!(lab.holders(), Vec::<i32>::new());
}

#[test]
fn a_killed_or_failed_up_leaves_nothing_after_down() {
    let lab = TestLab::new("crash");
    let file = topology("pair.clab.yml");
    // Killed at several moments between its first step and its last.
    for delay_ms in [2, 15, 40, 80, 150] {
        let mut up = lab.command();
        up.args(["up", file.to_str().unwrap(), "--name", &lab.name]);
        let mut up = up.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        let _ = up.kill();
        up.wait().unwrap();
        if lab.state_dir().join(&lab.name).exists() {
            lab.ok(&["down", "--lab", &lab.name]);
        }
        eventually(5, || {
            let left = lab.holders();
            (!left.is_empty()).then(|| format!("killed after {delay_ms} ms, left: {left:?}"))
        });
    }

    // A line of the topology that fails is named, and what was made is gone.
    let broken = lab.state_dir().with_file_name("broken.clab.yml");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("10.0.0.1/31", "10.0.0.300/31");
    std::fs::write(&broken, text).unwrap();
    let failed = lab.run(&["up", broken.to_str().unwrap(), "--name", &lab.name]);
    let message = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success());
    assert!(
        message.contains("node b: `ip addr add 10.0.0.300/31 dev eth1` failed"),
        "{message}"
    );
    assert_eq!(lab.holders(), Vec::<i32>::new());
    assert!(!lab.state_dir().exists());
}
