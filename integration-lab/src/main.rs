//! `lab`: runs a containerlab topology in namespaces.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use integration_lab::bench;
use integration_lab::commands;
use integration_lab::deploy;
use integration_lab::node::{enter, holder};
use integration_lab::running::RunningLab;
use integration_lab::scenario::{self, Scenario};
use integration_lab::state::{STATE_DIR_DEFAULT, StateDir};
use integration_lab::topology::Topology;
use integration_lab::traffic::{self, Traffic};
use integration_lab::verify::{self, Report};

/// Runs a containerlab topology in network, mount and process namespaces of this machine.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    /// Where running labs are remembered.
    #[arg(long, global = true, env = "MARGAY_LAB_STATE_DIR", default_value = STATE_DIR_DEFAULT)]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: CommandLine,
}

/// Which lab; without either the only one that is up.
#[derive(Args)]
struct Which {
    /// Topology file (*.clab.yml) whose lab is meant.
    topology: Option<PathBuf>,
    /// Name of the lab.
    #[arg(long = "lab", visible_alias = "name")]
    lab: Option<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Subcommand)]
enum CommandLine {
    /// Bring a topology up.
    Up {
        /// Topology file (*.clab.yml).
        topology: PathBuf,
        /// Call the lab this instead of the topology's name, so that several run side by side.
        #[arg(long = "name", visible_alias = "lab")]
        name: Option<String>,
        /// When something fails, leave what was made for a look.
        #[arg(long)]
        keep: bool,
    },
    /// End a lab and remove everything of it.
    Down(Which),
    /// Show the nodes and what runs in them.
    Status(Which),
    /// Run a command in a node (or, with --netns, in one of its network namespaces).
    Exec {
        /// Name of the lab; the only one if absent.
        #[arg(long)]
        lab: Option<String>,
        /// A network namespace of the node: a workload's.
        #[arg(long)]
        netns: Option<String>,
        /// The node.
        node: String,
        /// The command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// End a node with all its interfaces and make it again.
    Restart {
        /// Name of the lab; the only one if absent.
        #[arg(long)]
        lab: Option<String>,
        /// The node.
        node: String,
    },
    /// Show the logs of a node.
    Logs {
        /// Name of the lab; the only one if absent.
        #[arg(long)]
        lab: Option<String>,
        /// The node.
        node: String,
    },
    /// Compare everything that must hold in the fabric with what is.
    Verify {
        #[command(flatten)]
        which: Which,
        /// Let something happen first: agent-restart, peer-change, uplink-flap, uplink-flap-agent-dead,
        /// tor-loss-process, tor-loss-silent, tor-loss-namespace, workload-readd, policy-change, or all that the
        /// fabric has a place for, one after the other.
        #[arg(long)]
        scenario: Option<String>,
        /// How many seconds sessions and routes may take to settle before they are judged.
        #[arg(long, default_value_t = verify::SETTLE_MAX.as_secs())]
        settle: u64,
        /// How to print: text or json.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Measure the fabric that is up, and leave it as it was.
    Bench(Which),
    /// What runs in workloads: servers, probes, streams.
    #[command(hide = true, subcommand)]
    Traffic(Traffic),
    #[command(name = holder::UNSHARE_COMMAND, hide = true)]
    Unshare { spec: PathBuf },
    #[command(name = holder::RUN_COMMAND, hide = true)]
    Holder { spec: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let state = StateDir::new(&cli.state_dir);
    let mut progress = |line: &str| {
        // Whoever reads may go away (`lab up | head`): the work goes on.
        let _ = writeln!(std::io::stdout(), "lab: {line}");
    };
    match cli.command {
        CommandLine::Up { topology, name, keep } => {
            let topology = Topology::load(&topology, name.as_deref())?;
            commands::up(&state, &topology, keep, &mut progress)?;
        }
        CommandLine::Down(which) => {
            let name = commands::lab_name(&state, which.lab.as_deref(), which.topology.as_deref())?;
            deploy::down(&state, &name, &mut progress)?;
        }
        CommandLine::Status(which) => {
            let name = commands::lab_name(&state, which.lab.as_deref(), which.topology.as_deref())?;
            write!(std::io::stdout(), "{}", commands::status(&state, &name)?)?;
        }
        CommandLine::Exec {
            lab,
            netns,
            node,
            command,
        } => {
            let name = commands::lab_name(&state, lab.as_deref(), None)?;
            let holder = state.open(&name)?.live_holder(&node)?;
            let spec = enter::enter(&holder, netns.as_deref())?;
            return Ok(ExitCode::from(enter::exit_code(enter::run(&spec, &command)?)));
        }
        CommandLine::Restart { lab, node } => {
            let name = commands::lab_name(&state, lab.as_deref(), None)?;
            let lab = RunningLab::open(&state, &name)?;
            deploy::end_node(&lab, &node)?;
            deploy::restart_node(&lab, &node)?;
        }
        CommandLine::Logs { lab, node } => {
            let name = commands::lab_name(&state, lab.as_deref(), None)?;
            commands::logs(&state, &name, &node, &mut std::io::stdout().lock())?;
        }
        CommandLine::Verify {
            which,
            scenario,
            settle,
            output,
        } => {
            let name = commands::lab_name(&state, which.lab.as_deref(), which.topology.as_deref())?;
            let lab = RunningLab::open(&state, &name)?;
            let Some(scenario) = scenario else {
                return show(&verify::verify(&lab, Duration::from_secs(settle))?, output);
            };
            let mut code = ExitCode::SUCCESS;
            // Progress goes to standard error: standard output is the report alone.
            let mut progress = |line: &str| eprintln!("lab: {line}");
            for scenario in Scenario::named(&scenario, lab.fabric()?)? {
                progress(&format!("scenario {scenario}"));
                let result = show(&scenario::run(&lab, scenario, &mut progress)?, output)?;
                if result != ExitCode::SUCCESS {
                    code = result;
                }
            }
            return Ok(code);
        }
        CommandLine::Bench(which) => {
            let name = commands::lab_name(&state, which.lab.as_deref(), which.topology.as_deref())?;
            let table = bench::run(&RunningLab::open(&state, &name)?)?;
            writeln!(std::io::stdout(), "{table}")?;
        }
        CommandLine::Traffic(traffic) => traffic::run(traffic)?,
        CommandLine::Unshare { spec } => holder::unshare_and_spawn(&spec)?,
        CommandLine::Holder { spec } => holder::run(&spec)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a report; differences make the exit code.
fn show(report: &Report, output: Output) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Text => writeln!(out, "{report}")?,
        Output::Json => writeln!(out, "{}", report.to_json()?)?,
    }
    let same = report.differences().next().is_none();
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
