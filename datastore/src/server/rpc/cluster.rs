//! The cluster of one.

use tonic::{Request, Response, Status};

use super::Context;
use crate::server::pb::etcdserverpb::cluster_server::Cluster as ClusterService;
use crate::server::pb::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse,
};

pub(crate) struct Cluster(pub(crate) Context);

fn single<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "margay-store: it is a single server and takes no members; move to etcd for a cluster (docs/datastore-server.md)",
    ))
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn member_add(
        &self,
        _request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        single()
    }

    async fn member_remove(
        &self,
        _request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        single()
    }

    async fn member_update(
        &self,
        _request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        single()
    }

    async fn member_list(
        &self,
        _request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let members = vec![self.0.member.as_ref().clone()];
        Ok(Response::new(MemberListResponse {
            // Without a revision, as etcd's.
            header: self.0.store.header(0),
            members,
        }))
    }

    async fn member_promote(
        &self,
        _request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        single()
    }
}
