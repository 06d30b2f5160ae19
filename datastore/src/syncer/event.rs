//! What a consumer of the syncer gets.

use super::view::Entry;
use crate::key::{AnyKey, AnyValue};

/// How far the view is. Told in this order; later losses of the store are seen in [`Health`](super::Health) only,
/// because the view stays good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Nothing is known yet.
    WaitForDatastore,
    /// What was told up to here is the last good view, saved by an earlier run; the store was not asked yet.
    FromSnapshot,
    /// The store answered and the first view is being told.
    ResyncInProgress,
    /// What was told up to here is the whole view; changes follow.
    InSync,
}

/// One event for the consumer.
#[derive(Debug, Clone)]
pub enum Event {
    /// The view reached this point.
    Status(Status),
    /// Keys that changed, each at most once.
    Updates(Vec<Update>),
}

/// The present state of one key.
#[derive(Debug, Clone)]
pub struct Update {
    /// Which.
    pub key: AnyKey,
    /// Its value; the reason why it cannot be read; `None`: it is gone.
    pub value: Option<Result<AnyValue, String>>,
    /// The revision of the change.
    pub revision: i64,
}

impl Update {
    pub(super) fn decode(key: &str, revision: i64, entry: Option<&Entry>) -> Option<Self> {
        let key = AnyKey::parse(key)?;
        let value = entry.map(|entry| {
            key.decode(&entry.value, entry.mod_revision)
                .inspect_err(|reason| {
                    tracing::warn!(%key, reason, "a stored value cannot be read");
                })
        });
        Some(Self { key, value, revision })
    }
}
