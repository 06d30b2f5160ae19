//! Next hops of usable paths and what is known of them.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::table::IndexSet;

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopState {
    /// It can be reached, at this cost (0 for a neighbour on a link).
    Reachable {
        /// Cost, as step "nearer next hop" compares it.
        metric: u32,
    },
    /// It cannot be reached: paths through it are not used.
    Unreachable,
}

/// A next hop whose use began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopInterest {
    /// Tell its state, now and whenever it changes.
    Resolve(IpAddr),
    /// It is used no longer.
    Forget(IpAddr),
}

/// A next hop in use, by a small number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NextHopId(u32);

#[derive(Debug)]
struct Tracked {
    address: IpAddr,
    references: u32,
    state: Option<NextHopState>,
}

/// Counted next hops.
#[derive(Debug)]
pub(super) struct NextHops {
    /// Used before their state is known.
    assume_reachable: bool,
    ids: FxHashMap<IpAddr, NextHopId>,
    tracked: Vec<Tracked>,
    free: Vec<NextHopId>,
    changed: IndexSet<IpAddr>,
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
    pub(super) fn retain(&mut self, address: IpAddr) -> NextHopId {
        if let Some(id) = self.ids.get(&address) {
            if let Some(tracked) = self.tracked.get_mut(id.0 as usize) {
                tracked.references += 1;
            }
            return *id;
        }
        if !address.is_unspecified() {
            self.changed.insert(address);
        }
        let new = Tracked {
            address,
            references: 1,
            state: None,
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
        self.ids.insert(address, id);
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
        let address = tracked.address;
        self.ids.remove(&address);
        self.free.push(id);
        if !address.is_unspecified() {
            self.changed.insert(address);
        }
    }

    /// Store states; gives the next hops whose metric or reachability changed.
    pub(super) fn set(
        &mut self,
        states: impl IntoIterator<Item = (IpAddr, NextHopState)>,
    ) -> FxHashSet<NextHopId> {
        let mut changed = FxHashSet::default();
        for (address, state) in states {
            let Some(id) = self.ids.get(&address).copied() else {
                continue;
            };
            let before = self.metric(id);
            if let Some(tracked) = self.tracked.get_mut(id.0 as usize) {
                tracked.state = Some(state);
            }
            if self.metric(id) != before {
                changed.insert(id);
            }
        }
        changed
    }

    /// The cost of a next hop that can be used.
    pub(super) fn metric(&self, id: NextHopId) -> Option<u32> {
        match self.tracked.get(id.0 as usize)?.state {
            Some(NextHopState::Reachable { metric }) => Some(metric),
            Some(NextHopState::Unreachable) => None,
            None => self.assume_reachable.then_some(0),
        }
    }

    pub(super) fn poll(&mut self) -> Vec<NextHopInterest> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let interest = changed.map(|address| {
            if self.ids.contains_key(&address) {
                NextHopInterest::Resolve(address)
            } else {
                NextHopInterest::Forget(address)
            }
        });
        interest.collect()
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
