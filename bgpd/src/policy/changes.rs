//! What a rule changes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{CommunityPattern, ExtendedCommunityPattern, LargeCommunityPattern, Route};
use crate::rib::LOCAL_PREF_DEFAULT;
use crate::wire::{Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin};

/// A change of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// To this.
    Set(u32),
    /// By this, not below 0 and not beyond 4294967295.
    Add(i64),
}

impl Number {
    fn apply(self, value: u32) -> u32 {
        match self {
            Self::Set(value) => value,
            Self::Add(difference) => {
                let sum = i64::from(value)
                    .saturating_add(difference)
                    .clamp(0, u32::MAX.into());
                u32::try_from(sum).unwrap_or(u32::MAX)
            }
        }
    }
}

/// A change of the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopChange {
    /// This address.
    Address(IpAddr),
    /// Ourselves.
    #[serde(rename = "self")]
    SelfAddress,
    /// As we have it, whatever the session's own rule is.
    Unchanged,
}

/// Changes to a route. Communities are removed before others are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Changes {
    /// LOCAL_PREF; one that is not there counts as 100.
    pub local_pref: Option<Number>,
    /// MULTI_EXIT_DISC; one that is not there counts as 0.
    pub med: Option<Number>,
    /// Our own preference, before LOCAL_PREF and never sent. Import only.
    pub weight: Option<u32>,
    /// ORIGIN.
    pub origin: Option<Origin>,
    /// The next hop.
    pub next_hop: Option<NextHopChange>,
    /// Removes the communities that match any of these.
    pub remove_communities: Vec<CommunityPattern>,
    /// Adds communities that are not there yet.
    pub add_communities: Vec<Community>,
    /// Removes the large communities that match any of these.
    pub remove_large_communities: Vec<LargeCommunityPattern>,
    /// Adds large communities that are not there yet.
    pub add_large_communities: Vec<LargeCommunity>,
    /// Removes the extended communities that match any of these.
    pub remove_extended_communities: Vec<ExtendedCommunityPattern>,
    /// Adds extended communities that are not there yet.
    pub add_extended_communities: Vec<ExtendedCommunity>,
    /// Puts these ASes in front of AS_PATH, the first one nearest.
    pub prepend: Vec<u32>,
    /// Puts our AS on the session in front, so often, before `prepend` is.
    pub prepend_own: u8,
}

impl Changes {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes `attributes`, which are the route's or what earlier rules made of them.
    pub(super) fn apply(&self, route: &Route<'_>, attributes: &mut Attributes) {
        if let Some(change) = self.local_pref {
            attributes.local_pref = Some(change.apply(attributes.local_pref.unwrap_or(LOCAL_PREF_DEFAULT)));
        }
        if let Some(change) = self.med {
            attributes.med = Some(change.apply(attributes.med.unwrap_or(0)));
        }
        attributes.weight = self.weight.or(attributes.weight);
        attributes.origin = self.origin.unwrap_or(attributes.origin);
        match self.next_hop {
            Some(NextHopChange::Address(address)) => attributes.next_hop = NextHop::from(address),
            Some(NextHopChange::SelfAddress) => {
                attributes.next_hop = route.self_next_hop.unwrap_or(attributes.next_hop);
            }
            // What is our own has no other next hop than us.
            Some(NextHopChange::Unchanged) if !route.unchanged_next_hop.is_unspecified() => {
                attributes.next_hop = route.unchanged_next_hop;
            }
            Some(NextHopChange::Unchanged) | None => {}
        }
        exchange(
            &mut attributes.communities,
            |community| {
                self.remove_communities
                    .iter()
                    .any(|pattern| pattern.matches(community))
            },
            &self.add_communities,
        );
        exchange(
            &mut attributes.large_communities,
            |community| {
                self.remove_large_communities
                    .iter()
                    .any(|pattern| pattern.matches(community))
            },
            &self.add_large_communities,
        );
        exchange(
            &mut attributes.extended_communities,
            |community| {
                self.remove_extended_communities
                    .iter()
                    .any(|pattern| pattern.matches(community))
            },
            &self.add_extended_communities,
        );
        attributes
            .as_path
            .prepend(route.local_as, self.prepend_own.into());
        for asn in self.prepend.iter().rev() {
            attributes.as_path.prepend(*asn, 1);
        }
    }
}

fn exchange<C: Copy + PartialEq>(carried: &mut Vec<C>, removed: impl Fn(C) -> bool, added: &[C]) {
    carried.retain(|community| !removed(*community));
    for community in added {
        if !carried.contains(community) {
            carried.push(*community);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::AsPath;

    #[test]
    fn every_change() {
        let own: NextHop = NextHop::V4("10.0.0.1".parse().unwrap());
        let attributes = Attributes {
            as_path: AsPath::sequence([65001]),
            communities: vec![Community::new(1, 1), Community::new(2, 2)],
            large_communities: vec![LargeCommunity {
                global: 1,
                local1: 1,
                local2: 1,
            }],
            extended_communities: vec![ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1])],
            ..Attributes::originated(NextHop::V4("10.0.0.2".parse().unwrap()))
        };
        let route = Route {
            local_as: 65000,
            self_next_hop: Some(own),
            ..Route::new(&attributes)
        };
        let changes = Changes {
            local_pref: Some(Number::Add(-150)),
            med: Some(Number::Add(7)),
            weight: Some(9),
            origin: Some(Origin::Incomplete),
            next_hop: Some(NextHopChange::SelfAddress),
            remove_communities: vec!["1:*".parse().unwrap()],
            add_communities: vec![Community::new(2, 2), Community::new(3, 3)],
            remove_large_communities: vec![LargeCommunityPattern::ANY],
            add_large_communities: Vec::new(),
            remove_extended_communities: vec!["ro:1:*".parse().unwrap()],
            add_extended_communities: vec![ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 2])],
            prepend: vec![7, 8],
            prepend_own: 2,
        };
        let mut changed = attributes.clone();
        changes.apply(&route, &mut changed);
        assert_eq!(
            (changed.local_pref, changed.med, changed.weight),
            (Some(0), Some(7), Some(9))
        );
        assert_eq!((changed.origin, changed.next_hop), (Origin::Incomplete, own));
        assert_eq!(changed.communities, [Community::new(2, 2), Community::new(3, 3)]);
        assert_eq!(
            (
                changed.large_communities.len(),
                changed.extended_communities.len()
            ),
            (0, 2)
        );
        assert_eq!(changed.as_path.to_string(), "7 8 65000 65000 65001");
        // Nothing is left as it was by no change.
        let mut same = attributes.clone();
        Changes::default().apply(&route, &mut same);
        assert_eq!(same, attributes);
    }

    #[test]
    fn next_hops() {
        let hop = |text: &str| NextHop::from(text.parse::<IpAddr>().unwrap());
        let attributes = Attributes::originated(hop("10.0.0.1"));
        for (change, unchanged, expected) in [
            (NextHopChange::Unchanged, "10.0.0.9", "10.0.0.9"),
            (NextHopChange::Unchanged, "0.0.0.0", "10.0.0.1"),
            (
                NextHopChange::Address("10.0.0.7".parse().unwrap()),
                "10.0.0.9",
                "10.0.0.7",
            ),
            // Without an address of ours, nothing changes.
            (NextHopChange::SelfAddress, "10.0.0.9", "10.0.0.1"),
        ] {
            let mut changed = attributes.clone();
            let changes = Changes {
                next_hop: Some(change),
                ..Changes::default()
            };
            let route = Route {
                unchanged_next_hop: hop(unchanged),
                ..Route::new(&attributes)
            };
            changes.apply(&route, &mut changed);
            assert_eq!(changed.next_hop, hop(expected), "{change:?}");
        }
    }
}
