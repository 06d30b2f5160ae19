//! Liveness and readiness of the agent's components, and the HTTP server that tells them.
//!
//! `/liveness` and `/readiness` answer 200 or 503 with one line a component, as Felix's do on port 9099.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

/// What one component last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// It does its work, or can still come to.
    pub live: bool,
    /// It is in the state that the host needs.
    pub ready: bool,
    /// What it waits for or what went wrong; empty when all is well.
    pub detail: String,
}

#[derive(Debug)]
struct Component {
    report: Report,
    /// A component that promised reports at intervals and is silent for longer is not live.
    silence_max: Option<Duration>,
    reported_at: Instant,
}

/// Collects the components' reports. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<BTreeMap<&'static str, Component>>>,
}

impl Health {
    /// Registers a component, not ready until it reports. With `silence_max` it has to report at least that often.
    pub fn register(&self, name: &'static str, silence_max: Option<Duration>) {
        let report = Report {
            live: true,
            ready: false,
            detail: "starting".into(),
        };
        self.lock().insert(
            name,
            Component {
                report,
                silence_max,
                reported_at: Instant::now(),
            },
        );
    }

    /// A component is well.
    pub fn ready(&self, name: &'static str) {
        self.report(
            name,
            Report {
                live: true,
                ready: true,
                detail: String::new(),
            },
        );
    }

    /// A component works but is not where it should be.
    pub fn not_ready(&self, name: &'static str, detail: impl Into<String>) {
        self.report(
            name,
            Report {
                live: true,
                ready: false,
                detail: detail.into(),
            },
        );
    }

    /// A component has failed for good.
    pub fn dead(&self, name: &'static str, detail: impl Into<String>) {
        self.report(
            name,
            Report {
                live: false,
                ready: false,
                detail: detail.into(),
            },
        );
    }

    fn report(&self, name: &'static str, report: Report) {
        let mut components = self.lock();
        let now = Instant::now();
        let component = components.entry(name).or_insert_with(|| Component {
            report: report.clone(),
            silence_max: None,
            reported_at: now,
        });
        if component.report != report && !report.detail.is_empty() {
            tracing::info!(component = name, live = report.live, ready = report.ready, detail = %report.detail, "health");
        }
        component.report = report;
        component.reported_at = now;
    }

    /// Every component's report at `now`, by name.
    pub fn reports(&self, now: Instant) -> Vec<(&'static str, Report)> {
        let components = self.lock();
        components
            .iter()
            .map(|(name, component)| {
                let silent_for = now.saturating_duration_since(component.reported_at);
                let mut report = component.report.clone();
                if component.silence_max.is_some_and(|max| silent_for > max) {
                    report.live = false;
                    report.ready = false;
                    report.detail = format!("no report for {} s", silent_for.as_secs());
                }
                (*name, report)
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Component>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, good: impl Fn(&Report) -> bool) -> (StatusCode, String) {
        let reports = self.reports(Instant::now());
        let mut body = String::new();
        for (name, report) in &reports {
            let state = if good(report) { "ok" } else { "failing" };
            let _ = writeln!(
                body,
                "{name}: {state}{}{}",
                if report.detail.is_empty() { "" } else { ": " },
                report.detail
            );
        }
        let all = reports.iter().all(|(_, report)| good(report));
        (
            if all {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            body,
        )
    }

    /// The routes `/liveness` and `/readiness`.
    pub fn router(&self) -> Router {
        Router::new()
            .route(
                "/liveness",
                get(async |State(health): State<Health>| health.answer(|r| r.live)),
            )
            .route(
                "/readiness",
                get(async |State(health): State<Health>| health.answer(|r| r.live && r.ready)),
            )
            .with_state(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_every_component() {
        let health = Health::default();
        health.register("datastore", None);
        health.register("bgp", None);
        health.ready("bgp");
        assert_eq!(
            health.answer(|r| r.live && r.ready).0,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(health.answer(|r| r.live).0, StatusCode::OK);
        health.ready("datastore");
        assert_eq!(health.answer(|r| r.live && r.ready).0, StatusCode::OK);
        health.dead("bgp", "stopped");
        let (status, body) = health.answer(|r| r.live);
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            body.contains("bgp: failing: stopped") && body.contains("datastore: ok"),
            "{body}"
        );
    }

    #[test]
    fn silence_is_not_life() {
        let health = Health::default();
        health.register("dataplane", Some(Duration::from_secs(30)));
        health.ready("dataplane");
        let now = Instant::now();
        assert!(health.reports(now)[0].1.live);
        let late = health.reports(now + Duration::from_secs(31));
        assert!(!late[0].1.live && late[0].1.detail.contains("no report for 31 s"));
    }
}
