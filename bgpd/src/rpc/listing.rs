//! `ListRoutes` and `StreamRoutes`: which routes of a view are wanted, and the pages of them.

use bgpd_proto::v1::{ListRoutesRequest, ListRoutesResponse};
use futures::Stream;
use tonic::Status;

use super::{convert, neighbor, parse_prefix, status};
use crate::rib::{Ineligible, PathStatus};
use crate::speaker::{RouteStatus, RouteView, SpeakerHandle};
use crate::wire::Prefix;

/// Of the received routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Either,
    Accepted,
    Rejected,
}

/// A request, understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    view: RouteView,
    judged: Judged,
    prefix: Option<Prefix>,
    /// What lies inside the prefix, too.
    longer: bool,
    limit: usize,
}

impl Listing {
    pub(super) async fn parse(speaker: &SpeakerHandle, request: ListRoutesRequest) -> Result<Self, Status> {
        let key = || neighbor(speaker, &request.peer);
        let view = match request.view.as_str() {
            "" | "best" => RouteView::Best,
            "received" | "accepted" | "rejected" => RouteView::Received(key().await?),
            "advertised" => RouteView::Advertised(key().await?),
            other => {
                let message =
                    format!("view {other:?}: must be best, received, accepted, rejected or advertised");
                return Err(Status::invalid_argument(message));
            }
        };
        Ok(Self {
            view,
            judged: match request.view.as_str() {
                "accepted" => Judged::Accepted,
                "rejected" => Judged::Rejected,
                _ => Judged::Either,
            },
            prefix: match request.prefix.as_str() {
                "" => None,
                text => Some(parse_prefix(text)?),
            },
            longer: request.longer,
            limit: match usize::try_from(request.limit) {
                Ok(0) | Err(_) => usize::MAX,
                Ok(limit) => limit,
            },
        })
    }

    fn wants(&self, route: &RouteStatus) -> bool {
        let inside = match self.prefix {
            None => true,
            Some(prefix) if self.longer => prefix.contains(&route.prefix),
            Some(prefix) => prefix == route.prefix,
        };
        let of_view = match self.judged {
            Judged::Either => true,
            Judged::Accepted => !is_rejected(route),
            Judged::Rejected => is_rejected(route),
        };
        inside && of_view
    }

    /// All routes that are wanted, by prefix, up to the limit.
    pub(super) async fn all(&self, speaker: &SpeakerHandle) -> Result<ListRoutesResponse, Status> {
        let mut wanted = Vec::new();
        let mut left_out = 0;
        let mut take = |routes: Vec<RouteStatus>| {
            wanted.extend(routes.into_iter().filter(|route| self.wants(route)));
            wanted.sort_by_key(|route| route.prefix);
            left_out += wanted.len().saturating_sub(self.limit);
            wanted.truncate(self.limit);
        };
        match self.prefix {
            Some(prefix) if !self.longer => {
                take(speaker.routes_of(self.view, prefix).await.map_err(status)?);
            }
            // Without a limit, all of it is sorted once.
            _ if self.limit == usize::MAX => take(speaker.routes(self.view).await.map_err(status)?),
            _ => {
                let mut pages = speaker.route_pages(self.view);
                while let Some(routes) = pages.next().await.map_err(status)? {
                    take(routes);
                }
            }
        }
        Ok(ListRoutesResponse {
            routes: wanted.iter().map(convert::route).collect(),
            left_out: left_out as u64,
        })
    }

    /// The same in pages, each made when the reader takes it: in no order, and without a count of what is beyond
    /// the limit.
    pub(super) fn stream(
        self,
        speaker: &SpeakerHandle,
    ) -> impl Stream<Item = Result<ListRoutesResponse, Status>> + Send + use<> {
        let pages = speaker.route_pages(self.view);
        futures::stream::try_unfold((pages, self.limit), move |(mut pages, limit)| async move {
            while limit > 0
                && let Some(routes) = pages.next().await.map_err(status)?
            {
                let wanted = routes.iter().filter(|route| self.wants(route));
                let routes: Vec<_> = wanted.take(limit).map(convert::route).collect();
                if !routes.is_empty() {
                    let left = limit - routes.len();
                    let page = ListRoutesResponse { routes, left_out: 0 };
                    return Ok(Some((page, (pages, left))));
                }
            }
            Ok(None)
        })
    }
}

/// Whether loop checks or import policy did not let it pass.
fn is_rejected(route: &RouteStatus) -> bool {
    matches!(&route.status, Some(PathStatus::Ineligible(reason)) if *reason != Ineligible::NextHopUnreachable)
}
