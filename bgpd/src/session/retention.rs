//! What is kept of a neighbour's routes while it is away: the receiving speaker of graceful restart
//! (RFC 4724 section 4.2, RFC 8538) and of long-lived graceful restart (RFC 9494 section 4.2).
//!
//! Each family whose routes are kept is in one phase, with the time at which that phase ends by itself.

use std::time::Duration;

use super::Timestamp;
use crate::wire::{Family, FamilySet};

/// How long stale routes may stay after the session is back while its End-of-RIB does not come. RFC 4724
/// section 4.2 allows such a bound and leaves its value open.
pub const STALE_PATH_TIME: Duration = Duration::from_secs(360);

/// How far a family's retention has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Restart Time runs: the neighbour is away.
    Restart,
    /// Long-lived stale time runs.
    LongLived,
    /// The session is back, and its End-of-RIB is awaited.
    Refresh,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    phase: Phase,
    until: Timestamp,
    /// How long routes stay as long-lived stale ones after Restart Time.
    long_lived: Duration,
}

/// What a lost session leaves to be kept of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) family: Family,
    /// Restart Time; zero where the neighbour asks for long-lived retention alone.
    pub(super) restart: Duration,
    /// Long-lived stale time; zero for none.
    pub(super) long_lived: Duration,
}

/// What the caller has to do with stale routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// To be withdrawn.
    pub(super) swept: FamilySet,
    /// To be kept as long-lived stale routes from now on.
    pub(super) long_lived: FamilySet,
}

/// The families whose routes are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Retention {
    kept: [Option<Kept>; Family::ALL.len()],
}

impl Retention {
    fn iter(&self) -> impl Iterator<Item = (Family, Kept)> {
        Family::ALL
            .into_iter()
            .zip(self.kept)
            .filter_map(|(family, kept)| Some((family, kept?)))
    }

    fn slot(&mut self, family: Family) -> Option<&mut Option<Kept>> {
        let at = Family::ALL.iter().position(|other| *other == family)?;
        self.kept.get_mut(at)
    }

    fn set(&mut self, family: Family, kept: Option<Kept>) {
        if let Some(slot) = self.slot(family) {
            *slot = kept;
        }
    }

    /// When the next phase ends.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.iter().map(|(_, kept)| kept.until).min()
    }

    /// The families whose routes are kept.
    pub(super) fn families(&self) -> FamilySet {
        self.iter().map(|(family, _)| family).collect()
    }

    /// The session is lost; routes of these families stay, and no others.
    pub(super) fn session_lost(&mut self, leases: &[Lease], now: Timestamp) {
        for family in Family::ALL {
            let lease = leases.iter().find(|lease| lease.family == family);
            let before = self.slot(family).and_then(|slot| *slot);
            let kept = lease.map(|lease| match before {
                // RFC 9494 section 4.2: the time goes on until the neighbour has sent its table again.
                Some(before) if before.phase == Phase::LongLived && !lease.long_lived.is_zero() => before,
                _ => Kept {
                    phase: Phase::Restart,
                    until: now + lease.restart,
                    long_lived: lease.long_lived,
                },
            });
            self.set(family, kept);
        }
    }

    /// The session is back. `preserved` are families that the neighbour says it has forwarded on without us
    /// (the F bit of graceful restart), `long_lived` those of the long-lived capability. Gives the families
    /// whose stale routes go at once.
    pub(super) fn session_back(
        &mut self,
        preserved: FamilySet,
        long_lived: FamilySet,
        now: Timestamp,
    ) -> FamilySet {
        let mut gone = FamilySet::EMPTY;
        for (family, kept) in self.iter().collect::<Vec<_>>() {
            let stays = match kept.phase {
                Phase::LongLived => long_lived.contains(family),
                Phase::Restart | Phase::Refresh => preserved.contains(family),
            };
            match (stays, kept.phase) {
                (false, _) => {
                    gone.insert(family);
                    self.set(family, None);
                }
                (true, Phase::LongLived) => {}
                (true, Phase::Restart | Phase::Refresh) => self.set(
                    family,
                    Some(Kept {
                        phase: Phase::Refresh,
                        until: now + STALE_PATH_TIME,
                        ..kept
                    }),
                ),
            }
        }
        gone
    }

    /// The neighbour has sent its table of a family: what is stale is swept by whoever holds the routes.
    pub(super) fn end_of_rib(&mut self, family: Family) {
        self.set(family, None);
    }

    /// Nothing is kept any more. Gives the families whose routes were.
    pub(super) fn clear(&mut self) -> FamilySet {
        let families = self.families();
        *self = Self::default();
        families
    }

    /// Ends the phases whose time has come.
    pub(super) fn timer(&mut self, now: Timestamp) -> Expired {
        let mut expired = Expired::default();
        for (family, kept) in self.iter().collect::<Vec<_>>() {
            if kept.until > now {
                continue;
            }
            if kept.phase == Phase::Restart && !kept.long_lived.is_zero() {
                expired.long_lived.insert(family);
                let until = now + kept.long_lived;
                let phase = Phase::LongLived;
                self.set(family, Some(Kept { phase, until, ..kept }));
            } else {
                expired.swept.insert(family);
                self.set(family, None);
            }
        }
        expired
    }
}
