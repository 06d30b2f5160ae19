//! The BGP daemon.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bgpd::config::{Config, MrtSource, Timing, load_file};
use bgpd::rpc;
use bgpd::session;
use bgpd::speaker::{Speaker, SpeakerHandle, StartOptions, StopMode};
use bgpd_proto::commands::{self, CommandError};
use clap::{Args, Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Where a daemon is asked when nobody says.
const API_DEFAULT: &str = "/run/margay/bgpd.sock";

/// A BGP-4 speaker, and questions to one that runs.
///
/// With --config: the daemon. SIGHUP reads the configuration again; SIGTERM and SIGINT end it.
/// With a command: asks the daemon whose socket --api names.
#[derive(Debug, Parser)]
#[command(version, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(flatten)]
    daemon: DaemonArguments,
    /// With a command: the daemon's socket, `api` in its configuration.
    #[arg(long, env = "BGPD_API", global = true, default_value = API_DEFAULT, value_name = "SOCKET")]
    api: PathBuf,
    #[command(subcommand)]
    command: Option<commands::Command>,
}

#[derive(Debug, Args)]
struct DaemonArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "replay_session")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    check: bool,
    /// Take over from a bgpd that ran here a moment ago: neighbors are told that this is a restart,
    /// and nothing is announced or removed until they have sent their routes.
    #[arg(long)]
    recover: bool,
    /// What neighbors are told when the daemon ends.
    #[arg(long, value_enum, default_value_t = Stop::Shutdown)]
    stop: Stop,
    /// Take in the routes of an MRT file, as `[[source]]` of the configuration does. May be repeated.
    #[arg(long, value_name = "FILE.mrt")]
    replay: Vec<PathBuf>,
    /// Record sessions into this directory, as `record` of the configuration does.
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,
    /// Run the recording of a session, print each event with what the session did, and exit.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["config", "check", "recover", "replay", "record"])]
    replay_session: Option<PathBuf>,
    /// What to log, as in "info" or "bgpd=debug".
    #[arg(long, env = "BGPD_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

impl DaemonArguments {
    /// Whether one was given that says what the daemon does.
    fn is_any_given(&self) -> bool {
        let files = [&self.config, &self.record, &self.replay_session];
        self.check || self.recover || !self.replay.is_empty() || files.into_iter().any(Option::is_some)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Stop {
    /// That it is gone: they drop its routes at once.
    Shutdown,
    /// Nothing, because it will be back: they keep its routes for the restart time.
    Restart,
}

impl From<Stop> for StopMode {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Shutdown => Self::Shutdown,
            Stop::Restart => Self::Restart,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { daemon, api, command } = Arguments::parse();
    let result = match (&command, &daemon.config) {
        (Some(_), _) if daemon.is_any_given() => Err(anyhow::anyhow!(
            "options of the daemon do not go with a command, which takes --api alone: see --help"
        )),
        (Some(command), _) => ask(&api, command).await,
        (None, Some(config)) => run(&daemon, config).await,
        (None, None) if daemon.replay_session.is_some() => replay_session(daemon.replay_session.as_deref()),
        (None, None) => Err(anyhow::anyhow!("--config or a command is needed: see --help")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bgpd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a recording and prints what came of it, a JSON object a line.
fn replay_session(file: Option<&Path>) -> anyhow::Result<()> {
    use std::io::Write;
    let Some(path) = file else { return Ok(()) };
    let name = || path.display().to_string();
    let recording = std::fs::File::open(path).with_context(name)?;
    let (_, steps) = session::replay(std::io::BufReader::new(recording)).with_context(name)?;
    let mut out = std::io::stdout().lock();
    for step in &steps {
        // `| head` has seen enough.
        if writeln!(out, "{}", serde_json::to_string(step)?).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The configuration of a file with what the command line adds.
fn load(arguments: &DaemonArguments, file: &Path) -> anyhow::Result<Config> {
    let mut config = load_file(file)?;
    config
        .sources
        .extend(arguments.replay.iter().map(|path| MrtSource {
            path: path.clone(),
            timing: Timing::default(),
        }));
    if arguments.record.is_some() {
        config.record.clone_from(&arguments.record);
    }
    config.validate()?;
    Ok(config)
}

/// Asks a daemon that runs.
async fn ask(api: &Path, command: &commands::Command) -> anyhow::Result<()> {
    let channel = bgpd_proto::client::connect(api).await?;
    match commands::run(command, channel).await {
        // `| head` has seen enough.
        Err(CommandError::Closed) => Ok(()),
        result => Ok(result?),
    }
}

async fn run(arguments: &DaemonArguments, file: &Path) -> anyhow::Result<()> {
    let config = load(arguments, file)?;
    if arguments.check {
        println!(
            "{}: good, {} neighbors and {} networks",
            file.display(),
            config.neighbors.len(),
            config.networks.len()
        );
        return Ok(());
    }
    let filter = EnvFilter::try_new(&arguments.log).context("--log")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
    serve(arguments, file, config).await
}

/// How long clients of the API may take for what they asked when the daemon ends.
const API_STOP_TIME_MAX: Duration = Duration::from_secs(1);

async fn serve(arguments: &DaemonArguments, file: &Path, config: Config) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let api = config.api.clone();
    let options = StartOptions {
        restarting: arguments.recover,
        ..StartOptions::default()
    };
    let speaker = Speaker::start(config, options)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = api.map(|path| tokio::spawn(serve_api(path, speaker.clone(), stopped)));
    wait(
        arguments,
        file,
        &speaker,
        &mut hangup,
        &mut terminate,
        &mut interrupt,
    )
    .await;
    // Neighbors come first: a client of the API that stays connected holds nothing up.
    speaker.stop(arguments.stop.into()).await;
    drop(stop);
    if let Some(service) = service
        && let Ok(served) = tokio::time::timeout(API_STOP_TIME_MAX, service).await
    {
        served?;
    }
    Ok(())
}

async fn serve_api(path: PathBuf, speaker: SpeakerHandle, stopped: tokio::sync::oneshot::Receiver<()>) {
    let stopped = async {
        // Its sender is dropped when it is time.
        let _ = stopped.await;
    };
    if let Err(error) = rpc::serve(&path, speaker, stopped).await {
        // Routing does not depend on it.
        tracing::error!(path = %path.display(), %error, "the API is not served");
    }
}

/// Reloads on SIGHUP; returns on SIGTERM or SIGINT.
async fn wait(
    arguments: &DaemonArguments,
    path: &Path,
    speaker: &SpeakerHandle,
    hangup: &mut Signal,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => match reload(arguments, path, speaker).await {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(error) => tracing::error!("configuration kept as it was: {error:#}"),
            }
        }
    }
}

async fn reload(arguments: &DaemonArguments, path: &Path, speaker: &SpeakerHandle) -> anyhow::Result<()> {
    let diff = speaker.reconfigure(load(arguments, path)?).await?;
    for key in &diff.needs_restart {
        tracing::warn!("global {key}: the new value counts from the next start on");
    }
    Ok(())
}
