//! Routes from an MRT file: its peers are there as if they had sessions with us, told nothing, and go with
//! the source.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rib_queue::{Gone, RibControl, RibSender, SessionId};
use crate::config::{Config, MrtSource, NeighborKey, Timing};
use crate::mrt::{PEERS_MAX, PeerEntry, ReadError, Records, Replay, Said};
use crate::policy::Policy;
use crate::rib::PeerSettings;
use crate::session::{DownReason, StopReason};
use crate::wire::{Family, FamilySet, Update};

/// UPDATEs that go to the RIB in one piece.
const BATCH_UPDATES_MAX: usize = 128;
/// The port of a file's peers: no neighbour can have it.
const PORT: u16 = 0;
/// How often a wait looks whether it is over.
const WAIT_STEP: Duration = Duration::from_millis(100);

/// Numbers for the sessions of sources; those of neighbours count from 1.
static SESSIONS: AtomicU64 = AtomicU64::new(1 << 63);

/// Takes in a file. The routes stay until the source is cancelled.
pub(super) fn start(
    source: MrtSource,
    config: &Config,
    rib: RibSender,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    let mut reading = Source {
        replay: Replay::new(config.local_as),
        local_as: config.local_as,
        rib: rib.clone(),
        peers: HashMap::new(),
        cancel: cancel.clone(),
    };
    tokio::spawn(async move {
        let read = tokio::task::spawn_blocking(move || {
            let outcome = reading.file(&source);
            // What was read before a fault counts. Without a RIB, nothing does.
            let _ = reading.finish();
            let (peers, skipped) = (reading.peers.len(), reading.replay.skipped());
            let path = source.path.display();
            match outcome {
                Ok(records) => tracing::info!(%path, records, peers, skipped, "MRT source read"),
                Err(Stop::Cancelled) => {}
                Err(Stop::Failed(error)) => {
                    tracing::error!(%path, %error, "MRT source not read to its end: what was read counts");
                }
            }
            reading.peers
        });
        let peers = read.await.unwrap_or_default();
        cancel.cancelled().await;
        for (key, peer) in peers {
            rib.control(RibControl::PeerDown {
                key,
                session: peer.session,
                retain: FamilySet::EMPTY,
                reason: DownReason::Stopped(StopReason::Deconfigured),
            });
        }
    })
}

/// Why reading stops early.
enum Stop {
    Cancelled,
    Failed(ReadError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Cancelled
    }
}

/// A peer of the file.
struct Peer {
    session: SessionId,
    batch: Vec<Update>,
}

struct Source {
    replay: Replay,
    local_as: u32,
    rib: RibSender,
    peers: HashMap<NeighborKey, Peer>,
    cancel: CancellationToken,
}

impl Source {
    /// The number of records.
    fn file(&mut self, source: &MrtSource) -> Result<u64, Stop> {
        let failed = |source| Stop::Failed(ReadError::Read { offset: 0, source });
        let file = File::open(&source.path).map_err(failed)?;
        let started = Instant::now();
        let mut first = None;
        let mut count = 0;
        for record in Records::new(BufReader::with_capacity(1 << 17, file)) {
            let (at, record) = match record {
                Ok(record) => record,
                Err(error @ ReadError::Record { .. }) => {
                    tracing::warn!(path = %source.path.display(), %error, "MRT record passed over");
                    continue;
                }
                Err(error) => return Err(Stop::Failed(error)),
            };
            if self.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if source.timing == Timing::Original {
                let first = *first.get_or_insert(at);
                self.wait_until(started + at.saturating_sub(first))?;
            }
            count += 1;
            for said in self.replay.record(record) {
                self.said(said)?;
            }
        }
        Ok(count)
    }

    fn wait_until(&mut self, until: Instant) -> Result<(), Stop> {
        let mut left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            // What was said before the pause counts before it.
            self.flush_all()?;
        }
        while !left.is_zero() {
            if self.cancel.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            std::thread::sleep(left.min(WAIT_STEP));
            left = until.saturating_duration_since(Instant::now());
        }
        Ok(())
    }

    fn said(&mut self, said: Said) -> Result<(), Stop> {
        match said {
            Said::Update(entry, update) => {
                let key = key_of(&entry);
                if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&key) {
                    return Ok(());
                }
                let (rib, local_as) = (&self.rib, self.local_as);
                let with_path_ids = has_path_ids(&update);
                let peer = self.peers.entry(key).or_insert_with(|| Peer {
                    session: announce(rib, local_as, &entry, with_path_ids),
                    batch: Vec::new(),
                });
                peer.batch.push(update);
                if peer.batch.len() >= BATCH_UPDATES_MAX {
                    rib.updates_blocking(key, peer.session, std::mem::take(&mut peer.batch))?;
                }
            }
            Said::Down(entry) => {
                let key = key_of(&entry);
                if let Some(peer) = self.peers.remove(&key) {
                    self.rib.control(RibControl::PeerDown {
                        key,
                        session: peer.session,
                        retain: FamilySet::EMPTY,
                        reason: DownReason::Closed("so says the file".to_owned()),
                    });
                }
            }
        }
        Ok(())
    }

    fn flush_all(&mut self) -> Result<(), Gone> {
        for (key, peer) in &mut self.peers {
            if !peer.batch.is_empty() {
                self.rib
                    .updates_blocking(*key, peer.session, std::mem::take(&mut peer.batch))?;
            }
        }
        Ok(())
    }

    /// All peers have sent their tables.
    fn finish(&mut self) -> Result<(), Gone> {
        for peer in self.peers.values_mut() {
            peer.batch.extend(Family::ALL.map(|family| Update {
                end_of_rib: Some(family),
                ..Update::default()
            }));
        }
        self.flush_all()
    }
}

fn key_of(entry: &PeerEntry) -> NeighborKey {
    NeighborKey::new(entry.address, PORT)
}

/// Whether its routes have path identifiers (RFC 8050).
fn has_path_ids(update: &Update) -> bool {
    let announced = update.announced.iter();
    !update.withdrawn_path_ids.is_empty() || announced.into_iter().any(|one| !one.path_ids.is_empty())
}

/// Tells the RIB of a peer, which is told nothing. What it says first tells whether it has path identifiers.
fn announce(rib: &RibSender, local_as: u32, entry: &PeerEntry, with_path_ids: bool) -> SessionId {
    let session = SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed));
    let mut settings = PeerSettings::new(key_of(entry), entry.asn, local_as);
    settings.router_id = entry.router_id;
    settings.families = Family::ALL.into_iter().collect();
    if with_path_ids {
        settings.add_path_receive = settings.families;
    }
    settings.import = Policy::Accept;
    settings.export = Policy::Reject;
    rib.control(RibControl::SourceUp {
        session,
        settings: Box::new(settings),
    });
    session
}
