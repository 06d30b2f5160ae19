//! The gRPC service of a speaker (`bgpd/proto`), on a Unix socket.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use bgpd_proto::v1::bgp_server::{Bgp, BgpServer};
use bgpd_proto::v1::{
    ListPeersRequest, ListPeersResponse, ListRoutesRequest, ListRoutesResponse, Peer, Route,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::config::NeighborKey;
use crate::rib::PathStatus;
use crate::speaker::{PeerStatus, RouteStatus, RouteView, SpeakerError, SpeakerHandle};
use crate::wire::Prefix;

/// Mode of the socket: its owner and group may ask.
const SOCKET_MODE: u32 = 0o660;

/// The service, to be mounted in a server.
#[derive(Clone, Debug)]
pub struct BgpService(SpeakerHandle);

impl BgpService {
    /// Serves what this speaker knows.
    pub fn new(speaker: SpeakerHandle) -> BgpServer<Self> {
        BgpServer::new(Self(speaker))
    }
}

/// Serves on a Unix socket until `stop` is ready. A socket that a dead process left is replaced.
pub async fn serve(path: &Path, speaker: SpeakerHandle, stop: impl Future<Output = ()>) -> io::Result<()> {
    let listener = bind(path)?;
    let served = tonic::transport::Server::builder()
        .add_service(BgpService::new(speaker))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await;
    // Gone already, or not ours any more: either is no harm.
    let _ = std::fs::remove_file(path);
    served.map_err(io::Error::other)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let in_use = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let listener = match UnixListener::bind(path) {
        Err(error) if in_use(&error) && is_dead_socket(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        result => result?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

fn is_dead_socket(path: &Path) -> bool {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    socket && UnixStream::connect(path).is_err_and(|error| refused(&error))
}

#[tonic::async_trait]
impl Bgp for BgpService {
    async fn list_peers(
        &self,
        _request: Request<ListPeersRequest>,
    ) -> Result<Response<ListPeersResponse>, Status> {
        let peers = self.0.peers().await.map_err(status)?;
        Ok(Response::new(ListPeersResponse {
            peers: peers.iter().map(peer).collect(),
        }))
    }

    async fn list_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesResponse>, Status> {
        let request = request.into_inner();
        let view = match request.view.as_str() {
            "" | "best" => RouteView::Best,
            "received" => RouteView::Received(self.neighbor(&request.peer).await?),
            "advertised" => RouteView::Advertised(self.neighbor(&request.peer).await?),
            other => {
                let message = format!("view {other:?}: must be received, best or advertised");
                return Err(Status::invalid_argument(message));
            }
        };
        let prefix: Option<Prefix> = match request.prefix.as_str() {
            "" => None,
            text => Some(text.parse::<Prefix>().map_err(|error| {
                Status::invalid_argument(format!("prefix {text:?}: {error}; write it as 10.0.0.0/8"))
            })?),
        };
        let routes = self.0.routes(view).await.map_err(status)?;
        let wanted = routes
            .iter()
            .filter(|route| prefix.is_none_or(|prefix| route.prefix == prefix));
        Ok(Response::new(ListRoutesResponse {
            routes: wanted.map(route).collect(),
        }))
    }
}

impl BgpService {
    /// The neighbour of a name as [`NeighborKey`] prints it; an address alone will do if only one has it.
    async fn neighbor(&self, name: &str) -> Result<NeighborKey, Status> {
        let config = self.0.config().await.map_err(status)?;
        let keys: Vec<NeighborKey> = config.neighbors.iter().map(|neighbor| neighbor.key()).collect();
        let by_address: Vec<_> = keys
            .iter()
            .filter(|key| key.address.to_string() == name)
            .collect();
        match (
            keys.iter().find(|key| key.to_string() == name),
            by_address.as_slice(),
        ) {
            (Some(key), _) => Ok(*key),
            (None, [key]) => Ok(**key),
            (None, []) => Err(Status::not_found(format!("peer {name:?} is not configured"))),
            (None, _) => Err(Status::invalid_argument(format!(
                "peer {name:?} stands for several neighbors: add the port"
            ))),
        }
    }
}

fn status(error: SpeakerError) -> Status {
    Status::unavailable(error.to_string())
}

fn peer(peer: &PeerStatus) -> Peer {
    // A clock that was set back gives no time at all.
    let since = SystemTime::now().duration_since(peer.since).unwrap_or_default();
    Peer {
        address: peer.address.to_string(),
        port: peer.port.into(),
        remote_as: peer.remote_as,
        state: peer.state.to_string(),
        since_seconds: since.as_secs(),
        last_error: peer.last_error.clone().unwrap_or_default(),
        prefixes_received: peer.prefixes_received,
        prefixes_advertised: peer.prefixes_advertised,
        flaps: peer.flaps,
        remote_router_id: peer.remote_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn route(route: &RouteStatus) -> Route {
    let attributes = &route.attributes;
    Route {
        prefix: route.prefix.to_string(),
        peer: route.neighbor.map(|key| key.to_string()).unwrap_or_default(),
        next_hop: attributes.next_hop.to_string(),
        as_path: attributes.as_path.to_string(),
        local_pref: attributes.local_pref.unwrap_or_default(),
        med: attributes.med.unwrap_or_default(),
        origin: attributes.origin.to_string(),
        best: matches!(route.status, Some(PathStatus::Best { .. })),
        stale: route.stale,
        reason: route.status.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
