//! Multi-version storage: which revisions of which keys exist. No socket, clock or task in here.

pub(crate) mod hash;
pub(crate) mod index;
pub(crate) mod range;
pub(crate) mod records;
pub(crate) mod span;

/// Where a change stands in history: the transaction's revision and the change's place within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Revision {
    /// One for each writing transaction.
    pub(crate) main: i64,
    /// Counts the changes of one transaction from zero.
    pub(crate) sub: i64,
}

/// The revision of a store that holds nothing yet.
pub(crate) const FIRST_REVISION: i64 = 1;
/// The compact revision of a store that was never compacted (etcd's value).
pub(crate) const NEVER_COMPACTED: i64 = -1;

/// What part of history can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The newest revision.
    pub(crate) current: i64,
    /// The oldest revision that can still be read.
    pub(crate) compacted: i64,
}
