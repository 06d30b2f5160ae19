//! Whatever a peer sends is framed and decoded, or refused by a NOTIFICATION; never a panic.
#![no_main]

use bgpd::wire::{Codec, Family, decode, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&flags, mut bytes)) = data.split_first() else { return };
    let codec = Codec {
        four_octet_as: flags & 1 != 0,
        extended_message: flags & 2 != 0,
        external: flags & 4 != 0,
        families: Family::ALL.into_iter().collect(),
        ..Codec::default()
    };
    while let Ok(Some(length)) = frame(bytes, codec) {
        assert!(length > 0 && length <= bytes.len());
        let (message, rest) = bytes.split_at(length);
        // A refusal is an outcome like any other.
        let _ = decode(message, codec);
        bytes = rest;
    }
});
