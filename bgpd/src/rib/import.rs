//! Which received routes may be used at all, and what they become on the way in (RFC 4271 section 9.1.1,
//! RFC 4456 section 8, RFC 7999, RFC 8326, RFC 9234).

use std::fmt;

use super::intern::AttrId;
use super::packed::Packed;
use super::{AttributeSet, Gateway, PeerId, PeerSettings, Rib, RibSettings};
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
    /// It has come and gone too often of late.
    Dampened,
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
            Self::Dampened => "dampened: it has come and gone, or changed, too often",
            Self::NextHopUnreachable => "the next hop is unreachable",
        })
    }
}

/// What is not to be taken from an external peer is taken off: LOCAL_PREF (RFC 4271 section 5.1.5), and the
/// marks of reflection, which is within an AS.
pub(super) fn from_external(set: AttributeSet) -> AttributeSet {
    if !set.packed().is_internal() {
        return set;
    }
    let mut attributes = set.packed().unpack();
    attributes.local_pref = None;
    attributes.originator_id = None;
    attributes.cluster_list.clear();
    attributes.into()
}

/// Whether a route has been here before, leads here, or may not come from this peer. The same for all
/// prefixes with these attributes.
pub(super) fn loops(rib: &RibSettings, peer: &PeerSettings, attributes: Packed<'_>) -> Option<Ineligible> {
    let limit = usize::from(peer.allow_own_as);
    // With another AS on this session, a path through our global AS is a loop too.
    if [peer.local_as, rib.local_as]
        .iter()
        .any(|asn| attributes.occurrences(*asn) > limit)
    {
        return Some(Ineligible::OwnAs);
    }
    if attributes.originator_id() == Some(rib.router_id) {
        return Some(Ineligible::OwnOriginator);
    }
    if attributes.has_cluster(peer.cluster_id) || attributes.has_cluster(rib.router_id) {
        return Some(Ineligible::OwnCluster);
    }
    let next_hop = attributes.next_hop().address();
    let own = peer.self_next_hop.iter().flatten().map(|hop| hop.address());
    if next_hop == peer.local_address || own.into_iter().any(|address| address == next_hop) {
        return Some(Ineligible::OwnNextHop);
    }
    peer.is_ebgp().then(|| not_from_there(peer, attributes)).flatten()
}

/// What another AS may not send us.
fn not_from_there(peer: &PeerSettings, attributes: Packed<'_>) -> Option<Ineligible> {
    let options = &peer.routing.import;
    if options.enforce_first_as && attributes.neighbor_as() != Some(peer.remote_as) {
        return Some(Ineligible::FirstAs);
    }
    // RFC 9234 section 5, ingress: nobody but customers hears of a route with OTC, but for a lateral peer
    // that has put it there itself.
    let leaks = match (peer.role, attributes.otc()) {
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

/// A received set of attributes: in store, to be looked at in place, and unpacked.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) packed: Packed<'a>,
    pub(super) unpacked: &'a Attributes,
}

/// The import step for one prefix; [`loops`] comes before it.
pub(super) fn decide(peer: &PeerSettings, prefix: &Prefix, received: Received<'_>) -> Decision {
    let ask = |policy: &Policy, route: &Route<'_>| Some(policy.decide(prefix, route));
    judge(peer, received, ask).unwrap_or(Decision::Reject)
}

/// The import step for all prefixes with these attributes; nothing if it depends on the prefix.
pub(super) fn decide_all(peer: &PeerSettings, received: Received<'_>) -> Option<Decision> {
    judge(peer, received, Policy::judge)
}

/// Whether the import step takes these attributes as they are for all prefixes, which can be seen without
/// unpacking them. If it says no, it still may.
pub(super) fn is_plain(peer: &PeerSettings, received: Packed<'_>) -> bool {
    peer.import == Policy::Accept
        && Preparation::of(peer, received).is_none()
        && !is_shutting_down(peer, received)
}

fn judge(
    peer: &PeerSettings,
    received: Received<'_>,
    ask: impl FnOnce(&Policy, &Route<'_>) -> Option<Decision>,
) -> Option<Decision> {
    let Received { packed, unpacked } = received;
    let prepared = prepare(peer, received);
    let attributes = prepared.as_deref().unwrap_or(unpacked);
    let decision = ask(&peer.import, &route(peer, attributes))?;
    let mut changed = match decision {
        Decision::Reject => return Some(Decision::Reject),
        Decision::Unchanged => prepared,
        Decision::Changed(changed) => Some(changed),
    };
    // After the policy, which must not undo it.
    if is_shutting_down(peer, packed) {
        let attributes = changed.get_or_insert_with(|| Box::new(unpacked.clone()));
        attributes.local_pref = Some(0);
    }
    Some(changed.map_or(Decision::Unchanged, Decision::Changed))
}

/// RFC 8326: the other end of an external session is about to end it (section 4.1), or we are (section 4.2).
fn is_shutting_down(peer: &PeerSettings, received: Packed<'_>) -> bool {
    let told =
        peer.routing.import.honor_graceful_shutdown && received.has_community(Community::GRACEFUL_SHUTDOWN);
    peer.is_ebgp() && (told || peer.routing.drain)
}

/// What is done to a received route before the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Preparation {
    /// RFC 9234 section 5, ingress: from here on it goes to customers only.
    otc: bool,
    /// RFC 7999 section 3.2: not to spread beyond our AS.
    confine: bool,
    prepend: bool,
    local_pref: Option<u32>,
}

impl Preparation {
    /// What is to be done; none if nothing is.
    fn of(peer: &PeerSettings, received: Packed<'_>) -> Option<Self> {
        if !peer.is_ebgp() {
            return None;
        }
        let options = &peer.routing.import;
        let from_above = matches!(
            peer.role,
            Some(Role::Customer | Role::RouteServerClient | Role::Peer)
        );
        let preparation = Self {
            otc: from_above && received.otc().is_none(),
            confine: received.has_community(Community::BLACKHOLE)
                && !received.has_community(Community::NO_EXPORT)
                && !received.has_community(Community::NO_ADVERTISE),
            prepend: options.prepend_local_as && peer.local_as != peer.global_as,
            local_pref: options.local_pref,
        };
        let nothing = Self {
            otc: false,
            confine: false,
            prepend: false,
            local_pref: None,
        };
        (preparation != nothing).then_some(preparation)
    }
}

/// A received route as it goes into the policy; nothing if it is as it came.
fn prepare(peer: &PeerSettings, received: Received<'_>) -> Option<Box<Attributes>> {
    let Preparation {
        otc,
        confine,
        prepend,
        local_pref,
    } = Preparation::of(peer, received.packed)?;
    let mut route = Box::new(received.unpacked.clone());
    if otc {
        route.otc = Some(peer.remote_as);
    }
    if confine {
        route.communities.push(Community::NO_EXPORT);
    }
    if prepend {
        route.as_path.prepend(peer.local_as, 1);
    }
    route.local_pref = local_pref.or(route.local_pref);
    Some(route)
}

/// A received route as the import policy sees it.
fn route<'a>(peer: &'a PeerSettings, attributes: &'a Attributes) -> Route<'a> {
    let (source, peer_type) = match peer.is_ebgp() {
        true => (Source::Ebgp, PeerType::Ebgp),
        false => (Source::Ibgp, PeerType::Ibgp),
    };
    Route {
        source,
        neighbor: Some(peer.key.address),
        interface: peer.interfaces.of(Gateway::of(attributes)),
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
        let received = self.stored_path(&prefix, id, path_id)?.received;
        let unpacked = self.attributes.unpacked(received);
        let prepared = prepare(peer, self.set_received(received, &unpacked));
        let attributes = prepared.as_deref().unwrap_or(&unpacked);
        Some(peer.import.explain(&prefix, &route(peer, attributes)))
    }

    /// A set in store, with what it was unpacked to.
    pub(super) fn set_received<'a>(&'a self, id: AttrId, unpacked: &'a Attributes) -> Received<'a> {
        Received {
            packed: self.attributes.get(id),
            unpacked,
        }
    }
}
