//! The watches of one stream, as data: creation, cancelling, and which events go to which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::recent::Change;
use crate::server::limits::WATCHES_PER_STREAM_MAX;
use crate::server::mvcc::span::Span;
use crate::server::pb::etcdserverpb::WatchCreateRequest;
use crate::server::pb::etcdserverpb::watch_create_request::FilterType;
use crate::server::pb::mvccpb::Event;
use crate::server::pb::mvccpb::event::EventType;

/// Why a watch was not created; the words are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCreated {
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    #[error("margay-store: this stream has as many watches as one may have; use another stream")]
    TooMany,
}

/// One watch.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    span: Span,
    /// The next revision that it has not been told of.
    pub(crate) next: i64,
    /// Whether it was told of all there was at some time; one that was not reads history.
    pub(crate) synced: bool,
    pub(crate) prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether nothing was sent since the last progress tick.
    quiet: bool,
    no_put: bool,
    no_delete: bool,
}

impl Watcher {
    /// The events of a change that this watch is to see.
    pub(crate) fn wanted<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = &'a Event> {
        let wanted = change.revision >= self.next;
        change
            .events
            .iter()
            .filter(move |event| wanted && self.wants(event))
    }

    fn wants(&self, event: &Event) -> bool {
        let is_deletion = event.r#type == EventType::Delete as i32;
        let filtered = if is_deletion { self.no_delete } else { self.no_put };
        !filtered && event.kv.as_ref().is_some_and(|kv| self.span.contains(&kv.key))
    }

    /// Notes that a response was sent.
    pub(crate) fn sent(&mut self) {
        self.quiet = false;
    }
}

/// The watches of one stream.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: BTreeMap<i64, Watcher>,
    /// Watches that a compaction ended. Their ids stay taken until the client cancels them, as in etcd.
    ended: BTreeSet<i64>,
    next_id: i64,
}

impl Watchers {
    /// Creates a watch and gives its id. `current` is the newest revision.
    pub(crate) fn create(&mut self, request: &WatchCreateRequest, current: i64) -> Result<i64, NotCreated> {
        // No key means the smallest one.
        let key = if request.key.is_empty() {
            Bytes::from_static(&[0])
        } else {
            request.key.clone()
        };
        let span = Span::new(&key, &request.range_end);
        if span.bounds().is_none() {
            return Err(NotCreated::EmptyRange);
        }
        if self.watchers.len() + self.ended.len() >= WATCHES_PER_STREAM_MAX {
            return Err(NotCreated::TooMany);
        }
        let id = if request.watch_id == 0 {
            while self.is_taken(self.next_id) {
                self.next_id += 1;
            }
            self.next_id += 1;
            self.next_id - 1
        } else if self.is_taken(request.watch_id) {
            return Err(NotCreated::DuplicateId);
        } else {
            request.watch_id
        };
        let next = if request.start_revision <= 0 {
            current + 1
        } else {
            request.start_revision
        };
        let watcher = Watcher {
            span,
            next,
            synced: next > current,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
            no_put: request.filters.contains(&(FilterType::Noput as i32)),
            no_delete: request.filters.contains(&(FilterType::Nodelete as i32)),
        };
        self.watchers.insert(id, watcher);
        Ok(id)
    }

    /// Ends a watch; false if there is none of that id.
    pub(crate) fn cancel(&mut self, id: i64) -> bool {
        self.watchers.remove(&id).is_some() || self.ended.remove(&id)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    /// Whether a watch takes large responses in fragments.
    pub(crate) fn fragments(&self, id: i64) -> bool {
        self.watchers.get(&id).is_some_and(|watcher| watcher.fragment)
    }

    /// The oldest revision that some watch has not been told of, if there is one up to `current`.
    pub(crate) fn behind(&self, current: i64) -> Option<i64> {
        self.watchers
            .values()
            .map(|watcher| watcher.next)
            .filter(|next| *next <= current)
            .min()
    }

    /// Ends the watches that need history from before the compact revision, and gives their ids. One that kept
    /// up goes on as long as memory, which reaches back to `remembered`, has what it needs.
    pub(crate) fn end_compacted(
        &mut self,
        compacted: i64,
        current: i64,
        remembered: Option<i64>,
    ) -> Vec<i64> {
        let lost = |watcher: &Watcher| {
            let in_memory = watcher.synced && remembered.is_some_and(|first| first <= watcher.next);
            watcher.next <= current && watcher.next < compacted && !in_memory
        };
        let ended: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| lost(watcher))
            .map(|(id, _)| *id)
            .collect();
        for id in &ended {
            self.watchers.remove(id);
            self.ended.insert(*id);
        }
        ended
    }

    /// The watches that have not been told of everything up to `revision`.
    pub(crate) fn waiting(&mut self, revision: i64) -> impl Iterator<Item = (i64, &mut Watcher)> {
        self.watchers
            .iter_mut()
            .filter(move |(_, watcher)| watcher.next <= revision)
            .map(|(id, w)| (*id, w))
    }

    /// Notes that all watches were told of everything up to `reached`.
    pub(crate) fn advance(&mut self, reached: i64, current: i64) {
        for watcher in self.watchers.values_mut() {
            if watcher.next <= reached {
                watcher.next = reached + 1;
            }
            watcher.synced |= watcher.next > current;
        }
    }

    /// A progress tick: the ids of the watches that asked for notices and were sent nothing since the last.
    pub(crate) fn progress(&mut self) -> Vec<i64> {
        self.watchers
            .iter_mut()
            .filter(|(_, watcher)| watcher.progress_notify && watcher.synced)
            .filter_map(|(id, watcher)| std::mem::replace(&mut watcher.quiet, true).then_some(*id))
            .collect()
    }
}

/// The events of successive changes as one list per watch response: one response a revision for a watch that
/// keeps up, as few as fit for one that catches up. A revision is never split.
pub(crate) fn group<'a>(
    watcher: &'a Watcher,
    changes: &'a [Arc<Change>],
    bytes_max: usize,
) -> Vec<(i64, Vec<Event>)> {
    let mut responses: Vec<(i64, Vec<Event>)> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let events: Vec<Event> = watcher.wanted(change).cloned().collect();
        if events.is_empty() {
            continue;
        }
        let size = change.bytes();
        match responses.last_mut() {
            Some((revision, open)) if !watcher.synced && bytes + size <= bytes_max => {
                open.extend(events);
                *revision = change.revision;
                bytes += size;
            }
            _ => {
                responses.push((change.revision, events));
                bytes = size;
            }
        }
    }
    responses
}
