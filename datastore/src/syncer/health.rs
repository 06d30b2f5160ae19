//! How the syncer is.

/// What the syncer is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// The store is not reachable (yet, or any more); the view stays as it was.
    #[default]
    WaitForDatastore,
    /// The whole view is being read.
    Resync,
    /// Changes are followed as they happen.
    InSync,
    /// The store answers, but not as the one that we know: the view stays as it was.
    Frozen,
}

impl HealthState {
    /// `wait-for-datastore`, `resync`, `in-sync` or `frozen`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitForDatastore => "wait-for-datastore",
            Self::Resync => "resync",
            Self::InSync => "in-sync",
            Self::Frozen => "frozen",
        }
    }
}

/// The syncer's state and the reason for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What it is doing.
    pub state: HealthState,
    /// What is wrong and what to do about it; empty when all is well.
    pub detail: String,
    /// The view equals the store at this revision; 0 before the first list.
    pub revision: i64,
}
