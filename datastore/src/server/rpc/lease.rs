//! Leases.

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::server::engine::Command;
use crate::server::pb::etcdserverpb::lease_server::Lease as LeaseService;
use crate::server::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};

pub(crate) struct Lease(pub(crate) Context);

#[tonic::async_trait]
impl LeaseService for Lease {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        let granted = self.0.store.write(|reply| Command::Grant(id, ttl, reply)).await?;
        Ok(Response::new(LeaseGrantResponse {
            header: self.0.store.header(granted.revision),
            id: granted.id,
            ttl: granted.ttl_seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let LeaseRevokeRequest { id } = request.into_inner();
        let revision = self.0.store.write(|reply| Command::Revoke(id, reply)).await?;
        Ok(Response::new(LeaseRevokeResponse {
            header: self.0.store.header(revision),
        }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let context = self.0.clone();
        let stop = context.stop.clone();
        let answers = request.into_inner().then(move |request| {
            let context = context.clone();
            async move {
                let id = request?.id;
                let header = context.header();
                // A lease that is not there is answered with no time left.
                let ttl = context.store.renew(id).await?.unwrap_or(0);
                Ok(LeaseKeepAliveResponse { header, id, ttl })
            }
        });
        Ok(Response::new(answers.take_until(stop.cancelled_owned()).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let store = &self.0.store;
        let header = self.0.header();
        let found = store.state().leases.state(id, store.now());
        let answer = match found {
            None => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..Default::default()
            },
            Some(lease) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: lease.remaining_seconds,
                granted_ttl: lease.granted_seconds,
                keys: if keys { lease.keys } else { Vec::new() },
            },
        };
        Ok(Response::new(answer))
    }

    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let ids = self.0.store.state().leases.ids();
        let leases = ids.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse {
            header: self.0.header(),
            leases,
        }))
    }
}
