//! OPEN: what is accepted is written again, and reads the same.
#![no_main]

use bgpd::wire::{Codec, Message, decode, encode_open, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let mut message = vec![0xff; 16];
    let Ok(length) = u16::try_from(19 + body.len()) else {
        return;
    };
    message.extend(length.to_be_bytes());
    message.push(1);
    message.extend(body);
    if frame(&message, Codec::default()) != Ok(Some(message.len())) {
        return;
    }
    let Ok(Message::Open(open)) = decode(&message, Codec::default()) else {
        return;
    };
    let again = encode_open(&open);
    assert_eq!(decode(&again, Codec::default()), Ok(Message::Open(open)));
});
