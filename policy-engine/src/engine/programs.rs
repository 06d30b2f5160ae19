//! Programs: one a distinct [`ProgramSpec`], what each enforces, and the deltas when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::World;
use crate::clause::{Clause, NamedPort, SelectorId};
use crate::compile::{ProgramIdentities, compile};
use crate::index::Reassignment;
use crate::output::{Delta, IdentityChange, IdentityId, PROGRAM_RULES_MAX, ProgramKey, VectorIndex};
use crate::policies::{PolicyChanges, PolicyTable};
use crate::resolve::{ProgramSpec, resolve};

/// All programs.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    next: u64,
    keys: BTreeMap<ProgramSpec, ProgramKey>,
    entries: BTreeMap<ProgramKey, Entry>,
    /// To be compiled at this flush.
    pending: BTreeMap<ProgramKey, Vec<Clause>>,
}

#[derive(Debug)]
struct Entry {
    spec: ProgramSpec,
    /// `None` until it has been compiled once.
    enforced: Option<Enforced>,
    refusal: Option<Refusal>,
}

#[derive(Debug)]
struct Enforced {
    clauses: Vec<Clause>,
    selectors: BTreeSet<SelectorId>,
    named_ports: BTreeSet<NamedPort>,
    identities: ProgramIdentities,
}

/// Why a program's newest content is not enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Rules(usize),
    Vectors,
}

impl Programs {
    /// The key of a spec; a new one is resolved at once.
    pub(crate) fn want(
        &mut self,
        spec: ProgramSpec,
        policies: &PolicyTable,
        world: &mut World,
    ) -> ProgramKey {
        if let Some(&key) = self.keys.get(&spec) {
            return key;
        }
        let key = ProgramKey(self.next);
        self.next += 1;
        self.keys.insert(spec.clone(), key);
        self.entries.insert(
            key,
            Entry {
                spec,
                enforced: None,
                refusal: None,
            },
        );
        self.resolve(key, policies, world);
        key
    }

    /// Resolves again the programs whose policies or profiles changed.
    pub(crate) fn follow(&mut self, changes: &PolicyChanges, policies: &PolicyTable, world: &mut World) {
        let concerned = |entry: &Entry| {
            entry.spec.policies().any(|key| changes.policies.contains(key))
                || entry
                    .spec
                    .profiles
                    .iter()
                    .any(|name| changes.profiles.contains(name))
        };
        let keys: Vec<ProgramKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| concerned(entry))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.resolve(key, policies, world);
        }
    }

    fn resolve(&mut self, key: ProgramKey, policies: &PolicyTable, world: &mut World) {
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        // Without one of its policies it is only there for endpoints whose newest policy was refused: it stays as it is.
        let Some(clauses) = resolve(&entry.spec, policies, &mut |selector| world.intern(selector)) else {
            return;
        };
        if clauses.len() > PROGRAM_RULES_MAX {
            entry.refusal = Some(Refusal::Rules(clauses.len()));
            self.pending.remove(&key);
            return;
        }
        entry.refusal = None;
        if entry
            .enforced
            .as_ref()
            .is_none_or(|enforced| enforced.clauses != clauses)
        {
            self.pending.insert(key, clauses);
        } else {
            self.pending.remove(&key);
        }
    }

    /// The named ports of all programs, old and new.
    pub(crate) fn named_ports(&self) -> BTreeSet<&NamedPort> {
        let enforced = self.entries.values().filter_map(|entry| entry.enforced.as_ref());
        let pending = self.pending.values().flatten().flat_map(Clause::named_ports);
        enforced
            .flat_map(|enforced| &enforced.named_ports)
            .chain(pending)
            .collect()
    }

    /// Compiles again the programs that use a named port whose members changed.
    pub(crate) fn follow_named_ports(&mut self, changed: &BTreeSet<NamedPort>) {
        for (key, entry) in &self.entries {
            if let Some(enforced) = &entry.enforced
                && !enforced.named_ports.is_disjoint(changed)
            {
                self.pending
                    .entry(*key)
                    .or_insert_with(|| enforced.clauses.clone());
            }
        }
    }

    /// Makes new identities known to the programs in force.
    pub(crate) fn teach(&mut self, created: &Created, deltas: &mut Vec<Delta>) {
        if created.is_empty() {
            return;
        }
        for (key, entry) in &mut self.entries {
            let Some(enforced) = &mut entry.enforced else {
                continue;
            };
            match enforced.identities.learn(created) {
                Some(change) if change == IdentityChange::default() => {}
                Some(change) => {
                    deltas.push(Delta::ProgramIdentities {
                        key: *key,
                        change: Arc::new(change),
                    });
                }
                // Out of vector indices: those that no entry uses any more go with a new compilation.
                None => {
                    self.pending
                        .entry(*key)
                        .or_insert_with(|| enforced.clauses.clone());
                }
            }
        }
    }

    /// Makes programs forget identities that no address has.
    pub(crate) fn unteach(&self, removed: &Created, deltas: &mut Vec<Delta>) {
        for (key, entry) in &self.entries {
            let Some(enforced) = &entry.enforced else { continue };
            let removed: Vec<IdentityId> = removed
                .iter()
                .filter(|(_, selectors)| selectors.iter().any(|s| enforced.selectors.contains(s)))
                .map(|(id, _)| *id)
                .collect();
            if !removed.is_empty() {
                let change = Arc::new(IdentityChange {
                    removed,
                    ..IdentityChange::default()
                });
                deltas.push(Delta::ProgramIdentities { key: *key, change });
            }
        }
    }

    /// Compiles what is pending.
    pub(crate) fn compile(&mut self, world: &mut World, deltas: &mut Vec<Delta>) {
        for (key, clauses) in std::mem::take(&mut self.pending) {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let Ok(compiled) = compile(&clauses, world) else {
                entry.refusal = Some(Refusal::Vectors);
                continue;
            };
            let enforced = Enforced {
                selectors: clauses.iter().flat_map(Clause::selectors).collect(),
                named_ports: clauses.iter().flat_map(Clause::named_ports).cloned().collect(),
                clauses,
                identities: compiled.identities,
            };
            enforced.selectors.iter().for_each(|id| world.selectors.hold(*id));
            if let Some(before) = entry.enforced.replace(enforced) {
                before
                    .selectors
                    .iter()
                    .for_each(|id| world.selectors.release(*id));
            }
            deltas.push(Delta::ProgramUpdate {
                key,
                program: Arc::new(compiled.program),
            });
        }
    }

    /// Removes all programs but these.
    pub(crate) fn retain(&mut self, used: &BTreeSet<ProgramKey>, world: &mut World, deltas: &mut Vec<Delta>) {
        self.entries.retain(|key, entry| {
            if used.contains(key) {
                return true;
            }
            self.keys.remove(&entry.spec);
            if let Some(enforced) = &entry.enforced {
                enforced
                    .selectors
                    .iter()
                    .for_each(|id| world.selectors.release(*id));
                deltas.push(Delta::ProgramRemove { key: *key });
            }
            false
        });
    }

    /// Whether there is something to enforce under this key.
    pub(crate) fn is_enforced(&self, key: ProgramKey) -> bool {
        self.entries
            .get(&key)
            .is_some_and(|entry| entry.enforced.is_some())
    }

    /// Why the newest content of a program is not enforced, if it is not.
    pub(crate) fn refusal(&self, key: ProgramKey) -> Option<(&ProgramSpec, Refusal)> {
        self.entries
            .get(&key)
            .and_then(|entry| Some((&entry.spec, entry.refusal?)))
    }

    /// How many are enforced.
    pub(crate) fn len(&self) -> usize {
        self.entries
            .values()
            .filter(|entry| entry.enforced.is_some())
            .count()
    }
}

/// Identities with the selectors that they match.
type Created = BTreeMap<IdentityId, Arc<[SelectorId]>>;

impl ProgramIdentities {
    /// The change that makes `created` known; `None` if there are too many vectors for that.
    fn learn(&mut self, created: &Created) -> Option<IdentityChange> {
        let known = self.pool.vectors().len();
        let pool = &mut self.pool;
        let mut entries = |dimension: &Option<crate::compile::IdentityDimension>| {
            let Some(dimension) = dimension else {
                return Some(Vec::new());
            };
            created
                .iter()
                .filter(|(_, selectors)| dimension.concerns(selectors))
                .map(|(id, selectors)| Some((*id, dimension.vector(pool, selectors).ok()?)))
                .collect::<Option<Vec<(IdentityId, VectorIndex)>>>()
        };
        let (source, destination) = (entries(&self.source)?, entries(&self.destination)?);
        let vectors = self.pool.vectors().get(known..).unwrap_or_default().to_vec();
        Some(IdentityChange {
            vectors,
            source,
            destination,
            removed: Vec::new(),
        })
    }
}

/// The identity deltas of a reassignment.
pub(crate) fn identity_deltas(reassignment: &Reassignment, deltas: &mut Vec<Delta>) {
    deltas.extend(reassignment.nets.iter().map(|(net, identity)| Delta::Identity {
        net: *net,
        identity: *identity,
    }));
}
