//! What a route becomes on its way to an update group (RFC 4271 sections 5.1 and 9.1.3, RFC 4456).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::decision::LOCAL_PREF_DEFAULT;
use super::default_route::is_default;
use super::groups::is_withheld;
use super::intern::AttrId;
use super::packed::Packed;
use super::paths::Chosen;
use super::{Gateway, Interfaces, PeerId, PeerSettings, Rib};
use crate::config::{ExportOptions, NextHopMode, PrivateAs};
use crate::policy::{Decision, Explanation, PeerType, Policy, Route, Source, Verdict};
use crate::wire::{Attributes, Community, Family, FamilySet, NextHop, Prefix, Role};

/// What peers must have in common to be told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) family: Family,
    ebgp: bool,
    local_as: u32,
    global_as: u32,
    client: bool,
    cluster_id: Ipv4Addr,
    next_hop: NextHopMode,
    self_next_hop: Option<NextHop>,
    shared_subnet: Option<Prefix>,
    /// What an IPv4 route's next hop may be.
    extended_next_hop: bool,
    role: Option<Role>,
    long_lived: bool,
    pub(super) options: ExportOptions,
    drain: bool,
    /// The AS that is replaced by ours in AS_PATHs.
    overridden_as: Option<u32>,
    summarized: Arc<[Prefix]>,
    export: Policy,
    /// For that policy.
    interfaces: Interfaces,
    /// Its members take several paths of a prefix (RFC 7911): how many they are told of.
    pub(super) add_path: Option<usize>,
    encoding: u64,
}

/// Why a route is not told to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// One of its communities holds it back (RFC 1997).
    Community(Community),
    /// It comes from within our AS and neither end is a client of ours (RFC 4456 section 6).
    NotReflected,
    /// ONLY_TO_CUSTOMER keeps it from this peer (RFC 9234 section 5).
    OnlyToCustomer,
    /// It has LLGR_STALE, and the peer does not know what that means (RFC 9494 section 4.3).
    LongLivedStale,
    /// It lies inside an aggregate that is told instead.
    Summarized(Prefix),
    /// We have no address that could be its next hop there.
    NoNextHop,
    /// Its next hop is an IPv6 address, and it is an IPv4 route (RFC 8950).
    ExtendedNextHop,
    /// The export policy.
    Policy(Explanation),
    /// The peer sent it itself, or is its next hop (RFC 4271 section 5.1.3).
    ItsOwn,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Community(community) => write!(f, "its community {community} holds it back"),
            Self::NotReflected => f.write_str("it comes from within our AS, and neither end is a client"),
            Self::OnlyToCustomer => f.write_str("ONLY_TO_CUSTOMER keeps it from this neighbor"),
            Self::LongLivedStale => {
                f.write_str("it is long-lived stale, and the neighbor has not offered LLGR")
            }
            Self::Summarized(prefix) => write!(f, "it is part of the aggregate {prefix}"),
            Self::NoNextHop => f.write_str("we have no address that could be its next hop there"),
            Self::ExtendedNextHop => f.write_str(
                "its next hop is an IPv6 address, and the neighbor has not offered to take such (RFC 8950)",
            ),
            Self::Policy(explanation) => write!(f, "export policy: {explanation}"),
            Self::ItsOwn => f.write_str("the neighbor sent it, or is its next hop"),
        }
    }
}

impl GroupKey {
    pub(super) fn of(peer: &PeerSettings, family: Family) -> Self {
        let options = &peer.routing.export;
        let originates_default = options.default_originate.contains(family);
        let own_default = |families: FamilySet| families.iter().filter(|other| *other == family).collect();
        Self {
            family,
            ebgp: peer.is_ebgp(),
            local_as: peer.local_as,
            global_as: if options.prepend_global_as {
                peer.global_as
            } else {
                peer.local_as
            },
            client: peer.route_reflector_client,
            cluster_id: peer.cluster_id,
            next_hop: peer.next_hop,
            self_next_hop: peer.self_next_hop(family),
            shared_subnet: peer.shared_subnet,
            extended_next_hop: peer.extended_next_hop,
            role: peer.role,
            long_lived: peer.long_lived,
            options: ExportOptions {
                default_originate: own_default(options.default_originate),
                default_policy: match originates_default {
                    true => options.default_policy.clone(),
                    false => Policy::Accept,
                },
                ..options.clone()
            },
            drain: peer.routing.drain,
            overridden_as: options.as_override.then_some(peer.remote_as),
            summarized: Arc::clone(&peer.summarized),
            export: peer.export.clone(),
            interfaces: peer.interfaces_for(&peer.export),
            add_path: peer
                .add_path_send
                .contains(family)
                .then(|| peer.add_path_limit.map_or(usize::MAX, usize::from)),
            encoding: peer.encoding,
        }
    }

    /// Whether a prefix is left out because an aggregate stands for it.
    fn summary_of(&self, prefix: &Prefix) -> Option<Prefix> {
        let stands_for = |aggregate: &&Prefix| **aggregate != *prefix && aggregate.contains(prefix);
        self.summarized.iter().find(stands_for).copied()
    }

    /// Whether a route is for this group, as far as that follows from its attributes and the peer that it came
    /// from (nothing for our own); if so, its next hop before the policy.
    pub(super) fn admit(
        &self,
        source: Option<&PeerSettings>,
        attributes: Packed<'_>,
    ) -> Result<NextHop, Withheld> {
        let withheld: &[Community] = if self.ebgp {
            &[
                Community::NO_ADVERTISE,
                Community::NO_EXPORT,
                Community::NO_EXPORT_SUBCONFED,
            ]
        } else {
            &[Community::NO_ADVERTISE]
        };
        let held_back_by = |community: &&Community| attributes.has_community(**community);
        if let Some(community) = withheld.iter().find(held_back_by) {
            return Err(Withheld::Community(*community));
        }
        let understood = self.long_lived || self.options.long_lived_stale && !self.ebgp;
        if !understood && attributes.has_community(Community::LLGR_STALE) {
            return Err(Withheld::LongLivedStale);
        }
        if source.is_some_and(|source| self.reflects(source) && self.cluster_of(source).is_none()) {
            return Err(Withheld::NotReflected);
        }
        // RFC 9234 section 5, egress.
        let upwards = matches!(
            self.role,
            Some(Role::Customer | Role::RouteServerClient | Role::Peer)
        );
        if self.ebgp && upwards && attributes.otc().is_some() {
            return Err(Withheld::OnlyToCustomer);
        }
        let mut next_hop = attributes.next_hop();
        // RFC 2545 section 3: a next hop on a link of ours means nothing on another one.
        if attributes.interface().is_some() || !self.keeps_next_hop(next_hop) {
            next_hop = self.self_next_hop.ok_or(Withheld::NoNextHop)?;
        } else if let NextHop::V6 { global, link_local } = &mut next_hop
            && !self
                .shared_subnet
                .is_some_and(|subnet| subnet.contains(&IpAddr::V6(*global)))
        {
            // RFC 2545 section 3: only to where all of us share a link.
            *link_local = None;
        }
        let is_extended = self.family == Family::Ipv4Unicast && matches!(next_hop, NextHop::V6 { .. });
        if is_extended && !self.extended_next_hop {
            return Err(Withheld::ExtendedNextHop);
        }
        Ok(next_hop)
    }

    /// A route that is for this group as the export policy sees it, with the next hop that goes with it.
    pub(super) fn prepare(
        &self,
        source: Option<&PeerSettings>,
        mut route: Attributes,
        next_hop: NextHop,
    ) -> Attributes {
        route.weight = None;
        route.interface = None;
        if let Some(source) = source.filter(|source| self.reflects(source)) {
            route.originator_id.get_or_insert(source.router_id);
            route.cluster_list.splice(0..0, self.cluster_of(source));
        }
        if self.ebgp {
            if matches!(self.role, Some(Role::Provider | Role::RouteServer | Role::Peer)) {
                route.otc.get_or_insert(self.local_as);
            }
            self.rewrite_path(&mut route);
        }
        if self.ebgp && source.is_some() {
            // RFC 4271 section 5.1.4: not to be passed on to other ASes.
            route.med = None;
        }
        route.local_pref.get_or_insert(LOCAL_PREF_DEFAULT);
        route.next_hop = next_hop;
        route
    }

    /// A prepared route as the export policy sees it. `before` says where it leads on this host.
    pub(super) fn route<'a>(
        &'a self,
        source: Option<&PeerSettings>,
        attributes: &'a Attributes,
        before: Onward,
    ) -> Route<'a> {
        Route {
            source: match source {
                None if attributes.aggregator.is_some() => Source::Aggregate,
                None => Source::Network,
                Some(peer) if peer.is_ebgp() => Source::Ebgp,
                Some(_) => Source::Ibgp,
            },
            neighbor: source.map(|peer| peer.key.address),
            interface: self.interfaces.of(before.gateway),
            peer_type: if self.ebgp { PeerType::Ebgp } else { PeerType::Ibgp },
            local_as: self.local_as,
            self_next_hop: self.self_next_hop,
            unchanged_next_hop: before.next_hop,
            ..Route::new(attributes)
        }
    }

    /// Whether a route passes from one internal peer to another.
    fn reflects(&self, source: &PeerSettings) -> bool {
        !source.is_ebgp() && !self.ebgp
    }

    /// The cluster that a route is reflected for: a client's to all, another's to clients (RFC 4456 sections 6
    /// and 8).
    fn cluster_of(&self, source: &PeerSettings) -> Option<Ipv4Addr> {
        match (source.route_reflector_client, self.client) {
            (true, true) => self.options.client_to_client.then_some(source.cluster_id),
            (true, false) => Some(source.cluster_id),
            (false, true) => Some(self.cluster_id),
            (false, false) => None,
        }
    }

    /// Other ASes' numbers that are not to be seen there, before ours is put in front.
    fn rewrite_path(&self, route: &mut Attributes) {
        let private = self.options.private_as;
        if private == PrivateAs::Keep && self.overridden_as.is_none() {
            return;
        }
        for segment in &mut route.as_path.segments {
            if private == PrivateAs::Remove {
                segment.ases.retain(|asn| !is_private(*asn));
            }
            for asn in &mut segment.ases {
                let replaced = private == PrivateAs::Replace && is_private(*asn);
                if replaced || self.overridden_as == Some(*asn) {
                    *asn = self.local_as;
                }
            }
        }
        // RFC 4271 section 4.3: no segment is empty.
        route.as_path.segments.retain(|segment| !segment.ases.is_empty());
    }

    fn keeps_next_hop(&self, next_hop: NextHop) -> bool {
        if next_hop.is_unspecified() {
            return false;
        }
        match self.next_hop {
            NextHopMode::SelfAddress => false,
            NextHopMode::Keep => true,
            NextHopMode::Auto if self.ebgp => self
                .shared_subnet
                .is_some_and(|subnet| subnet.contains(&next_hop.address())),
            NextHopMode::Auto => true,
        }
    }

    /// The route as it goes out after the export policy. `route` is asked for if the policy leaves it as it is.
    pub(super) fn decided(
        &self,
        decision: Decision,
        route: impl FnOnce() -> Attributes,
    ) -> Option<Attributes> {
        let mut finished = match decision {
            Decision::Reject => return None,
            Decision::Unchanged => route(),
            Decision::Changed(changed) => *changed,
        };
        self.finish(&mut finished);
        Some(finished)
    }

    /// What the policy does not see: our AS, and what does not leave it.
    fn finish(&self, route: &mut Attributes) {
        route.weight = None;
        if self.drain && !route.has_community(Community::GRACEFUL_SHUTDOWN) {
            route.communities.push(Community::GRACEFUL_SHUTDOWN);
        }
        if self.ebgp {
            if self.global_as != self.local_as {
                route.as_path.prepend(self.global_as, 1);
            }
            route.as_path.prepend(self.local_as, 1);
            route.local_pref = None;
            route.originator_id = None;
            route.cluster_list.clear();
        } else if self.drain {
            route.local_pref = Some(0);
        }
        if !self.long_lived && route.has_community(Community::LLGR_STALE) {
            // RFC 9494 section 4.6: for who does not know the community.
            route.local_pref = Some(0);
            if !route.has_community(Community::NO_EXPORT) {
                route.communities.push(Community::NO_EXPORT);
            }
        }
        let options = &self.options;
        if !options.communities {
            route.communities.clear();
        }
        if !options.extended_communities {
            route.extended_communities.clear();
        }
        if !options.large_communities {
            route.large_communities.clear();
        }
    }

    /// Why a route is, or is not, told to this group.
    fn explain(
        &self,
        source: Option<&PeerSettings>,
        prefix: &Prefix,
        attributes: Packed<'_>,
    ) -> Result<Explanation, Withheld> {
        if let Some(summary) = self.summary_of(prefix) {
            return Err(Withheld::Summarized(summary));
        }
        let next_hop = self.admit(source, attributes)?;
        let route = self.prepare(source, attributes.unpack(), next_hop);
        let seen = self.route(source, &route, Onward::of(attributes));
        let explanation = self.export.explain(prefix, &seen);
        match explanation.verdict {
            Verdict::Accept => Ok(explanation),
            Verdict::Reject => Err(Withheld::Policy(explanation)),
        }
    }
}

/// For private use (RFC 6996 section 5).
const fn is_private(asn: u32) -> bool {
    matches!(asn, 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
}

/// A finished set of attributes in an [`ExportCache`]. Equal sets have equal ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OutId(u32);

/// A route as a group is told it, and the peer that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Out {
    pub(super) attributes: OutId,
    pub(super) source: PeerId,
}

/// Where a route comes from, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) source: PeerId,
    pub(super) next_hop: Option<IpAddr>,
}

/// Where a route leads on this host, whatever others are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onward {
    next_hop: NextHop,
    gateway: Gateway,
}

impl Onward {
    pub(super) fn of(attributes: Packed<'_>) -> Self {
        Self {
            next_hop: attributes.next_hop(),
            gateway: attributes.gateway(),
        }
    }
}

/// The peer that a route is from, and its attributes as they were accepted.
type Origin = (PeerId, AttrId);

/// Routes of a prefix as a group is told them, with the identifiers of their paths.
pub(super) type Exports = SmallVec<[(Option<u32>, Out); 1]>;

/// What a group is told of routes, worked out once for many prefixes. It lives for a step: ids of
/// attributes mean the same all along.
#[derive(Debug, Default)]
pub(super) struct ExportCache {
    prepared: FxHashMap<Origin, Prepared>,
    finished: indexmap::IndexSet<Arc<Attributes>, rustc_hash::FxBuildHasher>,
    /// What was asked for last: neighbouring prefixes often have the same.
    last_out: Option<(Origin, Option<Out>)>,
    last_way: Option<(Origin, Option<Way>)>,
}

#[derive(Debug)]
enum Prepared {
    /// The same for all prefixes.
    Alike(Option<Out>),
    /// The policy looks at the prefix.
    ByPrefix {
        source: PeerId,
        /// For the policy.
        route: Box<Attributes>,
        before: Onward,
    },
}

impl ExportCache {
    pub(super) fn store(&mut self, attributes: Attributes) -> OutId {
        let (id, _) = self.finished.insert_full(Arc::new(attributes));
        OutId(id as u32)
    }

    /// The attributes of an id of this cache.
    pub(super) fn get(&self, id: OutId) -> Option<&Arc<Attributes>> {
        self.finished.get_index(id.0 as usize)
    }

    /// Where a route comes from and leads to.
    pub(super) fn way(&self, out: Out) -> Way {
        Way {
            source: out.source,
            next_hop: self
                .get(out.attributes)
                .map(|attributes| attributes.next_hop.address()),
        }
    }
}

impl Rib {
    /// What a group is told of a prefix of which it is to hear this path: it follows from that alone, and so
    /// need not be stored.
    pub(super) fn export(
        &self,
        key: &GroupKey,
        prefix: &Prefix,
        best: Chosen,
        cache: &mut ExportCache,
    ) -> Option<Out> {
        if key.summary_of(prefix).is_some() {
            return None;
        }
        let from = (self.sources.peer(best.source), best.attributes);
        if let Some((last, out)) = cache.last_out
            && last == from
        {
            return out;
        }
        if !cache.prepared.contains_key(&from) {
            let prepared = self.prepare(key, from, cache);
            cache.prepared.insert(from, prepared);
        }
        let (source, finished) = match cache.prepared.get(&from)? {
            Prepared::Alike(out) => {
                cache.last_out = Some((from, *out));
                return *out;
            }
            Prepared::ByPrefix {
                source,
                route,
                before,
            } => {
                let (peer, _) = from;
                let settings = self.source(peer).map(|(_, settings)| settings);
                let seen = key.route(settings, route, *before);
                let decision = key.export.decide(prefix, &seen);
                (*source, key.decided(decision, || Attributes::clone(route))?)
            }
        };
        Some(Out {
            attributes: cache.store(finished),
            source,
        })
    }

    fn prepare(&self, key: &GroupKey, (peer, attributes): Origin, cache: &mut ExportCache) -> Prepared {
        let (id, settings) = self.source(peer).unzip();
        let source = id.unwrap_or(peer);
        let attributes = self.attributes.get(attributes);
        let Ok(next_hop) = key.admit(settings, attributes) else {
            return Prepared::Alike(None);
        };
        let before = Onward::of(attributes);
        let route = key.prepare(settings, attributes.unpack(), next_hop);
        let seen = key.route(settings, &route, before);
        match key.export.judge(&seen) {
            Some(decision) => Prepared::Alike(key.decided(decision, || route).map(|finished| Out {
                attributes: cache.store(finished),
                source,
            })),
            None => Prepared::ByPrefix {
                source,
                route: Box::new(route),
                before,
            },
        }
    }

    /// Where what a group is told of a prefix comes from and leads to: all that a withdrawal needs.
    pub(super) fn export_way(
        &self,
        key: &GroupKey,
        prefix: &Prefix,
        best: Chosen,
        cache: &mut ExportCache,
    ) -> Option<Way> {
        if key.export != Policy::Accept || key.summary_of(prefix).is_some() {
            let out = self.export(key, prefix, best, cache);
            return out.map(|out| cache.way(out));
        }
        let from = (self.sources.peer(best.source), best.attributes);
        if let Some((last, way)) = cache.last_way
            && last == from
        {
            return way;
        }
        let (peer, attributes) = from;
        let (id, settings) = self.source(peer).unzip();
        let next_hop = key.admit(settings, self.attributes.get(attributes));
        let way = next_hop.ok().map(|next_hop| Way {
            source: id.unwrap_or(peer),
            next_hop: Some(next_hop.address()),
        });
        cache.last_way = Some((from, way));
        way
    }

    /// What a group is told of a prefix, by the identifiers of the paths: of the best path, without one, or with
    /// add-path of as many as its members want to hear of. Each is judged by itself, so one that they are not to
    /// be told leaves a gap.
    pub(super) fn exports(&self, key: &GroupKey, place: u32, cache: &mut ExportCache) -> Exports {
        let table = self.tables.of(key.family);
        let Some((prefix, entry)) = table.prefix(place).zip(table.entry(place)) else {
            return Exports::new();
        };
        if is_default(&prefix) && key.originates_default() {
            return self.default_exports(key, cache);
        }
        let Some(limit) = key.add_path else {
            let best = entry
                .best()
                .and_then(|best| self.export(key, &prefix, best, cache));
            return best.map(|out| (None, out)).into_iter().collect();
        };
        let mut exports = Exports::new();
        for path in entry.ranked().take(limit) {
            let out = self.export(key, &prefix, path, cache);
            exports.extend(out.map(|out| (Some(path.source.path_id()), out)));
        }
        exports
    }

    /// Why a peer that is up is, or is not, told the best path of a prefix; nothing if there is none, or the
    /// peer is not told routes of this family.
    pub fn explain_export(&self, id: PeerId, prefix: Prefix) -> Option<Result<Explanation, Withheld>> {
        let (_, group) = self.place_of(id, Family::of(&prefix))?;
        if is_default(&prefix) && group.key.originates_default() {
            return Some(group.key.default_route().map(|(_, explanation)| explanation));
        }
        let best = self.tables.entry(&prefix.trunc())?.best()?;
        self.explain_export_of(id, prefix, best)
    }

    pub(super) fn explain_export_of(
        &self,
        id: PeerId,
        prefix: Prefix,
        best: Chosen,
    ) -> Option<Result<Explanation, Withheld>> {
        let prefix = prefix.trunc();
        let (peer, group) = self.place_of(id, Family::of(&prefix))?;
        let best_of = self.sources.peer(best.source);
        let source = self.source(best_of).map(|(_, settings)| settings);
        let explained = group
            .key
            .explain(source, &prefix, self.attributes.get(best.attributes));
        let mut cache = ExportCache::default();
        let out = self.export(&group.key, &prefix, best, &mut cache);
        let member = (id, peer.settings.key.address);
        let own = out.map_or(best_of == id, |out| is_withheld(member, cache.way(out)));
        Some(explained.and_then(|explanation| {
            if own {
                Err(Withheld::ItsOwn)
            } else {
                Ok(explanation)
            }
        }))
    }
}
