//! Who is told of a route, and why not.

use std::fmt;
use std::sync::Arc;

use super::default_route::is_default;
use super::export::{ExportCache, Withheld};
use super::paths::Choices;
use super::sources::SourceId;
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
    /// The peer is told of several paths, but other ones are better.
    Beyond,
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family => f.write_str("the session does not carry this family"),
            Self::NoRoute => f.write_str("no path is selected"),
            Self::Withheld(withheld) => withheld.fmt(f),
            Self::Pending => f.write_str("on its way"),
            Self::Beyond => f.write_str("better paths are as many as it is told of (add-paths-limit)"),
        }
    }
}

/// What a peer is told of a prefix, or with add-path of one of its paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldView {
    /// The peer.
    pub peer: NeighborKey,
    /// Our identifier of the path, if the peer takes several of a prefix (RFC 7911).
    pub path_id: Option<u32>,
    /// The route as it is told, or why it is not.
    pub told: Result<Arc<Attributes>, NotTold>,
    /// What the export policy said, where it was asked.
    pub export: Option<Explanation>,
}

impl Rib {
    /// What each peer that is up is told of a prefix, by peer; with add-path, of each usable path.
    pub fn told(&self, prefix: &Prefix) -> Vec<ToldView> {
        let prefix = prefix.trunc();
        let up = self.peers.iter().filter(|(_, peer)| peer.up);
        let mut told: Vec<ToldView> = up
            .flat_map(|(id, peer)| self.told_to(*id, peer, &prefix))
            .collect();
        // What is told of one peer stays in the order of preference.
        told.sort_by_key(|view| view.peer);
        told
    }

    fn told_to(&self, id: PeerId, peer: &Peer, prefix: &Prefix) -> Vec<ToldView> {
        let family = Family::of(prefix);
        let view = |path_id, told, export| ToldView {
            peer: peer.settings.key,
            path_id,
            told,
            export,
        };
        if !peer.settings.families.contains(family) {
            return vec![view(None, Err(NotTold::Family), None)];
        }
        let group = self.place_of(id, family).map(|(_, group)| group);
        if let Some(key) = group.map(|group| &group.key)
            && is_default(prefix)
            && key.originates_default()
        {
            let path_id = key.add_path.map(|_| SourceId::LOCAL.path_id());
            let place = self.tables.of(family).find(prefix);
            let pending = place.is_none_or(|place| self.is_on_its_way(id, family, place));
            return vec![match key.default_route() {
                Ok((_, export)) if pending => view(path_id, Err(NotTold::Pending), Some(export)),
                Ok((route, export)) => view(path_id, Ok(Arc::new(route)), Some(export)),
                Err(withheld) => view(path_id, Err(NotTold::Withheld(withheld)), None),
            }];
        }
        let limit = group.and_then(|group| group.key.add_path);
        let entry = self.tables.entry(prefix);
        let paths: Choices = match limit {
            Some(_) => entry.into_iter().flat_map(|entry| entry.ranked()).collect(),
            None => entry.and_then(|entry| entry.best()).into_iter().collect(),
        };
        let mut views = Vec::new();
        for (at, path) in paths.into_iter().enumerate() {
            let path_id = limit.map(|_| path.source.path_id());
            let known = || {
                let place = self.tables.of(family).find(prefix)?;
                if self.is_on_its_way(id, family, place) {
                    return None;
                }
                let mut cache = ExportCache::default();
                let (_, outs) = self.told_at(id, family, place, &mut cache)?;
                let (_, out) = outs.iter().find(|(other, _)| *other == path_id)?;
                cache.get(*out).map(Arc::clone)
            };
            views.push(match self.explain_export_of(id, *prefix, path) {
                _ if limit.is_some_and(|limit| at >= limit) => view(path_id, Err(NotTold::Beyond), None),
                None => view(path_id, Err(NotTold::NoRoute), None),
                Some(Err(withheld)) => view(path_id, Err(NotTold::Withheld(withheld)), None),
                Some(Ok(export)) => view(path_id, known().ok_or(NotTold::Pending), Some(export)),
            });
        }
        if views.is_empty() {
            views.push(view(None, Err(NotTold::NoRoute), None));
        }
        views
    }
}
