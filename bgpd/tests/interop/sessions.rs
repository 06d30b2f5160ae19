//! Both families over one session.

use std::time::Duration;

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Router};

const SESSION_TIME: Duration = Duration::from_secs(15);
const ROUTE_TIME: Duration = Duration::from_secs(10);

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

/// BIRD knows us by our former AS, or by the new one.
#[test]
fn bird_may_know_us_by_either_as() {
    for known_as in [64999, 65001] {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let bird = format!(
            "router id 10.0.0.2;\nprotocol device {{}}\n\
             protocol bgp four {{ local 10.0.0.2 as 65002; neighbor 10.0.0.1 as {known_as}; error wait time 1, 2;\n\
               ipv4 {{ import all; export none; }}; }}\n"
        );
        let router = Bird::start(&b, directory.path(), &bird);
        let config = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
             [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nlocal-as = 64999\ndual-as = true\n\
             import = \"accept\"\nexport = \"accept\"\n[[network]]\nprefix = \"192.0.2.0/24\"\n";
        let ours = Bgpd::start(&a, directory.path(), config, "");
        wait_for("the session", Duration::from_secs(40), || {
            ours.is_established("10.0.0.2")
        });
        wait_for("our route", ROUTE_TIME, || router.route("192.0.2.0/24").is_some());
        assert!(
            router
                .route("192.0.2.0/24")
                .unwrap()
                .contains(&known_as.to_string())
        );
        assert_eq!(ours.peer("10.0.0.2").unwrap().local_as, known_as);
    }
}
