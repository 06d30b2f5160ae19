//! Silent loss of one of two ToRs: how long traffic is gone.

use serde::Serialize;

use crate::run::Bench;
use crate::silent::{self, BFD_INTERVAL_MS, Ip, Silence};

/// What is asked for IPv4, whatever the number of routes.
const TARGET_MS: f64 = 200.0;

/// One family and number of routes.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    family: &'static str,
    routes: usize,
    bfd: String,
    /// From the first lost packet until the last flow was whole again, of each run.
    outage_ms: Vec<f64>,
    lost: Vec<usize>,
    flows_hit: Vec<usize>,
    /// Why there are no more runs.
    failure: Option<String>,
}

impl Outcome {
    fn median_ms(&self) -> Option<f64> {
        let mut sorted = self.outage_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// All families and sizes, several times each.
pub(crate) fn run(bench: &Bench<'_>, sizes: [usize; 2], runs: usize) -> Vec<Outcome> {
    let both = [("IPv4", Ip::V4), ("IPv6", Ip::V6)];
    let rows = both
        .into_iter()
        .flat_map(|family| sizes.map(|routes| (family, routes)));
    rows.map(|((family, ip), routes)| {
        let mut outcome = Outcome {
            family,
            routes,
            bfd: format!("3 x {BFD_INTERVAL_MS} ms"),
            outage_ms: Vec::new(),
            lost: Vec::new(),
            flows_hit: Vec::new(),
            failure: None,
        };
        for _ in 0..runs {
            match crate::attempt(|| once(bench, ip, routes)) {
                Ok(run) => {
                    outcome.outage_ms.push(run.outage.as_secs_f64() * 1e3);
                    outcome.lost.push(run.lost);
                    outcome.flows_hit.push(run.flows_hit);
                }
                Err(reason) => {
                    outcome.failure = Some(reason);
                    break;
                }
            }
        }
        outcome
    })
    .collect()
}

fn once(bench: &Bench<'_>, ip: Ip, routes: usize) -> anyhow::Result<silent::Outcome> {
    let silence = Silence::start(bench.ours, ip, routes);
    let outcome = silence.lose_one();
    anyhow::ensure!(silence.has_carrier(), "the carrier was lost: that is no silence");
    Ok(outcome)
}

/// The table.
pub(crate) fn told(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<10}{:>10}{:>12}{:>22}\n",
        "", "routes", "outage ms", "least to most"
    );
    for outcome in outcomes {
        let (family, routes) = (outcome.family, outcome.routes);
        let least = outcome.outage_ms.iter().copied().fold(f64::INFINITY, f64::min);
        let most = outcome.outage_ms.iter().copied().fold(0.0, f64::max);
        match (outcome.median_ms(), &outcome.failure) {
            (Some(median), None) => {
                let range = format!("{least:.0} to {most:.0}");
                text.push_str(&format!("{family:<10}{routes:>10}{median:>12.0}{range:>22}\n"));
            }
            (_, failure) => {
                let failure = failure.as_deref().unwrap_or("no runs");
                text.push_str(&format!("{family:<10}{routes:>10}  {failure}\n"));
            }
        }
    }
    let met = |outcome: &Outcome| {
        outcome.family != "IPv4"
            || (outcome.failure.is_none() && outcome.median_ms().is_some_and(|ms| ms <= TARGET_MS))
    };
    let met = if outcomes.iter().all(met) {
        "met"
    } else {
        "NOT met"
    };
    text.push_str(&format!(
        "target: IPv4 within {TARGET_MS:.0} ms with any number of routes: {met}"
    ));
    text
}
