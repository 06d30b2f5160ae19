//! What becomes of a session when BFD says that the path has failed (RFC 5882 section 4, RFC 9384).

use bgpd::session::{Action, DownReason, Event, Outgoing, Received, Settings, State};
use bgpd::wire::{FamilySet, Notification, Open};

use crate::bench::{
    Bench, FIRST, both, down, notification, notification_with_data, open, open_with_restart, seconds,
    sent_open, settings,
};

fn failed(bench: &mut Bench, is_control_plane_independent: bool) -> Vec<Action> {
    bench.handle(Event::PathFailed {
        is_control_plane_independent,
    })
}

#[test]
fn the_session_ends_at_once_and_is_tried_again() {
    let mut bench = Bench::established(settings(), open_with_restart());
    let actions = failed(&mut bench, false);
    assert_eq!(notification_with_data(&actions), (6, 10, Vec::new()));
    let (_, retain) = down(&actions).unwrap();
    assert_eq!(retain, FamilySet::EMPTY, "nothing would arrive");
    assert_eq!((bench.state(), bench.session.flaps()), (State::Idle, 1));
    assert!(bench.session.last_error().unwrap().contains("BFD down"));
    assert!(bench.pass(seconds(5)).contains(&Action::Connect));
}

/// RFC 9384 section 4: where a NOTIFICATION alone would have our routes kept, it goes as a Hard Reset.
#[test]
fn it_is_a_hard_reset_where_routes_would_be_kept() {
    let mut open = open_with_restart();
    let restart = open.capabilities.graceful_restart.as_mut().unwrap();
    restart.notification = true;
    let mut bench = Bench::established(settings(), open);
    let actions = failed(&mut bench, false);
    assert_eq!(notification_with_data(&actions), (6, 9, vec![6, 10]));
    assert_eq!(down(&actions).unwrap().1, FamilySet::EMPTY);
}

#[test]
fn a_session_that_is_not_there_has_nothing_to_end() {
    let mut bench = Bench::started(settings());
    assert!(failed(&mut bench, false).is_empty());
    assert_eq!(bench.state(), State::Connect);
    let mut bench = Bench::open_sent(settings());
    assert_eq!(
        notification_with_data(&failed(&mut bench, false)),
        (6, 10, Vec::new())
    );
    let mut bench = Bench::open_confirm(settings(), open());
    assert_eq!(
        notification_with_data(&failed(&mut bench, true)),
        (6, 10, Vec::new())
    );
}

/// RFC 5882 section 4.3: a neighbour whose control plane restarts keeps its routes if its BFD restarts with
/// it, and loses them if not, because then its forwarding has failed.
#[test]
fn the_c_bit_decides_about_a_restart() {
    for (is_control_plane_independent, kept) in [(false, both()), (true, FamilySet::EMPTY)] {
        let mut bench = Bench::established(settings(), open_with_restart());
        let actions = bench.handle(Event::Closed(FIRST, "gone".to_owned()));
        assert_eq!(down(&actions).unwrap().1, both());
        let actions = failed(&mut bench, is_control_plane_independent);
        assert_eq!(
            actions.contains(&Action::Sweep(both())),
            is_control_plane_independent
        );
        assert_eq!(bench.session.retained(), kept);
    }
}

fn strict() -> Settings {
    Settings {
        bfd_strict: Some(seconds(30)),
        ..settings()
    }
}

fn strict_open() -> Open {
    let mut open = open();
    open.capabilities.bfd_strict = true;
    open
}

fn path(bench: &mut Bench, is_up: bool) -> Vec<Action> {
    bench.handle(Event::PathState { is_up })
}

fn sends_keepalive(actions: &[Action]) -> bool {
    actions.contains(&Action::Send(FIRST, Outgoing::Keepalive))
}

/// draft-ietf-idr-bgp-bfd-strict-mode: OPEN is confirmed when BFD is up, not before.
#[test]
fn in_strict_mode_the_session_waits_for_bfd() {
    let mut bench = Bench::started(strict());
    let actions = bench.handle(Event::Connected(FIRST));
    assert!(sent_open(&actions).capabilities.bfd_strict);
    let actions = bench.receive(FIRST, Received::Open(strict_open()));
    assert!(!sends_keepalive(&actions));
    assert_eq!(bench.state(), State::OpenSent);
    assert!(sends_keepalive(&path(&mut bench, true)));
    assert_eq!(bench.state(), State::OpenConfirm);
    bench.receive(FIRST, Received::Keepalive);
    assert_eq!(bench.state(), State::Established);
    assert!(bench.session.negotiated().unwrap().bfd_strict.is_some());
    // What is established ends with a failure of the path alone: AdminDown is none.
    assert!(path(&mut bench, false).is_empty());
    assert_eq!(bench.state(), State::Established);
}

/// The other end may have seen it come up first.
#[test]
fn in_strict_mode_a_confirmation_may_come_before_bfd_is_up() {
    let mut bench = Bench::open_sent(strict());
    bench.receive(FIRST, Received::Open(strict_open()));
    assert!(bench.receive(FIRST, Received::Keepalive).is_empty());
    assert_eq!(bench.state(), State::OpenSent);
    assert!(sends_keepalive(&path(&mut bench, true)));
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn in_strict_mode_the_wait_for_bfd_has_an_end() {
    let mut bench = Bench::open_sent(strict());
    bench.receive(FIRST, Received::Open(strict_open()));
    assert!(bench.pass(seconds(29)).is_empty());
    let actions = bench.pass(seconds(2));
    assert_eq!(notification(&actions), (6, 10));
    assert!(bench.session.last_error().unwrap().contains("BFD down"));
}

#[test]
fn a_session_waits_for_bfd_only_if_both_ends_do_and_it_is_not_up() {
    for (ours, theirs, is_up) in [
        (strict(), open(), false),
        (settings(), strict_open(), false),
        (strict(), strict_open(), true),
    ] {
        let mut bench = Bench::open_sent(ours);
        path(&mut bench, is_up);
        assert!(sends_keepalive(&bench.receive(FIRST, Received::Open(theirs))));
        assert_eq!(bench.state(), State::OpenConfirm);
    }
}

/// With two ASes of ours, the neighbour's answer says which one it expects.
#[test]
fn the_other_as_is_tried_when_the_neighbor_does_not_expect_the_first() {
    let dual = || Settings {
        alternative_as: Some(64999),
        ..settings()
    };
    let mut bench = Bench::started(dual());
    let mut offered = Vec::new();
    for _ in 0..3 {
        let actions = bench.handle(Event::Connected(FIRST));
        offered.push(sent_open(&actions).asn);
        let refused = Notification::new(2, 2);
        bench.receive(FIRST, Received::Notification(refused));
        assert!(bench.pass(seconds(5)).contains(&Action::Connect));
    }
    assert_eq!(offered, [65001, 64999, 65001]);
    bench.handle(Event::Connected(FIRST));
    bench.receive(FIRST, Received::Open(open()));
    bench.receive(FIRST, Received::Keepalive);
    assert_eq!(bench.session.negotiated().unwrap().local_as, 64999);
    // The same settings once more change nothing, and what works is tried first next time.
    bench.handle(Event::Configure(Box::new(dual())));
    let actions = bench.handle(Event::Closed(FIRST, "gone".to_owned()));
    assert!(matches!(down(&actions), Some((DownReason::Closed(_), _))));
    assert!(bench.pass(seconds(5)).contains(&Action::Connect));
    assert_eq!(sent_open(&bench.handle(Event::Connected(FIRST))).asn, 64999);
}
