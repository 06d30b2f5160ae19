//! An established session as the owner of the RIB sees it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::connection::FromConnection;
use super::interface::Surroundings;
use crate::config::{Config, Neighbor};
use crate::rib::{Interfaces, PeerSettings};
use crate::session::Negotiated;
use crate::wire::{Family, Prefix};

/// What is known of a session beside its neighbour's configuration.
pub(super) struct Established {
    pub(super) negotiated: Negotiated,
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) surroundings: Surroundings,
    pub(super) events: mpsc::UnboundedSender<FromConnection>,
}

/// A session as the RIB is to treat it, by the configuration and by what was negotiated.
pub(super) fn peer_settings(neighbor: &Neighbor, config: &Config, up: &Established) -> PeerSettings {
    let Established {
        negotiated,
        local,
        remote,
        surroundings,
        ..
    } = up;
    let mut encoding = DefaultHasher::new();
    negotiated.codec.hash(&mut encoding);
    PeerSettings {
        key: neighbor.key(),
        remote_as: negotiated.remote_as,
        local_as: negotiated.local_as,
        router_id: negotiated.remote_id,
        remote_address: *remote,
        local_address: *local,
        families: negotiated.codec.families,
        add_path_receive: negotiated.codec.add_path_receive,
        extended_next_hop: negotiated.codec.extended_next_hop.contains(Family::Ipv4Unicast),
        add_path_send: negotiated.codec.add_path_send,
        add_path_limit: neighbor.add_paths.limit,
        route_reflector_client: neighbor.route_reflector_client,
        cluster_id: neighbor.cluster_id.unwrap_or(config.router_id),
        next_hop: neighbor.next_hop,
        self_next_hop: surroundings.next_hops,
        shared_subnet: surroundings.shared_subnet,
        allow_own_as: neighbor.allow_own_as,
        global_as: config.local_as,
        role: neighbor.role,
        long_lived: !negotiated.long_lived.is_empty(),
        enhanced_refresh: negotiated.codec.enhanced_route_refresh,
        routing: neighbor.routing.clone(),
        summarized: summaries(config),
        import: neighbor.import.clone(),
        export: neighbor.export.clone(),
        interfaces: Interfaces::default(),
        encoding: encoding.finish(),
    }
}

/// Aggregates that stand for everything inside them.
fn summaries(config: &Config) -> Arc<[Prefix]> {
    let aggregates = config.aggregates.iter();
    let alone = aggregates.filter(|aggregate| aggregate.summary_only);
    alone.map(|aggregate| aggregate.prefix).collect()
}
