//! Our own graceful restart (RFC 4724 section 4.1): whose End-of-RIB we wait for.

use std::collections::HashMap;

use crate::config::NeighborKey;
use crate::session::Timestamp;
use crate::wire::{Family, FamilySet, GracefulRestart};

/// The wait for the neighbours' tables after a start.
#[derive(Clone, Debug)]
pub(super) struct Deferral {
    /// Families that are not complete.
    pending: FamilySet,
    /// What is still awaited of each neighbour.
    waiting: HashMap<NeighborKey, FamilySet>,
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
            until,
        }
    }

    /// Families that still wait.
    pub(super) const fn pending(&self) -> FamilySet {
        self.pending
    }

    /// When the wait ends in any case.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        (!self.pending.is_empty()).then_some(self.until)
    }

    /// A session is established. Neighbours without the capability send no End-of-RIB, and those
    /// that have restarted themselves wait for ours.
    pub(super) fn peer_up(
        &mut self,
        key: NeighborKey,
        families: FamilySet,
        restart: Option<&GracefulRestart>,
    ) {
        match restart {
            Some(restart) if !restart.restarted => {
                if let Some(waiting) = self.waiting.get_mut(&key) {
                    *waiting = families;
                }
            }
            _ => self.remove(key),
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
    }

    /// Families that became complete since the last call.
    pub(super) fn complete(&mut self, now: Timestamp) -> FamilySet {
        let over = now >= self.until;
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
        NeighborKey {
            address: Ipv4Addr::new(10, 0, 0, last).into(),
            port: 179,
        }
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
        deferral.peer_up(key(1), both(), Some(&helper));
        deferral.peer_up(key(2), v4(), Some(&helper));
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
        let mut deferral = Deferral::new([(key(1), both()), (key(2), both()), (key(3), both())], at(120));
        deferral.peer_up(key(1), both(), None);
        deferral.peer_up(
            key(2),
            both(),
            Some(&GracefulRestart {
                restarted: true,
                ..Default::default()
            }),
        );
        assert!(deferral.complete(at(1)).is_empty());
        deferral.remove(key(3));
        assert_eq!(deferral.complete(at(1)), both());
    }

    #[test]
    fn the_timer_ends_the_wait() {
        let mut deferral = Deferral::new([(key(1), both())], at(120));
        assert!(deferral.complete(at(119)).is_empty());
        assert_eq!(deferral.complete(at(120)), both());
        assert!(deferral.complete(at(121)).is_empty());
    }
}
