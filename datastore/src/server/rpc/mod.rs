//! The gRPC services: they check requests, ask the store, and fill in headers.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod oversized;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::server::engine::Store;
use crate::server::limits::MESSAGE_BYTES_MAX;
use crate::server::pb::etcdserverpb::Member;
use crate::server::pb::etcdserverpb::auth_server::AuthServer;
use crate::server::pb::etcdserverpb::cluster_server::ClusterServer;
use crate::server::pb::etcdserverpb::kv_server::KvServer;
use crate::server::pb::etcdserverpb::lease_server::LeaseServer;
use crate::server::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::server::pb::etcdserverpb::watch_server::WatchServer;

pub(crate) use self::oversized::OversizedLayer;

/// What the services share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) store: Arc<Store>,
    /// The store as `member list` shows it.
    pub(crate) member: Arc<Member>,
    /// The store's file, for its size.
    pub(crate) path: Arc<std::path::Path>,
    pub(crate) progress_interval: Duration,
    /// Ends the streams.
    pub(crate) stop: CancellationToken,
}

/// All services.
pub(crate) fn routes(context: &Context) -> Routes {
    let mut routes = Routes::builder();
    routes
        .add_service(KvServer::new(kv::Kv(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            WatchServer::new(watch::Watch(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            LeaseServer::new(lease::Lease(context.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(ClusterServer::new(cluster::Cluster(context.clone())))
        .add_service(MaintenanceServer::new(maintenance::Maintenance(context.clone())))
        .add_service(AuthServer::new(auth::Auth(context.clone())));
    routes.routes()
}

impl Context {
    /// Fills in an answer's header; the revision stays if the answer has one.
    fn fill(&self, header: &mut Option<crate::server::pb::etcdserverpb::ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        let revision = if revision == 0 {
            self.store.revision()
        } else {
            revision
        };
        *header = self.store.header(revision);
    }

    /// The header of an answer about the newest revision.
    fn header(&self) -> Option<crate::server::pb::etcdserverpb::ResponseHeader> {
        self.store.header(self.store.revision())
    }
}
