//! The task of one neighbour: drives its session and owns its connections.

mod act;
mod path;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::path::{follow_link, link_changed};
use super::bfd::{BfdPlan, NeighborBfd};
use super::connection::{Connection, FromConnection, Malformed};
use super::link::{Link, LinkState};
use super::recorder::{Recorder, SessionRecording};
use super::rib_queue::{RibSender, SessionId};
use super::socket::SocketSettings;
use super::status::{PeerEvent, SessionStatus};
use crate::bfd::Bfd;
use crate::config::{NeighborChange, NeighborKey};
use crate::fib::Fib;
use crate::session::{ConnectionId, Event, Received, Session, Settings, State, StopReason, Timestamp};

/// How long the last messages of a session may take when the speaker stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the rest of the speaker tells a neighbour.
pub(super) enum Command {
    /// It has connected.
    Accepted(TcpStream),
    /// Have this BFD with it, or none.
    Bfd(Option<BfdPlan>),
    /// BFD is up, or no longer.
    PathState { is_up: bool },
    /// BFD says that the path to it has failed; with its C bit.
    PathFailed { is_control_plane_independent: bool },
    /// Ask it to send its routes again (RFC 2918).
    AskAgain,
    /// Its settings changed.
    Configure(Box<NeighborSettings>),
    /// Close the session and open it again.
    Reset,
    /// End.
    Stop(StopReason),
}

/// What a neighbour's task needs of the configuration.
pub(super) struct NeighborSettings {
    pub(super) session: Settings,
    pub(super) socket: SocketSettings,
    /// False keeps the session down.
    pub(super) enabled: bool,
    /// It is there because it has connected, and goes with its session.
    pub(super) is_dynamic: bool,
    /// What the change does to the session.
    pub(super) change: NeighborChange,
}

/// What every neighbour's task shares.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) rib: RibSender,
    pub(super) bfd: Bfd,
    /// None where learned routes are not installed.
    pub(super) fib: Weak<Fib>,
    /// Dynamic neighbours whose session is over.
    pub(super) gone: mpsc::UnboundedSender<NeighborKey>,
    pub(super) peer_events: broadcast::Sender<PeerEvent>,
    /// True once our own restart is complete.
    pub(super) restart_complete: watch::Receiver<bool>,
    /// Numbers for connections and sessions.
    pub(super) numbers: Arc<AtomicU64>,
    /// Where sessions are recorded.
    pub(super) recorder: Option<Recorder>,
    pub(super) epoch: Instant,
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// A neighbour's task from outside.
pub(super) struct NeighborHandle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) status: Arc<Mutex<SessionStatus>>,
    pub(super) task: JoinHandle<()>,
}

/// Where a dynamic neighbour stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Its connection is about to be handed over.
    Expected,
    /// It has connected.
    There,
    /// Its session is over, and the speaker was told so.
    Gone,
}

/// OPEN messages as they were sent and received.
#[derive(Default)]
struct Opens {
    sent: Bytes,
    received: Bytes,
}

pub(super) struct NeighborTask {
    key: NeighborKey,
    session: Session,
    recording: Option<SessionRecording>,
    socket: SocketSettings,
    /// The link that it is on, if it is known by its interface.
    link: Option<Link>,
    /// What was known of that link when it was looked at last.
    link_state: LinkState,
    enabled: bool,
    dynamic: Option<Presence>,
    shared: Shared,
    bfd: NeighborBfd,
    /// Whether the session knows it to be up.
    path_up: bool,
    /// BFD as it is wanted, wherever the neighbour is now.
    bfd_plan: Option<BfdPlan>,
    status: Arc<Mutex<SessionStatus>>,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedReceiver<FromConnection>,
    event_sender: mpsc::UnboundedSender<FromConnection>,
    dial: Option<JoinHandle<std::io::Result<TcpStream>>>,
    connections: HashMap<ConnectionId, Connection>,
    /// The OPENs of each connection.
    opens: HashMap<ConnectionId, Opens>,
    closing: Vec<JoinHandle<()>>,
    /// The established session, as the RIB knows it.
    established: Option<SessionId>,
    /// Its connection.
    established_on: Option<ConnectionId>,
}

impl NeighborTask {
    /// Starts a neighbour's task and its session.
    pub(super) fn spawn(
        key: NeighborKey,
        settings: NeighborSettings,
        bfd: Option<BfdPlan>,
        shared: Shared,
        seed: u64,
    ) -> NeighborHandle {
        let (commands, command_queue) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let status = Arc::new(Mutex::new(SessionStatus::new(&settings.session)));
        let recording = shared
            .recorder
            .as_ref()
            .and_then(|recorder| recorder.session(key, &settings.session, seed));
        let mut task = Self {
            key,
            recording,
            bfd: NeighborBfd::new(shared.bfd.clone(), shared.fib.clone(), commands.downgrade()),
            session: Session::new(settings.session, seed),
            link: follow_link(key),
            link_state: LinkState::default(),
            socket: settings.socket,
            enabled: settings.enabled,
            dynamic: settings.is_dynamic.then_some(Presence::Expected),
            shared,
            bfd_plan: None,
            path_up: false,
            status: Arc::clone(&status),
            commands: command_queue,
            events,
            event_sender,
            dial: None,
            connections: HashMap::new(),
            opens: HashMap::new(),
            closing: Vec::new(),
            established: None,
            established_on: None,
        };
        task.follow_bfd(bfd);
        NeighborHandle {
            commands,
            status,
            task: tokio::spawn(task.run()),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.shared.epoch.elapsed())
    }

    async fn run(mut self) {
        let rib = self.shared.rib.clone();
        let mut restart_complete = self.shared.restart_complete.clone();
        let mut restarting = !*restart_complete.borrow_and_update();
        if !restarting {
            self.handle(Event::RestartComplete);
        }
        self.start();
        loop {
            self.check_presence();
            let deadline = self.session.poll_timeout().map(|at| self.shared.epoch + at.0);
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.handle(Event::Timer),
                command = self.commands.recv() => match command {
                    Some(Command::Accepted(stream)) => {
                        self.accepted(stream);
                        if let Some(presence @ Presence::Expected) = &mut self.dynamic {
                            *presence = Presence::There;
                        }
                    }
                    Some(Command::Bfd(plan)) => self.follow_bfd(plan),
                    Some(Command::PathState { is_up }) => self.path_state(is_up),
                    Some(Command::PathFailed { is_control_plane_independent }) => {
                        self.handle(Event::PathFailed { is_control_plane_independent });
                    }
                    Some(Command::AskAgain) => self.ask_again(),
                    Some(Command::Configure(settings)) => self.configure(*settings),
                    Some(Command::Reset) => {
                        self.handle(Event::Stop(StopReason::Reset));
                        self.start();
                    }
                    Some(Command::Stop(reason)) => return self.stop(reason).await,
                    None => return self.stop(StopReason::Shutdown).await,
                },
                () = link_changed(&mut self.link) => self.follow_link(),
                Some(event) = self.events.recv() => match event {
                    FromConnection::Event(event) => self.connection_event(event),
                    FromConnection::Open(id, open) => {
                        if self.connections.contains_key(&id) {
                            self.opens.entry(id).or_default().received = open;
                        }
                    }
                    FromConnection::Malformed(malformed) => self.malformed(malformed),
                },
                result = dialled(&mut self.dial) => {
                    self.dial = None;
                    self.dialled(result);
                }
                // Without a RIB a session would keep routes alive that nobody looks after.
                () = rib.closed() => return self.stop(StopReason::Restart).await,
                changed = restart_complete.changed(), if restarting => {
                    restarting = false;
                    if changed.is_ok() {
                        self.handle(Event::RestartComplete);
                    }
                }
            }
        }
    }

    /// Says once that a neighbour that came by itself is gone: when nothing is kept of it any more.
    fn check_presence(&mut self) {
        let is_over = self.connections.is_empty() && self.session.retained().is_empty();
        if self.dynamic == Some(Presence::There) && is_over {
            self.dynamic = Some(Presence::Gone);
            // Without anybody to hear it, the speaker is stopping.
            let _ = self.shared.gone.send(self.key);
        }
    }

    fn start(&mut self) {
        if self.enabled {
            self.handle(Event::Start);
        } else {
            // Not started yet, but it says why it is down.
            self.handle(Event::Stop(StopReason::Shutdown));
        }
    }

    fn configure(&mut self, settings: NeighborSettings) {
        let NeighborSettings {
            session,
            socket,
            enabled,
            change,
            ..
        } = settings;
        if change == NeighborChange::Reset && enabled {
            self.handle(Event::Stop(StopReason::ConfigurationChange));
        }
        let before = std::mem::replace(&mut self.socket, socket);
        self.enabled = enabled;
        self.handle(Event::Configure(Box::new(session)));
        for connection in self.connections.values() {
            if let Err(error) = self
                .socket
                .adjust(&before, &connection.socket, connection.remote.ip())
            {
                tracing::warn!(neighbor = %self.key, %error, "a connection keeps its old socket options");
            }
        }
        self.start();
    }

    fn connection_event(&mut self, event: Event) {
        if let Event::Received(_, Received::Notification(notification)) = &event {
            tracing::info!(neighbor = %self.key, %notification, "notification received");
        }
        self.handle(event);
    }

    async fn stop(mut self, reason: StopReason) {
        self.handle(Event::Stop(reason));
        // BFD ends after it: a neighbour that takes AdminDown for a failure, as FRR 8 does, has to have seen the end of the
        // connection by then, or it drops our routes instead of keeping them for our restart.
        for connection in self.closing.drain(..) {
            // A neighbour that takes nothing in must not hold up the rest.
            let _ = timeout(STOP_TIME, connection).await;
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        if let Some(ttl) = self.socket.came_from_afar(&stream) {
            // Nothing of it was read, and nothing is said to it.
            return self.refused_from_afar(ttl);
        }
        if let Err(error) = self.socket.adopt(&stream) {
            tracing::warn!(neighbor = %self.key, %error, "cannot prepare an accepted connection");
            return;
        }
        if let Some(id) = self.adopt(stream) {
            self.handle(Event::Accepted(id));
        }
    }

    fn refused_from_afar(&self, ttl: u8) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.far_connections += 1;
        let count = status.far_connections;
        drop(status);
        // Whoever sends them must not fill the log.
        if count.is_power_of_two() {
            let least = self.socket.minimum_ttl;
            tracing::warn!(neighbor = %self.key, ttl, least, count, "connection refused: it comes over more hops than ttl-security allows");
        }
    }

    fn dialled(&mut self, result: std::io::Result<TcpStream>) {
        match result {
            Ok(stream) => {
                if let Some(id) = self.adopt(stream) {
                    return self.handle(Event::Connected(id));
                }
                self.handle(Event::ConnectFailed("the connection was lost at once".to_owned()));
            }
            Err(error) => self.handle(Event::ConnectFailed(error.to_string())),
        }
    }

    fn adopt(&mut self, stream: TcpStream) -> Option<ConnectionId> {
        let id = ConnectionId(self.shared.number());
        let events = self.event_sender.clone();
        let counters = {
            let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&status.counters)
        };
        match Connection::spawn(id, stream, self.key, events, self.shared.rib.clone(), counters) {
            Ok(connection) => {
                self.connections.insert(id, connection);
                if self.link.is_some() {
                    self.locate_bfd();
                }
                Some(id)
            }
            Err(error) => {
                tracing::debug!(neighbor = %self.key, %error, "a connection was lost at once");
                None
            }
        }
    }

    fn malformed(&mut self, malformed: Malformed) {
        let Malformed {
            id,
            notification,
            octets,
        } = malformed;
        // One that the session did not want was closed without a look at it.
        if self.connections.contains_key(&id) {
            tracing::warn!(
                neighbor = %self.key,
                %notification,
                octets = %Hex(&octets),
                "malformed message received, the connection ends"
            );
            self.handle(Event::Malformed(id, notification));
        }
    }

    fn handle(&mut self, event: Event) {
        let before = self.session.state();
        let now = self.now();
        self.recording.take_if(|recording| !recording.event(now, &event));
        let actions = self.session.handle(event, now);
        for action in actions {
            self.act(action);
        }
        let after = self.session.state();
        self.publish(before, after);
    }

    fn publish(&self, before: State, after: State) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.last_error = self.session.last_error().map(str::to_owned);
        status.flaps = self.session.flaps();
        if before == after {
            return;
        }
        status.state = after;
        status.since = SystemTime::now();
        status.remote_id = self.session.negotiated().map(|negotiated| negotiated.remote_id);
        status.negotiated = self.session.negotiated().cloned();
        if let Some(negotiated) = &status.negotiated {
            status.local_as = negotiated.local_as;
        }
        let connection = self.established_on.and_then(|id| self.connections.get(&id));
        let connection = connection.filter(|_| after == State::Established);
        status.local_address = connection.map(|connection| connection.local.ip().to_canonical());
        status.remote_address = connection.map(|connection| connection.remote.ip().to_canonical());
        status.remote_as = match self.session.negotiated() {
            Some(negotiated) => negotiated.remote_as,
            None => status.remote_as,
        };
        if after == State::Established {
            tracing::info!(neighbor = %self.key, "session established");
        } else {
            tracing::debug!(neighbor = %self.key, state = %after, "session state");
        }
        let event = PeerEvent {
            neighbor: self.key,
            state: after,
            since: status.since,
        };
        // Nobody has to listen.
        let _ = self.shared.peer_events.send(event);
    }
}

struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

async fn dialled(dial: &mut Option<JoinHandle<std::io::Result<TcpStream>>>) -> std::io::Result<TcpStream> {
    match dial {
        Some(dial) => dial
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
