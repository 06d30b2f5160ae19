//! Our own graceful restart (RFC 4724 section 4.1): whose End-of-RIB we wait for.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::NeighborKey;
use crate::session::Timestamp;
use crate::wire::{Family, FamilySet, GracefulRestart};

/// How long a neighbour that has restarted itself is waited for. RFC 4724 section 4.1 leaves it out, so that two that
/// have both restarted do not wait for each other; but FRR sets the R bit for its first two minutes and sends its
/// table as usual, and to select without it would withdraw routes that are in use. The limit keeps the purpose.
const RESTARTED_WAIT_MAX: Duration = Duration::from_secs(10);

/// The wait for the neighbours' tables after a start.
#[derive(Clone, Debug)]
pub(super) struct Deferral {
    /// Families that are not complete.
    pending: FamilySet,
    /// What is still awaited of each neighbour.
    waiting: HashMap<NeighborKey, FamilySet>,
    /// Neighbours that have restarted themselves, and until when they are waited for.
    restarted: HashMap<NeighborKey, Timestamp>,
    /// Selection_Deferral_Timer.
    until: Timestamp,
}

impl Deferral {
    /// Waits for these neighbours, each with the families configured for it.
    pub(super) fn new(
        neighbors: impl IntoIterator<Item = (NeighborKey, FamilySet)>,
        until: Timestamp,
    ) -> Self {
        Self {
            pending: Family::ALL.into_iter().collect(),
            waiting: neighbors.into_iter().collect(),
            restarted: HashMap::new(),
            until,
        }
    }

    /// Families that still wait.
    pub(super) const fn pending(&self) -> FamilySet {
        self.pending
    }

    /// When to look again in any case.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let next = self.restarted.values().copied().chain([self.until]).min();
        next.filter(|_| !self.pending.is_empty())
    }

    /// A session is established. Neighbours without the capability send no End-of-RIB, and those
    /// that have restarted themselves may wait for ours.
    pub(super) fn peer_up(
        &mut self,
        key: NeighborKey,
        families: FamilySet,
        restart: Option<&GracefulRestart>,
        now: Timestamp,
    ) {
        let Some(restart) = restart else {
            self.remove(key);
            return;
        };
        if let Some(waiting) = self.waiting.get_mut(&key) {
            *waiting = families;
            if restart.restarted {
                self.restarted.entry(key).or_insert(now + RESTARTED_WAIT_MAX);
            }
        }
    }

    /// A neighbour has sent its table of a family.
    pub(super) fn end_of_rib(&mut self, key: NeighborKey, family: Family) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.remove(family);
        }
    }

    /// A neighbour is no longer configured.
    pub(super) fn remove(&mut self, key: NeighborKey) {
        self.waiting.remove(&key);
        self.restarted.remove(&key);
    }

    /// Families that became complete since the last call.
    pub(super) fn complete(&mut self, now: Timestamp) -> FamilySet {
        let over = now >= self.until;
        let waiting = &mut self.waiting;
        self.restarted.retain(|key, until| {
            let goes_on = now < *until;
            if !goes_on {
                waiting.remove(key);
            }
            goes_on
        });
        let awaited = |family| self.waiting.values().any(|waiting| waiting.contains(family));
        let complete: FamilySet = self
            .pending
            .iter()
            .filter(|family| over || !awaited(*family))
            .collect();
        for family in complete.iter() {
            self.pending.remove(family);
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn key(last: u8) -> NeighborKey {
        NeighborKey::new(Ipv4Addr::new(10, 0, 0, last).into(), 179)
    }

    fn both() -> FamilySet {
        Family::ALL.into_iter().collect()
    }

    fn v4() -> FamilySet {
        [Family::Ipv4Unicast].into_iter().collect()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(Duration::from_secs(seconds))
    }

    #[test]
    fn each_family_waits_for_every_helper() {
        let mut deferral = Deferral::new([(key(1), both()), (key(2), v4())], at(120));
        let helper = GracefulRestart::default();
        assert!(!deferral.complete(at(0)).contains(Family::Ipv4Unicast));
        deferral.peer_up(key(1), both(), Some(&helper), at(0));
        deferral.peer_up(key(2), v4(), Some(&helper), at(0));
        deferral.end_of_rib(key(1), Family::Ipv4Unicast);
        assert!(deferral.complete(at(1)).is_empty());
        deferral.end_of_rib(key(2), Family::Ipv4Unicast);
        assert_eq!(deferral.complete(at(2)), v4());
        assert_eq!(deferral.deadline(), Some(at(120)));
        deferral.end_of_rib(key(1), Family::Ipv6Unicast);
        assert_eq!(
            deferral.complete(at(3)).iter().collect::<Vec<_>>(),
            [Family::Ipv6Unicast]
        );
        assert_eq!(deferral.deadline(), None);
    }

    #[test]
    fn nobody_waits_for_those_that_cannot_tell() {
        let mut deferral = Deferral::new([(key(1), both()), (key(2), both())], at(120));
        deferral.peer_up(key(1), both(), None, at(0));
        assert!(deferral.complete(at(1)).is_empty());
        deferral.remove(key(2));
        assert_eq!(deferral.complete(at(1)), both());
    }

    #[test]
    fn those_that_have_restarted_are_waited_for_a_while() {
        let restarted = GracefulRestart {
            restarted: true,
            ..Default::default()
        };
        let up = |deferral: &mut Deferral| deferral.peer_up(key(1), both(), Some(&restarted), at(5));
        let mut tells = Deferral::new([(key(1), both())], at(120));
        up(&mut tells);
        assert_eq!(tells.deadline(), Some(at(15)));
        tells.end_of_rib(key(1), Family::Ipv4Unicast);
        assert_eq!(tells.complete(at(6)), v4());
        let mut waits_for_us = Deferral::new([(key(1), both())], at(120));
        up(&mut waits_for_us);
        assert!(waits_for_us.complete(at(14)).is_empty());
        assert_eq!(waits_for_us.complete(at(15)), both());
        assert_eq!(waits_for_us.deadline(), None);
    }

    #[test]
    fn the_timer_ends_the_wait() {
        let mut deferral = Deferral::new([(key(1), both())], at(120));
        assert!(deferral.complete(at(119)).is_empty());
        assert_eq!(deferral.complete(at(120)), both());
        assert!(deferral.complete(at(121)).is_empty());
    }
}
