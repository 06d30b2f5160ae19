//! How far a neighbour is from the limits of its routes (RFC 4271 section 6.7).

use std::time::Duration;

use crate::config::{MaxPrefix, Neighbor, NeighborKey};
use crate::session::Event;
use crate::wire::Family;

/// How long a session stays closed that had no room for its routes.
const OUT_OF_RESOURCES_TIME: Duration = Duration::from_secs(60);

struct Limit {
    max: MaxPrefix,
    warned: bool,
    passed: bool,
}

/// The limits of a session.
#[derive(Default)]
pub(super) struct Limits {
    by_family: Vec<Limit>,
    /// It ends because all neighbours together have sent too much.
    is_out_of_resources: bool,
}

impl Limits {
    pub(super) fn of(neighbor: &Neighbor) -> Self {
        let limit = |max: &MaxPrefix| Limit {
            max: *max,
            warned: false,
            passed: false,
        };
        Self {
            by_family: neighbor.max_prefixes.iter().map(limit).collect(),
            is_out_of_resources: false,
        }
    }

    /// Nothing is taken in any more: the session is about to end.
    pub(super) fn are_passed(&self) -> bool {
        self.is_out_of_resources || self.by_family.iter().any(|limit| limit.passed)
    }

    /// Ends the session for want of room; gives what it is to be told.
    pub(super) const fn run_out(&mut self) -> Event {
        self.is_out_of_resources = true;
        Event::OutOfResources {
            restart: OUT_OF_RESOURCES_TIME,
        }
    }

    /// Warns, once, where the neighbour nears a limit; gives what its session is to be told, once, when it is
    /// past one.
    pub(super) fn check(&mut self, key: NeighborKey, count: impl Fn(Family) -> u32) -> Vec<Event> {
        let mut events = Vec::new();
        for limit in &mut self.by_family {
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
