//! The embedded store: a single-host server of the etcd v3 API on a redb file.
//!
//! It serves what etcd's clients use (KV, Watch, Lease, and the parts of Maintenance, Cluster and Auth that a
//! single server can answer), with etcd's error codes and words. It is for one host or a lab: no cluster, no
//! users, no TLS.
//!
//! - `mvcc`, `txn`, `lease` and `watch` are logic on data: no socket, clock or task;
//! - `engine` commits to the file, one writer for all;
//! - `file` opens the file and refuses damaged ones;
//! - `rpc` is the gRPC surface, `connection` what it runs on.

mod connection;
mod engine;
mod file;
mod lease;
pub mod limits;
mod mvcc;
pub mod pb;
mod refusal;
mod rpc;
mod txn;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use self::connection::Connection;
use self::engine::{Store, Writer};
use self::file::Identity;
pub use self::file::OpenError;
use self::limits::{
    CONNECTION_PROBE_INTERVAL, CONNECTION_PROBE_TIMEOUT, KEPT_REVISIONS_DEFAULT, PROGRESS_NOTIFY_INTERVAL,
    SHUTDOWN_GRACE, STREAMS_PER_CONNECTION_MAX,
};
use self::pb::etcdserverpb::Member;
pub use self::refusal::Refusal;

/// When a write is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After it is on disk.
    #[default]
    Immediate,
    /// At once; it is on disk within [`limits::RELAXED_SYNC_INTERVAL`]. A crash may lose that much.
    Relaxed,
}

/// How to serve a store.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Addresses to listen on; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// The store's file; made if it is not there.
    pub data: PathBuf,
    /// When a write is answered.
    pub durability: Durability,
    /// The URLs that `member list` gives clients; by default the addresses that were bound.
    pub advertise_urls: Vec<String>,
    /// The name that `member list` shows.
    pub name: String,
    /// History is compacted by itself so that about this many revisions stay; nothing for never. A watch or read
    /// that wants older ones is told so and starts anew, as after any compaction.
    pub keep_revisions: Option<u32>,
    /// How often an idle watch that asked for progress notices gets one.
    pub progress_interval: Duration,
}

impl ServerOptions {
    /// A durable store on one address.
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> Self {
        Self {
            listen: vec![listen],
            data: data.into(),
            durability: Durability::default(),
            advertise_urls: Vec::new(),
            name: "margay-store".to_owned(),
            keep_revisions: Some(KEPT_REVISIONS_DEFAULT),
            progress_interval: PROGRESS_NOTIFY_INTERVAL,
        }
    }
}

/// Why a store did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No address to listen on was given.
    #[error("no address to listen on: give at least one")]
    NoAddress,
    /// An address could not be bound.
    #[error("cannot listen on {address}: {reason}; choose another address or stop what uses it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// Starts stores.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Opens the file, binds the addresses and serves until told to stop.
    pub async fn start(options: ServerOptions) -> Result<RunningServer, StartError> {
        let mut listeners = Vec::new();
        for address in &options.listen {
            let bind = |reason| StartError::Bind {
                address: *address,
                reason,
            };
            let listener = TcpListener::bind(address).await.map_err(bind)?;
            listeners.push((listener.local_addr().map_err(bind)?, listener));
        }
        if listeners.is_empty() {
            return Err(StartError::NoAddress);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(|(address, _)| *address).collect();

        let data = options.data.clone();
        let fresh = Identity {
            cluster_id: non_zero_id(),
            member_id: non_zero_id(),
            starts: 1,
        };
        let opened = tokio::task::spawn_blocking(move || file::open(&data, fresh)).await;
        let opened = opened.unwrap_or_else(|_| Err(OpenError::interrupted(&options.data)))?;
        let (store, writer, commands) = Writer::new(opened, options.durability, options.keep_revisions);

        let client_urls = if options.advertise_urls.is_empty() {
            addresses
                .iter()
                .map(|address| format!("http://{}", reachable(*address)))
                .collect()
        } else {
            options.advertise_urls
        };
        let member = Member {
            id: store.identity.member_id,
            name: options.name,
            peer_ur_ls: Vec::new(),
            client_ur_ls: client_urls,
            is_learner: false,
        };
        let serving = CancellationToken::new();
        let writing = CancellationToken::new();
        let context = rpc::Context {
            store: Arc::clone(&store),
            member: Arc::new(member),
            path: options.data.clone().into(),
            progress_interval: options.progress_interval,
            stop: serving.clone(),
        };
        let routes = rpc::routes(&context);
        let mut listening = JoinSet::new();
        for (address, listener) in listeners {
            let stop = serving.clone().cancelled_owned();
            let server = tonic::transport::Server::builder()
                .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
                .http2_keepalive_interval(Some(CONNECTION_PROBE_INTERVAL))
                .http2_keepalive_timeout(Some(CONNECTION_PROBE_TIMEOUT))
                .layer(rpc::OversizedLayer)
                .add_routes(routes.clone());
            let incoming = TcpIncoming::from(listener)
                .with_nodelay(Some(true))
                .map_ok(Connection::new);
            listening.spawn(async move {
                if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop).await {
                    tracing::error!(%address, %error, "listening ended");
                }
            });
            tracing::info!(%address, data = %options.data.display(), "store is listening");
        }
        let writer = tokio::spawn(writer.run(commands, writing.clone()));
        Ok(RunningServer {
            addresses,
            store,
            serving,
            writing,
            listening,
            writer: Some(writer),
        })
    }
}

/// A store that serves. Dropping it stops it without waiting; [`RunningServer::shutdown`] waits.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    store: Arc<Store>,
    serving: CancellationToken,
    writing: CancellationToken,
    listening: JoinSet<()>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RunningServer")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl RunningServer {
    /// The addresses that were bound, in the order of the options.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The addresses as URLs that a client on this host can use.
    pub fn urls(&self) -> Vec<String> {
        self.addresses
            .iter()
            .map(|address| format!("http://{}", reachable(*address)))
            .collect()
    }

    /// The newest committed revision.
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// Waits until the store can take no more writes, and says why; for as long as it can, forever.
    pub async fn failed(&self) -> String {
        self.store.closed().await;
        self.store.failure().unwrap_or("the writer ended").to_owned()
    }

    /// Ends streams, answers what is in flight, writes down the leases and closes the file.
    pub async fn shutdown(mut self) {
        self.serving.cancel();
        let ended = tokio::time::timeout(SHUTDOWN_GRACE, async {
            while self.listening.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!("calls still open were dropped");
            self.listening.shutdown().await;
        }
        self.writing.cancel();
        if let Some(writer) = self.writer.take()
            && writer.await.is_err()
        {
            tracing::error!("the writer ended unexpectedly");
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.serving.cancel();
        self.writing.cancel();
    }
}

/// An address that a client on this host can reach: a wildcard becomes loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

fn non_zero_id() -> u64 {
    rand::random::<u64>().max(1)
}
