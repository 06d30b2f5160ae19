//! `make bench-bgp`: BGP speakers compared on the same feeds.
//!
//! Each run has network namespaces of its own: one for the daemon, one for all its peers, which this
//! program plays. Daemons take turns, so that a change of the machine's speed meets them all.

#![expect(clippy::print_stdout, reason = "the table is what the program is for")]

mod bare;
mod case;
mod daemon;
mod fabric;
mod feed;
mod fib;
mod fleet;
mod hold;
mod loss;
mod message;
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "shared with tests, which use more of it and fail by panicking"
)]
#[path = "../../tests/interop/net.rs"]
mod net;
mod peer;
mod plan;
mod report;
mod run;
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared with tests, which fail by panicking"
)]
#[path = "../../tests/interop/silent.rs"]
mod silent;
mod tally;
mod usage;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use case::{BARE, Case, TARGETS, Work};
use daemon::Daemon;
use plan::Plan;
use report::{Machine, Row};
use run::{Bench, Sample};

/// Runs the same feeds through BGP speakers, one after another, and compares them.
#[derive(Debug, Parser)]
struct Arguments {
    /// A case to run; may be repeated. Default: all.
    #[arg(long, value_enum)]
    case: Vec<Case>,
    /// A daemon to run; may be repeated. Default: all that are installed.
    #[arg(long, value_enum)]
    daemon: Vec<Daemon>,
    /// Runs of each daemon in each case; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Multiplies the numbers of prefixes, for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Seconds after which a run is given up.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Another build of this repository's bgpd to measure.
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_bgpd"))]
    bgpd: PathBuf,
    /// Where the JSON files go.
    #[arg(long, value_name = "DIRECTORY", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/../bench-bgp"))]
    out: PathBuf,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-bgp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let mut versions = BTreeMap::new();
    let mut daemons = Vec::new();
    for daemon in Daemon::ALL {
        if !arguments.daemon.is_empty() && !arguments.daemon.contains(&daemon) {
            continue;
        }
        match daemon.version(&arguments.bgpd) {
            Some(version) => {
                println!("{:<10}{version}", daemon.name());
                versions.insert(daemon.name(), version);
                daemons.push(daemon);
            }
            None => println!("{:<10}not installed (see scripts/setup.sh)", daemon.name()),
        }
    }
    let machine = Machine::here(versions);
    let bench = Bench {
        ours: &arguments.bgpd,
        limit: Duration::from_secs(arguments.limit),
    };
    let cases = if arguments.case.is_empty() {
        Case::value_variants()
    } else {
        &arguments.case
    };
    for case in cases {
        let case_name = case
            .to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned());
        let keep =
            |name: &str, result| report::write(&arguments.out, name, &machine, arguments.scale, result);
        let rows = match case.work(arguments.scale) {
            Work::Plan(plan) => run_plan(&bench, &daemons, &plan, arguments.runs),
            Work::Bulk(sizes) => run_bulk(&bench, &daemons, &sizes, arguments.runs),
            Work::Latency(count) => {
                keep(&case_name, run_latency(&bench, &daemons, count))?;
                continue;
            }
            Work::Loss(sizes) => {
                let outcomes = loss::run(&bench, sizes, arguments.runs);
                println!("\n{case_name}\n{}", loss::told(&outcomes));
                keep(&case_name, serde_json::json!(outcomes))?;
                continue;
            }
            Work::Hold(sessions, slots) => {
                let outcome = attempt(|| hold::run(&bench, Daemon::Margay, sessions, slots));
                println!("\n{case_name}\n{}", hold::told(&outcome));
                keep(&case_name, serde_json::json!(outcome))?;
                continue;
            }
        };
        for (name, row) in rows {
            println!("{}", row.table(name, &TARGETS));
            keep(name, row.json())?;
        }
    }
    Ok(())
}

type Rows = Vec<(&'static str, Row)>;

/// A run's samples, or why there are none.
type Attempt = Result<Vec<Sample>, String>;

fn run_plan(bench: &Bench<'_>, daemons: &[Daemon], plan: &Plan, runs: usize) -> Rows {
    let names: Vec<_> = plan.phases.iter().map(|phase| phase.row).collect();
    let contestants = daemons
        .iter()
        .map(|daemon| (daemon.name(), move || attempt(|| bench.run(*daemon, plan))));
    take_turns(&names, contestants.collect(), runs)
}

fn run_bulk(bench: &Bench<'_>, daemons: &[Daemon], sizes: &[(&'static str, usize)], runs: usize) -> Rows {
    let mut rows = Vec::new();
    for (name, slots) in sizes.iter().copied() {
        let mut contestants: Vec<(_, Box<dyn Fn() -> Attempt>)> = vec![(
            BARE,
            Box::new(move || attempt(|| Ok(vec![fib::bare(bench, name, slots)?]))),
        )];
        for daemon in daemons.iter().copied().filter(|daemon| daemon.has_fib()) {
            let run = move || attempt(|| Ok(vec![fib::bulk(bench, daemon, name, slots)?]));
            contestants.push((daemon.name(), Box::new(run)));
        }
        rows.extend(take_turns(&[name], contestants, runs));
    }
    rows
}

/// Runs each contestant in turn, several times. One that fails is not run again: what does not come to
/// its end costs the whole limit each time.
fn take_turns(
    names: &[&'static str],
    contestants: Vec<(&'static str, impl Fn() -> Attempt)>,
    runs: usize,
) -> Rows {
    let mut rows: Rows = names.iter().map(|name| (*name, Row::default())).collect();
    let mut given_up = Vec::new();
    for _ in 0..runs {
        for (name, run) in &contestants {
            if given_up.contains(name) {
                continue;
            }
            match run() {
                Ok(samples) => {
                    for sample in samples {
                        if let Some((_, row)) = rows.iter_mut().find(|(row, _)| *row == sample.row) {
                            row.add(name, sample);
                        }
                    }
                }
                Err(reason) => {
                    given_up.push(*name);
                    rows.iter_mut()
                        .for_each(|(_, row)| row.failures.push((name, reason.clone())));
                }
            }
        }
    }
    rows
}

fn run_latency(bench: &Bench<'_>, daemons: &[Daemon], count: usize) -> serde_json::Value {
    println!(
        "\nfib-latency\n{:<10}{:>10}{:>10}{:>10}",
        "", "p50 ms", "p99 ms", "max ms"
    );
    let mut result = serde_json::Map::new();
    for daemon in daemons.iter().filter(|daemon| daemon.has_fib()) {
        let name = daemon.name();
        let entry = match attempt(|| fib::latencies(bench, *daemon, count)) {
            Ok(times) => {
                let ms = |part: usize| {
                    let at = ((times.len() * part).div_ceil(100)).max(1) - 1;
                    times[at].as_secs_f64() * 1e3
                };
                let (p50, p99, max) = (ms(50), ms(99), ms(100));
                println!("{name:<10}{p50:>10.3}{p99:>10.3}{max:>10.3}");
                serde_json::json!({ "routes": times.len(), "p50_ms": p50, "p99_ms": p99, "max_ms": max })
            }
            Err(reason) => {
                println!("{name:<10}{reason}");
                serde_json::json!({ "failure": reason })
            }
        };
        result.insert(name.to_owned(), entry);
    }
    result.into()
}

/// A run, whose failure is told in words.
fn attempt<T>(run: impl FnOnce() -> anyhow::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(_) => Err("failed, see above".to_owned()),
    }
}
