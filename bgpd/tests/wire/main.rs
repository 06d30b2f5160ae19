//! The codec: what others send, what we write and read again, what is wrong, and what is too long.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod differential;
mod faults;
mod goldens;
mod matrix;
mod next_hops;
mod opens;
mod roundtrip;
mod tshark;

use bgpd::wire::{Codec, Family, Message, Prefix, Update, decode, frame};

fn codec() -> Codec {
    Codec {
        four_octet_as: true,
        families: Family::ALL.into_iter().collect(),
        external: true,
        extended_next_hop: [Family::Ipv4Unicast].into_iter().collect(),
        as_sets: true,
        ..Codec::default()
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Every message of a stream.
fn messages(mut stream: &[u8], codec: Codec) -> Vec<Message> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let length = frame(stream, codec).unwrap().expect("a whole message");
        let (message, rest) = stream.split_at(length);
        messages.push(decode(message, codec).unwrap());
        stream = rest;
    }
    messages
}

fn update(message: &Message) -> &Update {
    let Message::Update(update) = message else {
        unreachable!("{message:?} is no UPDATE")
    };
    update
}
