//! The wiring: starts every part, passes what comes out of one on to the next, and stops them in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use datastore::syncer::{self, Event, Handle, HealthState, Status, Syncer};
use datastore::{Client, ClientConfig, Pem, Resources};
use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bgp::Bgp;
use crate::config::{Attach, Config, DatastoreConfig, EndpointToHost};
use crate::dataplane_thread::{self, Command, Outlets};
use crate::endpoint_status::EndpointFiles;
use crate::fabric::{self, Settings, Translation};
use crate::flows::FlowLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::rpc;
use crate::view::View;
use crate::world::World;
use crate::{node, status_writer};

/// Name in the health reports.
const DATASTORE: &str = "datastore";
/// Name in the health reports.
const NODE: &str = "node";
/// The first and the longest pause before the node's registration is tried again.
const REGISTER_PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How often secrets are read again and sessions are published.
const TICK: Duration = Duration::from_secs(1);
/// How long the blackhole routes of new blocks may hold up a BGP change before it is given up for now.
const BLOCKS_WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs the agent until `stop` is cancelled. What it has put into the kernel stays.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let health = Health::default();
    let view = View::default();
    let flows = FlowLog::new(config.api.flows_kept);
    let metrics = Metrics::new(&config.node_name, view.clone());
    let mut tasks = JoinSet::new();
    health.register(DATASTORE, None);
    health.register(NODE, None);

    serve(&config, &health, &view, &flows, &metrics, &stop, &mut tasks).await?;
    if let Err(error) = node::write_nodename(&config.paths.nodename_file, &config.node_name) {
        tracing::warn!(file = %config.paths.nodename_file.display(), %error, "nodename file not written: CNI plugins need it");
    }
    let dataplane = start_dataplane(&config, &health, &view, &flows, &metrics)?;

    let embedded = start_embedded_store(&config.datastore).await?;
    let mut client_config = client_config(&config.datastore);
    if let Some(server) = &embedded {
        client_config.endpoints = server
            .addresses()
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
    }
    let client = Client::connect(&client_config).await.context("datastore")?;
    let options = syncer::Options::agent(&config.node_name).with_snapshot(&config.paths.snapshot);
    let (syncer, events) = Syncer::start(client_config, options);
    metrics.resyncs_started.inc();

    tasks.spawn(register(
        client.clone(),
        config.clone(),
        health.clone(),
        stop.clone(),
    ));
    let writer = status_writer::run(
        client,
        config.node_name.clone(),
        view.clone(),
        config.datastore.report_endpoints,
        stop.clone(),
    );
    tasks.spawn(writer);

    let bgp = Bgp::new(&config, health.clone(), view.clone());
    let core = Core {
        world: World::new(&config.node_name),
        translation: None,
        announced: Vec::new(),
        problems: Vec::new(),
        settled: false,
        dataplane: dataplane.clone(),
        bgp,
        health,
        view,
        metrics,
        config,
    };
    core.run(events, &syncer, stop.clone()).await;

    stop.cancel();
    syncer.shutdown().await;
    if let Some(dataplane) = dataplane {
        // The thread may have ended by itself.
        let _ = dataplane.send(Command::Stop);
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::warn!(%error, "a task ended badly");
        }
    }
    if let Some(server) = embedded {
        server.shutdown().await;
    }
    Ok(())
}

/// Starts the local API, health and metrics.
async fn serve(
    config: &Config,
    health: &Health,
    view: &View,
    flows: &FlowLog,
    metrics: &Metrics,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let socket = &config.api.socket;
    let listener = rpc::bind(socket, config.api.group.as_deref())
        .await
        .with_context(|| format!("api.socket = {}", socket.display()))?;
    let service = rpc::Service {
        node_name: config.node_name.clone(),
        started_at: jiff::Timestamp::now().to_string(),
        health: health.clone(),
        flows: flows.clone(),
        view: view.clone(),
    };
    let until = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = rpc::serve(service, listener, until).await {
            tracing::error!(%error, "the local API has failed");
        }
    });
    if config.health.enabled {
        serve_http(
            "health.listen",
            config.health.listen,
            health.router(),
            stop,
            tasks,
        )
        .await?;
    }
    if config.metrics.enabled {
        serve_http(
            "metrics.listen",
            config.metrics.listen,
            metrics.router(),
            stop,
            tasks,
        )
        .await?;
    }
    Ok(())
}

async fn serve_http(
    key: &'static str,
    address: std::net::SocketAddr,
    router: Router,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("{key} = {address}"))?;
    let until = stop.clone().cancelled_owned();
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(until).await {
            tracing::error!(%error, key, "an HTTP server has failed");
        }
    });
    Ok(())
}

fn start_dataplane(
    config: &Config,
    health: &Health,
    view: &View,
    flows: &FlowLog,
    metrics: &Metrics,
) -> anyhow::Result<Option<Sender<Command>>> {
    if !config.dataplane.enabled {
        return Ok(None);
    }
    health.register(dataplane_thread::COMPONENT, Some(dataplane_thread::SILENCE_MAX));
    let settings = &config.dataplane;
    let mut dataplane = dataplane::Dataplane::open(dataplane::Config {
        pin_dir: settings.pin_dir.clone(),
        attach: match settings.attach {
            Attach::Auto => dataplane::Attach::Auto,
            Attach::Tcx => dataplane::Attach::Tcx,
            Attach::Clsact => dataplane::Attach::Clsact,
        },
        interface_prefix: settings.interface_prefix.clone(),
        strict_midflow: settings.strict_mid_flow,
        endpoint_to_host: match settings.endpoint_to_host_action {
            EndpointToHost::Drop => dataplane::EndpointToHost::Drop,
            EndpointToHost::Return => dataplane::EndpointToHost::Return,
            EndpointToHost::Accept => dataplane::EndpointToHost::Accept,
        },
        ..dataplane::Config::default()
    })
    .context("dataplane")?;
    if let Some(events) = dataplane.take_flow_events().context("flow events")? {
        dataplane_thread::spawn_flow_reader(events, flows.clone(), metrics.clone())?;
    }
    let dir = &config.paths.endpoint_status_dir;
    let files =
        EndpointFiles::open(dir).with_context(|| format!("paths.endpoint-status-dir = {}", dir.display()))?;
    let outlets = Outlets {
        health: health.clone(),
        view: view.clone(),
        metrics: metrics.clone(),
        files,
    };
    let resync_interval = Duration::from_secs(settings.resync_interval_s.max(1));
    let commands = dataplane_thread::spawn(dataplane, outlets, resync_interval)?;
    dataplane_thread::spawn_link_monitor(commands.clone())?;
    Ok(Some(commands))
}

async fn start_embedded_store(
    config: &DatastoreConfig,
) -> anyhow::Result<Option<datastore::server::RunningServer>> {
    if !config.endpoints.is_empty() {
        return Ok(None);
    }
    let data = &config.embedded.data;
    if let Some(dir) = data.parent() {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("datastore.embedded.data = {}", data.display()))?;
    }
    let options = datastore::server::ServerOptions::new(config.embedded.listen, data);
    let server = datastore::server::Server::start(options)
        .await
        .context("embedded store")?;
    tracing::info!(addresses = ?server.addresses(), file = %data.display(), "embedded store");
    Ok(Some(server))
}

fn client_config(config: &DatastoreConfig) -> ClientConfig {
    let pem = |path: &Option<PathBuf>| path.clone().map(Pem::File);
    ClientConfig {
        username: config.username.clone(),
        password: config.password.clone(),
        ca: pem(&config.ca_file),
        cert: pem(&config.cert_file),
        key: pem(&config.key_file),
        ..ClientConfig::new(config.endpoints.iter().cloned())
    }
}

/// Registers the node, again and again until it worked.
async fn register(client: Client, config: Config, health: Health, stop: CancellationToken) {
    let resources = Resources::new(client);
    let [mut pause, pause_max] = REGISTER_PAUSE;
    loop {
        let attempt = node::register(&resources, &config.node_name, &config.node);
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = attempt => outcome,
        };
        match outcome {
            Ok(()) => {
                health.ready(NODE);
                return;
            }
            Err(error) => {
                health.not_ready(
                    NODE,
                    format!("not registered: {error}; next try in {} s", pause.as_secs()),
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(pause_max);
    }
}

/// The one place where datastore, engine, dataplane and speaker meet.
struct Core {
    world: World,
    translation: Option<Translation>,
    /// Blocks whose blackhole routes are in place.
    announced: Vec<IpNet>,
    problems: Vec<String>,
    /// A whole view was told: the last good one or the present one.
    settled: bool,
    dataplane: Option<Sender<Command>>,
    bgp: Bgp,
    health: Health,
    view: View,
    metrics: Metrics,
    config: Config,
}

impl Core {
    async fn run(
        mut self,
        mut events: tokio::sync::mpsc::Receiver<Event>,
        syncer: &Handle,
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {
                    let health = syncer.health().borrow().clone();
                    self.publish_datastore(&health);
                    self.bgp.publish(self.translation.as_ref().map(|t| &t.origins)).await;
                    // A block whose blackhole route failed, or a new secret.
                    self.translate().await;
                }
                event = events.recv() => match event {
                    Some(event) => self.handle(event).await,
                    None => {
                        self.health.dead(DATASTORE, "the syncer has ended: restart the agent");
                        stop.cancelled().await;
                        break;
                    }
                },
            }
        }
        self.bgp.stop().await;
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Updates(updates) => {
                self.metrics.updates_processed.inc_by(updates.len() as u64);
                for update in updates {
                    self.world.update(update);
                }
            }
            Event::Status(status) => {
                tracing::info!(?status, "datastore view");
                self.settled |= matches!(status, Status::FromSnapshot | Status::InSync);
                if status == Status::InSync {
                    self.flush();
                    self.send(Command::InitialSyncDone);
                }
            }
        }
        if self.settled {
            self.flush();
            self.translate().await;
            self.note_problems();
            self.view.lock().counts = self.world.counts();
        }
    }

    /// Passes on to the dataplane what the engine has decided.
    fn flush(&mut self) {
        let deltas = self.world.flush();
        self.metrics.engine_deltas.inc_by(deltas.len() as u64);
        if !deltas.is_empty() {
            self.send(Command::Apply(deltas));
        }
    }

    fn send(&self, command: Command) {
        if let Some(dataplane) = &self.dataplane
            && dataplane.send(command).is_err()
        {
            tracing::error!("the dataplane's thread has ended");
        }
    }

    /// Translates the fabric and gives the speaker what changed, after the blackhole routes of new blocks are in
    /// place: a block must never be announced while packets for its free addresses would go back where they came from.
    async fn translate(&mut self) {
        if !self.settled {
            return;
        }
        self.world.set_secrets(read_secrets(&self.config.bgp.secrets_dir));
        let settings = Settings {
            hold_time: Duration::from_secs(self.config.bgp.hold_time_s.into()),
            restart_time: Duration::from_secs(self.config.bgp.restart_time_s.into()),
            install_routes: self.config.bgp.install_routes,
            router_id: self.config.bgp.router_id.clone(),
        };
        let translation = fabric::translate(self.world.fabric(), &self.config.node_name, &settings);
        let blocks_in_place =
            self.announced == translation.blackholes || self.set_blocks(&translation.blackholes).await;
        if !blocks_in_place || self.translation.as_ref() == Some(&translation) {
            return;
        }
        // What is not in force is tried again at the next tick.
        if self.bgp.apply(translation.config.as_ref()).await {
            self.translation = Some(translation);
        }
    }

    async fn set_blocks(&mut self, blocks: &[IpNet]) -> bool {
        let Some(dataplane) = &self.dataplane else {
            self.announced = blocks.to_vec();
            return true;
        };
        let (answer, answered) = oneshot::channel();
        if dataplane.send(Command::Blocks(blocks.to_vec(), answer)).is_err() {
            return false;
        }
        match tokio::time::timeout(BLOCKS_WAIT_MAX, answered).await {
            Ok(Ok(())) => {
                self.announced = blocks.to_vec();
                true
            }
            _ => {
                tracing::warn!(?blocks, "blackhole routes are not in place yet: not announced");
                false
            }
        }
    }

    fn note_problems(&mut self) {
        let mut problems = self.world.problems();
        problems.extend(
            self.translation
                .iter()
                .flat_map(|translation| translation.problems.iter().cloned()),
        );
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(%problem, "resource");
        }
        self.problems = problems;
    }

    fn publish_datastore(&self, health: &syncer::Health) {
        self.view.lock().datastore_state = health.state.as_str();
        match health.state {
            HealthState::InSync => self.health.ready(DATASTORE),
            state => {
                let detail = if health.detail.is_empty() {
                    state.as_str()
                } else {
                    &health.detail
                };
                self.health.not_ready(DATASTORE, detail);
            }
        }
    }
}

/// The passwords under a directory: `<secret name>/<key>`. A file that cannot be read counts as missing.
fn read_secrets(dir: &Path) -> BTreeMap<(String, String), String> {
    let mut secrets = BTreeMap::new();
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    for secret in entries(dir) {
        for key in entries(&secret.path()) {
            if let Ok(text) = std::fs::read_to_string(key.path()) {
                let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                secrets.insert(
                    (name(&secret), name(&key)),
                    text.trim_end_matches('\n').to_owned(),
                );
            }
        }
    }
    secrets
}
