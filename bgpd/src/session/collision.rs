//! Two connections to the same neighbour, of which one stays (RFC 4271 section 6.8).

use super::connection::{Direction, Phase};
use super::{Action, ConnectionId, DownReason, Negotiated, Session, Timestamp};
use crate::wire::Notification;
use crate::wire::notification::{CEASE, cease};

/// What becomes of two connections to the same neighbour.
enum Collision {
    NewGoes,
    OtherGoes,
    OtherIsDead,
}

impl Session {
    /// RFC 4271 section 6.8: whether this connection stays, now that its OPEN is here. If another
    /// one has to go for it, it goes.
    pub(super) fn survives_collision(
        &mut self,
        id: ConnectionId,
        negotiated: &Negotiated,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) -> bool {
        let collision = || Some(Notification::new(CEASE, cease::COLLISION));
        let others = self
            .connections
            .iter()
            .filter(|other| other.id != id && other.phase > Phase::OpenSent);
        for other in others.map(|other| other.id).collect::<Vec<_>>() {
            match self.collide(id, other, negotiated) {
                Collision::NewGoes => {
                    self.drop_connection(id, collision(), out);
                    return false;
                }
                Collision::OtherGoes => self.drop_connection(other, collision(), out),
                Collision::OtherIsDead => {
                    self.down(other, DownReason::PeerRestarted, now, out);
                    self.drop_connection(other, None, out);
                }
            }
        }
        true
    }

    /// Which of two connections goes: `new`, whose OPEN has just come, or `other`, whose OPEN came before.
    fn collide(&self, new: ConnectionId, other: ConnectionId, negotiated: &Negotiated) -> Collision {
        let (Some(new), Some(other)) = (self.find(new), self.find(other)) else {
            return Collision::OtherGoes;
        };
        if other.phase == Phase::Established {
            // RFC 4724 section 4.2: a neighbour that has restarted did not close its old connection.
            let was = other
                .negotiated
                .as_ref()
                .and_then(|was| was.graceful_restart.as_ref());
            let restarts = was.is_some() && negotiated.graceful_restart.is_some();
            return if restarts {
                Collision::OtherIsDead
            } else {
                Collision::NewGoes
            };
        }
        // Both come from the neighbour: it has no use for the older one, or it would not have made another.
        if new.direction == other.direction {
            return Collision::OtherGoes;
        }
        // The connection stays that the speaker with the higher identifier opened; between equal
        // identifiers, the one in the higher AS (RFC 6286 section 2.3).
        let ours = (self.settings.router_id, self.settings.local_as);
        let we_are_higher = ours > (negotiated.remote_id, negotiated.remote_as);
        let stays = if we_are_higher {
            Direction::Outgoing
        } else {
            Direction::Incoming
        };
        if new.direction == stays {
            Collision::OtherGoes
        } else {
            Collision::NewGoes
        }
    }
}
