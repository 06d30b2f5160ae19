//! All peers of the daemon, driven by one thread.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::fabric::Fabric;
use crate::message;
use crate::peer::{Peer, PeerIdentity, Written};

/// What all peers read into, one after the other.
const BUFFER_BYTES: usize = 512 * 1024;
/// Most events taken at a time.
const EVENTS_MAX: usize = 256;
/// Longest wait for events: deadlines and keepalives are looked at this often.
const TICK_MS: u8 = 20;
/// How often each peer sends a KEEPALIVE: a third of the shortest hold time there is.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time until every session is established.
const ESTABLISH_TIME: Duration = Duration::from_secs(60);
/// Pause before connecting again.
const RETRY_TIME: Duration = Duration::from_millis(100);

/// The end of a session.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) peer: PeerIdentity,
    pub(crate) reason: String,
}

pub(crate) struct Fleet {
    epoll: Epoll,
    pub(crate) peers: Vec<Peer>,
    buffer: Box<[u8]>,
    keepalive: Arc<[u8]>,
    keepalives_due: Instant,
    /// Sessions that have ended.
    pub(crate) losses: Vec<Loss>,
}

impl Fleet {
    /// Connects all peers and waits until their sessions are established.
    pub(crate) fn establish(fabric: &Fabric, identities: &[PeerIdentity]) -> anyhow::Result<Self> {
        let deadline = Instant::now() + ESTABLISH_TIME;
        let connect_all = || {
            identities
                .iter()
                .map(|identity| connect(*identity, deadline))
                .collect()
        };
        let peers: Vec<Peer> = fabric.peers.inside::<anyhow::Result<_>>(connect_all)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (index, peer) in peers.iter().enumerate() {
            epoll.add(
                peer.stream.as_fd(),
                EpollEvent::new(EpollFlags::EPOLLIN, index as u64),
            )?;
        }
        let mut fleet = Self {
            epoll,
            peers,
            buffer: vec![0; BUFFER_BYTES].into(),
            keepalive: message::keepalive().into(),
            keepalives_due: Instant::now(),
            losses: Vec::new(),
        };
        while !fleet.peers.iter().all(Peer::is_established) {
            fleet.turn()?;
            fleet.reconnect(fabric, deadline)?;
            if Instant::now() > deadline {
                let up = fleet.peers.iter().filter(|peer| peer.is_established()).count();
                let all = fleet.peers.len();
                bail!("{up} of {all} sessions established within {ESTABLISH_TIME:?}");
            }
        }
        Ok(fleet)
    }

    /// Connects peers again whose connection was refused: a daemon may listen before it is ready.
    fn reconnect(&mut self, fabric: &Fabric, deadline: Instant) -> anyhow::Result<()> {
        if self.losses.is_empty() {
            return Ok(());
        }
        std::thread::sleep(RETRY_TIME);
        self.losses.clear();
        for (index, peer) in self.peers.iter_mut().enumerate().filter(|(_, peer)| peer.is_lost) {
            *peer = fabric.peers.inside(|| connect(peer.identity, deadline))?;
            self.epoll.add(
                peer.stream.as_fd(),
                EpollEvent::new(EpollFlags::EPOLLIN, index as u64),
            )?;
        }
        Ok(())
    }

    /// Has a peer write octets.
    pub(crate) fn send(&mut self, index: usize, octets: Arc<[u8]>) -> anyhow::Result<()> {
        self.peers[index].enqueue(octets);
        self.write(index)
    }

    /// Runs until `done`, and says whether it was before the deadline. The end of any session is an error.
    pub(crate) fn run_until(
        &mut self,
        deadline: Instant,
        mut done: impl FnMut(&Self) -> bool,
    ) -> anyhow::Result<bool> {
        loop {
            self.turn()?;
            if let Some(loss) = self.losses.first() {
                bail!("the session of {} ended: {}", loss.peer.address, loss.reason);
            }
            if done(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Runs for a time.
    pub(crate) fn run_for(&mut self, time: Duration) -> anyhow::Result<()> {
        self.run_until(Instant::now() + time, |_| false).map(drop)
    }

    /// Reads and writes what can be read and written now, waiting a moment for it.
    pub(crate) fn turn(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(TICK_MS)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        for event in &events[..count] {
            let index = event.data() as usize;
            if event
                .events()
                .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                && let Err(error) = self.peers[index].read(&mut self.buffer, now)
            {
                self.lose(index, format!("{error:#}"))?;
                continue;
            }
            if !self.peers[index].has_written_all() {
                self.write(index)?;
            }
        }
        if now >= self.keepalives_due {
            self.keepalives_due = now + KEEPALIVE_INTERVAL;
            for index in 0..self.peers.len() {
                // Where octets wait, there are messages on their way.
                let peer = &self.peers[index];
                if peer.is_established() && peer.has_written_all() && !peer.is_lost {
                    self.send(index, Arc::clone(&self.keepalive))?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, index: usize) -> anyhow::Result<()> {
        let peer = &mut self.peers[index];
        let waited = peer.waits_for_room;
        match peer.write() {
            Ok(written) => peer.waits_for_room = written != Written::All,
            Err(error) => return self.lose(index, error.to_string()),
        }
        if peer.waits_for_room != waited {
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, peer.waits_for_room);
            let mut event = EpollEvent::new(flags, index as u64);
            self.epoll.modify(peer.stream.as_fd(), &mut event)?;
        }
        Ok(())
    }

    fn lose(&mut self, index: usize, reason: String) -> anyhow::Result<()> {
        let peer = &mut self.peers[index];
        if std::mem::replace(&mut peer.is_lost, true) {
            return Ok(());
        }
        self.epoll.delete(peer.stream.as_fd())?;
        self.losses.push(Loss {
            peer: peer.identity,
            reason,
        });
        Ok(())
    }
}

fn connect(identity: PeerIdentity, deadline: Instant) -> anyhow::Result<Peer> {
    loop {
        if let Some(peer) = Peer::connect(identity)? {
            return Ok(peer);
        }
        if Instant::now() > deadline {
            bail!("the daemon does not listen within {ESTABLISH_TIME:?}");
        }
        std::thread::sleep(RETRY_TIME);
    }
}
