//! What sessions are kept from: other keys, senders far away, neighbours that are something else.

use std::time::{Duration, Instant};

use super::setup::{ANOTHER_AS, OUR_AS, Role, Setup, THEIR};
use super::speakers::{Kind, Mark, ROUTE_TIME, SESSION_TIME, Speaker};
use super::{Feature, each};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;

/// How long a session must stay down to be taken for kept out.
const KEPT_OUT: Duration = Duration::from_secs(4);

/// Ours, with more keys for each neighbour.
fn our_config(more: [&str; 2]) -> String {
    let neighbor = |at: usize| {
        format!(
            "[[neighbor]]\naddress = \"{}\"\nas = {ANOTHER_AS}\nhold-time = 9\n\
             import = \"accept\"\nexport = \"accept\"\n{}\n",
            THEIR[at], more[at]
        )
    };
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         {}{}[[network]]\nprefix = \"192.0.2.0/24\"\n",
        neighbor(0),
        neighbor(1),
    )
}

/// The first session comes up. The second one does not, until our configuration for it is another one.
fn one_of_two(kind: Kind, setup: &Setup, wrong: [&str; 2], right: &str, check: impl Fn(&Bgpd, &Speaker)) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let router = kind.start(&b, directory.path(), setup);
    let ours = Bgpd::start(&a, directory.path(), &our_config(wrong), "");
    let is_up = |at: usize| ours.is_established(THEIR[at]) && router.is_established(at);
    let begin = Instant::now();
    wait_for(&format!("{kind:?}: the session"), SESSION_TIME, || is_up(0));
    std::thread::sleep(KEPT_OUT.saturating_sub(begin.elapsed()));
    let other = ours.peer(THEIR[1]).unwrap();
    assert!(
        !ours.is_established(THEIR[1]) && other.flaps == 0,
        "{kind:?}: {other:?}"
    );
    check(&ours, &router);
    ours.reload(&our_config([wrong[0], right]));
    wait_for(&format!("{kind:?}: the other session"), 3 * SESSION_TIME, || {
        is_up(1)
    });
    assert_eq!(ours.peer(THEIR[0]).unwrap().flaps, 0, "{kind:?}");
}

#[test]
pub(super) fn keys() {
    each(Feature::Md5, |kind| {
        let mut setup = Setup::new(ANOTHER_AS);
        setup.passwords = ["sesame"; 2];
        let key = "password = \"sesame\"";
        one_of_two(kind, &setup, [key, "password = \"simsim\""], key, |_, router| {
            assert!(!router.is_established(1), "{kind:?}: kept out");
        });
    });
}

#[test]
pub(super) fn only_the_link() {
    each(Feature::LinkOnly, |kind| {
        let mut setup = Setup::new(ANOTHER_AS);
        setup.link_only = [true, false];
        // Neither does ours get an answer, nor is what the router opens taken.
        one_of_two(kind, &setup, ["ttl-security = 1"; 2], "", |_, router| {
            assert!(!router.is_established(1), "{kind:?}: kept out");
        });
    });
}

#[test]
pub(super) fn roles() {
    each(Feature::Roles, |kind| {
        let mut setup = Setup::new(ANOTHER_AS);
        setup.roles = [Some(Role::Customer), Some(Role::Peer)];
        let provider = "role = \"provider\"";
        one_of_two(kind, &setup, [provider; 2], "role = \"peer\"", |ours, router| {
            // Told by either side, whoever was first.
            let error = ours.peer(THEIR[1]).unwrap().last_error;
            assert!(error.contains("(2/11)"), "{kind:?}: {error}");
            assert!(!router.is_established(1), "{kind:?}: kept out");
            wait_for(&format!("{kind:?}: OTC"), ROUTE_TIME, || {
                router.shows("192.0.2.0/24", &Mark::Otc(OUR_AS))
            });
        });
    });
}
