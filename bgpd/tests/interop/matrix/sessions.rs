//! What one session with each router shows, within an AS and between two.

use std::time::Duration;

use super::setup::{ANOTHER_AS, OUR, OUR_AS, Setup, THEIR, THEIR_LEAVING_ROUTE, THEIR_ROUTES};
use super::speakers::{Kind, Mark, ROUTE_TIME, SESSION_TIME, Speaker};
use super::{Feature, each};
use crate::capture::{BEGIN, Capture, END, REQUEST, ROUTE_REFRESH, Seen, UPDATE};
use crate::net::{Netns, wait_for};
use crate::ours::Bgpd;
use crate::routers::OpenBgpd;

const OUR_ROUTES: [&str; 2] = ["192.0.2.0/24", "2001:db8:1::/48"];

/// Ours: the networks have communities of their own, and what is exported gets more by policy. What comes in
/// with the router's route target gets a community that says so.
fn our_config(peer_as: u32) -> String {
    let neighbor = |address: &str| {
        format!(
            "[[neighbor]]\naddress = \"{address}\"\nas = {peer_as}\nhold-time = 9\n\
             import = \"from-router\"\nexport = \"to-router\"\n"
        )
    };
    let network = |prefix: &str| {
        format!(
            "[[network]]\nprefix = \"{prefix}\"\ncommunities = [\"65001:1\"]\nlarge-communities = [\"65001:1:2\"]\n"
        )
    };
    format!(
        "[global]\nas = {OUR_AS}\nrouter-id = \"10.0.0.1\"\nlisten = [\"0.0.0.0:179\", \"[::]:179\"]\nfib = false\n\
         [[policy]]\nname = \"to-router\"\ndefault = \"reject\"\n\
         [[policy.rule]]\naction = \"accept\"\nsource = \"own\"\nset-med = 77\nprepend = [65077]\n\
         add-communities = [\"65001:3\"]\nadd-large-communities = [\"65001:3:4\"]\n\
         add-extended-communities = [\"rt:65001:5\"]\n\
         [[policy]]\nname = \"from-router\"\ndefault = \"accept\"\n\
         [[policy.rule]]\naction = \"continue\"\nextended-communities = [\"rt:65100:9\"]\n\
         add-communities = [\"65001:109\"]\n\
         {}{}{}{}",
        neighbor(THEIR[0]),
        neighbor(THEIR[1]),
        network(OUR_ROUTES[0]),
        network(OUR_ROUTES[1]),
    )
}

/// A router and we, with both sessions up.
struct Session {
    ours: Bgpd,
    router: Speaker,
    capture: Capture,
    internal: bool,
    kind: Kind,
}

impl Session {
    /// The router shows our routes so.
    fn shown(&self, mark: Mark) {
        for prefix in OUR_ROUTES {
            wait_for(
                &format!("{:?}: {:?} of {prefix}", self.kind, self.router.words(&mark)),
                ROUTE_TIME,
                || self.router.shows(prefix, &mark),
            );
        }
    }

    /// The router's routes have this community here.
    fn has_community(&self, community: &str) {
        for prefix in THEIR_ROUTES {
            wait_for(
                &format!("{:?}: {prefix} with {community}", self.kind),
                ROUTE_TIME,
                || {
                    self.ours
                        .best(prefix)
                        .is_some_and(|route| route.communities.iter().any(|has| has == community))
                },
            );
        }
    }

    fn family(&self, at: usize) {
        let what = |what: &str| format!("{:?}, {}: {what}", self.kind, THEIR[at]);
        wait_for(&what("the session, seen by us"), SESSION_TIME, || {
            self.ours.is_established(THEIR[at])
        });
        wait_for(&what("the session, seen by the router"), SESSION_TIME, || {
            self.router.is_established(at)
        });
        wait_for(&what("its route here"), ROUTE_TIME, || {
            self.ours
                .best(THEIR_ROUTES[at])
                .is_some_and(|route| route.next_hop == THEIR[at])
        });
        wait_for(&what("our route there"), ROUTE_TIME, || {
            self.router.shows(OUR_ROUTES[at], &Mark::NextHop(OUR[at]))
        });
    }

    /// AS_PATH, LOCAL_PREF and ORIGIN are what they must be within an AS, or between two.
    fn ases(&self) {
        for prefix in THEIR_ROUTES {
            let route = self.ours.best(prefix).unwrap();
            let path = if self.internal {
                String::new()
            } else {
                ANOTHER_AS.to_string()
            };
            assert_eq!(
                (route.as_path, route.origin.as_str()),
                (path, "igp"),
                "{:?}",
                self.kind
            );
            assert_eq!(
                route.local_pref,
                if self.internal { 100 } else { 0 },
                "{:?}",
                self.kind
            );
        }
        if self.internal {
            self.shown(Mark::LocalPref(100));
        }
    }

    /// Sessions are between ASes of four octets, which are in AS_PATH where they belong.
    fn four_octet_as(&self) {
        for (at, address) in THEIR.into_iter().enumerate() {
            let peer = self.ours.peer(address).unwrap();
            assert!(peer.local_as == OUR_AS && peer.remote_as > 65535, "{peer:?}");
            assert!(self.router.is_established(at), "{:?}", self.kind);
        }
        self.shown(Mark::Path(if self.internal {
            &[65077]
        } else {
            &[OUR_AS, 65077]
        }));
    }

    /// OpenBGPD 7.7 is asked, counts that, and sends nothing.
    fn counts_our_request(&self, openbgpd: &OpenBgpd) {
        for (at, address) in THEIR.into_iter().enumerate() {
            self.ours.soft_reset(address);
            wait_for("OpenBGPD counts a request", ROUTE_TIME, || {
                let shown = openbgpd.ask(&format!("show neighbor {}", OUR[at]));
                let requests = shown
                    .lines()
                    .find(|line| line.trim_start().starts_with("Request "));
                requests.is_some_and(|line| line.split_whitespace().eq(["Request", "0", "1"]))
            });
        }
    }

    /// One side asks, the other one sends its routes again: marked with their beginning and end, if that was
    /// agreed on.
    fn refreshed(&self, ask: impl Fn(usize), asking: [&str; 2], asked: [&str; 2], marked: bool) {
        for at in 0..2 {
            let before = self.capture.messages().len();
            ask(at);
            let is = |seen: &Seen, from: &str, kind: u8, subtype: u8| {
                (seen.kind, seen.subtype) == (kind, subtype) && from.parse() == Ok(seen.from)
            };
            let done = || {
                let after = self.capture.messages().split_off(before);
                let mut rest = after.iter();
                rest.any(|seen| is(seen, asking[at], ROUTE_REFRESH, REQUEST))
                    && (!marked || rest.any(|seen| is(seen, asked[at], ROUTE_REFRESH, BEGIN)))
                    && rest.any(|seen| is(seen, asked[at], UPDATE, 0))
                    && (!marked || rest.any(|seen| is(seen, asked[at], ROUTE_REFRESH, END)))
            };
            wait_for(
                &format!("{:?}: a refresh of {} for {}", self.kind, asked[at], asking[at]),
                ROUTE_TIME,
                done,
            );
        }
    }

    fn graceful_shutdown(&self) {
        // Theirs: no longer preferred, if it comes from another AS.
        let route = || self.ours.best(THEIR_LEAVING_ROUTE);
        wait_for("the route that leaves", ROUTE_TIME, || route().is_some());
        let expected = if self.internal { 100 } else { 0 };
        let leaving = route().unwrap();
        assert_eq!(
            (leaving.local_pref, leaving.communities),
            (expected, vec!["65535:0".to_owned()]),
            "{:?}",
            self.kind
        );
        // Ours.
        let leaving = Mark::Community(65535, 0);
        self.ours.drain(true);
        self.shown(leaving);
        self.ours.drain(false);
        for prefix in OUR_ROUTES {
            wait_for(&format!("{:?}: no drain any more", self.kind), ROUTE_TIME, || {
                self.router.route(prefix).is_some() && !self.router.shows(prefix, &Mark::Community(65535, 0))
            });
        }
    }

    fn shows(&self, feature: Feature) {
        match feature {
            Feature::Ipv4 => self.family(0),
            Feature::Ipv6 => self.family(1),
            Feature::External | Feature::Internal => self.ases(),
            Feature::FourOctetAs => self.four_octet_as(),
            Feature::Communities => {
                self.has_community("65100:7");
                self.shown(Mark::Community(65001, 1));
            }
            Feature::LargeCommunities => {
                self.has_community("65100:7:8");
                self.shown(Mark::Large(65001, 1, 2));
            }
            Feature::ExtendedCommunities => {
                self.has_community("65001:109");
                self.shown(Mark::RouteTarget(65001, 5));
            }
            Feature::Policy => {
                self.shown(Mark::Med(77));
                self.shown(Mark::Community(65001, 3));
                self.shown(Mark::Large(65001, 3, 4));
            }
            Feature::RefreshByUs => match &self.router {
                Speaker::OpenBgpd(openbgpd) => self.counts_our_request(openbgpd),
                _ => {
                    let marked = Feature::EnhancedRefreshByUs.is_shown_by(self.kind);
                    self.refreshed(|at| self.ours.soft_reset(THEIR[at]), OUR, THEIR, marked);
                }
            },
            Feature::RefreshByThem => {
                let marked = Feature::EnhancedRefreshByThem.is_shown_by(self.kind);
                self.refreshed(|at| self.router.refresh(at), THEIR, OUR, marked);
            }
            Feature::GracefulShutdown => self.graceful_shutdown(),
            other => unreachable!("{other:?} has a test of its own"),
        }
    }
}

/// What sessions show, in this order; the last ones change something.
const SHOWN: [Feature; 10] = [
    Feature::Ipv4,
    Feature::Ipv6,
    Feature::FourOctetAs,
    Feature::Communities,
    Feature::LargeCommunities,
    Feature::ExtendedCommunities,
    Feature::Policy,
    Feature::RefreshByUs,
    Feature::RefreshByThem,
    Feature::GracefulShutdown,
];

fn sessions(kind: Kind, peer_as: u32, first: Feature) {
    let (a, b) = Netns::pair();
    let directory = tempfile::tempdir().unwrap();
    let capture = Capture::start(&a, directory.path());
    let router = kind.start(&b, directory.path(), &Setup::new(peer_as));
    let ours = Bgpd::start(&a, directory.path(), &our_config(peer_as), "");
    let session = Session {
        ours,
        router,
        capture,
        internal: peer_as == OUR_AS,
        kind,
    };
    for feature in SHOWN.into_iter().chain([first]) {
        if feature.is_shown_by(kind) {
            session.shows(feature);
        }
    }
    for (at, address) in THEIR.into_iter().enumerate() {
        let peer = session.ours.peer(address).unwrap();
        assert_eq!((peer.state.as_str(), peer.flaps), ("Established", 0), "{kind:?}");
        assert!(session.router.is_established(at), "{kind:?}");
    }
    // The NOTIFICATION of the end as well.
    let Session {
        ours,
        capture,
        router,
        ..
    } = session;
    let mut process = ours.process;
    process.signal("TERM");
    assert!(process.ended(Duration::from_secs(10)), "{kind:?}");
    wait_for(&format!("{kind:?}: the end of the sessions"), ROUTE_TIME, || {
        !router.is_established(0) && !router.is_established(1)
    });
    capture.has_no_remarks("bgp", &OUR);
}

#[test]
pub(super) fn external() {
    each(Feature::External, |kind| {
        sessions(kind, ANOTHER_AS, Feature::External)
    });
}

#[test]
pub(super) fn internal() {
    each(Feature::Internal, |kind| {
        sessions(kind, OUR_AS, Feature::Internal)
    });
}
