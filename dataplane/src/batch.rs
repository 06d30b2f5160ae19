//! A batch of deltas, checked and brought into the order in which it is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy_engine::output::{Delta, Endpoint, EndpointId, IdentityChange, IdentityId, Program, ProgramKey};

use crate::identity::Changes;
use crate::{Error, programs};

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The last word on each address.
    pub(crate) identities: Changes,
    /// New programs.
    pub(crate) programs: BTreeMap<ProgramKey, Arc<Program>>,
    /// Identities to be taught to programs as they are.
    pub(crate) lessons: Vec<(ProgramKey, Arc<IdentityChange>)>,
    /// Programs without users.
    pub(crate) dropped: BTreeSet<ProgramKey>,
    /// `None` for an endpoint that goes.
    pub(crate) endpoints: BTreeMap<EndpointId, Option<Box<Endpoint>>>,
}

fn wrong(subject: impl std::fmt::Debug, reason: impl Into<String>) -> Error {
    Error::Delta {
        subject: format!("{subject:?}"),
        reason: reason.into(),
    }
}

impl Batch {
    /// Reads deltas against the programs that are `known` and the vectors that each has.
    pub(crate) fn read(
        deltas: &[Delta],
        known: impl Fn(&ProgramKey) -> Option<usize>,
    ) -> Result<Self, Error> {
        let mut batch = Self::default();
        for delta in deltas {
            match delta {
                Delta::Identity {
                    net,
                    identity: IdentityId(identity),
                } => {
                    batch.identities.insert(net.trunc(), *identity);
                }
                Delta::ProgramAdd { key, program } => {
                    programs::check(program).map_err(|reason| wrong(key, reason))?;
                    let before = batch.programs.insert(*key, Arc::clone(program));
                    if before.is_some() || known(key).is_some() {
                        return Err(wrong(key, "a program is added under a key that is taken"));
                    }
                }
                Delta::ProgramIdentities { key, change } => batch.teach(*key, change, &known)?,
                Delta::ProgramRemove { key } => {
                    if batch.programs.remove(key).is_some() {
                        continue;
                    }
                    if known(key).is_none() {
                        return Err(wrong(key, "a program is removed that does not exist"));
                    }
                    batch.lessons.retain(|(taught, _)| taught != key);
                    batch.dropped.insert(*key);
                }
                Delta::EndpointUpdate(endpoint) => {
                    batch
                        .endpoints
                        .insert(endpoint.id.clone(), Some(endpoint.clone()));
                }
                Delta::EndpointRemove(id) => {
                    batch.endpoints.insert(id.clone(), None);
                }
            }
        }
        for endpoint in batch.endpoints.values().flatten() {
            for key in endpoint.programs.keys() {
                let there = batch.programs.contains_key(&key)
                    || known(&key).is_some() && !batch.dropped.contains(&key);
                if !there {
                    return Err(wrong(
                        &endpoint.id,
                        format!("it refers to program {key:?}, which does not exist"),
                    ));
                }
            }
        }
        Ok(batch)
    }

    fn teach(
        &mut self,
        key: ProgramKey,
        change: &Arc<IdentityChange>,
        known: &impl Fn(&ProgramKey) -> Option<usize>,
    ) -> Result<(), Error> {
        // Added by the same batch: not in force yet.
        if let Some(program) = self.programs.get_mut(&key) {
            let mut changed = Program::clone(program);
            changed.apply(change);
            programs::check(&changed).map_err(|reason| wrong(key, reason))?;
            *program = Arc::new(changed);
            return Ok(());
        }
        let taught = self.lessons.iter().filter(|(taught, _)| *taught == key);
        let vectors = known(&key)
            .ok_or_else(|| wrong(key, "identities for a program that does not exist"))?
            + taught.map(|(_, change)| change.vectors.len()).sum::<usize>()
            + change.vectors.len();
        let named = change
            .source
            .iter()
            .chain(&change.destination)
            .map(|&(_, index)| usize::from(index));
        if named.max().is_some_and(|highest| highest >= vectors) {
            return Err(wrong(
                key,
                format!("an identity names a vector beyond the {vectors} that there are"),
            ));
        }
        self.lessons.push((key, Arc::clone(change)));
        Ok(())
    }
}
