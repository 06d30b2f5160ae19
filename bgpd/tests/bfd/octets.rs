//! A session takes whatever octets come, at whatever times.

use std::time::Duration;

use bgpd::bfd::{ControlPacket, Event, Session};
use bgpd::session::Timestamp;
use proptest::prelude::*;

use crate::{settings, with_sha1};

/// Octets that get as far as a session: a header that is right, or nearly.
fn likely_packet() -> impl Strategy<Value = Vec<u8>> {
    (
        prop::collection::vec(any::<u8>(), 24..60),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(mut octets, ours, authenticated)| {
            octets[0] = 0x20 | octets[0] & 0x1f;
            octets[1] &= !0x05;
            octets[3] = octets.len() as u8;
            if ours {
                octets[8..12].copy_from_slice(&1u32.to_be_bytes());
            }
            if authenticated {
                octets.resize(52, 0);
                octets[1] |= 0x04;
                (octets[3], octets[24], octets[25], octets[26]) = (52, 4 + (octets[24] & 1), 28, 1);
            }
            octets
        })
}

proptest! {
    #[test]
    fn no_octets_disturb_a_session(
        packets in prop::collection::vec((prop_oneof![
            likely_packet(), prop::collection::vec(any::<u8>(), 0..60)
        ], 0u64..2000), 0..40),
        kind in 0u8..3,
        passive: bool,
    ) {
        let mut settings = match kind {
            0 => settings(50, 3),
            kind => with_sha1(settings(50, 1), kind == 2),
        };
        settings.passive = passive;
        let mut now = Timestamp::default();
        let mut session = Session::new(settings, 1, 7, now);
        for (octets, delay_ms) in packets {
            now = now + Duration::from_millis(delay_ms);
            if session.poll_timeout().is_some_and(|at| at <= now) {
                session.handle(Event::Timer, now);
                prop_assert!(session.poll_timeout().is_none_or(|at| at > now), "a timer that is due again at once");
            }
            if let Ok(packet) = ControlPacket::decode(&octets) {
                session.handle(Event::Received(packet), now);
            }
        }
    }
}
