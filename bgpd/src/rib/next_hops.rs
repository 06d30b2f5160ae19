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

#[derive(Debug, Default)]
struct Tracked {
    references: u32,
    state: Option<NextHopState>,
}

/// Counted next hops.
#[derive(Debug)]
pub(super) struct NextHops {
    /// Used before their state is known.
    assume_reachable: bool,
    tracked: FxHashMap<IpAddr, Tracked>,
    changed: IndexSet<IpAddr>,
}

impl NextHops {
    pub(super) fn new(assume_reachable: bool) -> Self {
        Self {
            assume_reachable,
            tracked: FxHashMap::default(),
            changed: IndexSet::default(),
        }
    }

    /// One more path uses it.
    pub(super) fn retain(&mut self, address: IpAddr) {
        let tracked = self.tracked.entry(address).or_default();
        tracked.references += 1;
        if tracked.references == 1 && !address.is_unspecified() {
            self.changed.insert(address);
        }
    }

    /// One path less uses it.
    pub(super) fn release(&mut self, address: IpAddr) {
        let Some(tracked) = self.tracked.get_mut(&address) else {
            return;
        };
        tracked.references -= 1;
        if tracked.references == 0 {
            self.tracked.remove(&address);
            if !address.is_unspecified() {
                self.changed.insert(address);
            }
        }
    }

    /// Store states; gives the next hops whose metric or reachability changed.
    pub(super) fn set(
        &mut self,
        states: impl IntoIterator<Item = (IpAddr, NextHopState)>,
    ) -> FxHashSet<IpAddr> {
        let mut changed = FxHashSet::default();
        for (address, state) in states {
            let before = self.metric(address);
            if let Some(tracked) = self.tracked.get_mut(&address) {
                tracked.state = Some(state);
                if self.metric(address) != before {
                    changed.insert(address);
                }
            }
        }
        changed
    }

    /// The cost of a next hop that can be used.
    pub(super) fn metric(&self, address: IpAddr) -> Option<u32> {
        match self.tracked.get(&address).and_then(|tracked| tracked.state) {
            Some(NextHopState::Reachable { metric }) => Some(metric),
            Some(NextHopState::Unreachable) => None,
            None => self.assume_reachable.then_some(0),
        }
    }

    pub(super) fn poll(&mut self) -> Vec<NextHopInterest> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        let interest = changed.map(|address| {
            if self.tracked.contains_key(&address) {
                NextHopInterest::Resolve(address)
            } else {
                NextHopInterest::Forget(address)
            }
        });
        interest.collect()
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.tracked.len()
    }
}
