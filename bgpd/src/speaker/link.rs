//! The link of a neighbour that is known by its interface: whether it is there, and who is heard on it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use netlink::{AsyncMonitor, Connection, Event, Group, Link as KernelLink, Monitor};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::router_discovery::Discovery;
use crate::config::InterfaceName;

/// How often we tell a link that we are there: often enough that a neighbour that starts later hears us soon.
const ADVERTISE_INTERVAL: Duration = Duration::from_secs(10);
/// Wait after something failed, as when the interface has no link-local address yet.
const RETRY_TIME: Duration = Duration::from_millis(500);

/// What is known of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkState {
    /// The interface's index, while it can carry packets.
    pub(super) index: Option<u32>,
    /// The router that was heard of last.
    pub(super) router: Option<Ipv6Addr>,
}

impl LinkState {
    /// Where a neighbour is, if that is known: at `address`, or at that of the router heard of.
    pub(super) fn locate(&self, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let address = match address {
            IpAddr::V6(address) if !address.is_unspecified() => address,
            _ => self.router?,
        };
        Some(SocketAddrV6::new(address, port, 0, self.index?).into())
    }
}

/// Follows a link; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: watch::Receiver<LinkState>,
    task: JoinHandle<()>,
}

impl Link {
    /// Follows an interface that need not be there yet. With `discover`, tells its link that we are there, and
    /// listens for other routers.
    pub(super) fn follow(name: InterfaceName, discover: bool) -> Self {
        let (sender, state) = watch::channel(LinkState::default());
        let follower = Follower {
            name,
            discover,
            state: sender,
        };
        Self {
            state,
            task: tokio::spawn(follower.run()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    name: InterfaceName,
    discover: bool,
    state: watch::Sender<LinkState>,
}

impl Follower {
    async fn run(self) {
        loop {
            if let Err(error) = self.follow().await {
                tracing::warn!(interface = %self.name, %error, "cannot follow the interface, trying again");
            }
            sleep(RETRY_TIME).await;
        }
    }

    async fn follow(&self) -> Result<(), netlink::Error> {
        // Subscribed before the state is read, so that nothing falls between.
        let mut monitor = Monitor::open(&[Group::Links])?.into_async()?;
        loop {
            let link = Connection::open()?.link(self.name.as_str())?;
            let link = link.filter(is_usable);
            let index = link.as_ref().map(|link| link.index);
            let changed = self.state.send_if_modified(|state| {
                let changed = state.index != index;
                if changed {
                    *state = LinkState { index, router: None };
                }
                changed
            });
            if changed {
                tracing::info!(interface = %self.name, up = index.is_some(), "link");
            }
            match link.filter(|_| self.discover) {
                Some(link) => {
                    tokio::select! {
                        change = self.next_change(&mut monitor, index) => change?,
                        () = self.converse(&link) => {}
                    }
                }
                None => self.next_change(&mut monitor, index).await?,
            }
        }
    }

    /// Waits until the interface may have changed in a way that matters.
    async fn next_change(
        &self,
        monitor: &mut AsyncMonitor,
        index: Option<u32>,
    ) -> Result<(), netlink::Error> {
        loop {
            match monitor.next().await? {
                Event::Link(link) | Event::LinkGone(link)
                    if Some(link.index) == index
                        && !(is_usable(&link) && link.name == self.name.as_str()) =>
                {
                    return Ok(());
                }
                // Another one has the name now.
                Event::Link(link)
                    if Some(link.index) != index
                        && link.name == self.name.as_str()
                        && (index.is_some() || is_usable(&link)) =>
                {
                    return Ok(());
                }
                Event::Resync => return Ok(()),
                _ => {}
            }
        }
    }

    /// Tells the link of us, and notes who else is there. It does not end as long as nobody says so.
    async fn converse(&self, link: &KernelLink) {
        let mut told = false;
        loop {
            match Discovery::open(self.name, link.index, link.mac) {
                Ok(discovery) => {
                    let error = self.discover(discovery).await;
                    tracing::debug!(interface = %self.name, %error, "router advertisements stop for a moment");
                }
                // Duplicate address detection takes a second.
                Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {}
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        interface = %self.name,
                        %error,
                        "cannot send or hear router advertisements (CAP_NET_RAW is needed): the neighbor has to connect"
                    );
                }
                Err(_) => {}
            }
            sleep(RETRY_TIME).await;
        }
    }

    async fn discover(&self, mut discovery: Discovery) -> std::io::Error {
        if let Err(error) = discovery.solicit() {
            return error;
        }
        let mut next = Instant::now();
        loop {
            let heard = tokio::select! {
                heard = discovery.next_router() => heard,
                () = sleep_until(next) => {
                    next += ADVERTISE_INTERVAL;
                    if let Err(error) = discovery.advertise() {
                        return error;
                    }
                    continue;
                }
            };
            match heard {
                Ok(router) => {
                    self.state
                        .send_if_modified(|state| state.router.replace(router) != Some(router));
                }
                Err(error) => return error,
            }
        }
    }
}

/// Whether it can carry packets.
const fn is_usable(link: &KernelLink) -> bool {
    link.up && link.carrier
}
