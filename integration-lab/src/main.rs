//! `lab`: runs a containerlab topology in namespaces.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use integration_lab::commands;
use integration_lab::deploy;
use integration_lab::node::{enter, holder};
use integration_lab::running::RunningLab;
use integration_lab::state::{STATE_DIR_DEFAULT, StateDir};
use integration_lab::topology::Topology;
use integration_lab::traffic::{self, Traffic};
use integration_lab::verify;

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
        /// How to print: text or json.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
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
    let mut progress = |line: &str| println!("lab: {line}");
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
            print!("{}", commands::status(&state, &name)?);
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
        CommandLine::Logs { lab, node } => {
            let name = commands::lab_name(&state, lab.as_deref(), None)?;
            commands::logs(&state, &name, &node, &mut std::io::stdout().lock())?;
        }
        CommandLine::Verify { which, output } => {
            let name = commands::lab_name(&state, which.lab.as_deref(), which.topology.as_deref())?;
            let report = verify::verify(&RunningLab::open(&state, &name)?)?;
            match output {
                Output::Text => println!("{report}"),
                Output::Json => println!("{}", report.to_json()?),
            }
            if report.differences().next().is_some() {
                return Ok(ExitCode::FAILURE);
            }
        }
        CommandLine::Traffic(traffic) => traffic::run(traffic)?,
        CommandLine::Unshare { spec } => holder::unshare_and_spawn(&spec)?,
        CommandLine::Holder { spec } => holder::run(&spec)?,
    }
    Ok(ExitCode::SUCCESS)
}
