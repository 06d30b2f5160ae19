//! Next-hop objects of ours: which sets of hops have a group, under which ids, and which the kernel
//! has. Pure.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use netlink::{Hop, NextHop, NextHopKind, Request};
use rustc_hash::{FxHashMap, FxHashSet};

use super::resolve::Hops;
use crate::rib::Gateway;

/// Ids of ours: this many from the first on.
const ID_COUNT: u32 = 1 << 24;

/// Our part of the kernel's next-hop objects.
#[derive(Debug)]
pub(super) struct Objects {
    first_id: u32,
    protocol: u8,
    /// What should be there, under its id.
    wanted: FxHashMap<u32, NextHopKind>,
    by_hop: FxHashMap<Hop, u32>,
    by_hops: FxHashMap<Hops, u32>,
    /// Gateways that groups are to do without for now.
    suspended: FxHashSet<Gateway>,
    /// What the kernel is believed to have: ours, and others' ids in our range.
    kernel: FxHashMap<u32, NextHop>,
    next_id: u32,
}

impl Objects {
    pub(super) fn new(first_id: u32, protocol: u8) -> Self {
        Self {
            first_id,
            protocol,
            wanted: FxHashMap::default(),
            by_hop: FxHashMap::default(),
            by_hops: FxHashMap::default(),
            suspended: FxHashSet::default(),
            kernel: FxHashMap::default(),
            next_id: first_id,
        }
    }

    fn is_in_range(&self, id: u32) -> bool {
        (self.first_id..self.first_id.saturating_add(ID_COUNT)).contains(&id)
    }

    fn is_ours(&self, object: &NextHop) -> bool {
        object.protocol == self.protocol && self.is_in_range(object.id)
    }

    /// What the kernel has now. Objects of an earlier run are taken over where nothing else is wanted under
    /// their ids, so that its routes need no change.
    pub(super) fn read_back(&mut self, seen: Vec<NextHop>) {
        self.kernel = seen
            .into_iter()
            .filter(|object| self.is_in_range(object.id))
            .map(|o| (o.id, o))
            .collect();
        let ours = self
            .kernel
            .values()
            .filter(|object| self.is_ours(object))
            .cloned();
        let mut ours: Vec<NextHop> = ours
            .filter(|object| !self.wanted.contains_key(&object.id))
            .collect();
        // Members before groups.
        ours.sort_by_key(|object| (matches!(object.kind, NextHopKind::Group { .. }), object.id));
        for object in ours {
            self.adopt(object);
        }
    }

    fn adopt(&mut self, object: NextHop) {
        match &object.kind {
            NextHopKind::Gateway {
                gateway,
                interface,
                onlink,
            } => {
                let hop = Hop {
                    onlink: *onlink,
                    ..Hop::via(*gateway).on(*interface)
                };
                if let Entry::Vacant(place) = self.by_hop.entry(hop) {
                    place.insert(object.id);
                    self.wanted.insert(object.id, object.kind);
                }
            }
            NextHopKind::Group { members } => {
                let member = |(id, weight): &(u32, u16)| self.hop_of(*id).filter(|_| *weight == 1);
                let Some(mut hops) = members.iter().map(member).collect::<Option<Hops>>() else {
                    return;
                };
                hops.sort_unstable();
                if let Entry::Vacant(place) = self.by_hops.entry(hops) {
                    place.insert(object.id);
                    self.wanted.insert(object.id, object.kind);
                }
            }
            NextHopKind::Interface { .. } | NextHopKind::Blackhole { .. } => {}
        }
    }

    fn hop_of(&self, id: u32) -> Option<Hop> {
        self.by_hop
            .iter()
            .find(|(_, known)| **known == id)
            .map(|(hop, _)| *hop)
    }

    /// The group for a set of hops; none if all our ids are taken.
    pub(super) fn group(&mut self, hops: &Hops) -> Option<u32> {
        if let Some(id) = self.by_hops.get(hops) {
            return Some(*id);
        }
        let mut members = Vec::with_capacity(hops.len());
        for hop in hops {
            let known = self.by_hop.get(hop).copied();
            let id = match known {
                Some(id) => id,
                None => {
                    let kind = NextHopKind::Gateway {
                        gateway: hop.gateway?,
                        interface: hop.interface?,
                        onlink: hop.onlink,
                    };
                    let id = self.free_id()?;
                    self.wanted.insert(id, kind);
                    self.by_hop.insert(*hop, id);
                    id
                }
            };
            members.push((id, 1));
        }
        // As the kernel shows them.
        members.sort_unstable();
        let id = self.free_id()?;
        self.wanted.insert(id, NextHopKind::Group { members });
        self.by_hops.insert(hops.clone(), id);
        Some(id)
    }

    fn free_id(&mut self) -> Option<u32> {
        for _ in 0..ID_COUNT {
            let id = self.next_id;
            self.next_id = if self.is_in_range(id.wrapping_add(1)) {
                id.wrapping_add(1)
            } else {
                self.first_id
            };
            if !self.wanted.contains_key(&id) && !self.kernel.contains_key(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Groups do without a gateway, or use it again: one change a group, whatever the number of its routes. A group
    /// of which nothing would be left stays as it is.
    pub(super) fn suspend(&mut self, gateway: Gateway, suspended: bool) {
        if suspended {
            self.suspended.insert(gateway);
        } else {
            self.suspended.remove(&gateway);
        }
    }

    /// What an object should be now.
    fn current<'a>(&self, kind: &'a NextHopKind) -> Cow<'a, NextHopKind> {
        let NextHopKind::Group { members } = kind else {
            return Cow::Borrowed(kind);
        };
        let usable = |(id, _): &&(u32, u16)| match self.wanted.get(id) {
            Some(NextHopKind::Gateway {
                gateway, interface, ..
            }) => {
                let on_link = Gateway {
                    address: *gateway,
                    interface: Some(*interface),
                };
                !self.suspended.contains(&Gateway::from(*gateway)) && !self.suspended.contains(&on_link)
            }
            _ => true,
        };
        let left: Vec<_> = members.iter().filter(usable).copied().collect();
        if left.is_empty() || left.len() == members.len() {
            return Cow::Borrowed(kind);
        }
        Cow::Owned(NextHopKind::Group { members: left })
    }

    /// What to create or change before routes are: members first.
    pub(super) fn missing(&self) -> Vec<Request> {
        let differs = |id: &u32, kind: &NextHopKind| match self.kernel.get(id) {
            Some(seen) => !self.is_ours(seen) || !is_same(&seen.kind, kind),
            None => true,
        };
        let wanted = self.wanted.iter().map(|(id, kind)| (id, self.current(kind)));
        let mut missing: Vec<_> = wanted.filter(|(id, kind)| differs(id, kind)).collect();
        missing.sort_by_key(|(id, kind)| (matches!(**kind, NextHopKind::Group { .. }), **id));
        let request = |(id, kind): (&u32, Cow<'_, NextHopKind>)| {
            let object = NextHop {
                id: *id,
                protocol: self.protocol,
                kind: kind.into_owned(),
                unusable: false,
            };
            match self.kernel.get(id) {
                Some(seen) if self.is_ours(seen) => Request::ReplaceNextHop(object),
                _ => Request::AddNextHop(object),
            }
        };
        missing.into_iter().map(request).collect()
    }

    /// What became of a request.
    pub(super) fn done(&mut self, request: &Request) {
        match request {
            Request::AddNextHop(object) | Request::ReplaceNextHop(object) => {
                self.kernel.insert(object.id, object.clone());
            }
            Request::DeleteNextHop(id) => {
                self.kernel.remove(id);
            }
            _ => {}
        }
    }

    /// A member or a group that the kernel does not take: it is looked for again under another id when it
    /// is needed again.
    pub(super) fn give_up(&mut self, id: u32) {
        self.forget(id);
        let dependent = |kind: &NextHopKind| match kind {
            NextHopKind::Group { members } => members.iter().any(|(member, _)| *member == id),
            _ => false,
        };
        let groups: Vec<u32> = self
            .wanted
            .iter()
            .filter(|(_, kind)| dependent(kind))
            .map(|(id, _)| *id)
            .collect();
        for group in groups {
            self.forget(group);
        }
    }

    fn forget(&mut self, id: u32) {
        self.wanted.remove(&id);
        self.by_hop.retain(|_, known| *known != id);
        self.by_hops.retain(|_, known| *known != id);
    }

    /// Whether the kernel has a group as it should be.
    pub(super) fn is_installed(&self, id: u32) -> bool {
        self.kernel.get(&id).is_some_and(|seen| {
            let is_current = |kind| is_same(&seen.kind, &self.current(kind));
            self.is_ours(seen) && self.wanted.get(&id).is_some_and(is_current)
        })
    }

    /// What to delete after routes were: groups that no route uses, then members of no group. Objects
    /// of ours that nothing is known of are deleted only by `sweep`.
    pub(super) fn unused(&mut self, is_used: impl Fn(u32) -> bool, sweep: bool) -> Vec<Request> {
        let groups: Vec<u32> = self
            .by_hops
            .values()
            .copied()
            .filter(|id| !is_used(*id))
            .collect();
        for id in &groups {
            self.forget(*id);
        }
        let mut members = FxHashSet::default();
        for kind in self.wanted.values() {
            if let NextHopKind::Group { members: ids } = kind {
                members.extend(ids.iter().map(|(id, _)| *id));
            }
        }
        let spare: Vec<u32> = self
            .by_hop
            .values()
            .copied()
            .filter(|id| !members.contains(id))
            .collect();
        for id in &spare {
            self.forget(*id);
        }
        let known: FxHashSet<u32> = groups.iter().chain(&spare).copied().collect();
        let is_unused = |object: &&NextHop| {
            let id = object.id;
            self.is_ours(object)
                && !self.wanted.contains_key(&id)
                && !is_used(id)
                && (sweep || known.contains(&id))
        };
        let mut unused: Vec<&NextHop> = self.kernel.values().filter(is_unused).collect();
        unused.sort_by_key(|object| (!matches!(object.kind, NextHopKind::Group { .. }), object.id));
        unused
            .into_iter()
            .map(|object| Request::DeleteNextHop(object.id))
            .collect()
    }

    /// Objects of ours in the kernel.
    pub(super) fn installed(&self) -> usize {
        self.kernel.values().filter(|object| self.is_ours(object)).count()
    }
}

/// The kernel shows members of a group in its own order.
fn is_same(seen: &NextHopKind, wanted: &NextHopKind) -> bool {
    match (seen, wanted) {
        (NextHopKind::Group { members: seen }, NextHopKind::Group { members: wanted }) => {
            let mut seen = seen.clone();
            seen.sort_unstable();
            seen == *wanted
        }
        _ => seen == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 1000;
    const OURS: u8 = 201;

    fn hops(gateways: &[&str]) -> Hops {
        gateways
            .iter()
            .map(|g| Hop::via(g.parse().unwrap()).on(3))
            .collect()
    }

    fn carry_out(objects: &mut Objects, requests: &[Request]) {
        requests.iter().for_each(|request| objects.done(request));
    }

    #[test]
    fn equal_sets_share_a_group_and_members_are_shared() {
        let mut objects = Objects::new(FIRST, OURS);
        let both = objects.group(&hops(&["10.0.0.2", "10.0.0.3"])).unwrap();
        assert_eq!(objects.group(&hops(&["10.0.0.2", "10.0.0.3"])), Some(both));
        let other = objects.group(&hops(&["10.0.0.2", "10.0.0.4"])).unwrap();
        assert_ne!(both, other);
        let missing = objects.missing();
        let text: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "add next hop id 1000 via 10.0.0.2 dev 3 proto 201",
                "add next hop id 1001 via 10.0.0.3 dev 3 proto 201",
                "add next hop id 1003 via 10.0.0.4 dev 3 proto 201",
                "add next hop id 1002 group 1000*1 1001*1 proto 201",
                "add next hop id 1004 group 1000*1 1003*1 proto 201",
            ]
        );
        carry_out(&mut objects, &missing);
        assert!(objects.missing().is_empty() && objects.is_installed(both));
        // Only what no route uses goes, groups before members.
        let unused = objects.unused(|id| id == both, false);
        assert_eq!(
            unused,
            [Request::DeleteNextHop(1004), Request::DeleteNextHop(1003)]
        );
        carry_out(&mut objects, &unused);
        let unused = objects.unused(|_| false, false);
        assert_eq!(unused, [1002, 1000, 1001].map(Request::DeleteNextHop));
    }

    #[test]
    fn an_earlier_run_is_taken_over_and_losses_are_put_back() {
        let mut objects = Objects::new(FIRST, OURS);
        let set = hops(&["10.0.0.2", "10.0.0.3"]);
        let id = objects.group(&set).unwrap();
        let requests = objects.missing();
        carry_out(&mut objects, &requests);
        let seen: Vec<NextHop> = objects.kernel.values().cloned().collect();

        let mut next_run = Objects::new(FIRST, OURS);
        let foreign = NextHop {
            protocol: 4,
            id: 1003,
            ..seen[0].clone()
        };
        next_run.read_back(seen.iter().cloned().chain([foreign]).collect());
        assert_eq!(next_run.group(&set), Some(id));
        assert!(next_run.missing().is_empty());
        // An id that somebody else has in our range is left alone.
        let other = next_run.group(&hops(&["10.0.0.2", "10.0.0.4"])).unwrap();
        assert!(next_run.wanted.contains_key(&other) && !next_run.wanted.contains_key(&1003));

        // Carrier loss: the kernel drops a member, and the group is without it.
        let left = seen
            .iter()
            .filter(|object| object.id != 1001)
            .cloned()
            .map(|mut object| {
                if let NextHopKind::Group { members } = &mut object.kind {
                    members.retain(|(id, _)| *id != 1001);
                }
                object
            });
        objects.read_back(left.collect());
        assert!(!objects.is_installed(id));
        let text: Vec<String> = objects.missing().iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "add next hop id 1001 via 10.0.0.3 dev 3 proto 201",
                "replace next hop id 1002 group 1000*1 1001*1 proto 201",
            ]
        );
    }

    #[test]
    fn a_group_does_without_a_suspended_gateway_as_long_as_another_is_left() {
        let mut objects = Objects::new(FIRST, OURS);
        let id = objects.group(&hops(&["10.0.0.2", "10.0.0.3"])).unwrap();
        let requests = objects.missing();
        carry_out(&mut objects, &requests);
        let mut step = |gateway: &str, suspended| {
            objects.suspend(gateway.parse::<std::net::IpAddr>().unwrap().into(), suspended);
            let requests = objects.missing();
            carry_out(&mut objects, &requests);
            assert!(objects.is_installed(id));
            requests.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            step("10.0.0.3", true),
            ["replace next hop id 1002 group 1000*1 proto 201"]
        );
        // With none left it is as if none were suspended: packets may still find a way.
        let whole = ["replace next hop id 1002 group 1000*1 1001*1 proto 201"];
        assert_eq!(step("10.0.0.2", true), whole);
        assert_eq!(
            step("10.0.0.3", false),
            ["replace next hop id 1002 group 1001*1 proto 201"]
        );
        assert_eq!(step("10.0.0.2", false), whole);
    }

    #[test]
    fn what_the_kernel_refuses_takes_its_groups_along() {
        let mut objects = Objects::new(FIRST, OURS);
        objects.group(&hops(&["10.0.0.2", "10.0.0.3"])).unwrap();
        objects.give_up(1001);
        assert_eq!(objects.missing().len(), 1);
        assert!(objects.by_hops.is_empty());
    }
}
