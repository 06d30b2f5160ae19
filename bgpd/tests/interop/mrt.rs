//! MRT files that BIRD and FRR write, taken in as sources.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Frr, Router};

const SESSION_TIME: Duration = Duration::from_secs(15);
const FILE_TIME: Duration = Duration::from_secs(20);

/// The speaker whose routes the others write down.
fn feed(netns: &Netns, directory: &Path) -> Bgpd {
    let config = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nhold-time = 9\nimport = \"accept\"\nexport = \"accept\"\n\
         [[neighbor]]\naddress = \"fd00::2\"\nas = 65002\nhold-time = 9\nimport = \"accept\"\nexport = \"accept\"\n\
         [[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"2001:db8:1::/48\"\n";
    Bgpd::start(netns, directory, config, "")
}

/// A speaker that takes in the files has the routes of the first, as its peers' neighbour sees them.
fn takes_in(netns: &Netns, files: &[PathBuf], wanted: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = "[global]\nas = 65003\nrouter-id = \"10.0.0.3\"\nfib = false\n".to_owned();
    for file in files {
        config += &format!("[[source]]\nmrt = {file:?}\n");
    }
    let reader = Bgpd::start(netns, directory.path(), &config, "");
    for prefix in wanted {
        wait_for(prefix, SESSION_TIME, || reader.best(prefix).is_some());
        let route = reader.best(prefix).unwrap();
        let from = if prefix.contains(':') {
            "fd00::1"
        } else {
            "10.0.0.1"
        };
        assert_eq!(
            (route.as_path.as_str(), route.next_hop.as_str()),
            ("65001", from),
            "{prefix}"
        );
    }
}

fn not_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

#[test]
fn bird_writes_tables_and_messages() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let name = |name: &str| directory.path().join(name);
    let bgp = |name: &str, family: &str, local: &str, remote: &str| {
        format!(
            "protocol bgp {name} {{ local {local} as 65002; neighbor {remote} as 65001; hold time 9; direct;\n\
             connect retry time 1; error wait time 1, 2; mrtdump {{ states, messages }};\n\
             {family} {{ import all; export none; }}; }}\n"
        )
    };
    let config = format!(
        "router id 10.0.0.2;\nprotocol device {{}}\nmrtdump {:?};\n{}{}\
         protocol mrt dump4 {{ table \"master4\"; filename {:?}; period 1; }}\n\
         protocol mrt dump6 {{ table \"master6\"; filename {:?}; period 1; }}\n",
        name("messages"),
        bgp("four", "ipv4", "10.0.0.2", "10.0.0.1"),
        bgp("six", "ipv6", "fd00::2", "fd00::1"),
        name("table4"),
        name("table6"),
    );
    let router = Bird::start(&b, directory.path(), &config);
    let _ours = feed(&a, directory.path());
    for prefix in ["192.0.2.0/24", "2001:db8:1::/48"] {
        wait_for(prefix, SESSION_TIME, || router.route(prefix).is_some());
    }
    // Dumps that begin from now on have the routes.
    for table in ["table4", "table6"] {
        let _ = std::fs::remove_file(name(table));
        wait_for(table, FILE_TIME, || not_empty(&name(table)));
    }
    std::thread::sleep(Duration::from_millis(500));
    takes_in(
        &a,
        &[name("table4"), name("table6")],
        &["192.0.2.0/24", "2001:db8:1::/48"],
    );
    takes_in(&a, &[name("messages")], &["192.0.2.0/24", "2001:db8:1::/48"]);
}

#[test]
fn frr_writes_tables_and_messages() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let name = |name: &str| directory.path().join(name);
    // FRR gives up its rights, so its directory must be open to it.
    let _ours = feed(&a, directory.path());
    let config = format!(
        "dump bgp routes-mrt {} 1\ndump bgp updates {}\n\
         router bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n\
         neighbor 10.0.0.1 remote-as 65001\n neighbor fd00::1 remote-as 65001\n\
         neighbor 10.0.0.1 timers 3 9\n neighbor fd00::1 timers 3 9\n\
         address-family ipv6 unicast\n  neighbor fd00::1 activate\n exit-address-family\n",
        name("table").display(),
        name("messages").display(),
    );
    let router = Frr::start(&b, directory.path(), &config);
    for prefix in ["192.0.2.0/24", "2001:db8:1::/48"] {
        wait_for(prefix, SESSION_TIME, || router.route(prefix).is_some());
    }
    // It writes the file anew each time: one that begins from now on has the routes.
    let _ = std::fs::remove_file(name("table"));
    wait_for("a table with the routes", FILE_TIME, || {
        std::fs::metadata(name("table")).is_ok_and(|metadata| metadata.len() > 100)
    });
    std::thread::sleep(Duration::from_millis(500));
    takes_in(&a, &[name("table")], &["192.0.2.0/24", "2001:db8:1::/48"]);
    takes_in(&a, &[name("messages")], &["192.0.2.0/24", "2001:db8:1::/48"]);
}
