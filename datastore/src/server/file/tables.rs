//! The tables of the store's file.

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableTable, StorageError, Table, TableDefinition};

use crate::server::mvcc::Revision;
use crate::server::mvcc::records::{DamagedRecord, Record, Records, RecordsMut};

/// Every change, by revision and place in its transaction.
pub(crate) const REVISIONS: TableDefinition<'static, (i64, i64), &'static [u8]> =
    TableDefinition::new("revisions");
/// Time to live and remaining time in seconds, by lease.
pub(crate) const LEASES: TableDefinition<'static, i64, (i64, i64)> = TableDefinition::new("leases");
/// Single numbers about the store.
pub(crate) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

/// Keys of [`META`].
pub(crate) mod meta {
    /// The layout of the file.
    pub(crate) const FORMAT: &str = "format";
    pub(crate) const CLUSTER_ID: &str = "cluster-id";
    pub(crate) const MEMBER_ID: &str = "member-id";
    /// How often the store was started; answers carry it as the raft term.
    pub(crate) const STARTS: &str = "starts";
    /// The compact revision; missing if the store was never compacted.
    pub(crate) const COMPACTED: &str = "compacted";
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the file cannot be read or written: {0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Damaged(#[from] DamagedRecord),
    #[error("the record of revision {0}.{1} is missing")]
    Missing(i64, i64),
}

fn value_in(
    table: &impl ReadableTable<(i64, i64), &'static [u8]>,
    revision: Revision,
) -> Result<Bytes, RecordError> {
    let stored = table
        .get((revision.main, revision.sub))?
        .ok_or(RecordError::Missing(revision.main, revision.sub))?;
    match Record::decode(revision, stored.value())? {
        Record::Put(kv) => Ok(kv.value),
        Record::Deletion(_) => Ok(Bytes::new()),
    }
}

/// The records as of one commit.
pub(crate) struct Snapshot(pub(crate) ReadOnlyTable<(i64, i64), &'static [u8]>);

impl Records for Snapshot {
    type Error = RecordError;

    fn value(&self, revision: Revision) -> Result<Bytes, RecordError> {
        value_in(&self.0, revision)
    }
}

impl Snapshot {
    /// The records from a revision on, in order.
    pub(crate) fn from(
        &self,
        revision: i64,
    ) -> Result<impl Iterator<Item = Result<(Revision, Record), RecordError>> + use<>, RecordError> {
        Ok(self.0.range((revision, 0)..)?.map(|entry| {
            let (key, stored) = entry?;
            let (main, sub) = key.value();
            let revision = Revision { main, sub };
            Ok((revision, Record::decode(revision, stored.value())?))
        }))
    }
}

/// The records within a commit that is being made.
pub(crate) struct RecordsTable<'txn>(pub(crate) Table<'txn, (i64, i64), &'static [u8]>);

impl Records for RecordsTable<'_> {
    type Error = RecordError;

    fn value(&self, revision: Revision) -> Result<Bytes, RecordError> {
        value_in(&self.0, revision)
    }
}

impl RecordsMut for RecordsTable<'_> {
    fn append(&mut self, revision: Revision, record: &Record) -> Result<(), RecordError> {
        self.0
            .insert((revision.main, revision.sub), record.encode().as_slice())?;
        Ok(())
    }
}
