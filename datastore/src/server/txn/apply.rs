//! Applies a checked transaction: choose the branches, check what they would do, then do it.

use super::Failure;
use super::compare::{Path, branch};
use super::write::Writing;
use crate::server::mvcc::records::RecordsMut;
use crate::server::pb::etcdserverpb::request_op::Request;
use crate::server::pb::etcdserverpb::response_op::Response;
use crate::server::pb::etcdserverpb::{
    PutRequest, RangeRequest, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use crate::server::refusal::Refusal;

/// A put outside a transaction: etcd looks at the lease first, then at the key.
pub(crate) fn put<R: RecordsMut>(
    writing: &mut Writing<'_, R>,
    request: &PutRequest,
) -> Result<crate::server::pb::etcdserverpb::PutResponse, Failure<R::Error>> {
    writing.check_lease(request)?;
    writing.check_put(request)?;
    writing.put(request)
}

/// A transaction. Either it is refused and nothing has changed, or all of it is done.
pub(crate) fn txn<R: RecordsMut>(
    writing: &mut Writing<'_, R>,
    request: &TxnRequest,
) -> Result<TxnResponse, Failure<R::Error>> {
    let path = Path::choose(writing.index, &*writing.records, request)?;
    each_put(request, &path, &mut |put| writing.check_put(put))?;
    each_range(request, &path, &mut |range| writing.check_range(range))?;
    let mut response = run(writing, request, &path)?;
    response.header = Some(ResponseHeader {
        revision: writing.revision(),
        ..ResponseHeader::default()
    });
    Ok(response)
}

fn run<R: RecordsMut>(
    writing: &mut Writing<'_, R>,
    request: &TxnRequest,
    path: &Path,
) -> Result<TxnResponse, Failure<R::Error>> {
    let mut responses = Vec::new();
    let mut nested = path.nested.iter();
    for op in branch(request, path.succeeded) {
        let response = match &op.request {
            Some(Request::RequestRange(range)) => Response::ResponseRange(writing.range(range)?),
            Some(Request::RequestPut(put)) => Response::ResponsePut(writing.put(put)?),
            Some(Request::RequestDeleteRange(delete)) => {
                Response::ResponseDeleteRange(writing.delete(delete)?)
            }
            Some(Request::RequestTxn(inner)) => match nested.next() {
                Some(inner_path) => Response::ResponseTxn(run(writing, inner, inner_path)?),
                None => continue,
            },
            None => continue,
        };
        responses.push(ResponseOp {
            response: Some(response),
        });
    }
    Ok(TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: path.succeeded,
        responses,
    })
}

fn each_put(
    request: &TxnRequest,
    path: &Path,
    check: &mut impl FnMut(&PutRequest) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    each(request, path, &mut |op| match op {
        Request::RequestPut(put) => check(put),
        _ => Ok(()),
    })
}

fn each_range(
    request: &TxnRequest,
    path: &Path,
    check: &mut impl FnMut(&RangeRequest) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    each(request, path, &mut |op| match op {
        Request::RequestRange(range) => check(range),
        _ => Ok(()),
    })
}

/// Visits the operations of the branches taken, in order.
fn each(
    request: &TxnRequest,
    path: &Path,
    visit: &mut dyn FnMut(&Request) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut nested = path.nested.iter();
    for op in branch(request, path.succeeded) {
        match &op.request {
            Some(Request::RequestTxn(inner)) => {
                if let Some(inner_path) = nested.next() {
                    each(inner, inner_path, visit)?;
                }
            }
            Some(other) => visit(other)?,
            None => {}
        }
    }
    Ok(())
}
