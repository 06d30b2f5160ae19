//! The speaker inside the agent: started with the first configuration, changed by differences, published each second.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use api_proto::v1 as proto;
use bgpd::config::{BGP_PORT, Config as SpeakerConfig, NeighborKey};
use bgpd::fib::{FibSettings, Metric};
use bgpd::session::State;
use bgpd::speaker::{PeerStatus, Speaker, SpeakerHandle, StartOptions, StopMode};

use crate::config::Config;
use crate::fabric::{NORMAL_ROUTE_PRIORITY, SessionOrigin};
use crate::health::Health;
use crate::view::View;

/// Name in the health reports.
const COMPONENT: &str = "bgp";
/// Present while a speaker runs or has left its routes in place. It does not survive a boot, and nor do the routes.
const MARKER: &str = "bgp-running";

/// The speaker, once there is a configuration for it.
#[derive(Debug)]
pub struct Bgp {
    enabled: bool,
    interface_prefix: String,
    marker: PathBuf,
    speaker: Option<SpeakerHandle>,
    /// Why the last configuration is not in force.
    failure: Option<String>,
    health: Health,
    view: View,
}

impl Bgp {
    /// No speaker yet.
    pub fn new(config: &Config, health: Health, view: View) -> Self {
        if config.bgp.enabled {
            health.register(COMPONENT, None);
        }
        Self {
            enabled: config.bgp.enabled,
            interface_prefix: config.dataplane.interface_prefix.clone(),
            marker: config.paths.run_dir.join(MARKER),
            speaker: None,
            failure: None,
            health,
            view,
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
        self.failure = outcome.err();
        if let Some(failure) = &self.failure {
            tracing::error!(%failure, "the BGP configuration is not in force");
        }
        self.failure.is_none()
    }

    fn start(&mut self, config: &SpeakerConfig) -> Result<(), String> {
        let restarting = self.marker.exists();
        let fib = FibSettings {
            metric: Metric::FromLocalPref(NORMAL_ROUTE_PRIORITY),
            workload_interface_prefix: self.interface_prefix.clone(),
            ..FibSettings::default()
        };
        let options = StartOptions {
            restarting,
            forwarding_preserved: false,
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
        self.report(&peers, speaker.is_restart_complete());
        let half = |v4: bool| proto::BgpSpeaker {
            running: config.listen.iter().any(|address| address.is_ipv4() == v4),
            router_id: config.router_id.to_string(),
            local_as: config.local_as,
        };
        let mut published = self.view.lock();
        published.bgp_v4 = half(true);
        published.bgp_v6 = half(false);
        published.bgp_peers = peers
            .iter()
            .map(|peer| to_proto(peer, origins.and_then(|origins| origins.get(&peer.key()))))
            .collect();
    }

    /// Ready with at least one session established, or with none to establish.
    fn report(&self, peers: &[PeerStatus], restart_complete: bool) {
        let established = peers
            .iter()
            .filter(|peer| peer.state == State::Established)
            .count();
        if let Some(failure) = &self.failure {
            self.health.not_ready(COMPONENT, failure.clone());
        } else if established == 0 && !peers.is_empty() {
            self.health.not_ready(
                COMPONENT,
                format!("none of {} sessions is established", peers.len()),
            );
        } else if !restart_complete {
            self.health
                .not_ready(COMPONENT, "restarting gracefully: waiting for the peers' routes");
        } else {
            self.health.ready(COMPONENT);
        }
    }

    /// Ends the sessions so that peers keep our routes; routes in the kernel stay.
    pub async fn stop(&mut self) {
        if let Some(speaker) = self.speaker.take() {
            speaker.stop(StopMode::Restart).await;
        }
    }
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
