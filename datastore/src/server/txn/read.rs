//! Transactions that only read.

use super::Failure;
use super::compare::{all_hold, branch};
use crate::server::mvcc::Horizon;
use crate::server::mvcc::index::Index;
use crate::server::mvcc::range::select;
use crate::server::mvcc::records::Records;
use crate::server::pb::etcdserverpb::request_op::Request;
use crate::server::pb::etcdserverpb::response_op::Response;
use crate::server::pb::etcdserverpb::{ResponseHeader, ResponseOp, TxnRequest, TxnResponse};

/// Answers a transaction of ranges.
pub(crate) fn txn<R: Records>(
    index: &Index,
    records: &R,
    horizon: Horizon,
    request: &TxnRequest,
) -> Result<TxnResponse, Failure<R::Error>> {
    let succeeded = all_hold(index, records, &request.compare)?;
    let mut responses = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(Request::RequestRange(range)) = &op.request {
            let answer = select(index, horizon, range)?
                .load(records, range)
                .map_err(Failure::Storage)?;
            responses.push(ResponseOp {
                response: Some(Response::ResponseRange(answer)),
            });
        }
    }
    let header = ResponseHeader {
        revision: horizon.current,
        ..ResponseHeader::default()
    };
    Ok(TxnResponse {
        header: Some(header),
        succeeded,
        responses,
    })
}
