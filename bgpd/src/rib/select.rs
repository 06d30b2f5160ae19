//! Paths come and go, and each time the prefix's selection is made anew (RFC 4271 section 9.1.2).

use smallvec::SmallVec;

use super::aggregates::{Contribution, Covering};
use super::decision::{self, Candidate};
use super::intern::AttrId;
use super::packed::Packed;
use super::paths::{Choices, Chosen, Path};
use super::sources::SourceId;
use super::table::ToldPath;
use super::{AttributeSet, FibAction, FibRoute, Ineligible, PeerId, Rib, import};
use crate::policy::Decision;
use crate::wire::{Community, Family, Prefix};

/// What import makes of a set of attributes.
#[derive(Clone, Copy)]
pub(super) enum Judged {
    /// The same for all prefixes. The accepted set holds a reference.
    Alike(Result<AttrId, Ineligible>),
    /// The policy looks at the prefix.
    ByPrefix,
}

/// What is selected of a prefix.
#[derive(Default)]
struct Selected {
    /// The best path and its equals.
    chosen: Choices,
    /// All usable paths, those first, where neighbours with add-path want to know of them.
    ranked: Choices,
}

impl Rib {
    /// Loop checks and import policy for a received set. Give the outcome back by [`Rib::judged`].
    pub(super) fn judge(&mut self, id: PeerId, received: AttrId) -> Judged {
        let Some(peer) = self.peers.get(&id) else {
            self.attributes.retain(received);
            return Judged::Alike(Ok(received)); // our own
        };
        let attributes = self.attributes.get(received);
        if let Some(reason) = import::loops(&self.settings, &peer.settings, attributes) {
            return Judged::Alike(Err(reason));
        }
        if import::is_plain(&peer.settings, attributes) {
            self.attributes.retain(received);
            return Judged::Alike(Ok(received));
        }
        if peer.settings.import.looks_at_interfaces() {
            self.attributes.watch(received);
        }
        let unpacked = self.attributes.unpacked(received);
        match import::decide_all(&peer.settings, self.set_received(received, &unpacked)) {
            Some(decision) => Judged::Alike(self.accept(received, decision)),
            None => Judged::ByPrefix,
        }
    }

    /// What [`Rib::judge`] gave is not needed any more.
    pub(super) fn judged(&mut self, judged: Judged) {
        if let Judged::Alike(Ok(accepted)) = judged {
            self.attributes.release(accepted);
        }
    }

    /// What the import policy made of a set, with a reference.
    fn accept(&mut self, received: AttrId, decision: Decision) -> Result<AttrId, Ineligible> {
        match decision {
            Decision::Reject => Err(Ineligible::Policy),
            Decision::Unchanged => {
                self.attributes.retain(received);
                Ok(received)
            }
            Decision::Changed(changed) => Ok(self.attributes.intern(AttributeSet::from(*changed))),
        }
    }

    /// What import makes of a prefix, with a reference.
    fn accepted(
        &mut self,
        id: PeerId,
        prefix: &Prefix,
        received: AttrId,
        judged: Judged,
    ) -> Result<AttrId, Ineligible> {
        if let Judged::Alike(accepted) = judged {
            if let Ok(accepted) = accepted {
                self.attributes.retain(accepted);
            }
            return accepted;
        }
        let decision = match self.peers.get(&id) {
            Some(peer) => {
                let unpacked = self.attributes.unpacked(received);
                import::decide(&peer.settings, prefix, self.set_received(received, &unpacked))
            }
            None => Decision::Unchanged,
        };
        self.accept(received, decision)
    }

    /// Store a path of a peer as it was received.
    pub(super) fn insert(
        &mut self,
        (id, source): (PeerId, SourceId),
        prefix: &Prefix,
        received: AttrId,
        judged: Judged,
    ) {
        let accepted = self.accepted(id, prefix, received, judged);
        self.store(source, prefix, received, accepted);
    }

    /// The same for a peer with dampening: a route that is suppressed is not used.
    pub(super) fn insert_unless_suppressed(
        &mut self,
        (id, source): (PeerId, SourceId),
        prefix: &Prefix,
        received: AttrId,
        judged: Judged,
    ) {
        let accepted = self.accepted(id, prefix, received, judged);
        let accepted = self.unless_suppressed(id, source, prefix, accepted);
        self.store(source, prefix, received, accepted);
    }

    #[inline]
    fn store(
        &mut self,
        source: SourceId,
        prefix: &Prefix,
        received: AttrId,
        accepted: Result<AttrId, Ineligible>,
    ) {
        let family = Family::of(prefix);
        let place = self.tables.of_mut(family).find_or_add(prefix);
        self.put(family, place, Path::new(source, received, accepted));
    }

    /// All of a peer's routes once more, because its settings changed.
    pub(super) fn judge_peer_again(&mut self, id: PeerId) {
        for family in Family::ALL {
            for place in 0..self.tables.of(family).places() {
                for path in self.paths_at(family, place, id) {
                    self.judge_path_again(id, family, place, path);
                    // Its weight is the peer's, not the path's.
                    self.select_again(family, place);
                    // So is whether packets to it are discarded.
                    self.tables.of_mut(family).note_fib(place);
                }
            }
        }
    }

    /// A path that is there, because what import makes of it may be something else now.
    pub(super) fn judge_path_again(&mut self, id: PeerId, family: Family, place: u32, path: Path) {
        let Some(prefix) = self.tables.of(family).prefix(place) else {
            return;
        };
        let judged = self.judge(id, path.received);
        let accepted = self.accepted(id, &prefix, path.received, judged);
        self.judged(judged);
        let accepted = self.unless_suppressed(id, path.source, &prefix, accepted);
        let mut again = Path::new(path.source, path.received, accepted);
        again.stale = path.stale;
        self.put(family, place, again);
    }

    /// A peer's paths of a prefix: one, or with add-path several.
    pub(super) fn paths_at(&self, family: Family, place: u32, id: PeerId) -> SmallVec<[Path; 1]> {
        let entry = self.tables.of(family).entry(place);
        let paths = entry.into_iter().flat_map(|entry| entry.paths());
        paths.filter(|path| self.is_of(path, id)).copied().collect()
    }

    /// Whether a path is a peer's.
    pub(super) fn is_of(&self, path: &Path, id: PeerId) -> bool {
        self.sources.peer(path.source) == id
    }

    /// Store a path. What its import policy gave holds a reference already.
    fn put(&mut self, family: Family, place: u32, path: Path) {
        self.sources.retain(path.source);
        self.attributes.retain(path.received);
        if let Ok(accepted) = path.accepted() {
            self.attributes.accept(accepted);
        }
        if self.aggregates.is_empty()
            && !self.deferred.contains(family)
            && self.tables.of_mut(family).put_only(place, path)
        {
            return self.put_only(family, place, &path);
        }
        let before = self.before(family, place);
        let table = self.tables.of_mut(family);
        let ranks_all = table.ranking().is_some();
        let replaced = table.put_path(place, path);
        let selection_stays = match replaced {
            Some(replaced) => replaced.is_as(&path),
            None => !ranks_all && self.changes_nothing(family, place, &path),
        };
        if !selection_stays {
            self.select(family, place, before);
        }
        match replaced {
            Some(replaced) => self.release_path(&replaced),
            None => self.count(self.sources.peer(path.source), family, 1),
        }
    }

    /// The only path of a prefix has come: it has no rival.
    fn put_only(&mut self, family: Family, place: u32, path: &Path) {
        self.count(self.sources.peer(path.source), family, 1);
        if self.usable(path).is_err() {
            return;
        }
        let told = self.groups.has_any(family);
        let table = self.tables.of_mut(family);
        table.choose_only(place);
        table.note_fib(place);
        if told {
            table.note_pending(place, None);
        }
    }

    /// Whether the selection stays as it is with one more path: with several feeds of the same prefixes, that
    /// is so for most.
    fn changes_nothing(&self, family: Family, place: u32, new: &Path) -> bool {
        let entry = self.tables.of(family).entry(place);
        let Some((best, entry)) = entry.and_then(|entry| Some((entry.best()?, entry))) else {
            return false;
        };
        let best = entry.paths().iter().find(|path| path.source == best.source);
        let Some(Ok(best)) = best.map(|path| self.candidate(path)) else {
            return false;
        };
        match self.candidate(new) {
            Ok(new) => decision::loses_at_once(&self.settings.selection, &new, &best),
            Err(_) => true,
        }
    }

    fn count(&mut self, id: PeerId, family: Family, by: i32) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.count(family, by);
        }
    }

    /// Take a path out.
    pub(super) fn remove(&mut self, family: Family, place: u32, source: SourceId) {
        if self.aggregates.is_empty()
            && let Some((path, best)) = self.tables.of_mut(family).remove_only(place, source)
        {
            return self.removed_only(family, place, &path, best);
        }
        let before = self.before(family, place);
        let table = self.tables.of_mut(family);
        if let Some(path) = table.remove_path(place, source) {
            self.count(self.sources.peer(source), family, -1);
            self.select(family, place, before);
            self.release_path(&path);
        }
    }

    /// The only path of a prefix is gone, which was selected or not: nothing is left to select from.
    fn removed_only(&mut self, family: Family, place: u32, path: &Path, best: Option<Chosen>) {
        self.count(self.sources.peer(path.source), family, -1);
        let told = self.groups.has_any(family);
        let table = self.tables.of_mut(family);
        if best.is_some() {
            table.note_fib(place);
        }
        if let Some(best) = best
            && told
            && table.note_pending(place, Some(best))
        {
            // The path's references are those of what peers were told, but for the received set.
            self.attributes.unaccept(best.attributes);
            self.attributes.release(path.received);
        } else {
            table.drop_if_unused(place);
            self.release_path(path);
        }
    }

    /// Take those of a peer's paths out that are meant.
    pub(super) fn remove_paths(
        &mut self,
        id: PeerId,
        family: Family,
        which: impl Fn(&Path, Packed<'_>) -> bool,
    ) {
        for place in 0..self.tables.of(family).places() {
            let paths = self.paths_at(family, place, id);
            for path in paths.iter() {
                if !which(path, self.attributes.get(path.received)) {
                    continue;
                }
                self.remove(family, place, path.source);
            }
        }
    }

    fn release_path(&mut self, path: &Path) {
        if let Ok(accepted) = path.accepted() {
            self.attributes.unaccept(accepted);
            self.attributes.release(accepted);
        }
        self.attributes.release(path.received);
        self.sources.release(path.source);
    }

    /// Select again, with nothing changed but what the selection depends on.
    pub(super) fn select_again(&mut self, family: Family, place: u32) {
        let before = self.before(family, place);
        self.select(family, place, before);
    }

    fn before(&self, family: Family, place: u32) -> Selected {
        let table = self.tables.of(family);
        Selected {
            chosen: table.chosen(place),
            ranked: table.ranked(place),
        }
    }

    /// Choose again for a prefix and note who must hear of it. `before` was chosen before the paths
    /// changed; the attributes are still held.
    fn select(&mut self, family: Family, place: u32, before: Selected) {
        let after = if self.deferred.contains(family) {
            Selected::default()
        } else {
            self.choose(family, place)
        };
        let Selected { chosen, ranked } = &after;
        let (told, best) = (before.chosen.first().copied(), chosen.first().copied());
        let aggregates = self.contribute(family, place, told.as_ref(), best.as_ref());
        let table = self.tables.of_mut(family);
        if table.ranking().is_some() {
            table.set_ranked(place, ranked);
        }
        table.set_chosen(place, chosen);
        if *chosen != before.chosen {
            table.note_fib(place);
        }
        if (told != best || *ranked != before.ranked) && self.groups.has_any(family) {
            let ranked = before.ranked.iter().map(|path| ToldPath {
                source: path.source,
                attributes: Some(path.attributes),
            });
            self.note_pending(family, place, told, ranked.collect());
        }
        self.tables.of_mut(family).drop_if_unused(place);
        for aggregate in aggregates {
            self.announce_aggregate(aggregate);
        }
    }

    /// Peers are to be told of a prefix, of which they were told this before: the best path, and for those with
    /// add-path all.
    pub(super) fn note_pending(
        &mut self,
        family: Family,
        place: u32,
        told: Option<Chosen>,
        ranked: SmallVec<[ToldPath; 2]>,
    ) {
        let table = self.tables.of_mut(family);
        if !table.note_pending(place, told) {
            return;
        }
        if let Some(told) = told {
            self.attributes.retain(told.attributes);
            self.sources.retain(told.source);
        }
        for path in &ranked {
            path.attributes
                .into_iter()
                .for_each(|id| self.attributes.retain(id));
            self.sources.retain(path.source);
        }
        if !ranked.is_empty() {
            table.note_told(place, ranked.into_vec().into());
        }
    }

    /// Peers have been told of a prefix that was pending.
    pub(super) fn release_told(&mut self, told: Option<Chosen>, ranked: &[ToldPath]) {
        if let Some(told) = told {
            self.attributes.release(told.attributes);
            self.sources.release(told.source);
        }
        for path in ranked {
            path.attributes
                .into_iter()
                .for_each(|id| self.attributes.release(id));
            self.sources.release(path.source);
        }
    }

    /// Has all usable paths of a family ranked as far as its update groups need it.
    pub(super) fn rank_for_groups(&mut self, family: Family) {
        let limits = self.groups.of(family).filter_map(|group| group.key.add_path);
        // Of all paths, the order does not matter.
        let wanted = limits
            .map(|limit| if limit == usize::MAX { 0 } else { limit })
            .max();
        let now = self.tables.of(family).ranking();
        if wanted.is_none() {
            self.tables.of_mut(family).set_ranking(None);
        }
        if wanted <= now {
            return;
        }
        // So that what peers were told is what follows from the paths as they are now.
        self.flush_all(family);
        self.tables.of_mut(family).set_ranking(wanted);
        for place in 0..self.tables.of(family).places() {
            let ranked = match self.deferred.contains(family) {
                true => Choices::new(),
                false => self.choose(family, place).ranked,
            };
            self.tables.of_mut(family).set_ranked(place, &ranked);
        }
    }

    /// Counts the best path of a prefix for the aggregates that it lies in; gives those that change with it.
    fn contribute(
        &mut self,
        family: Family,
        place: u32,
        before: Option<&Chosen>,
        after: Option<&Chosen>,
    ) -> Covering {
        if self.aggregates.is_empty() || before == after {
            return Covering::new();
        }
        let Some(prefix) = self.tables.of(family).prefix(place) else {
            return Covering::new();
        };
        let of = |chosen: &Chosen| Contribution::of(self.attributes.get(chosen.attributes));
        let (before, after) = (before.map(of), after.map(of));
        self.aggregates.note(&prefix, before, after)
    }

    fn choose(&self, family: Family, place: u32) -> Selected {
        let table = self.tables.of(family);
        let Some(entry) = table.entry(place) else {
            return Selected::default();
        };
        if let [path] = entry.paths() {
            let chosen: Choices = self.usable(path).ok().into_iter().collect();
            let ranked = table.ranking().map(|_| chosen.clone());
            let ranked = ranked.unwrap_or_default();
            return Selected { chosen, ranked };
        }
        let candidates = self.candidates(entry.paths());
        let ranking = decision::rank(&self.settings.selection, &candidates);
        let as_chosen = |candidate: &Candidate<'_>| Chosen {
            source: candidate.source,
            attributes: candidate.id,
        };
        let chosen = ranking.multipath.iter().filter_map(|at| candidates.get(*at));
        let chosen = chosen.map(as_chosen).collect();
        let ranked = match table.ranking() {
            Some(count) => {
                let ordered = decision::order(&self.settings.selection, &ranking, candidates, count);
                ordered.iter().map(as_chosen).collect()
            }
            None => Choices::new(),
        };
        Selected { chosen, ranked }
    }

    /// A path as it would be selected, or why it cannot be.
    fn usable(&self, path: &Path) -> Result<Chosen, Ineligible> {
        let attributes = path.accepted()?;
        if path.source != SourceId::LOCAL && self.attributes.metric(attributes).is_none() {
            return Err(Ineligible::NextHopUnreachable);
        }
        Ok(Chosen {
            source: path.source,
            attributes,
        })
    }

    /// What is to be installed for a prefix.
    pub(super) fn fib_route(&self, family: Family, place: u32, prefix: &Prefix) -> Option<FibRoute> {
        let chosen = self.tables.of(family).chosen(place);
        let best = chosen.first()?;
        let action = if self.sources.peer(best.source) == PeerId::LOCAL {
            // Prefixes of our own are somebody else's routes; an aggregate is nobody's.
            self.aggregates.contains(prefix).then_some(FibAction::Discard)?
        } else if self.discards(best) {
            FibAction::Discard
        } else {
            let gateway = |choice: &Chosen| self.attributes.get(choice.attributes).gateway();
            FibAction::Forward(chosen.iter().map(gateway).collect())
        };
        Some(FibRoute {
            action,
            local_pref: self.attributes.get(best.attributes).local_pref(),
        })
    }

    /// RFC 7999 section 3.3: the community is honoured where that has been agreed with the neighbour.
    fn discards(&self, chosen: &Chosen) -> bool {
        let peer = self.peers.get(&self.sources.peer(chosen.source));
        peer.is_some_and(|peer| peer.settings.routing.import.accept_blackhole)
            && self
                .attributes
                .get(chosen.attributes)
                .has_community(Community::BLACKHOLE)
    }
}
