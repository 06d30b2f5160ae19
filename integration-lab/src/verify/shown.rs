//! How the matrix is shown.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};

use crate::fabric::{Family, Probe};

/// Source, destination, enforcing host, and what decided there.
pub(super) type DenialKey = (String, String, String, String);

/// What is gathered of the matrix while it is judged.
#[derive(Default)]
pub(super) struct Shown {
    /// By source and destination, a letter a probe: those over IPv4, then those over IPv6.
    pub(super) letters: BTreeMap<(String, String), String>,
    /// The probes that were denied, by who denied them.
    pub(super) denials: BTreeMap<DenialKey, Vec<(Family, Probe)>>,
}

impl Shown {
    /// Sources in rows, destinations in columns.
    pub(super) fn matrix(&self, names: &[&str]) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(std::iter::once("").chain(names.iter().copied()));
        for from in names {
            let cell = |to: &&str| {
                let key = (from.to_string(), to.to_string());
                self.letters.get(&key).map_or(String::new(), |l| {
                    let (v4, v6) = l.split_at_checked(Probe::ALL.len()).unwrap_or((l, ""));
                    format!("{v4} {v6}")
                })
            };
            table.add_row(std::iter::once(from.to_string()).chain(names.iter().map(cell)));
        }
        format!("tcp 80, tcp 81, icmp over v4, then over v6: + allowed, - denied, ! not as expected\n{table}")
    }

    /// A line for each pair of workloads and each decider: which probes it denied.
    pub(super) fn denials(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["FROM", "TO", "DENIED", "AT", "BY"]);
        for ((from, to, host, decider), probes) in &self.denials {
            table.add_row([from, to, &of_families(probes), host, decider]);
        }
        table.to_string()
    }
}

/// `tcp 80, icmp (v4 v6)` where both families agree, else each by itself.
fn of_families(probes: &[(Family, Probe)]) -> String {
    let of = |family: Family| -> Vec<String> {
        let own = probes.iter().filter(|(f, _)| *f == family);
        own.map(|(_, p)| p.to_string()).collect()
    };
    let (v4, v6) = (of(Family::V4), of(Family::V6));
    if v4 == v6 {
        return format!("{} (v4 v6)", v4.join(", "));
    }
    let families = [("v4", v4), ("v6", v6)];
    let shown = families.iter().filter(|(_, probes)| !probes.is_empty());
    shown
        .map(|(family, probes)| format!("{} ({family})", probes.join(", ")))
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_both_families_are_shown_once() {
        let both = [
            (Family::V4, Probe::Tcp80),
            (Family::V4, Probe::Icmp),
            (Family::V6, Probe::Tcp80),
        ];
        assert_eq!(of_families(&both), "tcp 80, icmp (v4); tcp 80 (v6)");
        assert_eq!(of_families(&[both[0], both[2]]), "tcp 80 (v4 v6)");
        assert_eq!(of_families(&both[2..]), "tcp 80 (v6)");
    }
}
