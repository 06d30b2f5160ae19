//! The thread of all sessions: sockets, clock and randomness.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::event::{Action, Discard, Event, Settings};
use super::session::Session;
use super::socket::{Arrival, Kind, Receiver, Sender, TTL};
use super::status::{SharedCounters, Status, count};
use super::wire::{ControlPacket, Diagnostic, PACKET_MAX_BYTES, State};
use super::{Hops, Notify, Path, sys};
use crate::session::Timestamp;

/// Packets read from one socket before timers are looked at.
const BATCH_PACKETS_MAX: usize = 4096;
/// How long after a failure a receiving socket is opened again.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// What the rest of the process tells the thread. Numbers are of handles.
pub(super) enum Command {
    Open(Box<Opening>),
    Configure {
        number: u64,
        settings: Settings,
    },
    Close {
        number: u64,
    },
    /// Take all sessions down on purpose, and end.
    Stop {
        wait: Duration,
    },
    /// End at once.
    End,
}

/// A session to be.
pub(super) struct Opening {
    pub(super) number: u64,
    pub(super) path: Path,
    pub(super) settings: Settings,
    pub(super) notify: Notify,
    pub(super) status: Arc<Mutex<Status>>,
}

struct Entry {
    /// Of the handle that it belongs to.
    number: u64,
    path: Path,
    session: Session,
    notify: Notify,
    status: Arc<Mutex<Status>>,
    sender: Option<Sender>,
    /// Why nothing can be sent.
    send_error: Option<String>,
    /// Why nothing can be received.
    receive_error: Option<String>,
    /// As it stands in the driver's timers.
    deadline: Option<Timestamp>,
    /// Taken down on purpose: it goes once the other side knows, or at this time.
    leaves_at: Option<Timestamp>,
}

impl Entry {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kind(&self) -> Kind {
        Kind {
            is_v6: self.path.remote.is_ipv6(),
            is_multihop: self.path.is_multihop(),
        }
    }

    /// Whether a packet came the way that this session's packets come.
    fn expects(&self, arrival: &Arrival) -> bool {
        match self.path.hops {
            Hops::Single => !arrival.is_multihop,
            Hops::Multi { minimum_ttl } => {
                arrival.is_multihop && minimum_ttl.is_none_or(|least| arrival.ttl >= least)
            }
        }
    }

    /// RFC 5881 section 3: whether a packet that names no session of ours is for this one.
    fn is_addressed(&self, arrival: &Arrival) -> bool {
        self.path.remote == arrival.remote
            && self.path.is_multihop() == arrival.is_multihop
            && self.path.interface.is_none_or(|index| index == arrival.interface)
            && self.path.local.is_none_or(|local| local == arrival.local)
    }

    fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => Sender::open(
                self.path.remote,
                self.path.interface,
                self.path.local,
                self.path.is_multihop(),
                rand::random(),
            )?,
        };
        sender.send(octets)?;
        // After an error the next packet comes from a new socket: the address may have come back.
        self.sender = Some(sender);
        Ok(())
    }
}

pub(super) struct Driver {
    commands: mpsc::Receiver<Command>,
    wake: Arc<EventFd>,
    counters: Arc<SharedCounters>,
    epoch: Instant,
    /// By our discriminator.
    sessions: HashMap<u32, Entry>,
    timers: BTreeSet<(Timestamp, u32)>,
    receivers: HashMap<Kind, Receiver>,
    /// A socket for receiving could not be opened: when to try again.
    retry_at: Option<Timestamp>,
    /// No more than this is left of our life.
    ends_at: Option<Timestamp>,
}

impl Driver {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        wake: Arc<EventFd>,
        counters: Arc<SharedCounters>,
    ) -> Self {
        Self {
            commands,
            wake,
            counters,
            epoch: Instant::now(),
            sessions: HashMap::new(),
            timers: BTreeSet::new(),
            receivers: HashMap::new(),
            retry_at: None,
            ends_at: None,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.epoch.elapsed())
    }

    pub(super) fn run(mut self) {
        if let Err(error) = sys::raise_priority() {
            tracing::info!(%error, "BFD runs at ordinary priority: a busy host may miss its deadlines");
        }
        loop {
            if let Err(error) = self.wait() {
                tracing::error!(%error, "BFD cannot wait for packets and has stopped");
                return;
            }
            // Packets first: what has come in time is not late because this thread was.
            self.receive();
            if self.obey()
                || self
                    .ends_at
                    .is_some_and(|at| at <= self.now() || self.sessions.is_empty())
            {
                return;
            }
            self.timers();
        }
    }

    /// Until a packet, a command or a deadline is there.
    fn wait(&self) -> io::Result<()> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let deadline = [timer, self.retry_at, self.ends_at].into_iter().flatten().min();
        let timeout = deadline.map(|at| TimeSpec::from(at.0.saturating_sub(self.epoch.elapsed())));
        let mut polled: Vec<PollFd<'_>> = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let receivers = self.receivers.values();
        polled.extend(receivers.map(|receiver| PollFd::new(receiver.as_fd(), PollFlags::POLLIN)));
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self) {
        let mut receivers = std::mem::take(&mut self.receivers);
        receivers.retain(|kind, receiver| {
            let mut buffer = [0; PACKET_MAX_BYTES];
            for _ in 0..BATCH_PACKETS_MAX {
                match receiver.receive(&mut buffer) {
                    Ok(Some((octets, arrival))) => self.received(octets, &arrival),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(?kind, %error, "BFD cannot receive; the port is opened again");
                        self.retry_at = Some(self.now() + RETRY_TIME);
                        return false;
                    }
                }
            }
            true
        });
        self.receivers = receivers;
    }

    fn received(&mut self, octets: &[u8], arrival: &Arrival) {
        // RFC 5881 section 5: whoever is not on the link cannot send this.
        if !arrival.is_multihop && arrival.ttl != TTL {
            return count(&self.counters.discarded_distant);
        }
        let Ok(packet) = ControlPacket::decode(octets) else {
            return count(&self.counters.discarded_malformed);
        };
        let Some(discriminator) = self.find(&packet, arrival) else {
            return count(&self.counters.discarded_unknown);
        };
        count(&self.counters.packets_received);
        if let Some(entry) = self.sessions.get(&discriminator) {
            entry.status().packets_received += 1;
        }
        self.handle(discriminator, Event::Received(packet));
    }

    /// RFC 5880 section 6.8.6: the session by Your Discriminator, or if that is zero by where it came from.
    fn find(&self, packet: &ControlPacket, arrival: &Arrival) -> Option<u32> {
        let named = packet.your_discriminator;
        if named != 0 {
            let entry = self.sessions.get(&named)?;
            return entry.expects(arrival).then_some(named);
        }
        let mut addressed = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.is_addressed(arrival) && entry.expects(arrival));
        addressed.next().map(|(discriminator, _)| *discriminator)
    }

    fn handle(&mut self, discriminator: u32, event: Event) {
        let now = self.now();
        let Some(entry) = self.sessions.get_mut(&discriminator) else {
            return;
        };
        for action in entry.session.handle(event, now) {
            act(entry, &self.counters, action);
        }
        publish(entry);
        let is_known = matches!(entry.session.remote_state(), State::Down | State::AdminDown);
        if entry.leaves_at.is_some_and(|at| at <= now || is_known) {
            return self.remove(discriminator);
        }
        let next = [entry.session.poll_timeout(), entry.leaves_at]
            .into_iter()
            .flatten()
            .min();
        if entry.deadline != next {
            if let Some(at) = std::mem::replace(&mut entry.deadline, next) {
                self.timers.remove(&(at, discriminator));
            }
            self.timers.extend(next.map(|at| (at, discriminator)));
        }
    }

    fn remove(&mut self, discriminator: u32) {
        if let Some(entry) = self.sessions.remove(&discriminator)
            && let Some(at) = entry.deadline
        {
            self.timers.remove(&(at, discriminator));
        }
        // A port that nobody needs is left to others.
        let needed: Vec<Kind> = self.sessions.values().map(Entry::kind).collect();
        self.receivers.retain(|kind, _| needed.contains(kind));
    }

    fn timers(&mut self) {
        let now = self.now();
        // Each once: a session that is due again at once does not keep the others waiting.
        let due: Vec<u32> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, discriminator)| *discriminator)
            .collect();
        for discriminator in due {
            self.handle(discriminator, Event::Timer);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.open_receivers();
        }
    }

    /// Carries out what is in the inbox; whether to end.
    fn obey(&mut self) -> bool {
        // Nothing is lost if it cannot be read: the inbox is looked at in any case.
        let _ = self.wake.read();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(opening)) => self.open(*opening),
                Ok(Command::Configure { number, settings }) => {
                    if let Some(discriminator) = self.of_handle(number) {
                        self.handle(discriminator, Event::Configure(settings));
                    }
                }
                Ok(Command::Close { number }) => {
                    if let Some(discriminator) = self.of_handle(number) {
                        self.leave(discriminator);
                    }
                }
                Ok(Command::Stop { wait }) => {
                    self.ends_at = Some(self.now() + wait);
                    for discriminator in self.sessions.keys().copied().collect::<Vec<_>>() {
                        self.leave(discriminator);
                    }
                }
                Ok(Command::End) | Err(mpsc::TryRecvError::Disconnected) => return true,
                Err(mpsc::TryRecvError::Empty) => return false,
            }
        }
    }

    fn of_handle(&self, number: u64) -> Option<u32> {
        let mut owned = self.sessions.iter().filter(|(_, entry)| entry.number == number);
        owned.next().map(|(discriminator, _)| *discriminator)
    }

    fn open(&mut self, opening: Opening) {
        let same = |(_, entry): &(&u32, &Entry)| entry.path.is_same(&opening.path);
        let discriminator = match self.sessions.iter().find(same).map(|(known, _)| *known) {
            Some(known) => {
                self.take_over(known, opening);
                known
            }
            None => self.begin(opening),
        };
        self.open_receivers();
        // What is due at once is sent at once.
        self.handle(discriminator, Event::Timer);
    }

    fn begin(&mut self, opening: Opening) -> u32 {
        let discriminator = loop {
            let candidate: u32 = rand::random();
            if candidate != 0 && !self.sessions.contains_key(&candidate) {
                break candidate;
            }
        };
        let session = Session::new(opening.settings, discriminator, rand::random(), self.now());
        self.sessions.insert(
            discriminator,
            Entry {
                number: opening.number,
                path: opening.path,
                session,
                notify: opening.notify,
                status: opening.status,
                sender: None,
                send_error: None,
                receive_error: None,
                deadline: None,
                leaves_at: None,
            },
        );
        discriminator
    }

    fn take_over(&mut self, discriminator: u32, opening: Opening) {
        if let Some(entry) = self.sessions.get_mut(&discriminator) {
            if entry.path != opening.path {
                entry.sender = None;
            }
            let (since, failures) = {
                let status = entry.status();
                (status.since, status.failures)
            };
            entry.number = opening.number;
            entry.path = opening.path;
            entry.notify = opening.notify;
            entry.status = opening.status;
            entry.leaves_at = None;
            let mut status = entry.status();
            (status.since, status.failures) = (since, failures);
        }
        self.handle(discriminator, Event::Configure(opening.settings));
        self.handle(discriminator, Event::Enable);
    }

    /// RFC 5880 section 6.8.16: AdminDown is sent for a detection time, unless the other side says sooner
    /// that it knows.
    fn leave(&mut self, discriminator: u32) {
        let now = self.now();
        let Some(entry) = self.sessions.get_mut(&discriminator) else {
            return;
        };
        let is_heard = entry.session.remote_discriminator() != 0;
        let time = if is_heard {
            entry.session.remote_detection_time()
        } else {
            Duration::ZERO
        };
        entry.leaves_at = Some(now + time);
        self.handle(discriminator, Event::Disable);
    }

    fn open_receivers(&mut self) {
        let needed: Vec<Kind> = self.sessions.values().map(Entry::kind).collect();
        for kind in needed {
            if self.receivers.contains_key(&kind) {
                continue;
            }
            let error = match Receiver::open(kind) {
                Ok(receiver) => {
                    self.receivers.insert(kind, receiver);
                    None
                }
                Err(error) => {
                    self.retry_at = Some(self.now() + RETRY_TIME);
                    Some(format!(
                        "cannot receive: {error}; does another BFD daemon run here?"
                    ))
                }
            };
            for entry in self.sessions.values_mut().filter(|entry| entry.kind() == kind) {
                log_new(entry, &entry.receive_error, &error);
                entry.receive_error.clone_from(&error);
            }
        }
    }
}

fn act(entry: &mut Entry, counters: &SharedCounters, action: Action) {
    match action {
        Action::Send(octets) => match entry.send(&octets) {
            Ok(()) => {
                count(&counters.packets_sent);
                entry.status().packets_sent += 1;
                entry.send_error = None;
            }
            Err(error) => {
                let error = Some(format!("cannot send: {error}"));
                log_new(entry, &entry.send_error, &error);
                entry.send_error = error;
            }
        },
        Action::Discarded(why) => {
            count(match why {
                Discard::Authentication => &counters.discarded_unauthentic,
                Discard::AdminDown => &counters.discarded_admin_down,
            });
            entry.status().packets_discarded += 1;
        }
        Action::Changed(change) => {
            count(&counters.state_changes);
            match (change.from, change.to) {
                (State::Up, _) => counters.sessions_up.fetch_sub(1, Ordering::Relaxed),
                (_, State::Up) => counters.sessions_up.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
            if change.diagnostic == Diagnostic::DETECTION_TIME_EXPIRED {
                count(&counters.detection_timeouts);
            }
            {
                let mut status = entry.status();
                status.since = SystemTime::now();
                status.failures += u64::from(change.is_failure());
            }
            // Whoever acts on it comes before the log.
            (entry.notify)(change);
            tracing::info!(
                neighbor = %entry.path.remote,
                from = %change.from,
                to = %change.to,
                diagnostic = %change.diagnostic,
                remote = %change.remote_state,
                "BFD session"
            );
        }
    }
}

/// Logs an error unless it is the one before it.
fn log_new(entry: &Entry, before: &Option<String>, now: &Option<String>) {
    if let Some(error) = now.as_ref().filter(|_| before != now) {
        tracing::warn!(neighbor = %entry.path.remote, %error, "BFD");
    }
}

fn publish(entry: &Entry) {
    let session = &entry.session;
    let mut status = entry.status();
    status.state = session.state();
    status.diagnostic = session.diagnostic();
    status.remote_state = session.remote_state();
    status.discriminator = session.discriminator();
    status.remote_discriminator = session.remote_discriminator();
    status.is_remote_control_plane_independent = session.is_remote_control_plane_independent();
    status.transmit_interval = session.transmit_interval();
    status.detection_time = session.detection_time();
    status.error = entry
        .receive_error
        .as_ref()
        .or(entry.send_error.as_ref())
        .cloned();
}
