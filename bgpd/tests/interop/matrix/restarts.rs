//! Routes over a restart, ours and the router's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::setup::{ANOTHER_AS, OUR_AS, Setup, THEIR, THEIR_ROUTES};
use super::speakers::{Kind, Mark, ROUTE_TIME, SESSION_TIME, Speaker};
use super::{Feature, each};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;

const OUR_ROUTES: [&str; 2] = ["192.0.2.0/24", "2001:db8:1::/48"];
/// Longest time until a route is kept by the long-lived time instead of the restart time.
const LONG_LIVED_AFTER: Duration = Duration::from_secs(20);

/// With routes in the kernel: only then can we say that forwarding went on.
fn our_config(more: &str) -> String {
    let neighbor = |address: &str| {
        format!(
            "[[neighbor]]\naddress = \"{address}\"\nas = {ANOTHER_AS}\nhold-time = 9\n\
             import = \"accept\"\nexport = \"accept\"\n{more}\n"
        )
    };
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\n\
         {}{}[[network]]\nprefix = \"{}\"\n[[network]]\nprefix = \"{}\"\n",
        neighbor(THEIR[0]),
        neighbor(THEIR[1]),
        OUR_ROUTES[0],
        OUR_ROUTES[1],
    )
}

fn both_up(kind: Kind, ours: &Bgpd, router: &Speaker) {
    for (at, address) in THEIR.into_iter().enumerate() {
        wait_for(&format!("{kind:?}: {address}"), SESSION_TIME, || {
            ours.is_established(address) && router.is_established(at)
        });
        wait_for(&format!("{kind:?}: {}", OUR_ROUTES[at]), ROUTE_TIME, || {
            router.route(OUR_ROUTES[at]).is_some()
        });
        wait_for(&format!("{kind:?}: {}", THEIR_ROUTES[at]), ROUTE_TIME, || {
            ours.best(THEIR_ROUTES[at]).is_some()
        });
    }
}

/// The router has our routes over all the time that `meanwhile` takes.
fn never_missing(kind: Kind, router: &Speaker, meanwhile: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let (mut looks, mut misses) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                looks += 1;
                let missing = OUR_ROUTES
                    .into_iter()
                    .filter(|prefix| router.route(prefix).is_none());
                misses.extend(missing);
                std::thread::sleep(Duration::from_millis(50));
            }
            (looks, misses)
        });
        // The watcher ends also if this fails.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        let (looks, misses) = watched.join().unwrap();
        if let Err(failure) = outcome {
            std::panic::resume_unwind(failure);
        }
        assert!(
            looks >= 2 && misses.is_empty(),
            "{kind:?}: {misses:?} in {looks} looks; it says:\n{}",
            router.log()
        );
    });
}

#[test]
pub(super) fn they_keep_our_routes() {
    each(Feature::TheyHelp, |kind| {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let mut setup = Setup::new(ANOTHER_AS);
        setup.helps_only = true;
        let router = kind.start(&b, directory.path(), &setup);
        let mut ours = Bgpd::start(&a, directory.path(), &our_config(""), "");
        both_up(kind, &ours, &router);
        never_missing(kind, &router, || {
            ours.process.signal("KILL");
            assert!(ours.process.ended(Duration::from_secs(10)));
            wait_for(&format!("{kind:?}: the loss"), ROUTE_TIME, || {
                !router.is_established(0) && !router.is_established(1)
            });
            std::thread::sleep(Duration::from_secs(1));
            let again = Bgpd::start(&a, directory.path(), &our_config(""), "--recover");
            both_up(kind, &again, &router);
        });
    });
}

#[test]
pub(super) fn we_keep_their_routes() {
    each(Feature::WeHelp, |kind| {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup::new(ANOTHER_AS);
        let router = kind.start(&b, directory.path(), &setup);
        let ours = Bgpd::start(&a, directory.path(), &our_config(""), "");
        both_up(kind, &ours, &router);
        drop(router);
        for (at, address) in THEIR.into_iter().enumerate() {
            wait_for(&format!("{kind:?}: the loss"), ROUTE_TIME, || {
                !ours.is_established(address)
            });
            let kept = ours.best(THEIR_ROUTES[at]);
            assert!(
                kept.is_some_and(|route| route.stale),
                "{kind:?}: {}",
                THEIR_ROUTES[at]
            );
        }
        let again = kind.start_again(&b, directory.path(), &setup);
        both_up(kind, &ours, &again);
        for prefix in THEIR_ROUTES {
            wait_for(&format!("{kind:?}: a fresh {prefix}"), ROUTE_TIME, || {
                ours.best(prefix).is_some_and(|route| !route.stale)
            });
        }
    });
}

#[test]
pub(super) fn routes_live_long() {
    each(Feature::LongLived, |kind| {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let mut setup = Setup::new(ANOTHER_AS);
        setup.restart_time_s = 2;
        setup.long_lived_s = Some(60);
        let config = our_config("restart-time = 2\nlong-lived-stale-time = 60");
        let router = kind.start(&b, directory.path(), &setup);
        let mut ours = Bgpd::start(&a, directory.path(), &config, "");
        both_up(kind, &ours, &router);
        // We go: our routes stay there, marked.
        ours.process.signal("KILL");
        assert!(ours.process.ended(Duration::from_secs(10)));
        for prefix in OUR_ROUTES {
            wait_for(
                &format!("{kind:?}: {prefix} lives long"),
                LONG_LIVED_AFTER,
                || router.shows(prefix, &Mark::LongLivedStale),
            );
        }
        // We are back; the router goes.
        let again = Bgpd::start(&a, directory.path(), &config, "--recover");
        both_up(kind, &again, &router);
        drop(router);
        for prefix in THEIR_ROUTES {
            wait_for(
                &format!("{kind:?}: {prefix} lives long"),
                LONG_LIVED_AFTER,
                || {
                    again
                        .best(prefix)
                        .is_some_and(|route| route.communities.iter().any(|community| community == "65535:6"))
                },
            );
        }
    });
}
