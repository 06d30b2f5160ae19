//! The speaker's types as the contract's messages.

use std::time::{Duration, SystemTime};

use bgpd_proto::v1::{
    Bfd, BfdCounters, BmpStation, Explanation, Kernel, KernelProblem, Messages, MrtUpdates, Peer, Route,
    Session, Told,
};

use crate::bfd;
use crate::bmp::StationStatus;
use crate::config;
use crate::fib::FibStatus;
use crate::mrt::UpdatesStatus;
use crate::policy::DecidedBy;
use crate::rib::{DampeningView, NotTold, PathStatus};
use crate::session::Negotiated;
use crate::speaker::{MessageCounts, PeerStatus, RouteExplanation, RouteStatus};
use crate::wire::{Attributes, Prefix};

pub(super) fn peer(peer: &PeerStatus) -> Peer {
    // A clock that was set back gives no time at all.
    let since = SystemTime::now().duration_since(peer.since).unwrap_or_default();
    let session = peer.negotiated.as_ref().map(|negotiated| {
        let local_address = peer.local_address.map(|address| address.to_string());
        Session {
            local_address: local_address.unwrap_or_default(),
            ..session(negotiated)
        }
    });
    Peer {
        address: address(peer),
        port: peer.port.into(),
        remote_as: peer.remote_as,
        state: peer.state.to_string(),
        since_seconds: since.as_secs(),
        last_error: peer.last_error.clone().unwrap_or_default(),
        prefixes_received: peer.prefixes_received,
        prefixes_advertised: peer.prefixes_advertised,
        flaps: peer.flaps,
        remote_router_id: peer.remote_id.map(|id| id.to_string()).unwrap_or_default(),
        local_as: peer.local_as,
        description: peer.description.clone(),
        prefixes_accepted: peer.prefixes_accepted,
        prefixes_dampened: peer.prefixes_dampened,
        session,
        name: peer.key().to_string(),
        bfd: peer.bfd.as_ref().map(bfd),
        messages_sent: Some(messages(peer.messages_sent)),
        messages_received: Some(messages(peer.messages_received)),
        far_connections: peer.far_connections,
    }
}

/// The neighbour's address: that of the session where it is known by its interface alone, if there is a session.
fn address(peer: &PeerStatus) -> String {
    match (peer.interface, peer.remote_address) {
        (Some(interface), Some(address)) => format!("{address}%{interface}"),
        (Some(_), None) if peer.address.is_unspecified() => String::new(),
        (Some(interface), None) => format!("{}%{interface}", peer.address),
        (None, _) => peer.address.to_string(),
    }
}

fn messages(counts: MessageCounts) -> Messages {
    Messages {
        open: counts.open,
        update: counts.update,
        notification: counts.notification,
        keepalive: counts.keepalive,
        route_refresh: counts.route_refresh,
    }
}

fn bfd(status: &bfd::Status) -> Bfd {
    let since = SystemTime::now().duration_since(status.since).unwrap_or_default();
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Bfd {
        state: status.state.to_string(),
        since_seconds: since.as_secs(),
        diagnostic: status.diagnostic.to_string(),
        remote_state: status.remote_state.to_string(),
        multihop: status.is_multihop,
        discriminator: status.discriminator,
        remote_discriminator: status.remote_discriminator,
        remote_control_plane_independent: status.is_remote_control_plane_independent,
        transmit_interval_us: micros(status.transmit_interval),
        detection_time_us: micros(status.detection_time),
        failures: status.failures,
        packets_sent: status.packets_sent,
        packets_received: status.packets_received,
        packets_discarded: status.packets_discarded,
        error: status.error.clone().unwrap_or_default(),
    }
}

pub(super) fn bfd_counters(counters: bfd::Counters) -> BfdCounters {
    BfdCounters {
        sessions_up: counters.sessions_up,
        packets_sent: counters.packets_sent,
        packets_received: counters.packets_received,
        packets_discarded: counters.packets_discarded,
        detection_timeouts: counters.detection_timeouts,
        discarded_malformed: counters.discarded_malformed,
        discarded_distant: counters.discarded_distant,
        discarded_unknown: counters.discarded_unknown,
        discarded_unauthentic: counters.discarded_unauthentic,
        discarded_admin_down: counters.discarded_admin_down,
        state_changes: counters.state_changes,
    }
}

pub(super) fn bmp_station((station, status): &(config::BmpStation, StationStatus)) -> BmpStation {
    BmpStation {
        address: station.address.to_string(),
        connected: status.connected,
        connections: status.connections,
        resyncs: status.resyncs,
        bytes_sent: status.bytes_sent,
        last_error: status.last_error.clone().unwrap_or_default(),
    }
}

pub(super) fn mrt_updates(status: &UpdatesStatus) -> MrtUpdates {
    MrtUpdates {
        files: status.files,
        bytes: status.bytes,
        gaps: status.gaps,
        last_error: status.last_error.clone().unwrap_or_default(),
    }
}

fn session(negotiated: &Negotiated) -> Session {
    let restart = negotiated.graceful_restart.as_ref();
    let codec = &negotiated.codec;
    let capabilities = [
        ("four-octet-as", codec.four_octet_as),
        ("extended-message", codec.extended_message),
        ("route-refresh", negotiated.route_refresh),
        ("enhanced-route-refresh", codec.enhanced_route_refresh),
        ("add-path-receive", !codec.add_path_receive.is_empty()),
        ("add-path-send", !codec.add_path_send.is_empty()),
        ("extended-next-hop", !codec.extended_next_hop.is_empty()),
        ("graceful-restart", restart.is_some()),
        (
            "graceful-restart-notification",
            restart.is_some_and(|restart| restart.notification),
        ),
        ("long-lived-graceful-restart", !negotiated.long_lived.is_empty()),
        ("bfd-strict-mode", negotiated.bfd_strict.is_some()),
    ];
    let capabilities = capabilities.into_iter().filter(|(_, there)| *there);
    Session {
        local_address: String::new(),
        hold_time_seconds: negotiated.hold_time.as_secs(),
        keepalive_milliseconds: u64::try_from(negotiated.keepalive.as_millis()).unwrap_or(u64::MAX),
        families: negotiated
            .codec
            .families
            .iter()
            .map(|family| family.to_string())
            .collect(),
        capabilities: capabilities.map(|(name, _)| name.to_owned()).collect(),
        restart_time_seconds: restart.map_or(0, |restart| restart.restart_time_s.into()),
    }
}

pub(super) fn kernel(status: &FibStatus) -> Kernel {
    let problem = |refused: &crate::fib::RefusedRoute| KernelProblem {
        prefix: refused.prefix.to_string(),
        reason: refused.reason.to_string(),
    };
    Kernel {
        installed: status.installed as u64,
        pending: status.pending as u64,
        problems: status.refused_routes.iter().map(problem).collect(),
        waiting: status.waiting as u64,
        adopted: status.stale as u64,
        refused: status.refused as u64,
        repairs: status.repairs,
        resyncs: status.resyncs,
        next_hop_objects: status.next_hop_objects as u64,
        error: status.error.clone().unwrap_or_default(),
    }
}

pub(super) fn route(status: &RouteStatus) -> Route {
    let reuse_in = status.dampening.and_then(|dampening| dampening.reuse_in);
    Route {
        peer: status.neighbor.map(|key| key.to_string()).unwrap_or_default(),
        best: matches!(status.status, Some(PathStatus::Best { .. })),
        multipath: matches!(status.status, Some(PathStatus::Multipath)),
        stale: status.stale,
        path_id: status.path_id.unwrap_or_default(),
        has_path_id: status.path_id.is_some(),
        reason: reason(status),
        penalty: status.dampening.map_or(0, |dampening| dampening.penalty),
        reuse_in_seconds: reuse_in.map_or(0, |time| time.as_secs()),
        is_dampened: reuse_in.is_some(),
        ..attributes(&status.prefix, &status.attributes)
    }
}

/// How the route fared, and which import rule had to do with it.
fn reason(status: &RouteStatus) -> String {
    let mut text = status
        .status
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    if status.is_own_default {
        text.push_str("default-originate: whether or not there is one here");
    }
    if let Some(DampeningView { penalty, reuse_in }) = status.dampening {
        text.push_str(&format!("; penalty {penalty}"));
        if let Some(time) = reuse_in {
            text.push_str(&format!(", used again in {} s", time.as_secs()));
        }
    }
    // What every route meets is not worth a word.
    let told = |by: &DecidedBy| matches!(by, DecidedBy::Rule { .. });
    if let Some(import) = &status.import
        && (told(&import.by) || !import.continued.is_empty() || text.contains("import policy"))
    {
        text.push_str(&format!("; import: {import}"));
    }
    text
}

/// A route with nothing but its attributes.
pub(super) fn attributes(prefix: &Prefix, attributes: &Attributes) -> Route {
    let communities = attributes.communities.iter().map(ToString::to_string);
    let large = attributes.large_communities.iter().map(ToString::to_string);
    let extended = attributes
        .extended_communities
        .iter()
        .map(|community| hex(community.0));
    Route {
        prefix: prefix.to_string(),
        next_hop: attributes.next_hop.to_string(),
        as_path: attributes.as_path.to_string(),
        local_pref: attributes.local_pref.unwrap_or_default(),
        has_local_pref: attributes.local_pref.is_some(),
        med: attributes.med.unwrap_or_default(),
        has_med: attributes.med.is_some(),
        origin: attributes.origin.to_string(),
        communities: communities.chain(large).chain(extended).collect(),
        ..Route::default()
    }
}

/// Extended communities have many kinds: as they are on the wire.
fn hex(octets: [u8; 8]) -> String {
    let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("0x{digits}")
}

pub(super) fn explanation(explanation: &RouteExplanation, peers: &[PeerStatus]) -> Explanation {
    let told = explanation.told.iter().map(|view| {
        let peer = peers.iter().find(|peer| peer.key() == view.peer);
        let export = view.export.as_ref().map(|export| format!("export: {export}"));
        let (route, reason) = match &view.told {
            Ok(route) => (
                Some(Route {
                    path_id: view.path_id.unwrap_or_default(),
                    has_path_id: view.path_id.is_some(),
                    ..attributes(&explanation.prefix, route)
                }),
                export.unwrap_or_default(),
            ),
            Err(reason @ NotTold::Pending) => (None, reason.to_string()),
            Err(reason) => (None, reason.to_string()),
        };
        Told {
            peer: view.peer.to_string(),
            description: peer.map(|peer| peer.description.clone()).unwrap_or_default(),
            route,
            reason,
            path_id: view.path_id.unwrap_or_default(),
            has_path_id: view.path_id.is_some(),
        }
    });
    Explanation {
        prefix: explanation.prefix.to_string(),
        paths: explanation.paths.iter().map(route).collect(),
        told: told.collect(),
        kernel_problem: explanation.kernel_problem.clone().unwrap_or_default(),
    }
}
