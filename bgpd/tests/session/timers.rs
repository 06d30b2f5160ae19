//! Every timer of the session.

use std::time::Duration;

use bgpd::session::{
    Action, CONNECT_TIME, Event, OPEN_HOLD_TIME, Outgoing, RETRY_TIME_MAX, Received, SEND_HOLD_TIME_MIN,
    Settings, State,
};

use crate::bench::{Bench, FIRST, down, notification, open, seconds, settings};

/// ConnectRetryTimer, in Connect and in Active.
#[test]
fn attempts_are_bounded_in_time_and_distance() {
    let mut bench = Bench::started(settings());
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (waited, actions) = bench.next_timer();
        assert_eq!((waited, actions), (CONNECT_TIME, vec![Action::AbortConnect]));
        assert_eq!(
            (bench.state(), bench.session.last_error()),
            (State::Active, Some("connect: no answer"))
        );
        let (waited, actions) = bench.next_timer();
        assert_eq!((bench.state(), actions), (State::Connect, vec![Action::Connect]));
        assert!((seconds(1)..=RETRY_TIME_MAX).contains(&waited), "{waited:?}");
        waits.push(waited);
    }
    assert!(waits[0] < Duration::from_millis(1500), "soon at first: {waits:?}");
    assert!(
        waits[4..].iter().all(|wait| *wait >= RETRY_TIME_MAX * 3 / 4),
        "backing off: {waits:?}"
    );
    assert!(
        waits[4..].windows(2).any(|pair| pair[0] != pair[1]),
        "with jitter: {waits:?}"
    );
}

#[test]
fn a_session_that_held_begins_with_short_waits_again() {
    let mut bench = Bench::started(settings());
    for _ in 0..5 {
        bench.handle(Event::ConnectFailed("refused".to_owned()));
        bench.next_timer();
    }
    bench.handle(Event::Connected(FIRST));
    bench.receive(FIRST, Received::Open(open()));
    bench.receive(FIRST, Received::Keepalive);
    bench.pass(seconds(20));
    bench.handle(Event::Closed(FIRST, "gone".to_owned()));
    let (waited, _) = bench.next_timer();
    assert!(waited < Duration::from_millis(1500), "{waited:?}");
}

#[test]
fn a_session_that_fails_at_once_backs_off() {
    let mut bench = Bench::started(settings());
    let mut last = Duration::ZERO;
    for round in 0..4 {
        let id = bgpd::session::ConnectionId(10 + round);
        bench.handle(Event::Connected(id));
        bench.receive(id, Received::Open(open()));
        bench.receive(id, Received::Keepalive);
        bench.handle(Event::Malformed(id, bgpd::wire::Notification::new(3, 1)));
        assert_eq!(bench.state(), State::Idle);
        (last, _) = bench.next_timer();
    }
    assert!(last >= RETRY_TIME_MAX * 3 / 4, "{last:?}");
}

/// HoldTimer in OpenSent: four minutes.
#[test]
fn a_silent_connection_ends_after_the_open_hold_time() {
    let mut bench = Bench::open_sent(settings());
    let (waited, actions) = bench.next_timer();
    assert_eq!((waited, notification(&actions)), (OPEN_HOLD_TIME, (4, 0)));
    assert_eq!(bench.state(), State::Idle);
}

#[test]
fn the_hold_timer_ends_open_confirm_and_established() {
    for mut bench in [
        Bench::open_confirm(settings(), open()),
        Bench::established(settings(), open()),
    ] {
        let before = bench.pass(Duration::from_millis(89_999));
        assert!(
            before
                .iter()
                .all(|action| matches!(action, Action::Send(_, Outgoing::Keepalive)))
        );
        let was = bench.state();
        let actions = bench.pass(Duration::from_millis(1));
        assert_eq!(notification(&actions), (4, 0));
        assert_eq!(down(&actions).is_some(), was == State::Established);
    }
}

#[test]
fn what_comes_in_starts_the_hold_timer_again() {
    let mut bench = Bench::established(settings(), open());
    for message in [Received::Keepalive, Received::Update, Received::RouteRefresh] {
        bench.pass(seconds(80));
        bench.receive(FIRST, message);
    }
    bench.pass(seconds(80));
    assert_eq!(bench.state(), State::Established);
    bench.pass(seconds(10));
    assert_eq!(bench.state(), State::Idle);
}

/// What lies unread in our own queue is no silence of the neighbour.
#[test]
fn reading_that_waits_for_us_holds_the_session() {
    let mut bench = Bench::established(settings(), open());
    bench.handle(Event::ReadPaused(FIRST));
    bench.pass(seconds(1000));
    assert_eq!(bench.state(), State::Established);
    bench.handle(Event::ReadResumed(FIRST));
    bench.pass(seconds(89));
    assert_eq!(bench.state(), State::Established);
    bench.pass(seconds(1));
    assert_eq!(bench.state(), State::Idle);
}

/// The smaller hold time counts, keepalives come at a third of it or as configured, with jitter.
#[test]
fn keepalives_come_in_time() {
    let cases = [
        (90, None, 90, 30_000),
        (9, None, 90, 3_000),
        (90, None, 3, 1_000),
        (90, Some(5), 90, 5_000),
        (90, Some(60), 90, 30_000),
    ];
    for (ours, keepalive, theirs, expected_ms) in cases {
        let keepalive = keepalive.map(seconds);
        let theirs = bgpd::wire::Open {
            hold_time_s: theirs,
            ..open()
        };
        let settings = Settings {
            hold_time: seconds(ours),
            keepalive,
            ..settings()
        };
        let mut bench = Bench::established(settings, theirs);
        let expected = Duration::from_millis(expected_ms);
        let mut waits = Vec::new();
        for _ in 0..20 {
            bench.receive(FIRST, Received::Keepalive);
            let (waited, actions) = bench.next_timer();
            assert_eq!(actions, [Action::Send(FIRST, Outgoing::Keepalive)]);
            assert!(
                (expected * 3 / 4..=expected).contains(&waited),
                "{waited:?} of {expected:?}"
            );
            waits.push(waited);
        }
        waits.dedup();
        assert!(waits.len() > 10, "jitter: {waits:?}");
    }
}

#[test]
fn without_hold_time_there_are_no_timers() {
    for (ours, theirs) in [(0, 90), (90, 0)] {
        let theirs = bgpd::wire::Open {
            hold_time_s: theirs,
            ..open()
        };
        let bench = Bench::established(
            Settings {
                hold_time: seconds(ours),
                ..settings()
            },
            theirs,
        );
        assert_eq!(bench.session.poll_timeout(), None);
    }
}

/// RFC 9687: eight minutes, or twice the hold time if that is longer.
#[test]
fn the_send_hold_timer_ends_a_session_that_takes_nothing_in() {
    for (hold_time_s, expected) in [(90, SEND_HOLD_TIME_MIN), (600, seconds(1200))] {
        let theirs = bgpd::wire::Open {
            hold_time_s,
            ..open()
        };
        let hold_time = seconds(hold_time_s.into());
        let mut bench = Bench::established(
            Settings {
                hold_time,
                ..settings()
            },
            theirs,
        );
        bench.handle(Event::WriteStalled(FIRST));
        let begin = bench.now;
        loop {
            // The neighbour still talks.
            bench.receive(FIRST, Received::Keepalive);
            let (_, actions) = bench.next_timer();
            if bench.state() != State::Established {
                assert_eq!(notification(&actions), (8, 0));
                break;
            }
        }
        assert_eq!(bench.now.0 - begin.0, expected);
    }
    let mut bench = Bench::established(settings(), open());
    bench.handle(Event::WriteStalled(FIRST));
    bench.handle(Event::WriteResumed(FIRST));
    for _ in 0..100 {
        bench.receive(FIRST, Received::Keepalive);
        bench.pass(seconds(60));
    }
    assert_eq!(bench.state(), State::Established);
}
