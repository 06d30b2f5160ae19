//! Bidirectional Forwarding Detection: whether packets pass between us and a neighbour, known within a few
//! packets' time (RFC 5880), over one hop (RFC 5881) or several (RFC 5883).
//!
//! [`wire`] is the codec and [`Session`] the state machine, both without I/O. [`Bfd`] is the shell around
//! them: one thread of raised priority with its own poll loop, so that BFD waits neither for routes nor for
//! BGP sessions. Asynchronous mode only; Echo packets are not sent.

mod authentication;
mod driver;
mod event;
mod session;
mod socket;
mod status;
mod sys;
pub mod wire;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

pub use authentication::{Authentication, KEY_MAX_BYTES};
use driver::{Command, Driver, Opening};
pub use event::{Action, Discard, Event, Settings, StateChange};
pub use session::{SLOW_INTERVAL, Session};
pub use socket::{PORT_MULTIHOP, PORT_SINGLE_HOP};
use status::SharedCounters;
pub use status::{Counters, Status};
pub use wire::{ControlPacket, Diagnostic, State};

/// Where a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other side's address.
    pub remote: IpAddr,
    /// The interface's index, where the address alone does not say it: for link-local ones.
    pub interface: Option<u32>,
    /// Our address; without it, the kernel's choice.
    pub local: Option<IpAddr>,
    /// How far it is.
    pub hops: Hops,
}

/// How far the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// Perhaps behind routers (RFC 5883).
    Multi {
        /// The least TTL or hop limit to accept, if packets have to come from near (RFC 5082).
        minimum_ttl: Option<u8>,
    },
}

impl Path {
    /// Whether the other side may be behind routers.
    pub const fn is_multihop(&self) -> bool {
        matches!(self.hops, Hops::Multi { .. })
    }

    /// Whether two paths cannot have a session each, because their first packets look the same.
    fn is_same(&self, other: &Self) -> bool {
        let key = |path: &Self| (path.remote, path.interface, path.is_multihop());
        key(self) == key(other)
    }
}

/// What is called, in BFD's own thread, when a session changes its state. It must not wait for anything.
pub type Notify = Box<dyn Fn(StateChange) + Send>;

/// The sessions of a process. Clones are the same; with the last one they end without a word.
#[derive(Clone)]
pub struct Bfd(Arc<Inner>);

impl std::fmt::Debug for Bfd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bfd").finish_non_exhaustive()
    }
}

struct Inner {
    inbox: Inbox,
    counters: Arc<SharedCounters>,
    numbers: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.inbox.send(Command::End);
    }
}

/// The way into the thread.
#[derive(Clone)]
struct Inbox {
    commands: mpsc::Sender<Command>,
    wake: Arc<EventFd>,
}

impl Inbox {
    /// Once the thread has ended, there is nobody to tell.
    fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // It fails only when the counter is full, and then the thread is awake.
            let _ = self.wake.write(1);
        }
    }
}

impl Bfd {
    /// Starts the thread, in the caller's network namespace. Ports are opened with the first session that
    /// needs them.
    pub fn start() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let (commands, inbox) = mpsc::channel();
        let counters = Arc::new(SharedCounters::default());
        let driver = Driver::new(inbox, Arc::clone(&wake), Arc::clone(&counters));
        let thread = std::thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || driver.run())?;
        Ok(Self(Arc::new(Inner {
            inbox: Inbox { commands, wake },
            counters,
            numbers: AtomicU64::new(0),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Opens a session. One that is open already on the same path goes over to the new handle as it is, with
    /// the new settings: whoever had it is told nothing more.
    pub fn open(&self, path: Path, settings: Settings, notify: Notify) -> Handle {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        let status = Arc::new(Mutex::new(Status::new(path)));
        self.0.inbox.send(Command::Open(Box::new(Opening {
            number,
            path,
            settings,
            notify,
            status: Arc::clone(&status),
        })));
        Handle {
            number,
            status,
            inbox: self.0.inbox.clone(),
        }
    }

    /// What has happened since the start.
    pub fn counters(&self) -> Counters {
        self.0.counters.read()
    }

    /// Takes all sessions down on purpose, so that the other sides do not take it for a failure, and ends.
    /// Blocks until they have said that they know, for `wait` at most.
    pub fn stop(&self, wait: Duration) {
        self.0.inbox.send(Command::Stop { wait });
        let thread = self
            .0
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic there has been reported by itself.
            let _ = thread.join();
        }
    }
}

/// A session. Its end takes the session down on purpose (AdminDown).
pub struct Handle {
    number: u64,
    status: Arc<Mutex<Status>>,
    inbox: Inbox,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Changes the settings; the session stays up.
    pub fn configure(&self, settings: Settings) {
        self.inbox.send(Command::Configure {
            number: self.number,
            settings,
        });
    }

    /// Where the session stands. It can be asked for after the handle's end too.
    pub fn status(&self) -> Arc<Mutex<Status>> {
        Arc::clone(&self.status)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.send(Command::Close { number: self.number });
    }
}
