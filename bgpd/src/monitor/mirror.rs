//! Messages exactly as they came, whatever they are (RFC 7854 section 4.7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Interest, MonitoredPeer, Monitors, synthesis};
use crate::config::NeighborKey;

/// With more than this waiting for a subscriber, in bytes, mirrored messages are left out: what else it is shown, and
/// its connection, do not suffer from them.
pub(super) const MIRROR_QUEUE_MAX_BYTES: usize = super::queue::QUEUE_MAX_BYTES / 4;

/// What the readers of connections have to keep. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    updates: Arc<AtomicBool>,
    everything: Arc<AtomicBool>,
}

impl Wanted {
    /// UPDATEs as they came.
    pub(crate) fn updates(&self) -> bool {
        self.updates.load(Ordering::Relaxed)
    }

    /// Every message of established sessions as it came.
    pub(crate) fn everything(&self) -> bool {
        self.everything.load(Ordering::Relaxed)
    }

    pub(super) fn follow(&self, interest: Interest) {
        self.updates.store(interest.received, Ordering::Relaxed);
        self.everything.store(interest.mirrored, Ordering::Relaxed);
    }
}

/// Messages of one session, in order.
#[derive(Debug, Default)]
pub(crate) struct Mirrored {
    octets: Vec<u8>,
    /// Which of them are of no use, by number.
    errored: Vec<usize>,
    count: usize,
}

impl Mirrored {
    /// Adds a whole message. `is_errored`: what is wrong with it made it unusable.
    pub(crate) fn push(&mut self, message: &[u8], is_errored: bool) {
        self.octets.extend_from_slice(message);
        if is_errored {
            self.errored.push(self.count);
        }
        self.count += 1;
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.octets.len()
    }

    /// Each message, and whether it was of no use.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&[u8], bool)> {
        let messages = synthesis::messages(&self.octets).enumerate();
        messages.map(|(at, message)| (message, self.errored.binary_search(&at).is_ok()))
    }
}

impl Monitors {
    /// A neighbour has sent messages.
    pub(crate) fn mirrored(&mut self, key: NeighborKey, mirrored: Mirrored) {
        let Some(peer) = self.peers.get(&key) else { return };
        let mirrored = Arc::new(mirrored);
        let subscribers = self.subscribers.iter_mut();
        let subscribers = subscribers.filter(|(_, subscriber)| subscriber.interest.mirrored);
        let full: Vec<u64> = subscribers
            .filter_map(|(id, subscriber)| (!subscriber.mirror(peer, &mirrored)).then_some(*id))
            .collect();
        full.into_iter().for_each(|id| self.cut_off(id));
    }

    /// A neighbour has sent messages that nobody is shown.
    pub(crate) fn mirror_lost(&mut self, key: NeighborKey) {
        for (_, subscriber) in &mut self.subscribers {
            subscriber.has_lost(key);
        }
    }
}

/// What a subscriber is told of mirrored messages.
#[derive(Clone, Debug)]
pub(crate) enum Mirror {
    /// These were received.
    Messages(Arc<MonitoredPeer>, Arc<Mirrored>),
    /// Some before the next ones were left out.
    Lost(Arc<MonitoredPeer>),
}
