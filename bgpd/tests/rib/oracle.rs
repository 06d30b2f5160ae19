//! A slow BGP: it keeps what it was told and computes everything from that whenever it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgpd::config::{NeighborKey, Network, NextHopMode};
use bgpd::policy::{Decision, PeerType, Policy, Route, Source};
use bgpd::rib::{NextHopState, PeerSettings, RibSettings};
use bgpd::wire::{Attributes, Community, Family, NextHop, Prefix};

#[derive(Clone)]
pub(crate) struct Oracle {
    pub(crate) settings: RibSettings,
    pub(crate) sessions: BTreeMap<NeighborKey, Session>,
    pub(crate) networks: BTreeMap<Prefix, Network>,
    pub(crate) next_hops: BTreeMap<IpAddr, NextHopState>,
}

#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) settings: PeerSettings,
    pub(crate) up: bool,
    /// Attributes as they came, and whether they are stale.
    pub(crate) routes: BTreeMap<Prefix, (Attributes, bool)>,
}

/// A usable path; no session: our own.
#[derive(Clone)]
struct Path<'a> {
    session: Option<&'a PeerSettings>,
    attributes: Attributes,
    metric: u32,
}

impl Oracle {
    pub(crate) fn prefixes(&self) -> BTreeSet<Prefix> {
        let received = self.sessions.values().flat_map(|session| session.routes.keys());
        received.chain(self.networks.keys()).copied().collect()
    }

    /// What is to be installed.
    pub(crate) fn fib(&self) -> BTreeMap<Prefix, Vec<NextHop>> {
        let mut fib = BTreeMap::new();
        for prefix in self.prefixes() {
            let best = self.best(&prefix);
            if best.first().is_some_and(|path| path.session.is_some()) {
                fib.insert(prefix, best.iter().map(|path| path.attributes.next_hop).collect());
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
        best.filter_map(|(prefix, path)| Some((prefix, export(&to.settings, &prefix, path)?)))
            .collect()
    }

    /// The best path and its equals, the best first.
    fn best(&self, prefix: &Prefix) -> Vec<Path<'_>> {
        let mut paths: Vec<Path> = self.usable(prefix);
        let local_pref = |p: &Path| p.attributes.local_pref.unwrap_or(100);
        keep_least(&mut paths, |p| p.session.is_some());
        keep_least(&mut paths, |p| std::cmp::Reverse(local_pref(p)));
        keep_least(&mut paths, |p| p.attributes.as_path.hop_count());
        keep_least(&mut paths, |p| p.attributes.origin);
        let med = |p: &Path| p.attributes.med.unwrap_or(0);
        let everything = paths.clone();
        let always = self.settings.always_compare_med;
        paths.retain(|p| {
            let rivals = everything.iter().filter(|q| {
                always || q.attributes.as_path.neighbor_as() == p.attributes.as_path.neighbor_as()
            });
            rivals.map(med).min() == Some(med(p))
        });
        keep_least(&mut paths, |p| {
            p.session.is_some_and(|s| s.remote_as == s.local_as)
        });
        keep_least(&mut paths, |p| p.metric);
        let router_id = |p: &Path| {
            p.attributes
                .originator_id
                .or(p.session.map(|s| s.router_id))
                .unwrap_or(self.settings.router_id)
        };
        paths.sort_by_key(|p| {
            (
                router_id(p),
                p.attributes.cluster_list.len(),
                p.session.map(|s| s.key),
            )
        });
        if !self.settings.multipath_relax
            && let Some(best) = paths.first().cloned()
        {
            paths.retain(|p| p.attributes.as_path == best.attributes.as_path);
        }
        paths.truncate(self.settings.multipath_max);
        paths
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
                attributes,
                metric: 0,
            });
        }
        for session in self.sessions.values() {
            let Some((attributes, _)) = session.routes.get(prefix) else {
                continue;
            };
            let s = &session.settings;
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
            let attributes = match s.import.decide(prefix, &seen(s, Some(s), &attributes)) {
                Decision::Reject => continue,
                Decision::Unchanged => attributes,
                Decision::Changed(changed) => *changed,
            };
            let metric = match self.next_hops.get(&attributes.next_hop.address()) {
                Some(NextHopState::Reachable { metric }) => *metric,
                Some(NextHopState::Unreachable) => continue,
                None if self.settings.assume_reachable => 0,
                None => continue,
            };
            paths.push(Path {
                session: Some(s),
                attributes,
                metric,
            });
        }
        paths
    }
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

fn export(to: &PeerSettings, prefix: &Prefix, path: Path) -> Option<Attributes> {
    let ebgp = to.remote_as != to.local_as;
    let mut route = path.attributes;
    let unchanged_next_hop = route.next_hop;
    if !to.families.contains(Family::of(prefix)) || path.session.is_some_and(|from| from.key == to.key) {
        return None;
    }
    if route.has_community(Community::NO_ADVERTISE)
        || ebgp && route.has_community(Community::NO_EXPORT)
        || ebgp && route.has_community(Community::NO_EXPORT_SUBCONFED)
    {
        return None;
    }
    if let Some(from) = path.session
        && !ebgp
        && from.remote_as == from.local_as
    {
        let cluster = match (from.route_reflector_client, to.route_reflector_client) {
            (true, _) => from.cluster_id,
            (false, true) => to.cluster_id,
            (false, false) => return None,
        };
        route.originator_id = route.originator_id.or(Some(from.router_id));
        route.cluster_list.insert(0, cluster);
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
    let seen = Route {
        self_next_hop: to.self_next_hop[usize::from(prefix.addr().is_ipv6())],
        unchanged_next_hop,
        ..seen(to, path.session, &route)
    };
    let mut route = match to.export.decide(prefix, &seen) {
        Decision::Reject => return None,
        Decision::Unchanged => route,
        Decision::Changed(changed) => *changed,
    };
    if ebgp {
        route.as_path.prepend(to.local_as, 1);
        route.local_pref = None;
        route.originator_id = None;
        route.cluster_list = Vec::new();
    }
    (route.next_hop.address() != to.key.address).then_some(route)
}

/// A policy that leaves everything as it is.
pub(crate) const ACCEPT: Policy = Policy::Accept;
