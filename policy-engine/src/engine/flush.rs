//! From what changed to deltas.

use std::collections::BTreeSet;

use super::programs::{Refusal, identity_deltas};
use super::{Engine, LocalEndpoint};
use crate::index::ClassId;
use crate::output::{
    Delta, Direction, Endpoint, EndpointPrograms, Family, PROGRAM_RULES_MAX, ProgramKey, VectorIndex,
};
use crate::policies::{PolicyChanges, PolicyKey};
use crate::problem::{Kept, Problem};
use crate::resolve::ProgramSpec;

impl Engine {
    /// What the dataplane must change since the last call, in the order in which to apply it.
    pub fn flush(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let changes = self.policies.take_changes();
        let changed = self.select(&changes);
        self.programs.follow(&changes, &self.policies, &mut self.world);
        self.want_programs(changed);

        let reassigned = self.world.reassign();
        let changed_ports = self.world.refresh_named_ports(self.programs.named_ports());
        self.programs.follow_named_ports(&changed_ports);
        self.programs.teach(&reassigned.created, &mut deltas);
        identity_deltas(&reassigned, &mut deltas);
        self.programs.compile(&mut self.world, &mut deltas);

        deltas.extend(
            std::mem::take(&mut self.gone)
                .into_iter()
                .map(Delta::EndpointRemove),
        );
        self.update_endpoints(&mut deltas);
        self.retain_programs(&mut deltas);
        let forgotten = self.world.sweep();
        identity_deltas(&forgotten, &mut deltas);
        let mut removed = reassigned.removed;
        removed.extend(forgotten.removed);
        self.programs.unteach(&removed, &mut deltas);
        deltas
    }

    /// Works out which policies select which classes of local endpoints; gives the classes for which that, or the
    /// order of policies, has changed.
    fn select(&mut self, changes: &PolicyChanges) -> BTreeSet<ClassId> {
        let local: BTreeSet<ClassId> = self.local.values().map(|endpoint| endpoint.class).collect();
        let relabelled = self.world.labels.take_relabelled();
        self.selected
            .retain(|class, _| local.contains(class) && !relabelled.contains(class));
        let mut changed = BTreeSet::new();
        for key in &changes.policies {
            let policy = self.policies.policy(key);
            for (class, selected) in &mut self.selected {
                let differs = if policy.is_some_and(|p| self.world.labels.evaluate(*class, &p.selector)) {
                    selected.insert(key.clone())
                } else {
                    selected.remove(key)
                };
                if differs {
                    changed.insert(*class);
                }
            }
        }
        if changes.reordered {
            changed.extend(&local);
        }
        for class in local {
            self.selected.entry(class).or_insert_with(|| {
                changed.insert(class);
                let selects = |selector| self.world.labels.evaluate(class, selector);
                let policies = self
                    .policies
                    .policies()
                    .filter(|(_, policy)| selects(&policy.selector));
                policies
                    .map(|(key, _)| key.clone())
                    .collect::<BTreeSet<PolicyKey>>()
            });
        }
        changed
    }

    /// Brings the programs that each class of local endpoints asks for up to date.
    fn want_programs(&mut self, changed: BTreeSet<ClassId>) {
        self.wanted.retain(|class, _| self.selected.contains_key(class));
        for class in changed {
            let Some(selected) = self.selected.get(&class) else {
                continue;
            };
            let profiles = self.world.labels.parents(class).to_vec();
            let mut key = |direction, family| {
                let spec = self.policies.spec(selected, &profiles, direction, family);
                self.programs.want(spec, &self.policies, &mut self.world)
            };
            self.wanted.insert(class, EndpointPrograms::of(&mut key));
        }
    }

    fn update_endpoints(&mut self, deltas: &mut Vec<Delta>) {
        let mut updates = Vec::new();
        let mut deny_all: Vec<Delta> = Vec::new();
        self.program_problems.clear();
        for local in self.local.values_mut() {
            let Some(programs) = self.wanted.get(&local.class) else {
                continue;
            };
            let enforced = programs
                .keys()
                .into_iter()
                .all(|key| self.programs.is_enforced(key));
            let previous = local.published.as_ref().map(|endpoint| endpoint.programs);
            for key in programs.keys() {
                if let Some((spec, refusal)) = self.programs.refusal(key) {
                    let kept = if enforced || previous.is_some() {
                        Kept::Previous
                    } else {
                        Kept::DenyAll
                    };
                    self.program_problems.push(problem(local, spec, refusal, kept));
                }
            }
            let programs = match previous {
                _ if enforced => *programs,
                Some(previous) => previous,
                None => EndpointPrograms::of(&mut |direction, family| {
                    let key = programs.key(direction, family);
                    if self.programs.is_enforced(key) {
                        return key;
                    }
                    let spec = ProgramSpec::deny_all(direction, family);
                    let key = self.programs.want(spec, &self.policies, &mut self.world);
                    self.programs.compile(&mut self.world, &mut deny_all);
                    key
                }),
            };
            if !local.changed && previous == Some(programs) {
                continue;
            }
            local.changed = false;
            let endpoint = Endpoint {
                programs,
                ..local.content.clone()
            };
            if local.published.as_ref() != Some(&endpoint) {
                updates.push(Delta::EndpointUpdate(Box::new(endpoint.clone())));
                local.published = Some(endpoint);
            }
        }
        deltas.extend(deny_all);
        deltas.extend(updates);
    }

    fn retain_programs(&mut self, deltas: &mut Vec<Delta>) {
        let published = self.local.values().filter_map(|local| local.published.as_ref());
        let used: BTreeSet<ProgramKey> = published
            .map(|endpoint| &endpoint.programs)
            .chain(self.wanted.values())
            .flat_map(|p| p.keys())
            .collect();
        self.programs.retain(&used, &mut self.world, deltas);
    }
}

fn problem(local: &LocalEndpoint, spec: &ProgramSpec, refusal: Refusal, kept: Kept) -> Problem {
    let (endpoint, direction, family) = (local.content.id.clone(), spec.direction, spec.family);
    match refusal {
        Refusal::Rules(rules) => Problem::TooManyRules {
            endpoint,
            direction,
            family,
            rules,
            limit: PROGRAM_RULES_MAX,
            kept,
        },
        Refusal::Vectors => Problem::TooManyVectors {
            endpoint,
            direction,
            family,
            limit: usize::from(VectorIndex::MAX) + 1,
            kept,
        },
    }
}

impl EndpointPrograms {
    fn of(key: &mut impl FnMut(Direction, Family) -> ProgramKey) -> Self {
        Self {
            ingress_v4: key(Direction::Ingress, Family::V4),
            egress_v4: key(Direction::Egress, Family::V4),
            ingress_v6: key(Direction::Ingress, Family::V6),
            egress_v6: key(Direction::Egress, Family::V6),
        }
    }
}
