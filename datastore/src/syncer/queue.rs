//! What the consumer has yet to be told, one entry a key however often it changes: a slow consumer gets the last state
//! of every key, and never more entries than there are keys.

use std::collections::{HashMap, VecDeque};

use super::event::{Event, Status, Update};
use super::view::Entry;

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: VecDeque<Item>,
    pending: HashMap<String, Pending>,
}

#[derive(Debug)]
enum Item {
    Key(String),
    Status(Status),
}

#[derive(Debug)]
struct Pending {
    revision: i64,
    entry: Option<Entry>,
    /// The consumer was told of an earlier entry.
    known: bool,
}

impl Queue {
    pub(super) fn push_status(&mut self, status: Status) {
        self.order.push_back(Item::Status(status));
    }

    /// `known`: the key was in the view before.
    pub(super) fn set(&mut self, key: &str, entry: Entry, known: bool) {
        let revision = entry.mod_revision;
        if let Some(pending) = self.pending.get_mut(key) {
            pending.revision = revision;
            pending.entry = Some(entry);
        } else {
            self.order.push_back(Item::Key(key.to_owned()));
            self.pending.insert(
                key.to_owned(),
                Pending {
                    revision,
                    entry: Some(entry),
                    known,
                },
            );
        }
    }

    /// The key was in the view.
    pub(super) fn remove(&mut self, key: &str, revision: i64) {
        match self.pending.get_mut(key) {
            // Made and removed while the consumer was busy: it need not know. Its place in the order is passed over.
            Some(pending) if !pending.known => {
                self.pending.remove(key);
            }
            Some(pending) => {
                pending.revision = revision;
                pending.entry = None;
            }
            None => {
                self.order.push_back(Item::Key(key.to_owned()));
                self.pending.insert(
                    key.to_owned(),
                    Pending {
                        revision,
                        entry: None,
                        known: true,
                    },
                );
            }
        }
        self.drop_stale_places();
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn pop(&mut self, updates_max: usize) -> Option<Event> {
        let mut updates = Vec::new();
        while updates.len() < updates_max {
            match self.order.front() {
                Some(Item::Status(status)) => {
                    if updates.is_empty() {
                        let status = *status;
                        self.order.pop_front();
                        return Some(Event::Status(status));
                    }
                    break;
                }
                Some(Item::Key(_)) => {}
                None => break,
            }
            if let Some(Item::Key(key)) = self.order.pop_front()
                && let Some(pending) = self.pending.remove(&key)
                && let Some(update) = Update::decode(&key, pending.revision, pending.entry.as_ref())
            {
                updates.push(update);
            }
        }
        (!updates.is_empty()).then_some(Event::Updates(updates))
    }

    /// Keys that come and go unseen leave places behind: keep them below the number of real ones.
    fn drop_stale_places(&mut self) {
        const SLACK: usize = 1024;
        if self.order.len() <= 2 * self.pending.len() + SLACK {
            return;
        }
        let mut seen = std::collections::HashSet::new();
        let pending = &self.pending;
        self.order.retain(|item| match item {
            Item::Status(_) => true,
            Item::Key(key) => pending.contains_key(key) && seen.insert(key.clone()),
        });
    }
}
