//! Path attributes as TABLE_DUMP_V2 holds them: those of an UPDATE, but MP_REACH_NLRI has nothing but the next
//! hop (RFC 6396 section 4.3.4).

use crate::monitor::synthesis;
use crate::wire::{
    self, Announcement, Attributes, Codec, EncodeError, Family, HEADER_BYTES, Message, Prefix,
};

const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;
/// Optional, with a length of two octets.
const MP_REACH_FLAGS: u8 = 0x90;
const EXTENDED_LENGTH: u8 = 0x10;

/// One attribute as it stands in a list.
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
    whole: &'a [u8],
}

/// The attributes of a list, up to its end or to what cannot be read: that is an error.
fn walk(mut list: &[u8]) -> impl Iterator<Item = Option<Raw<'_>>> {
    std::iter::from_fn(move || {
        if list.is_empty() {
            return None;
        }
        let whole = list;
        let raw = (|| {
            let (flags, code, header, length) = match list {
                [flags, code, high, low, ..] if flags & EXTENDED_LENGTH != 0 => {
                    (*flags, *code, 4, u16::from_be_bytes([*high, *low]))
                }
                [flags, code, length, ..] if flags & EXTENDED_LENGTH == 0 => {
                    (*flags, *code, 3, (*length).into())
                }
                _ => return None,
            };
            let end = header + usize::from(length);
            Some((
                Raw {
                    flags,
                    code,
                    value: whole.get(header..end)?,
                    whole: whole.get(..end)?,
                },
                whole.get(end..)?,
            ))
        })();
        list = raw.as_ref().map_or(&[], |(_, rest)| rest);
        Some(raw.map(|(raw, _)| raw))
    })
}

/// Writes attributes for a table dump; the prefix matters by its family alone.
pub(super) fn encode(attributes: &Attributes, prefix: &Prefix) -> Result<Vec<u8>, EncodeError> {
    let codec = Codec {
        extended_message: true,
        ..synthesis::codec()
    };
    let mut update = Vec::new();
    wire::encode_announcement(attributes, &[*prefix], codec, &mut update)?;
    let mut list = Vec::new();
    // No withdrawn routes, then the attributes and their length.
    let length = update.get(HEADER_BYTES + 2..HEADER_BYTES + 4);
    let length = length
        .and_then(|field| <[u8; 2]>::try_from(field).ok())
        .map(u16::from_be_bytes);
    let start = HEADER_BYTES + 4;
    let end = start + usize::from(length.unwrap_or_default());
    for raw in walk(update.get(start..end).unwrap_or_default()).flatten() {
        match raw.value {
            // AFI and SAFI go, and so do the octet after the next hop and the routes.
            [_, _, _, octets, rest @ ..] if raw.code == MP_REACH => {
                let next_hop = rest.get(..usize::from(*octets)).unwrap_or_default();
                list.extend([raw.flags & !EXTENDED_LENGTH, MP_REACH, octets + 1, *octets]);
                list.extend(next_hop);
            }
            _ => list.extend(raw.whole),
        }
    }
    Ok(list)
}

/// The family whose routes an UPDATE, a whole message, speaks of; none if it is one that we do not carry. A
/// message with routes of two families is taken for one of that which its attributes name.
pub(super) fn family_of(update: &[u8]) -> Option<Family> {
    let length16 = |at: usize| {
        let field = update
            .get(at..at + 2)
            .and_then(|field| <[u8; 2]>::try_from(field).ok())?;
        Some(usize::from(u16::from_be_bytes(field)))
    };
    let list = HEADER_BYTES + 2 + length16(HEADER_BYTES)?;
    let list = update.get(list + 2..list + 2 + length16(list)?)?;
    let mut attributes = walk(list).flatten();
    match attributes.find(|raw| matches!(raw.code, MP_REACH | MP_UNREACH)) {
        Some(Raw {
            value: [high, low, safi, ..],
            ..
        }) => Family::from_wire(u16::from_be_bytes([*high, *low]), *safi),
        Some(_) => None,
        None => Some(Family::Ipv4Unicast),
    }
}

/// An attribute's flags as they must be. BIRD writes some without any, where its table has no flags.
const fn flags_of(raw: &Raw<'_>) -> u8 {
    const WELL_KNOWN: u8 = 0x40;
    const OPTIONAL: u8 = 0x80;
    const OPTIONAL_TRANSITIVE: u8 = 0xc0;
    let own = match raw.code {
        // ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF and ATOMIC_AGGREGATE (RFC 4271 section 5).
        1..=3 | 5 | 6 => WELL_KNOWN,
        // MULTI_EXIT_DISC; ORIGINATOR_ID and CLUSTER_LIST (RFC 4456).
        4 | 9 | 10 => OPTIONAL,
        // AGGREGATOR and the communities of RFC 1997, RFC 4360 and RFC 8092.
        7 | 8 | 16 | 32 => OPTIONAL_TRANSITIVE,
        _ => return raw.flags,
    };
    raw.flags & !OPTIONAL_TRANSITIVE | own
}

/// Reads the attributes of a prefix in a table dump; none if they cannot be read, or say by RFC 7606 that the
/// route is to be treated as withdrawn. `external`: the peer was in another AS.
pub(super) fn decode(list: &[u8], prefix: &Prefix, external: bool) -> Option<Attributes> {
    let family = Family::of(prefix);
    let mut attributes = Vec::new();
    let mut next_hop = None;
    for raw in walk(list) {
        let raw = raw?;
        match raw.value {
            // Some write all of MP_REACH_NLRI: its first octet, the AFI's, is then 0, and else a length.
            [0, _, _, octets, rest @ ..] if raw.code == MP_REACH => {
                next_hop = rest.get(..usize::from(*octets))
            }
            [octets, rest @ ..] if raw.code == MP_REACH => next_hop = rest.get(..usize::from(*octets)),
            _ => {
                attributes.push(flags_of(&raw));
                attributes.extend(raw.whole.get(1..)?);
            }
        }
    }
    let mut nlri = vec![prefix.prefix_len()];
    let octets = usize::from(prefix.prefix_len().div_ceil(8));
    match prefix.network() {
        std::net::IpAddr::V4(address) => nlri.extend(address.octets().iter().take(octets)),
        std::net::IpAddr::V6(address) => nlri.extend(address.octets().iter().take(octets)),
    }
    if let Some(next_hop) = next_hop {
        let [afi_high, afi_low] = family.afi().to_be_bytes();
        let mut value = vec![
            afi_high,
            afi_low,
            family.safi(),
            u8::try_from(next_hop.len()).ok()?,
        ];
        value.extend(next_hop);
        value.push(0);
        value.append(&mut nlri);
        attributes.extend([MP_REACH_FLAGS, MP_REACH]);
        attributes.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        attributes.extend(value);
    }
    let length = u16::try_from(HEADER_BYTES + 4 + attributes.len() + nlri.len()).ok()?;
    let mut update = vec![0xff; 16];
    update.extend(length.to_be_bytes());
    update.extend([2, 0, 0]);
    update.extend(u16::try_from(attributes.len()).ok()?.to_be_bytes());
    update.extend(attributes);
    update.extend(nlri);
    let codec = Codec {
        extended_message: true,
        external,
        ..synthesis::codec()
    };
    let Ok(Message::Update(update)) = wire::decode(&update, codec) else {
        return None;
    };
    let mut announced = update.announced.into_iter();
    announced.next().map(|Announcement { attributes, .. }| attributes)
}
