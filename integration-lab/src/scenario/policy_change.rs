//! A policy is changed with calicoctl and changed back: the verdict of a steady series of connections turns,
//! and how long that took is printed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::Stage;
use crate::deploy::Progress;
use crate::fabric::Family;
use crate::provision::apply;
use crate::traffic::flips::Flip;
use crate::verify::Report;
use crate::workloads;

/// How long connections are tried, and when within that the policy is applied.
const WATCH_SECONDS: u64 = 6;
const APPLY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn run(stage: &Stage, report: &mut Report, progress: Progress) -> anyhow::Result<()> {
    let change = stage.policy_change()?;
    for family in [Family::V4, Family::V6] {
        for (file, before, after) in [(&change.allow, "deny", "allow"), (&change.deny, "allow", "deny")] {
            let observed = observe(stage, family, file)?;
            let seen: Vec<&str> = observed
                .flips
                .iter()
                .map(|f| if f.open { "allow" } else { "deny" })
                .collect();
            let subject = format!("{} to {}, {} {family}", change.from, change.to, change.probe);
            report.compare(
                "policy-change",
                &subject,
                &format!("{before} {after}"),
                &seen.join(" "),
            );
            if let Some(turned) = observed.turned() {
                progress(&format!(
                    "{subject}: {before} -> {after} {} ms after calicoctl started, {} ms after it returned",
                    turned.after_start_ms, turned.after_return_ms
                ));
            }
        }
    }
    Ok(())
}

/// When a verdict turned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turned {
    /// Milliseconds after calicoctl was started.
    pub(crate) after_start_ms: i64,
    /// Milliseconds after it returned: negative if the verdict turned before.
    pub(crate) after_return_ms: i64,
}

impl Observed {
    /// When the verdict turned, if it did.
    pub(crate) fn turned(&self) -> Option<Turned> {
        let flip = self.flips.get(1)?;
        let since = |mark_ms: u64| flip.at_unix_ms as i64 - mark_ms as i64;
        Some(Turned {
            after_start_ms: since(self.apply_began_unix_ms),
            after_return_ms: since(self.apply_ended_unix_ms),
        })
    }
}

/// A series of connections during a change.
pub(crate) struct Observed {
    flips: Vec<Flip>,
    apply_began_unix_ms: u64,
    apply_ended_unix_ms: u64,
}

/// Watches connections while a file is applied.
pub(crate) fn observe(stage: &Stage, family: Family, file: &std::path::Path) -> anyhow::Result<Observed> {
    let change = stage.policy_change()?;
    let records = workloads::records(stage.lab)?;
    let find = |name: &str| {
        records
            .iter()
            .find(|r| r.name == name)
            .with_context(|| format!("{name} is not there"))
    };
    let (from, to) = (find(&change.from)?, find(&change.to)?);
    let address = to
        .addresses
        .iter()
        .find(|a| a.is_ipv4() == (family == Family::V4))
        .context("the server has no address of the family")?
        .to_string();
    let port = change
        .probe
        .port()
        .context("only TCP probes can be timed")?
        .to_string();
    let seconds = WATCH_SECONDS.to_string();
    let arguments = [
        "lab",
        "traffic",
        "flips",
        "--to",
        &address,
        "--port",
        &port,
        "--seconds",
        &seconds,
    ];
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let limit = Duration::from_secs(2 * WATCH_SECONDS);
            stage
                .lab
                .run_with_input(&from.host, Some(&from.name), &arguments, b"", limit)
        });
        std::thread::sleep(APPLY_AFTER);
        let apply_began_unix_ms = unix_ms();
        let applied = apply(stage.lab, stage.fabric, file);
        let apply_ended_unix_ms = unix_ms();
        let text = watch
            .join()
            .map_err(|_| anyhow::anyhow!("the watching thread failed"))??;
        applied?;
        let flips = serde_json::from_str(&text).context("the watch's result")?;
        Ok(Observed {
            flips,
            apply_began_unix_ms,
            apply_ended_unix_ms,
        })
    })
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
