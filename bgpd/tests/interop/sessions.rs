//! IPv4 and IPv6, within an AS and between two: routes go both ways, seen from both ends.

use std::time::Duration;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Frr, GoBgp, Router};

const SESSION_TIME: Duration = Duration::from_secs(15);
const ROUTE_TIME: Duration = Duration::from_secs(10);

fn our_config(peer_as: u32) -> String {
    let neighbor = |address: &str| {
        format!(
            "[[neighbor]]\naddress = \"{address}\"\nas = {peer_as}\nhold-time = 9\n\
             import = \"accept\"\nexport = \"accept\"\n"
        )
    };
    format!(
        "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         {}{}[[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"2001:db8:1::/48\"\n",
        neighbor("10.0.0.2"),
        neighbor("fd00::2"),
    )
}

/// Both sessions come up, and each end has the other's routes.
fn exchange(ours: &Bgpd, router: &dyn Router, peer_as: u32) {
    for (local, remote) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        wait_for("a session, seen by us", SESSION_TIME, || {
            ours.is_established(remote)
        });
        wait_for("a session, seen by the router", SESSION_TIME, || {
            router.is_established(local)
        });
    }
    let internal = peer_as == 65001;
    for (theirs, next_hop, own) in [
        ("198.51.100.0/24", "10.0.0.2", "192.0.2.0/24"),
        ("2001:db8:2::/48", "fd00::2", "2001:db8:1::/48"),
    ] {
        wait_for(theirs, ROUTE_TIME, || ours.best(theirs).is_some());
        let route = ours.best(theirs).unwrap();
        assert_eq!(route.next_hop, next_hop);
        assert_eq!(
            route.as_path,
            if internal {
                String::new()
            } else {
                peer_as.to_string()
            }
        );
        assert_eq!(
            (route.origin.as_str(), route.local_pref),
            ("igp", if internal { 100 } else { 0 })
        );
        wait_for(own, ROUTE_TIME, || router.route(own).is_some());
        let shown = router.route(own).unwrap();
        let gateway = if own.contains(':') { "fd00::1" } else { "10.0.0.1" };
        assert!(shown.contains(gateway), "next hop {gateway} in {shown}");
        assert_eq!(shown.contains("65001"), !internal, "AS_PATH in {shown}");
    }
    for remote in ["10.0.0.2", "fd00::2"] {
        let peer = ours.peer(remote).unwrap();
        // FRR sends our own route back, which is received but not used.
        assert!(
            (1..=2).contains(&peer.prefixes_received),
            "{remote}: {}",
            peer.prefixes_received
        );
        assert_eq!(peer.prefixes_advertised, 1, "{remote}");
    }
}

fn bird(peer_as: u32) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "router id 10.0.0.2;\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 198.51.100.0/24 blackhole {{ bgp_origin = ORIGIN_IGP; }}; }}\n\
         protocol static {{ ipv6; route 2001:db8:2::/48 blackhole {{ bgp_origin = ORIGIN_IGP; }}; }}\n\
         protocol bgp four {{ local 10.0.0.2 as {peer_as}; neighbor 10.0.0.1 as 65001; hold time 9;\n\
           ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n\
         protocol bgp six {{ local fd00::2 as {peer_as}; neighbor fd00::1 as 65001; hold time 9;\n\
           ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    );
    let router = Bird::start(&b, directory.path(), &config);
    let ours = Bgpd::start(&a, directory.path(), &our_config(peer_as), "");
    exchange(&ours, &router, peer_as);
}

#[test]
fn bird_ebgp() {
    bird(65002);
}

#[test]
fn bird_ibgp() {
    bird(65001);
}

fn frr(peer_as: u32) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "router bgp {peer_as}\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n\
         timers bgp 3 9\n neighbor 10.0.0.1 remote-as 65001\n neighbor fd00::1 remote-as 65001\n\
         address-family ipv4 unicast\n  network 198.51.100.0/24\n  no neighbor fd00::1 activate\n exit-address-family\n\
         address-family ipv6 unicast\n  network 2001:db8:2::/48\n  neighbor fd00::1 activate\n exit-address-family\n"
    );
    let router = Frr::start(&b, directory.path(), &config);
    let ours = Bgpd::start(&a, directory.path(), &our_config(peer_as), "");
    exchange(&ours, &router, peer_as);
}

#[test]
fn frr_ebgp() {
    frr(65002);
}

#[test]
fn frr_ibgp() {
    frr(65001);
}

fn gobgp(peer_as: u32) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let neighbor = |address: &str, family: &str| {
        format!(
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = 65001\n\
             [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\n\
             [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n"
        )
    };
    let config = format!(
        "[global.config]\nas = {peer_as}\nrouter-id = \"10.0.0.2\"\n{}{}",
        neighbor("10.0.0.1", "ipv4-unicast"),
        neighbor("fd00::1", "ipv6-unicast"),
    );
    let router = GoBgp::start(&b, directory.path(), &config);
    router.ask("global rib add -a ipv4 198.51.100.0/24 origin igp nexthop 10.0.0.2");
    router.ask("global rib add -a ipv6 2001:db8:2::/48 origin igp nexthop fd00::2");
    let ours = Bgpd::start(&a, directory.path(), &our_config(peer_as), "");
    exchange(&ours, &router, peer_as);
}

#[test]
fn gobgp_ebgp() {
    gobgp(65002);
}

#[test]
fn gobgp_ibgp() {
    gobgp(65001);
}

/// IPv6 routes over an IPv4 session: their next hops are the addresses of the same interfaces.
#[test]
fn both_families_share_a_session() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let bird = "router id 10.0.0.2;\nprotocol device {}\n\
         protocol static { ipv4; route 198.51.100.0/24 blackhole; }\n\
         protocol static { ipv6; route 2001:db8:2::/48 blackhole; }\n\
         protocol bgp four { local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;\n\
           ipv4 { import all; export where source = RTS_STATIC; next hop self; };\n\
           ipv6 { import all; export where source = RTS_STATIC; next hop address fd00::2; }; }\n";
    let router = Bird::start(&b, directory.path(), bird);
    let config = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nfamilies = [\"ipv4\", \"ipv6\"]\n\
         import = \"accept\"\nexport = \"accept\"\n\
         [[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"2001:db8:1::/48\"\n";
    let ours = Bgpd::start(&a, directory.path(), config, "");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    for (theirs, next_hop, own, gateway) in [
        ("198.51.100.0/24", "10.0.0.2", "192.0.2.0/24", "10.0.0.1"),
        ("2001:db8:2::/48", "fd00::2", "2001:db8:1::/48", "fd00::1"),
    ] {
        wait_for(theirs, ROUTE_TIME, || {
            ours.best(theirs).is_some_and(|route| route.next_hop == next_hop)
        });
        wait_for(own, ROUTE_TIME, || {
            router.route(own).is_some_and(|shown| shown.contains(gateway))
        });
    }
}
