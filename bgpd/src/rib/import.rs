//! Which received routes may be used at all (RFC 4271 section 9.1.2, RFC 4456 section 8).

use std::fmt;
use std::net::Ipv4Addr;

use super::{PeerSettings, RibSettings};
use crate::policy::{PeerType, Route, Source};
use crate::wire::Attributes;

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
            Self::Policy => "rejected by the import policy",
            Self::NextHopUnreachable => "the next hop is unreachable",
        })
    }
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

/// Whether a route has been here before, or leads here.
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
    None
}
