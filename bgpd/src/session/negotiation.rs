//! Whether a neighbour's OPEN is acceptable (RFC 4271 section 6.2), and what both ends then share.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::config::GracefulRestartMode;
use crate::wire::notification::{OPEN, open};
use crate::wire::{Codec, FamilySet, GracefulRestart, LongLivedFamily, Notification, Open, Role};

/// What both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiated {
    /// How messages are read and written.
    pub codec: Codec,
    /// The smaller of both hold times; zero for no keepalives.
    pub hold_time: Duration,
    /// Time between keepalives, before jitter.
    pub keepalive: Duration,
    /// The neighbour's BGP identifier.
    pub remote_id: Ipv4Addr,
    /// The neighbour's AS.
    pub remote_as: u32,
    /// Our AS on this session.
    #[serde(default)]
    pub local_as: u32,
    /// How long both wait for BFD before the session is established, if they do.
    #[serde(default)]
    pub bfd_strict: Option<Duration>,
    /// Whether the neighbour may be asked by ROUTE-REFRESH.
    pub route_refresh: bool,
    /// The neighbour's graceful-restart capability, if we have offered ours.
    pub graceful_restart: Option<GracefulRestart>,
    /// The neighbour's long-lived graceful-restart capability (RFC 9494).
    #[serde(default)]
    pub long_lived: Vec<LongLivedFamily>,
}

impl Negotiated {
    /// RFC 8538 section 3: a NOTIFICATION does not end what was agreed on about restarts.
    pub(super) fn survives_notification(&self) -> bool {
        self.graceful_restart
            .as_ref()
            .is_some_and(|restart| restart.notification)
    }
}

/// Checks an OPEN against the settings.
pub(super) fn negotiate(settings: &Settings, theirs: &Open) -> Result<Negotiated, Notification> {
    let error = |subcode| Notification::new(OPEN, subcode);
    if !settings.remote_as.accepts(theirs.asn, settings.local_as) {
        return Err(error(open::BAD_PEER_AS));
    }
    let external = theirs.asn != settings.local_as;
    // RFC 6286: not zero, and unique within an AS.
    let ours = !external && theirs.router_id == settings.router_id;
    if theirs.router_id.is_unspecified() || ours {
        return Err(Notification::with_data(
            OPEN,
            open::BAD_IDENTIFIER,
            &theirs.router_id.octets(),
        ));
    }
    if matches!(theirs.hold_time_s, 1 | 2) {
        return Err(error(open::UNACCEPTABLE_HOLD_TIME));
    }
    let families = settings
        .families
        .intersection(theirs.capabilities.offered_families());
    if families.is_empty() {
        return Err(Notification::with_data(
            OPEN,
            open::UNSUPPORTED_CAPABILITY,
            &missing_families(settings),
        ));
    }
    check_role(settings, theirs.capabilities.role)?;
    let with_path_ids = |ours: FamilySet, theirs| families.intersection(ours).intersection(theirs);
    let hold_time = settings
        .hold_time
        .min(Duration::from_secs(theirs.hold_time_s.into()));
    Ok(Negotiated {
        codec: Codec {
            four_octet_as: theirs.capabilities.four_octet_as.is_some(),
            extended_message: theirs.capabilities.extended_message,
            families,
            external,
            // RFC 8950 section 4: only if both ends have said so.
            extended_next_hop: settings
                .extended_next_hops()
                .intersection(theirs.capabilities.extended_next_hop)
                .intersection(families),
            extended_message_offered: true,
            as_sets: settings.as_sets,
            enhanced_route_refresh: settings.route_refresh.is_enhanced()
                && theirs.capabilities.enhanced_route_refresh,
            // RFC 7911 section 4: one end takes what the other is willing to send.
            add_path_receive: with_path_ids(settings.add_path.receive, theirs.capabilities.add_path.send),
            add_path_send: with_path_ids(settings.add_path.send, theirs.capabilities.add_path.receive),
        },
        hold_time,
        keepalive: keepalive(settings.keepalive, hold_time),
        remote_id: theirs.router_id,
        remote_as: theirs.asn,
        local_as: settings.local_as,
        bfd_strict: settings.bfd_strict.filter(|_| theirs.capabilities.bfd_strict),
        route_refresh: settings.route_refresh.is_on() && theirs.capabilities.route_refresh,
        graceful_restart: theirs
            .capabilities
            .graceful_restart
            .clone()
            .filter(|_| settings.graceful_restart != GracefulRestartMode::Off),
        // RFC 9494 section 4.1: without graceful restart it is ignored.
        long_lived: match theirs.capabilities.graceful_restart {
            Some(_) => theirs.capabilities.long_lived.clone(),
            None => Vec::new(),
        },
    })
}

/// RFC 9234 section 4.2: both roles must go together; a neighbour without one may be refused.
fn check_role(settings: &Settings, theirs: Option<Role>) -> Result<(), Notification> {
    let fits = match (settings.role, theirs) {
        (Some(ours), Some(theirs)) => ours.corresponds(theirs),
        (Some(_), None) => !settings.role_strict,
        (None, _) => true,
    };
    if fits {
        Ok(())
    } else {
        Err(Notification::new(OPEN, open::ROLE_MISMATCH))
    }
}

/// The time between keepalives: never more than a third of the hold time (RFC 4271 section 4.4).
pub(super) fn keepalive(configured: Option<Duration>, hold_time: Duration) -> Duration {
    let third = hold_time / 3;
    configured.map_or(third, |configured| configured.min(third))
}

/// RFC 5492 section 3: the capabilities that the neighbour lacks.
fn missing_families(settings: &Settings) -> Vec<u8> {
    let capability = |family: crate::wire::Family| {
        let [high, low] = family.afi().to_be_bytes();
        [1, 4, high, low, 0, family.safi()]
    };
    settings.families.iter().flat_map(capability).collect()
}
