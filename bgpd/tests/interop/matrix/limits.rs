//! What ends a session on purpose, and how large its messages may be.

use std::fmt::Write;

use super::setup::{ANOTHER_AS, OUR_AS, Setup, THEIR, THEIR_LEAVING_ROUTE};
use super::speakers::{Kind, Mark, ROUTE_TIME, SESSION_TIME, Speaker};
use super::{Feature, each};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;

/// Ours, with more keys for the neighbour over IPv4, and three networks for it.
/// FRR 8.4 looks at its limit before it counts the route that it looks at.
fn our_config(more: &str) -> String {
    let neighbor = |address: &str, more: &str| {
        format!(
            "[[neighbor]]\naddress = \"{address}\"\nas = {ANOTHER_AS}\nhold-time = 9\n\
             import = \"accept\"\nexport = \"accept\"\n{more}\n"
        )
    };
    let network = |prefix: &str| format!("[[network]]\nprefix = \"{prefix}\"\n");
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         {}{}{}{}{}",
        neighbor(THEIR[0], more),
        neighbor(THEIR[1], ""),
        network("192.0.2.0/26"),
        network("192.0.2.64/26"),
        network("192.0.2.128/26"),
    )
}

/// A router and we.
struct Pair {
    kind: Kind,
    ours: Bgpd,
    router: Speaker,
    _directory: tempfile::TempDir,
    _netns: (Netns, Netns),
}

impl Pair {
    fn start(kind: Kind, setup: &Setup, config: &str) -> Self {
        let (a, b) = Netns::pair();
        let directory = tempfile::tempdir().unwrap();
        let router = kind.start(&b, directory.path(), setup);
        let ours = Bgpd::start(&a, directory.path(), config, "");
        Self {
            kind,
            ours,
            router,
            _directory: directory,
            _netns: (a, b),
        }
    }

    /// Both ends see the session.
    fn is_up(&self, at: usize) -> bool {
        self.ours.is_established(THEIR[at]) && self.router.is_established(at)
    }

    fn comes_up(&self, at: usize) {
        wait_for(
            &format!("{:?}: the session with {}", self.kind, THEIR[at]),
            SESSION_TIME,
            || self.is_up(at),
        );
    }

    /// The session over IPv4 ends and we know why; the other one stays.
    fn ends_with(&self, reasons: &[&str]) {
        let last_error = || {
            self.ours
                .peer(THEIR[0])
                .map(|peer| peer.last_error)
                .unwrap_or_default()
        };
        wait_for(&format!("{:?}: {reasons:?}", self.kind), SESSION_TIME, || {
            let error = last_error();
            reasons.iter().all(|reason| error.contains(reason))
        });
        let name = format!("{:?}: the end, seen by the router", self.kind);
        wait_for(&name, ROUTE_TIME, || !self.router.is_established(0));
        self.comes_up(1);
        assert_eq!(self.ours.peer(THEIR[1]).unwrap().flaps, 0, "{:?}", self.kind);
    }
}

#[test]
pub(super) fn ours() {
    each(Feature::OurLimit, |kind| {
        let limit = "[[neighbor.max-prefix]]\nfamily = \"ipv4\"\nlimit = 1\n";
        let pair = Pair::start(kind, &Setup::new(ANOTHER_AS), &our_config(limit));
        pair.ends_with(&["sent", "(6/1)"]);
        assert!(pair.ours.best(THEIR_LEAVING_ROUTE).is_none(), "{kind:?}");
    });
}

#[test]
pub(super) fn theirs() {
    each(Feature::TheirLimit, |kind| {
        let mut setup = Setup::new(ANOTHER_AS);
        setup.limit = Some(1);
        let pair = Pair::start(kind, &setup, &our_config(""));
        pair.ends_with(&["received", "(6/1)"]);
    });
}

#[test]
pub(super) fn our_reason() {
    each(Feature::OurReason, |kind| {
        // With RFC 8538 between the two, the text would go inside a Hard Reset, where FRR 8.4 and GoBGP 3.10
        // do not look.
        let plain = "graceful-restart = \"off\"\n";
        let pair = Pair::start(kind, &Setup::new(ANOTHER_AS), &our_config(plain));
        pair.comes_up(0);
        pair.comes_up(1);
        let off = format!("{plain}enabled = false\nshutdown-message = \"back-at-ten\"");
        pair.ours.reload(&our_config(&off));
        let name = format!("{kind:?}: our reason");
        wait_for(&name, ROUTE_TIME, || pair.router.log().contains("back-at-ten"));
        assert!(!pair.is_up(0) && pair.is_up(1), "{kind:?}");
    });
}

#[test]
pub(super) fn their_reason() {
    each(Feature::TheirReason, |kind| {
        let pair = Pair::start(kind, &Setup::new(ANOTHER_AS), &our_config(""));
        pair.comes_up(0);
        pair.comes_up(1);
        pair.router.shut_down(0, "night-work");
        pair.ends_with(&["received", "(6/2)", "night-work"]);
    });
}

/// More large communities than a message of 4096 octets holds.
const COMMUNITIES: u32 = 400;

#[test]
pub(super) fn long_messages() {
    each(Feature::ExtendedMessages, |kind| {
        let mut large = String::new();
        for n in 0..COMMUNITIES {
            write!(large, "\"65001:9:{n}\",").unwrap();
        }
        let config = our_config("")
            + &format!("[[network]]\nprefix = \"198.18.0.0/24\"\nlarge-communities = [{large}]\n");
        let pair = Pair::start(kind, &Setup::new(ANOTHER_AS), &config);
        pair.comes_up(0);
        for n in [0, COMMUNITIES - 1] {
            wait_for(&format!("{kind:?}: the long route"), ROUTE_TIME, || {
                pair.router.shows("198.18.0.0/24", &Mark::Large(65001, 9, n))
            });
        }
        assert_eq!(pair.ours.peer(THEIR[0]).unwrap().flaps, 0, "{kind:?}");
    });
}
