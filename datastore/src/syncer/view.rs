//! The syncer's core: what the store holds as far as we know, and what the consumer has yet to be told.
//!
//! Pure: answers of the store go in ([`View::listed`], [`View::changed`], [`View::probed`]), events come out
//! ([`View::next_event`]). A list is compared with the view, so that only differences are told, and deletions only of
//! keys that are really gone. An answer that does not continue the history we know, or a cluster that says it is not
//! ready, freezes the view: what the consumer was told stays as it was.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::event::{Event, Status};
use super::queue::Queue;
use crate::client::{Header, KeyRange};
use crate::key::AnyKey;

/// One stored key of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision of its last change.
    pub mod_revision: i64,
    /// The revision that created it.
    pub create_revision: i64,
    /// The stored bytes.
    #[serde(with = "super::stored_bytes")]
    pub value: Bytes,
}

/// A change that the store told: a key's new entry, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The etcd key.
    pub key: String,
    /// The revision of the change.
    pub revision: i64,
    /// The new entry, `None` for a deletion.
    pub entry: Option<Entry>,
}

/// Why the view stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freeze {
    /// The store's revision is lower than one that it had: it was restored from a backup, or emptied.
    WentBack {
        /// The highest revision that it had.
        seen: i64,
        /// What it has now.
        now: i64,
    },
    /// Another cluster answers at the endpoints.
    OtherCluster {
        /// The one we know.
        seen: u64,
        /// The one that answered.
        now: u64,
    },
    /// There is no ClusterInformation: the store was emptied, or never initialised.
    NoClusterInformation,
    /// ClusterInformation says `datastoreReady: false`.
    NotReady,
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WentBack { seen, now } => write!(
                f,
                "the datastore's revision went back from {seen} to {now}: it was restored from a backup or emptied; \
                 keeping the last good view until the revision is reached again, or the new history is accepted \
                 ('calicoctl node accept-datastore' on this host)"
            ),
            Self::OtherCluster { seen, now } => write!(
                f,
                "the endpoints belong to cluster {now:x}, not to {seen:x}: keeping the last good view until the \
                 endpoints are corrected, or the new cluster is accepted ('calicoctl node accept-datastore' on this \
                 host)"
            ),
            Self::NoClusterInformation => f.write_str(
                "the datastore has no ClusterInformation 'default': it is empty or not initialised; any modifying \
                 calicoctl command initialises it",
            ),
            Self::NotReady => f.write_str(
                "ClusterInformation 'default' says datastoreReady: false; 'calicoctl datastore migrate unlock' ends that",
            ),
        }
    }
}

/// What the caller has to do after an answer was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on watching from [`View::resume_revision`].
    Continue,
    /// The answer may be of a lagging member: ask for a linearizable one ([`View::probed`]) before going on.
    Verify,
    /// List everything again.
    Relist,
    /// Stand still, and ask again later whether the reason is gone.
    Frozen(Freeze),
}

/// What goes into the view: serialisable, so that a run can be recorded and replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// See [`View::listed`].
    Listed {
        /// Of the list.
        header: Header,
        /// All keys of the ranges.
        items: Vec<(String, Entry)>,
    },
    /// See [`View::changed`].
    Changed {
        /// Of the answer.
        header: Header,
        /// In order.
        changes: Vec<Change>,
    },
    /// See [`View::probed`].
    Probed {
        /// Of the read.
        header: Header,
        /// What it found.
        cluster_information: Option<Entry>,
    },
    /// See [`View::compacted`].
    Compacted,
    /// See [`View::accept_new_history`].
    AcceptNewHistory,
}

/// See the module.
#[derive(Debug)]
pub struct View {
    ranges: Vec<KeyRange>,
    entries: BTreeMap<String, Entry>,
    history: Option<History>,
    /// The view equals the store at this revision; `None` until the first list.
    applied: Option<i64>,
    freeze: Option<Freeze>,
    told: Status,
    queue: Queue,
}

/// The history that the view continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The highest revision that a linearizable answer had.
    pub revision: i64,
}

/// The key that says whether the datastore is ready.
pub(crate) const CLUSTER_INFORMATION: &str =
    "/calico/resources/v3/projectcalico.org/clusterinformations/default";

impl View {
    /// An empty view of these ranges.
    pub fn new(ranges: Vec<KeyRange>) -> Self {
        let mut queue = Queue::default();
        queue.push_status(Status::WaitForDatastore);
        Self {
            ranges,
            entries: BTreeMap::new(),
            history: None,
            applied: None,
            freeze: None,
            told: Status::WaitForDatastore,
            queue,
        }
    }

    /// A view that starts from a saved one: the consumer is told what it held, and the store's first list is compared
    /// with it.
    pub fn restore(
        ranges: Vec<KeyRange>,
        history: History,
        entries: impl IntoIterator<Item = (String, Entry)>,
    ) -> Self {
        let mut view = Self::new(ranges);
        for (key, entry) in entries {
            if view.wants(&key) {
                view.set(key, entry);
            }
        }
        view.history = Some(history);
        view.queue.push_status(Status::FromSnapshot);
        view
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: Input) -> Verdict {
        match input {
            Input::Listed { header, items } => self.listed(header, items),
            Input::Changed { header, changes } => self.changed(header, changes),
            Input::Probed {
                header,
                cluster_information,
            } => self.probed(header, cluster_information.as_ref()),
            Input::Compacted => {
                self.compacted();
                Verdict::Relist
            }
            Input::AcceptNewHistory => {
                self.accept_new_history();
                Verdict::Relist
            }
        }
    }

    /// Takes in a whole list of all ranges, linearizable and as of `header.revision`.
    pub fn listed(&mut self, header: Header, items: impl IntoIterator<Item = (String, Entry)>) -> Verdict {
        let fresh: BTreeMap<String, Entry> = items.into_iter().filter(|(key, _)| self.wants(key)).collect();
        let freeze = self
            .breach(header)
            .or_else(|| not_ready(fresh.get(CLUSTER_INFORMATION)));
        if let Some(freeze) = freeze {
            return self.frozen(freeze);
        }
        self.freeze = None;
        self.forward(Status::ResyncInProgress);
        let gone: Vec<String> = self
            .entries
            .keys()
            .filter(|key| !fresh.contains_key(*key))
            .cloned()
            .collect();
        for (key, entry) in fresh {
            if self.entries.get(&key) != Some(&entry) {
                self.set(key, entry);
            }
        }
        for key in gone {
            self.remove(&key, header.revision);
        }
        self.saw(header);
        self.applied = Some(header.revision);
        self.forward(Status::InSync);
        Verdict::Continue
    }

    /// Takes in an answer of the watch: all changes of its revisions, in order. An answer without changes (a created
    /// or progress notification) is only checked; it never moves the resume point, as members send it unsynchronised.
    pub fn changed(&mut self, header: Header, changes: Vec<Change>) -> Verdict {
        if let Some(freeze) = &self.freeze {
            return Verdict::Frozen(freeze.clone());
        }
        let (Some(history), Some(applied)) = (self.history, self.applied) else {
            return Verdict::Relist;
        };
        if header.cluster_id != history.cluster_id {
            return self.frozen(Freeze::OtherCluster {
                seen: history.cluster_id,
                now: header.cluster_id,
            });
        }
        if header.revision < applied {
            return Verdict::Verify;
        }
        // The end of a cluster is one revision that removes ClusterInformation too: nothing of it may be applied.
        let end = changes
            .iter()
            .find(|c| c.key == CLUSTER_INFORMATION && not_ready(c.entry.as_ref()).is_some());
        let (before, freeze) = match end {
            Some(end) => (end.revision, not_ready(end.entry.as_ref())),
            None => (i64::MAX, None),
        };
        for change in changes {
            if change.revision >= before {
                break;
            }
            self.apply(change);
        }
        match freeze {
            Some(freeze) => self.frozen(freeze),
            None => Verdict::Continue,
        }
    }

    /// Takes in a linearizable read of ClusterInformation: whether the watch may go on from the resume point.
    pub fn probed(&mut self, header: Header, cluster_information: Option<&Entry>) -> Verdict {
        if let Some(freeze) = self.breach(header).or_else(|| not_ready(cluster_information)) {
            return self.frozen(freeze);
        }
        self.saw(header);
        if self.freeze.is_some() || self.applied.is_none() {
            return Verdict::Relist;
        }
        let known = self.entries.get(CLUSTER_INFORMATION).map(|e| e.create_revision);
        if known != cluster_information.map(|e| e.create_revision) {
            return Verdict::Relist;
        }
        Verdict::Continue
    }

    /// Forgets the history that the view continued: the next list is taken for the truth whatever its revision and
    /// cluster are.
    pub fn accept_new_history(&mut self) {
        self.history = None;
        self.applied = None;
    }

    /// The watch goes on after this revision; `None`: a list is needed first.
    pub fn resume_revision(&self) -> Option<i64> {
        self.applied
    }

    /// The resume point was compacted away, so a list is needed.
    pub fn compacted(&mut self) {
        self.applied = None;
    }

    /// Why the view stands still, if it does.
    pub fn freeze(&self) -> Option<&Freeze> {
        self.freeze.as_ref()
    }

    /// The next event for the consumer: a status, or a batch of at most `updates_max` updates.
    pub fn next_event(&mut self, updates_max: usize) -> Option<Event> {
        self.queue.pop(updates_max)
    }

    /// How many updates the consumer has yet to be told.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// The history and the keys, in key order.
    pub fn contents(&self) -> (Option<History>, &BTreeMap<String, Entry>) {
        (self.history, &self.entries)
    }

    fn wants(&self, key: &str) -> bool {
        self.ranges.iter().any(|range| range.contains(key)) && AnyKey::parse(key).is_some()
    }

    fn apply(&mut self, change: Change) {
        self.applied = Some(change.revision.max(self.applied.unwrap_or(0)));
        if !self.wants(&change.key) {
            return;
        }
        let known = self.entries.get(&change.key).map_or(0, |e| e.mod_revision);
        match change.entry {
            // After a resume, a revision may be told twice.
            Some(entry) if entry.mod_revision > known => self.set(change.key, entry),
            None if change.revision > known => self.remove(&change.key, change.revision),
            _ => {}
        }
    }

    fn set(&mut self, key: String, entry: Entry) {
        self.queue
            .set(&key, entry.clone(), self.entries.contains_key(&key));
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &str, revision: i64) {
        if self.entries.remove(key).is_some() {
            self.queue.remove(key, revision);
        }
    }

    /// Whether a linearizable answer breaks with the history that the view continues.
    fn breach(&self, header: Header) -> Option<Freeze> {
        let history = self.history?;
        if header.cluster_id != history.cluster_id {
            Some(Freeze::OtherCluster {
                seen: history.cluster_id,
                now: header.cluster_id,
            })
        } else if header.revision < history.revision {
            Some(Freeze::WentBack {
                seen: history.revision,
                now: header.revision,
            })
        } else {
            None
        }
    }

    fn saw(&mut self, header: Header) {
        let revision = self.history.map_or(0, |h| h.revision).max(header.revision);
        self.history = Some(History {
            cluster_id: header.cluster_id,
            revision,
        });
    }

    fn frozen(&mut self, freeze: Freeze) -> Verdict {
        // What comes after is known only from a list.
        self.applied = None;
        self.freeze = Some(freeze.clone());
        Verdict::Frozen(freeze)
    }

    fn forward(&mut self, status: Status) {
        if status > self.told {
            self.told = status;
            self.queue.push_status(status);
        }
    }
}

fn not_ready(cluster_information: Option<&Entry>) -> Option<Freeze> {
    let Some(entry) = cluster_information else {
        return Some(Freeze::NoClusterInformation);
    };
    let ready = serde_json::from_slice::<serde_json::Value>(&entry.value)
        .ok()
        .and_then(|object| object.get("spec")?.get("datastoreReady")?.as_bool());
    // Unset counts as ready.
    (ready == Some(false)).then_some(Freeze::NotReady)
}
