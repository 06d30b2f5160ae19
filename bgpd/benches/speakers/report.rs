//! Medians, the table, and the file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::run::Sample;

const MIB: f64 = 1024.0 * 1024.0;
/// The row of this repository's daemon.
const OURS: &str = "margay";

/// All that was measured of one row, in the order in which it came.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) samples: Vec<(&'static str, Vec<Sample>)>,
    /// Who did not come to the end, and why.
    pub(crate) failures: Vec<(&'static str, String)>,
}

/// What the issue asks of us in a row.
pub(crate) struct Target {
    pub(crate) row: &'static str,
    pub(crate) rival: &'static str,
    /// Our wall time is at most this part of the rival's.
    pub(crate) wall_ratio: f64,
    /// Our peak memory is at most this.
    pub(crate) memory: Memory,
}

pub(crate) enum Memory {
    /// Whatever it is.
    Any,
    /// The rival's.
    Rivals,
    Mib(f64),
}

/// Of the runs of one daemon in one row: medians, and the range of the time.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Median {
    pub(crate) wall_s: f64,
    pub(crate) wall_min_s: f64,
    pub(crate) wall_max_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) peers_cpu_s: f64,
    pub(crate) peak_bytes: f64,
    pub(crate) bytes_per_prefix: Option<f64>,
}

impl Median {
    fn of(samples: &[Sample]) -> Self {
        let median = |of: &dyn Fn(&Sample) -> f64| {
            let mut values: Vec<f64> = samples.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let walls = samples.iter().map(|sample| sample.wall_s);
        Self {
            wall_s: median(&|sample| sample.wall_s),
            wall_min_s: walls.clone().fold(f64::INFINITY, f64::min),
            wall_max_s: walls.fold(0.0, f64::max),
            cpu_s: median(&|sample| sample.cpu_s),
            peers_cpu_s: median(&|sample| sample.peers_cpu_s),
            peak_bytes: median(&|sample| sample.peak_bytes as f64),
            bytes_per_prefix: samples
                .iter()
                .all(|sample| sample.bytes_per_prefix.is_some())
                .then(|| median(&|sample| sample.bytes_per_prefix.unwrap_or(0.0))),
        }
    }
}

impl Row {
    pub(crate) fn add(&mut self, name: &'static str, sample: Sample) {
        match self.samples.iter_mut().find(|(other, _)| *other == name) {
            Some((_, samples)) => samples.push(sample),
            None => self.samples.push((name, vec![sample])),
        }
    }

    fn medians(&self) -> Vec<(&'static str, Median)> {
        self.samples
            .iter()
            .map(|(daemon, samples)| (*daemon, Median::of(samples)))
            .collect()
    }

    /// The row as text.
    pub(crate) fn table(&self, name: &str, targets: &[Target]) -> String {
        let medians = self.medians();
        let mut text = format!(
            "\n{name}\n{:<10}{:>10}{:>17}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}\n",
            "", "wall s", "range", "CPU s", "peers s", "peak MiB", "B/prefix", "time ×", "memory ×"
        );
        for (daemon, median) in &medians {
            let best = |of: &dyn Fn(&Median) -> f64| {
                let others = medians.iter().filter(|(other, _)| other != daemon);
                others
                    .map(|(_, other)| of(other))
                    .filter(|value| *value > 0.0)
                    .reduce(f64::min)
            };
            let ratio = |own: f64, best: Option<f64>| {
                best.map_or("-".to_owned(), |best| format!("{:.2}", own / best))
            };
            text += &format!(
                "{:<10}{:>10.3}{:>17}{:>9.2}{:>9.2}{:>10.1}{:>9}{:>9}{:>9}\n",
                daemon,
                median.wall_s,
                format!("{:.3}-{:.3}", median.wall_min_s, median.wall_max_s),
                median.cpu_s,
                median.peers_cpu_s,
                median.peak_bytes / MIB,
                median
                    .bytes_per_prefix
                    .map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
                ratio(median.wall_s, best(&|other| other.wall_s)),
                ratio(median.peak_bytes, best(&|other| other.peak_bytes)),
            );
        }
        for (daemon, reason) in &self.failures {
            text += &format!("{:<10}{reason}\n", daemon);
        }
        for target in targets.iter().filter(|target| target.row == name) {
            text += &target.verdict(&medians).unwrap_or_default();
        }
        text
    }

    /// The row for the file.
    pub(crate) fn json(&self) -> serde_json::Value {
        let runs: BTreeMap<_, _> = self
            .samples
            .iter()
            .map(|(daemon, samples)| (*daemon, samples))
            .collect();
        let medians: BTreeMap<_, _> = self.medians().into_iter().collect();
        let failures: BTreeMap<_, _> = self.failures.iter().cloned().collect();
        serde_json::json!({ "medians": medians, "runs": runs, "failures": failures })
    }
}

impl Target {
    /// How our medians compare. `None` where either side was not measured.
    fn verdict(&self, medians: &[(&'static str, Median)]) -> Option<String> {
        let of = |daemon| {
            medians
                .iter()
                .find(|(other, _)| *other == daemon)
                .map(|(_, median)| median)
        };
        let (ours, rival) = (of(OURS)?, of(self.rival)?);
        let wall = ours.wall_s / rival.wall_s;
        let name = self.rival;
        let word = |met: bool| if met { "met" } else { "NOT met" };
        let mut text = format!(
            "target: time at most {:.2} of {name}'s: {wall:.2}, {}",
            self.wall_ratio,
            word(wall <= self.wall_ratio)
        );
        let bound = match self.memory {
            Memory::Any => None,
            Memory::Rivals => Some(rival.peak_bytes),
            Memory::Mib(mib) => Some(mib * MIB),
        };
        if let Some(bound) = bound {
            text += &format!(
                "; memory at most {:.1} MiB: {:.1}, {}",
                bound / MIB,
                ours.peak_bytes / MIB,
                word(ours.peak_bytes <= bound)
            );
        }
        Some(text + "\n")
    }
}

/// What the figures were taken with.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    cpu: String,
    cpus: usize,
    kernel: String,
    pub(crate) versions: BTreeMap<&'static str, String>,
}

impl Machine {
    pub(crate) fn here(versions: BTreeMap<&'static str, String>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            date: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            versions,
        }
    }
}

/// Writes a row's file.
pub(crate) fn write(
    directory: &Path,
    name: &str,
    machine: &Machine,
    scale: f64,
    row: serde_json::Value,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{name}.json"));
    let record = serde_json::json!({ "case": name, "scale": scale, "machine": machine, "result": row });
    std::fs::write(&path, serde_json::to_string_pretty(&record)? + "\n")
        .with_context(|| path.display().to_string())
}
