//! Our own graceful restart, with BIRD as the helper, and the routes in the kernel over it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::{Bird, Frr, Router};

const SESSION_TIME: Duration = Duration::from_secs(15);
const ROUTE_TIME: Duration = Duration::from_secs(10);

const CONFIG: &str = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\n\
     [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"accept\"\nexport = \"accept\"\n\
     [[neighbor]]\naddress = \"fd00::2\"\nas = 65002\nimport = \"accept\"\nexport = \"accept\"\n\
     [[network]]\nprefix = \"192.0.2.0/24\"\n[[network]]\nprefix = \"2001:db8:1::/48\"\n";

const BIRD: &str = "router id 10.0.0.2;\nprotocol device {}\n\
     protocol static stays4 { ipv4; route 198.51.100.0/24 blackhole; }\n\
     protocol static stays6 { ipv6; route 2001:db8:2::/48 blackhole; }\n\
     protocol static goes { ipv4; route 203.0.113.0/24 blackhole; }\n\
     protocol bgp four { local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;\n\
       connect retry time 1; error wait time 1, 2;\n\
       ipv4 { import all; export where source = RTS_STATIC; next hop self; }; }\n\
     protocol bgp six { local fd00::2 as 65002; neighbor fd00::1 as 65001;\n\
       connect retry time 1; error wait time 1, 2;\n\
       ipv6 { import all; export where source = RTS_STATIC; next hop self; }; }\n";

fn kernel_has(netns: &Netns, prefix: &str) -> bool {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let shown = netns.run(&format!("ip {family} route show {prefix} proto 201"));
    shown.contains(prefix) && shown.contains("via")
}

/// Looks at something over and over, and counts the times that it was not so.
fn watch(stop: &AtomicBool, mut holds: impl FnMut() -> bool) -> (u32, u32) {
    let (mut looks, mut misses) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        looks += 1;
        misses += u32::from(!holds());
        std::thread::sleep(Duration::from_millis(20));
    }
    (looks, misses)
}

#[test]
fn a_crash_loses_no_route_on_either_side() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), BIRD);
    let mut ours = Bgpd::start(&a, directory.path(), CONFIG, "");
    let learned = ["198.51.100.0/24", "2001:db8:2::/48", "203.0.113.0/24"];
    let announced = ["192.0.2.0/24", "2001:db8:1::/48"];
    for prefix in learned {
        wait_for(prefix, SESSION_TIME, || kernel_has(&a, prefix));
    }
    for prefix in announced {
        wait_for(prefix, SESSION_TIME, || router.route(prefix).is_some());
    }
    assert!(
        !a.run("ip route show").contains("192.0.2.0/24"),
        "our own networks are not installed"
    );

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let kernel =
            scope.spawn(|| watch(&stop, || learned[..2].iter().all(|prefix| kernel_has(&a, prefix))));
        let bird = scope.spawn(|| {
            watch(&stop, || {
                announced.iter().all(|prefix| router.route(prefix).is_some())
            })
        });
        ours.process.signal("KILL");
        assert!(ours.process.ended(Duration::from_secs(5)));
        wait_for("the loss at BIRD", ROUTE_TIME, || {
            !router.is_established("10.0.0.1")
        });
        // While we are away, a route goes.
        assert!(router.ask_writing("disable goes").contains("disabled"));
        assert!(kernel_has(&a, "203.0.113.0/24"), "nobody has told the kernel");
        let again = Bgpd::start(&a, directory.path(), CONFIG, "--recover");
        for (local, remote) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            wait_for("the session", SESSION_TIME, || again.is_established(remote));
            wait_for("the session at BIRD", SESSION_TIME, || {
                router.is_established(local)
            });
        }
        let four = router.ask("show protocols all four");
        assert!(four.contains("Restart recovery"), "the R bit: {four}");
        assert!(
            four.contains("IPv4 AF: ") || four.contains("AF preserved: ipv4"),
            "the F bit: {four}"
        );
        wait_for("the sweep", ROUTE_TIME, || !kernel_has(&a, "203.0.113.0/24"));
        wait_for("fresh routes at BIRD", ROUTE_TIME, || {
            announced
                .iter()
                .all(|prefix| router.route(prefix).is_some_and(|shown| !shown.contains("stale")))
        });
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        for (watched, (looks, misses)) in [("kernel", kernel.join().unwrap()), ("BIRD", bird.join().unwrap())]
        {
            assert!(
                looks >= 10 && misses == 0,
                "{watched}: {misses} of {looks} looks without the routes"
            );
        }
    });
}

/// The neighbour's End-of-RIB is awaited; the other neighbour never comes, which the timer ends.
#[test]
fn without_end_of_rib_the_timer_ends_the_wait() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = Bird::start(&b, directory.path(), BIRD);
    let absent = "[[neighbor]]\naddress = \"10.0.0.77\"\nas = 65002\n";
    let config = CONFIG.replacen("[[neighbor]]", "restart-time = 5\n[[neighbor]]", 1) + absent;
    let begin = Instant::now();
    let ours = Bgpd::start(&a, directory.path(), &config, "--recover");
    wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
    wait_for("the route of BIRD", ROUTE_TIME, || {
        ours.routes("received", "10.0.0.2").len() == 2
    });
    assert!(
        ours.best("198.51.100.0/24").is_none() && router.route("192.0.2.0/24").is_none(),
        "deferred"
    );
    wait_for("the selection", ROUTE_TIME, || {
        ours.best("198.51.100.0/24").is_some()
    });
    assert!(begin.elapsed() >= Duration::from_secs(5), "{:?}", begin.elapsed());
    wait_for("the announcement", ROUTE_TIME, || {
        router.route("192.0.2.0/24").is_some()
    });
}

/// FRR as the helper, for an internal and an external session: it never lacks our routes either.
#[test]
fn frr_keeps_our_routes_too() {
    for peer_as in [65001, 65002] {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let frr = format!(
            "router bgp {peer_as}\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n\
             no bgp network import-check\n bgp graceful-restart-disable\n\
             neighbor 10.0.0.1 remote-as 65001\n neighbor 10.0.0.1 graceful-restart-helper\n\
             neighbor 10.0.0.1 timers connect 1\n\
             address-family ipv4 unicast\n  network 198.51.100.0/24\n exit-address-family\n"
        );
        let router = Frr::start(&b, directory.path(), &frr);
        let config = format!(
            "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\n\
             [[neighbor]]\naddress = \"10.0.0.2\"\nas = {peer_as}\nhold-time = 9\n\
             import = \"accept\"\nexport = \"accept\"\n[[network]]\nprefix = \"192.0.2.0/24\"\n"
        );
        let mut ours = Bgpd::start(&a, directory.path(), &config, "");
        wait_for("the route at FRR", SESSION_TIME, || {
            router.route("192.0.2.0/24").is_some()
        });
        wait_for("its route here", SESSION_TIME, || {
            kernel_has(&a, "198.51.100.0/24")
        });
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watched = scope.spawn(|| watch(&stop, || router.route("192.0.2.0/24").is_some()));
            ours.process.signal("KILL");
            assert!(ours.process.ended(Duration::from_secs(5)));
            wait_for("the loss at FRR", ROUTE_TIME, || {
                !router.is_established("10.0.0.1")
            });
            let again = Bgpd::start(&a, directory.path(), &config, "--recover");
            wait_for("the session", SESSION_TIME, || again.is_established("10.0.0.2"));
            wait_for("the end of the restart", ROUTE_TIME, || {
                again.best("198.51.100.0/24").is_some()
            });
            wait_for("a fresh route at FRR", ROUTE_TIME, || {
                router
                    .route("192.0.2.0/24")
                    .is_some_and(|shown| !shown.contains("stale"))
            });
            std::thread::sleep(Duration::from_millis(500));
            stop.store(true, Ordering::Relaxed);
            let (looks, misses) = watched.join().unwrap();
            assert!(
                looks >= 10 && misses == 0,
                "{misses} of {looks} looks without the route"
            );
        });
        assert!(kernel_has(&a, "198.51.100.0/24"));
    }
}

/// BIRD is killed and comes back: its routes stay here meanwhile, in the kernel too, and what it does not send again goes.
#[test]
fn we_keep_the_routes_of_bird() {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let bird = |routes: &str| {
        format!(
            "router id 10.0.0.2;\nprotocol device {{}}\nprotocol static {{ ipv4; {routes} }}\n\
             protocol bgp four {{ local 10.0.0.2 as 65002; neighbor 10.0.0.1 as 65001;\n\
               connect retry time 1; error wait time 1, 2; graceful restart on; graceful restart time 60;\n\
               ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }}; }}\n"
        )
    };
    let both = "route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole;";
    let router = Bird::start(&b, directory.path(), &bird(both));
    let config = "[global]\nas = 65001\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\n\
         [[neighbor]]\naddress = \"10.0.0.2\"\nas = 65002\nimport = \"accept\"\nexport = \"accept\"\n";
    let ours = Bgpd::start(&a, directory.path(), config, "");
    for prefix in ["198.51.100.0/24", "203.0.113.0/24"] {
        wait_for(prefix, SESSION_TIME, || kernel_has(&a, prefix));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| watch(&stop, || kernel_has(&a, "198.51.100.0/24")));
        drop(router);
        let is_stale = |prefix: &str| ours.best(prefix).is_some_and(|route| route.stale);
        wait_for("stale routes", ROUTE_TIME, || {
            is_stale("198.51.100.0/24") && is_stale("203.0.113.0/24")
        });
        assert!(!ours.is_established("10.0.0.2"));
        let one = "route 198.51.100.0/24 blackhole;";
        let _again = Bird::start_with(&b, directory.path(), &bird(one), "-R");
        wait_for("the session", SESSION_TIME, || ours.is_established("10.0.0.2"));
        wait_for("a fresh route", ROUTE_TIME, || {
            ours.best("198.51.100.0/24").is_some_and(|route| !route.stale)
        });
        wait_for("the sweep", ROUTE_TIME, || {
            ours.best("203.0.113.0/24").is_none() && !kernel_has(&a, "203.0.113.0/24")
        });
        stop.store(true, Ordering::Relaxed);
        let (looks, misses) = kernel.join().unwrap();
        assert!(
            looks >= 10 && misses == 0,
            "{misses} of {looks} looks without the route"
        );
    });
}
