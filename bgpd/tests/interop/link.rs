//! Sessions over link-local addresses: neighbours with an address on an interface, or known by that alone; IPv4
//! routes with IPv6 next hops (RFC 8950).

use std::time::Duration;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Frr, FrrWithBfd, GoBgp, Router};

const SESSION_TIME: Duration = Duration::from_secs(30);
const ROUTE_TIME: Duration = Duration::from_secs(15);

/// Two namespaces with a link `eth0` that has no addresses but fe80::1 and fe80::2.
pub(crate) fn link() -> (Netns, Netns) {
    let (a, b) = (Netns::new(), Netns::new());
    join(&a, &b);
    (a, b)
}

fn join(a: &Netns, b: &Netns) {
    a.run(&format!(
        "ip link add eth0 type veth peer name eth0 netns {}",
        b.pid()
    ));
    for (netns, last) in [(a, 1), (b, 2)] {
        netns.run("sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=1");
        netns.run(&format!("ip addr add fe80::{last}/64 dev eth0 nodad"));
        netns.run("ip link set eth0 up");
    }
}

pub(crate) fn our_config(local_as: u32, id: u8, fib: bool, neighbor: &str, network: u8) -> String {
    format!(
        "[global]\nas = {local_as}\nrouter-id = \"10.255.0.{id}\"\nlisten = [\"[::]:179\"]\nfib = {fib}\n\
         [[neighbor]]\n{neighbor}\nhold-time = 9\nimport = \"accept\"\nexport = \"accept\"\n\
         [[network]]\nprefix = \"192.0.{network}.0/24\"\n[[network]]\nprefix = \"2001:db8:{network}::/48\"\n"
    )
}

/// Both ends by interface alone: they find each other, and routes of both families get into both kernels.
#[test]
fn two_of_ours_find_each_other_on_an_unnumbered_link() {
    let (a, b) = link();
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let neighbor = "interface = \"eth0\"\nas = \"external\"\npassword = \"sesame\"\nttl-security = 1\n\
                    bfd = { interval-ms = 200 }";
    let ours = Bgpd::start(&a, dir_a.path(), &our_config(65001, 1, true, neighbor, 1), "");
    let theirs = Bgpd::start(&b, dir_b.path(), &our_config(65002, 2, true, neighbor, 2), "");
    let is_up = |bgpd: &Bgpd| {
        let peer = bgpd.named("eth0");
        peer.is_some_and(|peer| peer.state == "Established")
    };
    wait_for("the session", SESSION_TIME, || is_up(&ours) && is_up(&theirs));
    let peer = ours.named("eth0").unwrap();
    assert_eq!((peer.address.as_str(), peer.remote_as), ("fe80::2%eth0", 65002));
    let capabilities = peer.session.unwrap().capabilities;
    assert!(
        capabilities.iter().any(|name| name == "extended-next-hop"),
        "{capabilities:?}"
    );
    for (bgpd, netns, network, gateway) in [(&ours, &a, 2, "fe80::2"), (&theirs, &b, 1, "fe80::1")] {
        let (v4, v6) = (
            format!("192.0.{network}.0/24"),
            format!("2001:db8:{network}::/48"),
        );
        for prefix in [&v4, &v6] {
            wait_for(prefix, ROUTE_TIME, || bgpd.best(prefix).is_some());
            assert_eq!(bgpd.best(prefix).unwrap().next_hop, gateway);
        }
        wait_for("IPv4 in the kernel", ROUTE_TIME, || {
            netns
                .run(&format!("ip route show {v4}"))
                .contains(&format!("via inet6 {gateway} dev eth0"))
        });
        wait_for("IPv6 in the kernel", ROUTE_TIME, || {
            netns
                .run(&format!("ip -6 route show {v6}"))
                .contains(&format!("via {gateway} dev eth0"))
        });
    }
    wait_for("BFD", ROUTE_TIME, || {
        let bfd = |bgpd: &Bgpd| bgpd.named("eth0").and_then(|peer| peer.bfd);
        [&ours, &theirs]
            .iter()
            .all(|bgpd| bfd(bgpd).is_some_and(|bfd| bfd.state == "Up" && !bfd.multihop))
    });
    // The link goes away: so does the session, at once, and its routes.
    let index = a
        .run("ip -o link show dev eth0")
        .split(':')
        .next()
        .map(str::to_owned);
    b.run("ip link del eth0");
    wait_for("the session's end", Duration::from_secs(5), || {
        !is_up(&ours) && !is_up(&theirs)
    });
    join(&a, &b);
    assert_ne!(
        a.run("ip -o link show dev eth0")
            .split(':')
            .next()
            .map(str::to_owned),
        index,
        "another interface of that name"
    );
    wait_for("the session again", SESSION_TIME, || {
        is_up(&ours) && is_up(&theirs)
    });
    wait_for("IPv4 in the kernel again", ROUTE_TIME, || {
        a.run("ip route show 192.0.2.0/24")
            .contains("via inet6 fe80::2 dev eth0")
    });
}

/// A policy knows the link that a route leads out of, which the kernel tells.
#[test]
fn a_policy_asks_for_the_link_that_a_route_leads_out_of() {
    let (a, b) = link();
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let neighbor = "interface = \"eth0\"\nas = \"external\"";
    let taking = |links: &str| {
        let config = our_config(65001, 1, true, neighbor, 1);
        let config = config.replace("import = \"accept\"", "import = \"by-link\"");
        format!(
            "{config}[[policy]]\nname = \"by-link\"\ndefault = \"reject\"\n\
             [[policy.rule]]\naction = \"accept\"\ninterface = \"{links}\"\n"
        )
    };
    let ours = Bgpd::start(&a, dir_a.path(), &taking("eth*"), "");
    let _theirs = Bgpd::start(&b, dir_b.path(), &our_config(65002, 2, true, neighbor, 2), "");
    let prefixes = ["192.0.2.0/24", "2001:db8:2::/48"];
    let in_kernel = || {
        let shown = a.run("ip route show") + &a.run("ip -6 route show");
        prefixes.map(|prefix| shown.contains(prefix))
    };
    wait_for("routes by eth0", SESSION_TIME, || in_kernel() == [true; 2]);
    ours.reload(&taking("lan*"));
    wait_for("no routes by lan*", ROUTE_TIME, || in_kernel() == [false; 2]);
    assert!(prefixes.iter().all(|prefix| ours.best(prefix).is_none()));
    ours.reload(&taking("*0"));
    wait_for("routes by *0", ROUTE_TIME, || in_kernel() == [true; 2]);
}

/// Seen from both ends: routes of both families, with the link-local address as next hop.
pub(crate) fn exchange(ours: &Bgpd, name: &str, is_up: impl Fn() -> bool, router: &dyn Router) {
    wait_for("a session, seen by us", SESSION_TIME, || {
        ours.named(name).is_some_and(|peer| peer.state == "Established")
    });
    wait_for("a session, seen by the router", SESSION_TIME, is_up);
    for prefix in ["198.51.100.0/24", "2001:db8:2::/48"] {
        wait_for(prefix, ROUTE_TIME, || ours.best(prefix).is_some());
        assert_eq!(ours.best(prefix).unwrap().next_hop, "fe80::2", "{prefix}");
    }
    for prefix in ["192.0.1.0/24", "2001:db8:1::/48"] {
        wait_for(prefix, ROUTE_TIME, || router.route(prefix).is_some());
        let shown = router.route(prefix).unwrap();
        assert!(shown.contains("fe80::1"), "next hop fe80::1 in {shown}");
    }
}

fn bird_config(neighbor: &str) -> String {
    format!(
        "router id 10.255.0.2;\nprotocol device {{ scan time 1; }}\n\
         protocol static {{ ipv4; route 198.51.100.0/24 blackhole {{ bgp_origin = ORIGIN_IGP; }}; }}\n\
         protocol static {{ ipv6; route 2001:db8:2::/48 blackhole {{ bgp_origin = ORIGIN_IGP; }}; }}\n\
         protocol bfd {{ interface \"eth0\" {{ interval 200 ms; }}; }}\n\
         protocol bgp near {{ local as 65002; {neighbor} hold time 9; connect retry time 1; error wait time 1, 2;\n\
           ipv4 {{ import all; export where source = RTS_STATIC; next hop self; extended next hop on; }};\n\
           ipv6 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
    )
}

/// BIRD connects to our address; we know it by the interface alone, and take its connection.
#[test]
pub(crate) fn bird_connects_to_a_neighbor_known_by_interface() {
    let (a, b) = link();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(
        &b,
        directory.path(),
        &bird_config("neighbor fe80::1%eth0 as 65001; bfd on;"),
    );
    let neighbor = "interface = \"eth0\"\nas = 65002\nbfd = { interval-ms = 200 }";
    let ours = Bgpd::start(
        &a,
        directory.path(),
        &our_config(65001, 1, false, neighbor, 1),
        "",
    );
    exchange(
        &ours,
        "eth0",
        || router.ask("show protocols near").contains("Established"),
        &router,
    );
    wait_for("BFD", ROUTE_TIME, || {
        ours.named("eth0")
            .and_then(|peer| peer.bfd)
            .is_some_and(|bfd| bfd.state == "Up")
            && router.ask("show bfd sessions").contains("Up")
    });
}

/// BIRD takes whoever comes from the link; we connect to its address there.
#[test]
fn bird_takes_neighbors_by_range() {
    let (a, b) = link();
    let directory = tempfile::tempdir().unwrap();
    let range = "neighbor range fe80::/10 as 65001; interface \"eth0\"; password \"sesame\";";
    let router = Bird::start(&b, directory.path(), &bird_config(range));
    let neighbor =
        "address = \"fe80::2%eth0\"\nas = 65002\nfamilies = [\"ipv4\", \"ipv6\"]\npassword = \"sesame\"";
    let ours = Bgpd::start(
        &a,
        directory.path(),
        &our_config(65001, 1, false, neighbor, 1),
        "",
    );
    exchange(
        &ours,
        "fe80::2%eth0",
        || router.ask("show protocols").contains("Established"),
        &router,
    );
}

/// FRR learns us by our router advertisements, and we it by its own.
#[test]
pub(crate) fn frr_unnumbered() {
    let (a, b) = link();
    let directory = tempfile::tempdir().unwrap();
    let config = "router bgp 65002\n bgp router-id 10.255.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n\
         timers bgp 3 9\n neighbor eth0 interface remote-as external\n\
         address-family ipv4 unicast\n  network 198.51.100.0/24\n exit-address-family\n\
         address-family ipv6 unicast\n  network 2001:db8:2::/48\n  neighbor eth0 activate\n exit-address-family\n";
    let frr = FrrWithBfd::start(&b, directory.path(), config, "");
    let router: &Frr = &frr.bgp;
    let neighbor = "interface = \"eth0\"\nas = \"external\"";
    let ours = Bgpd::start(&a, directory.path(), &our_config(65001, 1, true, neighbor, 1), "");
    exchange(&ours, "eth0", || router.is_established("eth0"), router);
    wait_for("IPv4 in our kernel", ROUTE_TIME, || {
        a.run("ip route show 198.51.100.0/24")
            .contains("via inet6 fe80::2 dev eth0")
    });
}

/// IPv4 routes over a session with global IPv6 addresses.
#[test]
pub(crate) fn gobgp_takes_and_sends_ipv4_routes_over_ipv6() {
    let (a, b) = link();
    for (netns, last) in [(&a, 1), (&b, 2)] {
        netns.run(&format!("ip addr add fd00::{last}/64 dev eth0 nodad"));
    }
    let directory = tempfile::tempdir().unwrap();
    let family = |name: &str| {
        format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n")
    };
    let config = format!(
        "[global.config]\nas = 65002\nrouter-id = \"10.255.0.2\"\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"fd00::1\"\npeer-as = 65001\n{}{}",
        family("ipv4-unicast"),
        family("ipv6-unicast"),
    );
    let router = GoBgp::start(&b, directory.path(), &config);
    router.ask("global rib add -a ipv4 198.51.100.0/24 origin igp nexthop fd00::2");
    let neighbor = "address = \"fd00::2\"\nas = 65002\nfamilies = [\"ipv4\", \"ipv6\"]";
    let ours = Bgpd::start(
        &a,
        directory.path(),
        &our_config(65001, 1, false, neighbor, 1),
        "",
    );
    wait_for("the session", SESSION_TIME, || ours.is_established("fd00::2"));
    wait_for("GoBGP's route", ROUTE_TIME, || {
        ours.best("198.51.100.0/24")
            .is_some_and(|route| route.next_hop == "fd00::2")
    });
    wait_for("our route", ROUTE_TIME, || {
        router
            .route("192.0.1.0/24")
            .is_some_and(|shown| shown.contains("fd00::1"))
    });
}
