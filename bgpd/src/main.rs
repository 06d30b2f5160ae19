//! The BGP daemon.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use bgpd::config::{Config, load_file};
use bgpd::rpc;
use bgpd::speaker::{Speaker, SpeakerHandle, StartOptions, StopMode};
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A BGP-4 speaker.
///
/// SIGHUP reads the configuration again; SIGTERM and SIGINT end the daemon.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
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
    /// What to log, as in "info" or "bgpd=debug".
    #[arg(long, env = "BGPD_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
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
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bgpd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = load_file(&arguments.config)?;
    if arguments.check {
        println!(
            "{}: good, {} neighbors and {} networks",
            arguments.config.display(),
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
    serve(&arguments, config).await
}

async fn serve(arguments: &Arguments, config: Config) -> anyhow::Result<()> {
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
        &arguments.config,
        &speaker,
        &mut hangup,
        &mut terminate,
        &mut interrupt,
    )
    .await;
    drop(stop);
    if let Some(service) = service {
        service.await?;
    }
    speaker.stop(arguments.stop.into()).await;
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
            _ = hangup.recv() => match reload(path, speaker).await {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(error) => tracing::error!("configuration kept as it was: {error:#}"),
            }
        }
    }
}

async fn reload(path: &Path, speaker: &SpeakerHandle) -> anyhow::Result<()> {
    let diff = speaker.reconfigure(load_file(path)?).await?;
    for key in &diff.needs_restart {
        tracing::warn!("global {key}: the new value counts from the next start on");
    }
    Ok(())
}
