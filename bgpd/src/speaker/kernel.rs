//! The RIB's owner and the kernel's driver: selections go down, the state of next hops comes up.

use std::collections::HashSet;
use std::sync::Arc;

use crate::fib::Fib;
use crate::monitor::Monitors;
use crate::rib::{Gateway, NextHopInterest, NextHopState, Rib};
use crate::wire::{Family, FamilySet};

/// Changes of the selection given to the driver at once.
const CHANGES_PER_CALL: usize = 4096;

/// The driver, if learned routes are installed at all.
pub(super) struct Kernel {
    fib: Option<Arc<Fib>>,
    /// Next hops that the driver was asked for and has not answered yet.
    unresolved: HashSet<Gateway>,
    /// The RIB has more to tell than the driver has room for.
    waits: bool,
    /// Families to sweep as soon as the driver has been told everything.
    to_sweep: FamilySet,
}

impl Kernel {
    pub(super) fn new(fib: Option<Arc<Fib>>) -> Self {
        Self {
            fib,
            unresolved: HashSet::new(),
            waits: false,
            to_sweep: FamilySet::EMPTY,
        }
    }

    /// Passes on what the RIB wants, as far as the driver has room: the RIB keeps the rest, and is asked again
    /// after [`Kernel::room`]. Never waits.
    pub(super) fn program(&mut self, rib: &mut Rib, monitors: &mut Monitors) {
        let interests = rib.poll_next_hops();
        if let Some(fib) = &self.fib {
            for interest in &interests {
                match interest {
                    NextHopInterest::Resolve(gateway) => self.unresolved.insert(*gateway),
                    NextHopInterest::Forget(gateway) => self.unresolved.remove(gateway),
                };
            }
            if !interests.is_empty() {
                fib.track(interests);
            }
        }
        if self.fib.is_none() && !monitors.interest().selected {
            return rib.skip_fib();
        }
        loop {
            let room = self.fib.as_ref().map_or(CHANGES_PER_CALL, |fib| fib.room());
            self.waits = room == 0;
            if self.waits {
                return;
            }
            let changes = rib.poll_fib(room.min(CHANGES_PER_CALL));
            if changes.is_empty() {
                break;
            }
            if monitors.interest().selected {
                monitors.selected(&changes, rib);
            }
            if let Some(fib) = &self.fib {
                fib.apply(changes);
            }
        }
        // Everything is told: what the driver has besides is of an earlier process.
        if let Some(fib) = &self.fib {
            std::mem::take(&mut self.to_sweep)
                .iter()
                .for_each(|family| fib.sweep(family));
        }
    }

    /// Waits until the driver has room again for what it could not be told; for ever if it was told everything.
    /// Cancel-safe.
    pub(super) async fn room(&self) {
        match self.fib.as_ref().filter(|_| self.waits) {
            Some(fib) => fib.has_room().await,
            None => std::future::pending().await,
        }
    }

    /// What the driver found out. Cancel-safe; waits for ever without a driver.
    pub(super) async fn next_hop_changes(&self) -> Vec<(Gateway, NextHopState)> {
        match &self.fib {
            Some(fib) => fib.next_hop_changes().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the RIB what the driver found out.
    pub(super) fn resolved(&mut self, changes: Vec<(Gateway, NextHopState)>, rib: &mut Rib) {
        for (gateway, _) in &changes {
            self.unresolved.remove(gateway);
        }
        rib.set_next_hops(changes);
    }

    /// Whether all next hops asked for are answered.
    pub(super) fn is_resolved(&self) -> bool {
        self.unresolved.is_empty()
    }

    /// Routes of an earlier process that were not selected again go, once [`Kernel::program`] has told of all that
    /// were.
    pub(super) fn sweep(&mut self, family: Family) {
        self.to_sweep.insert(family);
    }
}
