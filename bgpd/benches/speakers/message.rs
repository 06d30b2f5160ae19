//! BGP messages in octets. Written here and not taken from the crate, so that what measures does not
//! depend on what is measured.

use std::net::Ipv4Addr;

pub(crate) const HEADER_BYTES: usize = 19;
pub(crate) const MESSAGE_MAX_BYTES: usize = 4096;
pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
pub(crate) const ROUTE_REFRESH: u8 = 5;

/// Stands for an AS number that does not fit into two octets (RFC 6793 section 9).
const AS_TRANS: u16 = 23456;

/// Appends a message; `body` writes what follows the header.
pub(crate) fn message(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0xff; 16]);
    out.extend([0, 0, kind]);
    body(out);
    let length = out.len() - start;
    assert!(length <= MESSAGE_MAX_BYTES, "a message of {length} octets");
    out[start + 16..start + 18].copy_from_slice(&(length as u16).to_be_bytes());
}

pub(crate) fn keepalive() -> Vec<u8> {
    let mut out = Vec::new();
    message(KEEPALIVE, &mut out, |_| {});
    out
}

/// An OPEN for IPv4 unicast with four-octet AS numbers, and nothing else.
pub(crate) fn open(asn: u32, hold_time_s: u16, router_id: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::new();
    message(OPEN, &mut out, |out| {
        out.push(4);
        out.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        out.extend(hold_time_s.to_be_bytes());
        out.extend(router_id.octets());
        let multiprotocol = [1, 4, 0, 1, 0, 1];
        out.extend([16, 2, 14]);
        out.extend(multiprotocol);
        out.extend([65, 4]);
        out.extend(asn.to_be_bytes());
        // Route refresh: some speakers say so in their log, once a session, where it is missing.
        out.extend([2, 0]);
    });
    out
}

/// The path attributes of an UPDATE, in order of their type codes.
#[derive(Default)]
pub(crate) struct AttributeWriter(pub(crate) Vec<u8>);

impl AttributeWriter {
    pub(crate) const WELL_KNOWN: u8 = 0x40;
    pub(crate) const OPTIONAL: u8 = 0x80;
    pub(crate) const OPTIONAL_TRANSITIVE: u8 = 0xc0;

    pub(crate) fn put(&mut self, flags: u8, code: u8, value: &[u8]) {
        assert!(value.len() <= 255, "attribute {code}: {} octets", value.len());
        self.0.extend([flags, code, value.len() as u8]);
        self.0.extend(value);
    }

    pub(crate) fn put_words(&mut self, flags: u8, code: u8, words: &[u32]) {
        let value: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.put(flags, code, &value);
    }
}

/// Appends UPDATEs that announce prefixes (in their octets) with common attributes.
pub(crate) fn announce(attributes: &[u8], prefixes: &[Vec<u8>], out: &mut Vec<u8>) {
    let room = MESSAGE_MAX_BYTES - HEADER_BYTES - 4 - attributes.len();
    for run in runs(prefixes, room) {
        message(UPDATE, out, |out| {
            out.extend([0, 0]);
            out.extend((attributes.len() as u16).to_be_bytes());
            out.extend(attributes);
            out.extend(run.concat());
        });
    }
}

/// Appends UPDATEs that withdraw prefixes, as few as they fit into.
pub(crate) fn withdraw(prefixes: &[Vec<u8>], out: &mut Vec<u8>) {
    for run in runs(prefixes, MESSAGE_MAX_BYTES - HEADER_BYTES - 4) {
        message(UPDATE, out, |out| {
            let octets = run.concat();
            out.extend((octets.len() as u16).to_be_bytes());
            out.extend(octets);
            out.extend([0, 0]);
        });
    }
}

/// Appends End-of-RIB for IPv4 (RFC 4724 section 2).
pub(crate) fn end_of_rib(out: &mut Vec<u8>) {
    message(UPDATE, out, |out| out.extend([0; 4]));
}

/// Cuts prefixes into runs of at most `room` octets.
fn runs(mut prefixes: &[Vec<u8>], room: usize) -> Vec<&[Vec<u8>]> {
    let mut runs = Vec::new();
    while !prefixes.is_empty() {
        let mut octets = 0;
        let fits = |prefix: &&Vec<u8>| {
            octets += prefix.len();
            octets <= room
        };
        let count = prefixes.iter().take_while(fits).count();
        let (run, rest) = prefixes.split_at(count);
        runs.push(run);
        prefixes = rest;
    }
    runs
}

/// The parts of an UPDATE.
pub(crate) struct UpdateParts<'a> {
    pub(crate) withdrawn: &'a [u8],
    pub(crate) attributes: &'a [u8],
    pub(crate) announced: &'a [u8],
}

impl<'a> UpdateParts<'a> {
    /// From what follows the header. `None` if the lengths do not add up.
    pub(crate) fn of(body: &'a [u8]) -> Option<Self> {
        let (withdrawn, body) = block16(body)?;
        let (attributes, announced) = block16(body)?;
        Some(Self {
            withdrawn,
            attributes,
            announced,
        })
    }

    /// The second AS of AS_PATH: the neighbor that the sender has the route from.
    pub(crate) fn second_as(&self) -> Option<u32> {
        let mut rest = self.attributes;
        loop {
            let (&[flags, code], more) = rest.split_first_chunk()?;
            let (value, more) = if flags & 0x10 != 0 {
                block16(more)?
            } else {
                let (length, more) = more.split_first()?;
                more.split_at_checked(usize::from(*length))?
            };
            rest = more;
            if code == 2 {
                // Segment type, count, first AS.
                return value.get(6..10)?.try_into().ok().map(u32::from_be_bytes);
            }
        }
    }
}

fn block16(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
