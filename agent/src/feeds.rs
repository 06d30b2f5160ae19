//! The threads that read what the kernel tells: flow events for the log, link events for the dataplane's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use dataplane::FlowEvents;

use crate::dataplane_thread::Command;
use crate::flows::FlowLog;
use crate::metrics::Metrics;

/// Link events that may wait for the thread. With more, reading pauses; what the kernel then drops becomes one resync.
const LINK_EVENTS_MAX: usize = 1024;
/// How long the reader of link events pauses.
const LINK_PAUSE: Duration = Duration::from_millis(10);
/// Flow events that are decoded at once.
const FLOW_BATCH_MAX: usize = 1024;
/// How long the reader of flow events waits before it looks whether it shall stop.
const FLOW_WAIT: Duration = Duration::from_millis(500);
/// The longest wait for a link event.
const LINK_WAIT: Duration = Duration::from_secs(5);
/// The pause after events could not be read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// One place of `LINK_EVENTS_MAX`, free again when this is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the thread that reads flow events until the process ends.
pub(crate) fn spawn_flow_reader(
    mut events: FlowEvents,
    log: FlowLog,
    metrics: Metrics,
) -> std::io::Result<()> {
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
pub(crate) fn spawn_link_monitor(
    mut monitor: netlink::Monitor,
    commands: Sender<Command>,
) -> std::io::Result<()> {
    let waiting = Arc::new(AtomicUsize::new(0));
    let run = move || {
        loop {
            while waiting.load(Ordering::Relaxed) >= LINK_EVENTS_MAX {
                std::thread::sleep(LINK_PAUSE);
            }
            let event = match monitor.next_within(LINK_WAIT) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "link events cannot be read");
                    std::thread::sleep(RETRY_INTERVAL);
                    netlink::Event::Resync
                }
            };
            if commands
                .send(Command::Link(event, Waiting::new(&waiting)))
                .is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("link-events".into())
        .spawn(run)
        .map(|_| ())
}
