//! Checks that need nothing but the request, in the order in which etcd makes them.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::server::limits::{REQUEST_BYTES_MAX, REQUEST_WRAPPING_BYTES, TXN_OPERATIONS_MAX};
use crate::server::mvcc::span::Span;
use crate::server::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::server::pb::etcdserverpb::request_op::Request;
use crate::server::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::server::refusal::Refusal;

pub(crate) fn range(request: &RangeRequest) -> Result<(), Refusal> {
    non_empty(&request.key)?;
    // As etcd does since 3.5; older ones end on such a request.
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

pub(crate) fn put(request: &PutRequest) -> Result<(), Refusal> {
    non_empty(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn delete(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    non_empty(&request.key)
}

/// A transaction and everything nested in it.
pub(crate) fn txn(request: &TxnRequest) -> Result<(), Refusal> {
    operations(request, TXN_OPERATIONS_MAX)?;
    written_keys(&request.success)?;
    written_keys(&request.failure)?;
    Ok(())
}

/// A request that would go through etcd's log may not be larger than the limit.
pub(crate) fn size(request: &impl Message) -> Result<(), Refusal> {
    if request.encoded_len() + REQUEST_WRAPPING_BYTES > REQUEST_BYTES_MAX {
        return Err(Refusal::RequestTooLarge);
    }
    Ok(())
}

/// Whether a transaction only reads: ranges alone, on both branches.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

fn non_empty(key: &Bytes) -> Result<(), Refusal> {
    if key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

/// The widest list of a transaction counts against what its parents left over.
fn operations(request: &TxnRequest, allowed: usize) -> Result<(), Refusal> {
    let widest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let left = allowed.checked_sub(widest).ok_or(Refusal::TooManyOperations)?;
    for compare in &request.compare {
        non_empty(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete(request)?,
            Some(Request::RequestTxn(request)) => operations(request, left)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Written {
    puts: BTreeSet<Bytes>,
    deletes: Vec<Span>,
}

impl Written {
    fn deletes_key(&self, key: &[u8]) -> bool {
        self.deletes.iter().any(|span| span.contains(key))
    }
}

/// Refuses a list that may put a key twice, or put a key that it may also delete. The branches of a nested
/// transaction exclude each other, so they may put the same key.
fn written_keys(ops: &[RequestOp]) -> Result<Written, Refusal> {
    let mut written = Written::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            // etcd does not see a deletion from a key on as one that overlaps a put.
            written.deletes.extend(
                Some(Span::new(&delete.key, &delete.range_end)).filter(|span| !matches!(span, Span::From(_))),
            );
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let success = written_keys(&nested.success)?;
            let failure = written_keys(&nested.failure)?;
            let mut both: BTreeSet<&Bytes> = BTreeSet::new();
            both.extend(&success.puts);
            both.extend(&failure.puts);
            for key in &both {
                if written.puts.contains(*key) || written.deletes_key(key) {
                    return Err(Refusal::DuplicateKey);
                }
            }
            let both: Vec<Bytes> = both.into_iter().cloned().collect();
            written.puts.extend(both);
            written.deletes.extend(success.deletes);
            written.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request
            && (written.deletes_key(&put.key) || !written.puts.insert(put.key.clone()))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sort_options_are_refused() {
        let key = Bytes::from_static(b"k");
        assert_eq!(
            range(&RangeRequest {
                key: key.clone(),
                ..Default::default()
            }),
            Ok(())
        );
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5)] {
            let request = RangeRequest {
                key: key.clone(),
                sort_order,
                sort_target,
                ..Default::default()
            };
            assert_eq!(range(&request), Err(Refusal::InvalidSortOption));
        }
    }
}
