//! The first look at the tables, in parts, each as much as one turn of the RIB's owner allows.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Event, Interest, Monitors, PAGE_PLACES, ShownRoute, View};
use crate::config::NeighborKey;
use crate::rib::Rib;
use crate::wire::Family;

/// A part of the tables.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Adj-RIBs-In and Loc-RIB, from a place of the table on.
    Routes(Family, u32),
    /// A neighbour's Adj-RIB-Out, from a place of the table on.
    Advertised(NeighborKey, Family, u32),
    /// Nothing; but all tables of the family have been shown.
    End(Family),
}

impl Monitors {
    /// Shows a part as far as one turn goes; and what is left of it.
    pub(super) fn show(&self, interest: Interest, part: Part, rib: &Rib) -> (Vec<Event>, Option<Part>) {
        let mut events = Vec::new();
        let mut rest = None;
        match part {
            Part::Routes(family, from) => {
                let to = from.saturating_add(PAGE_PLACES);
                rest = (to < rib.places(family)).then_some(Part::Routes(family, to));
                let mut routes: HashMap<(View, NeighborKey), Vec<ShownRoute>> = HashMap::new();
                let mut selected = Vec::new();
                for (prefix, paths) in rib.paths_in(family, from..to) {
                    for path in paths {
                        let Some(key) = path.peer else { continue };
                        let views = [
                            (View::Received, Some(path.received)),
                            (View::Accepted, path.accepted),
                        ];
                        for (view, attributes) in views {
                            if interest.wants(view) && attributes.is_some() {
                                let of_peer = routes.entry((view, key)).or_default();
                                of_peer.push(ShownRoute {
                                    prefix,
                                    path_id: path.path_id,
                                    attributes,
                                });
                            }
                        }
                    }
                    if let Some((_, best)) = rib.best_route(&prefix).filter(|_| interest.selected) {
                        selected.push(ShownRoute {
                            prefix,
                            path_id: None,
                            attributes: Some(best),
                        });
                    }
                }
                let whose = |((view, key), routes)| {
                    let peer = self.peers.get(&key)?;
                    Some(Event::Routes(view, Some(Arc::clone(peer)), routes))
                };
                events.extend(routes.into_iter().filter_map(whose));
                if !selected.is_empty() {
                    events.push(Event::Routes(View::Selected, None, selected));
                }
            }
            Part::Advertised(key, family, from) => {
                let peer = self.peers.get(&key).filter(|_| interest.advertised);
                if let (Some(peer), Some(id)) = (peer, rib.peer(key)) {
                    let to = from.saturating_add(PAGE_PLACES);
                    rest = (to < rib.places(family)).then_some(Part::Advertised(key, family, to));
                    let routes = rib.advertised_in(id, family, from..to).into_iter();
                    let routes = routes.map(|route| ShownRoute {
                        prefix: route.prefix,
                        path_id: route.path_id,
                        attributes: Some(route.attributes),
                    });
                    events.push(Event::Routes(
                        View::Advertised,
                        Some(Arc::clone(peer)),
                        routes.collect(),
                    ));
                }
            }
            Part::End(family) => {
                for view in [View::Received, View::Accepted, View::Advertised] {
                    let peers = self.peers.values().filter(|_| interest.wants(view));
                    let carried = peers.filter(|peer| peer.codec.families.contains(family));
                    events.extend(carried.map(|peer| Event::EndOfRib(view, Some(Arc::clone(peer)), family)));
                }
                if interest.selected {
                    events.push(Event::EndOfRib(View::Selected, None, family));
                }
            }
        }
        (events, rest)
    }
}
