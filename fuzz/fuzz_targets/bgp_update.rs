//! UPDATE, with every form of codec: routes fare alike, and what is accepted is written again and reads the same.
#![no_main]

use bgpd::wire::{
    Announcement, Codec, Family, FamilySet, Message, Nlri, Update, decode, encode_announcement,
    encode_withdrawal, frame,
};
use libfuzzer_sys::fuzz_target;

/// The form of the codec is in the first two octets.
fn codec(flags: u16) -> Codec {
    let bit = |place: u32| flags >> place & 1 != 0;
    let families = |place: u32| -> FamilySet {
        let chosen = Family::ALL
            .into_iter()
            .zip(place..)
            .filter(|(_, place)| bit(*place));
        chosen.map(|(family, _)| family).collect()
    };
    let add_path = families(4);
    Codec {
        four_octet_as: bit(0),
        extended_message: bit(1),
        extended_message_offered: bit(1),
        external: bit(2),
        as_sets: bit(3),
        add_path_receive: add_path,
        add_path_send: add_path,
        families: families(6),
        extended_next_hop: families(8),
        enhanced_route_refresh: bit(10),
    }
}

fn update(octets: &[u8], codec: Codec) -> Option<Update> {
    match decode(octets, codec) {
        Ok(Message::Update(update)) => Some(update),
        _ => None,
    }
}

/// Every announcement of a stream of messages, as one.
fn announced(mut octets: &[u8], codec: Codec) -> Option<Announcement> {
    let mut all: Option<Announcement> = None;
    while !octets.is_empty() {
        let length = frame(octets, codec).expect("ours").expect("whole");
        let (message, rest) = octets.split_at(length);
        octets = rest;
        let one = update(message, codec).expect("ours").announced.remove(0);
        match &mut all {
            Some(all) => {
                assert_eq!(all.attributes, one.attributes);
                all.prefixes.extend(one.prefixes);
                all.path_ids.extend(one.path_ids);
            }
            None => all = Some(one),
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let Some(([high, low], body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let codec = codec(u16::from_be_bytes([*high, *low]));
    let Ok(length) = u16::try_from(19 + body.len()) else {
        return;
    };
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(2);
    message.extend(body);
    if frame(&message, codec) != Ok(Some(message.len())) {
        return;
    }
    let Some(update) = update(&message, codec) else {
        return;
    };
    let withdrawn = update.faults.iter().any(|fault| fault.withdrawn);
    assert!(!withdrawn || update.announced.is_empty());
    let ids = update.withdrawn_path_ids.len();
    assert!(ids == 0 || ids == update.withdrawn.len());
    for announcement in update.announced {
        let Announcement {
            attributes,
            prefixes,
            path_ids,
        } = &announcement;
        assert!(!prefixes.is_empty() && (path_ids.is_empty() || path_ids.len() == prefixes.len()));
        let nlri = Nlri { prefixes, path_ids };
        let mut octets = Vec::new();
        // What filled a message may be a few octets longer in our form.
        if encode_announcement(attributes, nlri, codec, &mut octets).is_ok() {
            assert_eq!(announced(&octets, codec), Some(announcement));
        }
    }
    let mut octets = Vec::new();
    encode_withdrawal(&update.withdrawn, codec, &mut octets);
});
