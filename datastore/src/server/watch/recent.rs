//! The newest revisions, kept in memory for watches that keep up. A watch that falls behind what is kept here
//! reads history from the file instead, so that a slow client costs no memory.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;

use crate::server::limits::{RECENT_BYTES_MAX, RECENT_REVISIONS_MAX};
use crate::server::pb::mvccpb::Event;

/// The events of one revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) events: Vec<Event>,
}

impl Change {
    /// The size of the events as messages.
    pub(crate) fn bytes(&self) -> usize {
        self.events.iter().map(Message::encoded_len).sum()
    }
}

/// A bounded run of successive revisions that ends with the newest.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    changes: VecDeque<(Arc<Change>, usize)>,
    bytes: usize,
}

impl Recent {
    /// Adds the next revision and drops the oldest ones past the limits.
    pub(crate) fn push(&mut self, change: Arc<Change>) {
        let bytes = change.bytes();
        self.bytes += bytes;
        self.changes.push_back((change, bytes));
        while self.changes.len() > RECENT_REVISIONS_MAX || self.bytes > RECENT_BYTES_MAX {
            match self.changes.pop_front() {
                Some((_, dropped)) => self.bytes -= dropped,
                None => break,
            }
        }
    }

    /// The oldest revision that is here.
    pub(crate) fn first(&self) -> Option<i64> {
        self.changes.front().map(|(change, _)| change.revision)
    }

    /// The changes from a revision on, at most `max`; nothing if that revision is no longer (or not yet) here.
    pub(crate) fn from(&self, revision: i64, max: usize) -> Option<Vec<Arc<Change>>> {
        let skipped = usize::try_from(revision.checked_sub(self.first()?)?).ok()?;
        if skipped >= self.changes.len() {
            return None;
        }
        Some(
            self.changes
                .iter()
                .skip(skipped)
                .take(max)
                .map(|(change, _)| Arc::clone(change))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::pb::mvccpb::KeyValue;

    fn change(revision: i64, value_bytes: usize) -> Arc<Change> {
        let kv = KeyValue {
            value: vec![0; value_bytes].into(),
            ..KeyValue::default()
        };
        Arc::new(Change {
            revision,
            events: vec![Event {
                kv: Some(kv),
                ..Event::default()
            }],
        })
    }

    #[test]
    fn gives_a_run_or_nothing() {
        let mut recent = Recent::default();
        assert_eq!(recent.from(2, 10), None);
        for revision in 5..9 {
            recent.push(change(revision, 1));
        }
        assert_eq!(recent.from(4, 10), None);
        let run: Vec<i64> = recent.from(6, 2).unwrap().iter().map(|c| c.revision).collect();
        assert_eq!(run, [6, 7]);
        assert_eq!(recent.from(9, 10), None);
    }

    #[test]
    fn is_bounded_in_count_and_bytes() {
        let mut recent = Recent::default();
        for revision in 0..RECENT_REVISIONS_MAX as i64 + 5 {
            recent.push(change(revision, 0));
        }
        assert_eq!(recent.changes.len(), RECENT_REVISIONS_MAX);
        recent.push(change(RECENT_REVISIONS_MAX as i64 + 5, RECENT_BYTES_MAX));
        assert!(recent.bytes <= RECENT_BYTES_MAX);
    }
}
