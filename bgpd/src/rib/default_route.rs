//! Default routes that neighbours are told whether or not there is one here (`default-originate`).
//!
//! Such a route is a part of its update group: what the group is told of 0.0.0.0/0 or ::/0 follows from the group's
//! settings alone, whatever the table has. So a member hears of one default route and never of both, and changes of
//! the one in the table pass it by. The prefix keeps a place in the table as long as there is such a group, so that
//! whatever goes by places (dumps, catching up, lists) meets it like any other prefix.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::export::{ExportCache, Exports, GroupKey, Onward, Out, Withheld};
use super::sources::SourceId;
use super::{AttributeSet, PeerId, Rib};
use crate::policy::{DecidedBy, Explanation, Policy, Verdict};
use crate::wire::{Attributes, Family, NextHop, Prefix};

/// The default route of a family.
const fn default_of(family: Family) -> Prefix {
    match family {
        Family::Ipv4Unicast => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        Family::Ipv6Unicast => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    }
}

/// Whether a prefix is the default route.
pub(super) fn is_default(prefix: &Prefix) -> bool {
    prefix.prefix_len() == 0
}

impl GroupKey {
    /// Whether its members are told a default route of ours.
    pub(super) fn originates_default(&self) -> bool {
        !self.options.default_originate.is_empty()
    }

    /// The default route as its members are told it, and what was asked about it. The export policy is not: it is
    /// about routes that there are.
    pub(super) fn default_route(&self) -> Result<(Attributes, Explanation), Withheld> {
        let originated = AttributeSet::from(Attributes::originated(NextHop::unspecified(self.family)));
        let originated = originated.packed();
        let next_hop = self.admit(None, originated)?;
        let route = self.prepare(None, originated.unpack(), next_hop);
        let (prefix, policy) = (default_of(self.family), &self.options.default_policy);
        let seen = self.route(None, &route, Onward::of(originated));
        let mut explanation = policy.explain(&prefix, &seen);
        let decision = policy.decide(&prefix, &seen);
        if *policy == Policy::Accept {
            explanation.by = DecidedBy::DefaultOriginate;
        }
        match self.decided(decision, || route.clone()) {
            Some(attributes) if explanation.verdict == Verdict::Accept => Ok((attributes, explanation)),
            _ => Err(Withheld::Policy(explanation)),
        }
    }
}

impl Rib {
    /// Whether there are peers of this family that are told a default route of ours.
    pub fn originates_default(&self, prefix: &Prefix) -> bool {
        let mut groups = self.groups.of(Family::of(prefix));
        is_default(prefix) && groups.any(|group| group.key.originates_default())
    }

    /// What a group is told of the default route that is ours.
    pub(super) fn default_exports(&self, key: &GroupKey, cache: &mut ExportCache) -> Exports {
        let Ok((attributes, _)) = key.default_route() else {
            return Exports::new();
        };
        let out = Out {
            attributes: cache.store(attributes),
            source: PeerId::LOCAL,
        };
        let path_id = key.add_path.map(|_| SourceId::LOCAL.path_id());
        [(path_id, out)].into_iter().collect()
    }

    /// Places of a page that groups are to be asked about: of prefixes that have a path, and of the default route
    /// where that is ours.
    pub(super) fn told_places(
        &self,
        keys: &[&GroupKey],
        family: Family,
        page: std::ops::Range<u32>,
    ) -> impl Iterator<Item = u32> {
        let table = self.tables.of(family);
        let ours = keys.iter().any(|key| key.originates_default());
        let ours = ours.then(|| table.find(&default_of(family))).flatten();
        let ours = ours.filter(|place| page.contains(place));
        let pathless = |place: &u32| table.entry(*place).is_some_and(|entry| entry.paths().is_empty());
        let live = table.live_in(page).map(|(place, _)| place);
        live.chain(ours.filter(pathless))
    }

    /// Gives the default route a place, for a member of a group that is told one of ours.
    pub(super) fn hold_default(&mut self, family: Family) {
        let table = self.tables.of_mut(family);
        let place = table.find_or_add(&default_of(family));
        table.hold(place);
    }

    /// The end of [`Rib::hold_default`].
    pub(super) fn let_go_of_default(&mut self, family: Family) {
        let table = self.tables.of_mut(family);
        if let Some(place) = table.find(&default_of(family)) {
            table.let_go(place);
        }
    }
}
