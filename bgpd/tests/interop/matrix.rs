//! Which router shows which feature with us: every cell is a test that is run, or says why it cannot be. The
//! matrix is the table of `docs/bgp-interop.md`.

mod dampening;
mod defaults;
mod limits;
mod next_hops;
mod restarts;
mod security;
mod sessions;
mod setup;
mod speakers;

use std::fmt::Write;

use speakers::Kind;

/// The rows of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    Ipv4,
    Ipv6,
    External,
    Internal,
    FourOctetAs,
    Communities,
    LargeCommunities,
    ExtendedCommunities,
    Policy,
    RefreshByUs,
    RefreshByThem,
    EnhancedRefreshByUs,
    EnhancedRefreshByThem,
    GracefulShutdown,
    DefaultOriginate,
    Dampening,
    ExtendedMessages,
    AddPath,
    TheyHelp,
    WeHelp,
    LongLived,
    OurLimit,
    TheirLimit,
    OurReason,
    TheirReason,
    Md5,
    LinkOnly,
    Roles,
    Bfd,
    Ipv4OverIpv6,
    Unnumbered,
}

impl Feature {
    const ALL: [Self; 31] = [
        Self::Ipv4,
        Self::Ipv6,
        Self::External,
        Self::Internal,
        Self::FourOctetAs,
        Self::Communities,
        Self::LargeCommunities,
        Self::ExtendedCommunities,
        Self::Policy,
        Self::RefreshByUs,
        Self::RefreshByThem,
        Self::EnhancedRefreshByUs,
        Self::EnhancedRefreshByThem,
        Self::GracefulShutdown,
        Self::DefaultOriginate,
        Self::Dampening,
        Self::ExtendedMessages,
        Self::AddPath,
        Self::TheyHelp,
        Self::WeHelp,
        Self::LongLived,
        Self::OurLimit,
        Self::TheirLimit,
        Self::OurReason,
        Self::TheirReason,
        Self::Md5,
        Self::LinkOnly,
        Self::Roles,
        Self::Bfd,
        Self::Ipv4OverIpv6,
        Self::Unnumbered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4 routes over IPv4",
            Self::Ipv6 => "IPv6 routes over IPv6",
            Self::External => "eBGP",
            Self::Internal => "iBGP",
            Self::FourOctetAs => "four-octet AS numbers (RFC 6793)",
            Self::Communities => "communities (RFC 1997), both ways",
            Self::LargeCommunities => "large communities (RFC 8092), both ways",
            Self::ExtendedCommunities => "extended communities (RFC 4360), both ways",
            Self::Policy => "what our policy sets: MED, AS_PATH, communities",
            Self::RefreshByUs => "route refresh (RFC 2918), asked for by us",
            Self::RefreshByThem => "route refresh, asked for by the router",
            Self::EnhancedRefreshByUs => "enhanced refresh (RFC 7313), its answer",
            Self::EnhancedRefreshByThem => "enhanced refresh, our answer",
            Self::GracefulShutdown => "graceful shutdown (RFC 8326), both ways",
            Self::DefaultOriginate => "a default route that we do not have (default-originate)",
            Self::Dampening => "dampening of the router's routes (RFC 2439)",
            Self::ExtendedMessages => "a route that needs an extended message (RFC 8654)",
            Self::AddPath => "add-path (RFC 7911), both ways",
            Self::TheyHelp => "graceful restart (RFC 4724): our crash, the router helps",
            Self::WeHelp => "graceful restart: the router's crash, we help",
            Self::LongLived => "long-lived graceful restart (RFC 9494), both ways",
            Self::OurLimit => "our limit of prefixes (RFC 4486)",
            Self::TheirLimit => "the router's limit of prefixes",
            Self::OurReason => "shutdown communication (RFC 9003) from us",
            Self::TheirReason => "shutdown communication from the router",
            Self::Md5 => "TCP MD5 (RFC 2385), right and wrong keys",
            Self::LinkOnly => "TTL security (RFC 5082), kept and not kept",
            Self::Roles => "roles and OTC (RFC 9234), right and wrong",
            Self::Bfd => "BFD (RFC 5880)",
            Self::Ipv4OverIpv6 => "IPv4 routes with IPv6 next hops (RFC 8950), both ways",
            Self::Unnumbered => "a neighbour known by its interface alone",
        }
    }

    /// Whether a router shows it in a test of this matrix.
    fn is_shown_by(self, kind: Kind) -> bool {
        matches!(cell(self, kind), Cell::Shown(test) if test.starts_with("matrix::"))
    }
}

/// What there is where a feature and a router meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// The test that shows it.
    Shown(&'static str),
    /// Why it cannot be shown.
    Lacks(&'static str),
}

/// The name of a test, as `--list` has it.
fn shown<T: Fn()>(_test: T) -> Cell {
    let name = std::any::type_name::<T>();
    Cell::Shown(name.split_once("::").map_or(name, |(_binary, rest)| rest))
}

fn cell(feature: Feature, kind: Kind) -> Cell {
    use Cell::Lacks;
    match (feature, kind) {
        (Feature::Internal, _) => shown(sessions::internal),
        (Feature::RefreshByThem, Kind::GoBgp) => Lacks("keeps what it has received, and never asks"),
        (Feature::EnhancedRefreshByUs | Feature::EnhancedRefreshByThem, Kind::GoBgp) => {
            Lacks("does not offer it")
        }
        (Feature::EnhancedRefreshByUs, Kind::OpenBgpd) => Lacks("counts a request, but sends nothing"),
        (Feature::RefreshByUs, Kind::ExaBgp) => shown(crate::refresh::exabgp_answers_plain_requests),
        (Feature::EnhancedRefreshByUs, Kind::ExaBgp) => {
            Lacks("fails at its answer (TypeError) where RFC 7313 is agreed on, and it always offers that")
        }
        (
            Feature::Ipv4
            | Feature::Ipv6
            | Feature::External
            | Feature::FourOctetAs
            | Feature::Communities
            | Feature::LargeCommunities
            | Feature::ExtendedCommunities
            | Feature::Policy
            | Feature::RefreshByUs
            | Feature::RefreshByThem
            | Feature::EnhancedRefreshByUs
            | Feature::EnhancedRefreshByThem
            | Feature::GracefulShutdown,
            _,
        ) => shown(sessions::external),
        (Feature::DefaultOriginate, _) => shown(defaults::originated),
        (Feature::Dampening, _) => shown(dampening::routes_that_flap),
        (Feature::ExtendedMessages, Kind::GoBgp | Kind::OpenBgpd) => Lacks("does not offer them"),
        (Feature::ExtendedMessages, _) => shown(limits::long_messages),
        (Feature::AddPath, Kind::Bird) => shown(crate::addpath::bird_with_add_paths),
        (Feature::AddPath, Kind::Frr) => shown(crate::addpath::frr_with_addpath_tx_all_paths),
        (Feature::AddPath, Kind::GoBgp) => shown(crate::addpath::gobgp_with_add_paths),
        (Feature::AddPath, Kind::OpenBgpd) => shown(crate::addpath::openbgpd_with_add_paths),
        (Feature::AddPath, Kind::ExaBgp) => shown(crate::addpath::exabgp_with_add_paths),
        (Feature::TheyHelp, Kind::ExaBgp) => Lacks("has no table to keep routes in"),
        (Feature::TheyHelp, _) => shown(restarts::they_keep_our_routes),
        (Feature::WeHelp, Kind::OpenBgpd) => Lacks("offers to help alone"),
        (Feature::WeHelp, _) => shown(restarts::we_keep_their_routes),
        (Feature::LongLived, Kind::OpenBgpd | Kind::ExaBgp) => Lacks("does not have it"),
        (Feature::LongLived, _) => shown(restarts::routes_live_long),
        (Feature::OurLimit, _) => shown(limits::ours),
        (Feature::TheirLimit, Kind::ExaBgp) => Lacks("has no limit"),
        (Feature::TheirLimit, _) => shown(limits::theirs),
        (Feature::OurReason, Kind::ExaBgp) => Lacks("fails at the text: its decoder mixes bytes and str"),
        (Feature::OurReason, _) => shown(limits::our_reason),
        (Feature::TheirReason, Kind::ExaBgp) => Lacks("sends no text"),
        (Feature::TheirReason, _) => shown(limits::their_reason),
        (Feature::Md5, _) => shown(security::keys),
        (Feature::LinkOnly, _) => shown(security::only_the_link),
        (Feature::Roles, Kind::GoBgp | Kind::ExaBgp) => Lacks("does not have them"),
        (Feature::Roles, _) => shown(security::roles),
        (Feature::Bfd, Kind::Bird) => shown(crate::bfd::bird_single_hop),
        (Feature::Bfd, Kind::Frr) => shown(crate::bfd::frr_single_hop),
        (Feature::Bfd, _) => Lacks("does not have it"),
        (Feature::Ipv4OverIpv6, Kind::Bird) | (Feature::Unnumbered, Kind::Bird) => {
            shown(crate::link::bird_connects_to_a_neighbor_known_by_interface)
        }
        (Feature::Ipv4OverIpv6, Kind::Frr) | (Feature::Unnumbered, Kind::Frr) => {
            shown(crate::link::frr_unnumbered)
        }
        (Feature::Ipv4OverIpv6, Kind::GoBgp) => {
            shown(crate::link::gobgp_takes_and_sends_ipv4_routes_over_ipv6)
        }
        (Feature::Ipv4OverIpv6, Kind::OpenBgpd) => Lacks("does not have it"),
        (Feature::Ipv4OverIpv6, Kind::ExaBgp) => shown(next_hops::exabgp_over_ipv6),
        (Feature::Unnumbered, Kind::GoBgp) => shown(next_hops::gobgp_unnumbered),
        (Feature::Unnumbered, Kind::OpenBgpd | Kind::ExaBgp) => {
            Lacks("takes no addresses with an interface, and no interfaces, for neighbours")
        }
    }
}

/// Runs a test with each router that has the feature, all at once.
fn each(feature: Feature, run: impl Fn(Kind) + Sync) {
    std::thread::scope(|scope| {
        for kind in Kind::ALL.into_iter().filter(|kind| feature.is_shown_by(*kind)) {
            let run = &run;
            let thread = std::thread::Builder::new().name(kind.name().to_owned());
            thread.spawn_scoped(scope, move || run(kind)).unwrap();
        }
    });
}

/// The matrix as it is in the documentation.
fn table() -> String {
    let mut text = String::from("| |");
    for kind in Kind::ALL {
        write!(text, " {} |", kind.name()).unwrap();
    }
    text += " test |\n|---|";
    text += &"---|".repeat(Kind::ALL.len() + 1);
    text.push('\n');
    let mut lacks = String::from("| router | what | why not |\n|---|---|---|\n");
    for feature in Feature::ALL {
        write!(text, "| {} |", feature.name()).unwrap();
        let mut tests: Vec<&str> = Vec::new();
        for kind in Kind::ALL {
            match cell(feature, kind) {
                Cell::Shown(test) => {
                    text += " yes |";
                    if !tests.contains(&test) {
                        tests.push(test);
                    }
                }
                Cell::Lacks(why) => {
                    text += " – |";
                    writeln!(lacks, "| {} | {} | {why} |", kind.name(), feature.name()).unwrap();
                }
            }
        }
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        writeln!(text, " {} |", tests.join(", ")).unwrap();
    }
    format!("{text}\n{lacks}")
}

#[test]
fn the_page_has_the_table() {
    let page = include_str!("../../../docs/bgp-interop.md");
    let table = table();
    assert!(
        page.contains(&table),
        "docs/bgp-interop.md should have this:\n\n{table}"
    );
}

/// What a cell names is a test of this binary: it is run, and not left out.
#[test]
fn every_cell_is_run() {
    let list = |option: &[&str]| {
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program)
            .arg("--list")
            .args(option)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let (all, ignored) = (list(&[]), list(&["--ignored"]));
    for feature in Feature::ALL {
        for kind in Kind::ALL {
            if let Cell::Shown(test) = cell(feature, kind) {
                let line = format!("{test}: test");
                assert!(
                    all.lines().any(|listed| listed == line),
                    "{test} of {feature:?} is no test"
                );
                assert!(
                    !ignored.lines().any(|listed| listed == line),
                    "{test} of {feature:?} is not run"
                );
            }
        }
    }
    let names: std::collections::BTreeSet<&str> = Feature::ALL.map(Feature::name).into();
    assert_eq!(names.len(), Feature::ALL.len(), "each feature once");
}
