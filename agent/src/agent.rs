//! The wiring: starts every part, passes what comes out of one on to the next, and stops them in order.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use bgpd::rpc::SpeakerSlot;
use datastore::syncer::{self, Event, Handle, HealthState, Status, Syncer};
use datastore::{Client, ClientConfig, Pem, Resources};
use ipnet::IpNet;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bgp::Bgp;
use crate::config::{Attach, Config, DatastoreConfig, EndpointToHost};
use crate::dataplane_thread::{self, Command, Outlets};
use crate::endpoint_status::EndpointFiles;
use crate::fabric::{self, Settings, Translation};
use crate::flows::FlowLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::peer_access::{PeerAccess, Wanted};
use crate::rpc;
use crate::secrets;
use crate::view::View;
use crate::world::World;
use crate::{feeds, node, status_writer};

/// Name in the health reports.
const DATASTORE: &str = "datastore";
/// Name in the health reports.
const NODE: &str = "node";
/// The first and the longest pause before the node's registration is tried again.
const REGISTER_PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// How often secrets are read again and sessions are published.
const TICK: Duration = Duration::from_secs(1);
/// How long the store has to confirm the last good view before that view is worked with. It may be up to
/// [`syncer::SNAPSHOT_INTERVAL`] older than what an earlier run left in the kernel and told its peers.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(3);
/// How long the parts may take to end, after which they are ended.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// Runs the agent until `stop` is cancelled. What it has put into the kernel stays.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let health = Health::default();
    let view = View::default();
    let flows = FlowLog::new(config.api.flows_kept);
    let metrics = Metrics::new(&config.node_name, view.clone());
    let mut tasks = JoinSet::new();
    health.register(DATASTORE, None);
    health.register(NODE, None);

    let speaker = SpeakerSlot::default();
    let service = rpc::Service {
        node_name: config.node_name.clone(),
        started_at: jiff::Timestamp::now().to_string(),
        health: health.clone(),
        flows: flows.clone(),
        view: view.clone(),
        speaker: speaker.clone(),
        accept_datastore: Arc::default(),
        stop: stop.clone(),
    };
    let accept_datastore = Arc::clone(&service.accept_datastore);
    serve(&config, service, &metrics, &mut tasks).await?;
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
    if let Some(dir) = config.paths.snapshot.parent()
        && let Err(error) = std::fs::create_dir_all(dir)
    {
        tracing::warn!(dir = %dir.display(), %error, "no place for the last good view: the next start needs the datastore");
    }
    let options = syncer::Options::agent(&config.node_name).with_snapshot(&config.paths.snapshot);
    let (syncer, events) = Syncer::start(client_config.clone(), options);
    metrics.resyncs_started.inc();
    tasks.spawn(write_to_store(
        client_config,
        config.clone(),
        health.clone(),
        view.clone(),
        stop.clone(),
    ));

    let bgp = Bgp::new(&config, health.clone(), view.clone(), speaker);
    let (commands, mut dataplane_ended) = match dataplane {
        Some(thread) => (Some(thread.commands), Some(thread.ended)),
        None => (None, None),
    };
    let socket = rpc::SocketFile::of(&config.api.socket);
    let core = Core {
        world: World::new(&config.node_name),
        translation: None,
        translate_due: true,
        held: BTreeSet::new(),
        asked: None,
        applying: None,
        peer_access: PeerAccess::default(),
        peer_access_problems: Vec::new(),
        fabric_problems: Vec::new(),
        problems: BTreeSet::new(),
        in_sync: false,
        snapshot_until: None,
        dataplane: commands.clone(),
        bgp,
        health,
        view,
        metrics,
        config,
    };
    core.run(events, &syncer, &accept_datastore, stop.clone()).await;

    stop.cancel();
    if let Some(commands) = commands {
        // The thread may have ended by itself.
        let _ = commands.send(Command::Stop);
    }
    syncer.shutdown().await;
    let parts = async {
        if dataplane_ended.is_some() {
            // An error is what its end looks like.
            let _ = answered(&mut dataplane_ended).await;
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::warn!(%error, "a task ended badly");
            }
        }
    };
    if tokio::time::timeout(STOP_TIME_MAX, parts).await.is_err() {
        tracing::warn!("some parts did not end in time: they are ended");
    }
    tasks.shutdown().await;
    if let Some(server) = embedded {
        server.shutdown().await;
    }
    socket.remove();
    Ok(())
}

/// Starts the local API, health and metrics.
async fn serve(
    config: &Config,
    service: rpc::Service,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let socket = &config.api.socket;
    let listener = rpc::bind(socket, config.api.group.as_deref())
        .await
        .with_context(|| format!("api.socket = {}", socket.display()))?;
    let (health, stop) = (service.health.clone(), service.stop.clone());
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
            &stop,
            tasks,
        )
        .await?;
    }
    if config.metrics.enabled {
        serve_http(
            "metrics.listen",
            config.metrics.listen,
            metrics.router(),
            &stop,
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
) -> anyhow::Result<Option<dataplane_thread::Thread>> {
    if !config.dataplane.enabled {
        return Ok(None);
    }
    // Before the links are read, so that none that comes in between is missed.
    let monitor = netlink::Monitor::open(&[netlink::Group::Links]).context("link events")?;
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
        learned_route_protocol: bgpd::fib::PROTOCOL,
        ..dataplane::Config::default()
    })
    .context("dataplane")?;
    if let Some(events) = dataplane.take_flow_events().context("flow events")? {
        feeds::spawn_flow_reader(events, flows.clone(), metrics.clone())?;
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
    let thread = dataplane_thread::spawn(dataplane, outlets, resync_interval)?;
    feeds::spawn_link_monitor(monitor, thread.commands.clone())?;
    Ok(Some(thread))
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

/// Writes what this host has to say into the store: its Node once, then its status. A store that is away is waited for.
async fn write_to_store(
    client_config: ClientConfig,
    config: Config,
    health: Health,
    view: View,
    stop: CancellationToken,
) {
    let work = async {
        let client = register(&client_config, &config, &health).await;
        status_writer::run(
            client,
            config.node_name.clone(),
            view,
            config.datastore.report_endpoints,
        )
        .await;
    };
    // No write is waited for: each is whole or not there.
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Registers the node, again and again until it worked.
async fn register(client_config: &ClientConfig, config: &Config, health: &Health) -> Client {
    let [mut pause, pause_max] = REGISTER_PAUSE;
    loop {
        let attempt = async {
            // With a user, connecting asks the store already.
            let client = Client::connect(client_config).await?;
            let resources = Resources::new(client.clone());
            node::register(&resources, &config.node_name, &config.node).await?;
            Ok::<_, datastore::Error>(client)
        };
        match attempt.await {
            Ok(client) => {
                health.ready(NODE);
                return client;
            }
            Err(error) => {
                health.not_ready(
                    NODE,
                    format!("not registered: {error}; next try in {} s", pause.as_secs()),
                );
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(pause_max);
    }
}

/// The answer that is waited for; never where none is.
async fn answered(receiver: &mut Option<oneshot::Receiver<()>>) -> bool {
    match receiver {
        Some(receiver) => receiver.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Blocks whose blackhole routes the dataplane was told to have, until it has them.
struct Asked {
    blocks: BTreeSet<IpNet>,
    answer: Option<oneshot::Receiver<()>>,
}

/// The one place where datastore, engine, dataplane and speaker meet. It waits for none of them.
struct Core {
    world: World,
    /// What the speaker does.
    translation: Option<Translation>,
    /// Something that the translation reads has changed, or it could not be brought into force.
    translate_due: bool,
    /// Blocks whose blackhole routes are in place.
    held: BTreeSet<IpNet>,
    asked: Option<Asked>,
    /// A batch that is on its way to the dataplane.
    applying: Option<oneshot::Receiver<()>>,
    peer_access: PeerAccess,
    peer_access_problems: Vec<String>,
    /// Those of the last translation.
    fabric_problems: Vec<String>,
    problems: BTreeSet<String>,
    /// The whole present view was told.
    in_sync: bool,
    /// The last good view was told; from then on it is worked with.
    snapshot_until: Option<Instant>,
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
        accept_datastore: &Notify,
        stop: CancellationToken,
    ) {
        self.read_secrets();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = accept_datastore.notified() => {
                    tracing::warn!("the datastore as it is now is taken for the truth: somebody has asked for it");
                    syncer.accept_new_history();
                }
                _ = ticks.tick() => {
                    let health = syncer.health().borrow().clone();
                    self.publish_datastore(&health);
                    self.bgp.publish(self.translation.as_ref().map(|t| &t.origins)).await;
                    self.read_secrets();
                    self.keep_peer_access();
                    self.act().await;
                    // Not all of them come with something that is passed on.
                    self.note_problems();
                }
                _ = answered(&mut self.applying) => {
                    self.applying = None;
                    self.act().await;
                }
                in_place = answered_blocks(&mut self.asked) => {
                    if let Some(asked) = self.asked.take().filter(|_| in_place) {
                        self.held = asked.blocks;
                        self.translate_due = true;
                    }
                    self.act().await;
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
                match status {
                    Status::FromSnapshot => self.snapshot_until = Some(Instant::now() + SNAPSHOT_GRACE),
                    Status::InSync => self.in_sync = true,
                    Status::WaitForDatastore | Status::ResyncInProgress => {}
                }
                if status == Status::InSync {
                    self.flush_at_once();
                    self.send(Command::InitialSyncDone);
                }
            }
        }
        self.act().await;
    }

    /// Brings into force what is known, as far as there is a whole view and the parts are free to take it.
    async fn act(&mut self) {
        let settled = self.in_sync || self.snapshot_until.is_some_and(|until| Instant::now() >= until);
        if !settled {
            return;
        }
        if self.applying.is_none() {
            self.flush_at_once();
        }
        self.translate_due |= self.world.take_fabric_change();
        if self.translate_due {
            self.translate().await;
        }
        self.view.lock().counts = self.world.counts();
    }

    /// Passes on to the dataplane what the engine has decided.
    fn flush_at_once(&mut self) {
        let deltas = self.world.flush();
        self.metrics.engine_deltas.inc_by(deltas.len() as u64);
        if !deltas.is_empty() {
            let (answer, tried) = oneshot::channel();
            if self.send(Command::Apply(deltas, answer)) {
                self.applying = Some(tried);
            }
            self.note_problems();
        }
    }

    /// Whether there is a dataplane that takes it. A thread that has ended says so in the health reports.
    fn send(&self, command: Command) -> bool {
        self.dataplane
            .as_ref()
            .is_some_and(|dataplane| dataplane.send(command).is_ok())
    }

    /// Translates the fabric and gives the speaker what changed. The blackhole routes of blocks are there before the
    /// announcement and until after the withdrawal: a block must never be announced while packets for its free
    /// addresses would go back where they came from.
    async fn translate(&mut self) {
        let settings = Settings {
            hold_time: Duration::from_secs(self.config.bgp.hold_time_s.into()),
            restart_time: Duration::from_secs(self.config.bgp.restart_time_s.into()),
            install_routes: self.config.bgp.install_routes,
            router_id: self.config.bgp.router_id.clone(),
        };
        let next = fabric::translate(self.world.fabric(), &self.config.node_name, &settings);
        self.fabric_problems.clone_from(&next.problems);
        self.note_problems();
        let wanted: BTreeSet<IpNet> = next.blackholes.iter().copied().collect();
        if !self.has_blocks(&wanted) {
            // The answer brings us back here.
            return;
        }
        if self.translation.as_ref() != Some(&next) {
            if !self.bgp.apply(next.config.as_ref()).await {
                // Tried again at the next tick; nothing is known to be in force until then.
                self.translation = None;
                return;
            }
            self.translation = Some(next);
        }
        self.translate_due = false;
        self.keep_peer_access();
        // Without a configuration the speaker goes on with what it had.
        let announces_more =
            self.bgp.is_running() && self.translation.as_ref().is_some_and(|t| t.config.is_none());
        if self.held != wanted && !announces_more {
            self.ask_for(wanted);
        }
    }

    /// Routes to peers that are reached by a gateway, and addresses for workloads that are peers; looked at again at
    /// each tick.
    fn keep_peer_access(&mut self) {
        if let Some(translation) = self
            .translation
            .as_ref()
            .filter(|t| t.config.is_some() && self.config.bgp.enabled)
        {
            self.peer_access.keep(&Wanted {
                routes: translation.peer_routes.clone(),
                addresses: translation.workload_side.clone(),
            });
        }
        self.peer_access_problems = self.peer_access.problems();
    }

    /// Whether these blocks' blackhole routes are in place; where not, they are asked for, besides those that are.
    fn has_blocks(&mut self, wanted: &BTreeSet<IpNet>) -> bool {
        if wanted.is_subset(&self.held) {
            return true;
        }
        self.ask_for(self.held.union(wanted).copied().collect());
        wanted.is_subset(&self.held)
    }

    fn ask_for(&mut self, blocks: BTreeSet<IpNet>) {
        if self.asked.as_ref().is_some_and(|asked| asked.blocks == blocks) {
            return;
        }
        if self.dataplane.is_none() {
            self.held = blocks;
            return;
        }
        let (answer, answered) = oneshot::channel();
        // Of what is on its way to be removed nothing counts as in place.
        self.held.retain(|block| blocks.contains(block));
        if self.send(Command::Blocks(blocks.iter().copied().collect(), answer)) {
            self.asked = Some(Asked {
                blocks,
                answer: Some(answered),
            });
        }
    }

    fn note_problems(&mut self) {
        let problems: BTreeSet<String> = self
            .world
            .problems()
            .into_iter()
            .chain(self.peer_access_problems.iter().cloned())
            .chain(self.fabric_problems.iter().cloned())
            .collect();
        for problem in problems.difference(&self.problems) {
            tracing::warn!(%problem, "resource");
        }
        self.view.lock().problems = problems.iter().cloned().collect();
        self.problems = problems;
    }

    fn read_secrets(&mut self) {
        self.world
            .set_secrets(secrets::read(&self.config.bgp.secrets_dir));
    }

    fn publish_datastore(&self, health: &syncer::Health) {
        {
            let mut published = self.view.lock();
            published.datastore_state = health.state.as_str();
            published.datastore_detail.clone_from(&health.detail);
        }
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

async fn answered_blocks(asked: &mut Option<Asked>) -> bool {
    match asked {
        Some(asked) => answered(&mut asked.answer).await,
        None => std::future::pending().await,
    }
}
