//! What two published codecs make of the same messages. Where they and we differ, a row of [`TRIAGE`] says why;
//! a difference without one fails the test.

use bgpd::wire::{Attributes, Codec, Message, decode, encode_announcement, frame};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rustbgpd_wire::validate::{ErrorDisposition, validate_update_attributes};

use crate::codec;
use crate::roundtrip::{any_attributes, any_routes};

/// Messages that are compared.
const MESSAGES: usize = 2500;

/// What comes of a message, from mild to hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Taken, with or without all attributes.
    Taken,
    Withdrawn,
    Reset,
}

/// The outcome, and what is said of it.
type Verdict = (Outcome, String);

/// A kind of difference: whose, our outcome and what we say, what they say, and why ours is right. It is in
/// `docs/bgp-conformance.md` too.
type Difference = (Codecs, Outcome, &'static str, &'static str, &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codecs {
    Rustbgpd,
    Netgauze,
}

#[rustfmt::skip]
const TRIAGE: &[Difference] = {
    use Codecs::{Netgauze, Rustbgpd};
    use Outcome::{Reset, Taken, Withdrawn};
    &[
        (Netgauze, Taken, "", "is not a valid IPv", "RFC 4271 section 4.3: bits past a prefix's length are irrelevant"),
        (Netgauze, Taken, "", "in MP reach: in IPv", "the same in MP_REACH_NLRI"),
        (Netgauze, Taken, "", "unknown address family", "RFC 4760 section 8: routes of families that were not negotiated are passed over"),
        (Netgauze, Taken, "", "in segment identifier", "an attribute that we do not know is passed on unread"),
        (Netgauze, Taken, "", "in BGP-LS", "likewise dropped, being not transitive"),
        (Netgauze, Taken, "", "Invalid partial flag", "RFC 7606 section 3 (c) looks at the optional and the transitive bit alone"),
        (Netgauze, Taken, "", "Invalid transitive flag", "RFC 7606 section 7.10: from another AS the attribute is dropped unread"),
        (Netgauze, Withdrawn, "AS_PATH has an AS_SET", "", "RFC 9774 section 3"),
        (Netgauze, Reset, "(3/2)", "", "RFC 4271 section 6.3: a well-known attribute that is not known"),
        (Netgauze, Reset, "(3/9)", "", "RFC 7606 section 7.11: a next hop of no length that there is"),
        (Rustbgpd, Reset, "(3/2)", "", "RFC 4271 section 6.3, which RFC 7606 leaves as it is; it reports another fault, or leaves it to its caller"),
        (Rustbgpd, Taken, "", "MP_REACH_NLRI unsupported", "RFC 4760 section 8: passed over, as above"),
        (Rustbgpd, Withdrawn, "AS_PATH has an AS_SET", "MP_REACH_NLRI unsupported", "likewise, and RFC 9774"),
        (Rustbgpd, Taken, "", "type 10 flags", "RFC 7606 section 7.10: from another AS the attribute is dropped unread"),
        (Rustbgpd, Taken, "", "type 29 flags", "an attribute that we do not know is passed on unread"),
        (Rustbgpd, Taken, "", "type 33 flags", "likewise"),
        (Rustbgpd, Taken, "", "type 42 flags", "likewise"),
        (Rustbgpd, Taken, "", "ATTR_SET", "likewise"),
    ]
};

fn is_known(codec: Codecs, us: &Verdict, them: &Verdict) -> bool {
    TRIAGE.iter().any(|(whose, outcome, we_say, they_say, _)| {
        (*whose, *outcome) == (codec, us.0) && us.1.contains(we_say) && them.1.contains(they_say)
    })
}

fn ours(octets: &[u8], codec: Codec) -> Verdict {
    match frame(octets, codec).and_then(|_| decode(octets, codec)) {
        Err(error) => (Outcome::Reset, error.to_string()),
        Ok(Message::Update(update)) => {
            let hardest = update.faults.iter().max_by_key(|fault| fault.withdrawn);
            let said = hardest.map_or(String::new(), |fault| fault.reason.clone());
            let withdrawn = hardest.is_some_and(|fault| fault.withdrawn);
            (
                if withdrawn {
                    Outcome::Withdrawn
                } else {
                    Outcome::Taken
                },
                said,
            )
        }
        Ok(_) => unreachable!("it is an UPDATE"),
    }
}

fn rustbgpd(octets: &[u8], codec: Codec) -> Verdict {
    let mut bytes = bytes::Bytes::copy_from_slice(octets);
    let update = match rustbgpd_wire::decode_message(&mut bytes, 4096) {
        Err(error) => return (Outcome::Reset, error.to_string()),
        Ok(rustbgpd_wire::Message::Update(update)) => update,
        Ok(_) => unreachable!("it is an UPDATE"),
    };
    let parsed = match update.parse_revised(codec.four_octet_as, !codec.external, false, &[]) {
        Err(error) => return (Outcome::Reset, error.to_string()),
        Ok(parsed) => parsed,
    };
    let hardest = parsed
        .malformed
        .iter()
        .max_by_key(|malformed| malformed.disposition);
    let body = !parsed.update.announced.is_empty();
    let multiprotocol = parsed
        .update
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, rustbgpd_wire::PathAttribute::MpReachNlri(_)));
    let valid = validate_update_attributes(
        &parsed.update.attributes,
        body || multiprotocol,
        body,
        codec.external,
    );
    match (hardest, valid) {
        (Some(malformed), _) if malformed.disposition == ErrorDisposition::SessionReset => {
            (Outcome::Reset, malformed.error.to_string())
        }
        (Some(malformed), _) if malformed.disposition == ErrorDisposition::TreatAsWithdraw => {
            (Outcome::Withdrawn, malformed.error.to_string())
        }
        (_, Err(error)) => (Outcome::Withdrawn, format!("validation {}", error.subcode)),
        _ => (Outcome::Taken, String::new()),
    }
}

/// It knows no treat-as-withdraw: what it refuses is [`Outcome::Withdrawn`] or [`Outcome::Reset`] for us.
fn netgauze(octets: &[u8], codec: Codec) -> Verdict {
    let mut context = BgpParsingContext::default();
    context.set_asn4(codec.four_octet_as);
    match BgpMessage::parse(&mut SliceReader::new(octets), &mut context) {
        Ok(_) => (Outcome::Taken, String::new()),
        Err(error) => (Outcome::Reset, error.to_string()),
    }
}

#[test]
fn differences_to_other_codecs_are_known() {
    let mut runner = TestRunner::deterministic();
    let mut outcomes = [0; 3];
    let mut differences = Vec::new();
    for _ in 0..MESSAGES {
        let (next_hop, prefixes) = any_routes().new_tree(&mut runner).unwrap().current();
        let attributes = Attributes {
            next_hop,
            ..any_attributes().new_tree(&mut runner).unwrap().current()
        };
        let changes = (
            any::<bool>(),
            prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        );
        let (external, changes) = changes.new_tree(&mut runner).unwrap().current();
        let codec = Codec {
            external,
            as_sets: false,
            ..codec()
        };
        let writer = Codec {
            as_sets: true,
            ..codec
        };
        let mut octets = Vec::new();
        encode_announcement(&attributes, &prefixes, writer, &mut octets).unwrap();
        octets.truncate(frame(&octets, codec).unwrap().unwrap());
        for (at, octet) in changes {
            let at = 19 + at.index(octets.len() - 19);
            octets[at] = octet;
        }
        let us = ours(&octets, codec);
        outcomes[us.0 as usize] += 1;
        let them = rustbgpd(&octets, codec);
        if us.0 != them.0 {
            differences.push((Codecs::Rustbgpd, us.clone(), them));
        }
        let them = netgauze(&octets, codec);
        if (us.0 == Outcome::Taken) != (them.0 == Outcome::Taken) {
            differences.push((Codecs::Netgauze, us, them));
        }
    }
    assert!(
        outcomes.iter().all(|count| *count > MESSAGES / 50),
        "a test of all outcomes: {outcomes:?}"
    );
    for (codec, us, them) in differences {
        assert!(
            is_known(codec, &us, &them),
            "{codec:?}: ours {us:?}, theirs {them:?}"
        );
    }
}
