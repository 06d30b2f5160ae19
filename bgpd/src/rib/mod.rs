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
//! assert_eq!(changes[0].paths[0].attributes.next_hop.address(), address);
//! ```

mod decision;
mod explain;
mod export;
mod groups;
mod import;
mod intern;
mod members;
mod next_hops;
mod peers;
mod record;
mod table;
mod view;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::config::{NeighborKey, Network};
use crate::wire::{Attributes, Family, FamilySet, NextHop, Prefix};

pub use decision::{LOCAL_PREF_DEFAULT, Step};
pub use explain::{NotTold, ToldView};
pub use export::Withheld;
pub use groups::{Outgoing, Transmit};
pub use import::Ineligible;
pub use next_hops::{NextHopInterest, NextHopState};
pub use peers::PeerSettings;
pub use record::PathRecord;
pub use view::{Counters, PathStatus, PathView, Totals};

use export::GroupKey;
use groups::Groups;
use intern::{AttrId, Interner};
use next_hops::NextHops;
use peers::Peer;
use table::{Chosen, FamilyTables, IndexSet, Path};

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
    /// Equal paths to use together; 1 for none.
    pub multipath_max: usize,
    /// Equal paths need AS_PATHs of equal length only; false: equal in content.
    pub multipath_relax: bool,
    /// Use paths within our AS together with an equal best path from another AS.
    pub multipath_eibgp: bool,
    /// Compare MULTI_EXIT_DISC between paths from different ASes too.
    pub always_compare_med: bool,
    /// A path without MULTI_EXIT_DISC counts as having the highest.
    pub missing_med_worst: bool,
    /// Next hops are used before they are known to be reachable: where routes are not installed.
    pub assume_reachable: bool,
}

impl RibSettings {
    /// The defaults: multipath over paths of equal length, next hops assumed to be reachable.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            multipath_max: MULTIPATH_MAX_DEFAULT,
            multipath_relax: true,
            multipath_eibgp: false,
            always_compare_med: false,
            missing_med_worst: false,
            assume_reachable: true,
        }
    }
}

/// A path that was selected for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedPath {
    /// The neighbour that it came from.
    pub peer: NeighborKey,
    /// Whether that neighbour is in another AS.
    pub ebgp: bool,
    /// Its attributes after the import policy.
    pub attributes: Arc<Attributes>,
}

/// A prefix whose selection changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibChange {
    /// The prefix.
    pub prefix: Prefix,
    /// The best path first and those equal to it after it. Empty: there is nothing to install, because no
    /// path is left or because the prefix is our own.
    pub paths: Vec<SelectedPath>,
}

/// Adj-RIBs-In, Loc-RIB and Adj-RIBs-Out. See the module's text.
#[derive(Debug)]
pub struct Rib {
    settings: RibSettings,
    peers: FxHashMap<PeerId, Peer>,
    peer_of: FxHashMap<NeighborKey, PeerId>,
    last_peer: u32,
    attributes: Interner,
    tables: FamilyTables,
    next_hops: NextHops,
    deferred: FamilySet,
    fib_changes: IndexSet<Prefix>,
    groups: Groups,
}

impl Rib {
    /// An empty RIB.
    pub fn new(settings: RibSettings) -> Self {
        Self {
            next_hops: NextHops::new(settings.assume_reachable),
            settings,
            peers: FxHashMap::default(),
            peer_of: FxHashMap::default(),
            last_peer: PeerId::LOCAL.0,
            attributes: Interner::default(),
            tables: FamilyTables::default(),
            deferred: FamilySet::EMPTY,
            fib_changes: IndexSet::default(),
            groups: Groups::default(),
        }
    }

    /// A session is established: the peer's table dump begins, and ends with End-of-RIB for each of its
    /// families. If the neighbour's routes were kept over a restart, they are still there, stale.
    pub fn peer_up(&mut self, settings: PeerSettings) -> PeerId {
        let key = settings.key;
        let id = match self.peer_of.get(&key) {
            Some(id) => {
                let id = *id;
                self.leave_groups(id);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.settings = settings;
                    peer.up = true;
                }
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
        let mut kept = 0;
        for family in Family::ALL {
            if retain.contains(family) {
                // RFC 4724 section 4.2: of consecutive restarts, only what came since the last one is kept.
                self.remove_paths(id, family, |path| path.stale);
                kept += self.tables.mark_stale(family, id);
            } else {
                self.remove_paths(id, family, |_| true);
            }
        }
        if kept == 0 {
            self.forget_peer(id);
        }
    }

    /// Routes that a peer announces with one set of attributes. The next hop's family need not be the
    /// prefixes'. Without effect for a peer that is not there.
    pub fn update(
        &mut self,
        id: PeerId,
        mut attributes: Attributes,
        prefixes: impl IntoIterator<Item = Prefix>,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.is_ebgp() {
            // RFC 4271 section 5.1.5: not to be taken from external peers. Reflection is within an AS.
            attributes.local_pref = None;
            attributes.originator_id = None;
            attributes.cluster_list.clear();
        }
        let loops = import::loops(&self.settings, &peer.settings, &attributes);
        let received = self.attributes.intern(attributes);
        for prefix in prefixes {
            self.insert(id, prefix.trunc(), received, loops);
        }
        self.attributes.release(received);
    }

    /// Routes that a peer announces no longer.
    pub fn withdraw(&mut self, id: PeerId, prefixes: impl IntoIterator<Item = Prefix>) {
        for prefix in prefixes {
            let prefix = prefix.trunc();
            if let Some(path) = self.tables.remove_path(&prefix, id) {
                self.count(id, Family::of(&prefix), -1);
                self.release_path(&path);
                self.select(&prefix);
            }
        }
    }

    /// The peer has sent its whole table of a family: what is still stale is gone.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.end_of_rib.insert(family);
        }
        self.sweep_stale(id, family);
    }

    /// Whether the peer has sent its End-of-RIB for the family in this session.
    pub fn has_end_of_rib(&self, id: PeerId, family: Family) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.end_of_rib.contains(family))
    }

    /// Withdraw what a peer has not announced again since its session was lost.
    pub fn sweep_stale(&mut self, id: PeerId, family: Family) {
        self.remove_paths(id, family, |path| path.stale);
        let gone = self.peers.get(&id).is_some_and(|peer| !peer.up);
        if gone
            && !Family::ALL
                .iter()
                .any(|family| self.tables.has_path_of(*family, id))
        {
            self.forget_peer(id);
        }
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
        let id = self.attributes.intern(attributes);
        self.insert(PeerId::LOCAL, network.prefix.trunc(), id, None);
        self.attributes.release(id);
    }

    /// Announce a prefix of our own no longer.
    pub fn retract(&mut self, prefix: Prefix) {
        self.withdraw(PeerId::LOCAL, [prefix]);
    }

    /// Hold back selection, and with it everything that goes out, for these families: after our own
    /// restart, until the peers have sent their tables (RFC 4724 section 4.1).
    pub fn defer_selection(&mut self, families: FamilySet) {
        for family in families.iter() {
            self.deferred.insert(family);
        }
    }

    /// Select now, and go on as usual.
    pub fn finish_deferral(&mut self, family: Family) {
        if self.deferred.remove(family) {
            for prefix in self.tables.prefixes(family) {
                self.select(&prefix);
            }
        }
    }

    /// Whether selection is held back.
    pub fn is_deferred(&self, family: Family) -> bool {
        self.deferred.contains(family)
    }

    /// How many routes of a family a peer has announced.
    pub fn received_count(&self, id: PeerId, family: Family) -> u32 {
        self.peers.get(&id).map_or(0, |peer| peer.received(family))
    }

    /// Other settings for a peer that is up; its routes in both directions are judged again as far as they
    /// depend on what changed. What the session negotiated must be the same.
    pub fn reconfigure(&mut self, id: PeerId, settings: PeerSettings) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.settings == settings {
            return;
        }
        let before = std::mem::replace(&mut peer.settings, settings.clone());
        let differs = |family: &Family| GroupKey::of(&before, *family) != GroupKey::of(&settings, *family);
        let regroup = Family::ALL.iter().any(differs);
        if before.for_import() != settings.for_import() {
            self.judge_peer_again(id);
        }
        if regroup {
            self.regroup(id);
        }
        let reflects = |settings: &PeerSettings| (settings.route_reflector_client, settings.cluster_id);
        if reflects(&before) != reflects(&settings) {
            // Whom its routes are reflected to depends on it as well.
            for family in Family::ALL {
                for prefix in self.tables.prefixes_where(family, |path| path.peer == id) {
                    self.groups.note(family, prefix);
                }
            }
        }
    }

    /// The settings of a peer.
    pub fn settings_of(&self, id: PeerId) -> Option<&PeerSettings> {
        self.peers.get(&id).map(|peer| &peer.settings)
    }

    /// What is known of next hops now. One call for many is much cheaper than many calls.
    pub fn set_next_hops(&mut self, states: impl IntoIterator<Item = (IpAddr, NextHopState)>) {
        let changed = self.next_hops.set(states);
        if changed.is_empty() {
            return;
        }
        for family in Family::ALL {
            let attributes = &self.attributes;
            let touched = self.tables.prefixes_where(family, |path| {
                path.accepted
                    .is_ok_and(|id| changed.contains(&attributes.get(id).next_hop.address()))
            });
            for prefix in touched {
                self.select(&prefix);
            }
        }
    }

    /// Next hops that came into use or went out of it since the last call.
    pub fn poll_next_hops(&mut self) -> Vec<NextHopInterest> {
        self.next_hops.poll()
    }

    /// Prefixes whose selection changed since they were last given out, at most `limit` of them.
    pub fn poll_fib(&mut self, limit: usize) -> Vec<FibChange> {
        let mut changes = Vec::with_capacity(limit.min(self.fib_changes.len()));
        while changes.len() < limit {
            let Some(prefix) = self.fib_changes.pop() else {
                break;
            };
            changes.push(FibChange {
                prefix,
                paths: self.selected(&prefix),
            });
        }
        changes
    }

    fn insert(&mut self, id: PeerId, prefix: Prefix, received: AttrId, loops: Option<Ineligible>) {
        let accepted = match loops {
            Some(reason) => Err(reason),
            None => self.judge(id, &prefix, received),
        };
        self.attributes.retain(received);
        if let Ok(accepted) = accepted {
            self.next_hops
                .retain(self.attributes.get(accepted).next_hop.address());
        }
        let path = Path {
            peer: id,
            received,
            accepted,
            stale: false,
        };
        match self.tables.put_path(prefix, path) {
            Some(replaced) => self.release_path(&replaced),
            None => self.count(id, Family::of(&prefix), 1),
        }
        self.select(&prefix);
    }

    fn count(&mut self, id: PeerId, family: Family, by: i32) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.count(family, by);
        }
    }

    /// The import policy. What it gives holds a reference.
    fn judge(&mut self, id: PeerId, prefix: &Prefix, received: AttrId) -> Result<AttrId, Ineligible> {
        use crate::policy::Decision;
        let attributes = self.attributes.get(received);
        let decision = match self.peers.get(&id) {
            Some(peer) => import::decide(&peer.settings, prefix, attributes),
            None => Decision::Unchanged, // our own
        };
        match decision {
            Decision::Reject => Err(Ineligible::Policy),
            Decision::Unchanged => {
                self.attributes.retain(received);
                Ok(received)
            }
            Decision::Changed(changed) => Ok(self.attributes.intern(*changed)),
        }
    }

    /// All of a peer's routes once more, because its settings changed.
    fn judge_peer_again(&mut self, id: PeerId) {
        for family in Family::ALL {
            for prefix in self.tables.prefixes_where(family, |path| path.peer == id) {
                let Some(path) = self.tables.path(&prefix, id).cloned() else {
                    continue;
                };
                let Some(peer) = self.peers.get(&id) else { continue };
                let attributes = self.attributes.get(path.received);
                let accepted = match import::loops(&self.settings, &peer.settings, attributes) {
                    Some(reason) => Err(reason),
                    None => self.judge(id, &prefix, path.received),
                };
                if let Ok(accepted) = accepted {
                    self.next_hops
                        .retain(self.attributes.get(accepted).next_hop.address());
                }
                self.attributes.retain(path.received);
                if let Some(replaced) = self.tables.put_path(prefix, Path { accepted, ..path }) {
                    self.release_path(&replaced);
                }
                self.select(&prefix);
            }
        }
    }

    fn remove_paths(&mut self, id: PeerId, family: Family, which: impl Fn(&Path) -> bool) {
        for prefix in self
            .tables
            .prefixes_where(family, |path| path.peer == id && which(path))
        {
            self.withdraw(id, [prefix]);
        }
    }

    fn release_path(&mut self, path: &Path) {
        if let Ok(accepted) = path.accepted {
            self.next_hops
                .release(self.attributes.get(accepted).next_hop.address());
            self.attributes.release(accepted);
        }
        self.attributes.release(path.received);
    }

    fn forget_peer(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.peer_of.remove(&peer.settings.key);
        }
    }

    /// Choose again for a prefix (RFC 4271 section 9.1.2) and note who must hear of it.
    fn select(&mut self, prefix: &Prefix) {
        let family = Family::of(prefix);
        if self.deferred.contains(family) {
            return;
        }
        let chosen = self.choose(prefix);
        let Some(entry) = self.tables.entry_mut(prefix) else {
            return;
        };
        if entry.chosen == chosen {
            self.tables.drop_if_empty(prefix);
            return;
        }
        for choice in &chosen {
            self.attributes.retain(choice.attributes);
        }
        let best_changed = entry.chosen.first() != chosen.first();
        let before = std::mem::replace(&mut entry.chosen, chosen);
        for choice in &before {
            self.attributes.release(choice.attributes);
        }
        self.tables.drop_if_empty(prefix);
        self.fib_changes.insert(*prefix);
        if best_changed {
            self.groups.note(family, *prefix);
        }
    }

    fn choose(&self, prefix: &Prefix) -> table::Choices {
        let candidates = self.candidates(prefix);
        let ranking = decision::rank(&self.settings, &candidates);
        let chosen = ranking.multipath.iter().filter_map(|at| candidates.get(*at));
        chosen
            .map(|c| Chosen {
                peer: c.peer,
                attributes: c.id,
            })
            .collect()
    }

    fn selected(&self, prefix: &Prefix) -> Vec<SelectedPath> {
        let Some(entry) = self.tables.entry(prefix) else {
            return Vec::new();
        };
        let chosen = entry.chosen.iter().filter_map(|choice| {
            let peer = self.peers.get(&choice.peer)?;
            let attributes = Arc::clone(self.attributes.get(choice.attributes));
            Some(SelectedPath {
                peer: peer.settings.key,
                ebgp: peer.is_ebgp(),
                attributes,
            })
        });
        chosen.collect()
    }
}
