//! Each state, and what each event does in it (RFC 4271 section 8.2.2).

use bgpd::session::{Action, DownReason, Event, Outgoing, Received, State, StopReason};
use bgpd::wire::Notification;

use crate::bench::{Bench, FIRST, SECOND, down, notification, notification_with_data, open, settings};

#[test]
fn idle_refuses_and_start_connects() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.state(), State::Idle);
    // RFC 4486 section 4: not wanted at all, as long as it is stopped.
    let actions = bench.handle(Event::Accepted(FIRST));
    assert_eq!(notification(&actions), (6, 5));
    assert_eq!(bench.handle(Event::Start), [Action::Connect]);
    assert_eq!(bench.state(), State::Connect);
    assert!(
        bench.handle(Event::Start).is_empty(),
        "a second start does nothing"
    );
}

#[test]
fn a_passive_session_waits() {
    let mut bench = Bench::new(bgpd::session::Settings {
        passive: true,
        ..settings()
    });
    assert!(bench.handle(Event::Start).is_empty());
    assert_eq!(
        (bench.state(), bench.session.poll_timeout()),
        (State::Active, None)
    );
    let actions = bench.handle(Event::Accepted(FIRST));
    assert!(matches!(
        actions.as_slice(),
        [Action::Send(FIRST, Outgoing::Open(_))]
    ));
    bench.handle(Event::Closed(FIRST, "gone".to_owned()));
    assert_eq!(
        (bench.state(), bench.session.poll_timeout()),
        (State::Active, None)
    );
}

#[test]
fn connect_fails_into_active() {
    let mut bench = Bench::started(settings());
    bench.handle(Event::ConnectFailed("refused".to_owned()));
    assert_eq!(
        (bench.state(), bench.session.last_error()),
        (State::Active, Some("connect: refused"))
    );
    let (_, actions) = bench.next_timer();
    assert_eq!((bench.state(), actions), (State::Connect, vec![Action::Connect]));
}

#[test]
fn active_takes_a_connection_instead_of_making_one() {
    let mut bench = Bench::started(settings());
    bench.handle(Event::ConnectFailed("refused".to_owned()));
    bench.handle(Event::Accepted(FIRST));
    assert_eq!(bench.state(), State::OpenSent);
    // The attempt that was given up comes too late.
    assert_eq!(bench.handle(Event::Connected(SECOND)), [Action::Close(SECOND)]);
}

#[test]
fn open_and_keepalive_establish() {
    let mut bench = Bench::open_sent(settings());
    let actions = bench.receive(FIRST, Received::Open(open()));
    assert!(matches!(
        actions.as_slice(),
        [Action::Opened(FIRST, _), Action::Send(FIRST, Outgoing::Keepalive)]
    ));
    assert_eq!(bench.state(), State::OpenConfirm);
    let actions = bench.receive(FIRST, Received::Keepalive);
    assert!(matches!(actions.as_slice(), [Action::Up(FIRST, _)]));
    assert_eq!((bench.state(), bench.session.flaps()), (State::Established, 0));
}

/// RFC 6608: what a state does not expect, with the type of the message as data.
#[test]
fn unexpected_messages_are_state_machine_errors() {
    let open_message = || Received::Open(open());
    type Case = (fn() -> Bench, u8, Vec<(Received, u8)>);
    let cases: [Case; 3] = [
        (
            || Bench::open_sent(settings()),
            1,
            vec![
                (Received::Keepalive, 4),
                (Received::Update, 2),
                (Received::RouteRefresh, 5),
            ],
        ),
        (
            || Bench::open_confirm(settings(), open()),
            2,
            vec![
                (open_message(), 1),
                (Received::Update, 2),
                (Received::RouteRefresh, 5),
            ],
        ),
        (
            || Bench::established(settings(), open()),
            3,
            vec![(open_message(), 1)],
        ),
    ];
    for (bench, subcode, messages) in cases {
        for (message, kind) in messages {
            let mut bench = bench();
            let actions = bench.receive(FIRST, message.clone());
            assert_eq!(
                notification_with_data(&actions),
                (5, subcode, vec![kind]),
                "{message:?}"
            );
            assert_eq!(bench.state(), State::Idle, "{message:?}");
        }
    }
}

#[test]
fn a_notification_ends_the_connection_without_an_answer() {
    let cease = Notification::new(6, 2);
    for mut bench in [
        Bench::open_sent(settings()),
        Bench::open_confirm(settings(), open()),
        Bench::established(settings(), open()),
    ] {
        let was = bench.state();
        let actions = bench.receive(FIRST, Received::Notification(cease.clone()));
        assert_eq!(actions.last(), Some(&Action::Close(FIRST)));
        assert!(!actions.iter().any(|action| matches!(action, Action::Send(..))));
        let reason = down(&actions).map(|(reason, _)| reason.clone());
        let expected = (was == State::Established).then_some(DownReason::Received(cease.clone()));
        assert_eq!((reason, bench.state()), (expected, State::Active));
        assert!(
            bench
                .session
                .last_error()
                .unwrap()
                .contains("administrative shutdown")
        );
    }
}

#[test]
fn a_lost_connection_is_made_again() {
    for (mut bench, flaps) in [
        (Bench::open_sent(settings()), 0),
        (Bench::open_confirm(settings(), open()), 0),
        (Bench::established(settings(), open()), 1),
    ] {
        let actions = bench.handle(Event::Closed(FIRST, "reset".to_owned()));
        assert_eq!(down(&actions).is_some(), flaps == 1);
        assert_eq!((bench.state(), bench.session.flaps()), (State::Active, flaps));
        let (_, actions) = bench.next_timer();
        assert_eq!(actions, [Action::Connect]);
    }
}

#[test]
fn malformed_input_is_answered_and_idles() {
    for mut bench in [
        Bench::open_sent(settings()),
        Bench::open_confirm(settings(), open()),
        Bench::established(settings(), open()),
    ] {
        let actions = bench.handle(Event::Malformed(FIRST, Notification::new(1, 1)));
        assert_eq!((notification(&actions), bench.state()), ((1, 1), State::Idle));
        assert_eq!(
            bench.handle(Event::Accepted(SECOND)),
            [Action::Close(SECOND)],
            "idle for a moment"
        );
        bench.next_timer();
        assert_eq!(bench.state(), State::Connect);
    }
}

#[test]
fn a_stop_says_why_in_every_state() {
    let reasons = [
        (StopReason::Shutdown, Some((6, 2))),
        (StopReason::Deconfigured, Some((6, 3))),
        (StopReason::Reset, Some((6, 4))),
        (StopReason::ConfigurationChange, Some((6, 6))),
        (StopReason::Restart, None),
    ];
    for (reason, expected) in reasons {
        for mut bench in [
            Bench::open_sent(settings()),
            Bench::open_confirm(settings(), open()),
            Bench::established(settings(), open()),
        ] {
            let actions = bench.handle(Event::Stop(reason));
            match expected {
                Some(expected) => assert_eq!(notification(&actions), expected, "{reason:?}"),
                None => assert!(!actions.iter().any(|action| matches!(action, Action::Send(..)))),
            }
            assert_eq!(actions.last(), Some(&Action::Close(FIRST)));
            assert_eq!((bench.state(), bench.session.poll_timeout()), (State::Idle, None));
        }
        let mut bench = Bench::started(settings());
        assert_eq!(bench.handle(Event::Stop(reason)), [Action::AbortConnect]);
        assert_eq!((bench.state(), bench.session.poll_timeout()), (State::Idle, None));
    }
}

#[test]
fn the_time_of_a_state_is_that_of_its_beginning() {
    let mut bench = Bench::established(settings(), open());
    let since = bench.session.since();
    bench.pass(crate::bench::seconds(20));
    bench.receive(FIRST, Received::Update);
    assert_eq!(bench.session.since(), since);
    bench.handle(Event::Closed(FIRST, "gone".to_owned()));
    assert_eq!(bench.session.since(), bench.now);
}
