//! The compares of a transaction, and which branches they choose.

use std::cmp::Ordering;

use bytes::Bytes;

use super::Failure;
use crate::server::mvcc::index::{Index, Version};
use crate::server::mvcc::records::Records;
use crate::server::mvcc::span::Span;
use crate::server::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::server::pb::etcdserverpb::request_op::Request;
use crate::server::pb::etcdserverpb::{Compare, RequestOp, TxnRequest};

/// The branches that a transaction takes. All compares, also those of nested transactions, are answered by
/// the state before the transaction's first change.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    /// One for each nested transaction of the branch taken, in order.
    pub(crate) nested: Vec<Path>,
}

impl Path {
    pub(crate) fn choose<R: Records>(
        index: &Index,
        records: &R,
        request: &TxnRequest,
    ) -> Result<Self, Failure<R::Error>> {
        let succeeded = all_hold(index, records, &request.compare)?;
        let mut nested = Vec::new();
        for op in branch(request, succeeded) {
            if let Some(Request::RequestTxn(inner)) = &op.request {
                nested.push(Self::choose(index, records, inner)?);
            }
        }
        Ok(Self { succeeded, nested })
    }
}

/// The operations of one branch.
pub(crate) fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// Whether every compare holds now.
pub(crate) fn all_hold<R: Records>(
    index: &Index,
    records: &R,
    compares: &[Compare],
) -> Result<bool, Failure<R::Error>> {
    for compare in compares {
        if !holds(index, records, compare).map_err(Failure::Storage)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A compare holds if it holds for every key of its range. A range without keys counts as one key that was
/// never written, except that no value equals, precedes or follows that of a missing key.
fn holds<R: Records>(index: &Index, records: &R, compare: &Compare) -> Result<bool, R::Error> {
    let span = Span::new(&compare.key, &compare.range_end);
    let is_value = compare.target == CompareTarget::Value as i32;
    let mut any = false;
    for (_, version) in index.span_at(&span, i64::MAX) {
        any = true;
        let value = if is_value {
            records.value(version.revision)?
        } else {
            Bytes::new()
        };
        if !satisfied(compare, Some(&version), &value) {
            return Ok(false);
        }
    }
    Ok(any || (!is_value && satisfied(compare, None, &[])))
}

fn satisfied(compare: &Compare, version: Option<&Version>, value: &[u8]) -> bool {
    let number = |stored: Option<i64>, given: i64| stored.unwrap_or(0).cmp(&given);
    let ordering = match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(given))) => {
            number(version.map(|v| v.count), *given)
        }
        (Ok(CompareTarget::Version), _) => number(version.map(|v| v.count), 0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(given))) => {
            number(version.map(|v| v.created), *given)
        }
        (Ok(CompareTarget::Create), _) => number(version.map(|v| v.created), 0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(given))) => {
            number(version.map(|v| v.revision.main), *given)
        }
        (Ok(CompareTarget::Mod), _) => number(version.map(|v| v.revision.main), 0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(given))) => {
            number(version.map(|v| v.lease), *given)
        }
        (Ok(CompareTarget::Lease), _) => number(version.map(|v| v.lease), 0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(given))) => value.cmp(given.as_ref()),
        (Ok(CompareTarget::Value), _) => value.cmp(&[]),
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
