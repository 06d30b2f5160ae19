//! Two connections at once (RFC 4271 section 6.8, RFC 4724 section 4.2, RFC 6286).

use bgpd::session::{Action, ConnectionId, DownReason, Event, Outgoing, Received, Settings, State};
use bgpd::wire::Open;

use crate::bench::{
    Bench, FIRST, SECOND, both, down, notification, open, open_with_restart, sent_open, settings,
};

/// With OPEN received on connection [`FIRST`], which we made, and [`SECOND`] coming in.
fn two_connections(settings: Settings, open: Open) -> Bench {
    let mut bench = Bench::open_confirm(settings, open);
    let actions = bench.handle(Event::Accepted(SECOND));
    sent_open(&actions);
    bench
}

#[test]
fn the_higher_identifier_keeps_its_connection() {
    // Theirs is higher: what they made stays.
    let mut bench = two_connections(settings(), open());
    let actions = bench.receive(SECOND, Received::Open(open()));
    assert_eq!(notification(&actions), (6, 7));
    assert!(actions.contains(&Action::Close(FIRST)));
    bench.receive(SECOND, Received::Keepalive);
    assert_eq!(bench.state(), State::Established);
    // Ours is higher.
    let low = Open {
        router_id: [10, 0, 0, 0].into(),
        ..open()
    };
    let mut bench = two_connections(settings(), low.clone());
    let actions = bench.receive(SECOND, Received::Open(low));
    assert_eq!(notification(&actions), (6, 7));
    assert!(actions.contains(&Action::Close(SECOND)));
    bench.receive(FIRST, Received::Keepalive);
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn between_equal_identifiers_the_higher_as_keeps_its_connection() {
    let same = Open {
        router_id: settings().router_id,
        ..open()
    };
    let mut bench = two_connections(settings(), same.clone());
    let actions = bench.receive(SECOND, Received::Open(same));
    assert!(
        actions.contains(&Action::Close(FIRST)),
        "65002 is higher than 65001"
    );
}

#[test]
fn establishing_closes_what_else_there_is() {
    let mut bench = two_connections(settings(), open());
    let actions = bench.receive(FIRST, Received::Keepalive);
    assert_eq!(notification(&actions), (6, 7));
    assert!(actions.contains(&Action::Close(SECOND)) && matches!(actions.last(), Some(Action::Up(FIRST, _))));
}

#[test]
fn an_established_session_wins() {
    let mut bench = Bench::established(settings(), open());
    bench.handle(Event::Accepted(SECOND));
    let actions = bench.receive(SECOND, Received::Open(open()));
    assert_eq!(
        (notification(&actions), bench.state()),
        ((6, 7), State::Established)
    );
    assert!(actions.contains(&Action::Close(SECOND)) && down(&actions).is_none());
}

/// A neighbour with graceful restart that opens a connection has lost the old one.
#[test]
fn a_restarted_neighbor_wins() {
    let mut bench = Bench::established(settings(), open_with_restart());
    bench.handle(Event::Accepted(SECOND));
    assert_eq!(bench.state(), State::Established, "not before its OPEN");
    let actions = bench.receive(SECOND, Received::Open(open_with_restart()));
    assert_eq!(down(&actions), Some((&DownReason::PeerRestarted, both())));
    assert!(
        !actions
            .iter()
            .any(|action| matches!(action, Action::Send(_, Outgoing::Notification(_))))
    );
    assert!(actions.contains(&Action::Close(FIRST)));
    bench.receive(SECOND, Received::Keepalive);
    assert_eq!((bench.state(), bench.session.flaps()), (State::Established, 1));
}

#[test]
fn a_connection_that_got_nowhere_is_replaced() {
    let mut bench = Bench::started(Settings {
        passive: true,
        ..settings()
    });
    bench.handle(Event::Accepted(FIRST));
    let actions = bench.handle(Event::Accepted(SECOND));
    assert!(matches!(
        actions.as_slice(),
        [Action::Close(FIRST), Action::Send(SECOND, Outgoing::Open(_))]
    ));
    bench.receive(SECOND, Received::Open(open()));
    assert_eq!(bench.state(), State::OpenConfirm);
    // One that did get somewhere goes when another one does as well.
    sent_open(&bench.handle(Event::Accepted(THIRD)));
    let actions = bench.receive(THIRD, Received::Open(open()));
    assert_eq!(notification(&actions), (6, 7));
    assert!(actions.contains(&Action::Close(SECOND)));
    bench.receive(THIRD, Received::Keepalive);
    assert_eq!(bench.state(), State::Established);
}

#[test]
fn connections_do_not_pile_up() {
    let mut bench = Bench::started(Settings {
        passive: true,
        ..settings()
    });
    bench.handle(Event::Accepted(FIRST));
    bench.receive(FIRST, Received::Open(open()));
    bench.receive(FIRST, Received::Keepalive);
    for number in 10..20 {
        let actions = bench.handle(Event::Accepted(ConnectionId(number)));
        let replaces = actions.contains(&Action::Close(ConnectionId(number - 1)));
        assert_eq!(replaces, number > 10, "{actions:?}");
    }
    assert_eq!(bench.state(), State::Established);
}

const THIRD: ConnectionId = ConnectionId(3);
