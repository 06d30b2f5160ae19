//! The task of one neighbour: drives its session and owns its connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::bfd::{BfdPlan, NeighborBfd};
use super::connection::{Connection, FromConnection, Go, Malformed, Scope};
use super::interface::{Ends, Surroundings};
use super::link::{Link, LinkState};
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
/// How long an attempt to connect waits for the neighbour to be heard of: less than it may take in all
/// ([`crate::session::CONNECT_TIME`]), so that it says why it failed.
const LOCATE_TIME_MAX: Duration = Duration::from_secs(4);

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

    /// What is known of the link has changed: connections over one that is gone are, too.
    fn follow_link(&mut self) {
        let Some(link) = &mut self.link else { return };
        let state = *link.state.borrow_and_update();
        let before = std::mem::replace(&mut self.link_state, state);
        if before.index.is_some() && before.index != state.index {
            let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
            for id in ids {
                let name = self
                    .socket
                    .interface
                    .map(|name| name.to_string())
                    .unwrap_or_default();
                self.handle(Event::Closed(id, format!("interface {name} is down")));
            }
        }
        self.locate_bfd();
    }

    /// The neighbour's address, as far as it is known: of the session, as configured, or of the router heard of.
    fn remote(&self) -> Option<SocketAddr> {
        let established = self.established_on.and_then(|id| self.connections.get(&id));
        // BFD may have to be up before the session is.
        let connection = established.or_else(|| self.connections.values().next());
        match (connection, &self.link) {
            (Some(connection), _) => Some(connection.remote),
            (None, Some(_)) => self.link_state.locate(self.key.address, self.key.port),
            (None, None) => Some(self.socket.remote),
        }
    }

    fn follow_bfd(&mut self, plan: Option<BfdPlan>) {
        self.bfd_plan = plan;
        self.locate_bfd();
    }

    /// BFD goes where the neighbour is. Of one that is known by its interface, that is not always known.
    fn locate_bfd(&mut self) {
        let plan = match (&self.bfd_plan, &self.link) {
            (plan, None) => plan.clone(),
            (Some(plan), Some(_)) => self
                .remote()
                .and_then(|remote| plan.at(remote, self.link_state.index)),
            (None, Some(_)) => None,
        };
        self.bfd.follow(plan);
        let is_up = self.bfd.is_up();
        {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.bfd = self.bfd.status();
        }
        self.path_state(is_up);
    }

    fn path_state(&mut self, is_up: bool) {
        if std::mem::replace(&mut self.path_up, is_up) != is_up {
            self.handle(Event::PathState { is_up });
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

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => {
                let socket = self.socket.clone();
                let link = self.link.as_ref().map(|link| link.state.clone());
                self.dial = Some(tokio::spawn(async move {
                    let remote = match link {
                        Some(link) => locate(&socket, link).await?,
                        None => socket.remote,
                    };
                    socket.dial(remote).await
                }));
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
                let remote = connection.remote.ip().to_canonical();
                let codec = negotiated.codec;
                let surroundings = Surroundings::of(Ends {
                    local,
                    remote,
                    interface: self.key.interface,
                    extended_next_hop: codec.extended_next_hop.contains(wire::Family::Ipv4Unicast),
                });
                let scope = Scope {
                    interface: self.link_state.index.or(surroundings.interface),
                    is_link_local: self.link.is_some(),
                };
                let opens = self.opens.remove(&id).unwrap_or_default();
                let monitored = Arc::new(MonitoredPeer {
                    key: self.key,
                    local: connection.local,
                    remote: connection.remote,
                    local_as: negotiated.local_as,
                    remote_as: negotiated.remote_as,
                    remote_id: negotiated.remote_id,
                    codec,
                    sent_open: opens.sent,
                    received_open: opens.received,
                    since: SystemTime::now(),
                });
                self.established = Some(session);
                self.established_on = Some(id);
                self.shared.rib.control(RibControl::PeerUp(Box::new(PeerUp {
                    key: self.key,
                    session,
                    negotiated,
                    local,
                    surroundings,
                    out: connection.out.clone(),
                    monitored,
                    events: self.event_sender.clone(),
                })));
                connection.go(Go::Established(codec, session, scope));
                self.locate_bfd();
                self.bfd.trust_path();
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

/// The link of a neighbour that is known by its interface. One without an address has to be discovered.
fn follow_link(key: NeighborKey) -> Option<Link> {
    let interface = key.interface?;
    Some(Link::follow(interface, key.address.is_unspecified()))
}

/// Waits until something changes on the link; for ever without one.
async fn link_changed(link: &mut Option<Link>) {
    if let Some(link) = link
        && link.state.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Waits for the neighbour to be heard of on its link.
async fn locate(
    socket: &SocketSettings,
    mut link: watch::Receiver<LinkState>,
) -> std::io::Result<SocketAddr> {
    let (address, port) = (socket.remote.ip(), socket.remote.port());
    let located = link.wait_for(|state| state.locate(address, port).is_some());
    let state = timeout(LOCATE_TIME_MAX, located)
        .await
        .ok()
        .and_then(Result::ok)
        .map(|state| *state);
    state
        .and_then(|state| state.locate(address, port))
        .ok_or_else(|| {
            let name = socket.interface.map(|name| name.to_string()).unwrap_or_default();
            std::io::Error::other(match link.borrow().index {
                None => format!("interface {name} is not up"),
                Some(_) => format!("no router is heard of on {name}: it sends no router advertisements"),
            })
        })
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
