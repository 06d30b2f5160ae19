//! What the peers of an MRT file have said, record by record.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::attributes;
use super::record::{MessageRecord, PeerEntry, Record, RibRecord, StateChange};
use crate::monitor::synthesis;
use crate::wire::{self, Announcement, Codec, Family, FamilySet, Message, Update};

/// Most peers of a file that are taken in.
pub const PEERS_MAX: usize = 4096;
/// The state's number in RFC 6396 section 4.4.1.
const ESTABLISHED: u16 = 6;

/// What a peer has said or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An UPDATE, or a path of a table.
    Update(PeerEntry, Update),
    /// Its session was lost: its routes are gone.
    Down(PeerEntry),
}

/// Reads records in their order.
#[derive(Debug, Default)]
pub struct Replay {
    local_as: u32,
    /// The last PEER_INDEX_TABLE's peers.
    table: Vec<PeerEntry>,
    /// Peers of messages, with the BGP identifier that their OPEN named.
    peers: HashMap<IpAddr, PeerEntry>,
    /// What could not be used.
    skipped: u64,
}

impl Replay {
    /// Within an AS, LOCAL_PREF and the attributes of reflection count: `local_as` tells.
    pub fn new(local_as: u32) -> Self {
        Self {
            local_as,
            ..Self::default()
        }
    }

    /// Records and paths that could not be used: types that are not known, faults, too many peers.
    pub const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What a record says.
    pub fn record(&mut self, record: Record) -> Vec<Said> {
        match record {
            Record::PeerIndexTable(table) => {
                self.table = table.peers;
                Vec::new()
            }
            Record::Rib(rib) => self.rib(&rib),
            Record::Message(message) => self.message(&message).into_iter().collect(),
            Record::StateChange(change) => self.state_change(&change).into_iter().collect(),
            Record::Other { .. } => {
                self.skipped += 1;
                Vec::new()
            }
        }
    }

    fn rib(&mut self, rib: &RibRecord) -> Vec<Said> {
        let mut said = Vec::with_capacity(rib.entries.len());
        for entry in &rib.entries {
            let peer = self.table.get(usize::from(entry.peer)).copied();
            let attributes = peer.and_then(|peer| {
                attributes::decode(&entry.attributes, &rib.prefix, peer.asn != self.local_as)
            });
            let Some((peer, attributes)) = peer.zip(attributes) else {
                self.skipped += 1;
                continue;
            };
            let update = Update {
                announced: vec![Announcement {
                    attributes,
                    prefixes: vec![rib.prefix],
                    path_ids: entry.path_id.into_iter().collect(),
                }],
                ..Update::default()
            };
            said.push(Said::Update(peer, update));
        }
        said
    }

    fn message(&mut self, record: &MessageRecord) -> Option<Said> {
        // What the collector sent itself is not what its peers have said.
        if record.sent {
            return None;
        }
        let peer = self.peer(record.ends.peer, record.ends.peer_as)?;
        let codec = Codec {
            four_octet_as: record.four_octet_as,
            extended_message: true,
            external: peer.asn != self.local_as,
            add_path_receive: match record.add_path {
                true => Family::ALL.into_iter().collect(),
                false => FamilySet::EMPTY,
            },
            ..synthesis::codec()
        };
        let framed = wire::frame(&record.message, codec);
        let decoded = match framed {
            Ok(Some(length)) if length == record.message.len() => wire::decode(&record.message, codec).ok(),
            _ => None,
        };
        match decoded {
            Some(Message::Update(update)) => Some(Said::Update(peer, update)),
            Some(Message::Open(open)) => {
                if let Some(peer) = self.peers.get_mut(&peer.address) {
                    peer.router_id = open.router_id;
                }
                None
            }
            Some(_) => None,
            None => {
                self.skipped += 1;
                None
            }
        }
    }

    fn state_change(&mut self, change: &StateChange) -> Option<Said> {
        let lost = change.old == ESTABLISHED && change.new != ESTABLISHED;
        let known = self.peers.get(&change.ends.peer).filter(|_| lost)?;
        Some(Said::Down(*known))
    }

    fn peer(&mut self, address: IpAddr, asn: u32) -> Option<PeerEntry> {
        if let Some(known) = self.peers.get_mut(&address) {
            known.asn = asn;
            return Some(*known);
        }
        if self.peers.len() >= PEERS_MAX {
            self.skipped += 1;
            return None;
        }
        let peer = PeerEntry {
            router_id: Ipv4Addr::UNSPECIFIED,
            address,
            asn,
        };
        self.peers.insert(address, peer);
        Some(peer)
    }
}
