//! The whole table as TABLE_DUMP_V2 (RFC 6396 section 4.3).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::attributes;
use super::files::{Unfinished, file_name};
use super::record::{PeerEntry, PeerIndexTable, Record, RibEntry, RibRecord};
use crate::bmp::since_epoch;
use crate::config::{MrtRib, NeighborKey};
use crate::monitor::{self, PAGE_PLACES, RibAccess};
use crate::rib::PathRecord;
use crate::wire::{Attributes, Family, Prefix};

/// Sets of attributes whose octets are kept for the next prefix.
const SETS_KEPT_MAX: usize = 65536;
/// The place of our own routes among the peers.
const OURSELVES: u16 = 0;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The file.
    pub path: PathBuf,
    /// Prefixes in it.
    pub prefixes: u64,
    /// Paths in it.
    pub paths: u64,
    /// Paths that are not in it, because their peer came up during the dump or they cannot be written.
    pub left_out: u64,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file's name.
    #[error("mrt rib.path {path}: {reason}")]
    Name {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file.
    #[error("MRT dump {path}: {source}; see to the directory's rights and room")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing says where to.
    #[error("no file is named: give one, or set mrt rib.path")]
    NoPath,
    /// The RIB is gone.
    #[error("the speaker is stopping; no dump was made")]
    Stopped,
}

/// A set of attributes and its octets; none where it cannot be written.
type Written = (Arc<Attributes>, Option<Vec<u8>>);

/// Turns prefixes into records.
#[derive(Debug)]
struct TableDump {
    places: HashMap<NeighborKey, u16>,
    sequence: u32,
    at: Duration,
    /// Octets of attributes, by their place in memory, which is held.
    sets: HashMap<(*const Attributes, Family), Written>,
    paths: u64,
    left_out: u64,
}

impl TableDump {
    /// The first record, and what writes the others.
    fn begin(
        collector: Ipv4Addr,
        local_as: u32,
        peers: &[(NeighborKey, PeerEntry)],
        at: Duration,
    ) -> (Self, Record) {
        let ourselves = PeerEntry {
            router_id: collector,
            address: IpAddr::from(Ipv4Addr::UNSPECIFIED),
            asn: local_as,
        };
        let others = peers.iter().take(usize::from(u16::MAX) - 1);
        let places = others.clone().zip(OURSELVES + 1..);
        let dump = Self {
            places: places.map(|((key, _), place)| (*key, place)).collect(),
            sequence: 0,
            at,
            sets: HashMap::new(),
            paths: 0,
            left_out: 0,
        };
        let table = PeerIndexTable {
            collector,
            view: String::new(),
            peers: std::iter::once(ourselves)
                .chain(others.map(|(_, entry)| *entry))
                .collect(),
        };
        (dump, Record::PeerIndexTable(table))
    }

    /// The records of a prefix: one for the paths without identifier, one for those with one, which cannot be
    /// in one record (RFC 8050 section 4.1).
    fn prefix(&mut self, prefix: Prefix, paths: Vec<PathRecord>) -> Vec<Record> {
        let (with_path_ids, without): (Vec<PathRecord>, Vec<PathRecord>) =
            paths.into_iter().partition(|path| path.path_id.is_some());
        let records = [without, with_path_ids].map(|paths| self.record(prefix, paths));
        records.into_iter().flatten().collect()
    }

    fn record(&mut self, prefix: Prefix, paths: Vec<PathRecord>) -> Option<Record> {
        let mut entries = Vec::with_capacity(paths.len());
        for path in paths {
            let place = match path.peer {
                None => Some(OURSELVES),
                Some(key) => self.places.get(&key).copied(),
            };
            let entry = place.zip(self.octets(&path.received, &prefix));
            let Some((peer, attributes)) = entry else {
                self.left_out += 1;
                continue;
            };
            entries.push(RibEntry {
                peer,
                // When a path came is not kept; it was there at this time.
                originated_s: u32::try_from(self.at.as_secs()).unwrap_or(u32::MAX),
                path_id: path.path_id,
                attributes,
            });
        }
        if entries.is_empty() {
            return None;
        }
        entries.sort_by_key(|entry| (entry.peer, entry.path_id));
        self.paths += entries.len() as u64;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some(Record::Rib(RibRecord {
            sequence,
            prefix,
            entries,
        }))
    }

    fn octets(&mut self, set: &Arc<Attributes>, prefix: &Prefix) -> Option<Vec<u8>> {
        if self.sets.len() >= SETS_KEPT_MAX {
            self.sets.clear();
        }
        let key = (Arc::as_ptr(set), Family::of(prefix));
        let (_, octets) = self
            .sets
            .entry(key)
            .or_insert_with(|| (Arc::clone(set), attributes::encode(set, prefix).ok()));
        octets.clone()
    }
}

/// Writes the whole table to a file. The RIB's owner is asked for it page by page, so a prefix that changes
/// meanwhile is there in one of its states, and one that goes and comes back perhaps twice. Blocks.
pub(crate) fn dump(
    rib: &dyn RibAccess,
    collector: Ipv4Addr,
    local_as: u32,
    settings: &MrtRib,
) -> Result<Dumped, DumpError> {
    let at = since_epoch(SystemTime::now());
    let path = file_name(&settings.path, at).map_err(|reason| DumpError::Name {
        path: settings.path.clone(),
        reason,
    })?;
    let failed = |source| DumpError::Write {
        path: path.clone(),
        source,
    };
    let peers = monitor::ask_blocking(rib, |rib| {
        let entry = |peer: &crate::rib::PeerSettings| PeerEntry {
            router_id: peer.router_id,
            address: peer.remote_address,
            asn: peer.remote_as,
        };
        let mut peers: Vec<_> = rib.peers().map(|peer| (peer.key, entry(peer))).collect();
        peers.sort_unstable_by_key(|(key, _)| *key);
        peers
    });
    let (mut table, first) = TableDump::begin(collector, local_as, &peers.ok_or(DumpError::Stopped)?, at);
    let mut file = Unfinished::create(path.clone()).map_err(failed)?;
    let mut out = Vec::new();
    first.encode(at, &mut out);
    let mut prefixes = 0;
    for family in Family::ALL {
        for from in (0..).step_by(PAGE_PLACES as usize) {
            let to = from + PAGE_PLACES;
            let page = monitor::ask_blocking(rib, move |rib| {
                (rib.paths_in(family, from..to), to < rib.places(family))
            });
            let (page, more) = page.ok_or(DumpError::Stopped)?;
            for (prefix, paths) in page {
                let records = table.prefix(prefix, paths);
                prefixes += u64::from(!records.is_empty());
                records.iter().for_each(|record| record.encode(at, &mut out));
            }
            file.write(&out).map_err(failed)?;
            out.clear();
            if !more {
                break;
            }
        }
    }
    file.write(&out).map_err(failed)?;
    let dumped = Dumped {
        path: file.finish().map_err(failed)?,
        prefixes,
        paths: table.paths,
        left_out: table.left_out,
    };
    tracing::info!(?dumped, "MRT dump written");
    Ok(dumped)
}
