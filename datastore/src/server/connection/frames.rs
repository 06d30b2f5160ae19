//! Finds the header frames in what a client sends (RFC 9113 section 4.1).

use super::authority::without_scheme;

/// What an HTTP/2 client sends first, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that we announce to take (the protocol's default); larger ones are not looked into.
const FRAME_BYTES_MAX: usize = 16_384;
const TYPE_HEADERS: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// Stream dependency and weight, where the priority flag is set.
const PRIORITY_BYTES: usize = 5;

/// Follows the frames of one connection, in pieces of any size.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
}

#[derive(Debug)]
enum State {
    /// This much of the preface was seen.
    Preface(usize),
    /// This much of a frame's header.
    Header(Vec<u8>),
    /// The payload of a frame that is passed on as it is.
    Payload(usize),
    /// A header frame, gathered whole: what is there, and its length with its header.
    Headers(Vec<u8>, usize),
    /// Not HTTP/2: passed on as it is.
    Unknown,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            state: State::Preface(0),
        }
    }
}

impl Frames {
    /// Takes what came and appends what is to be passed on.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let state = std::mem::replace(&mut self.state, State::Unknown);
            let (next, taken) = step(state, rest, out);
            self.state = next;
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
}

/// Takes at least one byte.
fn step(state: State, bytes: &[u8], out: &mut Vec<u8>) -> (State, usize) {
    match state {
        State::Preface(seen) => {
            let expected = PREFACE.get(seen..).unwrap_or_default();
            let taken = expected.len().min(bytes.len());
            let came = bytes.get(..taken).unwrap_or_default();
            out.extend_from_slice(came);
            if !expected.starts_with(came) {
                return (State::Unknown, taken);
            }
            let next = if taken == expected.len() {
                State::Header(Vec::new())
            } else {
                State::Preface(seen + taken)
            };
            (next, taken)
        }
        State::Header(mut header) => {
            let taken = (FRAME_HEADER_BYTES - header.len()).min(bytes.len());
            header.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            (after_header(header, out), taken)
        }
        State::Payload(left) => {
            let taken = left.min(bytes.len());
            out.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            let next = if taken == left {
                State::Header(Vec::new())
            } else {
                State::Payload(left - taken)
            };
            (next, taken)
        }
        State::Headers(mut frame, length) => {
            let taken = (length - frame.len()).min(bytes.len());
            frame.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            if frame.len() < length {
                return (State::Headers(frame, length), taken);
            }
            out.extend_from_slice(&mended(frame));
            (State::Header(Vec::new()), taken)
        }
        State::Unknown => {
            out.extend_from_slice(bytes);
            (State::Unknown, bytes.len())
        }
    }
}

fn after_header(header: Vec<u8>, out: &mut Vec<u8>) -> State {
    let [high, middle, low, kind, flags, ..] = *header.as_slice() else {
        return State::Header(header);
    };
    if header.len() < FRAME_HEADER_BYTES {
        return State::Header(header);
    }
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    let looked_into = kind == TYPE_HEADERS
        && flags & FLAG_END_HEADERS != 0
        && flags & FLAG_PADDED == 0
        && (1..=FRAME_BYTES_MAX).contains(&length);
    if looked_into {
        return State::Headers(header, FRAME_HEADER_BYTES + length);
    }
    out.extend_from_slice(&header);
    if length == 0 {
        State::Header(Vec::new())
    } else {
        State::Payload(length)
    }
}

/// The frame with the scheme taken out of its authority, if there is one.
fn mended(frame: Vec<u8>) -> Vec<u8> {
    let flags = frame.get(4).copied().unwrap_or_default();
    let priority = if flags & FLAG_PRIORITY == 0 {
        0
    } else {
        PRIORITY_BYTES
    };
    let start = FRAME_HEADER_BYTES + priority;
    let Some(block) = frame.get(start..).and_then(without_scheme) else {
        return frame;
    };
    let Ok(length) = u32::try_from(priority + block.len()) else {
        return frame;
    };
    let [_, high, middle, low] = length.to_be_bytes();
    let mut mended = vec![high, middle, low];
    mended.extend_from_slice(frame.get(3..start).unwrap_or_default());
    mended.extend_from_slice(&block);
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut frame = length.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    /// An authority in plain letters, then an indexed field.
    fn block(authority: &str) -> Vec<u8> {
        let mut block = vec![0x83, 0x41, authority.len() as u8];
        block.extend_from_slice(authority.as_bytes());
        block.push(0x86);
        block
    }

    fn fed(input: &[u8], piece: usize) -> Vec<u8> {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        input.chunks(piece).for_each(|bytes| frames.feed(bytes, &mut out));
        out
    }

    #[test]
    fn only_header_frames_change_whatever_the_pieces() {
        let (with, without) = (block("http://127.0.0.1:2379"), block("127.0.0.1:2379"));
        let (mut input, mut expected) = (PREFACE.to_vec(), PREFACE.to_vec());
        for (kind, flags, given, passed) in [
            (0x4, 0, &b""[..], &b""[..]),
            (TYPE_HEADERS, FLAG_END_HEADERS, &with, &without),
            (0x0, 1, &with, &with),
            (TYPE_HEADERS, FLAG_END_HEADERS, &without, &without),
            (TYPE_HEADERS, 0, &with, &with),
            (TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, &with, &with),
        ] {
            input.extend(frame(kind, flags, given));
            expected.extend(frame(kind, flags, passed));
        }
        let with_priority = |block: &[u8]| [&[0, 0, 0, 0, 9][..], block].concat();
        let flags = FLAG_END_HEADERS | FLAG_PRIORITY;
        input.extend(frame(TYPE_HEADERS, flags, &with_priority(&with)));
        expected.extend(frame(TYPE_HEADERS, flags, &with_priority(&without)));
        for piece in [1, 2, 3, 7, 24, 1000] {
            assert_eq!(fed(&input, piece), expected, "in pieces of {piece}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_come_through_in_any_pieces(
            bytes in proptest::collection::vec(0_u8.., 0..400),
            piece in 1_usize..50,
        ) {
            // Frames of a length that fits, so that header blocks of any bytes are looked into.
            let mut input = PREFACE.to_vec();
            for payload in bytes.chunks(40) {
                input.extend(frame(TYPE_HEADERS, FLAG_END_HEADERS, payload));
            }
            input.extend(frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PRIORITY, bytes.get(..3).unwrap_or_default()));
            proptest::prop_assert_eq!(fed(&input, piece), fed(&input, input.len()));
            let raw = [PREFACE, &bytes].concat();
            proptest::prop_assert!(fed(&raw, piece).len() <= raw.len());
        }
    }

    #[test]
    fn what_is_not_http2_passes() {
        let request = b"GET /health HTTP/1.1\r\nHost: http://x\r\n\r\n".repeat(20);
        for piece in [1, 5, 4096] {
            assert_eq!(fed(&request, piece), request);
        }
    }
}
