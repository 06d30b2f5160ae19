//! Dampening of routes that come and go (RFC 2439): penalties, and until when they keep a route from being used.
//!
//! A route of an external neighbour with dampening gets a penalty when the neighbour withdraws it or announces it
//! with other attributes. Penalties decay exponentially, worked out when somebody looks. A route whose penalty is
//! above the threshold is suppressed: it stays in the Adj-RIB-In and is not used, until its penalty has decayed.
//! Nothing is counted but what the neighbour says of the route itself: the end of a session is no flap of its routes
//! (RFC 2439 section 4.8.5 leaves it to count for the peer, which is what the sessions' own idle time does), nor is
//! what becomes of stale routes after a restart. Penalties outlive sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::intern::AttrId;
use super::paths::Path;
use super::select::Judged;
use super::sources::SourceId;
use super::{Ineligible, PeerId, PeerSettings, Rib};
use crate::config::{Dampening, NeighborKey};
use crate::session::Timestamp;
use crate::wire::{Family, Prefix};

/// For a withdrawal (RFC 7196 section 3).
const WITHDRAWAL_PENALTY: f64 = 1000.0;
/// For other attributes. That a route comes again costs nothing (RFC 2439 section 5: what comes is not penalized).
const CHANGE_PENALTY: f64 = 500.0;
/// Routes of a neighbour whose penalties are kept. With so many, what flaps besides is not noted, and so not
/// suppressed, until others are forgotten.
const HISTORIES_PER_NEIGHBOR_MAX: usize = 65_536;

/// A route of a neighbour: its prefix, and its path's identifier; 0 without add-path.
pub(super) type RouteKey = (Prefix, u32);

/// The dampening of a route, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DampeningView {
    /// Its penalty.
    pub penalty: u32,
    /// If it is suppressed: for how much longer, if it does not flap again.
    pub reuse_in: Option<Duration>,
}

/// What a route has done.
#[derive(Clone, Copy, Debug)]
struct History {
    /// As it was at that time.
    penalty: f64,
    at: Timestamp,
    suppressed: bool,
    /// When to look again, in seconds.
    due: u64,
}

impl Dampening {
    /// What a penalty decays to.
    fn decayed(&self, penalty: f64, time: Duration) -> f64 {
        penalty * (-time.as_secs_f64() / self.half_life.as_secs_f64()).exp2()
    }

    /// How long a penalty takes to decay below another one; zero if it is there.
    fn time_to(&self, penalty: f64, target: f64) -> Duration {
        let half_lives = (penalty / target).log2().max(0.0);
        Duration::try_from_secs_f64(half_lives * self.half_life.as_secs_f64()).unwrap_or(Duration::MAX)
    }

    /// With less than this, a penalty is forgotten (RFC 2439 section 4.2).
    fn forgotten_below(&self) -> f64 {
        f64::from(self.reuse) / 2.0
    }
}

impl History {
    fn penalty(&self, parameters: &Dampening, now: Timestamp) -> f64 {
        parameters.decayed(self.penalty, now.0.saturating_sub(self.at.0))
    }

    /// When it is to be looked at: when the route may be used again, or the penalty be forgotten. Whole seconds, so
    /// that many are looked at together (RFC 2439 section 4.4.3 has lists with such steps).
    fn due(&self, parameters: &Dampening) -> u64 {
        let target = match self.suppressed {
            true => parameters.reuse.into(),
            false => parameters.forgotten_below(),
        };
        let at = self.at + parameters.time_to(self.penalty, target);
        at.0.as_secs().saturating_add(1)
    }
}

/// The routes of a neighbour that have flapped.
#[derive(Debug)]
struct Neighbor {
    parameters: Dampening,
    /// By route, which the neighbour chooses: the hash must not be one that it knows.
    histories: HashMap<RouteKey, History>,
    /// The same by when they are due.
    due: BTreeSet<(u64, RouteKey)>,
}

impl Neighbor {
    fn new(parameters: Dampening) -> Self {
        Self {
            parameters,
            histories: HashMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// A route flaps.
    fn penalize(&mut self, route: RouteKey, penalty: f64, now: Timestamp) {
        let full = self.histories.len() >= HISTORIES_PER_NEIGHBOR_MAX;
        let history = match self.histories.entry(route) {
            Entry::Vacant(_) if full => return,
            Entry::Vacant(entry) => entry.insert(History {
                penalty: 0.0,
                at: now,
                suppressed: false,
                due: 0,
            }),
            Entry::Occupied(entry) => {
                self.due.remove(&(entry.get().due, route));
                entry.into_mut()
            }
        };
        let sum = history.penalty(&self.parameters, now) + penalty;
        (history.penalty, history.at) = (sum.min(self.parameters.ceiling()), now);
        history.due = history.due(&self.parameters);
        self.due.insert((history.due, route));
    }

    /// Whether a route that is announced is suppressed (RFC 2439 section 4.8.3).
    fn is_suppressed(&mut self, route: RouteKey, now: Timestamp) -> bool {
        let Some(history) = self.histories.get_mut(&route) else {
            return false;
        };
        let above = history.penalty(&self.parameters, now) > self.parameters.suppress.into();
        if above && !history.suppressed {
            history.suppressed = true;
            self.due.remove(&(history.due, route));
            history.due = history.due(&self.parameters);
            self.due.insert((history.due, route));
        }
        history.suppressed
    }

    /// Forgets what is to be forgotten, and gives the routes that are not suppressed any longer.
    fn advance(&mut self, now: Timestamp, freed: &mut Vec<RouteKey>) {
        while let Some((due, route)) = self
            .due
            .first()
            .copied()
            .filter(|(due, _)| *due <= now.0.as_secs())
        {
            self.due.remove(&(due, route));
            let Some(history) = self.histories.get_mut(&route) else {
                continue;
            };
            if !history.suppressed {
                self.histories.remove(&route);
                continue;
            }
            freed.push(route);
            history.suppressed = false;
            history.due = history.due(&self.parameters);
            self.due.insert((history.due, route));
        }
    }

    fn set_parameters(&mut self, parameters: Dampening) {
        if self.parameters == parameters {
            return;
        }
        self.parameters = parameters;
        self.due.clear();
        for (route, history) in &mut self.histories {
            history.penalty = history.penalty.min(parameters.ceiling());
            history.due = history.due(&parameters);
            self.due.insert((history.due, *route));
        }
    }

    /// Forgets routes; gives those that were suppressed, and how many there were.
    fn clear(&mut self, which: impl Fn(&Prefix) -> bool) -> (Vec<RouteKey>, usize) {
        let mut freed = Vec::new();
        let before = self.histories.len();
        self.histories.retain(|route, history| {
            let meant = which(&route.0);
            if meant {
                self.due.remove(&(history.due, *route));
                freed.extend(history.suppressed.then_some(*route));
            }
            !meant
        });
        (freed, before - self.histories.len())
    }

    fn bytes(&self) -> usize {
        self.histories.capacity() * size_of::<(RouteKey, History)>()
            + self.due.len() * size_of::<(u64, RouteKey)>()
    }
}

/// The penalties of all neighbours that have dampening.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    now: Timestamp,
    neighbors: BTreeMap<NeighborKey, Neighbor>,
}

impl Penalties {
    /// A session's settings are these from now on.
    pub(super) fn follow(&mut self, settings: &PeerSettings) {
        match settings.dampening() {
            None => {
                self.neighbors.remove(&settings.key);
            }
            Some(parameters) => self
                .neighbors
                .entry(settings.key)
                .or_insert_with(|| Neighbor::new(parameters))
                .set_parameters(parameters),
        }
    }

    fn is_suppressed(&self, key: NeighborKey, route: &RouteKey) -> bool {
        let history = self.neighbors.get(&key).and_then(|of| of.histories.get(route));
        history.is_some_and(|history| history.suppressed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.neighbors.values().map(Neighbor::bytes).sum()
    }
}

/// Routes of a neighbour that are not suppressed any longer.
pub type FreedRoutes = (NeighborKey, Vec<(Prefix, u32)>);

impl Rib {
    /// Whether any neighbour has dampening: then [`Rib::advance`] is to be called before whatever happens.
    pub fn dampens(&self) -> bool {
        !self.penalties.neighbors.is_empty()
    }

    /// When [`Rib::advance`] is to be called at the latest.
    pub fn dampening_deadline(&self) -> Option<Timestamp> {
        let firsts = self.penalties.neighbors.values().filter_map(|of| of.due.first());
        let due = firsts.map(|(due, _)| *due).min()?;
        Some(Timestamp(Duration::from_secs(due)))
    }

    /// It is this late now. Suppressed routes whose time has come are used again; gives them.
    pub fn advance(&mut self, now: Timestamp) -> Vec<FreedRoutes> {
        self.penalties.now = self.penalties.now.max(now);
        let now = self.penalties.now;
        let mut all = Vec::new();
        for (key, of) in &mut self.penalties.neighbors {
            let mut freed = Vec::new();
            of.advance(now, &mut freed);
            if !freed.is_empty() {
                all.push((*key, freed));
            }
        }
        // What is left of neighbours that are gone.
        let known = &self.peer_of;
        self.penalties
            .neighbors
            .retain(|key, of| !of.histories.is_empty() || known.contains_key(key));
        self.use_again(&all);
        all
    }

    /// Forget the penalties of a neighbour's routes, or of all neighbours', of a prefix or of all prefixes. Gives
    /// the suppressed routes among them, which are used again, and how many there were in all.
    pub fn clear_dampening(
        &mut self,
        neighbor: Option<NeighborKey>,
        prefix: Option<Prefix>,
    ) -> (Vec<FreedRoutes>, usize) {
        let mut all = Vec::new();
        let mut count = 0;
        for (key, of) in &mut self.penalties.neighbors {
            if neighbor.is_none_or(|neighbor| neighbor == *key) {
                let (freed, cleared) = of.clear(|other| prefix.is_none_or(|prefix| prefix == *other));
                count += cleared;
                all.push((*key, freed));
            }
        }
        all.retain(|(_, freed)| !freed.is_empty());
        self.use_again(&all);
        (all, count)
    }

    /// The penalty of a neighbour's route; none if it has not flapped of late.
    pub fn dampening_of(
        &self,
        key: NeighborKey,
        prefix: &Prefix,
        path_id: Option<u32>,
    ) -> Option<DampeningView> {
        let of = self.penalties.neighbors.get(&key)?;
        let history = of.histories.get(&(*prefix, path_id.unwrap_or(0)))?;
        let penalty = history.penalty(&of.parameters, self.penalties.now);
        let until = Timestamp(Duration::from_secs(history.due));
        let reuse_in = until.0.saturating_sub(self.penalties.now.0);
        Some(DampeningView {
            penalty: penalty as u32,
            reuse_in: history.suppressed.then_some(reuse_in),
        })
    }

    /// Routes that are not suppressed any longer go through import again.
    fn use_again(&mut self, freed: &[FreedRoutes]) {
        for (key, routes) in freed {
            let Some(id) = self.peer(*key) else { continue };
            for (prefix, path_id) in routes {
                let found = self.existing(id, prefix, *path_id);
                if let Some((place, path)) = found {
                    self.judge_path_again(id, Family::of(prefix), place, path);
                }
            }
        }
    }

    /// A peer's path, and its prefix's place.
    fn existing(&self, id: PeerId, prefix: &Prefix, path_id: u32) -> Option<(u32, Path)> {
        let settings = &self.peers.get(&id)?.settings;
        let family = Family::of(prefix);
        let source = match settings.add_path_receive.contains(family) {
            true => self.sources.find(id, path_id)?,
            false => SourceId::of_peer(id),
        };
        let table = self.tables.of(family);
        let place = table.find(prefix)?;
        let paths = table.entry(place)?.paths();
        let path = paths.iter().find(|path| path.source == source)?;
        Some((place, *path))
    }

    /// The route as its neighbour's session names it.
    fn route_key(settings: &PeerSettings, (prefix, path_id): (Prefix, u32)) -> RouteKey {
        let with_ids = settings.add_path_receive.contains(Family::of(&prefix));
        (prefix, if with_ids { path_id } else { 0 })
    }

    /// A path of this session that says something new of itself: not what is left of an earlier one.
    fn counts(&self, id: PeerId, family: Family, path: &Path) -> bool {
        let refreshing = |id| {
            self.peers
                .get(&id)
                .is_some_and(|peer| peer.refreshing.contains(family))
        };
        !path.stale || refreshing(id)
    }

    /// Routes of a peer with dampening that it is about to withdraw.
    pub(super) fn note_withdrawals(&mut self, id: PeerId, routes: &[(Prefix, u32)]) {
        for (prefix, path_id) in routes {
            let counted = self
                .existing(id, prefix, *path_id)
                .is_some_and(|(_, path)| self.counts(id, Family::of(prefix), &path));
            if counted {
                self.penalize(id, (*prefix, *path_id), WITHDRAWAL_PENALTY);
            }
        }
    }

    fn penalize(&mut self, id: PeerId, route: (Prefix, u32), penalty: f64) {
        let Some(peer) = self.peers.get(&id) else { return };
        let route = Self::route_key(&peer.settings, route);
        let now = self.penalties.now;
        if let Some(of) = self.penalties.neighbors.get_mut(&peer.settings.key) {
            of.penalize(route, penalty, now);
        }
    }

    /// Store a route of a peer with dampening, which announces it.
    pub(super) fn insert_dampened(
        &mut self,
        (id, source): (PeerId, SourceId),
        (prefix, path_id): (Prefix, u32),
        received: AttrId,
        judged: Judged,
    ) {
        let family = Family::of(&prefix);
        if let Some((_, path)) = self.existing(id, &prefix, path_id)
            && path.received != received
            && self.counts(id, family, &path)
        {
            self.penalize(id, (prefix, path_id), CHANGE_PENALTY);
        }
        let now = self.penalties.now;
        if let Some(peer) = self.peers.get(&id) {
            let route = Self::route_key(&peer.settings, (prefix, path_id));
            if let Some(of) = self.penalties.neighbors.get_mut(&peer.settings.key) {
                // Notes whether it is.
                of.is_suppressed(route, now);
            }
        }
        self.insert_unless_suppressed((id, source), &prefix, received, judged);
    }

    /// What import made of a route, unless that is suppressed. The accepted set holds a reference.
    pub(super) fn unless_suppressed(
        &mut self,
        id: PeerId,
        source: SourceId,
        prefix: &Prefix,
        accepted: Result<AttrId, Ineligible>,
    ) -> Result<AttrId, Ineligible> {
        let Ok(attributes) = accepted else {
            return accepted;
        };
        let route = (*prefix, self.sources.path_id(source).unwrap_or(0));
        let suppressed = self
            .key_of(id)
            .is_some_and(|key| self.penalties.is_suppressed(key, &route));
        if suppressed {
            self.attributes.release(attributes);
            return Err(Ineligible::Dampened);
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn at(second: u64) -> Timestamp {
        Timestamp(Duration::from_secs(second))
    }

    fn route(at: u8) -> RouteKey {
        (format!("10.{at}.0.0/16").parse().unwrap(), 0)
    }

    #[test]
    fn the_recommended_parameters_take_seven_withdrawals_in_a_row() {
        let mut neighbor = Neighbor::new(Dampening::default());
        let mut suppressed = Vec::new();
        for minute in 0..8 {
            neighbor.penalize(route(1), WITHDRAWAL_PENALTY, at(60 * minute));
            suppressed.push(neighbor.is_suppressed(route(1), at(60 * minute)));
        }
        assert_eq!(
            suppressed.iter().position(|s| *s),
            Some(6),
            "above 6000: {suppressed:?}"
        );
        // However often it flaps, it is not suppressed for more than an hour.
        (0..100).for_each(|_| neighbor.penalize(route(1), WITHDRAWAL_PENALTY, at(1000)));
        let mut freed = Vec::new();
        neighbor.advance(at(1000 + 3599), &mut freed);
        assert_eq!(freed, []);
        neighbor.advance(at(1000 + 3601), &mut freed);
        assert_eq!(freed, [route(1)]);
        // From 750 to 375 in a half-life.
        neighbor.advance(at(1000 + 3601 + 898), &mut freed);
        assert_eq!(neighbor.histories.len(), 1);
        neighbor.advance(at(1000 + 3601 + 901), &mut freed);
        assert!(neighbor.histories.is_empty() && neighbor.due.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_is_beyond_is_not_suppressed() {
        let mut neighbor = Neighbor::new(Dampening::default());
        let prefix: Prefix = "10.0.0.0/8".parse().unwrap();
        let flap = |neighbor: &mut Neighbor, path_id: u32, second| {
            (0..7).for_each(|_| neighbor.penalize((prefix, path_id), WITHDRAWAL_PENALTY, at(second)));
        };
        let limit = HISTORIES_PER_NEIGHBOR_MAX as u32;
        (0..=limit).for_each(|path_id| flap(&mut neighbor, path_id, 1));
        assert_eq!(neighbor.histories.len(), HISTORIES_PER_NEIGHBOR_MAX);
        assert!(neighbor.is_suppressed((prefix, limit - 1), at(1)));
        assert!(!neighbor.is_suppressed((prefix, limit), at(1)));
        // There is room again when others are forgotten.
        let mut freed = Vec::new();
        neighbor.advance(at(24 * 3600), &mut freed);
        neighbor.advance(at(48 * 3600), &mut freed);
        assert_eq!((freed.len(), neighbor.histories.len()), (1, 0));
        flap(&mut neighbor, limit, 48 * 3600);
        assert!(neighbor.is_suppressed((prefix, limit), at(48 * 3600)));
    }

    proptest! {
        /// It does not matter when, and how often, somebody looks.
        #[test]
        fn decay_is_the_same_in_one_step_or_in_many(
            penalty in 1.0..12_000.0f64,
            steps in prop::collection::vec(0.0..2000.0f64, 1..10),
        ) {
            let dampening = Dampening::default();
            let by_steps = steps.iter().fold(penalty, |penalty, step| dampening.decayed(penalty, seconds(*step)));
            let at_once = dampening.decayed(penalty, seconds(steps.iter().sum()));
            prop_assert!((by_steps - at_once).abs() <= 1e-6 * penalty, "{by_steps} {at_once}");
            prop_assert!(at_once <= penalty);
            let time = dampening.time_to(penalty, 100.0);
            if penalty > 100.0 {
                prop_assert!((dampening.decayed(penalty, time) - 100.0).abs() < 0.001);
            } else {
                prop_assert_eq!(time, Duration::ZERO);
            }
        }

        /// Routes have nothing to do with each other: whatever the order of what happens to different ones, each
        /// fares as it would alone.
        #[test]
        fn routes_fare_alike_alone_and_together(
            mut flaps in prop::collection::vec((0..3u8, 0..20_000u64), 1..60),
        ) {
            flaps.sort_by_key(|(_, second)| *second);
            let fares = |only: Option<u8>| {
                let mut neighbor = Neighbor::new(Dampening::default());
                let mut seen = Vec::new();
                for (which, second) in &flaps {
                    if only.is_none_or(|only| only == *which) {
                        neighbor.advance(at(*second), &mut Vec::new());
                        neighbor.penalize(route(*which), WITHDRAWAL_PENALTY, at(*second));
                        seen.push((*which, neighbor.is_suppressed(route(*which), at(*second))));
                    }
                }
                seen
            };
            let together = fares(None);
            for which in 0..3 {
                let of_one: Vec<_> = together.iter().copied().filter(|(of, _)| *of == which).collect();
                prop_assert_eq!(of_one, fares(Some(which)));
            }
        }
    }
}
