//! Whatever comes in as a BFD packet is read or refused, and a session takes it: never a panic, and never
//! a timer that is due again at once.
#![no_main]

use std::time::Duration;

use bgpd::bfd::{Authentication, ControlPacket, Event, Session, Settings};
use bgpd::session::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&flags, mut bytes)) = data.split_first() else { return };
    let authentication = (flags & 1 != 0).then(|| Authentication {
        meticulous: flags & 2 != 0,
        key_id: 1,
        key: "key".to_owned(),
    });
    let settings = Settings {
        desired_min_tx: Duration::from_millis(50),
        required_min_rx: Duration::from_millis(50),
        required_min_echo_rx: Duration::ZERO,
        detect_multiplier: 3,
        passive: flags & 4 != 0,
        authentication,
    };
    let mut now = Timestamp::default();
    let mut session = Session::new(settings, 1, 7, now);
    // Each packet has a length and a delay before it.
    while let [length, delay, rest @ ..] = bytes {
        let (packet, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        now = now + Duration::from_millis(u64::from(*delay) * 4);
        if session.poll_timeout().is_some_and(|at| at <= now) {
            session.handle(Event::Timer, now);
            assert!(session.poll_timeout().is_none_or(|at| at > now));
        }
        if let Ok(packet) = ControlPacket::decode(packet) {
            assert_eq!(ControlPacket::decode(&packet.encode()).as_ref(), Ok(&packet));
            session.handle(Event::Received(packet), now);
        }
    }
});
