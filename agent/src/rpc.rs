//! The local gRPC API on a Unix socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use api_proto::v1 as proto;
use api_proto::v1::agent_server::{Agent, AgentServer};
use datastore::syncer::HealthState;
use futures::Stream;
use nix::unistd::Group;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use bgpd::rpc::{BgpService, SpeakerSlot};

use crate::flows::FlowLog;
use crate::health::Health;
use crate::view::View;

/// The group that may use the socket where none is configured and this one exists.
const GROUP_DEFAULT: &str = "margay";

/// Answers from what the agent's parts have published.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name of this host's Node resource.
    pub node_name: String,
    /// RFC 3339.
    pub started_at: String,
    /// Components' reports.
    pub health: Health,
    /// Recent flow events.
    pub flows: FlowLog,
    /// Everything else.
    pub view: View,
    /// The BGP speaker, which answers for itself.
    pub speaker: SpeakerSlot,
    /// Told when somebody accepts a datastore whose history is another one.
    pub accept_datastore: Arc<Notify>,
    /// Ends the streams that would last for ever.
    pub stop: CancellationToken,
}

type FlowStream = Pin<Box<dyn Stream<Item = Result<proto::Flow, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let reports = self.health.reports(Instant::now());
        let published = self.view.lock();
        Ok(Response::new(proto::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            node_name: self.node_name.clone(),
            started_at: self.started_at.clone(),
            live: reports.iter().all(|(_, report)| report.live),
            ready: reports.iter().all(|(_, report)| report.live && report.ready),
            components: reports
                .into_iter()
                .map(|(name, report)| proto::ComponentHealth {
                    name: name.into(),
                    live: report.live,
                    ready: report.ready,
                    detail: report.detail,
                })
                .collect(),
            bgp_v4: Some(published.bgp_v4.clone()),
            bgp_v6: Some(published.bgp_v6.clone()),
            datastore_state: published.datastore_state.into(),
            problems: published.problems.clone(),
        }))
    }

    async fn list_bgp_peers(
        &self,
        _: Request<proto::ListBgpPeersRequest>,
    ) -> Result<Response<proto::ListBgpPeersResponse>, Status> {
        Ok(Response::new(proto::ListBgpPeersResponse {
            peers: self.view.lock().bgp_peers.clone(),
        }))
    }

    async fn list_endpoints(
        &self,
        _: Request<proto::ListEndpointsRequest>,
    ) -> Result<Response<proto::ListEndpointsResponse>, Status> {
        Ok(Response::new(proto::ListEndpointsResponse {
            endpoints: self.view.lock().endpoints.clone(),
        }))
    }

    async fn list_flows(
        &self,
        request: Request<proto::ListFlowsRequest>,
    ) -> Result<Response<proto::ListFlowsResponse>, Status> {
        let request = request.into_inner();
        let action = checked_action(&request.action)?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let (flows, lost) = self.flows.list(limit, request.after_sequence, action);
        Ok(Response::new(proto::ListFlowsResponse { flows, lost }))
    }

    type WatchFlowsStream = FlowStream;

    async fn watch_flows(
        &self,
        request: Request<proto::WatchFlowsRequest>,
    ) -> Result<Response<FlowStream>, Status> {
        let action = checked_action(&request.into_inner().action)?.to_owned();
        let stream = BroadcastStream::new(self.flows.follow()).filter_map(move |item| match item {
            Ok(flow) if action.is_empty() || flow.action == action => Some(Ok(flow)),
            Ok(_) => None,
            Err(lagged) => Some(Err(Status::data_loss(format!(
                "the reader is too slow: {lagged}"
            )))),
        });
        let stream = futures::StreamExt::take_until(stream, self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(stream)))
    }

    async fn accept_datastore(
        &self,
        request: Request<proto::AcceptDatastoreRequest>,
    ) -> Result<Response<proto::AcceptDatastoreResponse>, Status> {
        let (state, reason) = {
            let published = self.view.lock();
            (published.datastore_state, published.datastore_detail.clone())
        };
        if state != HealthState::Frozen.as_str() {
            return Err(Status::failed_precondition(format!(
                "the view of the datastore is not frozen but {state}: there is nothing to accept"
            )));
        }
        if request.into_inner().confirmed {
            self.accept_datastore.notify_one();
        }
        Ok(Response::new(proto::AcceptDatastoreResponse { reason }))
    }
}

fn checked_action(action: &str) -> Result<&str, Status> {
    match action {
        "" | "allow" | "deny" => Ok(action),
        other => Err(Status::invalid_argument(format!(
            "action '{other}': use allow, deny or nothing"
        ))),
    }
}

/// Binds the socket. A socket file that nobody serves any more is replaced; one that is in use is an error.
pub async fn bind(path: &Path, group: Option<&str>) -> io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            let text = format!(
                "{} is there and is no socket: remove it or choose another path",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if UnixStream::connect(path).await.is_ok() {
            let text = format!(
                "{} is served by another process: stop that agent first",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let wanted = group.unwrap_or(GROUP_DEFAULT);
    match Group::from_name(wanted)? {
        Some(found) => nix::unistd::chown(path, None, Some(found.gid))?,
        None if group.is_some() => {
            let text = format!("api.group = '{wanted}': there is no such group");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        None => {}
    }
    Ok(listener)
}

/// A bound socket's file, to be removed at the end.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: at the end the path may be another agent's.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// The file that is there now.
    pub fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    /// Removes it, if it still is the same.
    pub fn remove(self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // Nobody serves it any more: left behind it does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Serves until `stop` is cancelled.
pub async fn serve(
    service: Service,
    listener: UnixListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    tonic::transport::Server::builder()
        .add_service(BgpService::of_slot(service.speaker.clone()))
        .add_service(AgentServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use proto::agent_client::AgentClient;

    #[tokio::test]
    async fn answers_on_the_socket_and_refuses_a_second_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/agent.sock");
        let health = Health::default();
        health.register("bgp", None);
        let service = Service {
            node_name: "node-1".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            health,
            flows: FlowLog::new(10),
            view: View::default(),
            speaker: SpeakerSlot::default(),
            accept_datastore: Arc::default(),
            stop: CancellationToken::new(),
        };
        let stop = service.stop.clone();
        service.flows.push(proto::Flow {
            action: "deny".into(),
            ..proto::Flow::default()
        });
        let server = tokio::spawn(serve(service, bind(&path, None).await.unwrap(), stop.clone()));

        let connect_to = path.clone();
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = connect_to.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .unwrap();
        let mut client = AgentClient::new(channel);
        let status = client
            .get_status(proto::GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(status.node_name, "node-1");
        assert!(status.live && !status.ready);
        let flows = client
            .list_flows(proto::ListFlowsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .flows;
        assert_eq!(flows.len(), 1);
        // Only a frozen view has something to accept.
        let accept = proto::AcceptDatastoreRequest { confirmed: true };
        let refused = client.accept_datastore(accept).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        let request = proto::ListFlowsRequest {
            action: "drop".into(),
            ..Default::default()
        };
        assert_eq!(
            client.list_flows(request).await.unwrap_err().code(),
            tonic::Code::InvalidArgument
        );

        assert_eq!(
            bind(&path, None).await.unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        // Somebody who follows the flows does not hold up the end.
        let mut following = client
            .watch_flows(proto::WatchFlowsRequest::default())
            .await
            .unwrap()
            .into_inner();
        let file = SocketFile::of(&path);
        stop.cancel();
        assert!(following.message().await.unwrap_or_default().is_none());
        drop(client);
        tokio::time::timeout(std::time::Duration::from_secs(5), server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        // A socket left behind is taken over, and its former owner leaves the new one alone.
        let _listener = bind(&path, None).await.unwrap();
        file.remove();
        SocketFile::of(&path).remove();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "text").unwrap();
        let error = bind(&path, None).await.unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
    }
}
