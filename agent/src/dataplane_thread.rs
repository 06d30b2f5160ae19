//! The thread that owns the dataplane: applies what the engine decides, follows links, repairs drift, and
//! publishes which endpoints are up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use api_proto::v1 as proto;
use dataplane::{ApplyReport, Dataplane, EndpointState, FlowEvents};
use ipnet::IpNet;
use policy_engine::output::{Delta, Endpoint, EndpointId, ProgramKey};
use tokio::sync::oneshot;

use crate::endpoint_status::{EndpointFile, EndpointFiles};
use crate::flows::FlowLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::view::View;

/// Name in the health reports.
pub const COMPONENT: &str = "dataplane";
/// How often expired flows are reclaimed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How soon something that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Without a report for this long the thread counts as dead; every wait in it is shorter.
pub const SILENCE_MAX: Duration = Duration::from_secs(90);
/// The longest wait for a command.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Flow events that are decoded at once.
const FLOW_BATCH_MAX: usize = 1024;
/// How long the reader of flow events waits before it looks whether it shall stop.
const FLOW_WAIT: Duration = Duration::from_millis(500);

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// A batch of the engine.
    Apply(Vec<Delta>),
    /// The batches so far are everything that the datastore holds.
    InitialSyncDone,
    /// The blocks of this host; answered when their blackhole routes are in place.
    Blocks(Vec<IpNet>, oneshot::Sender<()>),
    /// A link changed.
    Link(netlink::Event),
    /// Leave everything as it is and end.
    Stop,
}

/// Where the thread publishes.
#[derive(Debug)]
pub struct Outlets {
    /// Reports.
    pub health: Health,
    /// Endpoints.
    pub view: View,
    /// Counters.
    pub metrics: Metrics,
    /// Files for CNI plugins.
    pub files: EndpointFiles,
}

/// Starts the thread, in the network namespace of the process.
pub fn spawn(
    mut dataplane: Dataplane,
    outlets: Outlets,
    resync_interval: Duration,
) -> std::io::Result<Sender<Command>> {
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("dataplane".into())
        .spawn(move || {
            let health = outlets.health.clone();
            let mut driver = Driver {
                pending: Vec::new(),
                blocks: None,
                endpoints: BTreeMap::new(),
                rules: BTreeMap::new(),
                initial_sync: InitialSync::Waiting,
                resync_interval,
                outlets,
            };
            driver.run(&mut dataplane, &receiver);
            health.dead(COMPONENT, "stopped; everything stays enforced");
        })?;
    Ok(sender)
}

#[derive(Debug, PartialEq, Eq)]
enum InitialSync {
    Waiting,
    Told,
    Done,
}

struct Driver {
    /// Deltas that are not applied yet: a batch that failed is tried again before what follows it.
    pending: Vec<Delta>,
    blocks: Option<(Vec<IpNet>, Vec<oneshot::Sender<()>>)>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    rules: BTreeMap<ProgramKey, usize>,
    initial_sync: InitialSync,
    resync_interval: Duration,
    outlets: Outlets,
}

impl Driver {
    fn run(&mut self, dataplane: &mut Dataplane, commands: &Receiver<Command>) {
        let mut resync_at = Instant::now() + self.resync_interval;
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
        let mut failed = false;
        loop {
            let now = Instant::now();
            let mut wait = WAIT_MAX
                .min(resync_at.saturating_duration_since(now))
                .min(sweep_at.saturating_duration_since(now));
            if failed {
                wait = wait.min(RETRY_INTERVAL);
            }
            match commands.recv_timeout(wait) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => {
                    if self.take(dataplane, command) == Taken::Stop {
                        return;
                    }
                    // What is already waiting is applied together.
                    while let Ok(command) = commands.try_recv() {
                        if self.take(dataplane, command) == Taken::Stop {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let mut problems = Vec::new();
            self.apply(dataplane, &mut problems);
            let now = Instant::now();
            if now >= resync_at || failed {
                let outcome = dataplane.resync();
                self.note(outcome, &mut problems);
                resync_at = now + self.resync_interval;
            }
            if now >= sweep_at {
                if let Err(error) = dataplane.sweep() {
                    problems.push(error.to_string());
                }
                sweep_at = now + SWEEP_INTERVAL;
            }
            failed = !problems.is_empty();
            self.publish(dataplane, &problems);
        }
    }

    fn take(&mut self, dataplane: &mut Dataplane, command: Command) -> Taken {
        match command {
            Command::Apply(deltas) => self.pending.extend(deltas),
            Command::InitialSyncDone if self.initial_sync == InitialSync::Waiting => {
                self.initial_sync = InitialSync::Told;
            }
            Command::InitialSyncDone => {}
            Command::Blocks(blocks, answer) => {
                let mut waiting = self.blocks.take().map_or_else(Vec::new, |(_, waiting)| waiting);
                waiting.push(answer);
                self.blocks = Some((blocks, waiting));
            }
            Command::Link(event) => {
                let mut problems = Vec::new();
                // An endpoint whose interface just came must be known before the event is handled.
                self.apply(dataplane, &mut problems);
                let outcome = dataplane.link_event(&event);
                self.note(outcome, &mut problems);
                for problem in problems {
                    tracing::warn!(%problem, "link event");
                }
            }
            Command::Stop => return Taken::Stop,
        }
        Taken::GoOn
    }

    fn apply(&mut self, dataplane: &mut Dataplane, problems: &mut Vec<String>) {
        if !self.pending.is_empty() {
            let started = Instant::now();
            match dataplane.apply(&self.pending) {
                Ok(report) => {
                    let took = started.elapsed();
                    self.outlets
                        .metrics
                        .apply_time_us
                        .set(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
                    tracing::debug!(deltas = self.pending.len(), took_us = took.as_micros(), "applied");
                    for delta in std::mem::take(&mut self.pending) {
                        self.remember(delta);
                    }
                    self.report(report, problems);
                }
                Err(error) => {
                    self.outlets.metrics.dataplane_failures.inc();
                    problems.push(error.to_string());
                }
            }
        }
        if self.initial_sync == InitialSync::Told && self.pending.is_empty() {
            let outcome = dataplane.end_of_initial_sync();
            if outcome.is_ok() {
                self.initial_sync = InitialSync::Done;
            }
            self.note(outcome, problems);
            let up: Vec<EndpointId> = up(dataplane).map(|status| status.id).collect();
            if let Err(error) = self.outlets.files.retain(up.iter()) {
                problems.push(format!("endpoint status files: {error}"));
            }
        }
        if let Some((blocks, waiting)) = self.blocks.take() {
            match dataplane.set_local_blocks(&blocks) {
                // Somebody else's route for a block is reported, and does not hold up the announcement: packets for
                // free addresses then go where that route says.
                Ok(report) if report.errors.is_empty() => {
                    self.report(report, problems);
                    for answer in waiting {
                        // Whoever asked may have gone.
                        let _ = answer.send(());
                    }
                }
                Ok(report) => {
                    self.report(report, problems);
                    self.blocks = Some((blocks, waiting));
                }
                Err(error) => {
                    problems.push(error.to_string());
                    self.blocks = Some((blocks, waiting));
                }
            }
        }
    }

    fn remember(&mut self, delta: Delta) {
        match delta {
            Delta::EndpointUpdate(endpoint) => {
                self.endpoints.insert(endpoint.id.clone(), *endpoint);
            }
            Delta::EndpointRemove(id) => {
                self.endpoints.remove(&id);
            }
            Delta::ProgramUpdate { key, program } => {
                self.rules.insert(key, program.rules.len());
            }
            Delta::ProgramRemove { key } => {
                self.rules.remove(&key);
            }
            _ => {}
        }
    }

    fn note(&mut self, outcome: Result<ApplyReport, dataplane::Error>, problems: &mut Vec<String>) {
        match outcome {
            Ok(report) => self.report(report, problems),
            Err(error) => {
                self.outlets.metrics.dataplane_failures.inc();
                problems.push(error.to_string());
            }
        }
    }

    fn report(&mut self, report: ApplyReport, problems: &mut Vec<String>) {
        for status in report.changed {
            tracing::info!(endpoint = %text(&status.id), interface = status.interface, state = ?status.state, "endpoint");
            let outcome = match (&status.state, self.endpoints.get(&status.id)) {
                (EndpointState::Up, Some(endpoint)) => self.outlets.files.up(&status.id, file_of(endpoint)),
                _ => self.outlets.files.down(&status.id),
            };
            if let Err(error) = outcome {
                problems.push(format!("endpoint status file of {}: {error}", text(&status.id)));
            }
        }
        for id in report.removed {
            tracing::info!(endpoint = %text(&id), "endpoint removed");
            if let Err(error) = self.outlets.files.down(&id) {
                problems.push(format!("endpoint status file of {}: {error}", text(&id)));
            }
        }
        for conflict in report.conflicts {
            tracing::warn!(destination = %conflict.destination, holder = conflict.holder, "route held by another");
        }
        problems.extend(report.errors);
    }

    fn publish(&self, dataplane: &Dataplane, problems: &[String]) {
        let endpoints = dataplane.statuses().into_iter().map(|status| {
            let (state, detail) = match status.state {
                EndpointState::Up => ("up", String::new()),
                EndpointState::WaitingForInterface => ("down", "waiting for its interface".to_owned()),
                EndpointState::Error(reason) => ("error", reason),
            };
            let known = self.endpoints.get(&status.id);
            proto::Endpoint {
                id: text(&status.id),
                interface: status.interface,
                addresses: known.map_or_else(Vec::new, |e| {
                    e.addresses.iter().map(ToString::to_string).collect()
                }),
                status: state.to_owned(),
                detail,
                programs: known.map_or_else(Vec::new, |endpoint| self.programs(endpoint)),
            }
        });
        self.outlets.view.lock().endpoints = endpoints.collect();
        match (problems.first(), &self.initial_sync) {
            (Some(problem), _) => {
                for problem in problems {
                    tracing::warn!(%problem, "dataplane");
                }
                self.outlets.health.not_ready(COMPONENT, problem.clone());
            }
            (None, InitialSync::Done) => self.outlets.health.ready(COMPONENT),
            (None, _) => self
                .outlets
                .health
                .not_ready(COMPONENT, "waiting for the first full view of the datastore"),
        }
    }

    fn programs(&self, endpoint: &Endpoint) -> Vec<proto::EndpointProgram> {
        let programs = &endpoint.programs;
        [
            ("ingress", 4, programs.ingress_v4),
            ("egress", 4, programs.egress_v4),
            ("ingress", 6, programs.ingress_v6),
            ("egress", 6, programs.egress_v6),
        ]
        .into_iter()
        .map(|(direction, ip_version, key)| proto::EndpointProgram {
            direction: direction.to_owned(),
            ip_version,
            program_id: u32::try_from(key.0).unwrap_or(u32::MAX),
            rules: self
                .rules
                .get(&key)
                .map_or(0, |rules| u32::try_from(*rules).unwrap_or(u32::MAX)),
        })
        .collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    GoOn,
    Stop,
}

fn up(dataplane: &Dataplane) -> impl Iterator<Item = dataplane::EndpointStatus> {
    dataplane
        .statuses()
        .into_iter()
        .filter(|status| status.state == EndpointState::Up)
}

/// `<orchestrator>/<workload>/<endpoint>`
pub fn text(id: &EndpointId) -> String {
    format!("{}/{}/{}", id.orchestrator, id.workload, id.endpoint)
}

fn file_of(endpoint: &Endpoint) -> EndpointFile {
    let nets = |v4: bool| {
        let own = endpoint.addresses.iter().filter(move |a| a.is_ipv4() == v4);
        own.map(|a: &IpAddr| IpNet::from(*a).to_string()).collect()
    };
    EndpointFile {
        iface_name: endpoint.interface.clone(),
        mac: endpoint
            .mac
            .map(|m| m.map(|byte| format!("{byte:02x}")).join(":")),
        ipv4_nets: nets(true),
        ipv6_nets: nets(false),
    }
}

/// Starts the thread that reads flow events until the process ends.
pub fn spawn_flow_reader(mut events: FlowEvents, log: FlowLog, metrics: Metrics) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("flow-events".into())
        .spawn(move || {
            loop {
                match events.next_batch(FLOW_BATCH_MAX, FLOW_WAIT) {
                    Ok(batch) => {
                        metrics.flow_events.inc_by(batch.len() as u64);
                        for event in batch {
                            log.push(crate::flow_event::to_proto(&event));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "flow events cannot be read");
                        std::thread::sleep(RETRY_INTERVAL);
                    }
                }
                if let Ok(lost) = events.lost() {
                    log.set_lost(lost);
                    metrics.flow_events_lost.set(lost);
                }
            }
        })?;
    Ok(())
}

/// Starts the thread that passes link events on to the dataplane's thread, until that one has ended.
pub fn spawn_link_monitor(commands: Sender<Command>) -> Result<(), netlink::Error> {
    let mut monitor = netlink::Monitor::open(&[netlink::Group::Links])?;
    let run = move || {
        loop {
            let event = match monitor.next_within(WAIT_MAX) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "link events cannot be read");
                    std::thread::sleep(RETRY_INTERVAL);
                    netlink::Event::Resync
                }
            };
            if commands.send(Command::Link(event)).is_err() {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("link-events".into()).spawn(run) {
        tracing::error!(%error, "no thread for link events: links are only seen at each resync");
    }
    Ok(())
}
