//! Label classes: endpoints and sets with the same labels and the same profiles are matched once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::Selector;
use rustc_hash::FxHashMap;

use super::selectors::SelectorLookup;
use crate::clause::SelectorId;

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// A label class; ids are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassId(u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClassKey {
    labels: Labels,
    parents: Vec<String>,
}

#[derive(Debug)]
struct Class {
    key: Arc<ClassKey>,
    members: usize,
    /// Own labels and, where there is none of that name, the first profile's that has it.
    effective: Labels,
    matched: BTreeSet<SelectorId>,
}

/// Label classes, profiles' labels, and which active selectors match which classes.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    next_class: u64,
    ids: FxHashMap<Arc<ClassKey>, ClassId>,
    classes: BTreeMap<ClassId, Class>,
    profiles: FxHashMap<String, Labels>,
    children: FxHashMap<String, BTreeSet<ClassId>>,
    by_label: FxHashMap<String, BTreeMap<String, BTreeSet<ClassId>>>,
    active: BTreeMap<SelectorId, (Arc<Selector>, BTreeSet<ClassId>)>,
    lookup: SelectorLookup,
    rematched: BTreeSet<ClassId>,
    relabelled: BTreeSet<ClassId>,
}

impl LabelIndex {
    /// The class of these labels, with one member more.
    pub(crate) fn join(&mut self, labels: Labels, parents: Vec<String>) -> ClassId {
        let key = ClassKey { labels, parents };
        if let Some(&id) = self.ids.get(&key) {
            if let Some(class) = self.classes.get_mut(&id) {
                class.members += 1;
            }
            return id;
        }
        let id = ClassId(self.next_class);
        self.next_class += 1;
        let key = Arc::new(key);
        self.ids.insert(Arc::clone(&key), id);
        for parent in &key.parents {
            self.children.entry(parent.clone()).or_default().insert(id);
        }
        self.classes.insert(
            id,
            Class {
                key,
                members: 1,
                effective: Labels::new(),
                matched: BTreeSet::new(),
            },
        );
        self.relabel(id);
        id
    }

    /// One member less; the last one takes the class with it.
    pub(crate) fn leave(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else {
            return;
        };
        class.members = class.members.saturating_sub(1);
        if class.members > 0 {
            return;
        }
        self.unindex_labels(id);
        let Some(class) = self.classes.remove(&id) else {
            return;
        };
        self.ids.remove(&class.key);
        for parent in &class.key.parents {
            if let Some(children) = self.children.get_mut(parent) {
                children.remove(&id);
            }
        }
        for selector in &class.matched {
            if let Some((_, classes)) = self.active.get_mut(selector) {
                classes.remove(&id);
            }
        }
        self.rematched.remove(&id);
        self.relabelled.insert(id);
    }

    /// Sets or removes what a profile hands down.
    pub(crate) fn set_profile(&mut self, name: &str, labels: Option<Labels>) {
        let before = match labels {
            Some(labels) => self.profiles.insert(name.to_owned(), labels),
            None => self.profiles.remove(name),
        };
        if before.as_ref() == self.profiles.get(name) {
            return;
        }
        let children = self.children.get(name).cloned().unwrap_or_default();
        for id in children {
            self.relabel(id);
        }
    }

    /// Starts to match a selector.
    pub(crate) fn activate(&mut self, id: SelectorId, selector: &Arc<Selector>) {
        let candidates = self.candidates(selector);
        let mut matching = BTreeSet::new();
        for class_id in candidates {
            if let Some(class) = self.classes.get_mut(&class_id)
                && matches(selector, &class.effective)
            {
                class.matched.insert(id);
                matching.insert(class_id);
                self.rematched.insert(class_id);
            }
        }
        self.active.insert(id, (Arc::clone(selector), matching));
        self.lookup.insert(id, selector);
    }

    /// Stops matching a selector. Classes are not reported as rematched: who asked knows.
    pub(crate) fn deactivate(&mut self, id: SelectorId) {
        let Some((selector, classes)) = self.active.remove(&id) else {
            return;
        };
        self.lookup.remove(id, &selector);
        for class in classes {
            if let Some(class) = self.classes.get_mut(&class) {
                class.matched.remove(&id);
            }
        }
    }

    /// Whether a class matches an active selector.
    pub(crate) fn is_match(&self, class: ClassId, selector: SelectorId) -> bool {
        self.classes
            .get(&class)
            .is_some_and(|class| class.matched.contains(&selector))
    }

    /// The active selectors that a class matches.
    pub(crate) fn matched(&self, class: ClassId) -> impl Iterator<Item = SelectorId> {
        self.classes
            .get(&class)
            .into_iter()
            .flat_map(|class| class.matched.iter().copied())
    }

    /// Evaluates a selector that is not active.
    pub(crate) fn evaluate(&self, class: ClassId, selector: &Selector) -> bool {
        self.classes
            .get(&class)
            .is_some_and(|class| matches(selector, &class.effective))
    }

    /// The profiles of a class.
    pub(crate) fn parents(&self, class: ClassId) -> &[String] {
        self.classes.get(&class).map_or(&[], |class| &class.key.parents)
    }

    /// Classes whose set of matching selectors has changed since the last call.
    pub(crate) fn take_rematched(&mut self) -> BTreeSet<ClassId> {
        std::mem::take(&mut self.rematched)
    }

    /// Classes whose labels are new, changed or gone since the last call.
    pub(crate) fn take_relabelled(&mut self) -> BTreeSet<ClassId> {
        std::mem::take(&mut self.relabelled)
    }

    fn relabel(&mut self, id: ClassId) {
        self.unindex_labels(id);
        let Some(class) = self.classes.get_mut(&id) else {
            return;
        };
        let mut effective = class.key.labels.clone();
        for labels in class
            .key
            .parents
            .iter()
            .filter_map(|parent| self.profiles.get(parent))
        {
            for (name, value) in labels {
                effective.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let mut matched = BTreeSet::new();
        for selector in self.lookup.candidates(&effective) {
            if let Some((expression, _)) = self.active.get(&selector)
                && matches(expression, &effective)
            {
                matched.insert(selector);
            }
        }
        for selector in class.matched.symmetric_difference(&matched) {
            if let Some((_, classes)) = self.active.get_mut(selector) {
                if matched.contains(selector) {
                    classes.insert(id);
                } else {
                    classes.remove(&id);
                }
            }
        }
        if class.matched != matched {
            self.rematched.insert(id);
        }
        class.effective = effective;
        class.matched = matched;
        self.relabelled.insert(id);
        for (name, value) in &class.effective {
            let values = self.by_label.entry(name.clone()).or_default();
            values.entry(value.clone()).or_default().insert(id);
        }
    }

    fn unindex_labels(&mut self, id: ClassId) {
        let Some(class) = self.classes.get(&id) else {
            return;
        };
        for (name, value) in &class.effective {
            let Some(values) = self.by_label.get_mut(name) else {
                continue;
            };
            if let Some(ids) = values.get_mut(value) {
                ids.remove(&id);
                if ids.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by_label.remove(name);
            }
        }
    }

    /// The classes that a selector may match: by its most telling restriction, or all.
    fn candidates(&self, selector: &Selector) -> Vec<ClassId> {
        let mut best: Option<Vec<ClassId>> = None;
        for (name, restriction) in selector.restrictions() {
            if !restriction.present {
                continue;
            }
            let ids: Vec<ClassId> = match (self.by_label.get(&name), &restriction.values) {
                (None, _) => Vec::new(),
                (Some(by_value), Some(values)) => values
                    .iter()
                    .filter_map(|value| by_value.get(value))
                    .flatten()
                    .copied()
                    .collect(),
                (Some(by_value), None) => by_value.values().flatten().copied().collect(),
            };
            if best.as_ref().is_none_or(|best| ids.len() < best.len()) {
                best = Some(ids);
            }
        }
        best.unwrap_or_else(|| self.classes.keys().copied().collect())
    }
}

fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.matches(labels)
}
