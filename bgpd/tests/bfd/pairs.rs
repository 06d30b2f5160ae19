//! Pairs of sessions over a simulated network.

use std::time::Duration;

use bgpd::bfd::{Diagnostic, Event, Settings, State};
use proptest::prelude::*;

use crate::network::{Link, Network};
use crate::{ms, settings, with_sha1};

const BOTH_UP: [State; 2] = [State::Up; 2];

fn up(settings: [Settings; 2], seed: u64) -> Network {
    let mut network = Network::new(settings, seed);
    // Three packets, at most a second apart.
    network.run(ms(4000));
    assert_eq!(network.states(), BOTH_UP);
    network.changes.clear();
    network
}

#[test]
fn silence_is_detected_in_time() {
    for seed in 0..50 {
        let mut network = up([settings(50, 3), settings(50, 3)], seed);
        network.run(ms(1000));
        let begin = network.now;
        network.links = [Link::DEAD; 2];
        network.run(ms(2000));
        for session in [0, 1] {
            let (when, _, change) = network.changes.iter().find(|(_, of, _)| *of == session).unwrap();
            let took = when.0 - begin.0;
            assert!(took > ms(95) && took <= ms(152), "seed {seed}: {took:?}");
            assert!(change.is_failure());
            assert_eq!(change.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        }
        network.links = [Link::GOOD; 2];
        network.run(ms(4000));
        assert_eq!(network.states(), BOTH_UP, "it comes back");
    }
}

/// One direction is enough: the side that still hears is told by the other.
#[test]
fn a_dead_direction_takes_both_sides_down() {
    let mut network = up([settings(50, 3), settings(50, 3)], 1);
    network.links[0] = Link::DEAD;
    network.run(ms(1000));
    let diagnostics: Vec<_> = network
        .changes
        .iter()
        .take(2)
        .map(|(_, of, change)| (*of, change.diagnostic))
        .collect();
    assert_eq!(
        diagnostics,
        [
            (1, Diagnostic::DETECTION_TIME_EXPIRED),
            (0, Diagnostic::NEIGHBOR_SIGNALED_DOWN)
        ]
    );
    assert!(!network.states().contains(&State::Up));
}

#[test]
fn intervals_are_those_of_the_slower_side() {
    let mut network = up([settings(50, 3), settings(200, 5)], 3);
    let before = network.sent;
    network.run(ms(10_000));
    for session in [0, 1] {
        let sent = network.sent[session] - before[session];
        // Every 150 to 200 ms.
        assert!((50..=67).contains(&sent), "{sent}");
    }
    assert_eq!(network.sessions[0].detection_time(), ms(1000));
    assert_eq!(network.sessions[1].detection_time(), ms(600));
}

/// A planned end is not a failure, on neither side.
#[test]
fn admin_down_is_no_failure() {
    let mut network = up([settings(50, 3), settings(50, 3)], 4);
    network.tell(0, Event::Disable);
    network.run(ms(3000));
    assert_eq!(network.states(), [State::AdminDown, State::Down]);
    assert!(
        network.changes.iter().all(|(_, _, change)| !change.is_failure()),
        "{:?}",
        network.changes
    );
    network.tell(0, Event::Enable);
    network.run(ms(4000));
    assert_eq!(network.states(), BOTH_UP);
}

/// RFC 5880 section 6.7: changes of authentication on both sides, in between only silence.
#[test]
fn authenticated_sessions_come_up_and_see_silence() {
    for meticulous in [false, true] {
        let side = || with_sha1(settings(50, 3), meticulous);
        let mut network = up([side(), side()], 5);
        network.run(ms(5000));
        assert!(network.changes.is_empty());
        network.links = [Link::DEAD; 2];
        network.run(ms(400));
        assert_eq!(network.states(), [State::Down; 2]);
        network.links = [Link::GOOD; 2];
        network.run(ms(10_000));
        assert_eq!(network.states(), BOTH_UP);
        let wrong = Settings {
            authentication: None,
            ..side()
        };
        network.tell(0, Event::Configure(wrong));
        network.run(ms(2000));
        assert!(!network.states().contains(&State::Up));
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (10u64..500, 10u64..500, 1u8..6, 0u8..3).prop_map(|(tx, rx, multiplier, auth)| {
        let plain = Settings {
            desired_min_tx: ms(tx),
            required_min_rx: ms(rx),
            ..settings(50, multiplier)
        };
        match auth {
            0 => plain,
            kind => with_sha1(plain, kind == 2),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened before, two sessions come up once the network is good, and then stay up.
    #[test]
    fn sessions_come_up_after_any_trouble(
        first in any_settings(),
        mut second in any_settings(),
        again in any_settings(),
        loss in 0u32..101,
        delay in 1u64..40,
        seed: u64,
    ) {
        second.authentication.clone_from(&first.authentication);
        let again = Settings { authentication: first.authentication.clone(), ..again };
        let mut network = Network::new([first, second], seed);
        network.links = [Link { loss_percent: loss, delay_max: ms(delay) }; 2];
        network.run(ms(3000));
        network.tell(0, Event::Configure(again.clone()));
        network.run(ms(1000));
        network.tell(1, Event::Disable);
        network.run(ms(500));
        network.tell(1, Event::Enable);
        network.tell(1, Event::Configure(again));
        network.run(ms(1000));
        network.links = [Link::GOOD; 2];
        // Long enough for old sequence numbers to be forgotten (two detection times at the slow interval).
        network.run(ms(30_000));
        prop_assert_eq!(network.states(), BOTH_UP);
        network.changes.clear();
        network.run(ms(20_000));
        prop_assert!(network.changes.is_empty(), "{:?}", network.changes);
    }

    /// With fewer losses in a row than the multiplier allows, nothing goes down; and what is sent keeps to
    /// the interval.
    #[test]
    fn a_change_of_intervals_does_not_take_a_session_down(
        first in any_settings(), second in any_settings(), changes in prop::collection::vec((10u64..800, 2u8..6), 1..6), seed: u64,
    ) {
        let steady = |settings: Settings| Settings { authentication: None, detect_multiplier: settings.detect_multiplier.max(2), ..settings };
        let mut network = up([steady(first), steady(second)], seed);
        for (interval, multiplier) in changes {
            network.tell(0, Event::Configure(settings(interval, multiplier)));
            network.run(Duration::from_millis(interval / 2));
        }
        network.run(ms(5000));
        prop_assert!(network.changes.is_empty(), "{:?}", network.changes);
        prop_assert_eq!(network.states(), BOTH_UP);
    }
}
