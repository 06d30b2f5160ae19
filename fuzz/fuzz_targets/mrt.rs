//! Any octets are read as MRT records, or refused, and what can be read is replayed; never a panic.
#![no_main]

use bgpd::mrt::{Records, Replay};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut replay = Replay::new(65000);
    for (at, record) in Records::new(data).flatten() {
        let mut octets = Vec::new();
        record.encode(at, &mut octets);
        for said in replay.record(record) {
            // What a peer has said is a value like any other.
            drop(said);
        }
    }
});
