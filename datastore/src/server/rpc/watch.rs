//! The watch stream: one task a stream, which tells its watches what the store committed.

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use crate::server::engine::Step;
use crate::server::limits::{FRAGMENT_BYTES_MAX, WATCH_RESPONSES_QUEUED_MAX};
use crate::server::pb::etcdserverpb::watch_request::RequestUnion;
use crate::server::pb::etcdserverpb::watch_server::Watch as WatchService;
use crate::server::pb::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::server::refusal::Refusal;
use crate::server::watch::fragments::cut;
use crate::server::watch::watcher::Watchers;

/// A progress notice that was asked for by hand belongs to no watch.
const NO_WATCH: i64 = -1;

pub(crate) struct Watch(pub(crate) Context);

#[tonic::async_trait]
impl WatchService for Watch {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (out, responses) = mpsc::channel(WATCH_RESPONSES_QUEUED_MAX);
        let stream = WatchStream {
            context: self.0.clone(),
            watchers: Watchers::default(),
            committed: self.0.store.committed(),
            out,
        };
        tokio::spawn(stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

struct WatchStream {
    context: Context,
    watchers: Watchers,
    committed: watch::Receiver<i64>,
    /// Bounded: while the client does not read, nothing is gathered for it.
    out: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// Why a stream ends: the client went, or the store cannot go on.
enum End {
    Gone,
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl WatchStream {
    async fn run(mut self, requests: Streaming<WatchRequest>) {
        let stop = self.context.stop.clone();
        let out = self.out.clone();
        let end = tokio::select! {
            end = self.serve(requests) => end,
            () = stop.cancelled() => End::Refused(Refusal::Stopped.into()),
        };
        if let End::Refused(status) = end {
            // No waiting: a client that does not read learns it from the closed connection.
            let _ = out.try_send(Err(status));
        }
    }

    async fn serve(&mut self, mut requests: Streaming<WatchRequest>) -> End {
        let mut ticks = tokio::time::interval(self.context.progress_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut open = true;
        loop {
            let turn = tokio::select! {
                request = requests.message(), if open => match request {
                    Ok(Some(request)) => self.request(request).await,
                    // The client may stop asking and go on listening.
                    Ok(None) => {
                        open = false;
                        Ok(())
                    }
                    Err(_) => return End::Gone,
                },
                changed = self.committed.changed() => match changed {
                    Ok(()) => self.tell().await.map(|_| ()),
                    Err(_) => return End::Refused(Refusal::Stopped.into()),
                },
                _ = ticks.tick() => self.tick().await,
                () = self.out.closed() => return End::Gone,
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    async fn request(&mut self, request: WatchRequest) -> Result<(), End> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(&create).await,
            Some(RequestUnion::CancelRequest(cancel)) => {
                if self.watchers.cancel(cancel.watch_id) {
                    let header = self.context.header();
                    let watch_id = cancel.watch_id;
                    self.send(WatchResponse {
                        header,
                        watch_id,
                        canceled: true,
                        ..Default::default()
                    })
                    .await?;
                }
                Ok(())
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                // The notice says that everything up to its revision was sent, so that is done first.
                let revision = self.tell().await?;
                let header = self.context.store.header(revision);
                self.send(WatchResponse {
                    header,
                    watch_id: NO_WATCH,
                    ..Default::default()
                })
                .await
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: &WatchCreateRequest) -> Result<(), End> {
        let current = self.context.store.revision();
        let created = self.watchers.create(request, current);
        let mut response = WatchResponse {
            header: self.context.store.header(current),
            created: true,
            ..Default::default()
        };
        match created {
            Ok(id) => response.watch_id = id,
            Err(reason) => {
                response.watch_id = NO_WATCH;
                response.canceled = true;
                response.cancel_reason = reason.to_string();
            }
        }
        self.send(response).await?;
        self.tell().await.map(|_| ())
    }

    /// Sends what the watches have not seen, in bounded steps; gives the revision that all of them are at.
    async fn tell(&mut self) -> Result<i64, End> {
        loop {
            self.committed.borrow_and_update();
            let watchers = std::mem::take(&mut self.watchers);
            let (watchers, step) = self.context.store.tell(watchers).await.map_err(Status::from)?;
            self.watchers = watchers;
            let Step {
                responses,
                compacted,
                done,
                revision,
            } = step;
            for (watch_id, compact_revision) in compacted {
                let header = self.context.store.header(0);
                let response = WatchResponse {
                    header,
                    watch_id,
                    compact_revision,
                    canceled: true,
                    ..Default::default()
                };
                self.send(response).await?;
            }
            for response in responses {
                if self.watchers.fragments(response.watch_id) {
                    for part in cut(response, FRAGMENT_BYTES_MAX) {
                        self.send(part).await?;
                    }
                } else {
                    self.send(response).await?;
                }
            }
            if done {
                return Ok(revision);
            }
        }
    }

    async fn tick(&mut self) -> Result<(), End> {
        let revision = self.tell().await?;
        for watch_id in self.watchers.progress() {
            let header = self.context.store.header(revision);
            self.send(WatchResponse {
                header,
                watch_id,
                ..Default::default()
            })
            .await?;
        }
        Ok(())
    }

    async fn send(&self, response: WatchResponse) -> Result<(), End> {
        self.out.send(Ok(response)).await.map_err(|_| End::Gone)
    }
}
