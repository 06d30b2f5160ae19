//! One BFD session in Asynchronous mode (RFC 5880 section 6), without I/O or clock.

use std::time::Duration;

use super::event::{Action, Discard, Event, Settings, StateChange};
use super::wire::{ControlPacket, Diagnostic, State};
use crate::session::Timestamp;
use crate::session::jitter::Jitter;

/// Shortest bfd.DesiredMinTxInterval of a session that is not Up (RFC 5880 section 6.8.3).
pub const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// What the other side said last (RFC 5880 section 6.8.1), with the initial values of that section.
#[derive(Clone, Debug)]
struct Remote {
    discriminator: u32,
    state: State,
    desired_min_tx: Duration,
    /// Zero for no periodic packets.
    min_rx: Duration,
    detect_multiplier: u8,
    demand: bool,
    control_plane_independent: bool,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            discriminator: 0,
            state: State::Down,
            desired_min_tx: Duration::ZERO,
            min_rx: Duration::from_micros(1),
            detect_multiplier: 0,
            demand: false,
            control_plane_independent: false,
        }
    }
}

/// bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Intervals {
    desired_min_tx: Duration,
    required_min_rx: Duration,
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    jitter: Jitter,
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// What our packets say.
    advertised: Intervals,
    /// What we act on: until a Poll Sequence ends, what the other side may still count on.
    in_use: Intervals,
    /// A Poll Sequence is under way.
    polling: bool,
    /// Settings that wait for its end, because its answer would not be about them.
    queued: Option<Settings>,
    /// When the next periodic packet is due.
    send_at: Option<Timestamp>,
    /// When a valid packet came last, while the other side's discriminator is known.
    received_at: Option<Timestamp>,
    /// bfd.XmitAuthSeq.
    sequence: u32,
    /// bfd.RcvAuthSeq, while bfd.AuthSeqKnown, and when it came.
    remote_sequence: Option<(u32, Timestamp)>,
}

impl Session {
    /// A session in state Down that begins at `now`. `discriminator` is our name of it, unique among our
    /// sessions and not zero. Equal seeds give equal jitter and sequence numbers.
    pub fn new(settings: Settings, discriminator: u32, seed: u64, now: Timestamp) -> Self {
        let intervals = Intervals {
            desired_min_tx: settings.desired_min_tx.max(SLOW_INTERVAL),
            required_min_rx: settings.required_min_rx,
        };
        let mut session = Self {
            jitter: Jitter::new(seed),
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::default(),
            advertised: intervals,
            in_use: intervals,
            polling: false,
            queued: None,
            send_at: None,
            received_at: None,
            sequence: (seed >> 16) as u32,
            remote_sequence: None,
            settings,
        };
        session.send_at = session.sends_periodically().then_some(now);
        session
    }

    /// bfd.SessionState.
    pub const fn state(&self) -> State {
        self.state
    }

    /// bfd.LocalDiag: why the state changed last.
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// bfd.RemoteSessionState.
    pub const fn remote_state(&self) -> State {
        self.remote.state
    }

    /// bfd.LocalDiscr.
    pub const fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// bfd.RemoteDiscr, zero if not known.
    pub const fn remote_discriminator(&self) -> u32 {
        self.remote.discriminator
    }

    /// The C bit of the other side: its BFD goes on while its control plane does not.
    pub const fn is_remote_control_plane_independent(&self) -> bool {
        self.remote.control_plane_independent
    }

    /// The longest distance between two packets that we send, before jitter (RFC 5880 section 6.8.7).
    pub fn transmit_interval(&self) -> Duration {
        self.in_use.desired_min_tx.max(self.remote.min_rx)
    }

    /// How long we may hear nothing until the session is Down (RFC 5880 section 6.8.4); zero while nothing
    /// was heard.
    pub fn detection_time(&self) -> Duration {
        let interval = self.in_use.required_min_rx.max(self.remote.desired_min_tx);
        interval.saturating_mul(self.remote.detect_multiplier.into())
    }

    /// How long the other side hears nothing until its session is Down, going by what it was told.
    pub fn remote_detection_time(&self) -> Duration {
        self.transmit_interval()
            .saturating_mul(self.settings.detect_multiplier.into())
    }

    /// When [`Event::Timer`] is due.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.send_at, self.detect_at()].into_iter().flatten().min()
    }

    /// Takes an event and says what to do.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Received(packet) => self.received(&packet, now, &mut out),
            Event::Timer => self.timer(now, &mut out),
            Event::Configure(settings) => self.configure(settings, now),
            Event::Disable => {
                self.transition(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now, &mut out);
            }
            Event::Enable if self.state == State::AdminDown => {
                // Whatever the other side said before may be old by now.
                self.remote = Remote::default();
                self.received_at = None;
                self.transition(State::Down, Diagnostic::NONE, now, &mut out);
            }
            Event::Enable => {}
        }
        out
    }

    fn detect_at(&self) -> Option<Timestamp> {
        self.received_at.map(|at| at + self.detection_time())
    }

    /// RFC 5880 section 6.8.6, from the authentication on.
    fn received(&mut self, packet: &ControlPacket, now: Timestamp, out: &mut Vec<Action>) {
        if !self.is_authentic(packet, now) {
            return out.push(Action::Discarded(Discard::Authentication));
        }
        self.remote = Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            desired_min_tx: Duration::from_micros(packet.desired_min_tx_us.into()),
            min_rx: Duration::from_micros(packet.required_min_rx_us.into()),
            detect_multiplier: packet.detect_multiplier,
            demand: packet.demand,
            control_plane_independent: packet.control_plane_independent,
        };
        if packet.is_final && self.polling {
            self.finish_poll(now);
        }
        if self.state == State::AdminDown {
            self.schedule(now);
            return out.push(Action::Discarded(Discard::AdminDown));
        }
        self.received_at = Some(now);
        let (next, diagnostic) = match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN)
            }
            (State::Down, State::Down) => (State::Init, self.diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                (State::Up, Diagnostic::NONE)
            }
            (state, _) => (state, self.diagnostic),
        };
        self.transition(next, diagnostic, now, out);
        if packet.poll {
            self.send(true, out);
        }
        self.schedule(now);
    }

    /// RFC 5880 section 6.8.6: A bit and bfd.AuthType have to agree, then section 6.7.4 decides.
    fn is_authentic(&mut self, packet: &ControlPacket, now: Timestamp) -> bool {
        let Some(authentication) = &self.settings.authentication else {
            return packet.authentication.is_none();
        };
        // Section 6.8.1: bfd.AuthSeqKnown ends after two detection times.
        let known = self
            .remote_sequence
            .filter(|(_, at)| now < *at + self.detection_time().saturating_mul(2));
        let Some(sequence) = authentication.accept(packet, known.map(|(sequence, _)| sequence)) else {
            return false;
        };
        self.remote_sequence = Some((sequence, now));
        true
    }

    fn timer(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.detect_at().is_some_and(|at| at <= now) {
            // Section 6.8.1: bfd.RemoteDiscr is forgotten after a detection time.
            self.received_at = None;
            self.remote = Remote {
                control_plane_independent: self.remote.control_plane_independent,
                ..Remote::default()
            };
            if matches!(self.state, State::Init | State::Up) {
                self.transition(State::Down, Diagnostic::DETECTION_TIME_EXPIRED, now, out);
            }
            self.schedule(now);
        }
        if self.send_at.is_some_and(|at| at <= now) {
            self.send(false, out);
            self.send_at = None;
            self.schedule(now);
        }
    }

    fn transition(&mut self, to: State, diagnostic: Diagnostic, now: Timestamp, out: &mut Vec<Action>) {
        let from = self.state;
        if to == from {
            return;
        }
        self.state = to;
        self.diagnostic = diagnostic;
        out.push(Action::Changed(StateChange {
            from,
            to,
            diagnostic,
            remote_state: self.remote.state,
            is_remote_control_plane_independent: self.remote.control_plane_independent,
        }));
        if from == State::Up {
            // A Poll Sequence was about the session that ended.
            self.polling = false;
            if let Some(settings) = self.queued.take() {
                self.settings = settings;
            }
        }
        self.update_intervals();
        // Section 6.8.7: a packet that says something new goes out between the periodic ones.
        if self.sends_periodically() {
            self.send(false, out);
            self.send_at = None;
        }
        self.schedule(now);
    }

    fn configure(&mut self, settings: Settings, now: Timestamp) {
        if self.polling {
            self.queued = Some(settings);
            return;
        }
        if settings.authentication != self.settings.authentication {
            self.remote_sequence = None;
        }
        self.settings = settings;
        self.update_intervals();
        self.schedule(now);
    }

    /// Advertises the intervals that settings and state demand (RFC 5880 section 6.8.3).
    fn update_intervals(&mut self) {
        let desired = self.settings.desired_min_tx;
        let wanted = Intervals {
            desired_min_tx: if self.state == State::Up {
                desired
            } else {
                desired.max(SLOW_INTERVAL)
            },
            required_min_rx: self.settings.required_min_rx,
        };
        if self.state != State::Up {
            (self.advertised, self.in_use) = (wanted, wanted);
            return;
        }
        if wanted == self.advertised {
            return;
        }
        self.advertised = wanted;
        self.polling = true;
        // Until the other side knows, we send no less often than it expects, and expect no more than it sends.
        self.in_use = Intervals {
            desired_min_tx: self.in_use.desired_min_tx.min(wanted.desired_min_tx),
            required_min_rx: self.in_use.required_min_rx.max(wanted.required_min_rx),
        };
    }

    fn finish_poll(&mut self, now: Timestamp) {
        self.polling = false;
        self.in_use = self.advertised;
        if let Some(settings) = self.queued.take() {
            self.configure(settings, now);
        }
    }

    /// Whether packets go out without being asked for (RFC 5880 section 6.8.7).
    fn sends_periodically(&self) -> bool {
        let is_unheard_passive = self.settings.passive && self.remote.discriminator == 0;
        // Demand mode, where the other side asks for it: we only answer.
        let is_demanded =
            self.remote.demand && self.state == State::Up && self.remote.state == State::Up && !self.polling;
        !is_unheard_passive && !is_demanded && !self.remote.min_rx.is_zero()
    }

    /// Sees to it that the next periodic packet is neither missing nor further away than the interval.
    fn schedule(&mut self, now: Timestamp) {
        if !self.sends_periodically() {
            self.send_at = None;
            return;
        }
        let interval = self.transmit_interval();
        if self.send_at.is_none_or(|at| at > now + interval) {
            // Section 6.8.7: up to a quarter less; with a multiplier of one, at least a tenth less.
            let most = if self.settings.detect_multiplier == 1 {
                90
            } else {
                100
            };
            self.send_at = Some(now + self.jitter.within(interval, 75..=most));
        }
    }

    fn send(&mut self, is_final: bool, out: &mut Vec<Action>) {
        let micros = |interval: Duration| u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        let packet = ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            // Section 6.8.7: never both.
            poll: self.polling && !is_final,
            is_final,
            // This process is the control plane.
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.settings.detect_multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_us: micros(self.advertised.desired_min_tx),
            required_min_rx_us: micros(self.advertised.required_min_rx),
            required_min_echo_rx_us: micros(self.settings.required_min_echo_rx),
            authentication: None,
        };
        let packet = match &self.settings.authentication {
            Some(authentication) => {
                self.sequence = self.sequence.wrapping_add(1);
                authentication.sign(packet, self.sequence)
            }
            None => packet,
        };
        out.push(Action::Send(packet.encode()));
    }
}
