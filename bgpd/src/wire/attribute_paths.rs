//! AS_PATH and AGGREGATOR, and what carries their four-octet ASes past old speakers (RFC 6793).

use std::net::Ipv4Addr;

use super::draft::Draft;
use super::reader::Reader;
use super::{AS_TRANS, Aggregator, AsPath, Attributes, Codec, SEGMENT_AS_MAX, Segment, SegmentKind};

/// Reads segments. An empty one, one of an unknown kind and AS 0 (RFC 7607 section 2) make the path malformed.
fn read_path(value: &[u8], four_octet_as: bool) -> Option<AsPath> {
    let mut reader = Reader::new(value);
    let mut path = AsPath::default();
    while !reader.is_empty() {
        let kind = SegmentKind::from_code(reader.u8()?)?;
        let count = usize::from(reader.u8()?);
        let ases: Vec<u32> = if four_octet_as {
            let (ases, _) = reader.take(count * 4)?.as_chunks::<4>();
            ases.iter().copied().map(u32::from_be_bytes).collect()
        } else {
            let (ases, _) = reader.take(count * 2)?.as_chunks::<2>();
            ases.iter()
                .copied()
                .map(|asn| u16::from_be_bytes(asn).into())
                .collect()
        };
        if ases.is_empty() || ases.contains(&0) {
            return None;
        }
        path.segments.push(Segment { kind, ases });
    }
    Some(path)
}

const fn is_confederation(segment: &Segment) -> bool {
    matches!(segment.kind, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
}

fn write_path(path: &AsPath, four_octet_as: bool, out: &mut Vec<u8>) {
    for segment in &path.segments {
        for ases in segment.ases.chunks(SEGMENT_AS_MAX) {
            out.extend([segment.kind.code(), ases.len() as u8]);
            for asn in ases {
                if four_octet_as {
                    out.extend(asn.to_be_bytes());
                } else {
                    out.extend(u16::try_from(*asn).unwrap_or(AS_TRANS as u16).to_be_bytes());
                }
            }
        }
    }
}

pub(super) fn read_as_path(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    let path = read_path(value, codec.four_octet_as)?;
    // We are in no confederation (RFC 5065 section 5).
    if path.segments.iter().any(is_confederation) {
        return None;
    }
    draft.forbidden_set |= !codec.as_sets && path.has_sets();
    draft.as_path = Some(path);
    Some(())
}

pub(super) fn write_as_path(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    write_path(&attributes.as_path, codec.four_octet_as, out);
    true
}

/// RFC 6793 section 6: a neighbour that speaks four octets must not send it; it is dropped.
pub(super) fn read_as4_path(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    if codec.four_octet_as {
        return Some(());
    }
    // Unlike AS_PATH, it has at least one AS.
    let mut path = read_path(value, true).filter(|path| !path.is_empty())?;
    // Confederation segments alone are dropped.
    path.segments.retain(|segment| !is_confederation(segment));
    draft.forbidden_set |= !codec.as_sets && path.has_sets();
    draft.as4_path = Some(path);
    Some(())
}

pub(super) fn write_as4_path(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    let wanted = !codec.four_octet_as && attributes.as_path.needs_four_octets();
    if wanted {
        write_path(&attributes.as_path, true, out);
    }
    wanted
}

fn aggregator(value: &[u8], four_octet_as: bool) -> Option<Aggregator> {
    let mut reader = Reader::new(value);
    let asn = if four_octet_as {
        reader.u32()?
    } else {
        reader.u16()?.into()
    };
    let router_id = Ipv4Addr::from(reader.array::<4>()?);
    (reader.is_empty() && asn != 0).then_some(Aggregator { asn, router_id })
}

pub(super) fn read_aggregator(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    draft.aggregator = Some(aggregator(value, codec.four_octet_as)?);
    Some(())
}

pub(super) fn write_aggregator(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    let Some(Aggregator { asn, router_id }) = attributes.aggregator else {
        return false;
    };
    if codec.four_octet_as {
        out.extend(asn.to_be_bytes());
    } else {
        out.extend(u16::try_from(asn).unwrap_or(AS_TRANS as u16).to_be_bytes());
    }
    out.extend(router_id.octets());
    true
}

pub(super) fn read_as4_aggregator(draft: &mut Draft, value: &[u8], codec: Codec) -> Option<()> {
    if !codec.four_octet_as {
        draft.as4_aggregator = Some(aggregator(value, true)?);
    }
    Some(())
}

pub(super) fn write_as4_aggregator(attributes: &Attributes, codec: Codec, out: &mut Vec<u8>) -> bool {
    match attributes.aggregator {
        Some(Aggregator { asn, router_id }) if !codec.four_octet_as && asn > u16::MAX.into() => {
            out.extend(asn.to_be_bytes());
            out.extend(router_id.octets());
            true
        }
        _ => false,
    }
}
