//! A recorded session does the same when it is replayed.

use std::time::Duration;

use bgpd::session::{
    Action, ConnectionId, Event, Received, Recording, Session, StopReason, Timestamp, replay,
};
use bgpd::wire::Notification;
use proptest::prelude::*;

use crate::bench::{open, seconds, settings};
use crate::network::Network;

#[test]
fn a_recording_replays_to_the_same_actions() {
    let other = bgpd::session::Settings {
        local_as: 65002,
        remote_as: 65001.into(),
        router_id: [10, 0, 0, 2].into(),
        ..settings()
    };
    let mut network = Network::new([settings(), other], Duration::from_millis(5));
    network.start();
    network.pass(seconds(200));
    network.cut = true;
    network.pass(seconds(200));
    network.event(0, Event::Stop(StopReason::Shutdown));
    let mut lines = Vec::new();
    // Node 0 of the network has seed 1.
    let mut recording = Recording::start(&mut lines, &settings(), 1).unwrap();
    let mut session = Session::new(settings(), 1);
    let mut expected = Vec::new();
    for (at, event) in network.events_of(0) {
        recording.event(*at, event).unwrap();
        expected.push(session.handle(event.clone(), *at));
    }
    assert!(
        expected
            .iter()
            .flatten()
            .any(|action| matches!(action, Action::Up(..)))
    );
    let (replayed, steps) = replay(lines.as_slice()).unwrap();
    let actions: Vec<_> = steps.into_iter().map(|step| step.actions).collect();
    assert_eq!(actions, expected);
    assert_eq!(replayed.state(), network.states()[0]);
    assert_eq!(replayed.flaps(), 1);
}

#[test]
fn a_wrong_recording_is_refused_with_its_line() {
    let mut lines = Vec::new();
    Recording::start(&mut lines, &settings(), 1).unwrap();
    let first = String::from_utf8(lines).unwrap();
    let event = "{\"Event\":{\"at\":{\"secs\":1,\"nanos\":0},\"event\":\"Start\"}}\n";
    for (text, expected) in [
        (String::new(), "recording line 1: the recording is empty"),
        (event.to_owned(), "recording line 1: an event before"),
        (format!("{first}{event}nonsense\n"), "recording line 3: "),
        (format!("{first}{first}"), "recording line 2: a second session"),
    ] {
        let message = replay(text.as_bytes()).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(replay(format!("{first}{event}").as_bytes()).is_ok());
}

fn any_event() -> impl Strategy<Value = Event> {
    let id = (1u64..5).prop_map(ConnectionId);
    let message = prop_oneof![
        Just(Received::Open(open())),
        Just(Received::Keepalive),
        Just(Received::Update),
        Just(Received::RouteRefresh),
        Just(Received::Notification(Notification::new(6, 2))),
    ];
    prop_oneof![
        2 => Just(Event::Start),
        1 => Just(Event::Stop(StopReason::Shutdown)),
        6 => Just(Event::Timer),
        4 => id.clone().prop_map(Event::Connected),
        1 => Just(Event::ConnectFailed("no".to_owned())),
        4 => id.clone().prop_map(Event::Accepted),
        1 => id.clone().prop_map(|id| Event::Closed(id, "gone".to_owned())),
        8 => (id.clone(), message).prop_map(|(id, message)| Event::Received(id, message)),
        1 => id.clone().prop_map(|id| Event::Malformed(id, Notification::new(1, 1))),
        1 => id.clone().prop_map(Event::ReadPaused),
        1 => id.prop_map(Event::WriteStalled),
        1 => Just(Event::RestartComplete),
    ]
}

proptest! {
    /// Whatever happens in whatever order: nothing is sent on a connection that is closed or unknown,
    /// and Up and Down alternate.
    #[test]
    fn no_order_of_events_confuses_a_session(
        events in prop::collection::vec((any_event(), 0u64..100_000), 0..200),
    ) {
        let mut session = Session::new(settings(), 3);
        let mut now = Timestamp::default();
        let (mut open, mut seen) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut up = false;
        for (event, wait_ms) in events {
            now = now + Duration::from_millis(wait_ms);
            if let Event::Connected(id) | Event::Accepted(id) = &event {
                // The caller never gives a number twice.
                if !seen.insert(*id) {
                    continue;
                }
                open.insert(*id);
            }
            if let Event::Closed(id, _) = &event {
                open.remove(id);
            }
            let closed_by_peer = matches!(event, Event::Closed(..));
            for action in session.handle(event, now) {
                match action {
                    Action::Send(id, _) => prop_assert!(open.contains(&id)),
                    Action::Close(id) => prop_assert!(open.remove(&id) || closed_by_peer),
                    Action::Up(id, _) => {
                        prop_assert!(!up && open.contains(&id));
                        up = true;
                    }
                    Action::Down { .. } => {
                        prop_assert!(up);
                        up = false;
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(session.negotiated().is_some(), up);
            prop_assert!(session.poll_timeout().is_none_or(|at| at.0 <= now.0 + seconds(1200)));
        }
    }
}
