//! What a scenario must leave alone: sessions that are up, and what the spines were told.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Stage;
use crate::observe::sessions;
use crate::verify::Report;

/// What is so, by what it is about.
pub(super) type Facts = BTreeMap<String, String>;

/// Since when each session is up, as each of its ends says, except for those (node, address of the peer) that are
/// expected to be disturbed.
pub(super) fn sessions_but(stage: &Stage, disturbed: impl Fn(&str, IpAddr) -> bool) -> anyhow::Result<Facts> {
    let mut facts = Facts::new();
    for (node, speaker) in &stage.fabric.speakers {
        for view in sessions::read(stage.lab, node, speaker.kind)?.into_values() {
            if view.established && !disturbed(node, view.peer) {
                facts.insert(
                    format!("session of {node} with {}", view.peer),
                    format!("up since {}", view.since),
                );
            }
        }
    }
    Ok(facts)
}

/// How many withdrawals the spines have received.
pub(super) fn withdrawals(stage: &Stage) -> anyhow::Result<Facts> {
    let mut facts = Facts::new();
    for spine in stage.spines() {
        let text = stage.lab.run(spine, &["birdc", "show", "protocols", "all"])?;
        let count = withdrawals_in(&text);
        facts.insert(format!("withdrawals received by {spine}"), count.to_string());
    }
    Ok(facts)
}

/// All that was so must be so.
pub(super) fn compare(report: &mut Report, area: &'static str, subject: &str, before: &Facts, after: &Facts) {
    for (what, was) in before {
        let is = after.get(what).map_or("gone", String::as_str);
        let same = was == is || same_moment(was, is);
        report.add(area, format!("{subject}: {what}"), was, is, same);
    }
}

/// `Import withdraws:` lines of `birdc show protocols all`: received ones are in the first column.
fn withdrawals_in(text: &str) -> u64 {
    let counts = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("Import withdraws:"));
    counts
        .filter_map(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Whether two texts that end in a time of day name the same moment: BIRD computes what it prints anew each time,
/// and that wavers by milliseconds. A session that was lost and came back differs by seconds.
pub(super) fn same_moment(a: &str, b: &str) -> bool {
    const WAVER_S: f64 = 1.0;
    let seconds = |text: &str| -> Option<f64> {
        let clock = text.rsplit(' ').next()?;
        let mut parts = clock.split(':').map(|p| p.parse::<f64>().ok());
        Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
    };
    matches!((seconds(a), seconds(b)), (Some(a), Some(b)) if (a - b).abs() < WAVER_S)
}

#[cfg(test)]
mod tests {
    use super::{same_moment, withdrawals_in};

    #[test]
    fn a_moment_may_waver_and_a_flap_does_not() {
        assert!(same_moment("up since 16:29:52.999", "up since 16:29:53.000"));
        assert!(!same_moment("up since 16:29:52.595", "up since 16:29:56.100"));
        assert!(!same_moment("up since connection 1", "up since connection 2"));
        assert!(!same_moment("3", "4"));
    }

    #[test]
    fn withdrawals_of_all_channels_are_added() {
        let text = "\
      Import updates:              4          0          0          0          4
      Import withdraws:            3          0        ---          0          0
      Export withdraws:            9        ---        ---        ---          0
      Import withdraws:            2          0        ---          0          0
";
        assert_eq!(withdrawals_in(text), 5);
    }
}
