//! Which received routes may be used at all, and what they become on the way in (RFC 4271 section 9.1.1,
//! RFC 4456 section 8, RFC 7999, RFC 8326, RFC 9234).

use std::fmt;
use std::net::Ipv4Addr;

use super::{AttributeSet, PeerId, PeerSettings, Rib, RibSettings};
use crate::policy::{Decision, Explanation, PeerType, Policy, Route, Source};
use crate::wire::{Attributes, Community, Prefix, Role};

/// Why a path is not among the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ineligible {
    /// Our own AS is in its AS_PATH: it has been here.
    OwnAs,
    /// We are its ORIGINATOR_ID.
    OwnOriginator,
    /// Our cluster is in its CLUSTER_LIST.
    OwnCluster,
    /// Its next hop is our own address.
    OwnNextHop,
    /// Its AS_PATH does not begin with the peer's AS.
    FirstAs,
    /// Its ONLY_TO_CUSTOMER says that it must not come this way.
    Leak,
    /// It asks for packets to be discarded, which this peer may not.
    Blackhole,
    /// The import policy rejects it.
    Policy,
    /// Its next hop cannot be reached.
    NextHopUnreachable,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnAs => "loop: our AS is in AS_PATH",
            Self::OwnOriginator => "loop: ORIGINATOR_ID is our router id",
            Self::OwnCluster => "loop: our cluster id is in CLUSTER_LIST",
            Self::OwnNextHop => "the next hop is our own address",
            Self::FirstAs => "AS_PATH does not begin with the neighbor's AS",
            Self::Leak => "route leak: ONLY_TO_CUSTOMER says that it must not come from this neighbor",
            Self::Blackhole => "it has the BLACKHOLE community, which this neighbor is not allowed to use",
            Self::Policy => "rejected by the import policy",
            Self::NextHopUnreachable => "the next hop is unreachable",
        })
    }
}

/// What is not to be taken from an external peer is taken off: LOCAL_PREF (RFC 4271 section 5.1.5), and the
/// marks of reflection, which is within an AS.
pub(super) fn from_external(set: AttributeSet) -> AttributeSet {
    let attributes = set.attributes();
    if attributes.local_pref.is_none()
        && attributes.originator_id.is_none()
        && attributes.cluster_list.is_empty()
    {
        return set;
    }
    let mut attributes = Attributes::clone(attributes);
    attributes.local_pref = None;
    attributes.originator_id = None;
    attributes.cluster_list.clear();
    attributes.into()
}

/// Whether a route has been here before, leads here, or may not come from this peer. The same for all
/// prefixes with these attributes.
pub(super) fn loops(rib: &RibSettings, peer: &PeerSettings, attributes: &Attributes) -> Option<Ineligible> {
    let limit = usize::from(peer.allow_own_as);
    // With another AS on this session, a path through our global AS is a loop too.
    if [peer.local_as, rib.local_as]
        .iter()
        .any(|asn| attributes.as_path.occurrences(*asn) > limit)
    {
        return Some(Ineligible::OwnAs);
    }
    if attributes.originator_id == Some(rib.router_id) {
        return Some(Ineligible::OwnOriginator);
    }
    let own_cluster = |id: &Ipv4Addr| *id == peer.cluster_id || *id == rib.router_id;
    if attributes.cluster_list.iter().any(own_cluster) {
        return Some(Ineligible::OwnCluster);
    }
    let next_hop = attributes.next_hop.address();
    let own = peer.self_next_hop.iter().flatten().map(|hop| hop.address());
    if next_hop == peer.local_address || own.into_iter().any(|address| address == next_hop) {
        return Some(Ineligible::OwnNextHop);
    }
    peer.is_ebgp().then(|| not_from_there(peer, attributes)).flatten()
}

/// What another AS may not send us.
fn not_from_there(peer: &PeerSettings, attributes: &Attributes) -> Option<Ineligible> {
    let options = &peer.routing.import;
    if options.enforce_first_as && attributes.as_path.neighbor_as() != Some(peer.remote_as) {
        return Some(Ineligible::FirstAs);
    }
    // RFC 9234 section 5, ingress: nobody but customers hears of a route with OTC, but for a lateral peer
    // that has put it there itself.
    let leaks = match (peer.role, attributes.otc) {
        (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
        (Some(Role::Peer), Some(asn)) => asn != peer.remote_as,
        _ => false,
    };
    if leaks {
        return Some(Ineligible::Leak);
    }
    if !options.accept_blackhole && attributes.has_community(Community::BLACKHOLE) {
        return Some(Ineligible::Blackhole);
    }
    None
}

/// The import step for one prefix; [`loops`] comes before it.
pub(super) fn decide(peer: &PeerSettings, prefix: &Prefix, received: &Attributes) -> Decision {
    let ask = |policy: &Policy, route: &Route<'_>| Some(policy.decide(prefix, route));
    judge(peer, received, ask).unwrap_or(Decision::Reject)
}

/// The import step for all prefixes with these attributes; nothing if it depends on the prefix.
pub(super) fn decide_all(peer: &PeerSettings, received: &Attributes) -> Option<Decision> {
    judge(peer, received, Policy::judge)
}

fn judge(
    peer: &PeerSettings,
    received: &Attributes,
    ask: impl FnOnce(&Policy, &Route<'_>) -> Option<Decision>,
) -> Option<Decision> {
    let prepared = prepare(peer, received);
    let attributes = prepared.as_deref().unwrap_or(received);
    let decision = ask(&peer.import, &route(peer, attributes))?;
    let mut changed = match decision {
        Decision::Reject => return Some(Decision::Reject),
        Decision::Unchanged => prepared,
        Decision::Changed(changed) => Some(changed),
    };
    // After the policy, which must not undo it.
    if is_shutting_down(peer, received) {
        let attributes = changed.get_or_insert_with(|| Box::new(received.clone()));
        attributes.local_pref = Some(0);
    }
    Some(changed.map_or(Decision::Unchanged, Decision::Changed))
}

/// RFC 8326: the other end of an external session is about to end it (section 4.1), or we are (section 4.2).
fn is_shutting_down(peer: &PeerSettings, received: &Attributes) -> bool {
    let told =
        peer.routing.import.honor_graceful_shutdown && received.has_community(Community::GRACEFUL_SHUTDOWN);
    peer.is_ebgp() && (told || peer.routing.drain)
}

/// A received route as it goes into the policy; nothing if it is as it came.
fn prepare(peer: &PeerSettings, received: &Attributes) -> Option<Box<Attributes>> {
    if !peer.is_ebgp() {
        return None;
    }
    let options = &peer.routing.import;
    // RFC 9234 section 5, ingress: from here on it goes to customers only.
    let from_above = matches!(
        peer.role,
        Some(Role::Customer | Role::RouteServerClient | Role::Peer)
    );
    let otc = from_above && received.otc.is_none();
    // RFC 7999 section 3.2: not to spread beyond our AS.
    let confine = received.has_community(Community::BLACKHOLE)
        && !received.has_community(Community::NO_EXPORT)
        && !received.has_community(Community::NO_ADVERTISE);
    let prepend = options.prepend_local_as && peer.local_as != peer.global_as;
    if !(otc || confine || prepend || options.local_pref.is_some()) {
        return None;
    }
    let mut route = Box::new(received.clone());
    if otc {
        route.otc = Some(peer.remote_as);
    }
    if confine {
        route.communities.push(Community::NO_EXPORT);
    }
    if prepend {
        route.as_path.prepend(peer.local_as, 1);
    }
    route.local_pref = options.local_pref.or(route.local_pref);
    Some(route)
}

/// A received route as the import policy sees it.
pub(super) fn route<'a>(peer: &PeerSettings, attributes: &'a Attributes) -> Route<'a> {
    let (source, peer_type) = match peer.is_ebgp() {
        true => (Source::Ebgp, PeerType::Ebgp),
        false => (Source::Ibgp, PeerType::Ibgp),
    };
    Route {
        source,
        neighbor: Some(peer.key.address),
        peer_type,
        local_as: peer.local_as,
        ..Route::new(attributes)
    }
}

impl Rib {
    /// Why a peer's import policy takes its route to a prefix or not; nothing if it has sent none.
    pub fn explain_import(&self, id: PeerId, prefix: Prefix, path_id: Option<u32>) -> Option<Explanation> {
        let prefix = prefix.trunc();
        let peer = &self.peers.get(&id)?.settings;
        let received = self
            .attributes
            .get(self.stored_path(&prefix, id, path_id)?.received);
        let prepared = prepare(peer, received);
        let attributes = prepared.as_deref().unwrap_or(received);
        Some(peer.import.explain(&prefix, &route(peer, attributes)))
    }
}
