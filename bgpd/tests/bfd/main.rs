//! BFD without I/O: sessions that are told what happens, and pairs of them over a simulated network.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod network;
mod octets;
mod pairs;
mod states;

use std::time::Duration;

use bgpd::bfd::{Action, Authentication, ControlPacket, Diagnostic, Session, Settings, State, StateChange};
use bgpd::session::Timestamp;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp(ms(milliseconds))
}

fn settings(interval_ms: u64, detect_multiplier: u8) -> Settings {
    Settings {
        desired_min_tx: ms(interval_ms),
        required_min_rx: ms(interval_ms),
        required_min_echo_rx: Duration::ZERO,
        detect_multiplier,
        passive: false,
        authentication: None,
    }
}

fn with_sha1(settings: Settings, meticulous: bool) -> Settings {
    Settings {
        authentication: Some(Authentication {
            meticulous,
            key_id: 1,
            key: "a shared secret".to_owned(),
        }),
        ..settings
    }
}

/// A session of ours, named 1, at time zero.
fn session(settings: Settings) -> Session {
    Session::new(settings, 1, 0x5eed, at(0))
}

/// A packet of the other side, which calls the session 2.
fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: 2,
        your_discriminator: 1,
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
        required_min_echo_rx_us: 0,
        authentication: None,
    }
}

fn sent(actions: &[Action]) -> Vec<ControlPacket> {
    let octets = actions.iter().filter_map(|action| match action {
        Action::Send(octets) => Some(octets),
        _ => None,
    });
    octets
        .map(|octets| ControlPacket::decode(octets).unwrap())
        .collect()
}

fn changes(actions: &[Action]) -> Vec<StateChange> {
    let changes = actions.iter().filter_map(|action| match action {
        Action::Changed(change) => Some(*change),
        _ => None,
    });
    changes.collect()
}
