//! Who is told of a route, and why not.

use std::fmt;
use std::sync::Arc;

use super::export::{ExportCache, Withheld};
use super::{Peer, PeerId, Rib};
use crate::config::NeighborKey;
use crate::policy::Explanation;
use crate::wire::{Attributes, Family, Prefix};

/// Why a peer is not told of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTold {
    /// Its session does not carry the family.
    Family,
    /// There is no route to tell.
    NoRoute,
    /// The best route is not for it.
    Withheld(Withheld),
    /// It is on its way.
    Pending,
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family => f.write_str("the session does not carry this family"),
            Self::NoRoute => f.write_str("no path is selected"),
            Self::Withheld(withheld) => withheld.fmt(f),
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
    /// What each peer that is up is told of a prefix, by peer.
    pub fn told(&self, prefix: &Prefix) -> Vec<ToldView> {
        let prefix = prefix.trunc();
        let up = self.peers.iter().filter(|(_, peer)| peer.up);
        let mut told: Vec<ToldView> = up.map(|(id, peer)| self.told_to(*id, peer, &prefix)).collect();
        told.sort_by_key(|view| view.peer);
        told
    }

    fn told_to(&self, id: PeerId, peer: &Peer, prefix: &Prefix) -> ToldView {
        let family = Family::of(prefix);
        let known = || {
            let place = self.tables.of(family).find(prefix)?;
            if self.is_on_its_way(id, family, place) {
                return None;
            }
            let mut cache = ExportCache::default();
            let (_, out) = self.told_at(id, family, place, &mut cache)?;
            cache.get(out?).map(Arc::clone)
        };
        let (told, export) = match self.explain_export(id, *prefix) {
            _ if !peer.settings.families.contains(family) => (Err(NotTold::Family), None),
            None => (Err(NotTold::NoRoute), None),
            Some(Err(withheld)) => (Err(NotTold::Withheld(withheld)), None),
            Some(Ok(export)) => (known().ok_or(NotTold::Pending), Some(export)),
        };
        ToldView {
            peer: peer.settings.key,
            told,
            export,
        }
    }
}
