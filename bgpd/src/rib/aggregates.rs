//! Aggregates: prefixes of our own that are there as long as a route to something inside them is
//! (RFC 4271 section 9.2.2.2). They have no AS_SET (RFC 9774): the paths of what they stand for are left out,
//! which ATOMIC_AGGREGATE says.

use std::net::Ipv4Addr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::packed::Packed;
use super::{PeerId, Rib};
use crate::config::Aggregate;
use crate::wire::{Aggregator, Attributes, Family, NextHop, Origin, Prefix};

/// What an aggregate's attributes depend on in a route that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contribution {
    origin: Origin,
    /// It has an AS_PATH, or lost a part of one before.
    lossy: bool,
}

impl Contribution {
    pub(super) fn of(attributes: Packed<'_>) -> Self {
        Self {
            origin: attributes.origin(),
            lossy: attributes.atomic_aggregate() || !attributes.as_path_is_empty(),
        }
    }
}

/// How many routes there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Contributions {
    /// By ORIGIN: IGP, EGP, incomplete.
    by_origin: [u32; 3],
    lossy: u32,
}

impl Contributions {
    fn count(&mut self, contribution: Contribution, change: fn(&mut u32)) {
        let [igp, egp, incomplete] = &mut self.by_origin;
        change(match contribution.origin {
            Origin::Igp => igp,
            Origin::Egp => egp,
            Origin::Incomplete => incomplete,
        });
        if contribution.lossy {
            change(&mut self.lossy);
        }
    }

    /// The worst of them; nothing if there is none.
    fn origin(&self) -> Option<Origin> {
        let [igp, egp, incomplete] = self.by_origin;
        match (igp, egp, incomplete) {
            (0, 0, 0) => None,
            (_, 0, 0) => Some(Origin::Igp),
            (_, _, 0) => Some(Origin::Egp),
            _ => Some(Origin::Incomplete),
        }
    }
}

#[derive(Debug)]
struct State {
    settings: Aggregate,
    contributions: Contributions,
}

/// All aggregates and what contributes to them.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    by_prefix: FxHashMap<Prefix, State>,
    /// Lengths of IPv4 and IPv6 aggregates, ascending.
    lengths: [Vec<u8>; 2],
}

/// Aggregates that a prefix lies in. Few nest.
pub(super) type Covering = SmallVec<[Prefix; 2]>;

impl Aggregates {
    /// Without contributions.
    pub(super) fn new(aggregates: &[Aggregate]) -> Self {
        let state = |settings: &Aggregate| State {
            settings: settings.clone(),
            contributions: Contributions::default(),
        };
        let lengths = Family::ALL.map(|family| {
            let of_family = aggregates.iter().map(|aggregate| aggregate.prefix);
            let mut lengths: Vec<u8> = of_family
                .filter(|prefix| Family::of(prefix) == family)
                .map(|prefix| prefix.prefix_len())
                .collect();
            lengths.sort_unstable();
            lengths.dedup();
            lengths
        });
        Self {
            by_prefix: aggregates.iter().map(|a| (a.prefix, state(a))).collect(),
            lengths,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// Whether a prefix is one of them.
    pub(super) fn contains(&self, prefix: &Prefix) -> bool {
        self.by_prefix.contains_key(prefix)
    }

    pub(super) fn prefixes(&self) -> Vec<Prefix> {
        self.by_prefix.keys().copied().collect()
    }

    /// A route inside aggregates came, went or changed. Gives the aggregates whose attributes, or being, may
    /// have changed with it.
    pub(super) fn note(
        &mut self,
        prefix: &Prefix,
        before: Option<Contribution>,
        after: Option<Contribution>,
    ) -> Covering {
        if self.by_prefix.is_empty() || before == after {
            return Covering::new();
        }
        let mut changed = self.covering(prefix);
        changed.retain(|aggregate| {
            let Some(state) = self.by_prefix.get_mut(aggregate) else {
                return false;
            };
            let attributes = |c: &Contributions| (c.origin(), c.lossy > 0);
            let was = attributes(&state.contributions);
            if let Some(before) = before {
                state
                    .contributions
                    .count(before, |count| *count = count.saturating_sub(1));
            }
            if let Some(after) = after {
                state.contributions.count(after, |count| *count += 1);
            }
            attributes(&state.contributions) != was
        });
        changed
    }

    /// Aggregates that stand for a prefix; none stands for itself.
    fn covering(&self, prefix: &Prefix) -> Covering {
        let [v4, v6] = &self.lengths;
        let lengths = match Family::of(prefix) {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        };
        let shorter = lengths.iter().take_while(|length| **length < prefix.prefix_len());
        let nets = shorter.filter_map(|length| Prefix::new(prefix.addr(), *length).ok());
        nets.map(|net| net.trunc())
            .filter(|net| self.by_prefix.contains_key(net))
            .collect()
    }

    /// What an aggregate is announced with; nothing while there is no route inside it.
    pub(super) fn attributes(
        &self,
        prefix: &Prefix,
        local_as: u32,
        router_id: Ipv4Addr,
    ) -> Option<Attributes> {
        let State {
            settings,
            contributions,
        } = self.by_prefix.get(prefix)?;
        Some(Attributes {
            origin: contributions.origin()?,
            atomic_aggregate: contributions.lossy > 0,
            aggregator: Some(Aggregator {
                asn: local_as,
                router_id,
            }),
            local_pref: settings.local_pref,
            communities: settings.communities.clone(),
            large_communities: settings.large_communities.clone(),
            ..Attributes::originated(NextHop::unspecified(Family::of(prefix)))
        })
    }
}

impl Rib {
    /// Other aggregates than before. One must not have the prefix of a network ([`Rib::originate`]).
    pub fn set_aggregates(&mut self, aggregates: &[Aggregate]) {
        let mut next = Aggregates::new(aggregates);
        for family in Family::ALL {
            let table = self.tables.of(family);
            for place in 0..table.places() {
                let best = table.entry(place).and_then(|entry| entry.best());
                if let (Some(best), Some(prefix)) = (best, table.prefix(place)) {
                    let contribution = Contribution::of(self.attributes.get(best.attributes));
                    next.note(&prefix, None, Some(contribution));
                }
            }
        }
        let before = std::mem::replace(&mut self.aggregates, next);
        for prefix in before.prefixes() {
            if !self.aggregates.by_prefix.contains_key(&prefix) {
                self.withdraw(PeerId::LOCAL, [prefix]);
            }
        }
        for prefix in self.aggregates.prefixes() {
            self.announce_aggregate(prefix);
        }
    }

    /// An aggregate as it follows from the routes inside it.
    pub(super) fn announce_aggregate(&mut self, prefix: Prefix) {
        let (local_as, router_id) = (self.settings.local_as, self.settings.router_id);
        match self.aggregates.attributes(&prefix, local_as, router_id) {
            Some(attributes) => self.originate_with(&prefix, attributes),
            None => self.withdraw(PeerId::LOCAL, [prefix]),
        }
    }
}
