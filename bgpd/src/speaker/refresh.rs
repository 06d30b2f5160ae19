//! Route refresh between a session's reader and the owner of the RIB.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::NeighborKey;
use crate::session::{STALE_PATH_TIME, Timestamp};
use crate::wire::{Family, FamilySet};

/// How long a refresh that a neighbour has begun may take: RFC 7313 section 4 allows such a bound.
pub(super) const REFRESH_TIME: Duration = STALE_PATH_TIME;

/// Families that a neighbour asks for once more. However often it asks, there is one flag for each, and one
/// message on its way to the RIB.
#[derive(Clone, Debug, Default)]
pub(super) struct RefreshAsked(Arc<AtomicU8>);

impl RefreshAsked {
    fn bit(family: Family) -> u8 {
        match family {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        }
    }

    /// Notes a family; true if the RIB is to be told, because nothing was noted that it has not taken.
    pub(super) fn ask(&self, family: Family) -> bool {
        self.0.fetch_or(Self::bit(family), Ordering::AcqRel) == 0
    }

    /// Takes what was asked for.
    pub(super) fn take(&self) -> FamilySet {
        let asked = self.0.swap(0, Ordering::AcqRel);
        let families = Family::ALL.into_iter();
        families
            .filter(|family| asked & Self::bit(*family) != 0)
            .collect()
    }
}

/// The refreshes that neighbours have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Refreshes(BTreeMap<(NeighborKey, Family), Timestamp>);

impl Refreshes {
    /// One begins, or begins again.
    pub(super) fn begin(&mut self, key: NeighborKey, family: Family, now: Timestamp) {
        self.0.insert((key, family), now + REFRESH_TIME);
    }

    /// One has ended; false if none had begun.
    pub(super) fn end(&mut self, key: NeighborKey, family: Family) -> bool {
        self.0.remove(&(key, family)).is_some()
    }

    /// The session is lost.
    pub(super) fn forget(&mut self, key: NeighborKey) {
        self.0.retain(|(other, _), _| *other != key);
    }

    /// When the first of them has taken too long.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.0.values().min().copied()
    }

    /// Takes those that have taken too long.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<(NeighborKey, Family)> {
        let expired = self.0.extract_if(.., |_, until| *until <= now);
        expired.map(|(which, _)| which).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_requests_is_one_message() {
        let asked = RefreshAsked::default();
        let told = (0..1000).filter(|_| asked.ask(Family::Ipv4Unicast)).count();
        assert_eq!(told, 1);
        assert!(!asked.ask(Family::Ipv6Unicast), "it goes with the other one");
        assert_eq!(asked.take(), Family::ALL.into_iter().collect());
        assert_eq!(asked.take(), FamilySet::EMPTY);
        assert!(
            asked.ask(Family::Ipv6Unicast),
            "taken: the RIB is to be told again"
        );
    }

    #[test]
    fn a_refresh_that_does_not_end_is_given_up() {
        let [one, two] = [1, 2].map(|last| NeighborKey::new([10, 0, 0, last].into(), 179));
        let at = |seconds| Timestamp(Duration::from_secs(seconds));
        let mut refreshes = Refreshes::default();
        assert!(
            !refreshes.end(one, Family::Ipv4Unicast),
            "an end without a beginning"
        );
        refreshes.begin(one, Family::Ipv4Unicast, at(0));
        refreshes.begin(two, Family::Ipv4Unicast, at(1));
        refreshes.begin(two, Family::Ipv6Unicast, at(1));
        assert!(refreshes.end(two, Family::Ipv6Unicast));
        assert_eq!(refreshes.deadline(), Some(at(0) + REFRESH_TIME));
        assert!(refreshes.expired(at(10)).is_empty());
        assert_eq!(
            refreshes.expired(at(0) + REFRESH_TIME),
            [(one, Family::Ipv4Unicast)]
        );
        refreshes.forget(two);
        assert_eq!(refreshes.deadline(), None);
    }
}
