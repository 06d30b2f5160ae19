//! What becomes of a session when BFD says that the path has failed (RFC 5882 section 4, RFC 9384).

use bgpd::session::{Action, Event, State};
use bgpd::wire::FamilySet;

use crate::bench::{
    Bench, FIRST, both, down, notification_with_data, open, open_with_restart, seconds, settings,
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
