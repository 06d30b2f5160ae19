//! BMP stations, MRT files and sources, as the configuration wants them: in a runtime of their own, so that no
//! session waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::rib_queue::{RibControl, RibSender};
use super::source;
use crate::bmp::{StationHandle, StationStatus, since_epoch};
use crate::config::{BmpStation, Config, MrtRib, MrtSource, MrtUpdates};
use crate::monitor::{Question, Request, RibAccess};
use crate::mrt::{self, UpdateWriter, UpdatesStatus};

/// How long the end of all of it may take.
const STOP_TIME: Duration = Duration::from_secs(3);

impl RibAccess for RibSender {
    fn monitor(&self, request: Request) {
        self.control(RibControl::Monitor(request));
    }

    fn query(&self, question: Question) {
        self.control(RibControl::Query(question));
    }
}

/// How those who watch fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MonitoringStatus {
    /// BMP stations.
    pub stations: Vec<(BmpStation, StationStatus)>,
    /// Files of updates, if they are written.
    pub updates: Option<UpdatesStatus>,
}

/// What runs. The identity is that of our AS and BGP identifier.
pub(super) struct Monitoring {
    rib: RibSender,
    runtime: Option<Runtime>,
    identity: Option<Identity>,
    stations: HashMap<BmpStation, StationHandle>,
    dumps: Option<(MrtRib, Task)>,
    updates: Option<(MrtUpdates, Task, Arc<Mutex<UpdatesStatus>>)>,
    sources: HashMap<MrtSource, Task>,
}

/// Our AS and BGP identifier: whoever was told another one has to be told again.
type Identity = (u32, std::net::Ipv4Addr);

struct Task {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Task {
    fn stop(self) -> JoinHandle<()> {
        self.cancel.cancel();
        self.task
    }
}

impl Monitoring {
    pub(super) fn new(rib: RibSender) -> Self {
        Self {
            rib,
            runtime: None,
            identity: None,
            stations: HashMap::new(),
            dumps: None,
            updates: None,
            sources: HashMap::new(),
        }
    }

    /// Goes over to another configuration; what it leaves as it is goes on.
    pub(super) fn apply(&mut self, config: &Config) {
        let identity = Some((config.local_as, config.router_id));
        let renamed = std::mem::replace(&mut self.identity, identity) != identity;
        for (_, station) in self
            .stations
            .extract_if(|station, _| renamed || !config.bmp.contains(station))
        {
            // It ends by itself once its last message is written.
            drop(station.stop());
        }
        for (_, source) in self
            .sources
            .extract_if(|source, _| renamed || !config.sources.contains(source))
        {
            drop(source.stop());
        }
        if let Some((_, task)) = self
            .dumps
            .take_if(|(settings, _)| renamed || config.mrt.rib.as_ref() != Some(settings))
        {
            drop(task.stop());
        }
        if let Some((_, task, _)) = self
            .updates
            .take_if(|(settings, ..)| renamed || config.mrt.updates.as_ref() != Some(settings))
        {
            drop(task.stop());
        }
        let idle =
            config.bmp.is_empty() && config.mrt == crate::config::Mrt::default() && config.sources.is_empty();
        if idle || !self.has_runtime() {
            return;
        }
        let Some(runtime) = &self.runtime else { return };
        let _context = runtime.enter();
        let rib: Arc<dyn RibAccess> = Arc::new(self.rib.clone());
        for station in &config.bmp {
            self.stations.entry(station.clone()).or_insert_with(|| {
                StationHandle::start(
                    station.clone(),
                    config.local_as,
                    config.router_id,
                    Arc::clone(&rib),
                )
            });
        }
        if let Some(settings) = config.mrt.rib.as_ref().filter(|_| self.dumps.is_none()) {
            self.dumps = start_dumps(settings, config, &rib).map(|task| (settings.clone(), task));
        }
        if let Some(settings) = config.mrt.updates.as_ref().filter(|_| self.updates.is_none()) {
            let status = Arc::new(Mutex::new(UpdatesStatus::default()));
            let cancel = CancellationToken::new();
            let writer = UpdateWriter {
                settings: settings.clone(),
                local_as: config.local_as,
                rib: Arc::clone(&rib),
                cancel: cancel.clone(),
                status: Arc::clone(&status),
            };
            let task = Task {
                cancel,
                task: tokio::spawn(writer.run()),
            };
            self.updates = Some((settings.clone(), task, status));
        }
        for source in &config.sources {
            self.sources.entry(source.clone()).or_insert_with(|| {
                let cancel = CancellationToken::new();
                let task = source::start(source.clone(), config, self.rib.clone(), cancel.clone());
                Task { cancel, task }
            });
        }
    }

    fn has_runtime(&mut self) -> bool {
        if self.runtime.is_none() {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(1).thread_name("bgp-monitor").enable_all();
            match builder.build() {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(error) => tracing::error!(%error, "no thread for BMP and MRT: both are left out"),
            }
        }
        self.runtime.is_some()
    }

    pub(super) fn status(&self) -> MonitoringStatus {
        let stations = self.stations.iter();
        let updates = self.updates.as_ref().map(|(_, _, status)| status);
        MonitoringStatus {
            stations: stations
                .map(|(station, handle)| (station.clone(), handle.status()))
                .collect(),
            updates: updates.map(|status| status.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }

    /// Ends all of it: stations hear Termination, files get their names.
    pub(super) async fn stop(mut self) {
        let stations = self.stations.drain().map(|(_, station)| station.stop());
        let sources = self.sources.drain().map(|(_, source)| source.stop());
        let mut tasks: Vec<JoinHandle<()>> = stations.chain(sources).collect();
        tasks.extend(self.dumps.take().map(|(_, task)| task.stop()));
        tasks.extend(self.updates.take().map(|(_, task, _)| task.stop()));
        // What does not end in time ends with its runtime.
        let _ = timeout(STOP_TIME, futures::future::join_all(tasks)).await;
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Dumps at multiples of the interval since the epoch.
fn start_dumps(settings: &MrtRib, config: &Config, rib: &Arc<dyn RibAccess>) -> Option<Task> {
    let interval_s = u64::from(settings.interval_s?.max(1));
    let (settings, rib) = (settings.clone(), Arc::clone(rib));
    let (router_id, local_as) = (config.router_id, config.local_as);
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    let run = async move {
        loop {
            let now = since_epoch(SystemTime::now());
            let next = Duration::from_secs((now.as_secs() / interval_s + 1) * interval_s);
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(next.saturating_sub(now)) => {}
            }
            let (settings, rib) = (settings.clone(), Arc::clone(&rib));
            let dump = tokio::task::spawn_blocking(move || mrt::dump(&*rib, router_id, local_as, &settings));
            match dump.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "no MRT dump"),
                Err(error) => tracing::error!(%error, "no MRT dump"),
            }
        }
    };
    let task = tokio::spawn(run);
    Some(Task { cancel, task })
}
