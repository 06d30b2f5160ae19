//! The speaker inside the agent: started with the first configuration, changed by differences, published each second.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use api_proto::v1 as proto;
use bgpd::config::{BGP_PORT, Config as SpeakerConfig, NeighborKey};
use bgpd::fib::{FibSettings, Metric};
use bgpd::rpc::SpeakerSlot;
use bgpd::session::State;
use bgpd::speaker::{PeerStatus, Speaker, SpeakerHandle, StartOptions, StopMode};

use crate::config::Config;
use crate::fabric::{EXTERNAL_ROUTE_METRIC, PeerType, SessionOrigin};
use crate::health::Health;
use crate::view::View;

/// Name in the health reports.
const COMPONENT: &str = "bgp";
/// Present while a speaker runs or has left its routes in place. It does not survive a boot, and nor do the routes.
const MARKER: &str = "bgp-running";

/// For so long after its start every session has to be established for the host to be ready, later one is enough. As
/// Calico's readiness check has it.
const ALL_SESSIONS_TIME: Duration = Duration::from_secs(30);

/// The speaker, once there is a configuration for it.
#[derive(Debug)]
pub struct Bgp {
    enabled: bool,
    interface_prefix: String,
    marker: PathBuf,
    speaker: Option<SpeakerHandle>,
    /// When the agent began.
    began_at: Instant,
    /// Why the last configuration is not in force.
    failure: Option<String>,
    health: Health,
    view: View,
    /// Where the local API finds the speaker.
    slot: SpeakerSlot,
}

impl Bgp {
    /// No speaker yet.
    pub fn new(config: &Config, health: Health, view: View, slot: SpeakerSlot) -> Self {
        if config.bgp.enabled {
            health.register(COMPONENT, None);
        }
        Self {
            enabled: config.bgp.enabled,
            interface_prefix: config.dataplane.interface_prefix.clone(),
            marker: config.paths.run_dir.join(MARKER),
            speaker: None,
            began_at: Instant::now(),
            failure: None,
            health,
            view,
            slot,
        }
    }

    /// Brings a configuration into force. `None`, a node without resource or address, leaves what runs as it is: a
    /// node that vanished from the view is no reason to take its workloads off the network.
    ///
    /// Returns whether it is in force.
    pub async fn apply(&mut self, config: Option<&SpeakerConfig>) -> bool {
        let (true, Some(config)) = (self.enabled, config) else {
            return true;
        };
        let outcome = match self.speaker.clone() {
            Some(speaker) => self.change(&speaker, config).await,
            None => self.start(config),
        };
        let failure = outcome.err();
        // It is tried again and again, and told once.
        if let Some(failure) = failure.as_ref().filter(|_| failure != self.failure) {
            tracing::error!(%failure, "the BGP configuration is not in force");
        }
        self.failure = failure;
        self.failure.is_none()
    }

    /// Whether there is a speaker.
    pub fn is_running(&self) -> bool {
        self.speaker.is_some()
    }

    fn start(&mut self, config: &SpeakerConfig) -> Result<(), String> {
        let restarting = self.marker.exists();
        let fib = FibSettings {
            metric: Metric::FromLocalPref(EXTERNAL_ROUTE_METRIC),
            workload_interface_prefix: self.interface_prefix.clone(),
            ..FibSettings::default()
        };
        let options = StartOptions {
            restarting,
            // What this host announces leads to its workloads and blackholes, which the dataplane keeps in place; this
            // holds where learned routes are not installed, too.
            forwarding_preserved: true,
            fib,
        };
        let speaker = Speaker::start(config.clone(), options).map_err(|error| error.to_string())?;
        tracing::info!(
            local_as = config.local_as,
            router_id = %config.router_id,
            neighbors = config.neighbors.len(),
            networks = config.networks.len(),
            restarting,
            "BGP speaker started"
        );
        if let Err(error) = mark(&self.marker) {
            tracing::warn!(file = %self.marker.display(), %error, "no marker: the next start will not be graceful");
        }
        self.slot.set(Some(speaker.clone()));
        self.speaker = Some(speaker);
        Ok(())
    }

    async fn change(&mut self, speaker: &SpeakerHandle, config: &SpeakerConfig) -> Result<(), String> {
        let diff = speaker
            .reconfigure(config.clone())
            .await
            .map_err(|error| error.to_string())?;
        tracing::info!(
            added = ?diff.added,
            removed = ?diff.removed,
            changed = ?diff.changed,
            networks = diff.networks,
            "BGP configuration changed"
        );
        if diff.needs_restart.is_empty() {
            return Ok(());
        }
        tracing::warn!(because = ?diff.needs_restart, "every BGP session is reset");
        self.slot.set(None);
        speaker.stop(StopMode::Restart).await;
        self.speaker = None;
        self.start(config)
    }

    /// Tells view and health how the sessions are.
    pub async fn publish(&self, origins: Option<&BTreeMap<NeighborKey, SessionOrigin>>) {
        if !self.enabled {
            return;
        }
        let Some(speaker) = &self.speaker else {
            let why = self
                .failure
                .clone()
                .unwrap_or_else(|| "waiting for this node's resources".to_owned());
            self.health.not_ready(COMPONENT, why);
            return;
        };
        let (peers, config) = match (speaker.peers().await, speaker.config().await) {
            (Ok(peers), Ok(config)) => (peers, config),
            (Err(error), _) | (_, Err(error)) => {
                self.health.dead(COMPONENT, error.to_string());
                return;
            }
        };
        self.report(&peers, origins, speaker.is_restart_complete());
        let half = |v4: bool| proto::BgpSpeaker {
            running: config.listen.iter().any(|address| address.is_ipv4() == v4),
            router_id: config.router_id.to_string(),
            local_as: config.local_as,
        };
        let mut published = self.view.lock();
        published.bgp_v4 = half(true);
        published.bgp_v6 = half(false);
        published.kernel_routes = speaker.fib_status().unwrap_or_default();
        published.bgp_peers = peers
            .iter()
            .map(|peer| to_proto(peer, origins.and_then(|origins| origins.get(&peer.key()))))
            .collect();
        published.sessions = peers;
        published.bfd = speaker.bfd_counters();
    }

    /// Sessions with workloads do not count: whether those are there is not the host's affair.
    fn report(
        &self,
        peers: &[PeerStatus],
        origins: Option<&BTreeMap<NeighborKey, SessionOrigin>>,
        restart_complete: bool,
    ) {
        let counts = |peer: &&PeerStatus| {
            let origin = origins.and_then(|origins| origins.get(&peer.key()));
            origin.is_none_or(|origin| origin.peer_type != PeerType::LocalWorkload)
        };
        let sessions = peers.iter().filter(counts).count();
        let established = peers
            .iter()
            .filter(counts)
            .filter(|peer| peer.state == State::Established)
            .count();
        let at_start = self.began_at.elapsed() < ALL_SESSIONS_TIME;
        match self
            .failure
            .clone()
            .or_else(|| unready_because(established, sessions, restart_complete, at_start))
        {
            Some(reason) => self.health.not_ready(COMPONENT, reason),
            None => self.health.ready(COMPONENT),
        }
    }

    /// Ends the sessions so that peers keep our routes; routes in the kernel stay.
    pub async fn stop(&mut self) {
        self.slot.set(None);
        if let Some(speaker) = self.speaker.take() {
            speaker.stop(StopMode::Restart).await;
        }
    }
}

/// Why the sessions do not do yet: at the start all are needed and the routes of a graceful restart, later one session.
/// No sessions are no reason.
fn unready_because(
    established: usize,
    sessions: usize,
    restart_complete: bool,
    at_start: bool,
) -> Option<String> {
    if sessions == 0 {
        return None;
    }
    if established == 0 {
        return Some(format!("none of {sessions} sessions is established"));
    }
    if at_start && established < sessions {
        return Some(format!("{established} of {sessions} sessions are established"));
    }
    if at_start && !restart_complete {
        return Some("restarting gracefully: waiting for the peers' routes".to_owned());
    }
    None
}

fn mark(path: &Path) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, "")
}

fn to_proto(peer: &PeerStatus, origin: Option<&SessionOrigin>) -> proto::BgpPeer {
    proto::BgpPeer {
        address: peer.address.to_string(),
        port: if peer.port == BGP_PORT {
            0
        } else {
            peer.port.into()
        },
        ip_version: if peer.address.is_ipv4() { 4 } else { 6 },
        peer_type: origin.map_or("", |origin| origin.peer_type.text()).to_owned(),
        remote_as: peer.remote_as,
        state: format!("{:?}", peer.state),
        since: text(peer.since),
        info: peer.last_error.clone().unwrap_or_default(),
        prefixes_received: peer.prefixes_received,
        prefixes_advertised: peer.prefixes_advertised,
        flaps: peer.flaps,
        resource: origin.map(|origin| origin.resource.clone()).unwrap_or_default(),
    }
}

fn text(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.round(jiff::Unit::Second).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_strict_at_the_start_and_content_with_one_session_later() {
        let ready = |established, sessions, complete, at_start| {
            unready_because(established, sessions, complete, at_start).is_none()
        };
        assert!(ready(0, 0, false, true) && ready(0, 0, true, false));
        assert!(!ready(0, 2, true, true) && !ready(0, 2, true, false));
        assert!(!ready(1, 2, true, true) && ready(1, 2, true, false));
        assert!(!ready(2, 2, false, true) && ready(2, 2, false, false));
        assert!(ready(2, 2, true, true));
    }
}
