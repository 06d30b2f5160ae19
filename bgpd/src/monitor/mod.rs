//! What monitoring stations (BMP) and update files (MRT) are shown: for each of them a bounded queue that
//! the owner of the RIB fills in the order in which things happen to the RIB.
//!
//! Nothing here waits. A subscriber whose queue is full is cut off: it finds the end of its queue and
//! subscribes again, which begins with the sessions that are up then. The first look at the tables is asked
//! for in parts ([`Request::Show`]) by the subscriber itself, and comes through the same queue: so a route
//! is never shown in an older state after a newer one.

mod access;
mod mirror;
mod queue;
mod show;
pub(crate) mod synthesis;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

pub(crate) use access::{Question, RibAccess, ask, ask_blocking, count};
pub(crate) use mirror::{Mirror, Mirrored, Wanted};
pub(crate) use queue::{Event, Observed, Subscriber, Subscription, queue};
pub(crate) use show::Part;

use crate::config::NeighborKey;
use crate::rib::{FibChange, PeerId, ReceivedUpdate, Rib};
use crate::session::DownReason;
use crate::wire::{Attributes, Codec, Family, FamilySet, Prefix};

/// Places of a table whose routes are shown in one turn of the RIB's owner, which bounds its time (some
/// milliseconds) and what an answer holds.
pub(crate) const PAGE_PLACES: u32 = 2048;

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
    /// Messages exactly as they came, of every type.
    pub(crate) mirrored: bool,
}

impl Interest {
    const fn union(self, other: Self) -> Self {
        Self {
            received: self.received || other.received,
            accepted: self.accepted || other.accepted,
            advertised: self.advertised || other.advertised,
            selected: self.selected || other.selected,
            mirrored: self.mirrored || other.mirrored,
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

/// The subscribers, as the RIB's owner sees them. Without any, it costs a look at a flag.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    peers: HashMap<NeighborKey, Arc<MonitoredPeer>>,
    subscribers: Vec<(u64, Subscriber)>,
    interest: Interest,
    /// Tells the readers to keep what they receive.
    wanted: Wanted,
}

impl Monitors {
    /// `wanted` follows what is wanted of received messages.
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
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
        self.wanted.follow(self.interest);
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

    use super::queue::QUEUE_MAX_BYTES;
    use super::*;
    use crate::rib::{PeerSettings, RibSettings};

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

    /// A large table is shown in parts, each asked for after the one before it.
    #[test]
    fn a_large_table_is_shown_in_pages() {
        const NETWORKS: u32 = 2 * PAGE_PLACES + 100;
        let mut rib = Rib::new(RibSettings::new(65001, Ipv4Addr::new(10, 0, 0, 1)));
        let mut monitors = Monitors::new(Wanted::default());
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
            selected: true,
            ..Interest::default()
        });
        monitors.request(Request::Subscribe(1, subscriber), &rib);
        let parts = [
            (
                View::Advertised,
                Part::Advertised(peer().key, Family::Ipv4Unicast, 0),
            ),
            (View::Selected, Part::Routes(Family::Ipv4Unicast, 0)),
        ];
        for (view, part) in parts {
            let mut part = Some(part);
            let mut pages = Vec::new();
            while let Some(next) = part.take() {
                monitors.request(Request::Show(1, next), &rib);
                while let Some(observed) = queue.try_next() {
                    match observed.event {
                        Event::Routes(of, _, routes) if of == view => pages.push(routes.len() as u32),
                        Event::Shown(rest) => part = rest,
                        _ => {}
                    }
                }
            }
            assert_eq!(pages, [PAGE_PLACES, PAGE_PLACES, 100], "{view:?}");
        }
    }

    /// Nobody waits for a subscriber that is too slow: it is cut off, and what it had is still there.
    #[test]
    fn a_full_queue_ends_a_subscription() {
        let rib = Rib::new(RibSettings::new(65001, Ipv4Addr::new(10, 0, 0, 1)));
        let wanted = Wanted::default();
        let mut monitors = Monitors::new(wanted.clone());
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
        assert!(wanted.updates() && monitors.interest().advertised);
        let piece = Bytes::from(vec![0; 1 << 20]);
        let mut sent = 0;
        while monitors.interest().advertised {
            monitors.sent(std::iter::once(peer().key), &piece);
            sent += 1;
            assert!(sent <= QUEUE_MAX_BYTES >> 20, "the limit holds");
        }
        assert!(!wanted.updates(), "nobody wants messages any more");
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

    /// Mirrored messages are what is left out first, and the subscriber is told so when there is room again.
    #[test]
    fn mirrored_messages_are_left_out_where_there_is_no_room() {
        let rib = Rib::new(RibSettings::new(65001, Ipv4Addr::new(10, 0, 0, 1)));
        let wanted = Wanted::default();
        let mut monitors = Monitors::new(wanted.clone());
        monitors.peer_up(peer());
        let (subscriber, mut queue) = queue(Interest {
            mirrored: true,
            ..Interest::default()
        });
        assert!(!wanted.everything());
        monitors.request(Request::Subscribe(1, subscriber), &rib);
        assert!(wanted.everything() && !wanted.updates());
        let keepalive = crate::wire::encode_keepalive();
        let batch = || {
            let mut mirrored = Mirrored::default();
            (0..50_000).for_each(|at| mirrored.push(&keepalive, at == 7));
            mirrored
        };
        // Far more than there is room for.
        for _ in 0..100 {
            monitors.mirrored(peer().key, batch());
        }
        assert!(monitors.interest().mirrored, "it is not cut off");
        let mirrors = |queue: &mut Subscription| {
            let events = std::iter::from_fn(|| queue.try_next()).map(|observed| observed.event);
            let mirror = |event| match event {
                Event::Mirror(mirror) => Some(mirror),
                _ => None,
            };
            events.filter_map(mirror).collect::<Vec<Mirror>>()
        };
        let shown = mirrors(&mut queue);
        let all_messages = shown.iter().all(|mirror| matches!(mirror, Mirror::Messages(..)));
        assert!(all_messages && (5..50).contains(&shown.len()), "{}", shown.len());
        let Some(Mirror::Messages(_, first)) = shown.first() else {
            panic!("no messages")
        };
        let errored: Vec<usize> = first
            .messages()
            .enumerate()
            .filter_map(|(at, (message, is_errored))| {
                assert_eq!(message, keepalive);
                is_errored.then_some(at)
            })
            .collect();
        assert_eq!(
            (errored.as_slice(), first.messages().count()),
            ([7].as_slice(), 50_000)
        );
        // There is room again; and what is lost with a session is told with the next one.
        for _ in 0..2 {
            monitors.mirrored(peer().key, batch());
            monitors.mirrored(peer().key, batch());
            let after = mirrors(&mut queue);
            assert!(matches!(
                after.as_slice(),
                [Mirror::Lost(_), Mirror::Messages(..), Mirror::Messages(..)]
            ));
            monitors.mirror_lost(peer().key);
        }
    }
}
