//! RFC 7606 as a table: a row for each attribute that we know, a column for each way to be wrong.

use std::time::{Duration, Instant};

use bgpd::wire::{Codec, FAULTS_MAX, Message, Update, decode};

use crate::codec;
use crate::faults::{AS_PATH, MP_REACH, NEXT_HOP, NLRI, ORIGIN, message};

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;

/// Sender whom the attribute comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A neighbour in another AS.
    External,
    /// A neighbour in ours.
    Internal,
    /// One in another AS that speaks two-octet AS numbers.
    Old,
}

/// One attribute: what is good, and what comes of it when it is not.
struct Row {
    name: &'static str,
    from: Sender,
    flags: u8,
    code: u8,
    good: &'static [u8],
    /// A value of good length that is wrong, if there is any.
    bad: Option<&'static [u8]>,
    /// Outcomes by column: the other optional bit, the other transitive bit, no value, an octet less, an octet
    /// more, the bad value, the attribute twice. `A` accepted, `D` attribute discarded, `W` treat-as-withdraw,
    /// `R` session reset with 3/9, `L` with 3/1, `-` there is no such case.
    outcomes: &'static str,
}

const COLUMNS: [&str; 7] = [
    "optional bit",
    "transitive bit",
    "empty",
    "too short",
    "too long",
    "bad value",
    "twice",
];

const REACH: &[u8] = MP_REACH.split_at(3).1;
/// With a next hop of 15 octets.
const REACH_BAD: &[u8] = &[
    0, 2, 1, 15, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 32, 0x20, 1, 0xd, 0xb8,
];
/// The next hop ::.
const REACH_NOWHERE: &[u8] = &[
    0, 2, 1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0x20, 1, 0xd, 0xb8,
];

#[rustfmt::skip]
const ROWS: &[Row] = {
    use Sender::{External, Internal, Old};
    const fn row(name: &'static str, from: Sender, flags: u8, code: u8, good: &'static [u8], bad: Option<&'static [u8]>, outcomes: &'static str) -> Row {
        Row { name, from, flags, code, good, bad, outcomes }
    }
    &[
        row("ORIGIN", External, 0x40, 1, &[0], Some(&[3]), "WWWWWWD"),
        row("AS_PATH", External, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[9, 1, 0, 0, 0xfd, 0xea]), "WWAWWWD"),
        row("AS_PATH with AS 0", External, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[2, 1, 0, 0, 0, 0]), "WWAWWWD"),
        row("AS_PATH of confederations", External, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[3, 1, 0, 0, 0xfd, 0xea]), "WWAWWWD"),
        row("AS_PATH overrun", External, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[2, 2, 0, 0, 0xfd, 0xea]), "WWAWWWD"),
        row("AS_PATH with an empty segment", External, 0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[2, 0]), "WWAWWWD"),
        row("AS_PATH of two octets", Old, 0x40, 2, &[2, 1, 0xfd, 0xea], Some(&[2, 1, 0, 0]), "WWAWWWD"),
        row("NEXT_HOP", External, 0x40, 3, &[10, 0, 0, 2], Some(&[0, 0, 0, 0]), "WWWWWWD"),
        row("NEXT_HOP multicast", External, 0x40, 3, &[10, 0, 0, 2], Some(&[224, 0, 0, 1]), "WWWWWWD"),
        row("MULTI_EXIT_DISC", External, 0x80, 4, &[0, 0, 0, 1], None, "WWWWW-D"),
        row("LOCAL_PREF", Internal, 0x40, 5, &[0, 0, 0, 1], None, "WWWWW-D"),
        row("LOCAL_PREF from another AS", External, 0x40, 5, &[0, 0, 0, 1], None, "AAAAA-D"),
        row("ATOMIC_AGGREGATE", External, 0x40, 6, &[], None, "WWA-D-D"),
        row("AGGREGATOR", External, 0xc0, 7, &[0, 0, 0xfd, 0xea, 10, 0, 0, 2], Some(&[0, 0, 0, 0, 10, 0, 0, 2]), "WWDDDDD"),
        row("AGGREGATOR of two octets", Old, 0xc0, 7, &[0xfd, 0xea, 10, 0, 0, 2], Some(&[0, 0, 10, 0, 0, 2]), "WWDDDDD"),
        row("COMMUNITIES", External, 0xc0, 8, &[0xfd, 0xea, 0, 1], None, "WWWWW-D"),
        row("ORIGINATOR_ID", Internal, 0x80, 9, &[1, 1, 1, 1], None, "WWWWW-D"),
        row("ORIGINATOR_ID from another AS", External, 0x80, 9, &[1, 1, 1, 1], None, "AAAAA-D"),
        row("CLUSTER_LIST", Internal, 0x80, 10, &[1, 1, 1, 1, 2, 2, 2, 2], None, "WWWWW-D"),
        row("CLUSTER_LIST from another AS", External, 0x80, 10, &[1, 1, 1, 1], None, "AAAAA-D"),
        row("MP_REACH_NLRI", External, 0x80, 14, REACH, Some(REACH_BAD), "WWRRRRL"),
        row("MP_REACH_NLRI to nowhere", External, 0x80, 14, REACH, Some(REACH_NOWHERE), "WWRRRWL"),
        row("MP_UNREACH_NLRI", External, 0x80, 15, &[0, 2, 1, 32, 0x20, 1, 0xd, 0xb8], Some(&[0, 2, 1, 129, 0x20, 1, 0xd, 0xb8]), "WWRRRRL"),
        row("EXTENDED COMMUNITIES", External, 0xc0, 16, &[0, 2, 0, 1, 0, 0, 0, 1], None, "WWWWW-D"),
        row("AS4_PATH", Old, 0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[9, 1, 0, 0, 0xfd, 0xea]), "WWDDDDD"),
        row("AS4_PATH with AS 0", Old, 0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[2, 1, 0, 0, 0, 0]), "WWDDDDD"),
        row("AS4_PATH of confederations", Old, 0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[3, 1, 0, 0, 0xfd, 0xea]), "WWDDDAD"),
        row("AS4_PATH from a new speaker", External, 0xc0, 17, &[2, 1, 0, 0, 0xfd, 0xea], Some(&[9, 1]), "WWAAAAD"),
        row("AS4_AGGREGATOR", Old, 0xc0, 18, &[0, 1, 0, 0, 10, 0, 0, 2], Some(&[0, 0, 0, 0, 10, 0, 0, 2]), "WWDDDDD"),
        row("AS4_AGGREGATOR from a new speaker", External, 0xc0, 18, &[0, 1, 0, 0, 10, 0, 0, 2], Some(&[0; 8]), "WWAAAAD"),
        row("IPV6 EXTENDED COMMUNITIES", External, 0xc0, 25, &[0; 20], None, "WWWWW-D"),
        row("AIGP", External, 0x80, 26, &[1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1], Some(&[1, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1]), "DDAAAAD"),
        row("LARGE_COMMUNITY", External, 0xc0, 32, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], None, "WWWWW-D"),
        row("ONLY_TO_CUSTOMER", External, 0xc0, 35, &[0, 0, 0xfd, 0xea], None, "WWWWW-D"),
    ]
};

fn codec_of(from: Sender) -> Codec {
    Codec {
        external: from != Sender::Internal,
        four_octet_as: from != Sender::Old,
        ..codec()
    }
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut octets = vec![flags, code, value.len() as u8];
    octets.extend(value);
    octets
}

/// A message with the attribute in this form, and the mandatory ones where it is none of them.
fn with(row: &Row, forms: &[Vec<u8>]) -> Vec<u8> {
    let old_path: &[u8] = &[0x40, 2, 4, 2, 1, 0xfd, 0xea];
    let path = if row.from == Sender::Old {
        old_path
    } else {
        AS_PATH
    };
    let mut attributes: Vec<&[u8]> = [(1, ORIGIN), (2, path), (3, NEXT_HOP)]
        .into_iter()
        .filter(|(code, _)| *code != row.code)
        .map(|(_, octets)| octets)
        .collect();
    attributes.extend(forms.iter().map(Vec::as_slice));
    message(&[], &attributes, NLRI)
}

fn outcome(octets: &[u8], from: Sender) -> char {
    match decode(octets, codec_of(from)) {
        Err(error) if (error.code, error.subcode) == (3, 9) => 'R',
        Err(error) if (error.code, error.subcode) == (3, 1) => 'L',
        Err(error) => panic!("{error}"),
        Ok(Message::Update(update)) => {
            let withdrawn = update.faults.iter().any(|fault| fault.withdrawn);
            assert_eq!(
                withdrawn,
                update.announced.is_empty(),
                "all routes fare alike: {update:?}"
            );
            match update.faults.as_slice() {
                [] => 'A',
                _ if withdrawn => 'W',
                _ => 'D',
            }
        }
        Ok(other) => unreachable!("{other:?}"),
    }
}

#[test]
fn each_attribute_and_each_way_to_be_wrong() {
    for row in ROWS {
        let form = |value: &[u8]| vec![attribute(row.flags, row.code, value)];
        let good = form(row.good);
        assert_eq!(
            outcome(&with(row, &good), row.from),
            'A',
            "{} as it should be",
            row.name
        );
        let shorter = row.good.split_last().map(|(_, shorter)| form(shorter));
        let longer = [row.good, &[0xff]].concat();
        let columns = [
            Some(vec![attribute(row.flags ^ OPTIONAL, row.code, row.good)]),
            Some(vec![attribute(row.flags ^ TRANSITIVE, row.code, row.good)]),
            Some(form(&[])),
            shorter,
            Some(form(&longer)),
            row.bad.map(form),
            Some([good.clone(), good].concat()),
        ];
        for ((column, forms), expected) in COLUMNS.iter().zip(columns).zip(row.outcomes.chars()) {
            let seen = forms.map_or('-', |forms| outcome(&with(row, &forms), row.from));
            assert_eq!(seen, expected, "{}: {column}", row.name);
        }
        // An attribute that goes on past the end of the list takes what is behind it along.
        let mut cut = attribute(row.flags, row.code, row.good);
        cut[2] = 200;
        assert_eq!(
            outcome(&with(row, &[cut]), row.from),
            'W',
            "{}: cut off",
            row.name
        );
    }
}

#[test]
fn the_hardest_of_several_faults_decides() {
    let discard: &[u8] = &[0x40, 6, 1, 0];
    let withdraw: &[u8] = &[0xc0, 8, 0];
    let reset: &[u8] = &[0x80, 15, 0];
    for (attributes, expected) in [
        (&[discard, withdraw][..], 'W'),
        (&[withdraw, discard], 'W'),
        (&[discard, reset, withdraw], 'R'),
        (&[withdraw, reset], 'R'),
    ] {
        let octets = message(&[], &[&[ORIGIN, AS_PATH, NEXT_HOP], attributes].concat(), NLRI);
        assert_eq!(outcome(&octets, Sender::External), expected);
    }
}

/// As many attributes, segments and faults as a message can hold: time grows with octets alone, and what is
/// told of it is limited.
#[test]
fn no_attributes_make_much_work() {
    let codec = Codec {
        extended_message: true,
        ..codec()
    };
    let read = |attributes: &[&[u8]], nlri: &[u8]| -> Update {
        let started = Instant::now();
        let octets = message(&[], attributes, nlri);
        let Ok(Message::Update(update)) = decode(&octets, codec) else {
            panic!("reset")
        };
        // Milliseconds, but for a machine that does other things too.
        assert!(started.elapsed() < Duration::from_secs(5));
        update
    };
    let filler = |unit: &[u8], octets: usize| unit.repeat(octets / unit.len());
    let mandatory = [ORIGIN, AS_PATH, NEXT_HOP];
    // The same attribute twenty thousand times, and one that withdraws behind the last fault that is told.
    let twice = filler(&[0xc0, 99, 0], 65000);
    let update = read(&[&mandatory[..], &[&twice]].concat(), NLRI);
    assert_eq!((update.faults.len(), update.announced.len()), (FAULTS_MAX, 1));
    let update = read(&[&mandatory[..], &[&twice, &[0xc0, 8, 0]]].concat(), NLRI);
    assert_eq!((update.faults.len(), update.announced.len()), (FAULTS_MAX, 0));
    assert!(update.faults.last().unwrap().withdrawn);
    // Every unknown attribute there is.
    let unknown: Vec<u8> = (36..=255).rev().flat_map(|code| [0xc0, code, 1, 7]).collect();
    let update = read(&[&mandatory[..], &[&unknown]].concat(), NLRI);
    let codes: Vec<u8> = update.announced[0]
        .attributes
        .unknown
        .iter()
        .map(|a| a.code)
        .collect();
    assert_eq!(codes, (36..=255).collect::<Vec<u8>>());
    // A path of ten thousand segments, with and without AS4_PATH to merge it with.
    let extended = |code: u8, flags: u8, value: &[u8]| {
        let mut octets = vec![flags | 0x10, code];
        octets.extend((value.len() as u16).to_be_bytes());
        octets.extend(value);
        octets
    };
    let path = extended(2, 0x40, &filler(&[2, 1, 0, 0, 0xfd, 0xea], 60000));
    let update = read(&[ORIGIN, &path, NEXT_HOP], NLRI);
    assert_eq!(update.announced[0].attributes.as_path.hop_count(), 10_000);
    let old = Codec {
        four_octet_as: false,
        ..codec
    };
    let path = extended(2, 0x40, &filler(&[2, 1, 0xfd, 0xea], 30000));
    let four = extended(17, 0xc0, &filler(&[2, 1, 0, 0, 0xfd, 0xeb], 30000));
    let started = Instant::now();
    let merged = decode(&message(&[], &[ORIGIN, &path, NEXT_HOP, &four], NLRI), old);
    assert!(started.elapsed() < Duration::from_secs(5));
    let Ok(Message::Update(update)) = merged else {
        panic!("reset")
    };
    assert_eq!(update.announced[0].attributes.as_path.hop_count(), 7500);
    // Sixty thousand routes of no length.
    let update = read(&mandatory, &filler(&[0], 60000));
    assert_eq!(update.announced[0].prefixes.len(), 60000);
}
