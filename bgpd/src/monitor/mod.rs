//! What monitoring stations (BMP) and update files (MRT) are shown: for each of them a bounded queue that
//! the owner of the RIB fills in the order in which things happen to the RIB.
//!
//! Nothing here waits. A subscriber whose queue is full is cut off: it finds the end of its queue and
//! subscribes again, which begins with the sessions that are up then. The first look at the tables is asked
//! for in parts ([`Request::Show`]) by the subscriber itself, and comes through the same queue: so a route
//! is never shown in an older state after a newer one.

pub(crate) mod synthesis;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};

use crate::config::NeighborKey;
use crate::rib::{Counters, FibChange, PeerId, PeerSettings, ReceivedUpdate, Rib};
use crate::session::DownReason;
use crate::wire::{Attributes, Codec, Family, FamilySet, Prefix};

/// Most that waits for a subscriber, in bytes.
pub(crate) const QUEUE_MAX_BYTES: usize = 64 << 20;
/// What an event takes besides its content, in bytes.
const EVENT_BYTES: usize = 96;
/// Places of a table whose routes are shown in one turn of the RIB's owner, which bounds its time (some
/// milliseconds) and what an answer holds.
pub(crate) const PAGE_PLACES: u32 = 2048;
/// Places of a table that are counted in one turn: less work for each.
const COUNTED_PLACES: u32 = 16_384;
/// What a route takes in a queue, in bytes. Its attributes are the RIB's own.
const ROUTE_BYTES: usize = 48;

/// An established session.
#[derive(Debug)]
pub(crate) struct MonitoredPeer {
    pub(crate) key: NeighborKey,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) local_as: u32,
    pub(crate) remote_as: u32,
    pub(crate) remote_id: Ipv4Addr,
    pub(crate) codec: Codec,
    /// Our OPEN, as sent.
    pub(crate) sent_open: Bytes,
    /// Its OPEN, as received.
    pub(crate) received_open: Bytes,
    pub(crate) since: SystemTime,
}

impl MonitoredPeer {
    /// Families whose routes have path identifiers in what is shown of this view (RFC 7911).
    pub(crate) const fn add_path(&self, view: View) -> FamilySet {
        match view {
            View::Received | View::Accepted => self.codec.add_path_receive,
            View::Advertised => self.codec.add_path_send,
            View::Selected => FamilySet::EMPTY,
        }
    }
}

/// Which routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum View {
    /// Adj-RIB-In before the import policy.
    Received,
    /// Adj-RIB-In after the import policy.
    Accepted,
    /// Adj-RIB-Out after the export policy.
    Advertised,
    /// Loc-RIB.
    Selected,
}

/// The views that a subscriber wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) received: bool,
    pub(crate) accepted: bool,
    pub(crate) advertised: bool,
    pub(crate) selected: bool,
}

impl Interest {
    const fn union(self, other: Self) -> Self {
        Self {
            received: self.received || other.received,
            accepted: self.accepted || other.accepted,
            advertised: self.advertised || other.advertised,
            selected: self.selected || other.selected,
        }
    }

    pub(crate) const fn wants(self, view: View) -> bool {
        match view {
            View::Received => self.received,
            View::Accepted => self.accepted,
            View::Advertised => self.advertised,
            View::Selected => self.selected,
        }
    }
}

/// A route as it is now.
#[derive(Clone, Debug)]
pub(crate) struct ShownRoute {
    pub(crate) prefix: Prefix,
    /// The identifier of its path, if the session has such (RFC 7911).
    pub(crate) path_id: Option<u32>,
    /// None: it is gone.
    pub(crate) attributes: Option<Arc<Attributes>>,
}

/// Whose routes: a session's, or nobody's for [`View::Selected`].
pub(crate) type Whose = Option<Arc<MonitoredPeer>>;

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
    interest: Interest,
    events: mpsc::UnboundedSender<Observed>,
    queued_bytes: Arc<AtomicUsize>,
}

/// The end of a queue that events come out of.
#[derive(Debug)]
pub(crate) struct Subscription {
    events: mpsc::UnboundedReceiver<Observed>,
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
    fn send(&self, at: SystemTime, event: Event) -> bool {
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

/// What a subscriber asks of the RIB's owner.
#[derive(Debug)]
pub(crate) enum Request {
    /// Begin.
    Subscribe(u64, Subscriber),
    /// Show a part of the tables, or the beginning of it, then say [`Event::Shown`].
    Show(u64, Part),
    /// End.
    Unsubscribe(u64),
}

/// A part of the tables.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// What there is for these prefixes in Adj-RIBs-In and Loc-RIB.
    Prefixes(Vec<Prefix>),
    /// A neighbour's Adj-RIB-Out, from a place of the table on.
    Advertised(NeighborKey, Family, u32),
    /// Nothing; but all tables of the family have been shown.
    End(Family),
}

/// A question to the RIB.
pub(crate) type Question = Box<dyn FnOnce(&Rib) + Send>;

/// Counts the routes of every peer, by family, in pages; none if the speaker is stopping.
pub(crate) async fn count(rib: &dyn RibAccess) -> Option<HashMap<NeighborKey, [Counters; 2]>> {
    let mut total: HashMap<NeighborKey, [Counters; 2]> = HashMap::new();
    for (at, family) in Family::ALL.into_iter().enumerate() {
        let mut counters = FxHashMap::default();
        for from in (0..).step_by(COUNTED_PLACES as usize) {
            let to = from + COUNTED_PLACES;
            let more;
            (counters, more) = ask(rib, move |rib| {
                rib.count_in(family, from..to, &mut counters);
                (counters, to < rib.places(family))
            })
            .await?;
            if !more {
                break;
            }
        }
        let by_key = ask(rib, move |rib| {
            let of = |peer: &PeerSettings| {
                let counters = counters.get(&rib.peer(peer.key)?)?;
                Some((peer.key, *counters))
            };
            rib.peers().filter_map(of).collect::<Vec<_>>()
        });
        for (key, counters) in by_key.await? {
            if let Some(family) = total.entry(key).or_default().get_mut(at) {
                *family = counters;
            }
        }
    }
    Some(total)
}

/// The way to the RIB's owner.
pub(crate) trait RibAccess: Send + Sync {
    /// Passes on a request.
    fn monitor(&self, request: Request);
    /// Asks.
    fn query(&self, question: Question);
}

/// Asks the RIB's owner; none if the speaker is stopping.
pub(crate) async fn ask<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> Option<T> {
    question_to(rib, question).await.ok()
}

/// The same for threads that may wait.
pub(crate) fn ask_blocking<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> Option<T> {
    question_to(rib, question).blocking_recv().ok()
}

fn question_to<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    rib.query(Box::new(move |rib| {
        // Whoever asked may not wait any more.
        let _ = answer.send(question(rib));
    }));
    answered
}

/// The subscribers, as the RIB's owner sees them. Without any, it costs a look at a flag.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    peers: HashMap<NeighborKey, Arc<MonitoredPeer>>,
    subscribers: Vec<(u64, Subscriber)>,
    interest: Interest,
    /// Tells the readers to keep what they receive.
    mirror: Arc<AtomicBool>,
}

impl Monitors {
    /// `mirror` is set while received messages are wanted as they came.
    pub(crate) fn new(mirror: Arc<AtomicBool>) -> Self {
        Self {
            mirror,
            ..Self::default()
        }
    }

    pub(crate) const fn interest(&self) -> Interest {
        self.interest
    }

    /// Whether the effect of UPDATEs is to be shown.
    pub(crate) const fn wants_updates(&self) -> bool {
        self.interest.received || self.interest.accepted
    }

    pub(crate) fn request(&mut self, request: Request, rib: &Rib) {
        match request {
            Request::Subscribe(id, subscriber) => {
                let peers = self.peers.values().cloned().collect();
                if subscriber.send(SystemTime::now(), Event::Subscribed(peers)) {
                    self.subscribers.push((id, subscriber));
                }
                self.count();
            }
            Request::Unsubscribe(id) => {
                self.subscribers.retain(|(other, _)| *other != id);
                self.count();
            }
            Request::Show(id, part) => {
                let Some((_, subscriber)) = self.subscribers.iter().find(|(other, _)| *other == id) else {
                    return;
                };
                let (mut events, rest) = self.show(subscriber.interest, part, rib);
                events.push(Event::Shown(rest));
                let now = SystemTime::now();
                if !events.into_iter().all(|event| subscriber.send(now, event)) {
                    self.cut_off(id);
                }
            }
        }
    }

    /// A session is established.
    pub(crate) fn peer_up(&mut self, peer: Arc<MonitoredPeer>) {
        self.peers.insert(peer.key, Arc::clone(&peer));
        let at = peer.since;
        self.tell(at, |_| true, Event::PeerUp(peer));
    }

    /// A session is lost.
    pub(crate) fn peer_down(&mut self, key: NeighborKey, reason: DownReason) {
        if let Some(peer) = self.peers.remove(&key) {
            self.tell(SystemTime::now(), |_| true, Event::PeerDown(peer, reason));
        }
    }

    /// UPDATEs have gone into the RIB. `raw` holds the messages as they were received, if the reader knew in
    /// time that somebody wants them.
    pub(crate) fn updates(
        &mut self,
        (key, id): (NeighborKey, PeerId),
        raw: Option<Bytes>,
        touched: &Touched,
        rib: &Rib,
    ) {
        let Some(peer) = self.peers.get(&key).cloned() else {
            return;
        };
        let now = SystemTime::now();
        let synthesized = self.interest.received && raw.is_none();
        if let Some(raw) = raw.filter(|_| self.interest.received) {
            let event = Event::Messages(View::Received, Arc::clone(&peer), raw);
            self.tell(now, |interest| interest.received, event);
        }
        let views = [
            (View::Received, synthesized),
            (View::Accepted, self.interest.accepted),
        ];
        for (view, _) in views.into_iter().filter(|(_, wanted)| *wanted) {
            if !touched.routes.is_empty() {
                let with_path_ids = peer.add_path(view);
                let route = |(prefix, path_id): &(Prefix, u32)| {
                    let path_id = with_path_ids.contains(Family::of(prefix)).then_some(*path_id);
                    shown(rib, prefix, (id, path_id), view)
                };
                let routes = touched.routes.iter().map(route).collect();
                let event = Event::Routes(view, Some(Arc::clone(&peer)), routes);
                self.tell(now, |interest| interest.wants(view), event);
            }
            for family in &touched.ends {
                let event = Event::EndOfRib(view, Some(Arc::clone(&peer)), *family);
                self.tell(now, |interest| interest.wants(view), event);
            }
        }
    }

    /// A peer's routes were judged again, by another import policy.
    pub(crate) fn judged_again(&mut self, key: NeighborKey, id: PeerId, rib: &Rib) {
        let Some(peer) = self.peers.get(&key).cloned().filter(|_| self.interest.accepted) else {
            return;
        };
        for family in Family::ALL {
            let routes = rib.received(id, family).into_iter();
            let route =
                |path: crate::rib::PathView| shown(rib, &path.prefix, (id, path.path_id), View::Accepted);
            let event = Event::Routes(
                View::Accepted,
                Some(Arc::clone(&peer)),
                routes.map(route).collect(),
            );
            self.tell(SystemTime::now(), |interest| interest.accepted, event);
        }
    }

    /// UPDATEs were queued for peers.
    pub(crate) fn sent(&mut self, keys: impl Iterator<Item = NeighborKey>, messages: &Bytes) {
        if messages.is_empty() {
            return;
        }
        let now = SystemTime::now();
        for key in keys {
            if let Some(peer) = self.peers.get(&key).cloned() {
                let event = Event::Messages(View::Advertised, peer, messages.clone());
                self.tell(now, |interest| interest.advertised, event);
            }
        }
    }

    /// Selections changed.
    pub(crate) fn selected(&mut self, changes: &[FibChange], rib: &Rib) {
        let route = |change: &FibChange| {
            let best = rib.best_route(&change.prefix);
            ShownRoute {
                prefix: change.prefix,
                path_id: None,
                attributes: best.map(|(_, attributes)| attributes),
            }
        };
        let routes = changes.iter().map(route).collect();
        let event = Event::Routes(View::Selected, None, routes);
        self.tell(SystemTime::now(), |interest| interest.selected, event);
    }

    /// Shows a part as far as one turn goes; and what is left of it.
    fn show(&self, interest: Interest, part: Part, rib: &Rib) -> (Vec<Event>, Option<Part>) {
        let mut events = Vec::new();
        let mut rest = None;
        match part {
            Part::Prefixes(prefixes) => {
                let mut routes: HashMap<(View, NeighborKey), Vec<ShownRoute>> = HashMap::new();
                let mut selected = Vec::new();
                for prefix in prefixes {
                    for path in rib.paths(&prefix) {
                        let Some(key) = path.peer else { continue };
                        let views = [
                            (View::Received, Some(path.received)),
                            (View::Accepted, path.accepted),
                        ];
                        for (view, attributes) in views {
                            if interest.wants(view) && attributes.is_some() {
                                let of_peer = routes.entry((view, key)).or_default();
                                of_peer.push(ShownRoute {
                                    prefix,
                                    path_id: path.path_id,
                                    attributes,
                                });
                            }
                        }
                    }
                    if let Some((_, best)) = rib.best_route(&prefix).filter(|_| interest.selected) {
                        selected.push(ShownRoute {
                            prefix,
                            path_id: None,
                            attributes: Some(best),
                        });
                    }
                }
                let whose = |((view, key), routes)| {
                    let peer = self.peers.get(&key)?;
                    Some(Event::Routes(view, Some(Arc::clone(peer)), routes))
                };
                events.extend(routes.into_iter().filter_map(whose));
                if !selected.is_empty() {
                    events.push(Event::Routes(View::Selected, None, selected));
                }
            }
            Part::Advertised(key, family, from) => {
                let peer = self.peers.get(&key).filter(|_| interest.advertised);
                if let (Some(peer), Some(id)) = (peer, rib.peer(key)) {
                    let to = from.saturating_add(PAGE_PLACES);
                    rest = (to < rib.places(family)).then_some(Part::Advertised(key, family, to));
                    let routes = rib.advertised_in(id, family, from..to).into_iter();
                    let routes = routes.map(|route| ShownRoute {
                        prefix: route.prefix,
                        path_id: route.path_id,
                        attributes: Some(route.attributes),
                    });
                    events.push(Event::Routes(
                        View::Advertised,
                        Some(Arc::clone(peer)),
                        routes.collect(),
                    ));
                }
            }
            Part::End(family) => {
                for view in [View::Received, View::Accepted, View::Advertised] {
                    let peers = self.peers.values().filter(|_| interest.wants(view));
                    let carried = peers.filter(|peer| peer.codec.families.contains(family));
                    events.extend(carried.map(|peer| Event::EndOfRib(view, Some(Arc::clone(peer)), family)));
                }
                if interest.selected {
                    events.push(Event::EndOfRib(View::Selected, None, family));
                }
            }
        }
        (events, rest)
    }

    fn tell(&mut self, at: SystemTime, wants: impl Fn(Interest) -> bool, event: Event) {
        if self.subscribers.is_empty() {
            return;
        }
        let mut full = Vec::new();
        for (id, subscriber) in &self.subscribers {
            if wants(subscriber.interest) && !subscriber.send(at, event.clone()) {
                full.push(*id);
            }
        }
        full.into_iter().for_each(|id| self.cut_off(id));
    }

    fn cut_off(&mut self, id: u64) {
        self.subscribers.retain(|(other, _)| *other != id);
        self.count();
    }

    fn count(&mut self) {
        let interests = self.subscribers.iter().map(|(_, subscriber)| subscriber.interest);
        self.interest = interests.fold(Interest::default(), Interest::union);
        self.mirror.store(self.interest.received, Ordering::Relaxed);
    }
}

fn shown(rib: &Rib, prefix: &Prefix, (id, path_id): (PeerId, Option<u32>), view: View) -> ShownRoute {
    let path = rib.path_of(prefix, id, path_id);
    ShownRoute {
        prefix: *prefix,
        path_id,
        attributes: path.and_then(|path| match view {
            View::Received => Some(path.received),
            _ => path.accepted,
        }),
    }
}

/// What a batch of UPDATEs speaks of.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    routes: Vec<(Prefix, u32)>,
    ends: Vec<Family>,
}

impl Touched {
    pub(crate) fn by(batch: &[ReceivedUpdate]) -> Self {
        let mut touched = Self::default();
        for update in batch {
            touched.routes.extend(update.withdrawn.routes());
            for (_, routes) in &update.announced {
                touched.routes.extend(routes.routes());
            }
            touched.ends.extend(update.end_of_rib);
        }
        // What a batch changes twice is shown once, as it is then.
        touched.routes.sort_unstable();
        touched.routes.dedup();
        touched
    }

    pub(crate) fn routes(routes: Vec<(Prefix, u32)>) -> Self {
        Self {
            routes,
            ends: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::rib::RibSettings;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn peer() -> Arc<MonitoredPeer> {
        Arc::new(MonitoredPeer {
            key: NeighborKey::new(ADDRESS, 179),
            local: SocketAddr::new(ADDRESS, 179),
            remote: SocketAddr::new(ADDRESS, 179),
            local_as: 65001,
            remote_as: 65002,
            remote_id: Ipv4Addr::new(10, 0, 0, 2),
            codec: synthesis::codec(),
            sent_open: Bytes::new(),
            received_open: Bytes::new(),
            since: SystemTime::now(),
        })
    }

    /// A large Adj-RIB-Out is shown in parts, each asked for after the one before it.
    #[test]
    fn a_large_table_is_shown_in_pages() {
        const NETWORKS: u32 = 2 * PAGE_PLACES + 100;
        let mut rib = Rib::new(RibSettings::new(65001, Ipv4Addr::new(10, 0, 0, 1)));
        let mut monitors = Monitors::new(Arc::new(AtomicBool::new(false)));
        monitors.peer_up(peer());
        rib.peer_up(PeerSettings {
            export: crate::policy::Policy::Accept,
            self_next_hop: [Some(crate::wire::NextHop::V4(Ipv4Addr::new(10, 0, 0, 1))), None],
            ..PeerSettings::new(peer().key, 65002, 65001)
        });
        for n in 0..NETWORKS {
            let prefix = Prefix::new(Ipv4Addr::from(0x1400_0000 + n).into(), 32).unwrap();
            rib.originate(&prefix.into());
        }
        let (subscriber, mut queue) = queue(Interest {
            advertised: true,
            ..Interest::default()
        });
        monitors.request(Request::Subscribe(1, subscriber), &rib);
        let mut part = Some(Part::Advertised(peer().key, Family::Ipv4Unicast, 0));
        let mut pages = Vec::new();
        while let Some(next) = part.take() {
            monitors.request(Request::Show(1, next), &rib);
            while let Some(observed) = queue.try_next() {
                match observed.event {
                    Event::Routes(View::Advertised, _, routes) => pages.push(routes.len() as u32),
                    Event::Shown(rest) => part = rest,
                    _ => {}
                }
            }
        }
        assert_eq!(pages, [PAGE_PLACES, PAGE_PLACES, 100]);
    }

    /// Nobody waits for a subscriber that is too slow: it is cut off, and what it had is still there.
    #[test]
    fn a_full_queue_ends_a_subscription() {
        let rib = Rib::new(RibSettings::new(65001, Ipv4Addr::new(10, 0, 0, 1)));
        let mirror = Arc::new(AtomicBool::new(false));
        let mut monitors = Monitors::new(Arc::clone(&mirror));
        monitors.peer_up(peer());
        let all = Interest {
            received: true,
            advertised: true,
            ..Interest::default()
        };
        let (slow, mut slow_queue) = queue(all);
        let (other, mut other_queue) = queue(Interest::default());
        monitors.request(Request::Subscribe(1, slow), &rib);
        monitors.request(Request::Subscribe(2, other), &rib);
        assert!(mirror.load(Ordering::Relaxed) && monitors.interest().advertised);
        let piece = Bytes::from(vec![0; 1 << 20]);
        let mut sent = 0;
        while monitors.interest().advertised {
            monitors.sent(std::iter::once(peer().key), &piece);
            sent += 1;
            assert!(sent <= QUEUE_MAX_BYTES >> 20, "the limit holds");
        }
        assert!(!mirror.load(Ordering::Relaxed), "nobody wants messages any more");
        let mut had = 0;
        while slow_queue.try_next().is_some() {
            had += 1;
        }
        assert_eq!(had, sent, "Subscribed, and all but the last piece");
        assert!(slow_queue.events.is_closed());
        monitors.peer_down(peer().key, DownReason::PeerRestarted);
        let events = std::iter::from_fn(|| other_queue.try_next()).map(|observed| observed.event);
        let events: Vec<Event> = events.collect();
        assert!(matches!(events.as_slice(), [Event::Subscribed(up), Event::PeerDown(..)] if up.len() == 1));
    }
}
