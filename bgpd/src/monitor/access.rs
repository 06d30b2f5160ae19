//! Questions to the RIB's owner.

use std::collections::HashMap;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::Request;
use crate::config::NeighborKey;
use crate::rib::{Counters, PeerSettings, Rib};
use crate::wire::Family;

/// Places of a table that are counted in one turn: less work for each.
const COUNTED_PLACES: u32 = 16_384;

/// A question to the RIB.
pub(crate) type Question = Box<dyn FnOnce(&Rib) + Send>;

/// Counts the routes of every peer, by family, in pages; none if the speaker is stopping.
pub(crate) async fn count(rib: &dyn RibAccess) -> Option<HashMap<NeighborKey, [Counters; 2]>> {
    let mut total: HashMap<NeighborKey, [Counters; 2]> = HashMap::new();
    for (at, family) in Family::ALL.into_iter().enumerate() {
        let mut counters = FxHashMap::default();
        for from in (0..).step_by(COUNTED_PLACES as usize) {
            let to = from + COUNTED_PLACES;
            let more;
            (counters, more) = ask(rib, move |rib| {
                rib.count_in(family, from..to, &mut counters);
                (counters, to < rib.places(family))
            })
            .await?;
            if !more {
                break;
            }
        }
        let by_key = ask(rib, move |rib| {
            let of = |peer: &PeerSettings| {
                let counters = counters.get(&rib.peer(peer.key)?)?;
                Some((peer.key, *counters))
            };
            rib.peers().filter_map(of).collect::<Vec<_>>()
        });
        for (key, counters) in by_key.await? {
            if let Some(family) = total.entry(key).or_default().get_mut(at) {
                *family = counters;
            }
        }
    }
    Some(total)
}

/// The way to the RIB's owner.
pub(crate) trait RibAccess: Send + Sync {
    /// Passes on a request.
    fn monitor(&self, request: Request);
    /// Asks.
    fn query(&self, question: Question);
}

/// Asks the RIB's owner; none if the speaker is stopping.
pub(crate) async fn ask<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> Option<T> {
    question_to(rib, question).await.ok()
}

/// The same for threads that may wait.
pub(crate) fn ask_blocking<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> Option<T> {
    question_to(rib, question).blocking_recv().ok()
}

fn question_to<T: Send + 'static>(
    rib: &dyn RibAccess,
    question: impl FnOnce(&Rib) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    rib.query(Box::new(move |rib| {
        // Whoever asked may not wait any more.
        let _ = answer.send(question(rib));
    }));
    answered
}
