//! The speaker: the tokio shell around sessions and RIB.
//!
//! Sessions run in a runtime of their own, and the RIB in a thread of its own, so that keepalives
//! wait neither for the embedding program nor for routes.

mod bfd;
mod connection;
mod counts;
mod dynamic;
mod established;
mod interface;
mod kernel;
mod limits;
mod link;
mod listener;
mod listing;
mod monitoring;
mod neighbor;
mod operate;
mod recorder;
mod refresh;
mod restart;
mod rib_queue;
mod rib_task;
mod router_discovery;
pub mod router_messages;
mod running;
mod socket;
mod source;
mod staging;
mod status;
mod sys;
mod tcp_ao;
mod write_queue;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::runtime::{EnterGuard, Runtime};
use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};

use crate::bfd::{Bfd, Counters};
use crate::config::{Config, ConfigDiff, ConfigError, MrtRib, NeighborKey, Network};
use crate::fib::{Fib, FibError, FibSettings, FibStatus};
use crate::monitor;
use crate::mrt::{self, DumpError, Dumped};
use crate::rib::Rib;
use crate::session::StopReason;
pub use counts::MessageCounts;
pub use listing::RoutePages;
use listing::route_status;
pub use monitoring::MonitoringStatus;
use neighbor::Shared;
pub use operate::{RouteChange, RouteChanges, RouteExplanation, SoftReset, WeakSpeaker};
use rib_queue::{RibControl, RibSender};
use rib_task::RibStart;
use running::Running;
pub use status::{PeerEvent, PeerStatus, RouteStatus, RouteView};

/// Threads for sessions; what is heavy is done by the RIB's thread.
const SESSION_THREADS: usize = 2;
/// State changes that a slow subscriber may be behind before it misses some.
const PEER_EVENTS_MAX: usize = 1024;
/// How long a stop may take before what is left is cut off.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How long neighbours may take to show that they know that BFD ends on purpose.
const BFD_STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// How a speaker is started.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// An earlier speaker ran here a moment ago, and the routes that it installed are still in
    /// place: restart gracefully (RFC 4724 section 4.1).
    pub restarting: bool,
    /// Forwarding goes on while no speaker runs, although the speaker installs no routes itself. Where
    /// it does (`fib` of the configuration), they stay in any case.
    pub forwarding_preserved: bool,
    /// How learned routes are installed, if they are.
    pub fib: FibSettings,
}

/// What neighbours are told when the speaker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// That it will be back: sessions are closed without NOTIFICATION, so that they keep our routes
    /// for the restart time (RFC 4724).
    Restart,
    /// That it is gone: Cease, administrative shutdown. They drop our routes at once.
    Shutdown,
}

/// Why the speaker cannot do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SpeakerError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener cannot be opened.
    #[error("global listen {address}: {source}; free the port or choose another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A TCP MD5 key cannot be set.
    #[error("neighbor {neighbors} password: {source}; the kernel needs CONFIG_TCP_MD5SIG")]
    Password {
        /// The addresses that the key is for.
        neighbors: IpNet,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel's routes cannot be worked with.
    #[error(transparent)]
    Fib(#[from] FibError),
    /// Sessions cannot be recorded.
    #[error("global record {path}: {source}; see to the directory's rights or choose another one")]
    Record {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system gives no thread or runtime.
    #[error("cannot start the speaker's threads: {0}")]
    Threads(std::io::Error),
    /// No such neighbour is configured.
    #[error("peer {0} is not configured")]
    UnknownNeighbor(NeighborKey),
    /// A neighbour's session would have to be established.
    #[error("peer {0} has no established session")]
    NotEstablished(NeighborKey),
    /// It does not answer ROUTE-REFRESH (RFC 2918).
    #[error("peer {0} cannot be asked to send its routes again: it has not offered route refresh")]
    NoRouteRefresh(NeighborKey),
    /// [`SpeakerHandle::stop`] was called.
    #[error("the speaker was stopped; start a new one")]
    Stopped,
}

/// A speaker to be.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Starts a speaker: listeners are open and sessions on their way when this returns.
    pub fn start(config: Config, options: StartOptions) -> Result<SpeakerHandle, SpeakerError> {
        config.validate()?;
        let runtime = SessionRuntime::new().map_err(SpeakerError::Threads)?;
        let epoch = Instant::now();
        let (complete, restart_complete) = watch::channel(false);
        let fib = match config.fib {
            true => Some(Arc::new(Fib::start(options.fib.clone())?)),
            false => None,
        };
        let weak_fib = fib.as_ref().map(Arc::downgrade).unwrap_or_default();
        let start = RibStart {
            config: config.clone(),
            fib,
            restarting: options.restarting,
            complete,
            epoch,
        };
        let (rib, rib_thread) = rib_task::spawn(start).map_err(SpeakerError::Threads)?;
        let (peer_events, _) = broadcast::channel(PEER_EVENTS_MAX);
        let bfd = Bfd::start().map_err(SpeakerError::Threads)?;
        let recorder = match &config.record {
            Some(directory) => {
                Some(
                    recorder::Recorder::start(directory).map_err(|source| SpeakerError::Record {
                        path: directory.clone(),
                        source,
                    })?,
                )
            }
            None => None,
        };
        let (strangers, stranger_queue) = mpsc::channel(dynamic::STRANGERS_WAITING_MAX);
        let (gone, gone_queue) = mpsc::unbounded_channel();
        let shared = Shared {
            rib: rib.clone(),
            gone,
            bfd: bfd.clone(),
            fib: weak_fib.clone(),
            peer_events: peer_events.clone(),
            restart_complete: restart_complete.clone(),
            numbers: Arc::new(AtomicU64::new(1)),
            recorder,
            epoch,
        };
        let mut running = Running::new(&config, options, shared, strangers);
        let result = {
            let _context = runtime.enter();
            running.apply(config)
        };
        let inner = Inner {
            running: Mutex::new(Some(running)),
            rib,
            bfd,
            peer_events,
            restart_complete,
            fib: weak_fib,
            rib_thread: Mutex::new(Some(rib_thread)),
            runtime,
        };
        let handle = SpeakerHandle {
            inner: Arc::new(inner),
        };
        {
            let _context = handle.inner.runtime.enter();
            let inner = Arc::downgrade(&handle.inner);
            tokio::spawn(dynamic::attend(inner, stranger_queue, gone_queue));
        }
        // If the configuration could not be applied, the handle's end ends what was started.
        result.map(|_| handle)
    }
}

/// A speaker. Clones are the same speaker; it ends with the last of them, without a word to its
/// neighbours, unless it was stopped before.
#[derive(Clone)]
pub struct SpeakerHandle {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for SpeakerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpeakerHandle").finish_non_exhaustive()
    }
}

struct Inner {
    /// None once stopped.
    running: Mutex<Option<Running>>,
    rib: RibSender,
    bfd: Bfd,
    peer_events: broadcast::Sender<PeerEvent>,
    restart_complete: watch::Receiver<bool>,
    /// Owned by the RIB's thread.
    fib: Weak<Fib>,
    rib_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    runtime: SessionRuntime,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.rib.control(RibControl::Stop);
    }
}

/// The runtime of the sessions. Its end does not block, because it may come inside of another runtime.
struct SessionRuntime(Option<Runtime>);

impl SessionRuntime {
    fn new() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(SESSION_THREADS)
            .thread_name("bgp-session")
            .enable_all();
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// Runs what may block in a thread of its own.
    fn spawn_blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<T>> {
        self.0.as_ref().map(|runtime| runtime.spawn_blocking(run))
    }

    /// Makes it the one that tasks are started in.
    fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for SessionRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl SpeakerHandle {
    /// Changes the configuration. Only what differs is touched, and what that is is returned.
    pub async fn reconfigure(&self, config: Config) -> Result<ConfigDiff, SpeakerError> {
        config.validate()?;
        let mut running = self.inner.running.lock().await;
        let running = running.as_mut().ok_or(SpeakerError::Stopped)?;
        let _context = self.inner.runtime.enter();
        running.apply(config)
    }

    /// Changes what we originate, and nothing else.
    pub async fn set_networks(&self, networks: Vec<Network>) -> Result<(), SpeakerError> {
        let mut running = self.inner.running.lock().await;
        let running = running.as_mut().ok_or(SpeakerError::Stopped)?;
        let config = Config {
            networks,
            ..running.given.clone()
        };
        config.validate()?;
        self.inner
            .rib
            .control(RibControl::Networks(config.networks.clone()));
        running.config.networks.clone_from(&config.networks);
        running.given = config;
        Ok(())
    }

    /// The neighbours and their sessions, in the order of the configuration.
    pub async fn peers(&self) -> Result<Vec<PeerStatus>, SpeakerError> {
        let mut peers = {
            let running = self.inner.running.lock().await;
            running.as_ref().ok_or(SpeakerError::Stopped)?.peers()
        };
        let counted = monitor::count(&self.inner.rib)
            .await
            .ok_or(SpeakerError::Stopped)?;
        for peer in &mut peers {
            for counters in counted.get(&peer.key()).into_iter().flatten() {
                peer.prefixes_received += counters.received as u64;
                peer.prefixes_accepted += counters.accepted as u64;
                peer.prefixes_dampened += counters.dampened as u64;
                peer.prefixes_advertised += counters.advertised as u64;
            }
        }
        Ok(peers)
    }

    /// Where the kernel's routes stand; none if learned routes are not installed.
    pub fn fib_status(&self) -> Option<FibStatus> {
        self.inner.fib.upgrade().map(|fib| fib.status())
    }

    /// What BFD has done since the start, over all neighbours.
    pub fn bfd_counters(&self) -> Counters {
        self.inner.bfd.counters()
    }

    /// How BMP stations and MRT files fare.
    pub async fn monitoring(&self) -> Result<MonitoringStatus, SpeakerError> {
        let running = self.inner.running.lock().await;
        let running = running.as_ref().ok_or(SpeakerError::Stopped)?;
        Ok(running.monitoring.status())
    }

    /// Writes the whole table to an MRT file now: to `path`, which may have strftime conversions, or to
    /// where the configuration says.
    pub async fn dump_mrt(&self, path: Option<PathBuf>) -> Result<Dumped, DumpError> {
        let config = self.config().await.map_err(|_| DumpError::Stopped)?;
        let configured = config.mrt.rib.map(|rib| rib.path);
        let path = path.or(configured).ok_or(DumpError::NoPath)?;
        let settings = MrtRib {
            path,
            interval_s: None,
        };
        let rib = self.inner.rib.clone();
        let dump = move || mrt::dump(&rib, config.router_id, config.local_as, &settings);
        let dumped = self
            .inner
            .runtime
            .spawn_blocking(dump)
            .ok_or(DumpError::Stopped)?;
        dumped.await.unwrap_or(Err(DumpError::Stopped))
    }

    /// State changes of sessions from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.inner.peer_events.subscribe()
    }

    /// Whether every neighbour has sent its routes since the start, or the time for that is over.
    pub fn is_restart_complete(&self) -> bool {
        *self.inner.restart_complete.borrow()
    }

    /// Waits for [`SpeakerHandle::is_restart_complete`].
    pub async fn restart_complete(&self) {
        // An error means that the speaker was stopped: nothing more will come.
        let _ = self
            .inner
            .restart_complete
            .clone()
            .wait_for(|complete| *complete)
            .await;
    }

    /// The configuration in force.
    pub async fn config(&self) -> Result<Config, SpeakerError> {
        let running = self.inner.running.lock().await;
        running
            .as_ref()
            .map(|running| running.given.clone())
            .ok_or(SpeakerError::Stopped)
    }

    /// The addresses that are listened at, with the ports that stand for port 0.
    pub async fn listen_addresses(&self) -> Result<Vec<SocketAddr>, SpeakerError> {
        let running = self.inner.running.lock().await;
        let running = running.as_ref().ok_or(SpeakerError::Stopped)?;
        let mut addresses: Vec<_> = running
            .listeners
            .values()
            .map(|listener| listener.address)
            .collect();
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Ends all sessions and everything else; after it, another speaker can take over. Routes in the
    /// kernel stay.
    pub async fn stop(&self, mode: StopMode) {
        let Some(running) = self.inner.running.lock().await.take() else {
            return;
        };
        let reason = match mode {
            StopMode::Restart => StopReason::Restart,
            StopMode::Shutdown => StopReason::Shutdown,
        };
        // A neighbour that takes nothing in does not hold up the end.
        let _ = tokio::time::timeout(STOP_TIME_MAX, running.stop(reason)).await;
        // After the connections: a neighbour that takes AdminDown for a failure then keeps our routes by graceful
        // restart already.
        let bfd = self.inner.bfd.clone();
        let _ = tokio::task::spawn_blocking(move || bfd.stop(BFD_STOP_TIME_MAX)).await;
        self.inner.rib.control(RibControl::Stop);
        if let Some(thread) = self.inner.rib_thread.lock().await.take() {
            // With it ends the kernel's driver. A panic there has been reported by itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Rib) -> T + Send + 'static,
    ) -> Result<T, SpeakerError> {
        let (answer, answered) = oneshot::channel();
        self.inner.rib.control(RibControl::Query(Box::new(move |rib| {
            // Whoever asked may not wait any more.
            let _ = answer.send(ask(rib));
        })));
        answered.await.map_err(|_| SpeakerError::Stopped)
    }
}
