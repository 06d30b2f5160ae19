//! Takes the scheme out of the authority of a header block (HPACK, RFC 7541).
//!
//! The block's other fields are stepped over without being decoded. What changes is one literal: the receiver's
//! dynamic table then holds a shorter entry than the sender's, in the same place. The receiver so evicts no earlier
//! than the sender does, and every index that the sender uses still means the same.

/// `:authority` in the static table, RFC 7541 appendix A.
const AUTHORITY: u64 = 1;
const SCHEME: &str = "http://";

/// The code of appendix B for the characters of addresses: successive codes of one length, by the first of them.
const CODES: [(u32, u32, &str); 5] = [
    (5, 0x00, "012aceiost"),
    (6, 0x14, " %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, "&*,;XZ"),
    (13, 0x1ff9, "$@[]~"),
];
const CODE_BITS_MAX: u32 = 13;
/// Filling at the end: fewer than eight ones.
const FILLING_BITS_MAX: u32 = 7;

/// The block without the scheme, or nothing if there is none (or the block cannot be read, which the HTTP/2
/// library then says).
pub(super) fn without_scheme(block: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    while let Some(first) = block.get(at).copied() {
        let (prefix_bits, is_literal) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let (number, length) = integer(block.get(at..)?, prefix_bits)?;
        at += length;
        if !is_literal {
            continue;
        }
        if number == 0 {
            at += string(block.get(at..)?)?.whole;
        }
        let value = string(block.get(at..)?)?;
        if number == AUTHORITY {
            let shorter = value.without_scheme()?;
            let mut mended = block.get(..at)?.to_vec();
            mended.extend(shorter);
            mended.extend_from_slice(block.get(at + value.whole..)?);
            return Some(mended);
        }
        at += value.whole;
    }
    None
}

/// A number and the bytes it takes, RFC 7541 section 5.1.
fn integer(bytes: &[u8], prefix_bits: u32) -> Option<(u64, usize)> {
    let mask = (1_u64 << prefix_bits) - 1;
    let mut number = u64::from(*bytes.first()?) & mask;
    if number < mask {
        return Some((number, 1));
    }
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        number += u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, place + 2));
        }
    }
    None
}

/// A string literal, section 5.2.
struct Literal<'a> {
    is_coded: bool,
    bytes: &'a [u8],
    /// Its length with what announces it.
    whole: usize,
}

fn string(bytes: &[u8]) -> Option<Literal<'_>> {
    let (length, announced) = integer(bytes, 7)?;
    let end = announced.checked_add(usize::try_from(length).ok()?)?;
    Some(Literal {
        is_coded: bytes.first()? & 0x80 != 0,
        bytes: bytes.get(announced..end)?,
        whole: end,
    })
}

impl Literal<'_> {
    /// The literal anew and in plain letters, if it began with the scheme.
    fn without_scheme(&self) -> Option<Vec<u8>> {
        let text = if self.is_coded {
            decoded(self.bytes)?
        } else {
            String::from_utf8(self.bytes.to_vec()).ok()?
        };
        let rest = text.strip_prefix(SCHEME)?;
        // Short enough for one byte of length, as a name and a port are.
        let length = u8::try_from(rest.len()).ok().filter(|length| *length < 0x7f)?;
        let mut literal = vec![length];
        literal.extend_from_slice(rest.as_bytes());
        Some(literal)
    }
}

/// The text of coded bytes; nothing if it has a character that no address has.
fn decoded(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let (mut code, mut length) = (0_u32, 0_u32);
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)));
    for bit in bits {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some(letter) = letter(code, length) {
            text.push(letter);
            (code, length) = (0, 0);
        } else if length >= CODE_BITS_MAX {
            return None;
        }
    }
    let is_filling = length <= FILLING_BITS_MAX && code == (1 << length) - 1;
    is_filling.then_some(text)
}

fn letter(code: u32, length: u32) -> Option<char> {
    let (_, first, letters) = CODES.iter().find(|(bits, _, _)| *bits == length)?;
    let place = usize::try_from(code.checked_sub(*first)?).ok()?;
    letters.as_bytes().get(place).copied().map(char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(text: &str) -> Vec<u8> {
        let mut bits = String::new();
        for letter in text.chars() {
            let (length, code) = (1..=CODE_BITS_MAX)
                .find_map(|length| {
                    (0..1 << length)
                        .find(|code| super::letter(*code, length) == Some(letter))
                        .map(|code| (length, code))
                })
                .unwrap();
            bits.push_str(&format!("{code:0width$b}", width = length as usize));
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
            .collect()
    }

    /// The example of RFC 7541 appendix C.4.1.
    #[test]
    fn decodes_the_example() {
        let example = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&example).as_deref(), Some("www.example.com"));
        assert_eq!(coded("www.example.com"), example);
        assert_eq!(decoded(&[0xff]), None, "eight ones are no filling");
    }

    fn literal(first: u8, is_coded: bool, text: &str) -> Vec<u8> {
        let value = if is_coded {
            coded(text)
        } else {
            text.as_bytes().to_vec()
        };
        let mut field = vec![first, value.len() as u8 | if is_coded { 0x80 } else { 0 }];
        field.extend(value);
        field
    }

    #[test]
    fn the_scheme_goes_from_plain_and_coded_authorities() {
        // Names whose codes end at each place in a byte.
        for name in [
            "127.0.0.1:2379",
            "1:2",
            "1:23",
            "etcd:2379",
            "etcd1:2379",
            "etcd:23799",
            "e:1",
            "et:1",
            "etc:1",
        ] {
            for is_coded in [false, true] {
                for first in [0x41, 0x01, 0x11] {
                    let with = literal(first, is_coded, &format!("http://{name}"));
                    let without = literal(first, false, name);
                    // Among others: indexed, a table size, a new name.
                    let around = |field: &[u8]| {
                        [
                            &[0x82, 0x3f, 0xe1, 0x1f, 0x40, 1, b'x', 2, b'y', b'z'][..],
                            field,
                            &[0x86],
                        ]
                        .concat()
                    };
                    assert_eq!(
                        without_scheme(&around(&with)),
                        Some(around(&without)),
                        "{name} {is_coded}"
                    );
                    let untouched = around(&literal(first, is_coded, name));
                    assert_eq!(without_scheme(&untouched), None, "{name} {is_coded}");
                }
            }
        }
    }

    #[test]
    fn bytes_that_are_no_block_are_left_alone() {
        let whole = literal(0x41, true, "http://127.0.0.1:2379");
        for cut in 0..whole.len() {
            assert_eq!(without_scheme(&whole[..cut]), None);
        }
        assert_eq!(
            without_scheme(&[0x41, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
        assert_eq!(
            without_scheme(&literal(0x44, false, "http://127.0.0.1:2379")),
            None,
            "a path is no authority"
        );
    }
}
