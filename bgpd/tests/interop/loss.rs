//! Traffic moves away from a ToR that is lost in silence.

use std::path::Path;
use std::time::Duration;

use crate::silent::{Ip, Silence};

const ROUTES: usize = 200;
/// Far more than three times 50 ms, for a loaded machine, and far less than the hold time of 90 s.
const OUTAGE_MAX: Duration = Duration::from_secs(2);

fn traffic_moves(ip: Ip) {
    let silence = Silence::start(Path::new(env!("CARGO_BIN_EXE_bgpd")), ip, ROUTES);
    let outcome = silence.lose_one();
    println!("{ip:?}: {outcome:?}");
    assert!(silence.has_carrier(), "it was lost in silence");
    assert!(outcome.flows_hit > 8 && outcome.lost > 0, "{outcome:?}");
    assert!(outcome.outage < OUTAGE_MAX, "{outcome:?}");
}

#[test]
fn ipv4_traffic_moves_to_the_tor_that_is_left() {
    traffic_moves(Ip::V4);
}

#[test]
fn ipv6_traffic_moves_to_the_tor_that_is_left() {
    traffic_moves(Ip::V6);
}
