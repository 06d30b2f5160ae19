//! The selectors in use, interned by their canonical text, and the way from labels to the selectors that may
//! match them.

use std::collections::{BTreeMap, BTreeSet};

use api::selector::Selector;
use rustc_hash::FxHashMap;

use super::Labels;
use crate::clause::SelectorId;

/// Selectors that programs use, with how many do.
#[derive(Debug, Default)]
pub(crate) struct SelectorTable {
    next: u32,
    ids: FxHashMap<String, SelectorId>,
    entries: BTreeMap<SelectorId, (String, usize)>,
    unused: BTreeSet<SelectorId>,
}

impl SelectorTable {
    /// The id of a selector, and whether it is new. It goes with the next [`Self::sweep`] unless someone holds it.
    pub(crate) fn intern(&mut self, selector: &Selector) -> (SelectorId, bool) {
        let text = selector.to_string();
        if let Some(&id) = self.ids.get(&text) {
            return (id, false);
        }
        let id = SelectorId(self.next);
        self.next += 1;
        self.ids.insert(text.clone(), id);
        self.entries.insert(id, (text, 0));
        self.unused.insert(id);
        (id, true)
    }

    /// One more user.
    pub(crate) fn hold(&mut self, id: SelectorId) {
        if let Some((_, users)) = self.entries.get_mut(&id) {
            *users += 1;
            self.unused.remove(&id);
        }
    }

    /// One user less.
    pub(crate) fn release(&mut self, id: SelectorId) {
        if let Some((_, users)) = self.entries.get_mut(&id) {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.unused.insert(id);
            }
        }
    }

    /// Forgets the selectors that nobody uses, and names them.
    pub(crate) fn sweep(&mut self) -> BTreeSet<SelectorId> {
        for id in &self.unused {
            if let Some((text, _)) = self.entries.remove(id) {
                self.ids.remove(&text);
            }
        }
        std::mem::take(&mut self.unused)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Active selectors by a label that they cannot match without.
#[derive(Debug, Default)]
pub(super) struct SelectorLookup {
    by_value: FxHashMap<String, FxHashMap<String, BTreeSet<SelectorId>>>,
    by_name: FxHashMap<String, BTreeSet<SelectorId>>,
    anywhere: BTreeSet<SelectorId>,
}

/// Where a selector is filed.
enum Place {
    Values(String, Vec<String>),
    Name(String),
    Anywhere,
}

impl SelectorLookup {
    pub(super) fn insert(&mut self, id: SelectorId, selector: &Selector) {
        match place(selector) {
            Place::Values(name, values) => {
                let by_value = self.by_value.entry(name).or_default();
                for value in values {
                    by_value.entry(value).or_default().insert(id);
                }
            }
            Place::Name(name) => {
                self.by_name.entry(name).or_default().insert(id);
            }
            Place::Anywhere => {
                self.anywhere.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: SelectorId, selector: &Selector) {
        match place(selector) {
            Place::Values(name, values) => {
                let Some(by_value) = self.by_value.get_mut(&name) else {
                    return;
                };
                for value in values {
                    if let Some(ids) = by_value.get_mut(&value) {
                        ids.remove(&id);
                        if ids.is_empty() {
                            by_value.remove(&value);
                        }
                    }
                }
                if by_value.is_empty() {
                    self.by_value.remove(&name);
                }
            }
            Place::Name(name) => {
                if let Some(ids) = self.by_name.get_mut(&name) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.by_name.remove(&name);
                    }
                }
            }
            Place::Anywhere => {
                self.anywhere.remove(&id);
            }
        }
    }

    /// The selectors that may match these labels.
    pub(super) fn candidates(&self, labels: &Labels) -> Vec<SelectorId> {
        let mut ids: Vec<SelectorId> = self.anywhere.iter().copied().collect();
        for (name, value) in labels {
            ids.extend(self.by_name.get(name).into_iter().flatten());
            ids.extend(
                self.by_value
                    .get(name)
                    .and_then(|values| values.get(value))
                    .into_iter()
                    .flatten(),
            );
        }
        ids
    }
}

/// By the restriction with the fewest values; one that names no value is the second choice.
fn place(selector: &Selector) -> Place {
    let mut best = Place::Anywhere;
    for (name, restriction) in selector.restrictions() {
        if !restriction.present {
            continue;
        }
        let better = match (&best, &restriction.values) {
            (Place::Anywhere, _) | (Place::Name(_), Some(_)) => true,
            (Place::Values(_, fewest), Some(values)) => values.len() < fewest.len(),
            (Place::Name(_) | Place::Values(..), None) => false,
        };
        if better {
            best = match &restriction.values {
                Some(values) => Place::Values(name, values.iter().cloned().collect()),
                None => Place::Name(name),
            };
        }
    }
    best
}
