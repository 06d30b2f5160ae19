//! What a daemon's processes have used.

use std::path::PathBuf;

use anyhow::Context;

/// CPU time of all threads so far, and memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    /// Resident now.
    pub(crate) rss_bytes: u64,
    /// Most that was resident at a time: the sum of each process's own peak.
    pub(crate) peak_bytes: u64,
}

/// Of processes and all their descendants.
pub(crate) fn of(processes: &[u32]) -> anyhow::Result<Usage> {
    let mut total = Usage::default();
    let mut pending = processes.to_vec();
    while let Some(pid) = pending.pop() {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let status = std::fs::read_to_string(directory.join("status"))
            .with_context(|| format!("process {pid} is gone"))?;
        total.rss_bytes += kib(&status, "VmRSS:");
        total.peak_bytes += kib(&status, "VmHWM:");
        total.cpu_s += cpu_s(&std::fs::read_to_string(directory.join("stat"))?);
        for thread in std::fs::read_dir(directory.join("task"))? {
            // A thread may end meanwhile.
            let children = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            pending.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(total)
}

/// Of this process's own threads, in seconds.
pub(crate) fn own_cpu_s() -> f64 {
    cpu_s(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// utime and stime of proc_pid_stat(5), in clock ticks, of which Linux shows 100 a second.
fn cpu_s(stat: &str) -> f64 {
    // The name may hold anything but ends with the last parenthesis; utime is the 12th field after it.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
