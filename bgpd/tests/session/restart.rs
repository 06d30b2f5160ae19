//! The receiving speaker of graceful restart (RFC 4724 section 4.2, RFC 8538), and what else a session keeps or
//! sheds of its neighbour's routes.

use std::time::Duration;

use bgpd::config::GracefulRestartMode;
use bgpd::session::{Action, Event, Outgoing, Received, STALE_PATH_TIME, Settings, State, StopReason};
use bgpd::wire::{Family, FamilySet, GracefulRestart, LongLivedFamily, Notification, Open, Role};

use crate::bench::{Bench, FIRST, SECOND, both, down, notification, notification_with_data, open, seconds};
use crate::bench::{open_with_restart, sent_open, settings, v4};

fn restarting(preserved: FamilySet, notification: bool) -> Open {
    let mut open = open();
    open.capabilities.graceful_restart = Some(GracefulRestart {
        restarted: true,
        notification,
        restart_time_s: 120,
        families: both(),
        preserved,
    });
    open
}

fn swept(actions: &[Action]) -> FamilySet {
    let sweep = |action: &Action| match action {
        Action::Sweep(families) => Some(*families),
        _ => None,
    };
    actions.iter().find_map(sweep).unwrap_or_default()
}

/// A session with a helper that was lost without a word.
fn lost() -> Bench {
    let mut bench = Bench::established(settings(), open_with_restart());
    let actions = bench.handle(Event::Closed(FIRST, "cut".to_owned()));
    assert_eq!(down(&actions).unwrap().1, both());
    bench
}

/// Brings the session back on connection [`SECOND`].
fn back(bench: &mut Bench, open: Open) -> Vec<Action> {
    bench.handle(Event::Accepted(SECOND));
    bench.receive(SECOND, Received::Open(open));
    let actions = bench.receive(SECOND, Received::Keepalive);
    assert_eq!(bench.state(), State::Established);
    actions
}

#[test]
fn routes_stay_for_the_restart_time() {
    let mut bench = lost();
    assert_eq!(bench.session.retained(), both());
    assert!(swept(&bench.pass(Duration::from_millis(119_999))).is_empty());
    assert_eq!(swept(&bench.pass(Duration::from_millis(1))), both());
    assert!(bench.session.retained().is_empty());
}

#[test]
fn a_neighbor_that_forwarded_on_is_given_time_for_its_table() {
    let mut bench = lost();
    bench.pass(seconds(60));
    assert!(swept(&back(&mut bench, restarting(both(), false))).is_empty());
    bench.receive(SECOND, Received::EndOfRib(Family::Ipv4Unicast));
    let six: FamilySet = [Family::Ipv6Unicast].into_iter().collect();
    assert_eq!(bench.session.retained(), six);
    let mut gone = FamilySet::EMPTY;
    let begin = bench.now;
    while gone.is_empty() {
        bench.receive(SECOND, Received::Keepalive);
        gone = swept(&bench.next_timer().1);
    }
    assert_eq!((gone, bench.now.0 - begin.0), (six, STALE_PATH_TIME));
    assert_eq!(bench.state(), State::Established);
}

/// No F bit for a family, or no capability any more: its routes go as soon as the session is back.
#[test]
fn what_was_not_preserved_goes_at_once() {
    let six: FamilySet = [Family::Ipv6Unicast].into_iter().collect();
    assert_eq!(swept(&back(&mut lost(), restarting(v4(), false))), six);
    assert_eq!(
        swept(&back(&mut lost(), restarting(FamilySet::EMPTY, false))),
        both()
    );
    assert_eq!(swept(&back(&mut lost(), open())), both());
}

/// A neighbour that restarts again before its table is complete is waited for again.
#[test]
fn consecutive_restarts_begin_the_time_anew() {
    let mut bench = lost();
    bench.pass(seconds(100));
    back(&mut bench, restarting(both(), false));
    let actions = bench.handle(Event::Closed(SECOND, "cut again".to_owned()));
    assert_eq!(down(&actions).unwrap().1, both());
    assert!(swept(&bench.pass(seconds(119))).is_empty());
    assert_eq!(swept(&bench.pass(seconds(1))), both());
}

#[test]
fn each_mode_offers_and_keeps_its_part() {
    use GracefulRestartMode::{Both, Helper, Off, Restarter};
    for (mode, offered, kept) in [
        (Off, None, FamilySet::EMPTY),
        (Restarter, Some(both()), FamilySet::EMPTY),
        (Helper, Some(FamilySet::EMPTY), both()),
        (Both, Some(both()), both()),
    ] {
        let settings = Settings {
            graceful_restart: mode,
            ..settings()
        };
        let mut bench = Bench::started(settings.clone());
        let actions = bench.handle(Event::Connected(FIRST));
        let capability = &sent_open(&actions).capabilities.graceful_restart;
        assert_eq!(
            capability.as_ref().map(|restart| restart.families),
            offered,
            "{mode:?}"
        );
        let mut bench = Bench::established(settings, open_with_restart());
        let actions = bench.handle(Event::Closed(FIRST, "cut".to_owned()));
        assert_eq!(down(&actions).unwrap().1, kept, "{mode:?}");
    }
}

/// RFC 4724 section 4 without the N bit, RFC 8538 section 4 with it: which ends of a session keep routes.
#[test]
fn a_notification_keeps_routes_where_both_say_so() {
    type End = fn(&mut Bench) -> Vec<Action>;
    let cases: [(&str, End, bool); 8] = [
        (
            "UPDATE error received",
            |b| b.receive(FIRST, Received::Notification(Notification::new(3, 1))),
            true,
        ),
        (
            "shutdown received",
            |b| b.receive(FIRST, Received::Notification(Notification::new(6, 2))),
            true,
        ),
        (
            "hard reset received",
            |b| b.receive(FIRST, Received::Notification(Notification::new(6, 9))),
            false,
        ),
        (
            "malformed",
            |b| b.handle(Event::Malformed(FIRST, Notification::new(1, 1))),
            true,
        ),
        ("hold timer", |b| b.pass(seconds(90)), true),
        (
            "configuration change",
            |b| b.handle(Event::Stop(StopReason::ConfigurationChange)),
            true,
        ),
        ("shutdown", |b| b.handle(Event::Stop(StopReason::Shutdown)), false),
        (
            "the path failed",
            |b| {
                b.handle(Event::PathFailed {
                    is_control_plane_independent: false,
                })
            },
            false,
        ),
    ];
    for (name, end, survives) in cases {
        for n_bit in [false, true] {
            let mut bench = Bench::established(settings(), restarting(both(), n_bit));
            let actions = end(&mut bench);
            let expected = if survives && n_bit {
                both()
            } else {
                FamilySet::EMPTY
            };
            assert_eq!(down(&actions).expect(name).1, expected, "{name}, N {n_bit}");
        }
    }
}

/// RFC 8538 section 3.1: what is meant for good is a Hard Reset for a neighbour that would keep our routes.
#[test]
fn what_is_meant_for_good_is_a_hard_reset() {
    for (n_bit, expected) in [(true, (6, 9, vec![6, 3])), (false, (6, 3, vec![]))] {
        let mut bench = Bench::established(settings(), restarting(both(), n_bit));
        let actions = bench.handle(Event::Stop(StopReason::Deconfigured));
        assert_eq!(notification_with_data(&actions), expected);
    }
    let mut bench = Bench::established(settings(), restarting(both(), true));
    let actions = bench.handle(Event::Stop(StopReason::ConfigurationChange));
    assert_eq!(
        notification(&actions),
        (6, 6),
        "not for good: routes stay on both sides"
    );
    // What is kept goes with the neighbour.
    assert_eq!(
        swept(&lost().handle(Event::Stop(StopReason::Deconfigured))),
        both()
    );
}

/// RFC 4486 section 4: the data is the family and the limit; then the session waits, or stays down.
#[test]
fn too_many_routes_end_the_session() {
    let passed = |restart| Event::PrefixLimit {
        family: Family::Ipv6Unicast,
        limit: 1000,
        restart,
    };
    let mut bench = Bench::established(settings(), open_with_restart());
    let actions = bench.handle(passed(Some(seconds(60))));
    assert_eq!(
        notification_with_data(&actions),
        (6, 1, vec![0, 2, 1, 0, 0, 3, 232])
    );
    assert_eq!(
        (down(&actions).unwrap().1, bench.state()),
        (FamilySet::EMPTY, State::Idle)
    );
    assert_eq!(bench.handle(Event::Accepted(SECOND)), [Action::Close(SECOND)]);
    let (waited, actions) = bench.next_timer();
    assert_eq!((waited, actions), (seconds(60), vec![Action::Connect]));

    let mut bench = Bench::established(settings(), open());
    bench.handle(passed(None));
    assert_eq!((bench.state(), bench.session.poll_timeout()), (State::Idle, None));
    assert_eq!(notification(&bench.handle(Event::Accepted(SECOND))), (6, 5));
    assert!(
        bench
            .session
            .last_error()
            .unwrap()
            .contains("maximum number of prefixes")
    );
    bench.handle(Event::Stop(StopReason::Reset));
    assert_eq!(
        bench.handle(Event::Start),
        [Action::Connect],
        "an operator has acted"
    );
}

/// RFC 4486 section 4: nothing of the neighbour is kept, whatever was agreed on about restarts.
#[test]
fn a_session_without_room_for_its_routes_ends_for_a_while() {
    let mut bench = Bench::established(settings(), open_with_restart());
    let actions = bench.handle(Event::OutOfResources { restart: seconds(60) });
    assert_eq!(notification_with_data(&actions), (6, 8, vec![]));
    assert_eq!(
        (down(&actions).unwrap().1, bench.state()),
        (FamilySet::EMPTY, State::Idle)
    );
    let (waited, actions) = bench.next_timer();
    assert_eq!((waited, actions), (seconds(60), vec![Action::Connect]));
    // Without a session there is nothing to end.
    assert!(
        bench
            .handle(Event::OutOfResources { restart: seconds(60) })
            .is_empty()
    );
}

/// RFC 9003: both ways.
#[test]
fn a_shutdown_may_say_why() {
    let settings = Settings {
        shutdown_message: Some("Wartung: heute Nacht".to_owned()),
        ..settings()
    };
    for (reason, expected) in [(StopReason::Shutdown, 2), (StopReason::Reset, 4)] {
        let mut bench = Bench::established(settings.clone(), open());
        let actions = bench.handle(Event::Stop(reason));
        let (code, subcode, data) = notification_with_data(&actions);
        assert_eq!((code, subcode), (6, expected));
        let sent = Notification { code, subcode, data };
        assert_eq!(sent.shutdown_communication(), Some("Wartung: heute Nacht"));
        let mut other = Bench::established(self::settings(), open());
        other.receive(FIRST, Received::Notification(sent));
        assert!(
            other
                .session
                .last_error()
                .unwrap()
                .contains("Wartung: heute Nacht")
        );
    }
    let mut bench = Bench::established(settings, open());
    let actions = bench.handle(Event::Stop(StopReason::Deconfigured));
    assert_eq!(
        notification_with_data(&actions),
        (6, 3, vec![]),
        "no place for a text"
    );
}

/// RFC 4271 section 8.2.2: DelayOpenTimer ends with time or with the neighbour's OPEN.
#[test]
fn open_may_be_delayed() {
    let delayed = || Settings {
        delay_open: Some(seconds(10)),
        ..settings()
    };
    let mut bench = Bench::started(delayed());
    assert!(bench.handle(Event::Connected(FIRST)).is_empty());
    assert_eq!(bench.state(), State::Connect);
    let (waited, actions) = bench.next_timer();
    sent_open(&actions);
    assert_eq!((waited, bench.state()), (seconds(10), State::OpenSent));

    let mut bench = Bench::new(Settings {
        passive: true,
        ..delayed()
    });
    bench.handle(Event::Start);
    assert!(bench.handle(Event::Accepted(FIRST)).is_empty());
    assert_eq!(bench.state(), State::Active);
    let actions = bench.receive(FIRST, Received::Open(open()));
    assert!(
        matches!(
            actions.as_slice(),
            [
                Action::Send(FIRST, Outgoing::Open(_)),
                Action::Opened(FIRST, _),
                Action::Send(FIRST, Outgoing::Keepalive)
            ]
        ),
        "{actions:?}"
    );
    assert_eq!(bench.state(), State::OpenConfirm);
    // Anything else before OPEN ends the connection without a word.
    let mut bench = Bench::started(delayed());
    bench.handle(Event::Connected(FIRST));
    assert_eq!(bench.receive(FIRST, Received::Keepalive), [Action::Close(FIRST)]);
}

#[test]
fn other_settings_reach_a_session_without_ending_it() {
    let mut bench = Bench::established(settings(), open());
    let faster = Settings {
        keepalive: Some(seconds(4)),
        ..settings()
    };
    assert!(bench.handle(Event::Configure(Box::new(faster))).is_empty());
    for _ in 0..3 {
        let (waited, actions) = bench.next_timer();
        assert!(waited <= seconds(4), "{waited:?}");
        assert_eq!(actions, [Action::Send(FIRST, Outgoing::Keepalive)]);
    }
    assert_eq!(bench.state(), State::Established);
    // A neighbour that was waited for is connected to.
    let mut bench = Bench::started(Settings {
        passive: true,
        ..settings()
    });
    assert_eq!(
        bench.handle(Event::Configure(Box::new(settings()))),
        [Action::Connect]
    );
    // No helper any more: nothing is kept.
    let off = Settings {
        graceful_restart: GracefulRestartMode::Off,
        ..settings()
    };
    assert_eq!(swept(&lost().handle(Event::Configure(Box::new(off)))), both());
}

/// RFC 9234 section 4.2, table 2, and strict mode.
#[test]
fn roles_must_go_together() {
    use Role::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let roles = [Provider, RouteServer, RouteServerClient, Customer, Peer];
    let allowed = [
        (Provider, Customer),
        (Customer, Provider),
        (RouteServer, RouteServerClient),
        (RouteServerClient, RouteServer),
        (Peer, Peer),
    ];
    let meet = |role, role_strict, theirs| {
        let mut bench = Bench::open_sent(Settings {
            role,
            role_strict,
            ..settings()
        });
        let mut open = open();
        open.capabilities.role = theirs;
        let actions = bench.receive(FIRST, Received::Open(open));
        let fits = bench.state() == State::OpenConfirm;
        if !fits {
            assert_eq!(notification(&actions), (2, 11));
        }
        fits
    };
    for ours in roles {
        for theirs in roles {
            let expected = allowed.contains(&(ours, theirs));
            assert_eq!(
                meet(Some(ours), true, Some(theirs)),
                expected,
                "{ours:?} {theirs:?}"
            );
        }
        assert!(meet(Some(ours), false, None), "silence is allowed");
        assert!(!meet(Some(ours), true, None), "but not where it is strict");
        assert!(meet(None, false, Some(ours)), "without a role of ours");
    }
    let mut bench = Bench::started(Settings {
        role: Some(Customer),
        ..settings()
    });
    let actions = bench.handle(Event::Connected(FIRST));
    assert_eq!(sent_open(&actions).capabilities.role, Some(Customer));
}

/// RFC 9494 section 4.2: after Restart Time, stale routes stay as a last resort, no longer than either side says.
#[test]
fn long_lived_routes_stay_after_the_restart_time() {
    let ours = || Settings {
        long_lived_stale_time: seconds(1000),
        ..settings()
    };
    let theirs = |preserved| {
        let mut open = restarting(both(), false);
        let family = |family, stale_time_s| LongLivedFamily {
            family,
            preserved,
            stale_time_s,
        };
        open.capabilities.long_lived = vec![
            family(Family::Ipv4Unicast, 3000),
            family(Family::Ipv6Unicast, 500),
        ];
        open
    };
    let six: FamilySet = [Family::Ipv6Unicast].into_iter().collect();
    let away = || {
        let mut bench = Bench::established(ours(), theirs(false));
        bench.handle(Event::Closed(FIRST, "cut".to_owned()));
        let actions = bench.pass(seconds(120));
        assert!(actions.contains(&Action::LongLivedStale(both())) && swept(&actions).is_empty());
        bench
    };
    let mut bench = away();
    assert!(swept(&bench.pass(seconds(499))).is_empty());
    assert_eq!(swept(&bench.pass(seconds(1))), six);
    assert!(swept(&bench.pass(seconds(499))).is_empty());
    assert_eq!(swept(&bench.pass(seconds(1))), v4());
    // It is back: with the F bit the time goes on until its table is complete, over another loss too.
    let mut bench = away();
    bench.pass(seconds(400));
    assert!(swept(&back(&mut bench, theirs(true))).is_empty());
    let actions = bench.handle(Event::Closed(SECOND, "cut again".to_owned()));
    assert_eq!(down(&actions).unwrap().1, both());
    assert_eq!(swept(&bench.pass(seconds(100))), six);
    // Without it, what is stale goes.
    assert_eq!(swept(&back(&mut away(), theirs(false))), both());
    // Not asked for here: Restart Time is all there is.
    let mut bench = Bench::established(settings(), theirs(false));
    bench.handle(Event::Closed(FIRST, "cut".to_owned()));
    assert_eq!(swept(&bench.pass(seconds(120))), both());
    // What we offer.
    let mut bench = Bench::started(ours());
    let actions = bench.handle(Event::Connected(FIRST));
    let offered = &sent_open(&actions).capabilities.long_lived;
    assert!(
        offered.len() == 2
            && offered
                .iter()
                .all(|family| family.stale_time_s == 1000 && !family.preserved)
    );
}
