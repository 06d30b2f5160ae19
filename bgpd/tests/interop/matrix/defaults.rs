//! A default route that a neighbour is told although we have none (`default-originate`).

use super::setup::{ANOTHER_AS, OUR, OUR_AS, Setup, THEIR};
use super::speakers::{Kind, Mark, ROUTE_TIME, SESSION_TIME};
use super::{Feature, each};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;

const DEFAULTS: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Ours, which tells nothing of its table, with more keys for the neighbours.
fn our_config(more: &str) -> String {
    let neighbors = THEIR.map(|address| {
        format!(
            "[[neighbor]]\naddress = \"{address}\"\nas = {ANOTHER_AS}\nhold-time = 9\nexport = \"reject\"\n{more}\n"
        )
    });
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         [[policy]]\nname = \"marked\"\ndefault = \"reject\"\n\
         [[policy.rule]]\naction = \"accept\"\nset-med = 70\nadd-communities = [\"65100:70\"]\n{}",
        neighbors.concat()
    )
}

fn comes_and_goes(kind: Kind) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = kind.start(&b, directory.path(), &Setup::new(ANOTHER_AS));
    let with = "default-originate = true\ndefault-originate-policy = \"marked\"";
    let ours = Bgpd::start(&a, directory.path(), &our_config(with), "");
    wait_for(&format!("{kind:?}: the sessions"), SESSION_TIME, || {
        (0..2).all(|at| ours.is_established(THEIR[at]) && router.is_established(at))
    });
    for at in 0..2 {
        let marks = [
            Mark::NextHop(OUR[at]),
            Mark::Path(&[OUR_AS]),
            Mark::Med(70),
            Mark::Community(65100, 70),
        ];
        wait_for(&format!("{kind:?}: {}", DEFAULTS[at]), ROUTE_TIME, || {
            marks.iter().all(|mark| router.shows(DEFAULTS[at], mark))
        });
        let advertised = ours.routes("advertised", THEIR[at]);
        let listed: Vec<_> = advertised
            .iter()
            .map(|route| (route.prefix.as_str(), route.reason.as_str()))
            .collect();
        let reason = "default-originate: whether or not there is one here";
        assert_eq!(listed, [(DEFAULTS[at], reason)], "{kind:?}");
        assert_eq!(ours.peer(THEIR[at]).unwrap().prefixes_advertised, 1, "{kind:?}");
    }
    assert!(ours.best(DEFAULTS[0]).is_none(), "we have none");
    ours.reload(&our_config(""));
    for (at, default) in DEFAULTS.into_iter().enumerate() {
        wait_for(&format!("{kind:?}: no {default}"), ROUTE_TIME, || {
            router.route(default).is_none()
        });
        assert_eq!(ours.peer(THEIR[at]).unwrap().flaps, 0, "{kind:?}");
    }
}

#[test]
pub(super) fn originated() {
    each(Feature::DefaultOriginate, comes_and_goes);
}
