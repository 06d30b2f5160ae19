//! The queue of a subscriber.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Interest, MonitoredPeer, Part, ShownRoute, View, Whose};
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
    /// What [`Request::Show`] asked for was shown, but for this.
    Shown(Option<Part>),
}

impl Event {
    fn bytes(&self) -> usize {
        EVENT_BYTES
            + match self {
                Self::Messages(_, _, messages) => messages.len(),
                Self::Routes(_, _, routes) => routes.len() * ROUTE_BYTES,
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
