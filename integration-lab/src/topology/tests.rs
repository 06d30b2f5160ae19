use std::path::Path;

use super::Topology;

const FILE: &str = "/etc/x.clab.yml";

fn parse(text: &str) -> Result<Topology, String> {
    Topology::parse(Path::new(FILE), text, None).map_err(|e| e.to_string())
}

const GOOD: &str = r#"
name: small
mgmt:
  network: x
  ipv4-subnet: 172.31.7.0/24
topology:
  defaults:
    kind: linux
    env: {A: "1", B: "2"}
    exec: [sysctl -w net.ipv4.ip_forward=1]
  kinds:
    linux:
      image: debian:12
      env: {B: "3"}
  nodes:
    r1:
      mgmt-ipv4: 172.31.7.2
      binds: ["passwd:/etc/example/passwd:ro"]
      cmd: sleep 'a b'
    r2:
      env: {A: "9"}
      exec: ["ip addr add 10.0.0.1/31 dev eth1"]
      labels: {role: leaf}
  links:
    - endpoints: ["r1:eth1", "r2:eth1"]
      mtu: 9000
"#;

#[test]
fn a_topology_is_merged_from_defaults_kind_and_node() {
    let t = parse(GOOD).unwrap();
    assert_eq!(t.name, "small");
    let (r1, r2) = (&t.nodes["r1"], &t.nodes["r2"]);
    assert_eq!(
        r1.env.iter().map(|(k, v)| format!("{k}{v}")).collect::<Vec<_>>(),
        ["A1", "B3"]
    );
    assert_eq!(r2.env["A"], "9");
    assert_eq!(r2.exec.len(), 2, "the default's line runs before the node's own");
    assert_eq!(r2.exec[1], ["ip", "addr", "add", "10.0.0.1/31", "dev", "eth1"]);
    assert_eq!(r1.command, ["sleep", "a b"]);
    assert!(r1.binds[0].read_only);
    assert_eq!(r1.binds[0].source, Path::new("/etc/passwd"));
    assert_eq!(r1.mgmt[0].to_string(), "172.31.7.2");
    assert_eq!(
        r2.mgmt[0].to_string(),
        "172.31.7.3",
        "given addresses are not given out again"
    );
    assert_eq!(t.links[0].mtu, Some(9000));
    assert!(t.notes.iter().any(|n| n.starts_with("image")), "{:?}", t.notes);
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_field() {
    let cases = [
        ("    r1:\n", "    r1:\n      ports: [80]\n", ":17: ", "ports"),
        (
            "r2:eth1\"]",
            "r3:eth1\"]",
            ":25: topology.links[0].endpoints",
            "no node \"r3\"",
        ),
        (
            "\"r1:eth1\", ",
            "",
            ":25: topology.links[0].endpoints",
            "two endpoints",
        ),
        (
            "r1:eth1",
            "r1:eth0",
            ":25: topology.links[0].endpoints",
            "eth0 is the management interface",
        ),
        (
            "r1:eth1",
            "r1:an-interface-name-too-long",
            ":25: ",
            "no interface name",
        ),
        ("r1:eth1", "r2:eth1", ":25: ", "used by two links"),
        (
            "mtu: 9000",
            "mtu: 12",
            ":25: topology.links[0].mtu",
            "12 is not within",
        ),
        (
            "passwd:/etc",
            "nothing-here:/etc",
            ":18: topology.nodes.r1.binds",
            "No such file",
        ),
        (
            "passwd:/etc/example/passwd:ro",
            "passwd:etc",
            ":18: topology.nodes.r1.binds",
            "must be absolute",
        ),
        (
            "passwd:ro",
            "passwd:rx",
            ":18: topology.nodes.r1.binds",
            "only options",
        ),
        (
            "sleep 'a b'",
            "sleep 'a b",
            ":19: topology.nodes.r1.cmd",
            "unbalanced quotes",
        ),
        (
            "172.31.7.2\n",
            "10.1.1.1\n",
            "topology.nodes.r1",
            "in no management network",
        ),
        (
            "172.31.7.2\n",
            "fd00::1\n",
            ":17: topology.nodes.r1.mgmt-ipv4",
            "other family",
        ),
        (
            "172.31.7.0/24",
            "172.31.7.9/24",
            ":5: mgmt.ipv4-subnet",
            "not a network",
        ),
        (
            "kind: linux\n",
            "kind: srl\n",
            ":8: topology.nodes.r1.kind",
            "the kind linux",
        ),
        ("name: small", "name: ../small", ":2: name", "is no name"),
        ("    r2:\n", "    r1:\n", ":20: ", "duplicate"),
        ("    r2:\n", "    mgmt-switch:\n", ":2", "lab's own"),
        ("  links:", "  link:", ":24: ", "link"),
    ];
    for (from, to, place, reason) in cases {
        assert!(GOOD.contains(from), "{from}");
        let message = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
        assert!(message.starts_with(FILE), "{message}");
        assert!(
            message.contains(place) && message.contains(reason),
            "{to:?} gave: {message}"
        );
    }
}

#[test]
fn no_text_panics() {
    for cut in 0..GOOD.len() {
        if GOOD.is_char_boundary(cut) {
            let _ = parse(&GOOD[..cut]);
        }
    }
}
