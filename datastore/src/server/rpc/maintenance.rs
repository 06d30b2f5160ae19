//! Status and upkeep.

use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::Context;
use crate::server::pb::etcdserverpb::maintenance_server::Maintenance as MaintenanceService;
use crate::server::pb::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};

/// The version of etcd's API that is served; clients compare it to know what they may ask for.
const API_VERSION: &str = concat!("3.4.0+margay-", env!("CARGO_PKG_VERSION"));

pub(crate) struct Maintenance(pub(crate) Context);

#[tonic::async_trait]
impl MaintenanceService for Maintenance {
    async fn alarm(&self, _request: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        // Without a header, as etcd's.
        Ok(Response::new(AlarmResponse::default()))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let identity = self.0.store.identity;
        let revision = self.0.store.revision();
        let index = u64::try_from(revision).unwrap_or(0);
        let size = std::fs::metadata(&self.0.path).map_or(0, |found| found.len());
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Response::new(StatusResponse {
            header: self.0.store.header(revision),
            version: API_VERSION.to_owned(),
            db_size: size,
            leader: identity.member_id,
            raft_index: index,
            raft_term: identity.starts,
            raft_applied_index: index,
            errors: self.0.store.failure().map(str::to_owned).into_iter().collect(),
            db_size_in_use: size,
            is_learner: false,
        }))
    }

    /// The file reuses the room of what was removed; there is nothing to do.
    async fn defragment(
        &self,
        _request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Ok(Response::new(DefragmentResponse {
            header: self.0.header(),
        }))
    }

    async fn hash(&self, _request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let hashed = self.0.store.hash(0).await?;
        Ok(Response::new(HashResponse {
            header: self.0.store.header(hashed.revision),
            hash: hashed.hash,
        }))
    }

    async fn hash_kv(&self, request: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        let asked = request.into_inner().revision;
        let hashed = self.0.store.hash(asked).await?;
        Ok(Response::new(HashKvResponse {
            header: self.0.store.header(hashed.revision),
            hash: hashed.hash,
            compact_revision: hashed.compacted,
            hash_revision: if asked == 0 { hashed.revision } else { asked },
        }))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented(
            "margay-store: its file is no etcd database, so there is no snapshot; copy the file while the store is stopped, or copy the keys (docs/datastore-server.md)",
        ))
    }

    async fn move_leader(
        &self,
        _request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(Status::unimplemented(
            "margay-store: it is a single server and has no other member to lead",
        ))
    }
}
