//! One writing transaction in progress: its changes share a revision.

use bytes::Bytes;

use super::Failure;
use crate::server::lease::Leases;
use crate::server::mvcc::index::Index;
use crate::server::mvcc::range::{key_at, key_value, select};
use crate::server::mvcc::records::{Record, RecordsMut};
use crate::server::mvcc::span::Span;
use crate::server::mvcc::{Horizon, Revision};
use crate::server::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};
use crate::server::pb::mvccpb::Event;
use crate::server::refusal::Refusal;

/// The state that a transaction changes, and the changes it made so far.
pub(crate) struct Writing<'a, R> {
    pub(crate) index: &'a mut Index,
    pub(crate) records: &'a mut R,
    pub(crate) leases: &'a mut Leases,
    /// The horizon before the transaction.
    pub(crate) horizon: Horizon,
    /// What watches will see, in order.
    pub(crate) events: Vec<Event>,
}

impl<R: RecordsMut> Writing<'_, R> {
    /// The revision that an answer reports at this point.
    pub(crate) fn revision(&self) -> i64 {
        self.horizon.current + i64::from(!self.events.is_empty())
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failure<R::Error>> {
        // Reads see the transaction's own changes; the revision asked for was checked before the first.
        let horizon = Horizon {
            current: self.revision(),
            ..self.horizon
        };
        select(self.index, horizon, request)?
            .load(&*self.records, request)
            .map_err(Failure::Storage)
    }

    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Failure<R::Error>> {
        let key = &request.key;
        let previous = if request.prev_kv || request.ignore_value {
            key_at(self.index, &*self.records, key, i64::MAX).map_err(Failure::Storage)?
        } else {
            None
        };
        let old_lease = self.index.at(key, i64::MAX).map_or(0, |version| version.lease);
        let lease = if request.ignore_lease {
            old_lease
        } else {
            request.lease
        };
        let value = match (&previous, request.ignore_value) {
            (Some(previous), true) => previous.value.clone(),
            _ => request.value.clone(),
        };
        let revision = self.next_revision();
        let version = self.index.put(key, revision, lease);
        let record = Record::Put(key_value(key.clone(), version, value));
        self.records.append(revision, &record).map_err(Failure::Storage)?;
        self.leases.detach(old_lease, key);
        self.leases.attach(lease, key);
        self.events.push(record.event(revision));
        Ok(PutResponse {
            header: header(revision.main),
            prev_kv: previous.filter(|_| request.prev_kv),
        })
    }

    pub(crate) fn delete(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure<R::Error>> {
        let span = Span::new(&request.key, &request.range_end);
        let found: Vec<_> = self
            .index
            .span_at(&span, i64::MAX)
            .map(|(key, version)| (key.clone(), version))
            .collect();
        let mut prev_kvs = Vec::new();
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        for (key, version) in found {
            if request.prev_kv {
                let value = self.records.value(version.revision).map_err(Failure::Storage)?;
                prev_kvs.push(key_value(key.clone(), version, value));
            }
            self.delete_key(key, version.lease)?;
        }
        Ok(DeleteRangeResponse {
            header: header(self.revision()),
            deleted,
            prev_kvs,
        })
    }

    /// Deletes the keys of a lease that ended, in order.
    pub(crate) fn delete_keys(
        &mut self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), Failure<R::Error>> {
        for key in keys {
            if let Some(version) = self.index.at(&key, i64::MAX) {
                self.delete_key(key, version.lease)?;
            }
        }
        Ok(())
    }

    /// A put that keeps a value or a lease needs a key that is there; a lease that is named must exist.
    pub(crate) fn check_put(&self, request: &PutRequest) -> Result<(), Refusal> {
        if (request.ignore_value || request.ignore_lease) && self.index.at(&request.key, i64::MAX).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        self.check_lease(request)
    }

    pub(crate) fn check_lease(&self, request: &PutRequest) -> Result<(), Refusal> {
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        Ok(())
    }

    /// The revision of a range within a transaction, checked before anything changes.
    pub(crate) fn check_range(&self, request: &RangeRequest) -> Result<(), Refusal> {
        if request.revision == 0 {
            Ok(())
        } else if request.revision > self.horizon.current {
            Err(Refusal::FutureRevision)
        } else if request.revision < self.horizon.compacted {
            Err(Refusal::Compacted)
        } else {
            Ok(())
        }
    }

    fn delete_key(&mut self, key: Bytes, lease: i64) -> Result<(), Failure<R::Error>> {
        let revision = self.next_revision();
        self.index.delete(&key, revision);
        self.leases.detach(lease, &key);
        let record = Record::Deletion(key);
        self.records.append(revision, &record).map_err(Failure::Storage)?;
        self.events.push(record.event(revision));
        Ok(())
    }

    fn next_revision(&self) -> Revision {
        let sub = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        Revision {
            main: self.horizon.current + 1,
            sub,
        }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}
