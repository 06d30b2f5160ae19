//! What a route becomes on its way to an update group (RFC 4271 sections 5.1 and 9.1.3, RFC 4456).

use std::net::Ipv4Addr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::decision::LOCAL_PREF_DEFAULT;
use super::groups::Out;
use super::intern::AttrId;
use super::{PeerId, PeerSettings, Rib};
use crate::config::NextHopMode;
use crate::policy::{Decision, PeerType, Policy, Route, Source};
use crate::wire::{Attributes, Community, Family, NextHop, Prefix};

/// What peers must have in common to be told the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) family: Family,
    ebgp: bool,
    local_as: u32,
    client: bool,
    cluster_id: Ipv4Addr,
    next_hop: NextHopMode,
    self_next_hop: Option<NextHop>,
    shared_subnet: Option<Prefix>,
    export: Policy,
    encoding: u64,
}

impl GroupKey {
    pub(super) fn of(peer: &PeerSettings, family: Family) -> Self {
        Self {
            family,
            ebgp: peer.is_ebgp(),
            local_as: peer.local_as,
            client: peer.route_reflector_client,
            cluster_id: peer.cluster_id,
            next_hop: peer.next_hop,
            self_next_hop: peer.self_next_hop(family),
            shared_subnet: peer.shared_subnet,
            export: peer.export.clone(),
            encoding: peer.encoding,
        }
    }

    /// The route as the export policy sees it; nothing if it is not for this group. `source` is the peer
    /// that it came from, nothing for our own.
    pub(super) fn prepare(
        &self,
        source: Option<&PeerSettings>,
        attributes: &Attributes,
    ) -> Option<Attributes> {
        let withheld: &[Community] = if self.ebgp {
            &[
                Community::NO_ADVERTISE,
                Community::NO_EXPORT,
                Community::NO_EXPORT_SUBCONFED,
            ]
        } else {
            &[Community::NO_ADVERTISE]
        };
        if withheld
            .iter()
            .any(|community| attributes.has_community(*community))
        {
            return None;
        }
        let mut route = attributes.clone();
        if let Some(source) = source.filter(|source| !source.is_ebgp() && !self.ebgp) {
            self.reflect(source, &mut route)?;
        }
        if self.ebgp && source.is_some() {
            // RFC 4271 section 5.1.4: not to be passed on to other ASes.
            route.med = None;
        }
        route.local_pref.get_or_insert(LOCAL_PREF_DEFAULT);
        if !self.keeps_next_hop(route.next_hop) {
            route.next_hop = self.self_next_hop?;
        }
        Some(route)
    }

    /// A prepared route as the export policy sees it.
    pub(super) fn route<'a>(
        &self,
        source: Option<&PeerSettings>,
        attributes: &'a Attributes,
        unchanged_next_hop: NextHop,
    ) -> Route<'a> {
        Route {
            source: match source {
                None => Source::Network,
                Some(peer) if peer.is_ebgp() => Source::Ebgp,
                Some(_) => Source::Ibgp,
            },
            neighbor: source.map(|peer| peer.key.address),
            peer_type: if self.ebgp { PeerType::Ebgp } else { PeerType::Ibgp },
            local_as: self.local_as,
            self_next_hop: self.self_next_hop,
            unchanged_next_hop,
            ..Route::new(attributes)
        }
    }

    /// RFC 4456 section 6 and 8: a client's route to all, another's route to clients.
    fn reflect(&self, source: &PeerSettings, route: &mut Attributes) -> Option<()> {
        let cluster = if source.route_reflector_client {
            source.cluster_id
        } else if self.client {
            self.cluster_id
        } else {
            return None;
        };
        route.originator_id.get_or_insert(source.router_id);
        route.cluster_list.insert(0, cluster);
        Some(())
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

    /// What the policy does not see: our AS, and what does not leave it.
    fn finish(&self, route: &mut Attributes) {
        if self.ebgp {
            route.as_path.prepend(self.local_as, 1);
            route.local_pref = None;
            route.originator_id = None;
            route.cluster_list.clear();
        }
    }
}

/// Routes of one source and attribute set are prepared once for many prefixes.
#[derive(Debug, Default)]
pub(super) struct ExportCache {
    prepared: FxHashMap<(AttrId, PeerId), Option<Prepared>>,
}

#[derive(Debug)]
struct Prepared {
    /// For the policy.
    route: Arc<Attributes>,
    unchanged_next_hop: NextHop,
    /// For the wire, if the policy changes nothing; the cache holds a reference.
    finished: AttrId,
}

impl Rib {
    /// What a group is told of a prefix. What it gives holds a reference.
    pub(super) fn export(&mut self, key: &GroupKey, prefix: &Prefix, cache: &mut ExportCache) -> Option<Out> {
        let best = *self.tables.entry(prefix)?.chosen.first()?;
        let Self {
            attributes, peers, ..
        } = self;
        let prepared = cache
            .prepared
            .entry((best.attributes, best.peer))
            .or_insert_with(|| {
                let source = peers.get(&best.peer).map(|peer| &peer.settings);
                let route = key.prepare(source, attributes.get(best.attributes))?;
                let mut finished = route.clone();
                key.finish(&mut finished);
                Some(Prepared {
                    unchanged_next_hop: attributes.get(best.attributes).next_hop,
                    route: Arc::new(route),
                    finished: attributes.intern(finished),
                })
            });
        let prepared = prepared.as_ref()?;
        let source = peers.get(&best.peer).map(|peer| &peer.settings);
        let route = key.route(source, &prepared.route, prepared.unchanged_next_hop);
        let attributes = match key.export.decide(prefix, &route) {
            Decision::Reject => return None,
            Decision::Unchanged => {
                attributes.retain(prepared.finished);
                prepared.finished
            }
            Decision::Changed(mut changed) => {
                key.finish(&mut changed);
                attributes.intern(*changed)
            }
        };
        Some(Out {
            attributes,
            source: best.peer,
        })
    }

    pub(super) fn drop_cache(&mut self, cache: ExportCache) {
        for prepared in cache.prepared.into_values().flatten() {
            self.attributes.release(prepared.finished);
        }
    }
}
