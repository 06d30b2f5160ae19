//! Neighbours that are there as long as their session: they connect from a range of addresses.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use indexmap::IndexMap;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use super::Inner;
use super::listener::Origin;
use crate::config::{BGP_PORT, Config, Neighbor, NeighborKey, RangeName};
use crate::wire::notification::{CEASE, cease};
use crate::wire::{self, Notification};

/// Connections of neighbours to be that wait for the speaker; more are refused.
pub(super) const STRANGERS_WAITING_MAX: usize = 64;
/// Refused connections that are kept until the other end has read why; further ones are cut off.
const REFUSALS_MAX: usize = 32;
/// How long one is kept.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Somebody who is not a neighbour yet has connected.
pub(super) struct Stranger {
    pub(super) stream: TcpStream,
    pub(super) origin: Origin,
}

impl Stranger {
    /// The neighbour that it would be.
    pub(super) const fn key(&self) -> NeighborKey {
        let (address, interface) = self.origin;
        NeighborKey {
            address,
            port: BGP_PORT,
            interface,
        }
    }
}

/// The neighbours that are there because they have connected. They are the last ones of the configuration in force, in
/// the same order, so that one comes or goes at a cost that does not grow with their number.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    /// Each with its range.
    ranges: IndexMap<NeighborKey, RangeName>,
    /// How many each range has.
    counts: HashMap<RangeName, usize>,
}

impl Dynamic {
    /// Takes one more in, unless its range is full, or there is none.
    pub(super) fn admit(&mut self, key: NeighborKey, config: &Config) -> Option<Neighbor> {
        let range = config.dynamic(key.address, key.interface)?;
        let count = self.counts.entry(range.name()).or_default();
        if *count >= range.limit {
            tracing::debug!(neighbor = %key, range = %range.name(), count, "connection refused: the range has its limit of neighbors");
            return None;
        }
        *count += 1;
        self.ranges.insert(key, range.name());
        Some(range.neighbor(key.address, key.interface))
    }

    /// Leaves one out: where it was among these, and the last one is now.
    pub(super) fn remove(&mut self, key: NeighborKey) -> Option<usize> {
        let (at, _, range) = self.ranges.swap_remove_full(&key)?;
        if let Some(count) = self.counts.get_mut(&range) {
            *count -= 1;
        }
        Some(at)
    }

    /// These under another configuration, which is given without them: some may be of another range then, of none, or
    /// have an entry of their own.
    pub(super) fn under(&self, config: &Config) -> Self {
        let configured: HashSet<NeighborKey> = config.neighbors.iter().map(Neighbor::key).collect();
        let mut under = Self::default();
        for key in self.keys().filter(|key| !configured.contains(key)) {
            if let Some(range) = config.dynamic(key.address, key.interface) {
                under.ranges.insert(key, range.name());
                *under.counts.entry(range.name()).or_default() += 1;
            }
        }
        under
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = NeighborKey> {
        self.ranges.keys().copied()
    }

    pub(super) fn contains(&self, key: NeighborKey) -> bool {
        self.ranges.contains_key(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }
}

/// Refuses connections with a word (RFC 4486 section 4), as long as that costs little.
#[derive(Clone, Debug)]
pub(super) struct Refuser(Arc<Semaphore>);

impl Default for Refuser {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(REFUSALS_MAX)))
    }
}

impl Refuser {
    pub(super) fn refuse(&self, stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else {
            return;
        };
        let notification = Notification::new(CEASE, cease::CONNECTION_REJECTED);
        // There is room in the socket of a new connection.
        let _ = stream.try_write(&wire::encode_notification(&notification));
        tokio::spawn(async move {
            // What the other end sends is taken in, or the kernel would answer it with a reset, which destroys ours.
            let _ = tokio::time::timeout(REFUSAL_TIME, drain(stream)).await;
            drop(permit);
        });
    }
}

async fn drain(mut stream: TcpStream) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.shutdown().await?;
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Makes neighbours of those who connect, and forgets those whose session is over. It ends with the speaker.
pub(super) async fn attend(
    inner: Weak<Inner>,
    mut strangers: mpsc::Receiver<Stranger>,
    mut gone: mpsc::UnboundedReceiver<NeighborKey>,
) {
    loop {
        let happened = tokio::select! {
            biased;
            Some(key) = gone.recv() => Happened::Gone(key),
            Some(stranger) = strangers.recv() => Happened::Connected(stranger),
            else => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        let mut running = inner.running.lock().await;
        let Some(running) = running.as_mut() else { return };
        match happened {
            Happened::Gone(key) => running.forget(key),
            Happened::Connected(stranger) => running.admit(stranger),
        }
    }
}

enum Happened {
    Gone(NeighborKey),
    Connected(Stranger),
}
