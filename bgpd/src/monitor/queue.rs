//! The queue of a subscriber.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::mirror::{MIRROR_QUEUE_MAX_BYTES, Mirror, Mirrored};
use super::{Interest, MonitoredPeer, Part, ShownRoute, View, Whose};
use crate::config::NeighborKey;
use crate::session::DownReason;
use crate::wire::Family;

/// Most that waits for a subscriber, in bytes.
pub(crate) const QUEUE_MAX_BYTES: usize = 64 << 20;
/// What an event takes besides its content, in bytes.
const EVENT_BYTES: usize = 96;
/// What a route takes in a queue, in bytes. Its attributes are the RIB's own.
const ROUTE_BYTES: usize = 48;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The first event: the sessions that are up.
    Subscribed(Vec<Arc<MonitoredPeer>>),
    PeerUp(Arc<MonitoredPeer>),
    PeerDown(Arc<MonitoredPeer>, DownReason),
    /// UPDATE messages, as they were received or sent.
    Messages(View, Arc<MonitoredPeer>, Bytes),
    Routes(View, Whose, Vec<ShownRoute>),
    /// The table was shown, or told by the peer, as a whole.
    EndOfRib(View, Whose, Family),
    /// What [`Request::Show`](super::Request::Show) asked for was shown, but for this.
    Shown(Option<Part>),
    Mirror(Mirror),
}

impl Event {
    fn bytes(&self) -> usize {
        EVENT_BYTES
            + match self {
                Self::Messages(_, _, messages) => messages.len(),
                Self::Routes(_, _, routes) => routes.len() * ROUTE_BYTES,
                Self::Mirror(Mirror::Messages(_, mirrored)) => mirrored.len(),
                _ => 0,
            }
    }
}

/// An event and its time.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) at: SystemTime,
    pub(crate) event: Event,
}

/// The end of a queue that events go into.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(super) interest: Interest,
    events: mpsc::UnboundedSender<Observed>,
    queued_bytes: Arc<AtomicUsize>,
    /// Neighbours whose mirrored messages it has not all got, and was not told so.
    lost: HashSet<NeighborKey>,
}

/// The end of a queue that events come out of.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(super) events: mpsc::UnboundedReceiver<Observed>,
    queued_bytes: Arc<AtomicUsize>,
}

/// A queue for one subscriber.
pub(crate) fn queue(interest: Interest) -> (Subscriber, Subscription) {
    let (sender, events) = mpsc::unbounded_channel();
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let subscriber = Subscriber {
        interest,
        events: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        lost: HashSet::new(),
    };
    (subscriber, Subscription { events, queued_bytes })
}

impl Subscriber {
    /// False once the queue is full or its reader gone.
    pub(super) fn send(&self, at: SystemTime, event: Event) -> bool {
        let bytes = event.bytes();
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= QUEUE_MAX_BYTES && self.events.send(Observed { at, event }).is_ok()
    }
}

impl Subscriber {
    /// Shows what a neighbour has sent, if there is room. False once the queue is full or its reader gone.
    pub(super) fn mirror(&mut self, peer: &Arc<MonitoredPeer>, mirrored: &Arc<Mirrored>) -> bool {
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        if queued.saturating_add(mirrored.len()) > MIRROR_QUEUE_MAX_BYTES {
            self.has_lost(peer.key);
            return true;
        }
        let now = SystemTime::now();
        if self.lost.remove(&peer.key) && !self.send(now, Event::Mirror(Mirror::Lost(Arc::clone(peer)))) {
            return false;
        }
        let messages = Mirror::Messages(Arc::clone(peer), Arc::clone(mirrored));
        self.send(now, Event::Mirror(messages))
    }

    /// Some messages of a neighbour are not shown; it is told so with the next ones.
    pub(super) fn has_lost(&mut self, key: NeighborKey) {
        if self.interest.mirrored {
            self.lost.insert(key);
        }
    }
}

impl Subscription {
    /// The next event; none once this subscriber was cut off, or the speaker is stopping. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Observed> {
        let observed = self.events.recv().await?;
        self.queued_bytes
            .fetch_sub(observed.event.bytes(), Ordering::Relaxed);
        Some(observed)
    }

    /// The next event if it is there already.
    pub(crate) fn try_next(&mut self) -> Option<Observed> {
        let observed = self.events.try_recv().ok()?;
        self.queued_bytes
            .fetch_sub(observed.event.bytes(), Ordering::Relaxed);
        Some(observed)
    }
}
