//! Routes that are dampened: the time, and those that are not any longer.

use super::RibTask;
use crate::config::NeighborKey;
use crate::monitor::Touched;
use crate::rib::FreedRoutes;
use crate::session::Timestamp;
use crate::wire::Prefix;

impl RibTask {
    /// Says how late it is, where that matters to routes.
    pub(super) fn advance(&mut self) {
        if self.rib.dampens() {
            let freed = self.rib.advance(Timestamp(self.epoch.elapsed()));
            self.freed(freed);
        }
    }

    /// Forgets penalties; gives their number.
    pub(super) fn clear_dampening(&mut self, neighbor: Option<NeighborKey>, prefix: Option<Prefix>) -> usize {
        let (freed, count) = self.rib.clear_dampening(neighbor, prefix);
        self.freed(freed);
        count
    }

    fn freed(&mut self, freed: Vec<FreedRoutes>) {
        for (key, routes) in freed {
            tracing::debug!(neighbor = %key, routes = routes.len(), "routes are not dampened any longer");
            if let Some(id) = self.rib.peer(key).filter(|_| self.monitors.wants_updates()) {
                self.monitors
                    .updates((key, id), None, &Touched::routes(routes), &self.rib);
            }
        }
    }
}
