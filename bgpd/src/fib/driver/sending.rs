//! Tasks into the kernel. Routes are sent in batches by a thread of their own, so that the next one is prepared while
//! the kernel works on the one before; what became of a batch is settled when it has landed.

use netlink::{Error, Outcome, Refusal as KernelRefusal, Request, RouteFilter};
use rustc_hash::FxHashSet;
use tracing::{debug, info};

use super::super::plan::{Change, Task};
use super::super::status::Refusal;
use super::{Driver, Sent};
use crate::wire::{Family, Prefix};

/// Prefixes in one batch: between two, the inbox is looked at.
const BATCH_PREFIXES_MAX: usize = 2048;
/// Batches under way at once.
const FLIGHT_BATCHES_MAX: usize = 2;
/// With so few tasks and nothing under way, to hand them to another thread takes longer than to send them.
const HANDED_OVER_MIN: usize = 64;
/// Times that a prefix is tried again in one round, when the kernel has changed in between.
const ROUNDS_MAX: usize = 3;

impl Driver {
    /// One batch. True when nothing is left to do.
    pub(super) fn carry_out(&mut self) -> Result<bool, Error> {
        let objects = self.uses_objects.then_some(&mut self.objects);
        let tasks = self.plan.step(&self.resolver, objects, BATCH_PREFIXES_MAX);
        let missing = self.objects.missing();
        if !missing.is_empty() {
            self.set_compat_mode();
            if let Err(error) = self.change_objects(&missing) {
                return self.settle(self.with_groups(tasks), Err(error)).map(|()| false);
            }
        }
        let stay_under_way = match tasks.is_empty() {
            true => 0,
            false => FLIGHT_BATCHES_MAX - 1,
        };
        self.send(tasks)?;
        while self.flight.len() > stay_under_way {
            self.land()?;
        }
        Ok(self.plan.is_idle() && self.flight.is_empty())
    }

    fn send(&mut self, tasks: Vec<Task>) -> Result<(), Error> {
        if tasks.is_empty() {
            return Ok(());
        }
        let tasks = self.with_groups(tasks);
        let requests = tasks
            .iter()
            .map(|(task, with_group)| self.plan.request(task, *with_group));
        if tasks.len() < HANDED_OVER_MIN && self.flight.is_empty() {
            let outcomes = self.netlink.batch(requests);
            return self.settle(tasks, outcomes);
        }
        match self.sender.submit(requests) {
            Ok(()) => {
                self.flight.push_back(tasks);
                Ok(())
            }
            Err(error) => self.settle(tasks, Err(error)),
        }
    }

    fn with_groups(&self, tasks: Vec<Task>) -> Vec<Sent> {
        let uses_group = |task: &Task| match &task.change {
            Change::Install { ways, .. } => ways.group().is_some_and(|id| self.objects.is_installed(id)),
            Change::Remove { .. } => false,
        };
        let with_group = |task: Task| {
            let uses_group = uses_group(&task);
            (task, uses_group)
        };
        tasks.into_iter().map(with_group).collect()
    }

    /// Waits for the oldest batch under way.
    pub(super) fn land(&mut self) -> Result<(), Error> {
        match self.flight.pop_front() {
            Some(tasks) => {
                let outcomes = self.sender.outcomes();
                self.settle(tasks, outcomes)
            }
            None => Ok(()),
        }
    }

    /// Waits for all that is under way after a failure, which is known already.
    pub(super) fn land_all(&mut self) {
        while !self.flight.is_empty() {
            let landed = self.land();
            landed.unwrap_or_else(|error| debug!(%error, "kernel routes: a batch failed too"));
        }
    }

    /// Takes in what became of tasks; those to try once more are sent.
    fn settle(&mut self, tasks: Vec<Sent>, outcomes: Result<Vec<Outcome>, Error>) -> Result<(), Error> {
        let (mut tasks, mut outcomes) = (tasks, outcomes);
        for _ in 0..ROUNDS_MAX {
            self.plan.landed(tasks.iter().map(|(task, _)| task));
            let again = match outcomes {
                Ok(outcomes) => self.take_outcomes(tasks, outcomes)?,
                Err(error) => {
                    // They may be there or not: whatever was believed before is looked at again.
                    self.plan.look_at_tasks(tasks.iter().map(|(task, _)| task));
                    return Err(error);
                }
            };
            if again.is_empty() {
                break;
            }
            tasks = self.with_groups(again);
            let requests = tasks
                .iter()
                .map(|(task, with_group)| self.plan.request(task, *with_group));
            outcomes = self.netlink.batch(requests);
        }
        Ok(())
    }

    /// Gives those to try once more.
    fn take_outcomes(&mut self, tasks: Vec<Sent>, outcomes: Vec<Outcome>) -> Result<Vec<Task>, Error> {
        debug!(routes = outcomes.len(), "kernel routes changed");
        let mut taken = Vec::new();
        let mut again = Vec::new();
        for ((task, with_group), outcome) in tasks.into_iter().zip(outcomes) {
            match (outcome, &task.change) {
                (Ok(()), _) => self.plan.done(&task, with_group),
                (Err(refusal), Change::Remove { .. }) if refusal.is_not_found() => {
                    self.plan.done(&task, false)
                }
                (
                    Err(refusal),
                    Change::Install {
                        metric,
                        replaces: false,
                        ..
                    },
                ) if refusal.is_exists() => {
                    taken.push((task.prefix, *metric));
                }
                // What we believed to be there is gone: a plain addition then.
                (Err(refusal), Change::Install { replaces: true, .. }) if refusal.is_not_found() => {
                    again.push(task.into_addition());
                }
                (Err(refusal), _) => {
                    self.plan.refuse(
                        task.prefix,
                        Refusal::Kernel {
                            reason: refusal.to_string(),
                        },
                    );
                }
            }
        }
        let settled = self.settle_holders(&taken);
        if settled.is_err() {
            self.plan.look_at_tasks(again.iter());
            for (prefix, _) in &taken {
                self.plan.look_at_wanted(prefix);
            }
        }
        settled.map(|()| again)
    }

    /// Who has the places of routes that could not be added? Ours are taken over, others reported.
    fn settle_holders(&mut self, taken: &[(Prefix, u32)]) -> Result<(), Error> {
        for family in Family::ALL {
            let wanted: FxHashSet<_> = taken
                .iter()
                .filter(|(prefix, _)| Family::of(prefix) == family)
                .copied()
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let family = match family {
                Family::Ipv4Unicast => netlink::Family::V4,
                Family::Ipv6Unicast => netlink::Family::V6,
            };
            let all = RouteFilter {
                family: Some(family),
                table: Some(self.settings.table),
                ..RouteFilter::default()
            };
            for route in self.netlink.routes(&all)? {
                if !wanted.contains(&(route.destination, route.metric)) {
                    continue;
                }
                if route.protocol == self.settings.protocol {
                    self.plan.found(&route);
                } else {
                    self.plan.refuse(
                        route.destination,
                        Refusal::Foreign {
                            protocol: route.protocol,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    pub(super) fn change_objects(&mut self, requests: &[Request]) -> Result<(), Error> {
        let outcomes = self.netlink.batch(requests)?;
        for (request, outcome) in requests.iter().zip(outcomes) {
            match (request, outcome) {
                (_, Ok(())) => self.objects.done(request),
                (Request::DeleteNextHop(_), Err(refusal)) if refusal.is_not_found() => {
                    self.objects.done(request);
                }
                (Request::DeleteNextHop(id), Err(refusal)) => {
                    debug!(id, %refusal, "a next-hop object is not deleted");
                }
                (Request::AddNextHop(object) | Request::ReplaceNextHop(object), Err(refusal)) => {
                    self.objects.give_up(object.id);
                    self.plan.forget_groups();
                    if is_unsupported(&refusal) {
                        self.do_without_objects(&refusal.to_string());
                    } else {
                        debug!(%request, %refusal, "plain routes are used instead");
                    }
                }
                (_, Err(_)) => {}
            }
        }
        Ok(())
    }

    pub(super) fn do_without_objects(&mut self, reason: &str) {
        if self.uses_objects {
            info!(
                reason,
                "this kernel has no next-hop objects: multipath routes are plain ones"
            );
        }
        self.uses_objects = false;
        self.plan.forget_groups();
    }
}

fn is_unsupported(refusal: &KernelRefusal) -> bool {
    matches!(refusal.errno, nix::errno::Errno::EOPNOTSUPP)
}
