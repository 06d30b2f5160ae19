//! MRT records (RFC 6396, RFC 8050) as owned values, and how they are written.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::wire::{Family, Prefix};

/// Timestamp, type, subtype and length.
pub const HEADER_BYTES: usize = 12;
/// Longest record that is read, in bytes: a prefix with thousands of paths.
pub const RECORD_MAX_BYTES: usize = 16 << 20;

/// Record types (RFC 6396 section 4).
pub(super) mod kind {
    pub(crate) const TABLE_DUMP_V2: u16 = 13;
    pub(crate) const BGP4MP: u16 = 16;
    pub(crate) const BGP4MP_ET: u16 = 17;
}

/// Subtypes of TABLE_DUMP_V2 (RFC 6396 section 4.3, RFC 8050 section 4.1).
pub(super) mod table_dump {
    pub(crate) const PEER_INDEX_TABLE: u16 = 1;
    pub(crate) const RIB_IPV4_UNICAST: u16 = 2;
    pub(crate) const RIB_IPV6_UNICAST: u16 = 4;
    pub(crate) const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
    pub(crate) const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
}

/// Subtypes of BGP4MP and BGP4MP_ET (RFC 6396 section 4.4, RFC 8050 section 3).
pub(super) mod bgp4mp {
    pub(crate) const STATE_CHANGE: u16 = 0;
    pub(crate) const MESSAGE: u16 = 1;
    pub(crate) const MESSAGE_AS4: u16 = 4;
    pub(crate) const STATE_CHANGE_AS4: u16 = 5;
    pub(crate) const MESSAGE_LOCAL: u16 = 6;
    pub(crate) const MESSAGE_AS4_LOCAL: u16 = 7;
    pub(crate) const MESSAGE_ADDPATH: u16 = 8;
    pub(crate) const MESSAGE_AS4_ADDPATH: u16 = 9;
    pub(crate) const MESSAGE_LOCAL_ADDPATH: u16 = 10;
    pub(crate) const MESSAGE_AS4_LOCAL_ADDPATH: u16 = 11;
}

/// Bits of a peer's type in PEER_INDEX_TABLE.
pub(super) const PEER_IPV6: u8 = 1;
pub(super) const PEER_AS4: u8 = 2;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The peers that the records after it speak of by number.
    PeerIndexTable(PeerIndexTable),
    /// The paths of a prefix.
    Rib(RibRecord),
    /// A BGP message.
    Message(MessageRecord),
    /// A session went from one state to another.
    StateChange(StateChange),
    /// A record of another type or subtype.
    Other {
        /// Type.
        kind: u16,
        /// Subtype.
        subtype: u16,
    },
}

/// PEER_INDEX_TABLE (RFC 6396 section 4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIndexTable {
    /// The collector's BGP identifier.
    pub collector: Ipv4Addr,
    /// Optional name of the view; what is not UTF-8 is replaced.
    pub view: String,
    /// The peers.
    pub peers: Vec<PeerEntry>,
}

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerEntry {
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
}

/// RIB_IPV4_UNICAST or RIB_IPV6_UNICAST, with path identifiers or without (RFC 6396 section 4.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibRecord {
    /// Counts from 0.
    pub sequence: u32,
    /// The prefix.
    pub prefix: Prefix,
    /// Its paths. Either all have path identifiers or none.
    pub entries: Vec<RibEntry>,
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RibEntry {
    /// Its peer's place in the table.
    pub peer: u16,
    /// When it was received, in seconds since the epoch.
    pub originated_s: u32,
    /// RFC 8050.
    pub path_id: Option<u32>,
    /// Path attributes, AS numbers in four octets, MP_REACH_NLRI cut down to the next hop.
    pub attributes: Vec<u8>,
}

/// Between whom (RFC 6396 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The peer's AS.
    pub peer_as: u32,
    /// Our AS.
    pub local_as: u32,
    /// The interface's index, or 0.
    pub interface: u16,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address, of the same family.
    pub local: IpAddr,
}

/// BGP4MP_MESSAGE and its relatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    /// Between whom.
    pub ends: Ends,
    /// AS_PATH has four-octet AS numbers.
    pub four_octet_as: bool,
    /// We sent it.
    pub sent: bool,
    /// Its routes have path identifiers (RFC 8050).
    pub add_path: bool,
    /// The whole message.
    pub message: Vec<u8>,
}

/// BGP4MP_STATE_CHANGE and BGP4MP_STATE_CHANGE_AS4; states as RFC 6396 section 4.4.1 numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Between whom.
    pub ends: Ends,
    /// The state that was left.
    pub old: u16,
    /// The state that was entered.
    pub new: u16,
}

impl Record {
    /// Writes the record with its time since the epoch; what has a type with microseconds has them.
    /// [`Record::Other`] has no content and writes nothing.
    pub fn encode(&self, at: Duration, out: &mut Vec<u8>) {
        match self {
            Self::PeerIndexTable(table) => {
                let subtype = table_dump::PEER_INDEX_TABLE;
                record(at, kind::TABLE_DUMP_V2, subtype, out, |out| table.encode(out));
            }
            Self::Rib(rib) => record(at, kind::TABLE_DUMP_V2, rib.subtype(), out, |out| rib.encode(out)),
            Self::Message(message) => record(at, kind::BGP4MP_ET, message.subtype(), out, |out| {
                message.ends.encode(message.four_octet_as, out);
                out.extend(&message.message);
            }),
            Self::StateChange(change) => {
                record(at, kind::BGP4MP_ET, bgp4mp::STATE_CHANGE_AS4, out, |out| {
                    change.ends.encode(true, out);
                    out.extend(change.old.to_be_bytes());
                    out.extend(change.new.to_be_bytes());
                });
            }
            Self::Other { .. } => {}
        }
    }
}

fn record(at: Duration, kind: u16, subtype: u16, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend(u32::try_from(at.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(subtype.to_be_bytes());
    let start = out.len();
    out.extend([0; 4]);
    if kind == kind::BGP4MP_ET {
        // RFC 6396 section 3: the length counts the microseconds.
        out.extend(at.subsec_micros().to_be_bytes());
    }
    body(out);
    let length = u32::try_from(out.len() - start - 4)
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length);
    }
}

impl PeerIndexTable {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.collector.octets());
        let view = self.view.as_bytes();
        let length = u16::try_from(view.len()).unwrap_or(0);
        out.extend(length.to_be_bytes());
        out.extend(view.iter().take(length.into()));
        let count = u16::try_from(self.peers.len()).unwrap_or(u16::MAX);
        out.extend(count.to_be_bytes());
        for peer in self.peers.iter().take(count.into()) {
            out.push(PEER_AS4 | if peer.address.is_ipv6() { PEER_IPV6 } else { 0 });
            out.extend(peer.router_id.octets());
            put_address(peer.address, out);
            out.extend(peer.asn.to_be_bytes());
        }
    }
}

impl RibRecord {
    fn has_path_ids(&self) -> bool {
        self.entries.iter().any(|entry| entry.path_id.is_some())
    }

    fn subtype(&self) -> u16 {
        match (Family::of(&self.prefix), self.has_path_ids()) {
            (Family::Ipv4Unicast, false) => table_dump::RIB_IPV4_UNICAST,
            (Family::Ipv4Unicast, true) => table_dump::RIB_IPV4_UNICAST_ADDPATH,
            (Family::Ipv6Unicast, false) => table_dump::RIB_IPV6_UNICAST,
            (Family::Ipv6Unicast, true) => table_dump::RIB_IPV6_UNICAST_ADDPATH,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.sequence.to_be_bytes());
        out.push(self.prefix.prefix_len());
        let octets = usize::from(self.prefix.prefix_len().div_ceil(8));
        match self.prefix.network() {
            IpAddr::V4(address) => out.extend(address.octets().iter().take(octets)),
            IpAddr::V6(address) => out.extend(address.octets().iter().take(octets)),
        }
        let count = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        out.extend(count.to_be_bytes());
        let path_ids = self.has_path_ids();
        for entry in self.entries.iter().take(count.into()) {
            out.extend(entry.peer.to_be_bytes());
            out.extend(entry.originated_s.to_be_bytes());
            if path_ids {
                out.extend(entry.path_id.unwrap_or_default().to_be_bytes());
            }
            let length = u16::try_from(entry.attributes.len()).unwrap_or(0);
            out.extend(length.to_be_bytes());
            out.extend(entry.attributes.iter().take(length.into()));
        }
    }
}

impl MessageRecord {
    const fn subtype(&self) -> u16 {
        match (self.four_octet_as, self.sent, self.add_path) {
            (false, false, false) => bgp4mp::MESSAGE,
            (true, false, false) => bgp4mp::MESSAGE_AS4,
            (false, true, false) => bgp4mp::MESSAGE_LOCAL,
            (true, true, false) => bgp4mp::MESSAGE_AS4_LOCAL,
            (false, false, true) => bgp4mp::MESSAGE_ADDPATH,
            (true, false, true) => bgp4mp::MESSAGE_AS4_ADDPATH,
            (false, true, true) => bgp4mp::MESSAGE_LOCAL_ADDPATH,
            (true, true, true) => bgp4mp::MESSAGE_AS4_LOCAL_ADDPATH,
        }
    }
}

impl Ends {
    fn encode(&self, four_octet_as: bool, out: &mut Vec<u8>) {
        for asn in [self.peer_as, self.local_as] {
            match four_octet_as {
                true => out.extend(asn.to_be_bytes()),
                false => {
                    let short = u16::try_from(asn).unwrap_or(crate::wire::AS_TRANS as u16);
                    out.extend(short.to_be_bytes());
                }
            }
        }
        out.extend(self.interface.to_be_bytes());
        out.extend(if self.peer.is_ipv6() { 2u16 } else { 1 }.to_be_bytes());
        put_address(self.peer, out);
        match (self.peer, self.local) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => put_address(self.local, out),
            // One field says of which family both are.
            (IpAddr::V4(_), IpAddr::V6(_)) => out.extend([0; 4]),
            (IpAddr::V6(_), IpAddr::V4(_)) => out.extend([0; 16]),
        }
    }
}

fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets()),
        IpAddr::V6(address) => out.extend(address.octets()),
    }
}
