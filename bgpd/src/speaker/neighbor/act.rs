//! Does what the session says.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::super::connection::{Go, Scope};
use super::super::interface::{Ends, Surroundings};
use super::super::rib_queue::{PeerUp, RibControl, SessionId};
use super::NeighborTask;
use super::path::locate;
use crate::monitor::MonitoredPeer;
use crate::session::{Action, ConnectionId, Outgoing};
use crate::wire;

impl NeighborTask {
    pub(super) fn act(&mut self, action: Action) {
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

    pub(super) fn ask_again(&self) {
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

    pub(super) fn send(&mut self, id: ConnectionId, message: &Outgoing) {
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
}
