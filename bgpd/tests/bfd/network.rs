//! Two sessions and a network between them that loses and delays packets, in simulated time.

use std::collections::VecDeque;
use std::time::Duration;

use bgpd::bfd::{Action, ControlPacket, Event, Session, Settings, State, StateChange};
use bgpd::session::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Events in one run, so that a loop without progress ends.
const EVENTS_MAX: usize = 2_000_000;

/// What is on its way.
#[derive(Clone, Debug)]
struct InFlight {
    arrives: Timestamp,
    to: usize,
    octets: Vec<u8>,
}

/// How a direction behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Packets lost, in percent.
    pub(crate) loss_percent: u32,
    /// Longest delay; each packet's is random, but none overtakes another.
    pub(crate) delay_max: Duration,
}

impl Link {
    pub(crate) const GOOD: Self = Self {
        loss_percent: 0,
        delay_max: Duration::from_millis(1),
    };
    pub(crate) const DEAD: Self = Self {
        loss_percent: 100,
        delay_max: Duration::ZERO,
    };
}

/// The pair. Session 0 sends over link 0, session 1 over link 1.
pub(crate) struct Network {
    pub(crate) now: Timestamp,
    pub(crate) sessions: [Session; 2],
    pub(crate) links: [Link; 2],
    /// All changes of state, with the session's number.
    pub(crate) changes: Vec<(Timestamp, usize, StateChange)>,
    /// Packets sent by each.
    pub(crate) sent: [u64; 2],
    in_flight: [VecDeque<InFlight>; 2],
    random: SmallRng,
}

impl Network {
    pub(crate) fn new(settings: [Settings; 2], seed: u64) -> Self {
        let [first, second] = settings;
        let start = Timestamp::default();
        Self {
            now: start,
            sessions: [
                Session::new(first, 1, seed, start),
                Session::new(second, 2, !seed, start),
            ],
            links: [Link::GOOD; 2],
            changes: Vec::new(),
            sent: [0; 2],
            in_flight: [VecDeque::new(), VecDeque::new()],
            random: SmallRng::seed_from_u64(seed),
        }
    }

    pub(crate) fn states(&self) -> [State; 2] {
        [self.sessions[0].state(), self.sessions[1].state()]
    }

    pub(crate) fn tell(&mut self, session: usize, event: Event) {
        for action in self.sessions[session].handle(event, self.now) {
            match action {
                Action::Send(octets) => self.send(session, octets),
                Action::Changed(change) => self.changes.push((self.now, session, change)),
                Action::Discarded(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, octets: Vec<u8>) {
        self.sent[from] += 1;
        let link = self.links[from];
        if self.random.random_range(0..100) < link.loss_percent {
            return;
        }
        let delay = link.delay_max.mul_f64(self.random.random_range(0.0..1.0));
        let last = self.in_flight[from]
            .back()
            .map_or(self.now, |packet| packet.arrives);
        self.in_flight[from].push_back(InFlight {
            arrives: last.max(self.now + delay),
            to: 1 - from,
            octets,
        });
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..EVENTS_MAX {
            let timers = [0, 1].map(|session: usize| self.sessions[session].poll_timeout());
            let arrivals =
                [0, 1].map(|link: usize| self.in_flight[link].front().map(|packet| packet.arrives));
            let Some(next) = timers
                .into_iter()
                .chain(arrivals)
                .flatten()
                .min()
                .filter(|at| *at <= end)
            else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some(link) = [0, 1].into_iter().find(|link| arrivals[*link] == Some(next)) {
                let packet = self.in_flight[link].pop_front().unwrap();
                let received = ControlPacket::decode(&packet.octets).unwrap();
                self.tell(packet.to, Event::Received(received));
            } else if let Some(session) = [0, 1].into_iter().find(|session| timers[*session] == Some(next)) {
                self.tell(session, Event::Timer);
            }
        }
        panic!("no progress at {:?}", self.now);
    }
}
