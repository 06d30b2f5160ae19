//! The command line's grammar.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;

/// Where the connection settings are when nobody says.
pub(crate) const CONFIG_PATH_DEFAULT: &str = "/etc/calico/calicoctl.cfg";
/// Where the agent listens when nobody says.
pub(crate) const AGENT_SOCKET_DEFAULT: &str = "/run/margay/agent.sock";

/// Names of log levels and what they let through here.
const LOG_LEVELS: [(&str, &str); 6] = [
    ("panic", "off"),
    ("fatal", "off"),
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
];

/// Manages Calico's network and security configuration and looks into the fabric.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", disable_version_flag = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Log level: panic, fatal, error, warn, info or debug
    #[arg(short = 'l', long, global = true, default_value = "panic")]
    pub(crate) log_level: String,
    /// Kubeconfig context (only with the Kubernetes datastore, which this version does not have)
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub(crate) context: String,
    /// Go on when the cluster was set up by another version
    #[arg(long, global = true)]
    pub(crate) allow_version_mismatch: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create resources from a file, a folder or standard input
    Create(CreateOptions),
    /// Create resources, or replace them where they exist
    Apply(FileOptions),
    /// Replace resources that exist
    Replace(FileOptions),
    /// Delete resources by name or from a file
    Delete(DeleteOptions),
    /// Show resources
    Get(GetOptions),
    /// Check resources in a file without a datastore
    Validate(FileOptions),
    /// This host's node
    #[command(subcommand)]
    Node(NodeCommand),
    /// The BGP speaker of this host's agent: peers, routes and why, drain
    Bgp(BgpOptions),
    /// Verdicts on recent flows of this host, with the policy behind each
    Flows(FlowsOptions),
    /// IP address management
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Version of this program and of the cluster
    Version(VersionOptions),
}

#[derive(Debug, Args)]
pub(crate) struct BgpOptions {
    /// Unix socket of this host's agent
    #[arg(long, env = "MARGAY_AGENT_SOCKET", default_value = AGENT_SOCKET_DEFAULT, global = true)]
    pub(crate) agent_socket: PathBuf,
    #[command(subcommand)]
    pub(crate) command: bgpd_proto::commands::Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// The state of the agent and of its BGP sessions
    Status(AgentOptions),
    /// Have the agent take the datastore for the truth though its history is another one (restored, or moved)
    AcceptDatastore(AcceptDatastoreOptions),
}

#[derive(Debug, Args)]
pub(crate) struct AcceptDatastoreOptions {
    #[command(flatten)]
    pub(crate) agent: AgentOptions,
    /// Do it; without this flag it is only said what would be accepted
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Use of pools, blocks or one address
    Show(IpamShowOptions),
}

/// Where the datastore's settings are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectionOptions {
    /// File with connection settings; when it is there, environment variables are ignored
    #[arg(short = 'c', long, default_value = CONFIG_PATH_DEFAULT)]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct FileOptions {
    /// File or folder with resources as YAML or JSON; - for standard input
    #[arg(short = 'f', long)]
    pub(crate) filename: Option<PathBuf>,
    /// Also read folders in the folder
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Succeed when there are no resources
    #[arg(long)]
    pub(crate) skip_empty: bool,
    /// Namespace of the resources
    #[arg(short = 'n', long, default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
}

#[derive(Debug, Args)]
pub(crate) struct CreateOptions {
    #[command(flatten)]
    pub(crate) file: FileOptions,
    /// Pass over resources that exist already
    #[arg(long)]
    pub(crate) skip_exists: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteOptions {
    /// Kind of the resources
    pub(crate) kind: Option<String>,
    /// Their names
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) file: FileOptions,
    /// Pass over resources that do not exist
    #[arg(short = 's', long)]
    pub(crate) skip_not_exists: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    /// Kind of the resources
    pub(crate) kind: Option<String>,
    /// Their names; all when none is given
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) file: FileOptions,
    /// ps, wide, yaml, json or custom-columns=A,B
    #[arg(short = 'o', long, default_value = "ps")]
    pub(crate) output: String,
    /// Resources of all namespaces
    #[arg(short = 'A', long, short_alias = 'a')]
    pub(crate) all_namespaces: bool,
    /// Leave out what belongs to this cluster only
    #[arg(long)]
    pub(crate) export: bool,
}

/// Where the agent listens.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentOptions {
    /// Unix socket of this host's agent
    #[arg(long, env = "MARGAY_AGENT_SOCKET", default_value = AGENT_SOCKET_DEFAULT)]
    pub(crate) agent_socket: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct FlowsOptions {
    #[command(flatten)]
    pub(crate) agent: AgentOptions,
    /// ps or json
    #[arg(short = 'o', long, default_value = "ps")]
    pub(crate) output: String,
    /// Only flows with this verdict
    #[arg(long, value_parser = ["allow", "deny"])]
    pub(crate) action: Option<String>,
    /// At most this many, the newest ones; 0 for all that the agent keeps
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Only events after the one with this sequence number
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) after: u64,
    /// Go on with flows as they happen
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IpamShowOptions {
    /// Show who has this address
    #[arg(long)]
    pub(crate) ip: Option<String>,
    /// Show the blocks of each pool
    #[arg(long)]
    pub(crate) show_blocks: bool,
    /// Show addresses that hosts have from blocks of other hosts
    #[arg(long)]
    pub(crate) show_borrowed: bool,
    /// Show the settings
    #[arg(long)]
    pub(crate) show_configuration: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
}

#[derive(Debug, Args)]
pub(crate) struct VersionOptions {
    /// Show only the version of this program
    #[arg(long)]
    pub(crate) client: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
}

/// Prints what clap has to say: help on standard output with 0, anything else on standard error with 1.
pub(crate) fn report(error: &clap::Error) -> ExitCode {
    let asked_for = !error.use_stderr();
    if error.print().is_err() {
        return ExitCode::FAILURE;
    }
    if asked_for {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts logging to standard error.
pub(crate) fn set_log_level(level: &str) -> Result<(), Failure> {
    let Some((_, filter)) = LOG_LEVELS.iter().find(|(name, _)| *name == level) else {
        let names: Vec<&str> = LOG_LEVELS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::new(format!(
            "unknown log level: {level}, expected one of: {}",
            names.join(", ")
        )));
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(*filter))
        .init();
    Ok(())
}
