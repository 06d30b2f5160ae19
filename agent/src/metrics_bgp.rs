//! Metrics of BGP messages and of BFD.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::Ordering;

use bgpd::bfd::Counters;
use bgpd::speaker::{MessageCounts, PeerStatus};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    peer: String,
    direction: &'static str,
    message: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// What the speaker counts, as of the last [`BgpMetrics::set`].
#[derive(Debug, Default)]
pub(crate) struct BgpMetrics {
    messages: Family<MessageLabels, Counter>,
    dampened: Family<PeerLabel, Gauge>,
    far_connections: Family<PeerLabel, Counter>,
    bfd_sessions: Family<StateLabel, Gauge>,
    bfd_packets: Family<DirectionLabel, Counter>,
    bfd_discarded: Family<ReasonLabel, Counter>,
    bfd_state_changes: Counter,
    bfd_detection_timeouts: Counter,
}

impl BgpMetrics {
    /// Makes them part of what is scraped. The encoder adds `_total` to counters.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "margay_bgp_messages",
            "BGP messages by peer, direction and type",
            self.messages.clone(),
        );
        registry.register(
            "margay_bgp_prefixes_dampened",
            "Routes of the peer that are kept from use because they flap",
            self.dampened.clone(),
        );
        registry.register(
            "margay_bgp_far_connections",
            "Connections of the peer that came over more hops than ttlSecurity allows",
            self.far_connections.clone(),
        );
        registry.register(
            "margay_bfd_sessions",
            "BFD sessions by state",
            self.bfd_sessions.clone(),
        );
        registry.register(
            "margay_bfd_packets",
            "BFD control packets by direction, those for no session left out",
            self.bfd_packets.clone(),
        );
        registry.register(
            "margay_bfd_packets_discarded",
            "BFD control packets that were not for use, by reason",
            self.bfd_discarded.clone(),
        );
        registry.register(
            "margay_bfd_state_changes",
            "Changes of BFD sessions' states",
            self.bfd_state_changes.clone(),
        );
        registry.register(
            "margay_bfd_detection_timeouts",
            "BFD sessions that went down because nothing was heard",
            self.bfd_detection_timeouts.clone(),
        );
    }

    /// Takes the speaker's figures over.
    pub(crate) fn set(&self, sessions: &[PeerStatus], bfd: &Counters) {
        self.messages.clear();
        self.dampened.clear();
        self.far_connections.clear();
        for session in sessions {
            let peer = session.key().to_string();
            let dampened = i64::try_from(session.prefixes_dampened).unwrap_or(i64::MAX);
            self.dampened
                .get_or_create(&PeerLabel { peer: peer.clone() })
                .set(dampened);
            let far = self
                .far_connections
                .get_or_create(&PeerLabel { peer: peer.clone() });
            far.inner().store(session.far_connections, Ordering::Relaxed);
            for (direction, counts) in [
                ("sent", session.messages_sent),
                ("received", session.messages_received),
            ] {
                for (message, count) in by_type(counts) {
                    let labels = MessageLabels {
                        peer: peer.clone(),
                        direction,
                        message,
                    };
                    let counter = self.messages.get_or_create(&labels);
                    counter.inner().store(count, Ordering::Relaxed);
                }
            }
        }
        for state in ["AdminDown", "Down", "Init", "Up"] {
            let states = sessions.iter().filter_map(|session| session.bfd.as_ref());
            let count = states.filter(|bfd| bfd.state.to_string() == state).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.bfd_sessions.get_or_create(&StateLabel { state }).set(count);
        }
        for (direction, count) in [("sent", bfd.packets_sent), ("received", bfd.packets_received)] {
            let counter = self.bfd_packets.get_or_create(&DirectionLabel { direction });
            counter.inner().store(count, Ordering::Relaxed);
        }
        for (reason, count) in [
            ("malformed", bfd.discarded_malformed),
            ("distant", bfd.discarded_distant),
            ("unknown-session", bfd.discarded_unknown),
            ("unauthentic", bfd.discarded_unauthentic),
            ("admin-down", bfd.discarded_admin_down),
        ] {
            let counter = self.bfd_discarded.get_or_create(&ReasonLabel { reason });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let whole = [
            (&self.bfd_state_changes, bfd.state_changes),
            (&self.bfd_detection_timeouts, bfd.detection_timeouts),
        ];
        for (counter, count) in whole {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}

fn by_type(counts: MessageCounts) -> [(&'static str, u64); 5] {
    [
        ("open", counts.open),
        ("update", counts.update),
        ("notification", counts.notification),
        ("keepalive", counts.keepalive),
        ("route-refresh", counts.route_refresh),
    ]
}
