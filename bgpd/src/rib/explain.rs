//! Why routes are taken or not, and told or not.

use std::fmt;
use std::sync::Arc;

use super::export::GroupKey;
use super::groups::is_withheld;
use super::{Peer, PeerId, Rib, import};
use crate::config::NeighborKey;
use crate::policy::{Decision, Explanation};
use crate::wire::{Attributes, Community, Family, Prefix};

/// Why a peer is not told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTold {
    /// Its session does not carry the family.
    Family,
    /// There is no route to tell.
    NoRoute,
    /// The route came from it.
    Source,
    /// The route's next hop is the peer.
    NextHop,
    /// The route carries a well-known community that keeps it here (RFC 1997).
    Community(Community),
    /// The route came from our AS, and between neither of the peers is there reflection (RFC 4456).
    NotReflected,
    /// There is no address of ours that would do as the next hop.
    NoNextHop,
    /// The export policy rejects it.
    Policy(Explanation),
    /// It is on its way.
    Pending,
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family => f.write_str("the session does not carry this family"),
            Self::NoRoute => f.write_str("no path is selected"),
            Self::Source => f.write_str("it told us"),
            Self::NextHop => f.write_str("it is the next hop"),
            Self::Community(community) => write!(f, "the route carries the community {community}"),
            Self::NotReflected => {
                f.write_str("learned within our AS, and neither peer is a reflection client")
            }
            Self::NoNextHop => f.write_str("no address of ours can be the next hop"),
            Self::Policy(explanation) => write!(f, "export: {explanation}"),
            Self::Pending => f.write_str("on its way"),
        }
    }
}

/// What a peer is told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldView {
    /// The peer.
    pub peer: NeighborKey,
    /// The route as it is told, or why it is not.
    pub told: Result<Arc<Attributes>, NotTold>,
    /// What the export policy said, where it was asked.
    pub export: Option<Explanation>,
}

impl Rib {
    /// What the import policy says to a peer's path; nothing where the peer has none.
    pub fn import_explanation(&self, prefix: &Prefix, key: NeighborKey) -> Option<Explanation> {
        let id = self.peer(key)?;
        let path = self.path_of(prefix, id)?;
        let settings = &self.peers.get(&id)?.settings;
        let route = import::route(settings, &path.received);
        Some(settings.import.explain(prefix, &route))
    }

    /// What each peer that is up is told of a prefix, by peer.
    pub fn told(&self, prefix: &Prefix) -> Vec<ToldView> {
        let prefix = prefix.trunc();
        let up = self.peers.iter().filter(|(_, peer)| peer.up);
        let mut told: Vec<ToldView> = up.map(|(id, peer)| self.told_to(*id, peer, &prefix)).collect();
        told.sort_by_key(|view| view.peer);
        told
    }

    fn told_to(&self, id: PeerId, peer: &Peer, prefix: &Prefix) -> ToldView {
        let (export, reason) = match self.untold(id, peer, prefix) {
            Ok(export) => (Some(export), NotTold::Pending),
            Err(reason) => (None, reason),
        };
        let family = Family::of(prefix);
        let known = || {
            let (_, group) = self.place_of(id, family)?;
            let out = group.out.get(prefix)?;
            Some(Arc::clone(self.attributes.get(out.attributes)))
        };
        let told = match (&export, reason) {
            (Some(_), pending) => known().ok_or(pending),
            (None, reason) => Err(reason),
        };
        ToldView {
            peer: peer.settings.key,
            told,
            export,
        }
    }

    /// What the export policy says where it accepts; else why the peer is not told.
    fn untold(&self, id: PeerId, peer: &Peer, prefix: &Prefix) -> Result<Explanation, NotTold> {
        let family = Family::of(prefix);
        let settings = &peer.settings;
        if !settings.families.contains(family) {
            return Err(NotTold::Family);
        }
        let best = self
            .tables
            .entry(prefix)
            .and_then(|entry| entry.chosen.first())
            .ok_or(NotTold::NoRoute)?;
        if best.peer == id {
            return Err(NotTold::Source);
        }
        let attributes = self.attributes.get(best.attributes);
        let source = self.peers.get(&best.peer).map(|peer| &peer.settings);
        let key = GroupKey::of(settings, family);
        let Some(route) = key.prepare(source, attributes) else {
            let within_as = |source: &super::PeerSettings| !source.is_ebgp() && !settings.is_ebgp();
            let kept = [
                Community::NO_ADVERTISE,
                Community::NO_EXPORT,
                Community::NO_EXPORT_SUBCONFED,
            ];
            let kept = kept
                .into_iter()
                .find(|community| attributes.has_community(*community));
            return Err(match kept {
                Some(community) => NotTold::Community(community),
                None if source.is_some_and(within_as) => NotTold::NotReflected,
                None => NotTold::NoNextHop,
            });
        };
        let seen = key.route(source, &route, attributes.next_hop);
        let explanation = settings.export.explain(prefix, &seen);
        let next_hop = match settings.export.decide(prefix, &seen) {
            Decision::Reject => return Err(NotTold::Policy(explanation)),
            Decision::Unchanged => route.next_hop,
            Decision::Changed(changed) => changed.next_hop,
        };
        if is_withheld((id, settings.key.address), best.peer, next_hop.address()) {
            return Err(NotTold::NextHop);
        }
        Ok(explanation)
    }
}
