//! Programs: one a distinct [`ProgramSpec`], what each enforces, and the deltas when that changes.
//!
//! A program never changes its rules under its key: new content gets a new key, to which the endpoints move. So an
//! endpoint that a batch takes away from a program does not see the content that the same batch gives to the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::world::World;
use crate::clause::{Clause, NamedPort, SelectorId};
use crate::compile::{ProgramIdentities, compile};
use crate::index::Reassignment;
use crate::output::{Delta, IdentityChange, IdentityId, PROGRAM_RULES_MAX, ProgramKey, VectorIndex};
use crate::policies::{PolicyChanges, PolicyTable};
use crate::resolve::{ProgramSpec, resolve};

/// Names a [`ProgramSpec`] as long as something wants it, whatever its policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SpecId(u64);

/// All programs.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    next_spec: u64,
    next_key: u64,
    ids: BTreeMap<ProgramSpec, SpecId>,
    entries: BTreeMap<SpecId, Entry>,
    /// To be compiled at this flush.
    pending: BTreeMap<SpecId, Vec<Clause>>,
    /// Replaced at this flush, and still there for the endpoints that have not moved yet.
    superseded: Vec<ProgramKey>,
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
    key: ProgramKey,
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
    /// The id of a spec; a new one is resolved at once.
    pub(crate) fn want(&mut self, spec: ProgramSpec, policies: &PolicyTable, world: &mut World) -> SpecId {
        if let Some(&id) = self.ids.get(&spec) {
            return id;
        }
        let id = SpecId(self.next_spec);
        self.next_spec += 1;
        self.ids.insert(spec.clone(), id);
        self.entries.insert(
            id,
            Entry {
                spec,
                enforced: None,
                refusal: None,
            },
        );
        self.resolve(id, policies, world);
        id
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
        let ids: Vec<SpecId> = self
            .entries
            .iter()
            .filter(|(_, entry)| concerned(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.resolve(id, policies, world);
        }
    }

    fn resolve(&mut self, id: SpecId, policies: &PolicyTable, world: &mut World) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        // Without one of its policies it is only there for endpoints whose newest policy was refused: it stays as it is.
        let Some(clauses) = resolve(&entry.spec, policies, &mut |selector| world.intern(selector)) else {
            return;
        };
        if clauses.len() > PROGRAM_RULES_MAX {
            entry.refusal = Some(Refusal::Rules(clauses.len()));
            self.pending.remove(&id);
            return;
        }
        entry.refusal = None;
        if entry
            .enforced
            .as_ref()
            .is_none_or(|enforced| enforced.clauses != clauses)
        {
            self.pending.insert(id, clauses);
        } else {
            self.pending.remove(&id);
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
        for (id, entry) in &self.entries {
            if let Some(enforced) = &entry.enforced
                && !enforced.named_ports.is_disjoint(changed)
            {
                self.pending
                    .entry(*id)
                    .or_insert_with(|| enforced.clauses.clone());
            }
        }
    }

    /// Makes new identities known to the programs in force.
    pub(crate) fn teach(&mut self, created: &Created, deltas: &mut Vec<Delta>) {
        if created.is_empty() {
            return;
        }
        for (id, entry) in &mut self.entries {
            let Some(enforced) = &mut entry.enforced else {
                continue;
            };
            match enforced.identities.learn(created) {
                Some(change) if change == IdentityChange::default() => {}
                Some(change) => {
                    deltas.push(Delta::ProgramIdentities {
                        key: enforced.key,
                        change: Arc::new(change),
                    });
                }
                // Out of vector indices: those that no entry uses any more go with a new compilation.
                None => {
                    self.pending
                        .entry(*id)
                        .or_insert_with(|| enforced.clauses.clone());
                }
            }
        }
    }

    /// Makes programs forget identities that no address has.
    pub(crate) fn unteach(&self, removed: &Created, deltas: &mut Vec<Delta>) {
        for enforced in self.entries.values().filter_map(|entry| entry.enforced.as_ref()) {
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
                deltas.push(Delta::ProgramIdentities {
                    key: enforced.key,
                    change,
                });
            }
        }
    }

    /// Compiles what is pending, each under a new key.
    pub(crate) fn compile(&mut self, world: &mut World, deltas: &mut Vec<Delta>) {
        for (id, clauses) in std::mem::take(&mut self.pending) {
            let Some(entry) = self.entries.get_mut(&id) else {
                continue;
            };
            let Ok(compiled) = compile(&clauses, world) else {
                entry.refusal = Some(Refusal::Vectors);
                continue;
            };
            let key = ProgramKey(self.next_key);
            self.next_key += 1;
            let enforced = Enforced {
                key,
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
                self.superseded.push(before.key);
            }
            deltas.push(Delta::ProgramAdd {
                key,
                program: Arc::new(compiled.program),
            });
        }
    }

    /// Removes what was superseded, and all specs but these.
    pub(crate) fn retain(&mut self, used: &BTreeSet<SpecId>, world: &mut World, deltas: &mut Vec<Delta>) {
        let superseded = std::mem::take(&mut self.superseded);
        deltas.extend(superseded.into_iter().map(|key| Delta::ProgramRemove { key }));
        self.entries.retain(|id, entry| {
            if used.contains(id) {
                return true;
            }
            self.ids.remove(&entry.spec);
            if let Some(enforced) = &entry.enforced {
                enforced
                    .selectors
                    .iter()
                    .for_each(|id| world.selectors.release(*id));
                deltas.push(Delta::ProgramRemove { key: enforced.key });
            }
            false
        });
    }

    /// The key of what is enforced for a spec.
    pub(crate) fn enforced(&self, id: SpecId) -> Option<ProgramKey> {
        Some(self.entries.get(&id)?.enforced.as_ref()?.key)
    }

    /// Why the newest content of a program is not enforced, if it is not.
    pub(crate) fn refusal(&self, id: SpecId) -> Option<(&ProgramSpec, Refusal)> {
        self.entries
            .get(&id)
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
