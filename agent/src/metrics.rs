//! Prometheus metrics: Felix's names where the meaning is the same, else `margay_*` with unit suffixes.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics_bgp::BgpMetrics;
use crate::view::View;

/// The labels of a BGP session's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PeerLabels {
    peer: String,
    ip_version: u32,
}

/// The host label of `felix_host`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HostLabel {
    host: String,
}

/// Counters that the agent's parts move, and the registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    gauges: Arc<Gauges>,
    bgp: Arc<BgpMetrics>,
    view: View,
    /// Resyncs with the datastore that were started.
    pub resyncs_started: Counter,
    /// Updates that came out of the syncer.
    pub updates_processed: Counter,
    /// Deltas that came out of the policy engine.
    pub engine_deltas: Counter,
    /// Failed applies of the dataplane.
    pub dataplane_failures: Counter,
    /// Flow events read from the ring buffer.
    pub flow_events: Counter,
    /// Flow events lost in the ring buffer.
    pub flow_events_lost: Gauge<u64, AtomicU64>,
    /// Seconds that the last apply took, in microseconds.
    pub apply_time_us: Gauge,
}

#[derive(Debug, Default)]
struct Gauges {
    active_local_endpoints: Gauge,
    active_local_policies: Gauge,
    active_local_selectors: Gauge,
    cluster_num_hosts: Gauge,
    cluster_num_host_endpoints: Gauge,
    cluster_num_workload_endpoints: Gauge,
    cluster_num_tiers: Gauge,
    cluster_num_policies: Gauge,
    cluster_num_profiles: Gauge,
    resync_state: Gauge,
    resource_problems: Gauge,
    session_established: Family<PeerLabels, Gauge>,
    prefixes_received: Family<PeerLabels, Gauge>,
    prefixes_advertised: Family<PeerLabels, Gauge>,
    session_flaps: Family<PeerLabels, Gauge>,
    kernel_routes: KernelRoutes,
}

/// Routes that BGP has put into the kernel.
#[derive(Debug, Default)]
struct KernelRoutes {
    installed: Gauge,
    adopted: Gauge,
    waiting: Gauge,
    pending: Gauge,
    refused: Gauge,
    repairs: Gauge,
    resyncs: Gauge,
}

impl KernelRoutes {
    fn register(&self, registry: &mut Registry) {
        let table: [(&str, &str, &Gauge); 7] = [
            (
                "margay_bgp_kernel_routes",
                "Routes learned by BGP in the kernel",
                &self.installed,
            ),
            (
                "margay_bgp_kernel_routes_adopted",
                "Of these, left by an earlier run and not confirmed yet",
                &self.adopted,
            ),
            (
                "margay_bgp_kernel_changes_waiting",
                "Changes that wait for the driver of kernel routes",
                &self.waiting,
            ),
            (
                "margay_bgp_kernel_changes_pending",
                "Changes that the driver of kernel routes is at",
                &self.pending,
            ),
            (
                "margay_bgp_kernel_routes_refused",
                "Wanted routes that are not in the kernel",
                &self.refused,
            ),
            (
                "margay_bgp_kernel_repairs",
                "How often a change of our routes by somebody else was put right",
                &self.repairs,
            ),
            (
                "margay_bgp_kernel_resyncs",
                "How often the kernel told of changes faster than they were read",
                &self.resyncs,
            ),
        ];
        for (name, help, gauge) in table {
            registry.register(name, help, gauge.clone());
        }
    }

    fn set(&self, status: &bgpd::fib::FibStatus) {
        let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let times = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.installed.set(size(status.installed));
        self.adopted.set(size(status.stale));
        self.waiting.set(size(status.waiting));
        self.pending.set(size(status.pending));
        self.refused.set(size(status.refused));
        self.repairs.set(times(status.repairs));
        self.resyncs.set(times(status.resyncs));
    }
}

impl Metrics {
    /// Registers every metric. The gauges are taken from `view` at each scrape.
    pub fn new(node_name: &str, view: View) -> Self {
        let mut registry = Registry::default();
        let gauges = Gauges::default();
        let table: [(&str, &str, &Gauge); 11] = [
            (
                "margay_resource_problems",
                "Resources and stored values that cannot be honoured as they are written",
                &gauges.resource_problems,
            ),
            (
                "felix_active_local_endpoints",
                "Endpoints on this host",
                &gauges.active_local_endpoints,
            ),
            (
                "felix_active_local_policies",
                "Policies that apply on this host",
                &gauges.active_local_policies,
            ),
            (
                "felix_active_local_selectors",
                "Selectors in use on this host",
                &gauges.active_local_selectors,
            ),
            (
                "felix_cluster_num_hosts",
                "Hosts in the cluster",
                &gauges.cluster_num_hosts,
            ),
            (
                "felix_cluster_num_host_endpoints",
                "Host endpoints in the cluster",
                &gauges.cluster_num_host_endpoints,
            ),
            (
                "felix_cluster_num_workload_endpoints",
                "Workload endpoints in the cluster",
                &gauges.cluster_num_workload_endpoints,
            ),
            (
                "felix_cluster_num_tiers",
                "Tiers in the cluster",
                &gauges.cluster_num_tiers,
            ),
            (
                "felix_cluster_num_policies",
                "Policies in the cluster",
                &gauges.cluster_num_policies,
            ),
            (
                "felix_cluster_num_profiles",
                "Profiles in the cluster",
                &gauges.cluster_num_profiles,
            ),
            (
                "felix_resync_state",
                "1 wait for datastore, 2 resync, 3 in sync",
                &gauges.resync_state,
            ),
        ];
        for (name, help, gauge) in table {
            registry.register(name, help, gauge.clone());
        }
        let host = Family::<HostLabel, Gauge>::default();
        host.get_or_create(&HostLabel {
            host: node_name.to_owned(),
        })
        .set(1);
        registry.register(
            "felix_host",
            "Always 1; the configured host name is in the label",
            host,
        );
        let families: [(&str, &str, &Family<PeerLabels, Gauge>); 4] = [
            (
                "margay_bgp_session_established",
                "1 while the session is Established",
                &gauges.session_established,
            ),
            (
                "margay_bgp_prefixes_received",
                "Prefixes accepted from the peer",
                &gauges.prefixes_received,
            ),
            (
                "margay_bgp_prefixes_advertised",
                "Prefixes advertised to the peer",
                &gauges.prefixes_advertised,
            ),
            (
                "margay_bgp_session_flaps",
                "How often the session has left Established",
                &gauges.session_flaps,
            ),
        ];
        for (name, help, family) in families {
            registry.register(name, help, family.clone());
        }
        gauges.kernel_routes.register(&mut registry);

        let bgp = BgpMetrics::default();
        bgp.register(&mut registry);
        let metrics = Self {
            registry: Arc::default(),
            gauges: Arc::new(gauges),
            bgp: Arc::new(bgp),
            view,
            resyncs_started: Counter::default(),
            updates_processed: Counter::default(),
            engine_deltas: Counter::default(),
            dataplane_failures: Counter::default(),
            flow_events: Counter::default(),
            flow_events_lost: Gauge::default(),
            apply_time_us: Gauge::default(),
        };
        // The encoder adds `_total` to counters, as the text format demands.
        let counters: [(&str, &str, &Counter); 5] = [
            (
                "felix_resyncs_started",
                "Resyncs with the datastore",
                &metrics.resyncs_started,
            ),
            (
                "felix_calc_graph_updates_processed",
                "Updates from the datastore",
                &metrics.updates_processed,
            ),
            (
                "felix_calc_graph_output_events",
                "Events out of the policy engine",
                &metrics.engine_deltas,
            ),
            (
                "felix_int_dataplane_failures",
                "Failed applies of the dataplane",
                &metrics.dataplane_failures,
            ),
            (
                "felix_bpf_events",
                "Events read from the ring buffer",
                &metrics.flow_events,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "margay_flow_events_lost",
            "Flow events lost",
            metrics.flow_events_lost.clone(),
        );
        registry.register(
            "margay_dataplane_last_apply_microseconds",
            "How long the last change took to apply",
            metrics.apply_time_us.clone(),
        );
        *metrics.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    fn scrape(&self) -> Result<String, std::fmt::Error> {
        let gauges = &self.gauges;
        {
            let published = self.view.lock();
            let counts = &published.counts;
            gauges.active_local_endpoints.set(counts.local_endpoints);
            gauges.active_local_policies.set(counts.local_policies);
            gauges.active_local_selectors.set(counts.local_selectors);
            gauges.cluster_num_hosts.set(counts.hosts);
            gauges.cluster_num_host_endpoints.set(counts.host_endpoints);
            gauges
                .cluster_num_workload_endpoints
                .set(counts.workload_endpoints);
            gauges.cluster_num_tiers.set(counts.tiers);
            gauges.cluster_num_policies.set(counts.policies);
            gauges.cluster_num_profiles.set(counts.profiles);
            let problems = i64::try_from(published.problems.len()).unwrap_or(i64::MAX);
            gauges.resource_problems.set(problems);
            gauges.resync_state.set(match published.datastore_state {
                "in-sync" => 3,
                "resync" => 2,
                _ => 1,
            });
            gauges.kernel_routes.set(&published.kernel_routes);
            for family in [
                &gauges.session_established,
                &gauges.prefixes_received,
                &gauges.prefixes_advertised,
                &gauges.session_flaps,
            ] {
                family.clear();
            }
            self.bgp.set(&published.sessions, &published.bfd);
            for peer in &published.bgp_peers {
                let labels = PeerLabels {
                    peer: peer.address.clone(),
                    ip_version: peer.ip_version,
                };
                let established = i64::from(peer.state == "Established");
                gauges.session_established.get_or_create(&labels).set(established);
                let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                gauges
                    .prefixes_received
                    .get_or_create(&labels)
                    .set(count(peer.prefixes_received));
                gauges
                    .prefixes_advertised
                    .get_or_create(&labels)
                    .set(count(peer.prefixes_advertised));
                gauges.session_flaps.get_or_create(&labels).set(count(peer.flaps));
            }
        }
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }

    /// The route `/metrics`.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/metrics",
                get(async |State(metrics): State<Self>| match metrics.scrape() {
                    Ok(text) => {
                        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                        ([(header::CONTENT_TYPE, kind)], text).into_response()
                    }
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
                }),
            )
            .with_state(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrape_shows_felix_names_and_peers() {
        let view = View::default();
        let metrics = Metrics::new("node-1", view.clone());
        metrics.resyncs_started.inc();
        {
            let mut published = view.lock();
            published.datastore_state = "in-sync";
            published.counts.local_endpoints = 2;
            published.bfd.discarded_unauthentic = 5;
            published.bfd.packets_sent = 9;
            published.bfd.state_changes = 3;
            published.problems = vec!["IPPool(p) spec.cidr".into()];
            published.kernel_routes.installed = 5;
            published.kernel_routes.repairs = 3;
            published.bgp_peers = vec![api_proto::v1::BgpPeer {
                address: "192.0.2.1".into(),
                ip_version: 4,
                state: "Established".into(),
                prefixes_received: 7,
                ..Default::default()
            }];
        }
        let text = metrics.scrape().unwrap();
        for line in [
            "felix_active_local_endpoints 2",
            "felix_resync_state 3",
            "margay_bgp_kernel_routes 5",
            "margay_bgp_kernel_repairs 3",
            "margay_bgp_kernel_changes_waiting 0",
            "felix_resyncs_started_total 1",
            "margay_resource_problems 1",
            "margay_bfd_packets_total{direction=\"sent\"} 9",
            "margay_bfd_packets_discarded_total{reason=\"unauthentic\"} 5",
            "margay_bfd_state_changes_total 3",
            "margay_bfd_sessions{state=\"Up\"} 0",
            "felix_host{host=\"node-1\"} 1",
            "margay_bgp_session_established{peer=\"192.0.2.1\",ip_version=\"4\"} 1",
            "margay_bgp_prefixes_received{peer=\"192.0.2.1\",ip_version=\"4\"} 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
    }
}
