//! Enhanced route refresh (RFC 7313) with routers that have it, plain refresh with those that do not.

use std::time::Duration;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, ExaBgp, Frr, Router};

const TIME: Duration = Duration::from_secs(15);
const THEIRS: &str = "198.51.100.0/24";
const OURS: &str = "192.0.2.0/24";

fn start(netns: &Netns, directory: &std::path::Path) -> Bgpd {
    start_with(netns, directory, "")
}

fn start_with(netns: &Netns, directory: &std::path::Path, more: &str) -> Bgpd {
    let config = format!(
        "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"accept\"\nexport = \"accept\"\n{more}\n\
         [[network]]\nprefix = \"192.0.2.0/24\"\n"
    );
    Bgpd::start(netns, directory, &config, "")
}

fn exchanged(ours: &Bgpd, router: &dyn Router) {
    wait_for("the session", TIME, || ours.is_established("10.0.0.2"));
    wait_for("its route", TIME, || ours.best(THEIRS).is_some());
    wait_for("our route", TIME, || router.route(OURS).is_some());
    let peer = ours.peer("10.0.0.2").unwrap();
    let capabilities = peer.session.unwrap_or_default().capabilities;
    let offered = capabilities.iter().any(|name| name == "enhanced-route-refresh");
    assert!(offered, "{capabilities:?}");
}

/// How often our log has this.
fn logged(directory: &std::path::Path, text: &str) -> usize {
    let log = std::fs::read_to_string(directory.join("bgpd.log")).unwrap();
    log.matches(text).count()
}

fn kept(ours: &Bgpd, router: &dyn Router) {
    assert!(ours.best(THEIRS).is_some() && router.route(OURS).is_some());
    assert_eq!(ours.peer("10.0.0.2").unwrap().flaps, 0);
}

#[test]
fn bird_tells_beginning_and_end_and_understands_ours() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let bird = "router id 10.0.0.2;\nprotocol device {}\n\
         protocol static { ipv4; route 198.51.100.0/24 blackhole; }\n\
         protocol bgp one { local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;\n\
           ipv4 { import all; export where source = RTS_STATIC; next hop self; }; }\n";
    let router = Bird::start(&b, directory.path(), bird);
    let ours = start(&a, directory.path());
    exchanged(&ours, &router);
    router.ask_writing("reload out one");
    wait_for("BIRD's refresh", TIME, || {
        logged(directory.path(), "a refresh ends") == 1
    });
    assert_eq!(logged(directory.path(), "a refresh begins"), 1);
    // It asks for ours, and drops what it has not got by our EoRR.
    router.ask_writing("reload in one");
    wait_for("our route, again", TIME, || router.route(OURS).is_some());
    kept(&ours, &router);
}

#[test]
fn frr_tells_beginning_and_end_and_understands_ours() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let config = "router bgp 65002\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor 10.0.0.1 remote-as 65001\n address-family ipv4 unicast\n  \
         network 198.51.100.0/24\n exit-address-family\n";
    let router = Frr::start(&b, directory.path(), config);
    let ours = start(&a, directory.path());
    exchanged(&ours, &router);
    router.ask("clear bgp ipv4 10.0.0.1 soft in");
    wait_for("our route, again", TIME, || router.route(OURS).is_some());
    let api = directory.path().join("api.sock");
    let reset = std::process::Command::new(env!("CARGO_BIN_EXE_bgpd"))
        .arg("--api")
        .arg(&api)
        .args(["reset", "10.0.0.2", "--soft", "in"])
        .status()
        .unwrap();
    assert!(reset.success());
    wait_for("FRR's refresh", TIME, || {
        logged(directory.path(), "a refresh ends") == 1
    });
    kept(&ours, &router);
}

/// ExaBGP 4.2 fails at a request where RFC 7313 is agreed on, and always offers it: we need not.
#[test]
pub(crate) fn exabgp_answers_plain_requests() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "neighbor 10.0.0.1 {{\n router-id 10.0.0.2;\n local-address 10.0.0.2;\n local-as 65002;\n \
         peer-as 65001;\n hold-time 30;\n passive false;\n capability {{ route-refresh enable; }}\n \
         family {{ ipv4 unicast; }}\n {}\n announce {{ ipv4 {{ unicast {THEIRS} next-hop 10.0.0.2; }} }}\n}}\n",
        ExaBgp::API
    );
    let router = ExaBgp::start(&b, directory.path(), &config);
    let ours = start_with(&a, directory.path(), "route-refresh = \"plain\"");
    wait_for("the session", TIME, || ours.is_established("10.0.0.2"));
    wait_for("its route", TIME, || ours.best(THEIRS).is_some());
    let peer = ours.peer("10.0.0.2").unwrap();
    let capabilities = peer.session.unwrap_or_default().capabilities;
    assert!(capabilities.iter().any(|name| name == "route-refresh"));
    assert!(!capabilities.iter().any(|name| name == "enhanced-route-refresh"));
    let updates = || {
        ours.peer("10.0.0.2")
            .unwrap()
            .messages_received
            .unwrap_or_default()
            .update
    };
    let before = updates();
    ours.soft_reset("10.0.0.2");
    wait_for("its route, again", TIME, || updates() > before);
    kept(&ours, &router);
}
