//! The recent flow events, kept for readers of the local API.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api_proto::v1::Flow;
use tokio::sync::broadcast;

/// Events that a follower may lag behind before it misses some.
const FOLLOW_LAG_EVENTS_MAX: usize = 4096;

/// A bounded log of flow events with followers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FlowLog {
    inner: Arc<Mutex<Inner>>,
    follow: broadcast::Sender<Flow>,
}

#[derive(Debug)]
struct Inner {
    flows: VecDeque<Flow>,
    flows_max: usize,
    sequence_next: u64,
    lost: u64,
}

impl FlowLog {
    /// A log that keeps the newest `flows_max` events.
    pub fn new(flows_max: usize) -> Self {
        let inner = Inner {
            flows: VecDeque::new(),
            flows_max: flows_max.max(1),
            sequence_next: 1,
            lost: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            follow: broadcast::channel(FOLLOW_LAG_EVENTS_MAX).0,
        }
    }

    /// Adds an event and gives it the next sequence number.
    pub fn push(&self, mut flow: Flow) {
        let mut inner = self.lock();
        flow.sequence = inner.sequence_next;
        inner.sequence_next += 1;
        if inner.flows.len() >= inner.flows_max {
            inner.flows.pop_front();
        }
        // Nobody following is no error.
        let _ = self.follow.send(flow.clone());
        inner.flows.push_back(flow);
    }

    /// Sets how many events the kernel side has dropped so far.
    pub fn set_lost(&self, lost: u64) {
        self.lock().lost = lost;
    }

    /// The newest `limit` events (0: all kept) after a sequence number and with an action ("" for any), oldest
    /// first, and the number of lost ones.
    pub fn list(&self, limit: usize, after_sequence: u64, action: &str) -> (Vec<Flow>, u64) {
        let inner = self.lock();
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut flows: Vec<Flow> = inner
            .flows
            .iter()
            .rev()
            .take_while(|flow| flow.sequence > after_sequence)
            .filter(|flow| action.is_empty() || flow.action == action)
            .take(limit)
            .cloned()
            .collect();
        flows.reverse();
        (flows, inner.lost)
    }

    /// Events from now on.
    pub fn follow(&self) -> broadcast::Receiver<Flow> {
        self.follow.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(action: &str) -> Flow {
        Flow {
            action: action.into(),
            ..Flow::default()
        }
    }

    #[test]
    fn keeps_the_newest_in_order() {
        let log = FlowLog::new(3);
        for action in ["allow", "deny", "allow", "deny"] {
            log.push(flow(action));
        }
        let sequences = |(flows, _): (Vec<Flow>, u64)| flows.iter().map(|f| f.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(log.list(0, 0, "")), [2, 3, 4]);
        assert_eq!(sequences(log.list(1, 0, "")), [4]);
        assert_eq!(sequences(log.list(0, 2, "deny")), [4]);
        log.set_lost(7);
        assert_eq!(log.list(0, 0, "").1, 7);
    }

    #[test]
    fn followers_see_what_comes_after() {
        let log = FlowLog::new(3);
        log.push(flow("allow"));
        let mut follower = log.follow();
        log.push(flow("deny"));
        assert_eq!(follower.try_recv().unwrap().sequence, 2);
        assert!(follower.try_recv().is_err());
    }
}
