//! What an operator does with a running speaker: look closely, reset, drain, watch.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::rib_queue::RibControl;
use super::running::Running;
use super::{RouteStatus, SpeakerError, SpeakerHandle, route_status};
use crate::config::NeighborKey;
use crate::monitor::{self, Event, Interest, Request, ShownRoute, Subscription, View};
use crate::rib::{Memory, Rib, ToldView, Totals};
use crate::session::State;
use crate::wire::{Attributes, Prefix};

/// Which routes of a session to go through again while it stays up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftReset {
    /// The neighbour is asked to send its routes again (RFC 2918).
    In,
    /// It is sent ours again.
    Out,
    /// Both.
    Both,
}

/// Everything about one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteExplanation {
    /// The prefix.
    pub prefix: Prefix,
    /// Its paths, the best one first.
    pub paths: Vec<RouteStatus>,
    /// What each peer is told.
    pub told: Vec<ToldView>,
    /// Why the kernel does not have the route, if it should.
    pub kernel_problem: Option<String>,
}

/// A prefix whose best path changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// When.
    pub at: SystemTime,
    /// The prefix.
    pub prefix: Prefix,
    /// The best path's attributes; none if the prefix is gone.
    pub best: Option<Arc<Attributes>>,
}

/// Changes of the selection, as they happen.
#[derive(Debug)]
pub struct RouteChanges {
    speaker: WeakSpeaker,
    id: u64,
    subscription: Subscription,
}

impl RouteChanges {
    /// The next ones. None once this reader was too slow and has missed some, or the speaker is stopping.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<RouteChange>> {
        loop {
            let observed = self.subscription.next().await?;
            if let Event::Routes(View::Selected, _, routes) = observed.event {
                let change = |route: ShownRoute| RouteChange {
                    at: observed.at,
                    prefix: route.prefix,
                    best: route.attributes,
                };
                return Some(routes.into_iter().map(change).collect());
            }
        }
    }
}

impl Drop for RouteChanges {
    fn drop(&mut self) {
        if let Some(speaker) = self.speaker.upgrade() {
            let request = Request::Unsubscribe(self.id);
            speaker.inner.rib.control(RibControl::Monitor(request));
        }
    }
}

/// A speaker, without keeping it.
#[derive(Clone)]
pub struct WeakSpeaker(std::sync::Weak<super::Inner>);

impl WeakSpeaker {
    /// The speaker, if anybody still keeps it.
    pub fn upgrade(&self) -> Option<SpeakerHandle> {
        let inner = self.0.upgrade()?;
        Some(SpeakerHandle { inner })
    }

    /// Whether it is this one.
    pub fn is(&self, speaker: &SpeakerHandle) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&speaker.inner))
    }
}

impl std::fmt::Debug for WeakSpeaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakSpeaker").finish_non_exhaustive()
    }
}

impl SpeakerHandle {
    /// The same speaker, without keeping it.
    pub fn downgrade(&self) -> WeakSpeaker {
        WeakSpeaker(Arc::downgrade(&self.inner))
    }

    /// Ends a session with Cease, administrative reset, and starts it again.
    ///
    /// # Errors
    /// If the neighbour is not configured or the speaker was stopped.
    pub async fn reset(&self, key: NeighborKey) -> Result<(), SpeakerError> {
        let running = self.inner.running.lock().await;
        let running = running.as_ref().ok_or(SpeakerError::Stopped)?;
        if running.reset(key) {
            Ok(())
        } else {
            Err(SpeakerError::UnknownNeighbor(key))
        }
    }

    /// Goes through the routes of a session again, which stays up. What a policy does to routes that were
    /// received is always up to date without this, because they are kept as they were received.
    ///
    /// # Errors
    /// If there is no such session, or the neighbour cannot be asked.
    pub async fn soft_reset(&self, key: NeighborKey, which: SoftReset) -> Result<(), SpeakerError> {
        let running = self.inner.running.lock().await;
        let running = running.as_ref().ok_or(SpeakerError::Stopped)?;
        let peer = running.peers().into_iter().find(|peer| peer.key() == key);
        let peer = peer.ok_or(SpeakerError::UnknownNeighbor(key))?;
        let (State::Established, Some(negotiated)) = (peer.state, peer.negotiated) else {
            return Err(SpeakerError::NotEstablished(key));
        };
        if which != SoftReset::Out {
            if !negotiated.route_refresh {
                return Err(SpeakerError::NoRouteRefresh(key));
            }
            if !running.ask_again(key) {
                return Err(SpeakerError::UnknownNeighbor(key));
            }
        }
        if which != SoftReset::In {
            self.inner.rib.control(RibControl::SendAgain { key });
        }
        Ok(())
    }

    /// Forgets the penalties of routes that have flapped, so that those which are dampened are used again: of a
    /// neighbour or of all, of a prefix or of all. Returns how many penalties there were.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn clear_dampening(
        &self,
        neighbor: Option<NeighborKey>,
        prefix: Option<Prefix>,
    ) -> Result<usize, SpeakerError> {
        let (answer, answered) = oneshot::channel();
        self.inner.rib.control(RibControl::ClearDampening {
            neighbor,
            prefix,
            answer,
        });
        answered.await.map_err(|_| SpeakerError::Stopped)
    }

    /// Begins to move traffic away before maintenance (RFC 8326), or ends that. Sessions stay as they are, and so do
    /// later changes of the configuration. Returns how many neighbours are told.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn set_draining(&self, draining: bool) -> Result<usize, SpeakerError> {
        let mut running = self.inner.running.lock().await;
        let running = running.as_mut().ok_or(SpeakerError::Stopped)?;
        let _context = self.inner.runtime.enter();
        running.set_draining(draining)?;
        let peers = running.peers().into_iter();
        Ok(peers.filter(|peer| peer.state == State::Established).count())
    }

    /// Whether traffic is being moved away.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn is_draining(&self) -> Result<bool, SpeakerError> {
        let running = self.inner.running.lock().await;
        running
            .as_ref()
            .map(Running::is_draining)
            .ok_or(SpeakerError::Stopped)
    }

    /// Everything about a prefix; none if it has no path.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn explain(&self, prefix: Prefix) -> Result<Option<RouteExplanation>, SpeakerError> {
        self.explain_where(move |rib| {
            let paths = rib.explain(prefix);
            (!paths.is_empty() || rib.originates_default(&prefix)).then_some(prefix.trunc())
        })
        .await
    }

    /// Everything about the longest prefix that holds an address; none if there is none.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn explain_address(&self, address: IpAddr) -> Result<Option<RouteExplanation>, SpeakerError> {
        self.explain_where(move |rib| {
            let host = Prefix::from(address);
            let lengths = (0..=host.prefix_len()).rev();
            let prefixes = lengths.filter_map(|length| Prefix::new(address, length).ok());
            prefixes
                .map(|prefix| prefix.trunc())
                .find(|prefix| !rib.explain(*prefix).is_empty() || rib.originates_default(prefix))
        })
        .await
    }

    async fn explain_where(
        &self,
        find: impl FnOnce(&Rib) -> Option<Prefix> + Send + 'static,
    ) -> Result<Option<RouteExplanation>, SpeakerError> {
        let found = self
            .query(move |rib| {
                let prefix = find(rib)?;
                let paths = rib.explain(prefix).into_iter();
                Some(RouteExplanation {
                    prefix,
                    paths: paths.map(|path| route_status(rib, path)).collect(),
                    told: rib.told(&prefix),
                    kernel_problem: None,
                })
            })
            .await?;
        Ok(found.map(|explanation| {
            let status = self.fib_status();
            let refused = status.iter().flat_map(|status| &status.refused_routes);
            let kernel_problem = refused
                .filter(|refused| refused.prefix == explanation.prefix)
                .map(|refused| refused.reason.to_string())
                .next();
            RouteExplanation {
                kernel_problem,
                ..explanation
            }
        }))
    }

    /// Sizes of the RIB.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn totals(&self) -> Result<Totals, SpeakerError> {
        self.query(Rib::totals).await
    }

    /// What the RIB takes.
    ///
    /// # Errors
    /// If the speaker was stopped.
    pub async fn memory(&self) -> Result<Memory, SpeakerError> {
        self.query(Rib::memory).await
    }

    /// Changes of the selection from now on.
    pub fn watch_routes(&self) -> RouteChanges {
        let interest = Interest {
            selected: true,
            ..Interest::default()
        };
        let (subscriber, subscription) = monitor::queue(interest);
        let id: u64 = rand::random();
        self.inner
            .rib
            .control(RibControl::Monitor(Request::Subscribe(id, subscriber)));
        RouteChanges {
            speaker: self.downgrade(),
            id,
            subscription,
        }
    }
}
