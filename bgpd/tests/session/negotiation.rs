//! What an OPEN must be (RFC 4271 section 6.2), and what is agreed on.

use std::net::Ipv4Addr;

use bgpd::config::RouteRefreshMode;
use bgpd::session::{Action, Event, Received, Settings, State};
use bgpd::wire::{AddPath, Capabilities, Family, FamilySet, Open};

use crate::bench::{
    Bench, FIRST, SECOND, both, notification_with_data, open, open_with_restart, sent_open, settings, v4,
};

#[test]
fn wrong_opens_are_answered_with_their_fault() {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mp = |families| Capabilities {
        families,
        four_octet_as: Some(65002),
        ..Capabilities::default()
    };
    let v6 = [Family::Ipv6Unicast].into_iter().collect();
    let cases = [
        ("AS", settings(), Open { asn: 65009, ..open() }, (2, 2, vec![])),
        (
            "router id 0",
            settings(),
            Open {
                router_id: zero,
                ..open()
            },
            (2, 3, vec![0, 0, 0, 0]),
        ),
        (
            "hold time 1",
            settings(),
            Open {
                hold_time_s: 1,
                ..open()
            },
            (2, 6, vec![]),
        ),
        (
            "hold time 2",
            settings(),
            Open {
                hold_time_s: 2,
                ..open()
            },
            (2, 6, vec![]),
        ),
        (
            "no common family",
            Settings {
                families: v4(),
                ..settings()
            },
            Open {
                capabilities: mp(v6),
                ..open()
            },
            (2, 7, vec![1, 4, 0, 1, 0, 1]),
        ),
        (
            "our router id in our AS",
            Settings {
                remote_as: 65001.into(),
                ..settings()
            },
            Open {
                asn: 65001,
                router_id: settings().router_id,
                ..open()
            },
            (2, 3, vec![10, 0, 0, 1]),
        ),
    ];
    for (name, settings, open, expected) in cases {
        let mut bench = Bench::open_sent(settings);
        let actions = bench.receive(FIRST, Received::Open(open));
        assert_eq!(notification_with_data(&actions), expected, "{name}");
        assert_eq!(bench.state(), State::Idle, "{name}");
    }
    // RFC 6286: between two ASes, equal identifiers are allowed.
    Bench::open_confirm(
        settings(),
        Open {
            router_id: settings().router_id,
            ..open()
        },
    );
}

/// RFC 8950 section 4.
#[test]
fn extended_next_hops_are_for_both_or_none() {
    for (ours, theirs, families, agreed) in [
        (true, true, both(), true),
        (true, false, both(), false),
        (false, true, both(), false),
        (true, true, [Family::Ipv6Unicast].into_iter().collect(), false),
    ] {
        let settings = Settings {
            families: both(),
            extended_next_hop: ours,
            ..settings()
        };
        let extended = if theirs { v4() } else { Default::default() };
        let capabilities = Capabilities {
            families,
            extended_next_hop: extended,
            four_octet_as: Some(65002),
            ..Capabilities::default()
        };
        let bench = Bench::established(
            settings,
            Open {
                capabilities,
                ..open()
            },
        );
        let codec = bench.session.negotiated().unwrap().codec;
        let expected = if agreed { v4() } else { Default::default() };
        assert_eq!(codec.extended_next_hop, expected, "{ours} {theirs}");
    }
}

#[test]
fn what_both_offer_is_agreed_on() {
    let capabilities = Capabilities {
        families: v4(),
        route_refresh: true,
        extended_message: true,
        four_octet_as: Some(65002),
        ..Capabilities::default()
    };
    let bench = Bench::established(
        settings(),
        Open {
            capabilities,
            hold_time_s: 30,
            ..open()
        },
    );
    let agreed = bench.session.negotiated().unwrap();
    assert_eq!((agreed.codec.families, agreed.codec.four_octet_as), (v4(), true));
    assert!(agreed.codec.extended_message && agreed.codec.external && agreed.route_refresh);
    assert_eq!((agreed.hold_time.as_secs(), agreed.keepalive.as_secs()), (30, 10));
    assert_eq!(
        (agreed.remote_id, agreed.remote_as),
        (Ipv4Addr::new(10, 0, 0, 2), 65002)
    );

    // A speaker of before 1995 offers nothing, which means IPv4 and short AS numbers.
    let bench = Bench::established(
        settings(),
        Open {
            capabilities: Capabilities::default(),
            ..open()
        },
    );
    let agreed = bench.session.negotiated().unwrap();
    assert_eq!(agreed.codec.families, v4());
    assert!(!agreed.codec.four_octet_as && !agreed.codec.extended_message && !agreed.route_refresh);
}

/// RFC 4724: R after a restart until it is complete, F where forwarding goes on.
#[test]
fn our_open_tells_of_our_restart() {
    let restart_of = |settings: Settings| {
        let mut bench = Bench::started(settings);
        let actions = bench.handle(Event::Connected(FIRST));
        sent_open(&actions).capabilities.graceful_restart.clone().unwrap()
    };
    let cold = restart_of(settings());
    assert!(!cold.restarted && cold.preserved.is_empty());
    assert_eq!((cold.families, cold.restart_time_s), (both(), 120));
    let warm = restart_of(Settings {
        restarting: true,
        ..settings()
    });
    assert!(warm.restarted && warm.preserved == both());
    let lost = restart_of(Settings {
        restarting: true,
        forwarding_preserved: false,
        ..settings()
    });
    assert!(lost.restarted && lost.preserved.is_empty());

    let mut bench = Bench::established(
        Settings {
            restarting: true,
            ..settings()
        },
        open_with_restart(),
    );
    bench.handle(Event::RestartComplete);
    bench.handle(Event::Closed(FIRST, "cut".to_owned()));
    bench.next_timer();
    let actions = bench.handle(Event::Connected(SECOND));
    let again = sent_open(&actions).capabilities.graceful_restart.clone().unwrap();
    assert!(!again.restarted, "complete");
    assert_eq!(again.preserved, both(), "only the connection was lost");
}

#[test]
fn our_open_offers_what_is_configured() {
    let mut bench = Bench::started(Settings {
        local_as: 4_200_000_001,
        families: v4(),
        ..settings()
    });
    let actions = bench.handle(Event::Connected(FIRST));
    assert!(matches!(actions.as_slice(), [Action::Send(FIRST, _)]));
    let open = sent_open(&actions);
    assert_eq!(
        (open.asn, open.hold_time_s, open.router_id),
        (4_200_000_001, 90, settings().router_id)
    );
    assert_eq!(open.capabilities.four_octet_as, Some(4_200_000_001));
    assert_eq!(open.capabilities.families, v4());
    assert!(open.capabilities.route_refresh && open.capabilities.extended_message);
}

/// RFC 7911 section 4: for each family and direction, both ends must want it.
#[test]
fn path_identifiers_go_where_one_end_sends_and_the_other_takes_them() {
    let set = |families: &[Family]| families.iter().copied().collect::<FamilySet>();
    let (v4, v6) = (&[Family::Ipv4Unicast][..], &[Family::Ipv6Unicast][..]);
    let none: &[Family] = &[];
    let all = &Family::ALL[..];
    // What we offer to take and to send, what it offers, and what is taken and sent.
    let cases = [
        ((all, all), (all, all), (all, all)),
        ((all, none), (none, all), (all, none)),
        ((all, none), (all, none), (none, none)),
        ((v4, v6), (v6, v4), (v4, v6)),
        ((v4, v6), (v4, v6), (none, none)),
        ((all, all), (v6, none), (none, v6)),
        ((none, none), (all, all), (none, none)),
    ];
    for ((receive, send), (their_receive, their_send), (taken, sent)) in cases {
        let settings = Settings {
            families: both(),
            add_path: AddPath {
                receive: set(receive),
                send: set(send),
            },
            ..settings()
        };
        let mut theirs = open();
        theirs.capabilities.families = both();
        theirs.capabilities.add_path = AddPath {
            receive: set(their_receive),
            send: set(their_send),
        };
        let bench = Bench::established(settings, theirs);
        let codec = bench.session.negotiated().unwrap().codec;
        assert_eq!(
            (codec.add_path_receive, codec.add_path_send),
            (set(taken), set(sent))
        );
    }
}

/// RFC 2918 section 4, RFC 7313 section 4: what is not offered is not used either.
#[test]
fn of_route_refresh_as_much_is_offered_as_is_wanted() {
    let mut theirs = open();
    theirs.capabilities.route_refresh = true;
    theirs.capabilities.enhanced_route_refresh = true;
    for (mode, plain, enhanced) in [
        (RouteRefreshMode::Off, false, false),
        (RouteRefreshMode::Plain, true, false),
        (RouteRefreshMode::Enhanced, true, true),
    ] {
        let settings = Settings {
            route_refresh: mode,
            ..settings()
        };
        let mut bench = Bench::started(settings.clone());
        let actions = bench.handle(Event::Connected(FIRST));
        let offered = &sent_open(&actions).capabilities;
        assert_eq!(
            (offered.route_refresh, offered.enhanced_route_refresh),
            (plain, enhanced),
            "{mode:?}"
        );
        let bench = Bench::established(settings, theirs.clone());
        let agreed = bench.session.negotiated().unwrap();
        assert_eq!(
            (agreed.route_refresh, agreed.codec.enhanced_route_refresh),
            (plain, enhanced),
            "{mode:?}"
        );
    }
}
