//! How far a neighbour is from the limits of its routes (RFC 4271 section 6.7).

use crate::config::{MaxPrefix, Neighbor, NeighborKey};
use crate::session::Event;
use crate::wire::Family;

struct Limit {
    max: MaxPrefix,
    warned: bool,
    passed: bool,
}

/// The limits of a session, by family.
#[derive(Default)]
pub(super) struct Limits(Vec<Limit>);

impl Limits {
    pub(super) fn of(neighbor: &Neighbor) -> Self {
        let limit = |max: &MaxPrefix| Limit {
            max: *max,
            warned: false,
            passed: false,
        };
        Self(neighbor.max_prefixes.iter().map(limit).collect())
    }

    /// Nothing is taken in any more: the session is about to end.
    pub(super) fn are_passed(&self) -> bool {
        self.0.iter().any(|limit| limit.passed)
    }

    /// Warns, once, where the neighbour nears a limit; gives what its session is to be told, once, when it is
    /// past one.
    pub(super) fn check(&mut self, key: NeighborKey, count: impl Fn(Family) -> u32) -> Vec<Event> {
        let mut events = Vec::new();
        for limit in &mut self.0 {
            let MaxPrefix {
                family,
                limit: max,
                restart,
                ..
            } = limit.max;
            let count = count(family);
            if count >= limit.max.warning() && !limit.warned {
                limit.warned = true;
                tracing::warn!(neighbor = %key, %family, count, limit = max, "the neighbor nears its limit of routes");
            }
            if count > max && !limit.passed {
                limit.passed = true;
                events.push(Event::PrefixLimit {
                    family,
                    limit: max,
                    restart,
                });
            }
        }
        events
    }
}
