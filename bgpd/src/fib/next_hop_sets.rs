//! The lists of next hops that routes have, each distinct one once, with the ways out that it comes to. Many routes
//! share few lists: what is found out for one is found out for all its routes.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::objects::Objects;
use super::resolve::{Hops, Resolver};
use super::routes::Shape;
use crate::rib::Gateway;

/// Next hops of a route, the best path's first. None: packets are dropped.
pub(super) type NextHops = SmallVec<[Gateway; 2]>;

/// Names a list. Used again when no route has it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SetId(u32);

/// Where the packets of a route go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// To a router.
    Out {
        /// For a plain route. Empty: there is no way.
        hops: Arc<Hops>,
        /// A next-hop group of the same hops.
        group: Option<u32>,
    },
    /// Nowhere: they are dropped.
    Discard,
}

impl Ways {
    /// A next-hop group to use.
    pub(super) fn group(&self) -> Option<u32> {
        match self {
            Self::Out { group, .. } => *group,
            Self::Discard => None,
        }
    }

    /// The shape of a route that leads these ways; without `with_group`, a plain one.
    pub(super) fn shape(&self, with_group: bool) -> Shape {
        match self {
            Self::Out { group: Some(id), .. } if with_group => Shape::Group(*id),
            Self::Out { hops, .. } => Shape::Plain(Arc::clone(hops)),
            Self::Discard => Shape::Discard,
        }
    }

    /// Whether they lead anywhere, or to nothing on purpose.
    pub(super) fn is_usable(&self) -> bool {
        !matches!(self, Self::Out { hops, .. } if hops.is_empty())
    }
}

#[derive(Debug)]
struct Set {
    next_hops: NextHops,
    routes: usize,
    /// None until they are asked for.
    ways: Option<Ways>,
}

/// All lists.
#[derive(Debug, Default)]
pub(super) struct NextHopSets {
    ids: FxHashMap<NextHops, SetId>,
    sets: Vec<Option<Set>>,
    free: Vec<SetId>,
    /// The list asked for last: the next route has the same more often than not.
    last: Option<SetId>,
}

impl NextHopSets {
    /// The id of a list, for one more route.
    pub(super) fn acquire(&mut self, next_hops: NextHops) -> SetId {
        let is_last = |id: &SetId| self.get(*id).is_some_and(|set| set.next_hops == next_hops);
        let known = self.last.filter(is_last);
        if let Some(id) = known.or_else(|| self.ids.get(&next_hops).copied()) {
            if let Some(Some(set)) = self.sets.get_mut(id.0 as usize) {
                set.routes += 1;
            }
            self.last = Some(id);
            return id;
        }
        let set = Set {
            next_hops: next_hops.clone(),
            routes: 1,
            ways: None,
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.sets.push(None);
            SetId((self.sets.len() - 1) as u32)
        });
        if let Some(place) = self.sets.get_mut(id.0 as usize) {
            *place = Some(set);
        }
        self.ids.insert(next_hops, id);
        id
    }

    /// One route less.
    pub(super) fn release(&mut self, id: SetId) {
        let Some(place) = self.sets.get_mut(id.0 as usize) else {
            return;
        };
        let Some(set) = place else { return };
        set.routes -= 1;
        if set.routes == 0 {
            self.ids.remove(&set.next_hops);
            *place = None;
            self.free.push(id);
        }
    }

    fn get(&self, id: SetId) -> Option<&Set> {
        self.sets.get(id.0 as usize)?.as_ref()
    }

    /// The next hops of a list.
    pub(super) fn next_hops(&self, id: SetId) -> &[Gateway] {
        self.get(id)
            .map(|set| set.next_hops.as_slice())
            .unwrap_or_default()
    }

    /// The ways out of a list now; with `objects`, several of them get a group.
    pub(super) fn ways(&mut self, id: SetId, resolver: &Resolver, objects: Option<&mut Objects>) -> Ways {
        let Some(Some(set)) = self.sets.get_mut(id.0 as usize) else {
            return Ways::Out {
                hops: Arc::default(),
                group: None,
            };
        };
        let ways = set.ways.get_or_insert_with(|| {
            if set.next_hops.is_empty() {
                return Ways::Discard;
            }
            let hops = resolver.hops(&set.next_hops);
            let group = objects
                .filter(|_| hops.len() > 1)
                .and_then(|objects| objects.group(&hops));
            Ways::Out {
                hops: Arc::new(hops),
                group,
            }
        });
        ways.clone()
    }

    /// The ways to these next hops have changed; gives the lists that they are in.
    pub(super) fn next_hops_changed(&mut self, changed: &FxHashSet<Gateway>) -> FxHashSet<SetId> {
        let mut touched = FxHashSet::default();
        for (at, set) in self.sets.iter_mut().enumerate() {
            if let Some(set) = set
                && set.next_hops.iter().any(|next_hop| changed.contains(next_hop))
            {
                set.ways = None;
                touched.insert(SetId(at as u32));
            }
        }
        touched
    }

    /// Groups have gone, or are to be had again: all is looked at anew when it is asked for.
    pub(super) fn forget_ways(&mut self) {
        for set in self.sets.iter_mut().flatten() {
            set.ways = None;
        }
    }
}
