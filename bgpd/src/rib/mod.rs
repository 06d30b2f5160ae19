//! The routing information bases of RFC 4271 section 3.2, as one data structure without I/O or clock.
//!
//! What goes in: sessions that come up and go down ([`Rib::peer_up`], [`Rib::peer_down`]), their
//! UPDATEs ([`Rib::update`], [`Rib::withdraw`], [`Rib::end_of_rib`]), prefixes of our own
//! ([`Rib::originate`]), and what is known of next hops ([`Rib::set_next_hops`]).
//!
//! What comes out, whenever the caller asks:
//! - [`Rib::poll_transmit`]: what to tell peers. A [`Transmit`] is computed once for an update group and
//!   names all peers that it is for, so it is encoded once. A prefix that changes often between two
//!   calls is sent once, in its last state.
//! - [`Rib::poll_fib`]: the selected paths of prefixes that changed, for the kernel.
//! - [`Rib::poll_next_hops`]: next hops to resolve, or to forget.
//!
//! A peer whose connection is slower than its updates is paused ([`Rib::pause`]): it then misses
//! messages but no state, because what changed is remembered by prefix and sent, as it then is, after
//! [`Rib::resume`].
//!
//! ```
//! use bgpd::config::NeighborKey;
//! use bgpd::rib::{PeerSettings, Rib, RibSettings};
//! use bgpd::wire::{AsPath, Attributes, Family, NextHop};
//! use std::net::{IpAddr, Ipv4Addr};
//!
//! let mut rib = Rib::new(RibSettings::new(64512, Ipv4Addr::new(192, 0, 2, 1)));
//! let address: IpAddr = "10.0.0.2".parse().unwrap();
//! let mut settings = PeerSettings::new(NeighborKey::new(address, 179), 64513, 64512);
//! settings.families = [Family::Ipv4Unicast].into_iter().collect();
//! settings.import = bgpd::policy::Policy::Accept;
//! let peer = rib.peer_up(settings);
//! let mut attributes = Attributes::originated(NextHop::from(address));
//! attributes.as_path = AsPath::sequence([64513]);
//! rib.update(peer, attributes, ["10.9.0.0/16".parse().unwrap()]);
//! let changes = rib.poll_fib(usize::MAX);
//! assert_eq!(changes[0].route.as_ref().unwrap().next_hops(), [address.into()]);
//! ```

mod aggregates;
mod bits;
mod dampening;
mod decision;
mod default_route;
mod explain;
mod export;
mod formerly;
mod groups;
mod import;
mod index;
mod intern;
mod members;
mod next_hops;
mod packed;
mod pages;
mod paths;
mod peers;
mod record;
mod refresh;
mod restart;
mod select;
mod sources;
mod sys;
mod table;
mod view;

use std::net::Ipv4Addr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::config::{NeighborKey, Network, Selection};
use crate::wire::{Attributes, Community, Family, FamilySet, NextHop, Prefix};

pub use dampening::{DampeningView, FreedRoutes};
pub use decision::{LOCAL_PREF_DEFAULT, Step};
pub use explain::{NotTold, ToldView};
pub use export::Withheld;
pub use groups::{Outgoing, Transmit};
pub use import::Ineligible;
pub use intern::{AttributeSet, ReceivedRoutes, ReceivedUpdate};
pub use next_hops::{Gateway, Interfaces, NextHopInterest, NextHopState};
pub use peers::PeerSettings;
pub use record::PathRecord;
pub use view::{AdvertisedRoute, Counters, Memory, PathStatus, PathView, Totals};

use aggregates::Aggregates;
use dampening::Penalties;
use export::GroupKey;
use formerly::Former;
use groups::Groups;
use intern::{AttrId, Interner};
use peers::Peer;
use sources::{SourceId, Sources};
use table::FamilyTables;

/// Equal paths that are used together where nothing else is set: what the widest common leaf has as uplinks.
pub const MULTIPATH_MAX_DEFAULT: usize = 16;

/// A peer of the RIB: one session, from its establishment until its routes are gone. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u32);

impl PeerId {
    /// The origin of our own prefixes.
    pub(crate) const LOCAL: Self = Self(0);
}

/// Settings of the whole RIB.
#[derive(Clone, Debug)]
pub struct RibSettings {
    /// Our AS number; sessions may have another.
    pub local_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// How paths are selected.
    pub selection: Selection,
    /// Next hops are used before they are known to be reachable: where routes are not installed.
    pub assume_reachable: bool,
}

impl RibSettings {
    /// The defaults: multipath over paths of equal length, next hops assumed to be reachable.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            selection: Selection::default(),
            assume_reachable: true,
        }
    }
}

/// What is done with packets to a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FibAction {
    /// They go to the next hops of the selected paths: the best path's first, then of those equal to it.
    Forward(SmallVec<[Gateway; 2]>),
    /// They are dropped: the path has BLACKHOLE from a neighbour that may use it (RFC 7999), or the prefix is an
    /// aggregate of ours, and there is no route inside it for them (RFC 4632 section 5.1).
    Discard,
}

/// The selection for a prefix, as the kernel is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibRoute {
    /// What is done with packets.
    pub action: FibAction,
    /// LOCAL_PREF of the best path.
    pub local_pref: Option<u32>,
}

impl FibRoute {
    /// The next hops; none if packets are dropped.
    pub fn next_hops(&self) -> &[Gateway] {
        match &self.action {
            FibAction::Forward(next_hops) => next_hops,
            FibAction::Discard => &[],
        }
    }
}

/// A prefix whose selection changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibChange {
    /// The prefix.
    pub prefix: Prefix,
    /// None: there is nothing to install, because no path is left or because the prefix is our own.
    pub route: Option<FibRoute>,
}

/// Adj-RIBs-In, Loc-RIB and Adj-RIBs-Out. See the module's text.
#[derive(Debug)]
pub struct Rib {
    settings: RibSettings,
    peers: FxHashMap<PeerId, Peer>,
    peer_of: FxHashMap<NeighborKey, PeerId>,
    last_peer: u32,
    /// Sources as they were when others were told of their routes: until those have heard what became of them.
    formerly: FxHashMap<PeerId, Former>,
    attributes: Interner,
    /// As policies that ask for them were told.
    interfaces: Interfaces,
    sources: Sources,
    tables: FamilyTables,
    deferred: FamilySet,
    aggregates: Aggregates,
    penalties: Penalties,
    groups: Groups,
}

impl Rib {
    /// An empty RIB.
    pub fn new(settings: RibSettings) -> Self {
        Self {
            attributes: Interner::new(settings.assume_reachable),
            interfaces: Interfaces::default(),
            settings,
            sources: Sources::default(),
            peers: FxHashMap::default(),
            peer_of: FxHashMap::default(),
            last_peer: PeerId::LOCAL.0,
            formerly: FxHashMap::default(),
            tables: FamilyTables::default(),
            deferred: FamilySet::EMPTY,
            aggregates: Aggregates::default(),
            penalties: Penalties::default(),
            groups: Groups::default(),
        }
    }

    /// A session is established: the peer's table dump begins, and ends with End-of-RIB for each of its
    /// families. If the neighbour's routes were kept over a restart, they are still there, stale.
    pub fn peer_up(&mut self, settings: PeerSettings) -> PeerId {
        let settings = settings.knowing(&self.interfaces);
        let key = settings.key;
        self.penalties.follow(&settings);
        let id = match self.peer_of.get(&key) {
            Some(id) => {
                let id = *id;
                self.leave_groups(id);
                self.come_back(id, settings);
                self.judge_peer_again(id);
                id
            }
            None => {
                self.last_peer += 1;
                let id = PeerId(self.last_peer);
                self.peer_of.insert(key, id);
                self.peers.insert(id, Peer::new(settings));
                id
            }
        };
        self.join_groups(id);
        id
    }

    /// A session is lost. Routes of the families in `retain` stay as stale (RFC 4724 section 4.2) until
    /// [`Rib::end_of_rib`] or [`Rib::sweep_stale`]; the others are withdrawn.
    pub fn peer_down(&mut self, id: PeerId, retain: FamilySet) {
        self.leave_groups(id);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.up = false;
        let refreshed = std::mem::take(&mut peer.refreshing);
        let mut kept = 0;
        for family in Family::ALL {
            let refreshing = refreshed.contains(family);
            if retain.contains(family) {
                // RFC 4724 section 4.2: of consecutive restarts, only what came since the last one is kept.
                // RFC 9494 section 4.2: but for long-lived stale ones, whose time goes on.
                // What a refresh has marked is of the session that is lost now.
                self.remove_paths(id, family, |path, attributes| {
                    path.stale && !refreshing && !attributes.has_community(Community::LLGR_STALE)
                });
                kept += self.mark_stale(id, family);
            } else {
                self.remove_paths(id, family, |_, _| true);
            }
        }
        if kept == 0 {
            self.forget_peer(id);
        }
    }

    /// These UPDATEs are about to be taken in. Without effect but on the time that it takes: worth it for some
    /// hundred prefixes, which the processor's cache can hold.
    pub fn expect(&self, updates: &[ReceivedUpdate]) {
        for (set, _) in updates.iter().flat_map(|update| &update.announced) {
            self.attributes.expect_lookup(set);
        }
        let prefixes = updates.iter().flat_map(ReceivedUpdate::prefixes);
        for family in Family::ALL {
            let of_family = |prefix: &&Prefix| Family::of(prefix) == family;
            let table = self.tables.of(family);
            if table.places() > 0 {
                let places = table.expect(prefixes.clone().filter(of_family));
                self.expect_paths(family, &places.collect::<Vec<u32>>());
            }
        }
    }

    /// Paths at these places are about to come or go.
    fn expect_paths(&self, family: Family, places: &[u32]) {
        let entries = places
            .iter()
            .filter_map(|place| self.tables.of(family).entry(*place));
        for path in entries.flat_map(|entry| entry.paths()) {
            self.attributes.expect(path.received);
            if let Ok(accepted) = path.accepted() {
                self.attributes.expect(accepted);
            }
        }
    }

    /// Routes that a peer announces with one set of attributes. The next hop's family need not be the
    /// prefixes'. Without effect for a peer that is not there.
    pub fn update(
        &mut self,
        id: PeerId,
        attributes: impl Into<AttributeSet>,
        prefixes: impl IntoIterator<Item = Prefix>,
    ) {
        self.update_paths(id, attributes, prefixes.into_iter().map(|prefix| (prefix, 0)));
    }

    /// The same with path identifiers (RFC 7911): a prefix may have a path for each. They are of no meaning for
    /// families in which the peer sends none ([`PeerSettings::add_path_receive`]).
    pub fn update_paths(
        &mut self,
        id: PeerId,
        attributes: impl Into<AttributeSet>,
        routes: impl IntoIterator<Item = (Prefix, u32)>,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        let with_ids = peer.settings.add_path_receive;
        let dampens = peer.settings.dampening().is_some();
        let mut set = attributes.into();
        if peer.is_ebgp() {
            set = import::from_external(set);
        }
        let received = self.attributes.intern(set);
        let judged = self.judge(id, received);
        if dampens {
            for (prefix, path_id) in routes {
                let source = match with_ids.contains(Family::of(&prefix)) {
                    true => self.sources.hold(id, path_id),
                    false => SourceId::of_peer(id),
                };
                self.insert_dampened((id, source), (prefix, path_id), received, judged);
                self.sources.release(source);
            }
            self.judged(judged);
            self.attributes.release(received);
            return;
        }
        for (prefix, path_id) in routes {
            if with_ids.contains(Family::of(&prefix)) {
                let source = self.sources.hold(id, path_id);
                self.insert((id, source), &prefix, received, judged);
                self.sources.release(source);
            } else {
                self.insert((id, SourceId::of_peer(id)), &prefix, received, judged);
            }
        }
        self.judged(judged);
        self.attributes.release(received);
    }

    /// Routes that a peer announces no longer.
    pub fn withdraw(&mut self, id: PeerId, prefixes: impl IntoIterator<Item = Prefix>) {
        self.withdraw_paths(id, prefixes.into_iter().map(|prefix| (prefix, 0)));
    }

    /// The same with path identifiers, as [`Rib::update_paths`] has them.
    pub fn withdraw_paths(&mut self, id: PeerId, routes: impl IntoIterator<Item = (Prefix, u32)>) {
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.settings.dampening().is_some())
        {
            let routes: Vec<_> = routes.into_iter().collect();
            self.note_withdrawals(id, &routes);
            return self.take_out(id, routes);
        }
        self.take_out(id, routes);
    }

    fn take_out(&mut self, id: PeerId, routes: impl IntoIterator<Item = (Prefix, u32)>) {
        let peer = self.peers.get(&id);
        let with_ids = peer.map_or(FamilySet::EMPTY, |peer| peer.settings.add_path_receive);
        for (prefix, path_id) in routes {
            let family = Family::of(&prefix);
            let source = if with_ids.contains(family) {
                self.sources.find(id, path_id)
            } else {
                Some(SourceId::of_peer(id))
            };
            if let (Some(source), Some(place)) = (source, self.tables.of(family).find(&prefix)) {
                self.remove(family, place, source);
            }
        }
    }

    /// Those of a peer's routes that are meant, with the identifiers of their paths, and their attributes.
    fn routes_of(
        &self,
        id: PeerId,
        family: Family,
        which: impl Fn(&paths::Path) -> bool,
    ) -> Vec<((Prefix, u32), AttrId)> {
        let table = self.tables.of(family);
        let mut routes = Vec::new();
        for (place, entry) in table.live() {
            let Some(prefix) = table.prefix(place) else {
                continue;
            };
            let its = entry
                .paths()
                .iter()
                .filter(|path| self.is_of(path, id) && which(path));
            routes.extend(its.map(|path| {
                let path_id = self.sources.path_id(path.source).unwrap_or(0);
                ((prefix, path_id), path.received)
            }));
        }
        routes
    }

    /// Announce a prefix of our own. It wins over every learned path and is not installed.
    pub fn originate(&mut self, network: &Network) {
        let family = Family::of(&network.prefix);
        let mut attributes = Attributes::originated(NextHop::unspecified(family));
        attributes.local_pref = network.local_pref;
        attributes.communities.clone_from(&network.communities);
        attributes
            .large_communities
            .clone_from(&network.large_communities);
        self.originate_with(&network.prefix, attributes);
    }

    fn originate_with(&mut self, prefix: &Prefix, attributes: Attributes) {
        let id = self.attributes.intern(attributes.into());
        let judged = self.judge(PeerId::LOCAL, id);
        self.insert((PeerId::LOCAL, SourceId::LOCAL), prefix, id, judged);
        self.judged(judged);
        self.attributes.release(id);
    }

    /// Announce a prefix of our own no longer.
    pub fn retract(&mut self, prefix: Prefix) {
        self.withdraw(PeerId::LOCAL, [prefix]);
    }

    /// How many routes of a family a peer has announced.
    pub fn received_count(&self, id: PeerId, family: Family) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.received(family))
    }

    /// How many routes all peers have announced, of both families.
    pub fn received_total(&self) -> u64 {
        let of_family = |family| {
            self.peers
                .values()
                .map(move |peer| u64::from(peer.received(family)))
        };
        Family::ALL.into_iter().flat_map(of_family).sum()
    }

    /// Other settings for a peer that is up; its routes in both directions are judged again as far as they
    /// depend on what changed. What the session negotiated must be the same.
    pub fn reconfigure(&mut self, id: PeerId, settings: PeerSettings) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let settings = settings.knowing(&self.interfaces);
        if peer.settings == settings {
            return;
        }
        let source_changes = peer.settings.differs_as_source(&settings);
        if source_changes {
            self.flush_everything();
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut peer.settings, settings.clone());
        if source_changes {
            self.remember_source(id, before.clone());
        }
        let differs = |family: &Family| GroupKey::of(&before, *family) != GroupKey::of(&settings, *family);
        if before.for_import() != settings.for_import() {
            self.penalties.follow(&settings);
            self.judge_peer_again(id);
        }
        if Family::ALL.iter().any(differs) {
            self.regroup(id);
        }
    }

    /// Select in another way from now on.
    pub fn set_selection(&mut self, selection: &Selection) {
        if self.settings.selection != *selection {
            self.settings.selection = selection.clone();
            for family in Family::ALL {
                for place in 0..self.tables.of(family).places() {
                    self.select_again(family, place);
                }
            }
        }
    }

    /// The settings of a peer.
    pub fn settings_of(&self, id: PeerId) -> Option<&PeerSettings> {
        self.peers.get(&id).map(|peer| &peer.settings)
    }

    /// Prefixes whose selection changed since they were last given out, at most `limit` of them.
    pub fn poll_fib(&mut self, limit: usize) -> Vec<FibChange> {
        let waiting: usize = Family::ALL.iter().map(|f| self.tables.of(*f).fib_len()).sum();
        let mut changes = Vec::with_capacity(limit.min(waiting));
        for family in Family::ALL {
            while changes.len() < limit {
                let Some(place) = self.tables.of_mut(family).take_fib() else {
                    break;
                };
                let prefix = self.tables.of(family).prefix(place);
                changes.extend(prefix.map(|prefix| FibChange {
                    prefix,
                    route: self.fib_route(family, place, &prefix),
                }));
                self.tables.of_mut(family).drop_if_unused(place);
            }
        }
        changes
    }

    /// Nobody installs routes: what [`Rib::poll_fib`] would give is forgotten.
    pub fn skip_fib(&mut self) {
        for family in Family::ALL {
            let table = self.tables.of_mut(family);
            while let Some(place) = table.take_fib() {
                table.drop_if_unused(place);
            }
        }
    }
}
