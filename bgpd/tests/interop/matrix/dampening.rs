//! A route that the router withdraws and announces again, and again, is kept from use (RFC 2439).

use super::setup::{ANOTHER_AS, OUR_AS, Setup, THEIR, THEIR_ROUTES};
use super::speakers::{Kind, ROUTE_TIME, SESSION_TIME};
use super::{Feature, each};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;

/// Two withdrawals are enough, if they come within a quarter of an hour.
fn our_config() -> String {
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\"]\nfib = false\n\
         [[neighbor]]\naddress = \"{}\"\nas = {ANOTHER_AS}\nhold-time = 9\nimport = \"accept\"\n\
         dampening = {{ suppress = 1400 }}\n",
        THEIR[0]
    )
}

fn flaps(kind: Kind) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = kind.start(&b, directory.path(), &Setup::new(ANOTHER_AS));
    let ours = Bgpd::start(&a, directory.path(), &our_config(), "");
    let [prefix, _] = THEIR_ROUTES;
    wait_for(&format!("{kind:?}: the route"), SESSION_TIME, || {
        ours.best(prefix).is_some()
    });
    let received = || {
        let mut routes = ours.routes("received", THEIR[0]).into_iter();
        routes.rfind(|route| route.prefix == prefix)
    };
    for flap in 1..=2 {
        assert!(ours.best(prefix).is_some(), "{kind:?}: before flap {flap}");
        router.retract();
        wait_for(&format!("{kind:?}: withdrawal {flap}"), ROUTE_TIME, || {
            received().is_none()
        });
        router.announce();
        wait_for(&format!("{kind:?}: announcement {flap}"), ROUTE_TIME, || {
            received().is_some()
        });
    }
    let route = received().unwrap();
    assert!(route.is_dampened && route.penalty > 1400, "{kind:?}: {route:?}");
    let reason = format!(
        "not usable: dampened: it has come and gone, or changed, too often; penalty {}",
        route.penalty
    );
    assert!(route.reason.starts_with(&reason), "{kind:?}: {}", route.reason);
    // From 1900 or so to 750.
    let time = route.reuse_in_seconds;
    assert!((800..1300).contains(&time), "{kind:?}: {time} s");
    assert!(ours.best(prefix).is_none(), "{kind:?}");
    // BIRD has withdrawn both of its routes.
    let dampened = ours.peer(THEIR[0]).unwrap().prefixes_dampened;
    assert_eq!(dampened, 1 + u64::from(kind == Kind::Bird), "{kind:?}");
    assert_eq!(ours.clear_dampening(THEIR[0], prefix), 1, "{kind:?}");
    wait_for(&format!("{kind:?}: the route is used again"), ROUTE_TIME, || {
        ours.best(prefix).is_some()
    });
    let peer = ours.peer(THEIR[0]).unwrap();
    assert_eq!(
        (peer.prefixes_dampened, peer.flaps),
        (dampened - 1, 0),
        "{kind:?}"
    );
}

#[test]
pub(super) fn routes_that_flap() {
    each(Feature::Dampening, flaps);
}
