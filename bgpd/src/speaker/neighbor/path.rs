//! Where a neighbour is: the link that it is on, its address there, and BFD of the path to it.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::super::bfd::BfdPlan;
use super::super::link::{Link, LinkState};
use super::super::socket::SocketSettings;
use super::NeighborTask;
use crate::config::NeighborKey;
use crate::session::{ConnectionId, Event};

/// How long an attempt to connect waits for the neighbour to be heard of: less than it may take in all
/// ([`crate::session::CONNECT_TIME`]), so that it says why it failed.
const LOCATE_TIME_MAX: Duration = Duration::from_secs(4);

impl NeighborTask {
    /// What is known of the link has changed: connections over one that is gone are, too.
    pub(super) fn follow_link(&mut self) {
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

    pub(super) fn follow_bfd(&mut self, plan: Option<BfdPlan>) {
        self.bfd_plan = plan;
        self.locate_bfd();
    }

    /// BFD goes where the neighbour is. Of one that is known by its interface, that is not always known.
    pub(super) fn locate_bfd(&mut self) {
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

    pub(super) fn path_state(&mut self, is_up: bool) {
        if std::mem::replace(&mut self.path_up, is_up) != is_up {
            self.handle(Event::PathState { is_up });
        }
    }
}

/// The link of a neighbour that is known by its interface. One without an address has to be discovered.
pub(super) fn follow_link(key: NeighborKey) -> Option<Link> {
    let interface = key.interface?;
    Some(Link::follow(interface, key.address.is_unspecified()))
}

/// Waits until something changes on the link; for ever without one.
pub(super) async fn link_changed(link: &mut Option<Link>) {
    if let Some(link) = link
        && link.state.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Waits for the neighbour to be heard of on its link.
pub(super) async fn locate(
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
