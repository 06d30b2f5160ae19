//! How BMP messages are read: for tests, tools and whoever receives them.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Buf;

use super::message::{
    COMMON_HEADER_BYTES, DownReason, MESSAGE_MAX_BYTES, Message, PEER_HEADER_BYTES, PeerHeader, PeerUp,
    Statistic, Tlv, VERSION, address_of, kind, peer_flag, peer_type,
};

/// Bytes that are no BMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BmpError {
    /// Another version.
    #[error("version {0}; only version 3 is known")]
    Version(u8),
    /// A length that cannot be.
    #[error("a message of {0} octets; it must have 6 to {MESSAGE_MAX_BYTES}")]
    Length(u32),
    /// A type that is not known.
    #[error("message type {0} is not known")]
    Type(u8),
    /// The content contradicts its lengths.
    #[error("message type {kind}: the {field} cannot be read")]
    Malformed {
        /// The message type.
        kind: u8,
        /// What cannot be read.
        field: &'static str,
    },
}

/// Looks for a whole message at the front of `buffer`: its length, or `None` if more is to come.
pub fn frame(buffer: &[u8]) -> Result<Option<usize>, BmpError> {
    match buffer {
        [version, ..] if *version != VERSION => Err(BmpError::Version(*version)),
        [_, a, b, c, d, ..] => {
            let length = u32::from_be_bytes([*a, *b, *c, *d]);
            let size = usize::try_from(length).unwrap_or(usize::MAX);
            if !(COMMON_HEADER_BYTES..=MESSAGE_MAX_BYTES).contains(&size) {
                return Err(BmpError::Length(length));
            }
            Ok((buffer.len() >= size).then_some(size))
        }
        _ => Ok(None),
    }
}

/// Reads one message that [`frame`] has measured.
pub fn decode(message: &[u8]) -> Result<Message, BmpError> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let (header, mut body) = message
        .split_at_checked(COMMON_HEADER_BYTES)
        .ok_or(BmpError::Length(length))?;
    let kind = header.last().copied().unwrap_or_default();
    let wrong = |field| BmpError::Malformed { kind, field };
    if kind > kind::ROUTE_MIRRORING {
        return Err(BmpError::Type(kind));
    }
    if matches!(kind, kind::INITIATION | kind::TERMINATION) {
        let tlvs = tlvs(body).ok_or(wrong("TLV"))?;
        return Ok(match kind {
            kind::INITIATION => Message::Initiation(tlvs),
            _ => Message::Termination(tlvs),
        });
    }
    let peer = peer_header(&mut body).ok_or(wrong("peer header"))?;
    Ok(match kind {
        kind::ROUTE_MONITORING => Message::RouteMonitoring(peer, body.to_vec()),
        kind::STATISTICS_REPORT => {
            Message::StatisticsReport(peer, statistics(body).ok_or(wrong("statistics"))?)
        }
        kind::PEER_DOWN => Message::PeerDown(peer, down_reason(body).ok_or(wrong("reason"))?),
        kind::PEER_UP => {
            let up = peer_up(body, &peer).ok_or(wrong("OPEN messages"))?;
            Message::PeerUp(peer, Box::new(up))
        }
        _ => Message::RouteMirroring(peer, tlvs(body).ok_or(wrong("TLV"))?),
    })
}

fn take<'a>(body: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = body.split_at_checked(count)?;
    *body = rest;
    Some(front)
}

fn array<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*front)
}

fn peer_header(body: &mut &[u8]) -> Option<PeerHeader> {
    if body.len() < PEER_HEADER_BYTES {
        return None;
    }
    let (kind, flags) = (body.try_get_u8().ok()?, body.try_get_u8().ok()?);
    let distinguisher = body.try_get_u64().ok()?;
    let ipv6 = kind != peer_type::LOC_RIB && flags & peer_flag::IPV6 != 0;
    let address = address_of(array(body)?, ipv6);
    let asn = body.try_get_u32().ok()?;
    let router_id = Ipv4Addr::from(body.try_get_u32().ok()?);
    let seconds = body.try_get_u32().ok()?;
    let micros = body.try_get_u32().ok()?;
    Some(PeerHeader {
        kind,
        flags,
        distinguisher,
        address,
        asn,
        router_id,
        at: Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into()),
    })
}

fn tlvs(mut body: &[u8]) -> Option<Vec<Tlv>> {
    let mut tlvs = Vec::new();
    while !body.is_empty() {
        let kind = body.try_get_u16().ok()?;
        let length = body.try_get_u16().ok()?;
        let value = take(&mut body, length.into())?.to_vec();
        tlvs.push(Tlv { kind, value });
    }
    Some(tlvs)
}

/// Statistics of a length that is not known are passed over (RFC 7854 section 4.8).
fn statistics(mut body: &[u8]) -> Option<Vec<Statistic>> {
    let count = body.try_get_u32().ok()?;
    let mut statistics = Vec::new();
    for _ in 0..count {
        let kind = body.try_get_u16().ok()?;
        let length = body.try_get_u16().ok()?;
        let mut value = take(&mut body, length.into())?;
        match value.len() {
            4 => statistics.push(Statistic::Counter(kind, value.try_get_u32().ok()?)),
            8 => statistics.push(Statistic::Gauge(kind, value.try_get_u64().ok()?)),
            11 => {
                let (afi, safi) = (value.try_get_u16().ok()?, value.try_get_u8().ok()?);
                statistics.push(Statistic::FamilyGauge(kind, afi, safi, value.try_get_u64().ok()?));
            }
            _ => {}
        }
    }
    body.is_empty().then_some(statistics)
}

fn down_reason(mut body: &[u8]) -> Option<DownReason> {
    let code = body.try_get_u8().ok()?;
    match (code, body) {
        (1, notification) => Some(DownReason::LocalNotification(notification.to_vec())),
        (2, [high, low]) => Some(DownReason::LocalClosed(u16::from_be_bytes([*high, *low]))),
        (3, notification) => Some(DownReason::RemoteNotification(notification.to_vec())),
        (4, []) => Some(DownReason::RemoteClosed),
        (5, []) => Some(DownReason::NotMonitored),
        (6, body) => tlvs(body).map(DownReason::LocRib),
        _ => None,
    }
}

fn peer_up(mut body: &[u8], peer: &PeerHeader) -> Option<PeerUp> {
    let local = array::<16>(&mut body)?;
    // Nothing says of which family our own address is, but that it speaks to the peer's.
    let local = address_of(local, peer.address.is_ipv6());
    let local_port = body.try_get_u16().ok()?;
    let remote_port = body.try_get_u16().ok()?;
    let sent_open = bgp_message(&mut body)?;
    let received_open = bgp_message(&mut body)?;
    Some(PeerUp {
        local,
        local_port,
        remote_port,
        sent_open,
        received_open,
        information: tlvs(body)?,
    })
}

/// A BGP message by the length in its header.
fn bgp_message(body: &mut &[u8]) -> Option<Vec<u8>> {
    let length = body
        .get(16..18)
        .and_then(|field| <[u8; 2]>::try_from(field).ok())?;
    let length = usize::from(u16::from_be_bytes(length));
    if length < crate::wire::HEADER_BYTES {
        return None;
    }
    take(body, length).map(<[u8]>::to_vec)
}
