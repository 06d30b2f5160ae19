//! Lists of routes, page by page: whoever lists a large table stops neither sessions nor the kernel's routes.

use std::ops::Range;

use super::{RouteStatus, RouteView, SpeakerError, SpeakerHandle};
use crate::config::NeighborKey;
use crate::monitor::PAGE_PLACES;
use crate::rib::{AdvertisedRoute, PathView, Rib};
use crate::wire::{Family, Prefix};

/// A table, page by page. The RIB's owner makes a page when it is asked for, and holds nothing between two of them:
/// a slow reader costs nothing.
#[derive(Debug)]
pub struct RoutePages {
    speaker: SpeakerHandle,
    view: RouteView,
    /// The next page.
    next: Option<(Family, u32)>,
}

impl RoutePages {
    /// The next routes, in no order and perhaps none; nothing after the last page. What is there all the while is
    /// given once; what changes meanwhile is given as it is at some time, or as it was, or both.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn next(&mut self) -> Result<Option<Vec<RouteStatus>>, SpeakerError> {
        let Some((family, from)) = self.next else {
            return Ok(None);
        };
        let (view, to) = (self.view, from.saturating_add(PAGE_PLACES));
        let ask = move |rib: &Rib| (page(rib, view, family, from..to), to < rib.places(family));
        let (routes, more) = self.speaker.query(ask).await?;
        self.next = if more {
            Some((family, to))
        } else {
            let families = Family::ALL.into_iter();
            let mut after = families.skip_while(|other| *other != family).skip(1);
            after.next().map(|family| (family, 0))
        };
        Ok(Some(routes))
    }
}

impl SpeakerHandle {
    /// Routes of both families, page by page.
    pub fn route_pages(&self, view: RouteView) -> RoutePages {
        RoutePages {
            speaker: self.clone(),
            view,
            next: Family::ALL.first().map(|family| (*family, 0)),
        }
    }

    /// Routes of both families, by prefix.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn routes(&self, view: RouteView) -> Result<Vec<RouteStatus>, SpeakerError> {
        let mut pages = self.route_pages(view);
        let mut routes = Vec::new();
        while let Some(page) = pages.next().await? {
            routes.extend(page);
        }
        routes.sort_by_key(|route| route.prefix);
        Ok(routes)
    }

    /// Routes of one prefix.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn routes_of(&self, view: RouteView, prefix: Prefix) -> Result<Vec<RouteStatus>, SpeakerError> {
        self.query(move |rib| match rib.place_of_prefix(&prefix) {
            Some(place) => page(rib, view, Family::of(&prefix), place..place + 1),
            None => Vec::new(),
        })
        .await
    }
}

/// A path, and what the import policy said to it.
pub(super) fn route_status(rib: &Rib, path: PathView) -> RouteStatus {
    let import = path
        .peer
        .and_then(|key| rib.explain_import(rib.peer(key)?, path.prefix, path.path_id));
    RouteStatus {
        prefix: path.prefix,
        neighbor: path.peer,
        path_id: path.path_id,
        attributes: path.attributes,
        stale: path.stale,
        is_own_default: false,
        status: Some(path.status),
        dampening: path.dampening,
        import,
    }
}

fn page(rib: &Rib, view: RouteView, family: Family, page: Range<u32>) -> Vec<RouteStatus> {
    let status = |path: PathView| route_status(rib, path);
    match view {
        RouteView::Best => rib.best_in(family, page).into_iter().map(status).collect(),
        RouteView::Received(key) => {
            let received = rib.peer(key).map(|id| rib.received_in(id, family, page));
            received.into_iter().flatten().map(status).collect()
        }
        RouteView::Advertised(key) => advertised(rib, key, family, page),
    }
}

fn advertised(rib: &Rib, key: NeighborKey, family: Family, page: Range<u32>) -> Vec<RouteStatus> {
    let told = rib.peer(key).map(|id| rib.advertised_in(id, family, page));
    let status = |route: AdvertisedRoute| RouteStatus {
        prefix: route.prefix,
        neighbor: Some(key),
        path_id: route.path_id,
        attributes: route.attributes,
        stale: false,
        is_own_default: route.is_own_default,
        status: None,
        dampening: None,
        import: None,
    };
    told.into_iter().flatten().map(status).collect()
}
