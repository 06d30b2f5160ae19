//! Before anything is made: is everything there that the nodes will run?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::fabric::{Fabric, SpeakerKind};
use crate::node::NodeSpec;

/// What the lab itself runs in nodes, and the Debian package that has it.
const ALWAYS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("ping", "iputils-ping"),
    ("nft", "nftables"),
    ("etcdctl", "etcd-client"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
];

/// The project's own binaries are beside `lab`.
const OWN: &str = "the project itself: `cargo build --workspace --bins`";

fn programs(kind: SpeakerKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        SpeakerKind::Bird => &[("bird", "bird2"), ("birdc", "bird2")],
        SpeakerKind::Frr => &[("vtysh", "frr")],
        SpeakerKind::Gobgp => &[("gobgpd", "gobgpd"), ("gobgp", "gobgpd")],
        SpeakerKind::Agent => &[
            ("margay-agent", OWN),
            ("margay-store", OWN),
            ("margay-cni", OWN),
            ("calicoctl", OWN),
        ],
    }
}

/// Fails with everything that is missing at once.
pub(crate) fn check(fabric: &Fabric) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding the lab's own executable")?;
    let own_dir = own.parent().unwrap_or(Path::new("/"));
    let kinds = fabric.speakers.values().flat_map(|s| programs(s.kind));
    let mut missing: Vec<String> = ALWAYS
        .iter()
        .chain(kinds)
        .filter(|(program, _)| !is_there(program, own_dir))
        .map(|(program, source)| format!("{program} (from {source})"))
        .collect();
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "not installed on this machine: {}. `make setup` installs what is missing",
        missing.join(", ")
    )
}

fn is_there(program: &str, own_dir: &Path) -> bool {
    let executable = |dir: &Path| {
        dir.join(program)
            .metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    executable(own_dir)
        || NodeSpec::PATH_REST
            .split(':')
            .any(|dir| executable(Path::new(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_search_path_of_nodes_and_beside_lab() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_there("ip", dir.path()));
        assert!(!is_there("margay-nothing", dir.path()));
        let file = dir.path().join("margay-nothing");
        std::fs::write(&file, "").unwrap();
        assert!(
            !is_there("margay-nothing", dir.path()),
            "a file that is not executable"
        );
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_there("margay-nothing", dir.path()));
    }
}
