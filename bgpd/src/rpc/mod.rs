//! The gRPC service of a speaker (`bgpd/proto`), on a Unix socket.

mod convert;
mod events;
mod listing;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use bgpd_proto::v1::bgp_server::{Bgp, BgpServer};
use bgpd_proto::v1::{
    ClearDampeningRequest, ClearDampeningResponse, DrainRequest, DrainResponse, DumpMrtRequest,
    DumpMrtResponse, Event, ExplainRequest, Explanation, GetSpeakerRequest, ListPeersRequest,
    ListPeersResponse, ListRoutesRequest, ListRoutesResponse, ResetPeerRequest, ResetPeerResponse, Speaker,
    UndrainRequest, UndrainResponse, WatchRequest,
};
use futures::Stream;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::config::NeighborKey;
use crate::mrt::DumpError;
use crate::session::State;
use crate::speaker::{SoftReset, SpeakerError, SpeakerHandle};
use crate::wire::Prefix;
use listing::Listing;

/// Mode of the socket: its owner and group may ask.
const SOCKET_MODE: u32 = 0o660;

/// The place of a speaker that may not be there yet, or be replaced by another one. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct SpeakerSlot(Arc<RwLock<Option<SpeakerHandle>>>);

impl SpeakerSlot {
    /// Puts a speaker there, or takes it away.
    pub fn set(&self, speaker: Option<SpeakerHandle>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = speaker;
    }

    fn get(&self) -> Result<SpeakerHandle, Status> {
        let speaker = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        speaker.ok_or_else(|| Status::unavailable("no BGP speaker runs yet: it has no configuration"))
    }
}

/// The service, to be mounted in a server.
#[derive(Clone, Debug)]
pub struct BgpService(SpeakerSlot);

impl BgpService {
    /// Serves what this speaker knows.
    pub fn new(speaker: SpeakerHandle) -> BgpServer<Self> {
        let slot = SpeakerSlot::default();
        slot.set(Some(speaker));
        Self::of_slot(slot)
    }

    /// Serves what the speaker knows that is there when a request comes.
    pub fn of_slot(slot: SpeakerSlot) -> BgpServer<Self> {
        BgpServer::new(Self(slot))
    }
}

/// Serves on a Unix socket until `stop` is ready. A socket that a dead process left is replaced.
pub async fn serve(path: &Path, speaker: SpeakerHandle, stop: impl Future<Output = ()>) -> io::Result<()> {
    let listener = bind(path)?;
    let slot = SpeakerSlot::default();
    slot.set(Some(speaker));
    // Watchers' streams last as long as the slot is filled, so that they do not hold up the end.
    let emptied = slot.clone();
    let stop = async move {
        stop.await;
        emptied.set(None);
    };
    let served = tonic::transport::Server::builder()
        .add_service(BgpService::of_slot(slot))
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

/// A stream of [`Event`]s.
type EventStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

#[tonic::async_trait]
impl Bgp for BgpService {
    async fn list_peers(&self, _: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        let peers = self.0.get()?.peers().await.map_err(status)?;
        Ok(Response::new(ListPeersResponse {
            peers: peers.iter().map(convert::peer).collect(),
        }))
    }

    async fn list_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesResponse>, Status> {
        let speaker = self.0.get()?;
        let listing = Listing::parse(&speaker, request.into_inner()).await?;
        Ok(Response::new(listing.all(&speaker).await?))
    }

    type StreamRoutesStream = Pin<Box<dyn Stream<Item = Result<ListRoutesResponse, Status>> + Send>>;

    async fn stream_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<Self::StreamRoutesStream>, Status> {
        let speaker = self.0.get()?;
        let listing = Listing::parse(&speaker, request.into_inner()).await?;
        Ok(Response::new(Box::pin(listing.stream(&speaker))))
    }

    async fn get_speaker(&self, _: Request<GetSpeakerRequest>) -> Result<Response<Speaker>, Status> {
        let speaker = self.0.get()?;
        let config = speaker.config().await.map_err(status)?;
        let totals = speaker.totals().await.map_err(status)?;
        let memory = speaker.memory().await.map_err(status)?;
        let peers = speaker.peers().await.map_err(status)?;
        let listen = speaker.listen_addresses().await.map_err(status)?;
        let monitoring = speaker.monitoring().await.map_err(status)?;
        let established = peers.iter().filter(|peer| peer.state == State::Established);
        Ok(Response::new(Speaker {
            local_as: config.local_as,
            router_id: config.router_id.to_string(),
            listen: listen.iter().map(ToString::to_string).collect(),
            draining: speaker.is_draining().await.map_err(status)?,
            restart_complete: speaker.is_restart_complete(),
            prefixes: totals.prefixes as u64,
            paths: totals.paths as u64,
            attribute_sets: totals.attribute_sets as u64,
            next_hops: totals.next_hops as u64,
            update_groups: totals.groups as u64,
            peers: count(peers.len()),
            peers_established: count(established.count()),
            kernel: speaker.fib_status().as_ref().map(convert::kernel),
            table_bytes: memory.table_bytes as u64,
            attribute_bytes: memory.attribute_bytes as u64,
            waiting_bytes: memory.waiting_bytes as u64,
            bytes_per_prefix: memory.bytes_per_prefix() as u64,
            bytes_per_path: memory.bytes_per_path() as u64,
            bfd: Some(convert::bfd_counters(speaker.bfd_counters())),
            bmp_stations: monitoring.stations.iter().map(convert::bmp_station).collect(),
            mrt_updates: monitoring.updates.as_ref().map(convert::mrt_updates),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<Explanation>, Status> {
        let text = request.into_inner().prefix;
        let speaker = self.0.get()?;
        let explanation = match text.parse::<IpAddr>() {
            Ok(address) => speaker.explain_address(address).await,
            Err(_) => speaker.explain(parse_prefix(&text)?).await,
        };
        let explanation = explanation.map_err(status)?;
        let peers = speaker.peers().await.map_err(status)?;
        Ok(Response::new(
            explanation.map_or_else(Explanation::default, |explanation| {
                convert::explanation(&explanation, &peers)
            }),
        ))
    }

    async fn reset_peer(
        &self,
        request: Request<ResetPeerRequest>,
    ) -> Result<Response<ResetPeerResponse>, Status> {
        let request = request.into_inner();
        let speaker = self.0.get()?;
        let key = neighbor(&speaker, &request.peer).await?;
        let soft = match request.soft.as_str() {
            "" => None,
            "in" => Some(SoftReset::In),
            "out" => Some(SoftReset::Out),
            "both" => Some(SoftReset::Both),
            other => {
                let message = format!("soft {other:?}: must be in, out, both or nothing");
                return Err(Status::invalid_argument(message));
            }
        };
        tracing::info!(neighbor = %key, soft = request.soft, "reset by request");
        match soft {
            None => speaker.reset(key).await,
            Some(which) => speaker.soft_reset(key, which).await,
        }
        .map_err(status)?;
        Ok(Response::new(ResetPeerResponse {}))
    }

    async fn clear_dampening(
        &self,
        request: Request<ClearDampeningRequest>,
    ) -> Result<Response<ClearDampeningResponse>, Status> {
        let ClearDampeningRequest { peer, prefix } = request.into_inner();
        let speaker = self.0.get()?;
        let key = match peer.as_str() {
            "" => None,
            name => Some(neighbor(&speaker, name).await?),
        };
        let prefix = match prefix.as_str() {
            "" => None,
            text => Some(parse_prefix(text)?),
        };
        let routes = speaker.clear_dampening(key, prefix).await.map_err(status)?;
        tracing::info!(routes, "penalties of routes were forgotten by request");
        Ok(Response::new(ClearDampeningResponse {
            routes: routes as u64,
        }))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        tracing::info!("drain: moving traffic away");
        let peers = self.0.get()?.set_draining(true).await.map_err(status)?;
        Ok(Response::new(DrainResponse { peers: count(peers) }))
    }

    async fn dump_mrt(&self, _: Request<DumpMrtRequest>) -> Result<Response<DumpMrtResponse>, Status> {
        let dumped = self.0.get()?.dump_mrt(None).await.map_err(|error| match error {
            DumpError::Stopped => Status::unavailable(error.to_string()),
            _ => Status::failed_precondition(error.to_string()),
        })?;
        Ok(Response::new(DumpMrtResponse {
            path: dumped.path.display().to_string(),
            prefixes: dumped.prefixes,
            paths: dumped.paths,
            left_out: dumped.left_out,
        }))
    }

    async fn undrain(&self, _: Request<UndrainRequest>) -> Result<Response<UndrainResponse>, Status> {
        tracing::info!("drain is over");
        self.0.get()?.set_draining(false).await.map_err(status)?;
        Ok(Response::new(UndrainResponse {}))
    }

    type WatchStream = EventStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<EventStream>, Status> {
        let WatchRequest { peers, routes } = request.into_inner();
        let all = !peers && !routes;
        // Refused where there is none, and not tied to the one that is there.
        self.0.get()?;
        let stream = events::stream(self.0.clone(), peers || all, routes || all);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// The neighbour of a name as [`NeighborKey`] prints it; an address alone will do if only one has it.
async fn neighbor(speaker: &SpeakerHandle, name: &str) -> Result<NeighborKey, Status> {
    let peers = speaker.peers().await.map_err(status)?;
    let keys: Vec<NeighborKey> = peers.iter().map(|peer| peer.key()).collect();
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

fn parse_prefix(text: &str) -> Result<Prefix, Status> {
    let prefix = text.parse::<Prefix>().map_err(|error| {
        Status::invalid_argument(format!("prefix {text:?}: {error}; write it as 10.0.0.0/8"))
    })?;
    Ok(prefix.trunc())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn status(error: SpeakerError) -> Status {
    let text = error.to_string();
    match error {
        SpeakerError::UnknownNeighbor(_) => Status::not_found(text),
        SpeakerError::NotEstablished(_) | SpeakerError::NoRouteRefresh(_) => {
            Status::failed_precondition(text)
        }
        _ => Status::unavailable(text),
    }
}
