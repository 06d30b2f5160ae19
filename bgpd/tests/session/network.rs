//! Two sessions and a network between them that exists in virtual time only.

use std::collections::BTreeMap;
use std::time::Duration;

use bgpd::session::{
    Action, ConnectionId, DownReason, Event, Negotiated, Outgoing, Received, Session, Settings, State,
    Timestamp,
};

/// Events after which a simulation has gone astray.
const EVENTS_MAX: usize = 100_000;

/// What arrives at a node.
#[derive(Debug)]
enum Arrival {
    Syn,
    SynAck,
    Refused,
    Message(Outgoing),
    Fin,
}

/// A speaker with its end of things.
pub(crate) struct Node {
    pub(crate) session: Session,
    pub(crate) up: Option<(ConnectionId, Negotiated)>,
    pub(crate) ups: usize,
    pub(crate) downs: Vec<DownReason>,
    pub(crate) keepalives_at: Vec<Timestamp>,
    /// Takes connections.
    pub(crate) listens: bool,
    dialling: Option<u64>,
    events: Vec<(Timestamp, Event)>,
}

pub(crate) struct Network {
    pub(crate) now: Timestamp,
    pub(crate) nodes: [Node; 2],
    pub(crate) latency: Duration,
    /// Loses everything.
    pub(crate) cut: bool,
    queue: BTreeMap<(Timestamp, u64), (usize, u64, Arrival)>,
    /// Which node made a connection, and whether it is open at each node.
    connections: BTreeMap<u64, (usize, [bool; 2])>,
    sequence: u64,
}

impl Network {
    pub(crate) fn new(settings: [Settings; 2], latency: Duration) -> Self {
        let mut seed = 0;
        let nodes = settings.map(|settings| {
            seed += 1;
            Node {
                session: Session::new(settings, seed),
                up: None,
                ups: 0,
                downs: Vec::new(),
                keepalives_at: Vec::new(),
                listens: true,
                dialling: None,
                events: Vec::new(),
            }
        });
        Self {
            now: Timestamp::default(),
            nodes,
            latency,
            cut: false,
            queue: BTreeMap::new(),
            connections: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn start(&mut self) {
        for node in 0..2 {
            self.event(node, Event::Start);
        }
    }

    pub(crate) fn states(&self) -> [State; 2] {
        [self.nodes[0].session.state(), self.nodes[1].session.state()]
    }

    pub(crate) fn is_established(&self) -> bool {
        self.states() == [State::Established; 2]
    }

    /// The node that made the connection that both use.
    pub(crate) fn established_by(&self) -> usize {
        let numbers = [0, 1].map(|node: usize| self.nodes[node].up.as_ref().unwrap().0);
        assert_eq!(numbers[0], numbers[1], "both use the same connection");
        self.connections[&numbers[0].0].0
    }

    /// Connections that are open at either end.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections
            .values()
            .filter(|(_, open)| open.contains(&true))
            .count()
    }

    pub(crate) fn events_of(&self, node: usize) -> &[(Timestamp, Event)] {
        &self.nodes[node].events
    }

    pub(crate) fn event(&mut self, node: usize, event: Event) -> Vec<Action> {
        self.nodes[node].events.push((self.now, event.clone()));
        let actions = self.nodes[node].session.handle(event, self.now);
        for action in &actions {
            self.act(node, action);
        }
        actions
    }

    fn send(&mut self, to: usize, connection: u64, arrival: Arrival) {
        if !self.cut {
            self.sequence += 1;
            let at = self.now + self.latency;
            self.queue.insert((at, self.sequence), (to, connection, arrival));
        }
    }

    fn act(&mut self, node: usize, action: &Action) {
        match action {
            Action::Connect => {
                self.sequence += 1;
                let connection = self.sequence;
                self.connections.insert(connection, (node, [false; 2]));
                self.nodes[node].dialling = Some(connection);
                self.send(1 - node, connection, Arrival::Syn);
            }
            Action::AbortConnect => {
                if let Some(connection) = self.nodes[node].dialling.take() {
                    self.send(1 - node, connection, Arrival::Fin);
                }
            }
            Action::Send(id, message) => {
                assert!(
                    self.connections[&id.0].1[node],
                    "sent on a closed connection: {message:?}"
                );
                if matches!(message, Outgoing::Keepalive) {
                    let now = self.now;
                    self.nodes[node].keepalives_at.push(now);
                }
                self.send(1 - node, id.0, Arrival::Message(message.clone()));
            }
            Action::Close(id) => {
                self.connections.get_mut(&id.0).unwrap().1[node] = false;
                self.send(1 - node, id.0, Arrival::Fin);
            }
            Action::Opened(..) | Action::Sweep(_) | Action::LongLivedStale(_) => {}
            Action::Up(id, negotiated) => {
                assert!(self.nodes[node].up.is_none(), "up twice");
                self.nodes[node].up = Some((*id, negotiated.clone()));
                self.nodes[node].ups += 1;
            }
            Action::Down { reason, .. } => {
                assert!(self.nodes[node].up.take().is_some(), "down without up");
                self.nodes[node].downs.push(reason.clone());
            }
        }
    }

    fn arrive(&mut self, node: usize, connection: u64, arrival: Arrival) {
        let id = ConnectionId(connection);
        let open = self.connections[&connection].1[node];
        match arrival {
            Arrival::Syn if self.nodes[node].listens => {
                self.connections.get_mut(&connection).unwrap().1[node] = true;
                self.send(1 - node, connection, Arrival::SynAck);
                self.event(node, Event::Accepted(id));
            }
            Arrival::Syn => self.send(1 - node, connection, Arrival::Refused),
            Arrival::SynAck if self.nodes[node].dialling == Some(connection) => {
                self.nodes[node].dialling = None;
                self.connections.get_mut(&connection).unwrap().1[node] = true;
                self.event(node, Event::Connected(id));
            }
            Arrival::Refused if self.nodes[node].dialling == Some(connection) => {
                self.nodes[node].dialling = None;
                self.event(node, Event::ConnectFailed("refused".to_owned()));
            }
            Arrival::SynAck | Arrival::Refused => {}
            Arrival::Message(message) if open => {
                let received = match message {
                    Outgoing::Open(open) => Received::Open(open),
                    Outgoing::Keepalive => Received::Keepalive,
                    Outgoing::Notification(notification) => Received::Notification(notification),
                };
                self.event(node, Event::Received(id, received));
            }
            Arrival::Fin if open => {
                self.connections.get_mut(&connection).unwrap().1[node] = false;
                self.event(node, Event::Closed(id, "closed by the neighbor".to_owned()));
            }
            Arrival::Message(_) | Arrival::Fin => {}
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..EVENTS_MAX {
            let timer = |node: usize| Some((self.nodes[node].session.poll_timeout()?, node));
            let timer = [0, 1].into_iter().filter_map(timer).min();
            let arrival = self.queue.keys().next().copied();
            match (arrival, timer) {
                (Some((at, _)), timer) if at <= end && timer.is_none_or(|(due, _)| at <= due) => {
                    self.now = self.now.max(at);
                    let (_, (node, connection, arrival)) = self.queue.pop_first().unwrap();
                    self.arrive(node, connection, arrival);
                }
                (_, Some((due, node))) if due <= end => {
                    self.now = self.now.max(due);
                    self.event(node, Event::Timer);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        unreachable!("more than {EVENTS_MAX} events");
    }
}
