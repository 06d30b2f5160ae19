//! The routers of the matrix: how each is started, told and asked.

use std::path::Path;
use std::time::Duration;

use super::setup::{OUR, Setup, THEIR, THEIR_LEAVING_ROUTE, THEIR_ROUTES};
use crate::net::Netns;
use crate::routers::{Bird, ExaBgp, Frr, GoBgp, OpenBgpd, Router};

/// The columns of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [Self::Bird, Self::Frr, Self::GoBgp, Self::OpenBgpd, Self::ExaBgp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::GoBgp => "GoBGP",
            Self::OpenBgpd => "OpenBGPD",
            Self::ExaBgp => "ExaBGP",
        }
    }

    pub(super) fn start(self, netns: &Netns, directory: &Path, setup: &Setup) -> Speaker {
        match self {
            Self::Bird => Speaker::Bird(Bird::start(netns, directory, &setup.bird())),
            Self::Frr => Speaker::Frr(Frr::start(netns, directory, &setup.frr())),
            Self::GoBgp => {
                let gobgp = GoBgp::start(netns, directory, &setup.gobgp());
                for at in 0..2 {
                    gobgp.ask(&gobgp_announces(at));
                }
                gobgp.ask(&format!(
                    "global rib add -a ipv4 {THEIR_LEAVING_ROUTE} origin igp nexthop {} community 65535:0",
                    THEIR[0]
                ));
                Speaker::GoBgp(gobgp)
            }
            Self::OpenBgpd => Speaker::OpenBgpd(OpenBgpd::start(netns, directory, &setup.openbgpd())),
            Self::ExaBgp => Speaker::ExaBgp(ExaBgp::start(netns, directory, &setup.exabgp())),
        }
    }

    /// Starts it again after it was killed, as the router that restarts gracefully.
    pub(super) fn start_again(self, netns: &Netns, directory: &Path, setup: &Setup) -> Speaker {
        match self {
            Self::Bird => Speaker::Bird(Bird::start_with(netns, directory, &setup.bird(), "-R")),
            _ => self.start(netns, directory, setup),
        }
    }
}

/// The command that announces its route of a family with marks.
fn gobgp_announces(at: usize) -> String {
    let marks = "community 65100:7 large-community 65100:7:8 rt 65100:9";
    let family = ["ipv4", "ipv6"][at];
    let (prefix, next_hop) = (THEIR_ROUTES[at], THEIR[at]);
    format!("global rib add -a {family} {prefix} origin igp nexthop {next_hop} {marks}")
}

pub(super) enum Speaker {
    Bird(Bird),
    Frr(Frr),
    GoBgp(GoBgp),
    OpenBgpd(OpenBgpd),
    ExaBgp(ExaBgp),
}

/// Something of a route that a router shows in words of its own.
pub(super) enum Mark {
    Path(&'static [u32]),
    Med(u32),
    LocalPref(u32),
    NextHop(&'static str),
    Community(u16, u16),
    Large(u32, u32, u32),
    RouteTarget(u16, u32),
    LongLivedStale,
    /// ONLY_TO_CUSTOMER.
    Otc(u32),
}

fn joined<T: ToString>(numbers: &[T], between: &str) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(between)
}

impl Speaker {
    fn as_router(&self) -> &dyn Router {
        match self {
            Self::Bird(router) => router,
            Self::Frr(router) => router,
            Self::GoBgp(router) => router,
            Self::OpenBgpd(router) => router,
            Self::ExaBgp(router) => router,
        }
    }

    pub(super) fn is_established(&self, at: usize) -> bool {
        self.as_router().is_established(OUR[at])
    }

    pub(super) fn route(&self, prefix: &str) -> Option<String> {
        self.as_router().route(prefix)
    }

    /// Whether it shows the route so.
    pub(super) fn shows(&self, prefix: &str, mark: &Mark) -> bool {
        self.route(prefix)
            .is_some_and(|shown| shown.contains(&self.words(mark)))
    }

    /// The mark, as this router writes it.
    pub(super) fn words(&self, mark: &Mark) -> String {
        match self {
            Self::Bird(_) => match mark {
                Mark::Path(path) => format!("BGP.as_path: {}\n", joined(path, " ")),
                Mark::Med(med) => format!("BGP.med: {med}\n"),
                Mark::LocalPref(preference) => format!("BGP.local_pref: {preference}\n"),
                Mark::NextHop(address) => format!("BGP.next_hop: {address}"),
                Mark::Community(high, low) => format!("({high},{low})"),
                Mark::Large(a, b, c) => format!("({a}, {b}, {c})"),
                Mark::RouteTarget(high, low) => format!("(rt, {high}, {low})"),
                Mark::LongLivedStale => "(65535,6)".to_owned(),
                Mark::Otc(asn) => format!("BGP.otc: {asn}\n"),
            },
            Self::Frr(_) => match mark {
                Mark::Path(path) => format!("  {}\n", joined(path, " ")),
                Mark::Med(med) => format!("metric {med},"),
                Mark::LocalPref(preference) => format!("localpref {preference},"),
                Mark::NextHop(address) => format!("  {address} from "),
                Mark::Community(65535, 0) => "graceful-shutdown".to_owned(),
                Mark::Community(high, low) => format!("{high}:{low}"),
                Mark::Large(a, b, c) => format!("{a}:{b}:{c}"),
                Mark::RouteTarget(high, low) => format!("RT:{high}:{low}"),
                Mark::LongLivedStale => "llgr-stale".to_owned(),
                Mark::Otc(asn) => format!("otc {asn}"),
            },
            Self::GoBgp(_) => match mark {
                Mark::Path(path) => format!("  {}  ", joined(path, " ")),
                Mark::Med(med) => format!("{{Med: {med}}}"),
                Mark::LocalPref(preference) => format!("{{LocalPref: {preference}}}"),
                Mark::NextHop(address) => format!(" {address} "),
                Mark::Community(65535, 0) => "planned-shut".to_owned(),
                Mark::Community(high, low) => format!("{high}:{low}"),
                Mark::Large(a, b, c) => format!("{a}:{b}:{c}"),
                Mark::RouteTarget(high, low) => format!("{high}:{low}"),
                Mark::LongLivedStale => "llgr-stale".to_owned(),
                Mark::Otc(_) => "GoBGP has no OTC".to_owned(),
            },
            Self::OpenBgpd(_) => match mark {
                Mark::Path(path) => format!("    {}\n", joined(path, " ")),
                Mark::Med(med) => format!("metric {med},"),
                Mark::LocalPref(preference) => format!("localpref {preference},"),
                Mark::NextHop(address) => format!("Nexthop {address} "),
                Mark::Community(65535, 0) => "GRACEFUL_SHUTDOWN".to_owned(),
                Mark::Community(high, low) => format!("{high}:{low}"),
                Mark::Large(a, b, c) => format!("{a}:{b}:{c}"),
                Mark::RouteTarget(high, low) => format!("rt {high}:{low}"),
                Mark::LongLivedStale => "OpenBGPD keeps nothing long".to_owned(),
                Mark::Otc(asn) => format!("OTC: {asn}"),
            },
            Self::ExaBgp(_) => match mark {
                Mark::Path(path) => format!("\"as-path\":[{}]", joined(path, ",")),
                Mark::Med(med) => format!("\"med\":{med}"),
                Mark::LocalPref(preference) => format!("\"local-preference\":{preference}"),
                Mark::NextHop(address) => format!("\"{address}\":["),
                Mark::Community(high, low) => format!("[{high},{low}]"),
                Mark::Large(a, b, c) => format!("[{a},{b},{c}]"),
                Mark::RouteTarget(high, low) => format!("target:{high}:{low}"),
                Mark::LongLivedStale => "[65535,6]".to_owned(),
                Mark::Otc(_) => "ExaBGP has no OTC".to_owned(),
            },
        }
    }

    /// Asks us for our routes once more.
    pub(super) fn refresh(&self, at: usize) {
        let peer = OUR[at];
        let family = ["ipv4", "ipv6"][at];
        match self {
            Self::Bird(bird) => {
                bird.ask_writing(&format!("reload in {}", ["four", "six"][at]));
            }
            Self::Frr(frr) => {
                frr.ask(&format!("clear bgp {family} {peer} soft in"));
            }
            // It has what it received, and judges that again.
            Self::GoBgp(_) => unreachable!("GoBGP never asks"),
            Self::OpenBgpd(openbgpd) => {
                openbgpd.ask(&format!("neighbor {peer} refresh"));
            }
            Self::ExaBgp(exabgp) => {
                exabgp.say(&format!(
                    "neighbor {peer} announce route-refresh {family} unicast"
                ));
            }
        }
    }

    /// Withdraws the first of its routes.
    pub(super) fn retract(&self) {
        let [prefix, _] = THEIR_ROUTES;
        match self {
            Self::Bird(bird) => {
                bird.ask_writing("disable static1");
            }
            Self::Frr(frr) => {
                frr.configure(&["address-family ipv4 unicast", &format!("no network {prefix}")])
            }
            Self::GoBgp(gobgp) => {
                gobgp.ask(&format!("global rib del -a ipv4 {prefix}"));
            }
            Self::OpenBgpd(openbgpd) => {
                openbgpd.ask(&format!("network delete {prefix}"));
            }
            Self::ExaBgp(exabgp) => {
                exabgp.say(&format!(
                    "neighbor {} withdraw route {prefix} next-hop self",
                    OUR[0]
                ));
            }
        }
    }

    /// Announces it again.
    pub(super) fn announce(&self) {
        let [prefix, _] = THEIR_ROUTES;
        match self {
            Self::Bird(bird) => {
                bird.ask_writing("enable static1");
            }
            Self::Frr(frr) => frr.configure(&["address-family ipv4 unicast", &format!("network {prefix}")]),
            Self::GoBgp(gobgp) => {
                gobgp.ask(&gobgp_announces(0));
            }
            Self::OpenBgpd(openbgpd) => {
                openbgpd.ask(&format!("network add {prefix}"));
            }
            Self::ExaBgp(exabgp) => {
                exabgp.say(&format!(
                    "neighbor {} announce route {prefix} next-hop self",
                    OUR[0]
                ));
            }
        }
    }

    /// Ends the session on purpose, and says why.
    pub(super) fn shut_down(&self, at: usize, text: &str) {
        let peer = OUR[at];
        match self {
            Self::Bird(bird) => {
                bird.ask_writing(&format!("disable {} \"{text}\"", ["four", "six"][at]));
            }
            Self::Frr(frr) => frr.configure(&[&format!("neighbor {peer} shutdown message {text}")]),
            Self::GoBgp(gobgp) => {
                gobgp.ask(&format!("neighbor {peer} shutdown --reason {text}"));
            }
            Self::OpenBgpd(openbgpd) => {
                openbgpd.ask(&format!("neighbor {peer} down {text}"));
            }
            Self::ExaBgp(_) => unreachable!("ExaBGP says nothing of why"),
        }
    }

    /// What it has written, NOTIFICATIONs from us among it.
    pub(super) fn log(&self) -> String {
        match self {
            Self::Bird(bird) => bird.log(),
            Self::Frr(frr) => frr.log(),
            Self::GoBgp(gobgp) => gobgp.log(),
            Self::OpenBgpd(openbgpd) => openbgpd.log(),
            Self::ExaBgp(exabgp) => exabgp.log(),
        }
    }
}

/// How long a session, and a route over it, may take to come.
pub(super) const SESSION_TIME: Duration = Duration::from_secs(30);
pub(super) const ROUTE_TIME: Duration = Duration::from_secs(15);
