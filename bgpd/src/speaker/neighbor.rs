//! The task of one neighbour: drives its session and owns its connections.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bfd::{BfdPlan, NeighborBfd};
use super::connection::{Connection, FromConnection, Go, Malformed};
use super::interface::Surroundings;
use super::recorder::{Recorder, SessionRecording};
use super::rib_queue::{PeerUp, RibControl, RibSender, SessionId};
use super::socket::SocketSettings;
use super::status::{PeerEvent, SessionStatus};
use crate::bfd::Bfd;
use crate::config::{NeighborChange, NeighborKey};
use crate::fib::Fib;
use crate::monitor::MonitoredPeer;
use crate::session::{
    Action, ConnectionId, Event, Outgoing, Received, Session, Settings, State, StopReason, Timestamp,
};
use crate::wire;

/// How long the last messages of a session may take when the speaker stops.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the rest of the speaker tells a neighbour.
pub(super) enum Command {
    /// It has connected.
    Accepted(TcpStream),
    /// Have this BFD with it, or none.
    Bfd(Option<BfdPlan>),
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
    /// Our AS on the session.
    local_as: u32,
    socket: SocketSettings,
    enabled: bool,
    shared: Shared,
    bfd: NeighborBfd,
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
            local_as: settings.session.local_as,
            session: Session::new(settings.session, seed),
            socket: settings.socket,
            enabled: settings.enabled,
            shared,
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
            let deadline = self.session.poll_timeout().map(|at| self.shared.epoch + at.0);
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.handle(Event::Timer),
                command = self.commands.recv() => match command {
                    Some(Command::Accepted(stream)) => self.accepted(stream),
                    Some(Command::Bfd(plan)) => self.follow_bfd(plan),
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

    fn follow_bfd(&mut self, plan: Option<BfdPlan>) {
        self.bfd.follow(plan);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.bfd = self.bfd.status();
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
        } = settings;
        if change == NeighborChange::Reset && enabled {
            self.handle(Event::Stop(StopReason::ConfigurationChange));
        }
        self.local_as = session.local_as;
        self.socket = socket;
        self.enabled = enabled;
        self.handle(Event::Configure(Box::new(session)));
        for connection in self.connections.values() {
            if let Err(error) = self.socket.adjust(&connection.socket) {
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
        for connection in self.closing.drain(..) {
            // A neighbour that takes nothing in must not hold up the rest.
            let _ = timeout(STOP_TIME, connection).await;
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        if let Err(error) = self.socket.adopt(&stream) {
            tracing::warn!(neighbor = %self.key, %error, "cannot prepare an accepted connection");
            return;
        }
        if let Some(id) = self.adopt(stream) {
            self.handle(Event::Accepted(id));
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
        match Connection::spawn(id, stream, self.key, events, self.shared.rib.clone()) {
            Ok(connection) => {
                self.connections.insert(id, connection);
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

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => {
                let socket = self.socket.clone();
                self.dial = Some(tokio::spawn(async move { socket.dial().await }));
            }
            Action::AbortConnect => {
                if let Some(dial) = self.dial.take() {
                    dial.abort();
                }
            }
            Action::Send(id, message) => self.send(id, &message),
            Action::Close(id) => {
                self.opens.remove(&id);
                if let Some(connection) = self.connections.remove(&id) {
                    self.closing.retain(|connection| !connection.is_finished());
                    self.closing.push(connection.close());
                }
            }
            Action::Opened(id, codec) => {
                if let Some(connection) = self.connections.get(&id) {
                    connection.go(Go::On(codec));
                }
            }
            Action::Up(id, negotiated) => {
                let Some(connection) = self.connections.get(&id) else {
                    return;
                };
                let session = SessionId(self.shared.number());
                let local = connection.local.ip().to_canonical();
                let codec = negotiated.codec;
                let opens = self.opens.remove(&id).unwrap_or_default();
                let monitored = Arc::new(MonitoredPeer {
                    key: self.key,
                    local: connection.local,
                    remote: connection.remote,
                    local_as: self.local_as,
                    remote_as: negotiated.remote_as,
                    remote_id: negotiated.remote_id,
                    codec,
                    sent_open: opens.sent,
                    received_open: opens.received,
                    since: SystemTime::now(),
                });
                self.established = Some(session);
                self.established_on = Some(id);
                self.bfd.trust_path();
                self.shared.rib.control(RibControl::PeerUp(Box::new(PeerUp {
                    key: self.key,
                    session,
                    negotiated,
                    local,
                    surroundings: Surroundings::of(local, self.key.address),
                    out: connection.out.clone(),
                    monitored,
                    events: self.event_sender.clone(),
                })));
                connection.go(Go::Established(codec, session));
            }
            Action::Down { reason, retain } => {
                let kept = !retain.is_empty();
                tracing::warn!(neighbor = %self.key, %reason, routes_kept = kept, "session lost");
                if let Some(session) = self.established.take() {
                    self.shared.rib.control(RibControl::PeerDown {
                        key: self.key,
                        session,
                        retain,
                        reason,
                    });
                }
            }
            Action::Sweep(families) => {
                tracing::info!(neighbor = %self.key, ?families, "stale routes go");
                let key = self.key;
                self.shared.rib.control(RibControl::Sweep { key, families });
            }
            Action::LongLivedStale(families) => {
                tracing::warn!(neighbor = %self.key, ?families, "still away: its routes are a last resort now");
                let key = self.key;
                self.shared
                    .rib
                    .control(RibControl::LongLivedStale { key, families });
            }
        }
    }

    fn ask_again(&self) {
        let connection = self.established_on.and_then(|id| self.connections.get(&id));
        let negotiated = self
            .session
            .negotiated()
            .filter(|negotiated| negotiated.route_refresh);
        if let (Some(connection), Some(negotiated)) = (connection, negotiated) {
            for family in negotiated.codec.families.iter() {
                connection.send(wire::encode_route_refresh(family, wire::RefreshKind::Request));
            }
        }
    }

    fn send(&mut self, id: ConnectionId, message: &Outgoing) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        connection.send(match message {
            Outgoing::Open(open) => {
                let octets = wire::encode_open(open);
                self.opens.entry(id).or_default().sent = Bytes::copy_from_slice(&octets);
                octets
            }
            Outgoing::Keepalive => wire::encode_keepalive(),
            Outgoing::Notification(notification) => {
                tracing::info!(neighbor = %self.key, %notification, "notification sent");
                wire::encode_notification(notification)
            }
        });
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
        let connection = self.established_on.and_then(|id| self.connections.get(&id));
        status.local_address = connection
            .filter(|_| after == State::Established)
            .map(|connection| connection.local.ip().to_canonical());
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
