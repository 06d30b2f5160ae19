//! A slow BGP: it keeps what it was told and computes everything from that whenever it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgpd::config::{Aggregate, NeighborKey, Network, NextHopMode, PrivateAs};
use bgpd::policy::{Decision, PeerType, Policy, Route, Source};
use bgpd::rib::{Gateway, NextHopState, PeerSettings, RibSettings};
use bgpd::wire::{Aggregator, AsPath, Attributes, Community, Family, NextHop, Prefix, Role};

#[derive(Clone)]
pub(crate) struct Oracle {
    pub(crate) settings: RibSettings,
    pub(crate) sessions: BTreeMap<NeighborKey, Session>,
    pub(crate) networks: BTreeMap<Prefix, Network>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) next_hops: BTreeMap<IpAddr, NextHopState>,
}

#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) settings: PeerSettings,
    pub(crate) up: bool,
    /// Attributes as they came, and whether they are stale, by path identifier; 0 without add-path.
    pub(crate) routes: BTreeMap<(Prefix, u32), (Attributes, bool)>,
}

/// A usable path; no session: our own.
#[derive(Clone)]
struct Path<'a> {
    session: Option<&'a PeerSettings>,
    path_id: u32,
    attributes: Attributes,
    interface: Option<&'a str>,
    metric: u32,
}

impl Path<'_> {
    fn name(&self) -> (Option<NeighborKey>, u32) {
        (self.session.map(|s| s.key), self.path_id)
    }
}

impl Oracle {
    pub(crate) fn prefixes(&self) -> BTreeSet<Prefix> {
        let sessions = self.sessions.values();
        let received = sessions.flat_map(|session| session.routes.keys().map(|(prefix, _)| prefix));
        let own = self
            .networks
            .keys()
            .chain(self.aggregates.iter().map(|a| &a.prefix));
        received.chain(own).copied().collect()
    }

    /// What is to be installed.
    pub(crate) fn fib(&self) -> BTreeMap<Prefix, Vec<Gateway>> {
        let mut fib = BTreeMap::new();
        for prefix in self.prefixes() {
            let best = self.best(&prefix);
            if best.first().is_some_and(|path| path.session.is_some()) {
                let gateways = best.iter().map(|path| Gateway::of(&path.attributes));
                let discarded = best.first().is_some_and(|path| {
                    let may = path.session.is_some_and(|s| s.routing.import.accept_blackhole);
                    may && path.attributes.has_community(Community::BLACKHOLE)
                });
                fib.insert(prefix, if discarded { Vec::new() } else { gateways.collect() });
            } else if self.aggregate(&prefix).is_some() {
                // Discarded.
                fib.insert(prefix, Vec::new());
            }
        }
        fib
    }

    /// What a session that is up must have been told.
    pub(crate) fn told(&self, key: NeighborKey) -> BTreeMap<Prefix, Attributes> {
        let Some(to) = self.sessions.get(&key).filter(|session| session.up) else {
            return BTreeMap::new();
        };
        let best = self
            .prefixes()
            .into_iter()
            .filter_map(|p| Some((p, self.best(&p).into_iter().next()?)));
        let best = best.filter(|(prefix, _)| !originates_default(&to.settings, prefix));
        best.filter_map(|(prefix, path)| Some((prefix, export(&to.settings, &prefix, path)?)))
            .chain(own_defaults(&to.settings))
            .collect()
    }

    /// What a session that is up and takes several paths of a prefix must have been told of each.
    pub(crate) fn told_paths(&self, key: NeighborKey) -> BTreeMap<Prefix, Vec<Attributes>> {
        let Some(to) = self.sessions.get(&key).filter(|session| session.up) else {
            return BTreeMap::new();
        };
        let limit = to.settings.add_path_limit.map_or(usize::MAX, usize::from);
        let mut told: BTreeMap<Prefix, Vec<Attributes>> = BTreeMap::new();
        for (prefix, route) in own_defaults(&to.settings) {
            told.insert(prefix, vec![route]);
        }
        let mut prefixes = self.prefixes();
        prefixes.retain(|prefix| !originates_default(&to.settings, prefix));
        for prefix in prefixes {
            for path in self.ranked(&prefix).into_iter().take(limit) {
                let route = export(&to.settings, &prefix, path);
                route
                    .into_iter()
                    .for_each(|route| told.entry(prefix).or_default().push(route));
            }
        }
        told
    }

    /// All usable paths: the best and its equals, then the best of the others and its equals, and so on.
    fn ranked(&self, prefix: &Prefix) -> Vec<Path<'_>> {
        let mut left = self.usable(prefix);
        let mut ranked = Vec::new();
        while !left.is_empty() {
            let best = self.best_of(left.clone());
            let names: Vec<_> = best.iter().map(Path::name).collect();
            left.retain(|path| !names.contains(&path.name()));
            ranked.extend(best);
        }
        ranked
    }

    /// The best path and its equals, the best first.
    fn best(&self, prefix: &Prefix) -> Vec<Path<'_>> {
        self.best_of(self.usable(prefix))
    }

    fn best_of<'a>(&self, mut paths: Vec<Path<'a>>) -> Vec<Path<'a>> {
        let local_pref = |p: &Path| p.attributes.local_pref.unwrap_or(100);
        keep_least(&mut paths, |p| p.session.is_some());
        keep_least(&mut paths, |p| p.attributes.has_community(Community::LLGR_STALE));
        let weight = |p: &Path| {
            let of_peer = p.session.and_then(|s| s.routing.import.weight);
            p.attributes.weight.or(of_peer).unwrap_or(0)
        };
        keep_least(&mut paths, |p| std::cmp::Reverse(weight(p)));
        keep_least(&mut paths, |p| std::cmp::Reverse(local_pref(p)));
        keep_least(&mut paths, |p| p.attributes.as_path.hop_count());
        keep_least(&mut paths, |p| p.attributes.origin);
        let missing_med = if self.settings.selection.missing_med_worst {
            u32::MAX
        } else {
            0
        };
        let med = |p: &Path| p.attributes.med.unwrap_or(missing_med);
        let everything = paths.clone();
        let always = self.settings.selection.always_compare_med;
        paths.retain(|p| {
            let rivals = everything.iter().filter(|q| {
                always || q.attributes.as_path.neighbor_as() == p.attributes.as_path.neighbor_as()
            });
            rivals.map(med).min() == Some(med(p))
        });
        let internal = |p: &Path| p.session.is_some_and(|s| s.remote_as == s.local_as);
        let mut beside: Vec<Path> = Vec::new();
        if self.settings.selection.multipath_eibgp && !paths.iter().all(internal) {
            beside = paths.iter().filter(|p| internal(p)).cloned().collect();
            keep_least(&mut beside, |p| p.metric);
        }
        keep_least(&mut paths, internal);
        keep_least(&mut paths, |p| p.metric);
        let router_id = |p: &Path| {
            p.attributes
                .originator_id
                .or(p.session.map(|s| s.router_id))
                .unwrap_or(self.settings.router_id)
        };
        for paths in [&mut paths, &mut beside] {
            paths.sort_by_key(|p| (router_id(p), p.attributes.cluster_list.len(), p.name()));
        }
        // Our own path is alone.
        if paths.first().is_some_and(|best| best.session.is_some()) {
            paths.append(&mut beside);
        }
        if !self.settings.selection.multipath_relax
            && let Some(best) = paths.first().cloned()
        {
            paths.retain(|p| p.attributes.as_path == best.attributes.as_path);
        }
        paths.truncate(self.settings.selection.multipath_max);
        paths
    }

    /// The path of an aggregate with this prefix, if there is a route to anything inside it.
    fn aggregate(&self, prefix: &Prefix) -> Option<Path<'_>> {
        let aggregate = self.aggregates.iter().find(|a| a.prefix == *prefix)?;
        let inside = self
            .prefixes()
            .into_iter()
            .filter(|p| p != prefix && prefix.contains(p));
        let best = inside.filter_map(|p| self.best(&p).into_iter().next());
        let parts: Vec<Attributes> = best.map(|path| path.attributes).collect();
        let attributes = Attributes {
            origin: parts.iter().map(|a| a.origin).max()?,
            atomic_aggregate: parts.iter().any(|a| a.atomic_aggregate || !a.as_path.is_empty()),
            aggregator: Some(Aggregator {
                asn: self.settings.local_as,
                router_id: self.settings.router_id,
            }),
            local_pref: aggregate.local_pref,
            communities: aggregate.communities.clone(),
            ..Attributes::originated(NextHop::unspecified(Family::of(prefix)))
        };
        Some(Path {
            session: None,
            path_id: 0,
            attributes,
            interface: None,
            metric: 0,
        })
    }

    fn usable(&self, prefix: &Prefix) -> Vec<Path<'_>> {
        let mut paths = Vec::new();
        if let Some(network) = self.networks.get(prefix) {
            let mut attributes = Attributes::originated(NextHop::unspecified(Family::of(prefix)));
            attributes.local_pref = network.local_pref;
            attributes.communities = network.communities.clone();
            attributes.large_communities = network.large_communities.clone();
            paths.push(Path {
                session: None,
                path_id: 0,
                attributes,
                interface: None,
                metric: 0,
            });
        }
        paths.extend(self.aggregate(prefix));
        let received = self.sessions.values().flat_map(|session| {
            let routes = session.routes.iter().filter(|((of, _), _)| of == prefix);
            routes.map(|((_, path_id), (attributes, _))| (&session.settings, *path_id, attributes))
        });
        for (s, path_id, attributes) in received {
            let mut attributes = attributes.clone();
            if s.remote_as != s.local_as {
                attributes.local_pref = None;
                attributes.originator_id = None;
                attributes.cluster_list = Vec::new();
            }
            let own = |asn| attributes.as_path.occurrences(asn) > usize::from(s.allow_own_as);
            if own(s.local_as) || own(self.settings.local_as) {
                continue;
            }
            let ours = [self.settings.router_id, s.cluster_id];
            if attributes.originator_id == Some(self.settings.router_id)
                || attributes.cluster_list.iter().any(|id| ours.contains(id))
                || attributes.next_hop.address() == s.local_address
                || s.self_next_hop.contains(&Some(attributes.next_hop))
            {
                continue;
            }
            let ebgp = s.remote_as != s.local_as;
            let shut_down = s.routing.import.honor_graceful_shutdown
                && attributes.has_community(Community::GRACEFUL_SHUTDOWN);
            if ebgp && !enter(s, &mut attributes) {
                continue;
            }
            let route = Route {
                interface: self.interface(attributes.next_hop),
                ..seen(s, Some(s), &attributes)
            };
            let mut attributes = match s.import.decide(prefix, &route) {
                Decision::Reject => continue,
                Decision::Unchanged => attributes,
                Decision::Changed(changed) => *changed,
            };
            if ebgp && (shut_down || s.routing.drain) {
                attributes.local_pref = Some(0);
            }
            let metric = match self.next_hops.get(&attributes.next_hop.address()) {
                Some(NextHopState::Reachable { metric, .. }) => *metric,
                Some(NextHopState::Unreachable) => continue,
                None if self.settings.assume_reachable => 0,
                None => continue,
            };
            paths.push(Path {
                session: Some(s),
                path_id,
                interface: self.interface(attributes.next_hop),
                attributes,
                metric,
            });
        }
        paths
    }

    /// The link that leads to a next hop, as policies see it.
    fn interface(&self, next_hop: NextHop) -> Option<&str> {
        match self.next_hops.get(&next_hop.address())? {
            NextHopState::Reachable { interface, .. } => interface.as_ref().map(|name| name.as_str()),
            NextHopState::Unreachable => None,
        }
    }
}

/// What a route from another AS becomes before the import policy; false if it may not come from there.
fn enter(from: &PeerSettings, route: &mut Attributes) -> bool {
    let options = &from.routing.import;
    let first = route.as_path.ases().next();
    if options.enforce_first_as && first != Some(from.remote_as) {
        return false;
    }
    let blackhole = route.has_community(Community::BLACKHOLE);
    if blackhole && !options.accept_blackhole {
        return false;
    }
    match (from.role, route.otc) {
        (Some(Role::Provider | Role::RouteServer), Some(_)) => return false,
        (Some(Role::Peer), Some(asn)) if asn != from.remote_as => return false,
        (Some(Role::Customer | Role::RouteServerClient | Role::Peer), None) => {
            route.otc = Some(from.remote_as)
        }
        _ => {}
    }
    let confined = route.has_community(Community::NO_EXPORT) || route.has_community(Community::NO_ADVERTISE);
    if blackhole && !confined {
        route.communities.push(Community::NO_EXPORT);
    }
    if options.prepend_local_as && from.local_as != from.global_as {
        route.as_path.prepend(from.local_as, 1);
    }
    route.local_pref = options.local_pref;
    true
}

fn keep_least<T: Ord>(paths: &mut Vec<Path>, key: impl Fn(&Path) -> T) {
    if let Some(least) = paths.iter().map(&key).min() {
        paths.retain(|path| key(path) == least);
    }
}

/// A route from a session as a policy of a session sees it.
fn seen<'a>(of: &PeerSettings, from: Option<&PeerSettings>, attributes: &'a Attributes) -> Route<'a> {
    let external = |s: &PeerSettings| s.remote_as != s.local_as;
    Route {
        source: match from.map(external) {
            None if attributes.aggregator.is_some() => Source::Aggregate,
            None => Source::Network,
            Some(true) => Source::Ebgp,
            Some(false) => Source::Ibgp,
        },
        neighbor: from.map(|s| s.key.address),
        peer_type: if external(of) {
            PeerType::Ebgp
        } else {
            PeerType::Ibgp
        },
        local_as: of.local_as,
        ..Route::new(attributes)
    }
}

/// Whether a session is told a default route of ours, whatever there is.
fn originates_default(to: &PeerSettings, prefix: &Prefix) -> bool {
    prefix.prefix_len() == 0 && to.routing.export.default_originate.contains(Family::of(prefix))
}

/// The default routes that a session is told whether or not there are any.
fn own_defaults(to: &PeerSettings) -> impl Iterator<Item = (Prefix, Attributes)> {
    let to = PeerSettings {
        export: to.routing.export.default_policy.clone(),
        ..to.clone()
    };
    let defaults = ["0.0.0.0/0", "::/0"].map(|text| text.parse::<Prefix>().unwrap());
    defaults.into_iter().filter_map(move |prefix| {
        let path = Path {
            session: None,
            path_id: 0,
            attributes: Attributes::originated(NextHop::unspecified(Family::of(&prefix))),
            interface: None,
            metric: 0,
        };
        let told = originates_default(&to, &prefix).then(|| export(&to, &prefix, path));
        Some((prefix, told??))
    })
}

fn export(to: &PeerSettings, prefix: &Prefix, path: Path) -> Option<Attributes> {
    let ebgp = to.remote_as != to.local_as;
    let mut route = path.attributes;
    let unchanged_next_hop = route.next_hop;
    if !to.families.contains(Family::of(prefix)) || path.session.is_some_and(|from| from.key == to.key) {
        return None;
    }
    let is_stale = route.has_community(Community::LLGR_STALE);
    if is_stale && !to.long_lived && (ebgp || !to.routing.export.long_lived_stale) {
        return None;
    }
    if route.has_community(Community::NO_ADVERTISE)
        || ebgp && route.has_community(Community::NO_EXPORT)
        || ebgp && route.has_community(Community::NO_EXPORT_SUBCONFED)
    {
        return None;
    }
    let summarized = |net: &Prefix| net != prefix && net.contains(prefix);
    if to.summarized.iter().any(summarized) {
        return None;
    }
    route.weight = None;
    let options = &to.routing.export;
    if let Some(from) = path.session
        && !ebgp
        && from.remote_as == from.local_as
    {
        let cluster = match (from.route_reflector_client, to.route_reflector_client) {
            (true, true) if !options.client_to_client => return None,
            (true, _) => from.cluster_id,
            (false, true) => to.cluster_id,
            (false, false) => return None,
        };
        route.originator_id = route.originator_id.or(Some(from.router_id));
        route.cluster_list.insert(0, cluster);
    }
    if ebgp {
        let lateral = matches!(
            to.role,
            Some(Role::Peer | Role::Customer | Role::RouteServerClient)
        );
        if lateral && route.otc.is_some() {
            return None;
        }
        if matches!(to.role, Some(Role::Peer | Role::Provider | Role::RouteServer)) {
            route.otc = route.otc.or(Some(to.local_as));
        }
        let private = |asn: u32| (64512..65535).contains(&asn);
        let path: Vec<u32> = route
            .as_path
            .ases()
            .filter(|asn| options.private_as != PrivateAs::Remove || !private(*asn))
            .map(|asn| match asn {
                asn if options.as_override && asn == to.remote_as => to.local_as,
                asn if options.private_as == PrivateAs::Replace && private(asn) => to.local_as,
                asn => asn,
            })
            .collect();
        route.as_path = AsPath::sequence(path);
    }
    if ebgp && path.session.is_some() {
        route.med = None;
    }
    route.local_pref = route.local_pref.or(Some(100));
    let shared = to
        .shared_subnet
        .is_some_and(|subnet| subnet.contains(&route.next_hop.address()));
    let keep = match to.next_hop {
        NextHopMode::SelfAddress => false,
        NextHopMode::Keep => true,
        NextHopMode::Auto => !ebgp || shared,
    };
    if !keep || route.next_hop.is_unspecified() {
        let [v4, v6] = to.self_next_hop;
        route.next_hop = if prefix.addr().is_ipv4() { v4? } else { v6? };
    }
    if prefix.addr().is_ipv4() && matches!(route.next_hop, NextHop::V6 { .. }) && !to.extended_next_hop {
        return None;
    }
    let seen = Route {
        interface: path.interface,
        self_next_hop: to.self_next_hop[usize::from(prefix.addr().is_ipv6())],
        unchanged_next_hop,
        ..seen(to, path.session, &route)
    };
    let mut route = match to.export.decide(prefix, &seen) {
        Decision::Reject => return None,
        Decision::Unchanged => route,
        Decision::Changed(changed) => *changed,
    };
    route.weight = None;
    if to.routing.drain {
        if !route.has_community(Community::GRACEFUL_SHUTDOWN) {
            route.communities.push(Community::GRACEFUL_SHUTDOWN);
        }
        route.local_pref = Some(0);
    }
    if !to.long_lived && route.has_community(Community::LLGR_STALE) {
        route.local_pref = Some(0);
        if !route.has_community(Community::NO_EXPORT) {
            route.communities.push(Community::NO_EXPORT);
        }
    }
    if ebgp {
        if options.prepend_global_as && to.global_as != to.local_as {
            route.as_path.prepend(to.global_as, 1);
        }
        route.as_path.prepend(to.local_as, 1);
        route.local_pref = None;
        route.originator_id = None;
        route.cluster_list = Vec::new();
    }
    if !options.communities {
        route.communities.clear();
    }
    if !options.extended_communities {
        route.extended_communities.clear();
    }
    if !options.large_communities {
        route.large_communities.clear();
    }
    (route.next_hop.address() != to.key.address).then_some(route)
}

/// A policy that leaves everything as it is.
pub(crate) const ACCEPT: Policy = Policy::Accept;
