//! What one session does when it is told what happens (RFC 5880 sections 6.8.1 to 6.8.16).

use std::time::Duration;

use bgpd::bfd::{Action, ControlPacket, Diagnostic, Discard, Event, Session, Settings, State};

use crate::{at, changes, ms, packet, sent, session, settings, with_sha1};

const DOWN: State = State::Down;
const INIT: State = State::Init;
const UP: State = State::Up;
const ADMIN: State = State::AdminDown;

/// A session that was brought into a state at time zero.
fn in_state(state: State) -> Session {
    let mut session = session(settings(50, 3));
    match state {
        ADMIN => drop(session.handle(Event::Disable, at(0))),
        DOWN => {}
        INIT => drop(session.handle(Event::Received(packet(DOWN)), at(0))),
        UP => drop(session.handle(Event::Received(packet(INIT)), at(0))),
    }
    assert_eq!(session.state(), state);
    session
}

/// An Up session whose first Poll Sequence has ended, at time zero.
fn settled(settings: Settings) -> Session {
    let mut session = session(settings);
    session.handle(Event::Received(packet(INIT)), at(0));
    let mut answer = packet(UP);
    answer.is_final = true;
    session.handle(Event::Received(answer), at(0));
    assert_eq!(session.state(), UP);
    session
}

/// RFC 5880 section 6.2 and 6.8.6: every state × every state of the other side.
#[test]
fn the_state_machine_is_that_of_the_rfc() {
    let table = [
        (ADMIN, [ADMIN, ADMIN, ADMIN, ADMIN]),
        (DOWN, [DOWN, INIT, UP, DOWN]),
        (INIT, [DOWN, INIT, UP, UP]),
        (UP, [DOWN, DOWN, UP, UP]),
    ];
    for (before, row) in table {
        for (received, after) in [ADMIN, DOWN, INIT, UP].into_iter().zip(row) {
            let mut session = in_state(before);
            let actions = session.handle(Event::Received(packet(received)), at(1));
            assert_eq!(session.state(), after, "{before} hears {received}");
            let changes = changes(&actions);
            assert_eq!(
                changes.len(),
                usize::from(before != after),
                "{before} hears {received}"
            );
            if let Some(change) = changes.first() {
                assert_eq!((change.from, change.to), (before, after));
                assert_eq!(
                    sent(&actions).first().map(|packet| packet.state),
                    Some(after),
                    "the other side is told at once"
                );
            }
        }
    }
}

#[test]
fn a_failure_is_what_nobody_wanted() {
    let expire = |session: &mut Session| {
        let expired = session.poll_timeout().unwrap();
        assert!(expired <= at(150));
        changes(&session.handle(Event::Timer, at(150)))
    };
    let lost = expire(&mut settled(settings(50, 3)));
    assert_eq!(lost[0].diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
    assert!(lost[0].is_failure());
    // Init is no session yet.
    let mut early = in_state(INIT);
    let ended = changes(&early.handle(Event::Timer, at(150)));
    assert_eq!(ended[0].to, DOWN);
    assert!(!ended[0].is_failure());
    let told = |state| changes(&in_state(UP).handle(Event::Received(packet(state)), at(1)))[0];
    assert_eq!(told(DOWN).diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert!(told(DOWN).is_failure());
    assert!(
        !told(ADMIN).is_failure(),
        "RFC 5882 section 3.2: an operator's wish"
    );
    let own = changes(&in_state(UP).handle(Event::Disable, at(1)))[0];
    assert_eq!(
        (own.to, own.diagnostic),
        (ADMIN, Diagnostic::ADMINISTRATIVELY_DOWN)
    );
    assert!(!own.is_failure());
}

/// RFC 5880 section 6.8.3: a session that is not Up sends once a second at most.
#[test]
fn it_is_slow_until_it_is_up() {
    let mut session = session(settings(50, 3));
    assert_eq!(
        session.poll_timeout(),
        Some(at(0)),
        "the first packet is due at once"
    );
    let first = sent(&session.handle(Event::Timer, at(0)));
    assert_eq!((first.len(), first[0].state), (1, DOWN));
    assert_eq!(
        (first[0].desired_min_tx_us, first[0].required_min_rx_us),
        (1_000_000, 50_000)
    );
    assert_eq!(first[0].your_discriminator, 0);
    let next = session.poll_timeout().unwrap();
    assert!((at(750)..=at(1000)).contains(&next), "{next:?}");
    let up = sent(&session.handle(Event::Received(packet(INIT)), at(100)));
    assert_eq!((up[0].state, up[0].poll), (UP, true), "a Poll Sequence begins");
    assert_eq!((up[0].desired_min_tx_us, up[0].your_discriminator), (50_000, 2));
    let next = session.poll_timeout().unwrap();
    assert!((at(137)..=at(150)).contains(&next), "{next:?}");
}

/// RFC 5880 section 6.8.7: 75 to 100 % of the interval, with a multiplier of one 75 to 90 %.
#[test]
fn intervals_have_jitter() {
    for (multiplier, most) in [(3, 100_000), (1, 90_000)] {
        let mut session = settled(settings(100, multiplier));
        let (mut now, mut met) = (at(0), Vec::new());
        for _ in 0..200 {
            session.handle(Event::Received(packet(UP)), now);
            let next = session.poll_timeout().unwrap();
            assert_eq!(sent(&session.handle(Event::Timer, next)).len(), 1);
            met.push((next.0 - now.0).as_micros());
            now = next;
        }
        // The first distance began before the loop.
        let (least, longest) = (met[1..].iter().min().unwrap(), met[1..].iter().max().unwrap());
        assert!(
            *least >= 75_000 && *longest <= most,
            "{multiplier}: {least} {longest}"
        );
        assert!(longest - least > 10_000, "{multiplier}: {least} {longest}");
    }
}

/// RFC 5880 section 6.8.4: the other side's multiplier times the longer of both intervals.
#[test]
fn the_detection_time_follows_the_other_side() {
    let mut session = settled(settings(50, 7));
    assert_eq!(session.detection_time(), ms(150));
    let slow = ControlPacket {
        desired_min_tx_us: 400_000,
        detect_multiplier: 5,
        ..packet(UP)
    };
    session.handle(Event::Received(slow), at(10));
    assert_eq!(session.detection_time(), ms(2000));
    let fast = ControlPacket {
        desired_min_tx_us: 1_000,
        detect_multiplier: 4,
        ..packet(UP)
    };
    session.handle(Event::Received(fast), at(20));
    assert_eq!(
        session.detection_time(),
        ms(200),
        "never less than we can receive"
    );
    session.handle(Event::Timer, at(219));
    assert_eq!(session.state(), UP);
    session.handle(Event::Timer, at(220));
    assert_eq!((session.state(), session.remote_discriminator()), (DOWN, 0));
}

#[test]
fn the_slower_side_decides_how_often_to_send() {
    let mut session = settled(settings(50, 3));
    let slow = ControlPacket {
        required_min_rx_us: 300_000,
        ..packet(UP)
    };
    session.handle(Event::Received(slow.clone()), at(0));
    assert_eq!(session.transmit_interval(), ms(300));
    let never = ControlPacket {
        required_min_rx_us: 0,
        ..slow
    };
    session.handle(Event::Received(never), at(10));
    let next = session.poll_timeout().unwrap();
    assert_eq!(next, at(160), "only the detection time is left");
    assert!(sent(&session.handle(Event::Timer, at(100))).is_empty());
}

/// RFC 5880 sections 6.5 and 6.8.3: what is slower counts only once the other side knows.
#[test]
fn changes_wait_for_a_poll_sequence() {
    let mut session = settled(settings(50, 3));
    let poll = |session: &mut Session, now| sent(&session.handle(Event::Timer, now)).remove(0);
    session.handle(Event::Configure(settings(500, 3)), at(1));
    assert_eq!(
        session.transmit_interval(),
        ms(50),
        "not slower before the answer"
    );
    assert_eq!(session.detection_time(), ms(1500), "but more patient at once");
    let asked = poll(&mut session, at(50));
    assert!(asked.poll && !asked.is_final);
    assert_eq!(
        (asked.desired_min_tx_us, asked.required_min_rx_us),
        (500_000, 500_000)
    );
    assert!(poll(&mut session, at(100)).poll, "until it is answered");
    let answer = ControlPacket {
        is_final: true,
        ..packet(UP)
    };
    session.handle(Event::Received(answer.clone()), at(120));
    assert_eq!(session.transmit_interval(), ms(500));
    // Now faster again: sending at once, expecting only after the answer.
    session.handle(Event::Configure(settings(50, 3)), at(130));
    assert_eq!(
        (session.transmit_interval(), session.detection_time()),
        (ms(50), ms(1500))
    );
    assert!(poll(&mut session, at(180)).poll);
    // A change while a Poll Sequence is under way waits for its own.
    session.handle(Event::Configure(settings(200, 3)), at(190));
    assert_eq!(poll(&mut session, at(230)).desired_min_tx_us, 50_000);
    session.handle(Event::Received(answer.clone()), at(240));
    let asked = poll(&mut session, at(300));
    assert!(asked.poll);
    assert_eq!(asked.desired_min_tx_us, 200_000);
    session.handle(Event::Received(answer), at(310));
    assert!(!poll(&mut session, at(600)).poll);
    assert_eq!(session.state(), UP);
}

#[test]
fn a_poll_is_answered_at_once() {
    let mut session = settled(settings(50, 3));
    let asked = ControlPacket {
        poll: true,
        ..packet(UP)
    };
    let before = session.poll_timeout();
    let answers = sent(&session.handle(Event::Received(asked), at(1)));
    assert_eq!(answers.len(), 1);
    assert!(answers[0].is_final && !answers[0].poll);
    assert_eq!(
        session.poll_timeout(),
        before,
        "the periodic packets go on as they were"
    );
}

/// RFC 5880 section 6.6: we never ask for Demand mode, but are silent where the other side does.
#[test]
fn demand_mode_of_the_other_side_is_kept() {
    let mut session = settled(settings(50, 3));
    let demanding = ControlPacket {
        demand: true,
        ..packet(UP)
    };
    session.handle(Event::Received(demanding.clone()), at(1));
    assert_eq!(session.poll_timeout(), Some(at(151)), "the detection time alone");
    let asked = ControlPacket {
        poll: true,
        ..demanding.clone()
    };
    let answers = sent(&session.handle(Event::Received(asked), at(10)));
    assert!(answers[0].is_final && !answers[0].demand);
    session.handle(Event::Configure(settings(60, 3)), at(20));
    let next = session.poll_timeout().unwrap();
    assert!(next <= at(80), "a Poll Sequence of ours is sent nevertheless");
    assert!(sent(&session.handle(Event::Timer, next))[0].poll);
}

#[test]
fn a_passive_session_waits() {
    let passive = Settings {
        passive: true,
        ..settings(50, 3)
    };
    let mut session = session(passive);
    assert_eq!(session.poll_timeout(), None);
    let answer = sent(&session.handle(Event::Received(packet(DOWN)), at(5)));
    assert_eq!(answer[0].state, INIT);
    assert!(session.poll_timeout().is_some());
}

/// RFC 5880 section 6.8.16.
#[test]
fn a_disabled_session_says_so_and_comes_back() {
    let mut session = settled(settings(50, 3));
    let told = sent(&session.handle(Event::Disable, at(1)));
    assert_eq!((told[0].state, told[0].diagnostic.code()), (ADMIN, 7));
    let repeated = session.poll_timeout().unwrap();
    assert!(repeated > at(100), "slowly");
    assert_eq!(
        session.handle(Event::Received(packet(UP)), at(2)),
        [Action::Discarded(Discard::AdminDown)]
    );
    assert!(session.handle(Event::Disable, at(3)).is_empty());
    let back = sent(&session.handle(Event::Enable, at(4)));
    assert_eq!((back[0].state, back[0].diagnostic), (DOWN, Diagnostic::NONE));
    session.handle(Event::Received(packet(DOWN)), at(5));
    assert_eq!(session.state(), INIT);
}

#[test]
fn we_say_that_we_are_the_control_plane_and_what_echo_we_take() {
    let echo = Settings {
        required_min_echo_rx: Duration::from_millis(20),
        ..settings(50, 3)
    };
    let first = sent(&session(echo).handle(Event::Timer, at(0)));
    assert_eq!(first[0].required_min_echo_rx_us, 20_000);
    assert!(!first[0].control_plane_independent);
    assert!(!first[0].demand);
    let plain = sent(&session(settings(50, 3)).handle(Event::Timer, at(0)));
    assert_eq!(plain[0].required_min_echo_rx_us, 0);
}

/// RFC 5880 section 6.8.6: the A bit has to be what was agreed on.
#[test]
fn authentication_is_all_or_nothing() {
    let discarded = [Action::Discarded(Discard::Authentication)];
    for meticulous in [false, true] {
        let mut ours = session(with_sha1(settings(50, 3), meticulous));
        assert_eq!(ours.handle(Event::Received(packet(DOWN)), at(0)), discarded);
        let mut theirs = Session::new(with_sha1(settings(50, 3), meticulous), 2, 7, at(0));
        let signed = sent(&theirs.handle(Event::Timer, at(0))).remove(0);
        assert_eq!(
            session(settings(50, 3)).handle(Event::Received(signed.clone()), at(0)),
            discarded
        );
        ours.handle(Event::Received(signed.clone()), at(0));
        assert_eq!(ours.state(), INIT);
        // The same packet again: only the meticulous kind sees a replay.
        let repeated = ours.handle(Event::Received(signed.clone()), at(1));
        assert_eq!(repeated == discarded, meticulous);
        // After two detection times, any number will do.
        let much_later = ours.handle(Event::Received(signed), at(60_000));
        assert!(!much_later.contains(&discarded[0]));
    }
}

/// What goes in can be written down and read again.
#[test]
fn events_can_be_recorded() {
    let events = [
        Event::Received(packet(UP)),
        Event::Timer,
        Event::Configure(with_sha1(settings(50, 3), true)),
        Event::Disable,
        Event::Enable,
    ];
    for event in events {
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
