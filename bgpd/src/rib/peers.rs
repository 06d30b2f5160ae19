//! What the RIB knows of a session.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::groups::Membership;
use super::next_hops::Interfaces;
use crate::config::{Dampening, ExportOptions, NeighborKey, NextHopMode, Routing};
use crate::policy::Policy;
use crate::wire::{Family, FamilySet, NextHop, Prefix, Role};

/// An established session, as far as routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// The neighbour. One session of each at a time.
    pub key: NeighborKey,
    /// Its AS.
    pub remote_as: u32,
    /// Our AS on this session.
    pub local_as: u32,
    /// Our global AS.
    pub global_as: u32,
    /// What we are on this session (RFC 9234); without it, ONLY_TO_CUSTOMER is passed on as it is.
    pub role: Option<Role>,
    /// It has offered long-lived graceful restart: it may be told routes with LLGR_STALE (RFC 9494 section 4.3).
    pub long_lived: bool,
    /// It is told where what it asked for begins and ends (RFC 7313).
    pub enhanced_refresh: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address on this session.
    pub remote_address: IpAddr,
    /// Our address on this session: no next hop may be this.
    pub local_address: IpAddr,
    /// The families that both sides carry.
    pub families: FamilySet,
    /// Of these, those in which it sends path identifiers (RFC 7911).
    pub add_path_receive: FamilySet,
    /// IPv4 routes may have IPv6 next hops on this session (RFC 8950).
    pub extended_next_hop: bool,
    /// And those in which it is told several paths of a prefix, each with an identifier.
    pub add_path_send: FamilySet,
    /// Of how many paths it is told then, the best first; without it, of all.
    pub add_path_limit: Option<u16>,
    /// RFC 4456: it is a client of ours.
    pub route_reflector_client: bool,
    /// The cluster that we reflect for on this session.
    pub cluster_id: Ipv4Addr,
    /// How the next hop is set.
    pub next_hop: NextHopMode,
    /// What we are as a next hop, for IPv4 and IPv6 prefixes. Without it for a family, routes that
    /// would need it are not sent.
    pub self_next_hop: [Option<NextHop>; 2],
    /// The subnet that we share with an external peer: next hops in it are kept
    /// (RFC 4271 section 5.1.3, "third party").
    pub shared_subnet: Option<Prefix>,
    /// How often our AS may occur in its AS_PATHs.
    pub allow_own_as: u8,
    /// What is done with its routes beside policies.
    pub routing: Routing,
    /// Aggregates that are told instead of what lies inside them.
    pub summarized: Arc<[Prefix]>,
    /// What to take from it.
    pub import: Policy,
    /// What to tell it.
    pub export: Policy,
    /// The links that next hops are reached by, if one of the policies asks for them. The RIB fills it in.
    pub interfaces: Interfaces,
    /// Peers with different values never share a message: a digest of the negotiated capabilities that
    /// the encoding depends on.
    pub encoding: u64,
}

impl PeerSettings {
    /// A session over the peer's address family. Policies are those of RFC 8212: reject both ways for
    /// a peer in another AS, else accept.
    pub fn new(key: NeighborKey, remote_as: u32, local_as: u32) -> Self {
        let family = Family::of_address(key.address);
        let policy = if remote_as == local_as {
            Policy::Accept
        } else {
            Policy::Reject
        };
        Self {
            key,
            remote_as,
            local_as,
            global_as: local_as,
            role: None,
            long_lived: false,
            enhanced_refresh: false,
            router_id: Ipv4Addr::UNSPECIFIED,
            remote_address: key.address,
            local_address: NextHop::unspecified(family).address(),
            families: [family].into_iter().collect(),
            add_path_receive: FamilySet::EMPTY,
            extended_next_hop: false,
            add_path_send: FamilySet::EMPTY,
            add_path_limit: None,
            route_reflector_client: false,
            cluster_id: Ipv4Addr::UNSPECIFIED,
            next_hop: NextHopMode::Auto,
            self_next_hop: [None, None],
            shared_subnet: None,
            allow_own_as: 0,
            routing: Routing::default(),
            summarized: Arc::new([]),
            import: policy.clone(),
            export: policy,
            interfaces: Interfaces::default(),
            encoding: 0,
        }
    }

    /// Whether the peer is in another AS than we are on this session.
    pub fn is_ebgp(&self) -> bool {
        self.remote_as != self.local_as
    }

    /// How its routes are dampened that flap: never those from within our AS (RFC 2439 section 5).
    pub(super) fn dampening(&self) -> Option<Dampening> {
        self.routing.import.dampening.filter(|_| self.is_ebgp())
    }

    /// What the import step depends on: all but what is for export alone.
    pub(super) fn for_import(&self) -> Self {
        Self {
            export: Policy::Accept,
            next_hop: NextHopMode::Auto,
            add_path_limit: None,
            routing: Routing {
                export: ExportOptions::default(),
                ..self.routing.clone()
            },
            summarized: Arc::new([]),
            interfaces: self.interfaces_for(&self.import),
            ..self.clone()
        }
    }

    /// What one of the policies depends on of the links that next hops are reached by.
    pub(super) fn interfaces_for(&self, policy: &Policy) -> Interfaces {
        match policy.looks_at_interfaces() {
            true => self.interfaces.clone(),
            false => Interfaces::default(),
        }
    }

    /// With the links that next hops are reached by, as far as it asks for them.
    pub(super) fn knowing(mut self, interfaces: &Interfaces) -> Self {
        self.interfaces = interfaces.clone();
        if !self.import.looks_at_interfaces() {
            self.interfaces = self.interfaces_for(&self.export);
        }
        self
    }

    /// Whether a route from this peer may become another one on its way out than with the other settings.
    pub(super) fn differs_as_source(&self, other: &Self) -> bool {
        let as_source = |peer: &Self| {
            let ases = (peer.remote_as, peer.local_as);
            (
                peer.key,
                ases,
                peer.router_id,
                peer.route_reflector_client,
                peer.cluster_id,
            )
        };
        as_source(self) != as_source(other)
    }

    pub(super) fn self_next_hop(&self, family: Family) -> Option<NextHop> {
        let [v4, v6] = self.self_next_hop;
        match family {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }
}

/// A session and where it stands.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) settings: PeerSettings,
    /// False while only its stale routes are left.
    pub(super) up: bool,
    /// Families whose table it has sent.
    pub(super) end_of_rib: FamilySet,
    /// Families that it is sending once more: what is stale has not been sent again.
    pub(super) refreshing: FamilySet,
    /// Routes that it has announced, of IPv4 and IPv6.
    received: [u32; 2],
    /// Nothing is to be sent to it now.
    pub(super) paused: bool,
    /// Its update groups, for IPv4 and IPv6.
    pub(super) memberships: [Option<Membership>; 2],
}

impl Peer {
    pub(super) fn new(settings: PeerSettings) -> Self {
        Self {
            settings,
            up: true,
            end_of_rib: FamilySet::EMPTY,
            refreshing: FamilySet::EMPTY,
            received: [0; 2],
            paused: false,
            memberships: [None, None],
        }
    }

    pub(super) fn is_ebgp(&self) -> bool {
        self.settings.is_ebgp()
    }

    pub(super) const fn received(&self, family: Family) -> u32 {
        let [v4, v6] = self.received;
        match family {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }

    pub(super) const fn count(&mut self, family: Family, by: i32) {
        let [v4, v6] = &mut self.received;
        let count = match family {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        };
        *count = count.saturating_add_signed(by);
    }

    pub(super) fn membership(&self, family: Family) -> Option<&Membership> {
        let [v4, v6] = &self.memberships;
        match family {
            Family::Ipv4Unicast => v4.as_ref(),
            Family::Ipv6Unicast => v6.as_ref(),
        }
    }

    pub(super) fn membership_mut(&mut self, family: Family) -> &mut Option<Membership> {
        let [v4, v6] = &mut self.memberships;
        match family {
            Family::Ipv4Unicast => v4,
            Family::Ipv6Unicast => v6,
        }
    }
}
