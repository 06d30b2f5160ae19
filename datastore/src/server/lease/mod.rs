//! Leases: who holds which keys, and until when. Time is a parameter: milliseconds of a clock that only rises.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::server::limits::{LEASE_CHECKPOINT_INTERVAL, LEASE_TTL_SECONDS_MAX, LEASE_TTL_SECONDS_MIN};
use crate::server::refusal::Refusal;

/// A point on the store's monotonic clock.
pub(crate) type Milliseconds = u64;

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    deadline: Milliseconds,
    /// Whether the file holds a remaining time that a renewal makes wrong.
    remaining_is_stored: bool,
    keys: BTreeSet<Bytes>,
}

/// A lease as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredLease {
    pub(crate) id: i64,
    pub(crate) ttl_seconds: i64,
    /// What was left when it was written; zero for all of it.
    pub(crate) remaining_seconds: i64,
}

/// What a renewal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    pub(crate) ttl_seconds: i64,
    /// The file holds a shorter remaining time, which must be replaced before the renewal is answered.
    pub(crate) must_store: Option<StoredLease>,
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaseState {
    pub(crate) remaining_seconds: i64,
    pub(crate) granted_seconds: i64,
    pub(crate) keys: Vec<Bytes>,
}

/// All leases of the store.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: HashMap<i64, Lease>,
    deadlines: BTreeSet<(Milliseconds, i64)>,
}

impl Leases {
    pub(crate) fn exists(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Grants a lease and gives its time to live, which may be longer than what was asked for.
    pub(crate) fn grant(&mut self, id: i64, ttl_seconds: i64, now: Milliseconds) -> Result<i64, Refusal> {
        if id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.exists(id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl_seconds = ttl_seconds.max(LEASE_TTL_SECONDS_MIN);
        self.restore(
            StoredLease {
                id,
                ttl_seconds,
                remaining_seconds: 0,
            },
            now,
        );
        Ok(ttl_seconds)
    }

    /// Puts back a lease read from the file, with the time it had left.
    pub(crate) fn restore(&mut self, stored: StoredLease, now: Milliseconds) {
        let StoredLease {
            id,
            ttl_seconds,
            remaining_seconds,
        } = stored;
        let left = if remaining_seconds > 0 {
            remaining_seconds.min(ttl_seconds)
        } else {
            ttl_seconds
        };
        let deadline = now.saturating_add(milliseconds(left));
        let lease = Lease {
            ttl_seconds,
            deadline,
            remaining_is_stored: remaining_seconds > 0,
            keys: BTreeSet::new(),
        };
        if let Some(replaced) = self.leases.insert(id, lease) {
            self.deadlines.remove(&(replaced.deadline, id));
        }
        self.deadlines.insert((deadline, id));
    }

    /// Ends a lease and gives its keys in order.
    pub(crate) fn revoke(&mut self, id: i64) -> Result<BTreeSet<Bytes>, Refusal> {
        let lease = self.leases.remove(&id).ok_or(Refusal::LeaseNotFound)?;
        self.deadlines.remove(&(lease.deadline, id));
        Ok(lease.keys)
    }

    /// Gives a lease its whole time again. One that has run out is as good as gone.
    pub(crate) fn renew(&mut self, id: i64, now: Milliseconds) -> Option<Renewal> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.deadline > now)?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = now.saturating_add(milliseconds(lease.ttl_seconds));
        self.deadlines.insert((lease.deadline, id));
        let ttl_seconds = lease.ttl_seconds;
        let must_store = std::mem::take(&mut lease.remaining_is_stored).then_some(StoredLease {
            id,
            ttl_seconds,
            remaining_seconds: 0,
        });
        Some(Renewal {
            ttl_seconds,
            must_store,
        })
    }

    pub(crate) fn state(&self, id: i64, now: Milliseconds) -> Option<LeaseState> {
        let lease = self.leases.get(&id).filter(|lease| lease.deadline > now)?;
        Some(LeaseState {
            remaining_seconds: seconds(lease.deadline.saturating_sub(now)),
            granted_seconds: lease.ttl_seconds,
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// All leases, the one that ends first before the others.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.deadlines.iter().map(|(_, id)| *id).collect()
    }

    pub(crate) fn attach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the next lease runs out.
    pub(crate) fn next_deadline(&self) -> Option<Milliseconds> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Leases that have run out, at most `max` of them.
    pub(crate) fn expired(&self, now: Milliseconds, max: usize) -> Vec<i64> {
        self.deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .take(max)
            .map(|(_, id)| *id)
            .collect()
    }

    /// The remaining times to write down: of leases longer than the checkpoint interval, or of all of them
    /// at shutdown. A lease that is renewed more often than that starts with its whole time after a crash.
    pub(crate) fn checkpoint(&mut self, now: Milliseconds, all: bool) -> Vec<StoredLease> {
        let mut stored = Vec::new();
        for (id, lease) in &mut self.leases {
            let long = milliseconds(lease.ttl_seconds) > LEASE_CHECKPOINT_INTERVAL.as_millis() as u64;
            if !long && !all {
                continue;
            }
            // Rounded up: a lease never ends before its time.
            let remaining_seconds = seconds(lease.deadline.saturating_sub(now).saturating_add(999)).max(1);
            if remaining_seconds < lease.ttl_seconds {
                lease.remaining_is_stored = true;
                stored.push(StoredLease {
                    id: *id,
                    ttl_seconds: lease.ttl_seconds,
                    remaining_seconds,
                });
            }
        }
        stored
    }
}

fn milliseconds(seconds: i64) -> Milliseconds {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn seconds(milliseconds: Milliseconds) -> i64 {
    i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_bounded() {
        let mut leases = Leases::default();
        assert_eq!(leases.grant(1, 1, 0), Ok(LEASE_TTL_SECONDS_MIN));
        assert_eq!(leases.grant(1, 5, 0), Err(Refusal::LeaseExists));
        assert_eq!(
            leases.grant(2, LEASE_TTL_SECONDS_MAX + 1, 0),
            Err(Refusal::LeaseTtlTooLarge)
        );
        assert_eq!(
            leases.grant(3, LEASE_TTL_SECONDS_MAX, 0),
            Ok(LEASE_TTL_SECONDS_MAX)
        );
    }

    #[test]
    fn a_lease_ends_on_time_unless_renewed() {
        let mut leases = Leases::default();
        leases.grant(1, 10, 0).unwrap();
        assert!(leases.expired(9_999, 10).is_empty());
        assert_eq!(leases.renew(1, 5_000).map(|r| r.ttl_seconds), Some(10));
        assert!(leases.expired(10_000, 10).is_empty());
        assert_eq!(leases.expired(15_000, 10), [1]);
        assert_eq!(leases.renew(1, 15_000), None);
    }

    #[test]
    fn remaining_time_survives_and_a_renewal_replaces_it() {
        let mut leases = Leases::default();
        leases.grant(1, 100, 0).unwrap();
        assert!(
            leases.checkpoint(60_000, false).is_empty(),
            "shorter than the checkpoint interval"
        );
        let stored = leases.checkpoint(60_500, true);
        assert_eq!(
            stored,
            [StoredLease {
                id: 1,
                ttl_seconds: 100,
                remaining_seconds: 40
            }]
        );
        let mut again = Leases::default();
        again.restore(stored[0], 0);
        assert_eq!(again.state(1, 0).unwrap().remaining_seconds, 40);
        let renewal = again.renew(1, 1_000).unwrap();
        assert_eq!(
            renewal.must_store,
            Some(StoredLease {
                id: 1,
                ttl_seconds: 100,
                remaining_seconds: 0
            })
        );
        assert_eq!(again.renew(1, 2_000).unwrap().must_store, None);
    }
}
