//! `lab bench`: what the fabric that is up takes for everyday changes. It leaves the fabric as it was.

use std::time::Instant;

use anyhow::Context;
use comfy_table::{Table, presets};

use crate::fabric::Family;
use crate::running::RunningLab;
use crate::scenario::{Stage, policy_change};
use crate::workloads;

/// How often each change is made.
const ROUNDS: usize = 5;

/// Measures and returns a table: one line a measurement, in milliseconds.
pub fn run(lab: &RunningLab) -> anyhow::Result<String> {
    let stage = Stage::of(lab)?;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["WHAT", "ROUNDS", "MIN ms", "MEDIAN ms", "MAX ms"]);
    for (what, times_ms) in policy_changes(&stage)?
        .into_iter()
        .chain(workload_changes(&stage)?)
    {
        let Some((min, median, max)) = spread(times_ms.clone()) else {
            continue;
        };
        table.add_row([what.to_string(), times_ms.len().to_string(), min, median, max]);
    }
    Ok(table.to_string())
}

type Measured = Vec<(&'static str, Vec<f64>)>;

/// From the start and the end of `calicoctl apply` to the first connection that meets the new verdict. The
/// resolution is that of the connections, one in 10 ms.
fn policy_changes(stage: &Stage) -> anyhow::Result<Measured> {
    let change = stage.policy_change()?;
    let (mut after_start, mut after_return) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for file in [&change.allow, &change.deny] {
            let observed = policy_change::observe(stage, Family::V4, file)?;
            let turned = observed
                .turned()
                .context("a policy was applied and no verdict turned")?;
            after_start.push(turned.after_start_ms as f64);
            after_return.push(turned.after_return_ms as f64);
        }
    }
    Ok(vec![
        ("verdict turned, after calicoctl apply started", after_start),
        ("verdict turned, after calicoctl apply returned", after_return),
    ])
}

/// The CNI plugin as a runtime sees it: with the lab's own share, some milliseconds to enter a node.
fn workload_changes(stage: &Stage) -> anyhow::Result<Measured> {
    let (lab, fabric) = (stage.lab, stage.fabric);
    let name = stage.workload_readd()?;
    let workload = fabric
        .workload(name)
        .context("the workload is gone from the fabric")?;
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut records = workloads::records(lab)?;
        let at = records
            .iter()
            .position(|r| r.name == *name)
            .with_context(|| format!("{name} is not there"))?;
        let old = records.remove(at);
        let began = Instant::now();
        workloads::remove(lab, fabric, &old)?;
        removed.push(began.elapsed().as_secs_f64() * 1e3);
        workloads::record(lab, &records)?;
        let began = Instant::now();
        let new = workloads::add(lab, fabric, workload)?;
        added.push(began.elapsed().as_secs_f64() * 1e3);
        records.insert(at, new);
        workloads::record(lab, &records)?;
    }
    Ok(vec![
        ("workload deleted", removed),
        ("workload made, its policy in force", added),
    ])
}

/// Least, middle and greatest, as text.
fn spread(mut times_ms: Vec<f64>) -> Option<(String, String, String)> {
    times_ms.sort_by(f64::total_cmp);
    let shown = |ms: &f64| format!("{ms:.0}");
    Some((
        times_ms.first().map(shown)?,
        times_ms.get(times_ms.len() / 2).map(shown)?,
        times_ms.last().map(shown)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_spread_of_times_is_least_middle_greatest() {
        let shown = spread(vec![5.0, -2.0, 40.4]).unwrap();
        assert_eq!(shown, ("-2".to_string(), "5".to_string(), "40".to_string()));
        assert_eq!(spread(Vec::new()), None);
    }
}
