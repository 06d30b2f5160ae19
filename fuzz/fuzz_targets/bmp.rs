//! Any octets are read as BMP messages, or refused; what can be read is written again; never a panic.
#![no_main]

use bgpd::bmp::{decode, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some(length)) = frame(rest) {
        assert!(length > 0 && length <= rest.len());
        let (octets, after) = rest.split_at(length);
        if let Ok(message) = decode(octets) {
            let mut again = Vec::new();
            message.encode(&mut again);
            assert_eq!(frame(&again), Ok(Some(again.len())));
        }
        rest = after;
    }
});
