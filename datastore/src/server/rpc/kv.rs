//! Keys and values.

use tonic::{Request, Response, Status};

use super::Context;
use crate::server::engine::Command;
use crate::server::pb::etcdserverpb::kv_server::Kv as KvService;
use crate::server::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use crate::server::txn::check;

pub(crate) struct Kv(pub(crate) Context);

#[tonic::async_trait]
impl KvService for Kv {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        check::range(&request)?;
        let mut answer = self.0.store.range(request).await?;
        self.0.fill(&mut answer.header);
        Ok(Response::new(answer))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        check::put(&request)?;
        check::size(&request)?;
        let mut answer = self.0.store.write(|reply| Command::Put(request, reply)).await?;
        self.0.fill(&mut answer.header);
        Ok(Response::new(answer))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check::delete(&request)?;
        check::size(&request)?;
        let mut answer = self
            .0
            .store
            .write(|reply| Command::Delete(request, reply))
            .await?;
        self.0.fill(&mut answer.header);
        Ok(Response::new(answer))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        check::txn(&request)?;
        let mut answer = if check::is_read_only(&request) {
            self.0.store.read_txn(request).await?
        } else {
            check::size(&request)?;
            self.0.store.write(|reply| Command::Txn(request, reply)).await?
        };
        self.0.fill(&mut answer.header);
        Ok(Response::new(answer))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let request = request.into_inner();
        let revision = self
            .0
            .store
            .write(|reply| Command::Compact(request, reply))
            .await?;
        Ok(Response::new(CompactionResponse {
            header: self.0.store.header(revision),
        }))
    }
}
