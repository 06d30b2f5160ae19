//! `margay-store`: serves the etcd v3 API from one file, for one host or a lab.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use datastore::server::limits::KEPT_REVISIONS_DEFAULT;
use datastore::server::{Durability, Server, ServerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A single-host server of the etcd v3 API on one file: no cluster, no users, no TLS.
#[derive(Debug, Parser)]
#[command(name = "margay-store", version)]
struct Arguments {
    /// Address to listen on, as `127.0.0.1:2379` or `[::1]:2379`; port 0 lets the system choose. May be given again.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2379")]
    listen: Vec<SocketAddr>,

    /// The store's file; made if it is not there.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/margay/store.redb")]
    data: PathBuf,

    /// URL that `member list` gives clients, as http://host1:2379; by default the bound addresses. May be given again.
    #[arg(long, value_name = "URL")]
    advertise_url: Vec<String>,

    /// Name that `member list` shows.
    #[arg(long, default_value = "margay-store")]
    name: String,

    /// Answer writes before they are on disk: faster, but a crash loses up to 100 ms of them.
    #[arg(long)]
    relaxed: bool,

    /// Compact history by itself so that about this many revisions stay; 0 for never.
    #[arg(long, value_name = "REVISIONS", default_value_t = KEPT_REVISIONS_DEFAULT)]
    keep_revisions: u32,

    /// What to log, as info, debug or datastore=debug.
    #[arg(long, env = "MARGAY_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_new(&arguments.log).with_context(|| {
        format!(
            "--log {}: not a filter; use for example info or debug",
            arguments.log
        )
    })?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();

    // Before the first address is printed, so that a stop at that moment is a clean one.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let mut options = ServerOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), arguments.data);
    options.listen = arguments.listen;
    options.advertise_urls = arguments.advertise_url;
    options.name = arguments.name;
    options.keep_revisions = Some(arguments.keep_revisions).filter(|kept| *kept > 0);
    if arguments.relaxed {
        options.durability = Durability::Relaxed;
    }
    let server = Server::start(options).await?;
    let mut stdout = std::io::stdout().lock();
    for address in server.addresses() {
        // Whoever started us may not read this, which is no reason to stop.
        let _ = writeln!(stdout, "listening on {address}").and_then(|()| stdout.flush());
    }
    drop(stdout);

    let failure = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        failure = server.failed() => Some(failure),
    };
    tracing::info!("stopping");
    server.shutdown().await;
    match failure {
        Some(reason) => anyhow::bail!("the store can take no more writes: {reason}"),
        None => Ok(()),
    }
}
