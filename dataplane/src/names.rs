//! What the numbers in events stand for. Names outlive what they name for a while, because events wait in the ring.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use policy_engine::output::{EndpointId, RuleId};
use rustc_hash::FxHashMap;

/// How long after a program's or an endpoint's end its events can still be read with names.
const NAMES_KEPT: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Table {
    programs: FxHashMap<u32, Arc<[RuleId]>>,
    endpoints: FxHashMap<u32, EndpointId>,
    leaving: Vec<(Instant, Leaving)>,
}

#[derive(Debug, Clone, Copy)]
enum Leaving {
    Program(u32),
    Endpoint(u32),
}

/// Shared by the [`Dataplane`](crate::Dataplane) and its [`FlowEvents`](crate::FlowEvents).
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    table: Arc<RwLock<Table>>,
}

impl Names {
    fn change(&self, change: impl FnOnce(&mut Table)) {
        // A thread that died while it held the lock left whole entries.
        change(
            &mut self
                .table
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    pub(crate) fn add_program(&self, id: u32, rules: Arc<[RuleId]>) {
        self.change(|table| {
            table.programs.insert(id, rules);
        });
    }

    pub(crate) fn add_endpoint(&self, number: u32, id: EndpointId) {
        self.change(|table| {
            table.endpoints.insert(number, id);
        });
    }

    pub(crate) fn drop_program(&self, id: u32, now: Instant) {
        self.change(|table| table.leaving.push((now + NAMES_KEPT, Leaving::Program(id))));
    }

    pub(crate) fn drop_endpoint(&self, number: u32, now: Instant) {
        self.change(|table| table.leaving.push((now + NAMES_KEPT, Leaving::Endpoint(number))));
    }

    /// Forgets what has been gone for long enough.
    pub(crate) fn expire(&self, now: Instant) {
        self.change(|table| {
            let Table {
                programs,
                endpoints,
                leaving,
            } = table;
            leaving.retain(|&(when, what)| {
                if when > now {
                    return true;
                }
                match what {
                    Leaving::Program(id) => drop(programs.remove(&id)),
                    Leaving::Endpoint(number) => drop(endpoints.remove(&number)),
                }
                false
            });
        });
    }

    /// The names of rules of a program, and of an endpoint.
    pub(crate) fn look_up(&self, program: u32, endpoint: u32) -> (Option<Arc<[RuleId]>>, Option<EndpointId>) {
        let table = self
            .table
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (
            table.programs.get(&program).cloned(),
            table.endpoints.get(&endpoint).cloned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outlive_programs_for_a_while() {
        let names = Names::default();
        let now = Instant::now();
        names.add_program(7, Arc::from([RuleId::EndOfProfiles]));
        names.drop_program(7, now);
        names.expire(now + NAMES_KEPT / 2);
        assert!(names.look_up(7, 0).0.is_some());
        names.expire(now + NAMES_KEPT);
        assert!(names.look_up(7, 0).0.is_none());
    }
}
