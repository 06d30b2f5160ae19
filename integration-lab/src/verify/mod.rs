//! `lab verify`: everything that must hold in the fabric, seen and compared.

mod bfd;
mod matrix;
mod report;
mod routes;
mod sessions;
mod shown;
mod store;

use std::time::Duration;

pub use report::{Check, Report};

use crate::observe::ipam::IpamView;
use crate::provision::{all_established, eventually};
use crate::running::RunningLab;

/// How long sessions and routes may take to settle before they are judged, unless it is said otherwise.
pub const SETTLE_MAX: Duration = Duration::from_secs(45);

/// Looks at the whole fabric.
pub fn verify(lab: &RunningLab, settle: Duration) -> anyhow::Result<Report> {
    let mut report = Report::default();
    verify_into(lab, settle, &mut report)?;
    Ok(report)
}

/// The same, added to what a scenario has found.
pub fn verify_into(lab: &RunningLab, settle: Duration, report: &mut Report) -> anyhow::Result<()> {
    let fabric = lab.fabric()?;
    // What has not settled in time is judged as it is: the checks below say what is wrong.
    let _ = eventually(settle, || {
        all_established(lab, fabric)?;
        bfd::settled(lab, fabric)?;
        routes::settled(lab, fabric)
    });
    sessions::check(lab, fabric, report);
    bfd::check(lab, fabric, report);
    // A part that cannot be looked at is a difference of its own; the others are looked at all the same.
    match IpamView::read(lab, fabric) {
        Ok(ipam) => {
            if let Err(e) = store::check(lab, fabric, &ipam, report) {
                report.compare("store", "reading", "possible", &format!("{e:#}"));
            }
            routes::check(lab, fabric, &ipam, report);
        }
        Err(e) => report.compare("store", "reading", "possible", &format!("{e:#}")),
    }
    routes::print(lab, fabric, report);
    if let Err(e) = matrix::check(lab, fabric, report) {
        report.compare("verdicts", "probing", "possible", &format!("{e:#}"));
    }
    Ok(())
}
