//! IPv4 routes with IPv6 next hops (RFC 8950), both ways, where no other test of these routers has them.

use super::setup::{ANOTHER_AS, OUR_AS, THEIR};
use super::speakers::{ROUTE_TIME, SESSION_TIME};
use crate::link::{exchange, link, our_config};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{ExaBgp, GoBgp, Router};

#[test]
pub(super) fn exabgp_over_ipv6() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let exabgp = format!(
        "neighbor fd00::1 {{\n router-id 10.0.0.2;\n local-address fd00::2;\n local-as {ANOTHER_AS};\n \
         peer-as {OUR_AS};\n hold-time 9;\n passive false;\n capability {{ nexthop enable; }}\n \
         family {{ ipv4 unicast; ipv6 unicast; }}\n nexthop {{ ipv4 unicast ipv6; }}\n {}\n \
         announce {{ ipv4 {{ unicast 198.51.100.0/24 next-hop fd00::2; }} }}\n}}\n",
        ExaBgp::API
    );
    let router = ExaBgp::start(&b, directory.path(), &exabgp);
    let config = format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"[::]:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"{}\"\nas = {ANOTHER_AS}\nhold-time = 9\nfamilies = [\"ipv4\", \"ipv6\"]\n\
         import = \"accept\"\nexport = \"accept\"\nnext-hop = \"self\"\n[[network]]\nprefix = \"192.0.2.0/24\"\n",
        THEIR[1]
    );
    // Without an IPv4 address, ours is the one that there is.
    a.run("ip addr del 10.0.0.1/24 dev eth0");
    let ours = Bgpd::start(&a, directory.path(), &config, "");
    wait_for("the session", SESSION_TIME, || {
        ours.is_established(THEIR[1]) && router.is_established("fd00::1")
    });
    wait_for("ExaBGP's route", ROUTE_TIME, || {
        ours.best("198.51.100.0/24")
            .is_some_and(|route| route.next_hop == THEIR[1])
    });
    wait_for("our route", ROUTE_TIME, || {
        router
            .route("192.0.2.0/24")
            .is_some_and(|shown| shown.contains("\"fd00::1\""))
    });
}

/// GoBGP finds us among the neighbours of its interface, once the kernel knows us there.
#[test]
pub(super) fn gobgp_unnumbered() {
    let (a, b) = link();
    let directory = tempfile::tempdir().unwrap();
    b.run("ip -6 neigh replace fe80::1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    a.run("ip link set eth0 address 02:00:00:00:00:01");
    let gobgp = "[global.config]\nas = 65002\nrouter-id = \"10.255.0.2\"\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-interface = \"eth0\"\npeer-as = 65001\n\
         [neighbors.timers.config]\nconnect-retry = 1\n\
         [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n\
         [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n";
    let router = GoBgp::start(&b, directory.path(), gobgp);
    router.ask("global rib add -a ipv4 198.51.100.0/24 origin igp nexthop fe80::2");
    router.ask("global rib add -a ipv6 2001:db8:2::/48 origin igp nexthop fe80::2");
    let neighbor = "interface = \"eth0\"\nas = \"external\"";
    let ours = Bgpd::start(
        &a,
        directory.path(),
        &our_config(65001, 1, false, neighbor, 1),
        "",
    );
    let is_up = || router.ask("neighbor").contains("Establ");
    exchange(&ours, "eth0", is_up, &router);
}
