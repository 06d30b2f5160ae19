//! How MRT records are read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Buf;
use ipnet::IpNet;

use super::record::{
    Ends, HEADER_BYTES, MessageRecord, PEER_AS4, PEER_IPV6, PeerEntry, PeerIndexTable, RECORD_MAX_BYTES,
    Record, RibEntry, RibRecord, StateChange, bgp4mp, kind, table_dump,
};
use crate::wire::Prefix;

/// Bytes that are no MRT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MrtError {
    /// A length that cannot be.
    #[error("a record of {0} octets; at most {RECORD_MAX_BYTES} are read")]
    Length(u32),
    /// The content contradicts its lengths.
    #[error("type {kind}, subtype {subtype}: the {field} cannot be read")]
    Malformed {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
        /// What cannot be read.
        field: &'static str,
    },
}

/// Looks for a whole record at the front of `buffer`: its length, or `None` if more is to come.
pub fn frame(buffer: &[u8]) -> Result<Option<usize>, MrtError> {
    let Some([.., a, b, c, d]) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let size = usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(HEADER_BYTES);
    if size > RECORD_MAX_BYTES {
        return Err(MrtError::Length(length));
    }
    Ok((buffer.len() >= size).then_some(size))
}

/// Reads one record that [`frame`] has measured: its time since the epoch, and what it says.
pub fn decode(record: &[u8]) -> Result<(Duration, Record), MrtError> {
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let (mut header, mut body) = record
        .split_at_checked(HEADER_BYTES)
        .ok_or(MrtError::Length(length))?;
    let header = (|| {
        Some((
            header.try_get_u32().ok()?,
            header.try_get_u16().ok()?,
            header.try_get_u16().ok()?,
        ))
    })();
    let (seconds, kind, subtype) = header.ok_or(MrtError::Length(length))?;
    let wrong = |field| MrtError::Malformed { kind, subtype, field };
    let mut at = Duration::from_secs(seconds.into());
    let content = match kind {
        kind::TABLE_DUMP_V2 => table_dump(subtype, body).map_err(wrong)?,
        kind::BGP4MP | kind::BGP4MP_ET => {
            if kind == kind::BGP4MP_ET {
                let micros = body.try_get_u32().map_err(|_| wrong("microseconds"))?;
                at += Duration::from_micros(micros.into());
            }
            bgp4mp(subtype, body).map_err(wrong)?
        }
        _ => None,
    };
    Ok((at, content.unwrap_or(Record::Other { kind, subtype })))
}

fn table_dump(subtype: u16, body: &[u8]) -> Result<Option<Record>, &'static str> {
    let (ipv6, path_ids) = match subtype {
        table_dump::PEER_INDEX_TABLE => {
            let table = peer_index_table(body).ok_or("peer table")?;
            return Ok(Some(Record::PeerIndexTable(table)));
        }
        table_dump::RIB_IPV4_UNICAST => (false, false),
        table_dump::RIB_IPV4_UNICAST_ADDPATH => (false, true),
        table_dump::RIB_IPV6_UNICAST => (true, false),
        table_dump::RIB_IPV6_UNICAST_ADDPATH => (true, true),
        _ => return Ok(None),
    };
    rib(body, ipv6, path_ids)
        .map(|rib| Some(Record::Rib(rib)))
        .ok_or("prefix or its entries")
}

fn peer_index_table(mut body: &[u8]) -> Option<PeerIndexTable> {
    let collector = Ipv4Addr::from(body.try_get_u32().ok()?);
    let length = body.try_get_u16().ok()?;
    let view = String::from_utf8_lossy(take(&mut body, length.into())?).into_owned();
    let count = body.try_get_u16().ok()?;
    let mut peers = Vec::new();
    for _ in 0..count {
        let kind = body.try_get_u8().ok()?;
        let router_id = Ipv4Addr::from(body.try_get_u32().ok()?);
        let address = address(&mut body, kind & PEER_IPV6 != 0)?;
        let asn = as_number(&mut body, kind & PEER_AS4 != 0)?;
        peers.push(PeerEntry {
            router_id,
            address,
            asn,
        });
    }
    Some(PeerIndexTable {
        collector,
        view,
        peers,
    })
}

fn rib(mut body: &[u8], ipv6: bool, path_ids: bool) -> Option<RibRecord> {
    let sequence = body.try_get_u32().ok()?;
    let prefix = prefix(&mut body, ipv6)?;
    let count = body.try_get_u16().ok()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let peer = body.try_get_u16().ok()?;
        let originated_s = body.try_get_u32().ok()?;
        let path_id = match path_ids {
            true => Some(body.try_get_u32().ok()?),
            false => None,
        };
        let length = body.try_get_u16().ok()?;
        let attributes = take(&mut body, length.into())?.to_vec();
        entries.push(RibEntry {
            peer,
            originated_s,
            path_id,
            attributes,
        });
    }
    Some(RibRecord {
        sequence,
        prefix,
        entries,
    })
}

fn bgp4mp(subtype: u16, mut body: &[u8]) -> Result<Option<Record>, &'static str> {
    let (four_octet_as, sent, add_path) = match subtype {
        bgp4mp::STATE_CHANGE | bgp4mp::STATE_CHANGE_AS4 => {
            let four_octet_as = subtype == bgp4mp::STATE_CHANGE_AS4;
            let change = state_change(&mut body, four_octet_as).ok_or("state change")?;
            return Ok(Some(Record::StateChange(change)));
        }
        bgp4mp::MESSAGE => (false, false, false),
        bgp4mp::MESSAGE_AS4 => (true, false, false),
        bgp4mp::MESSAGE_LOCAL => (false, true, false),
        bgp4mp::MESSAGE_AS4_LOCAL => (true, true, false),
        bgp4mp::MESSAGE_ADDPATH => (false, false, true),
        bgp4mp::MESSAGE_AS4_ADDPATH => (true, false, true),
        bgp4mp::MESSAGE_LOCAL_ADDPATH => (false, true, true),
        bgp4mp::MESSAGE_AS4_LOCAL_ADDPATH => (true, true, true),
        _ => return Ok(None),
    };
    Ok(Some(Record::Message(MessageRecord {
        ends: ends(&mut body, four_octet_as).ok_or("addresses")?,
        four_octet_as,
        sent,
        add_path,
        message: body.to_vec(),
    })))
}

fn state_change(body: &mut &[u8], four_octet_as: bool) -> Option<StateChange> {
    Some(StateChange {
        ends: ends(body, four_octet_as)?,
        old: body.try_get_u16().ok()?,
        new: body.try_get_u16().ok()?,
    })
}

fn ends(body: &mut &[u8], four_octet_as: bool) -> Option<Ends> {
    let peer_as = as_number(body, four_octet_as)?;
    let local_as = as_number(body, four_octet_as)?;
    let interface = body.try_get_u16().ok()?;
    let ipv6 = match body.try_get_u16().ok()? {
        1 => false,
        2 => true,
        _ => return None,
    };
    Some(Ends {
        peer_as,
        local_as,
        interface,
        peer: address(body, ipv6)?,
        local: address(body, ipv6)?,
    })
}

fn take<'a>(body: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = body.split_at_checked(count)?;
    *body = rest;
    Some(front)
}

fn as_number(body: &mut &[u8], four_octets: bool) -> Option<u32> {
    match four_octets {
        true => body.try_get_u32().ok(),
        false => body.try_get_u16().ok().map(u32::from),
    }
}

fn address(body: &mut &[u8], ipv6: bool) -> Option<IpAddr> {
    Some(match ipv6 {
        true => Ipv6Addr::from(body.try_get_u128().ok()?).into(),
        false => Ipv4Addr::from(body.try_get_u32().ok()?).into(),
    })
}

/// Bits past the prefix's length are ignored.
fn prefix(body: &mut &[u8], ipv6: bool) -> Option<Prefix> {
    let length = body.try_get_u8().ok()?;
    let octets = take(body, usize::from(length.div_ceil(8)))?;
    let mut padded = [0; 16];
    padded.get_mut(..octets.len())?.copy_from_slice(octets);
    let [a, b, c, d, ..] = padded;
    let address: IpAddr = match ipv6 {
        true => Ipv6Addr::from(padded).into(),
        false => Ipv4Addr::new(a, b, c, d).into(),
    };
    IpNet::new(address, length).ok().map(|net| net.trunc())
}
