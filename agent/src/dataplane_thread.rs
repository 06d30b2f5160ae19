//! The thread that owns the dataplane: applies what the engine decides, follows links, repairs drift, and
//! publishes which endpoints are up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use api_proto::v1 as proto;
use dataplane::{ApplyReport, Dataplane, EndpointState, RouteConflict};
use ipnet::IpNet;
use policy_engine::output::{Delta, Endpoint, EndpointId, ProgramKey};
use tokio::sync::oneshot;

use crate::endpoint_status::{EndpointFile, EndpointFiles};
use crate::feeds::Waiting;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::view::View;

/// Name in the health reports.
pub const COMPONENT: &str = "dataplane";
/// How often expired flows are reclaimed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How soon something that failed is tried again; each further failure doubles it, up to the resync interval.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Deltas of failed batches beyond which those that a later one supersedes are dropped.
const PENDING_DELTAS_MAX: usize = 4096;
/// Without a report for this long the thread counts as dead; every wait in it is shorter.
pub const SILENCE_MAX: Duration = Duration::from_secs(90);
/// The longest wait for a command.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// A batch of the engine; answered when it was tried. At most one is on its way, so that what changes meanwhile
    /// gathers in the engine, which is bounded by the cluster, and not in a queue.
    Apply(Vec<Delta>, oneshot::Sender<()>),
    /// The batches so far are everything that the datastore holds.
    InitialSyncDone,
    /// The blocks of this host; answered when their blackhole routes are in place.
    Blocks(Vec<IpNet>, oneshot::Sender<()>),
    /// A link changed.
    Link(netlink::Event, Waiting),
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

/// A running thread.
#[derive(Debug)]
pub struct Thread {
    /// Where it takes commands.
    pub commands: Sender<Command>,
    /// Errs when the thread has ended, for whatever reason.
    pub ended: oneshot::Receiver<()>,
}

/// Tells that the thread has ended, also where it panicked.
struct End {
    health: Health,
    _ended: oneshot::Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.health.dead(
            COMPONENT,
            "its thread has ended; what is enforced stays: restart the agent",
        );
    }
}

/// Starts the thread, in the network namespace of the process.
pub fn spawn(
    mut dataplane: Dataplane,
    outlets: Outlets,
    resync_interval: Duration,
) -> std::io::Result<Thread> {
    let (commands, receiver) = channel();
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("dataplane".into())
        .spawn(move || {
            let _end = End {
                health: outlets.health.clone(),
                _ended: sender,
            };
            let mut driver = Driver {
                pending: Vec::new(),
                tried: Vec::new(),
                blocks: None,
                endpoints: BTreeMap::new(),
                rules: BTreeMap::new(),
                initial_sync: InitialSync::Waiting,
                conflicts: Vec::new(),
                warned: Vec::new(),
                problems: Vec::new(),
                resync_interval,
                outlets,
            };
            driver.run(&mut dataplane, &receiver);
        })?;
    Ok(Thread { commands, ended })
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
    /// Who waits for the outcome of what is pending.
    tried: Vec<oneshot::Sender<()>>,
    blocks: Option<(Vec<IpNet>, Vec<oneshot::Sender<()>>)>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    rules: BTreeMap<ProgramKey, usize>,
    initial_sync: InitialSync,
    /// Routes that others hold, as they were told last.
    conflicts: Vec<RouteConflict>,
    /// Problems that were told last.
    warned: Vec<String>,
    /// What went wrong in this turn.
    problems: Vec<String>,
    resync_interval: Duration,
    outlets: Outlets,
}

impl Driver {
    fn run(&mut self, dataplane: &mut Dataplane, commands: &Receiver<Command>) {
        let mut resync_at = Instant::now() + self.resync_interval;
        let mut sweep_at = Instant::now() + SWEEP_INTERVAL;
        let mut retry = RETRY_INTERVAL;
        loop {
            let now = Instant::now();
            let wait = WAIT_MAX
                .min(resync_at.saturating_duration_since(now))
                .min(sweep_at.saturating_duration_since(now));
            match commands.recv_timeout(wait) {
                Err(RecvTimeoutError::Disconnected) => return,
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
            let now = Instant::now();
            let resync = now >= resync_at;
            // What failed before is tried again with the resync only: a batch that the kernel refuses is not worth
            // the time of each turn. Anything new is tried at once.
            self.apply(dataplane, resync);
            if resync {
                let outcome = dataplane.resync();
                self.note(outcome);
            }
            if now >= sweep_at {
                if let Err(error) = dataplane.sweep() {
                    self.problems.push(error.to_string());
                }
                sweep_at = now + SWEEP_INTERVAL;
            }
            let now = Instant::now();
            if !self.problems.is_empty() || any_failed(dataplane) {
                let again = now + retry.min(self.resync_interval);
                if resync {
                    retry = (retry * 2).min(self.resync_interval);
                    resync_at = again;
                } else {
                    resync_at = resync_at.min(again);
                }
            } else if resync {
                retry = RETRY_INTERVAL;
                resync_at = now + self.resync_interval;
            }
            self.publish(dataplane, resync);
        }
    }

    fn take(&mut self, dataplane: &mut Dataplane, command: Command) -> Taken {
        match command {
            Command::Apply(deltas, tried) => {
                self.pending.extend(deltas);
                self.tried.push(tried);
            }
            Command::InitialSyncDone if self.initial_sync == InitialSync::Waiting => {
                self.initial_sync = InitialSync::Told;
            }
            Command::InitialSyncDone => {}
            Command::Blocks(blocks, answer) => {
                let mut waiting = self.blocks.take().map_or_else(Vec::new, |(_, waiting)| waiting);
                waiting.push(answer);
                self.blocks = Some((blocks, waiting));
            }
            Command::Link(event, _place) => {
                // An endpoint whose interface just came must be known before the event is handled.
                self.apply(dataplane, false);
                let outcome = dataplane.link_event(&event);
                self.note(outcome);
            }
            Command::Stop => return Taken::Stop,
        }
        Taken::GoOn
    }

    /// Applies what is new; with `again` also what failed before.
    fn apply(&mut self, dataplane: &mut Dataplane, again: bool) {
        if !self.pending.is_empty() && (again || !self.tried.is_empty()) {
            let started = Instant::now();
            match dataplane.apply(&self.pending) {
                Ok(report) => {
                    let took = started.elapsed();
                    self.outlets
                        .metrics
                        .apply_time_us
                        .set(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
                    tracing::debug!(deltas = self.pending.len(), took_us = took.as_micros(), "applied");
                    let mut updated = BTreeSet::new();
                    for delta in std::mem::take(&mut self.pending) {
                        if let Delta::EndpointUpdate(endpoint) = &delta {
                            updated.insert(endpoint.id.clone());
                        }
                        self.remember(delta);
                    }
                    self.report(report);
                    self.refresh_files(dataplane, &updated);
                }
                Err(error) => {
                    self.outlets.metrics.dataplane_failures.inc();
                    self.problems.push(error.to_string());
                    if self.pending.len() > PENDING_DELTAS_MAX {
                        self.pending = compacted(std::mem::take(&mut self.pending));
                    }
                }
            }
        }
        for tried in self.tried.drain(..) {
            // Whoever asked may have gone.
            let _ = tried.send(());
        }
        if self.initial_sync == InitialSync::Told && self.pending.is_empty() {
            let outcome = dataplane.end_of_initial_sync();
            if outcome.is_ok() {
                self.initial_sync = InitialSync::Done;
            }
            self.note(outcome);
            let up: Vec<EndpointId> = up(dataplane).map(|status| status.id).collect();
            if let Err(error) = self.outlets.files.retain(up.iter()) {
                self.problems.push(format!("endpoint status files: {error}"));
            }
        }
        if let Some((blocks, waiting)) = self.blocks.take() {
            match dataplane.set_local_blocks(&blocks) {
                // Somebody else's route for a block is reported, and does not hold up the announcement: packets for
                // free addresses then go where that route says.
                Ok(report) if report.errors.is_empty() => {
                    self.report(report);
                    for answer in waiting {
                        // Whoever asked may have gone.
                        let _ = answer.send(());
                    }
                }
                Ok(report) => {
                    self.report(report);
                    self.blocks = Some((blocks, waiting));
                }
                Err(error) => {
                    self.problems.push(error.to_string());
                    self.blocks = Some((blocks, waiting));
                }
            }
        }
    }

    /// An endpoint that stays up may have other addresses, another MAC or another interface than its file says.
    fn refresh_files(&mut self, dataplane: &Dataplane, updated: &BTreeSet<EndpointId>) {
        if updated.is_empty() {
            return;
        }
        for status in up(dataplane).filter(|status| updated.contains(&status.id)) {
            if let Some(endpoint) = self.endpoints.get(&status.id)
                && let Err(error) = self.outlets.files.up(&status.id, file_of(endpoint))
            {
                self.problems
                    .push(format!("endpoint status file of {}: {error}", text(&status.id)));
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
            Delta::ProgramAdd { key, program } => {
                self.rules.insert(key, program.rules.len());
            }
            Delta::ProgramRemove { key } => {
                self.rules.remove(&key);
            }
            _ => {}
        }
    }

    fn note(&mut self, outcome: Result<ApplyReport, dataplane::Error>) {
        match outcome {
            Ok(report) => self.report(report),
            Err(error) => {
                self.outlets.metrics.dataplane_failures.inc();
                self.problems.push(error.to_string());
            }
        }
    }

    fn report(&mut self, report: ApplyReport) {
        for status in report.changed {
            tracing::info!(endpoint = %text(&status.id), interface = status.interface, state = ?status.state, "endpoint");
            let outcome = match (&status.state, self.endpoints.get(&status.id)) {
                (EndpointState::Up, Some(endpoint)) => self.outlets.files.up(&status.id, file_of(endpoint)),
                _ => self.outlets.files.down(&status.id),
            };
            if let Err(error) = outcome {
                self.problems
                    .push(format!("endpoint status file of {}: {error}", text(&status.id)));
            }
        }
        for id in report.removed {
            tracing::info!(endpoint = %text(&id), "endpoint removed");
            if let Err(error) = self.outlets.files.down(&id) {
                self.problems
                    .push(format!("endpoint status file of {}: {error}", text(&id)));
            }
        }
        // The report has all of them each time.
        for conflict in &report.conflicts {
            if !self.conflicts.contains(conflict) {
                tracing::warn!(destination = %conflict.destination, holder = conflict.holder, "route held by another");
            }
        }
        self.conflicts = report.conflicts;
        self.problems.extend(report.errors);
    }

    fn publish(&mut self, dataplane: &Dataplane, resynced: bool) {
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
        let endpoints = endpoints.collect();
        {
            let mut published = self.outlets.view.lock();
            published.endpoints = endpoints;
            published.endpoints_complete = self.initial_sync == InitialSync::Done;
        }
        let problems = std::mem::take(&mut self.problems);
        for problem in problems.iter().filter(|problem| !self.warned.contains(problem)) {
            tracing::warn!(%problem, "dataplane");
        }
        if resynced || !problems.is_empty() {
            self.warned = problems;
        }
        // What went wrong counts until a resync went well.
        match (self.warned.first(), &self.initial_sync) {
            (Some(problem), _) => self.outlets.health.not_ready(COMPONENT, problem.clone()),
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

fn any_failed(dataplane: &Dataplane) -> bool {
    let failed = |status: &dataplane::EndpointStatus| matches!(status.state, EndpointState::Error(_));
    dataplane.statuses().iter().any(failed)
}

/// The deltas without those that a later one supersedes.
fn compacted(deltas: Vec<Delta>) -> Vec<Delta> {
    let mut passing = BTreeSet::new();
    let mut added = BTreeSet::new();
    for delta in &deltas {
        match delta {
            Delta::ProgramAdd { key, .. } => {
                added.insert(*key);
            }
            Delta::ProgramRemove { key } if added.contains(key) => {
                passing.insert(*key);
            }
            _ => {}
        }
    }
    let (mut nets, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    let mut kept: Vec<Delta> = deltas
        .into_iter()
        .rev()
        .filter(|delta| match delta {
            Delta::Identity { net, .. } => nets.insert(net.trunc()),
            Delta::EndpointUpdate(endpoint) => endpoints.insert(endpoint.id.clone()),
            Delta::EndpointRemove(id) => endpoints.insert(id.clone()),
            Delta::ProgramAdd { key, .. }
            | Delta::ProgramIdentities { key, .. }
            | Delta::ProgramRemove { key } => !passing.contains(key),
        })
        .collect();
    kept.reverse();
    kept
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use policy_engine::output::{IdentityId, Program};

    #[test]
    fn compaction_keeps_the_last_word_and_removals_of_what_was_there() {
        let id = |name: &str| EndpointId {
            orchestrator: "k8s".into(),
            workload: name.into(),
            endpoint: "eth0".into(),
        };
        let identity = |number| Delta::Identity {
            net: "10.0.0.1/32".parse().unwrap(),
            identity: IdentityId(number),
        };
        let key = ProgramKey(7);
        let deltas = vec![
            identity(1),
            Delta::EndpointRemove(id("a")),
            Delta::ProgramRemove { key },
            Delta::EndpointRemove(id("b")),
            identity(2),
            Delta::EndpointRemove(id("a")),
        ];
        let kept = compacted(deltas);
        assert_eq!(
            kept,
            [
                Delta::ProgramRemove { key },
                Delta::EndpointRemove(id("b")),
                identity(2),
                Delta::EndpointRemove(id("a")),
            ]
        );
    }

    #[test]
    fn compaction_leaves_out_programs_that_have_come_and_gone() {
        let program = Program {
            rules: Vec::new(),
            vectors: Vec::new(),
            source_identity: None,
            destination_identity: None,
            source_net: None,
            destination_net: None,
            destination_port: None,
            source_port: None,
            icmp: None,
            icmp_other: 0,
            source_tuple: None,
            destination_tuple: None,
        };
        let program = Arc::new(program);
        let add = |key| Delta::ProgramAdd {
            key: ProgramKey(key),
            program: Arc::clone(&program),
        };
        let remove = |key| Delta::ProgramRemove { key: ProgramKey(key) };
        let deltas = vec![add(2), remove(1), add(3), remove(2), add(4), remove(3)];
        assert_eq!(compacted(deltas), [remove(1), add(4)]);
    }
}
