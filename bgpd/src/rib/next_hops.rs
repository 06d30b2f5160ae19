//! Next hops of usable paths and what is known of them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::table::IndexSet;
use super::{PeerSettings, Rib, paths};
use crate::config::InterfaceName;
use crate::wire::{Attributes, Family, NextHop};

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopState {
    /// It can be reached, at this cost (0 for a neighbour on a link).
    Reachable {
        /// Cost, as step "nearer next hop" compares it.
        metric: u32,
        /// The link that it is reached by, where that is known; the first of several. For policies alone.
        interface: Option<InterfaceName>,
    },
    /// It cannot be reached: paths through it are not used.
    Unreachable,
}

impl NextHopState {
    /// It can be reached at this cost, by whatever link.
    pub const fn reachable(metric: u32) -> Self {
        Self::Reachable {
            metric,
            interface: None,
        }
    }
}

/// The links that next hops are reached by, as a policy that asks for them sees them. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interfaces(Option<Arc<BTreeMap<Gateway, InterfaceName>>>);

impl Interfaces {
    /// The link that a route leads out of.
    pub(super) fn of(&self, gateway: Gateway) -> Option<&str> {
        Some(self.0.as_ref()?.get(&gateway)?.as_str())
    }
}

/// A next hop as the kernel has to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address: the global one of an IPv6 next hop, or the link-local one where the interface is known.
    pub address: IpAddr,
    /// The index of the interface that it is on, where the address is link-local.
    pub interface: Option<u32>,
}

impl Gateway {
    /// The way that a route asks for.
    pub fn of(attributes: &Attributes) -> Self {
        Self::new(attributes.next_hop, attributes.interface)
    }

    pub(super) fn new(next_hop: NextHop, interface: Option<u32>) -> Self {
        match next_hop.link_local_address().zip(interface) {
            Some((address, interface)) => Self {
                address: address.into(),
                interface: Some(interface),
            },
            None => next_hop.address().into(),
        }
    }
}

impl From<IpAddr> for Gateway {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            interface: None,
        }
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// A next hop whose use began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopInterest {
    /// Tell its state, now and whenever it changes.
    Resolve(Gateway),
    /// It is used no longer.
    Forget(Gateway),
}

/// A next hop in use, by a small number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NextHopId(u32);

#[derive(Debug)]
struct Tracked {
    gateway: Gateway,
    references: u32,
    state: Option<NextHopState>,
    /// By which link it is reached, or was last.
    interface: Option<InterfaceName>,
}

/// What became different with new states.
#[derive(Debug, Default)]
pub(super) struct NextHopChanges {
    /// Next hops whose metric or reachability did.
    pub(super) metrics: FxHashSet<NextHopId>,
    /// Whether the link that some next hop is reached by did.
    pub(super) interfaces: bool,
}

/// Counted next hops.
#[derive(Debug)]
pub(super) struct NextHops {
    /// Used before their state is known.
    assume_reachable: bool,
    ids: FxHashMap<Gateway, NextHopId>,
    tracked: Vec<Tracked>,
    free: Vec<NextHopId>,
    changed: IndexSet<Gateway>,
}

impl NextHops {
    pub(super) fn new(assume_reachable: bool) -> Self {
        Self {
            assume_reachable,
            ids: FxHashMap::default(),
            tracked: Vec::new(),
            free: Vec::new(),
            changed: IndexSet::default(),
        }
    }

    /// One more set of attributes uses it.
    pub(super) fn retain(&mut self, gateway: Gateway) -> NextHopId {
        if let Some(id) = self.ids.get(&gateway) {
            if let Some(tracked) = self.tracked.get_mut(id.0 as usize) {
                tracked.references += 1;
            }
            return *id;
        }
        if !gateway.address.is_unspecified() {
            self.changed.insert(gateway);
        }
        let new = Tracked {
            gateway,
            references: 1,
            state: None,
            interface: None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(tracked) = self.tracked.get_mut(id.0 as usize) {
                    *tracked = new;
                }
                id
            }
            None => {
                self.tracked.push(new);
                NextHopId((self.tracked.len() - 1) as u32)
            }
        };
        self.ids.insert(gateway, id);
        id
    }

    /// One set less uses it.
    pub(super) fn release(&mut self, id: NextHopId) {
        let Some(tracked) = self.tracked.get_mut(id.0 as usize) else {
            return;
        };
        tracked.references -= 1;
        if tracked.references > 0 {
            return;
        }
        let gateway = tracked.gateway;
        self.ids.remove(&gateway);
        self.free.push(id);
        if !gateway.address.is_unspecified() {
            self.changed.insert(gateway);
        }
    }

    /// Store states; gives what changed.
    pub(super) fn set(
        &mut self,
        states: impl IntoIterator<Item = (impl Into<Gateway>, NextHopState)>,
    ) -> NextHopChanges {
        let mut changes = NextHopChanges::default();
        for (gateway, state) in states {
            let Some(id) = self.ids.get(&gateway.into()).copied() else {
                continue;
            };
            let before = self.metric(id);
            if let Some(tracked) = self.tracked.get_mut(id.0 as usize) {
                tracked.state = Some(state);
                if let NextHopState::Reachable { interface, .. } = state
                    && tracked.interface != interface
                {
                    tracked.interface = interface;
                    changes.interfaces = true;
                }
            }
            if self.metric(id) != before {
                changes.metrics.insert(id);
            }
        }
        changes
    }

    /// The links that next hops in use are reached by.
    pub(super) fn interfaces(&self) -> Interfaces {
        let used = self.tracked.iter().filter(|tracked| tracked.references > 0);
        let known: BTreeMap<_, _> = used
            .filter_map(|tracked| Some((tracked.gateway, tracked.interface?)))
            .collect();
        Interfaces((!known.is_empty()).then(|| Arc::new(known)))
    }

    /// The cost of a next hop that can be used.
    pub(super) fn metric(&self, id: NextHopId) -> Option<u32> {
        match self.tracked.get(id.0 as usize)?.state {
            Some(NextHopState::Reachable { metric, .. }) => Some(metric),
            Some(NextHopState::Unreachable) => None,
            None => self.assume_reachable.then_some(0),
        }
    }

    pub(super) fn poll(&mut self) -> Vec<NextHopInterest> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let interest = changed.map(|gateway| {
            if self.ids.contains_key(&gateway) {
                NextHopInterest::Resolve(gateway)
            } else {
                NextHopInterest::Forget(gateway)
            }
        });
        interest.collect()
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

impl Rib {
    /// What is known of next hops now. One call for many is much cheaper than many calls.
    pub fn set_next_hops(&mut self, states: impl IntoIterator<Item = (impl Into<Gateway>, NextHopState)>) {
        let changes = self.attributes.set_next_hops(states);
        if changes.interfaces {
            self.follow_interfaces();
        }
        let changed = changes.metrics;
        if changed.is_empty() {
            return;
        }
        for family in Family::ALL {
            for place in 0..self.tables.of(family).places() {
                let touched = |path: &paths::Path| {
                    let next_hop = path.accepted().ok().and_then(|id| self.attributes.next_hop(id));
                    next_hop.is_some_and(|id| changed.contains(&id))
                };
                let entry = self.tables.of(family).entry(place);
                if entry.is_some_and(|entry| entry.paths().iter().any(touched)) {
                    self.select_again(family, place);
                }
            }
        }
    }

    /// Next hops are reached by other links: what policies that ask for them say may be different.
    fn follow_interfaces(&mut self) {
        self.interfaces = self.attributes.interfaces();
        let asks = |settings: &PeerSettings| {
            settings.import.looks_at_interfaces() || settings.export.looks_at_interfaces()
        };
        let asking = self.peers.iter().filter(|(_, peer)| asks(&peer.settings));
        let settings = asking.map(|(id, peer)| (*id, peer.settings.clone()));
        for (id, settings) in settings.collect::<Vec<_>>() {
            self.reconfigure(id, settings);
        }
    }

    /// Next hops that came into use or went out of it since the last call.
    pub fn poll_next_hops(&mut self) -> Vec<NextHopInterest> {
        self.attributes.poll_next_hops()
    }
}
