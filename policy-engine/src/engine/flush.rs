//! From what changed to deltas.

use std::collections::BTreeSet;

use super::programs::{Refusal, SpecId, identity_deltas};
use super::{Engine, Legs, LocalEndpoint, Published};
use crate::index::ClassId;
use crate::output::{Delta, Endpoint, EndpointPrograms, PROGRAM_RULES_MAX, VectorIndex};
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
            let specs = Legs::new(|direction, family| {
                let spec = self.policies.spec(selected, &profiles, direction, family);
                self.programs.want(spec, &self.policies, &mut self.world)
            });
            self.wanted.insert(class, specs);
        }
    }

    /// Moves each endpoint to the newest programs that it can have.
    fn update_endpoints(&mut self, deltas: &mut Vec<Delta>) {
        let mut updates = Vec::new();
        let mut deny_all: Vec<Delta> = Vec::new();
        self.program_problems.clear();
        for local in self.local.values_mut() {
            let Some(&wanted) = self.wanted.get(&local.class) else {
                continue;
            };
            let enforced = wanted.try_map(|spec| self.programs.enforced(spec)).is_some();
            let previous = local.published.as_ref().map(|published| published.specs);
            for spec in wanted.0 {
                if let Some((spec, refusal)) = self.programs.refusal(spec) {
                    let kept = if enforced || previous.is_some() {
                        Kept::Previous
                    } else {
                        Kept::DenyAll
                    };
                    self.program_problems.push(problem(local, spec, refusal, kept));
                }
            }
            let specs = match previous {
                _ if enforced => wanted,
                Some(previous) => previous,
                None => wanted.map(|leg, spec| {
                    if self.programs.enforced(spec).is_some() {
                        return spec;
                    }
                    let (direction, family) = leg;
                    let deny = ProgramSpec::deny_all(direction, family);
                    let deny = self.programs.want(deny, &self.policies, &mut self.world);
                    self.programs.compile(&mut self.world, &mut deny_all);
                    deny
                }),
            };
            let Some(programs) = specs.try_map(|spec| self.programs.enforced(spec)) else {
                continue;
            };
            let programs = EndpointPrograms::from(programs);
            let before = local.published.as_mut();
            if !local.changed
                && before
                    .as_ref()
                    .is_some_and(|before| before.endpoint.programs == programs)
            {
                continue;
            }
            local.changed = false;
            let endpoint = Endpoint {
                programs,
                ..local.content.clone()
            };
            if before.is_none_or(|before| before.endpoint != endpoint) {
                updates.push(Delta::EndpointUpdate(Box::new(endpoint.clone())));
            }
            local.published = Some(Published { endpoint, specs });
        }
        deltas.extend(deny_all);
        deltas.extend(updates);
    }

    fn retain_programs(&mut self, deltas: &mut Vec<Delta>) {
        let published = self.local.values().filter_map(|local| local.published.as_ref());
        let used: BTreeSet<SpecId> = published
            .map(|published| &published.specs)
            .chain(self.wanted.values())
            .flat_map(|specs| specs.0)
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
