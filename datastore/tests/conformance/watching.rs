//! A watch stream in a case.

use std::time::Duration;

use datastore::server::pb::etcdserverpb::watch_client::WatchClient;
use datastore::server::pb::etcdserverpb::watch_request::RequestUnion;
use datastore::server::pb::etcdserverpb::*;
use datastore::server::pb::mvccpb::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use crate::case::Case;
use crate::normal::Normal;

const RESPONSE_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing must come for the stream to count as silent.
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct Watching {
    requests: Option<mpsc::Sender<WatchRequest>>,
    /// Still opening until the first response: etcd answers nothing before it is asked something.
    opening: Option<JoinHandle<Result<Response<Streaming<WatchResponse>>, Status>>>,
    responses: Option<Streaming<WatchResponse>>,
    base: i64,
}

pub(crate) fn watch(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

impl Watching {
    pub(crate) fn open(mut client: WatchClient<Channel>, base: i64) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let opening = tokio::spawn(async move { client.watch(ReceiverStream::new(receiver)).await });
        Self {
            requests: Some(requests),
            opening: Some(opening),
            responses: None,
            base,
        }
    }

    pub(crate) async fn ask(&self, request: RequestUnion) {
        let requests = self.requests.as_ref().expect("an open stream");
        requests
            .send(WatchRequest {
                request_union: Some(request),
            })
            .await
            .expect("an open stream");
    }

    /// Sends a request of no kind.
    pub(crate) async fn ask_nothing(&self) {
        let requests = self.requests.as_ref().expect("an open stream");
        requests
            .send(WatchRequest { request_union: None })
            .await
            .expect("an open stream");
    }

    pub(crate) async fn create(&self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request)).await;
    }

    pub(crate) async fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
    }

    pub(crate) async fn progress(&self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    /// Stops asking; the server may go on answering.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    async fn receive(&mut self) -> Result<Option<WatchResponse>, Status> {
        if let Some(opening) = &mut self.opening {
            let opened = opening.await.expect("a task")?;
            self.opening = None;
            self.responses = Some(opened.into_inner());
        }
        self.responses.as_mut().expect("an open stream").message().await
    }

    pub(crate) async fn message(&mut self) -> Result<WatchResponse, Status> {
        match tokio::time::timeout(RESPONSE_WITHIN, self.receive()).await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err(Status::cancelled("the stream ended")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("no response came")),
        }
    }

    /// Writes down the next response.
    pub(crate) async fn next(&mut self, case: &mut Case) -> Option<WatchResponse> {
        match self.message().await {
            Ok(response) => {
                let mut normal = response.clone();
                normal.normalise(self.base);
                case.note(&normal);
                Some(response)
            }
            Err(status) => {
                case.refusal(&status);
                None
            }
        }
    }

    /// Writes down the next `count` responses in the order of their watches: servers may interleave watches.
    pub(crate) async fn next_of_each(&mut self, case: &mut Case, count: usize) {
        let mut responses = Vec::new();
        for _ in 0..count {
            match self.message().await {
                Ok(mut response) => {
                    response.normalise(self.base);
                    responses.push(response);
                }
                Err(status) => case.refusal(&status),
            }
        }
        responses.sort_by_key(|response| response.watch_id);
        responses.iter().for_each(|response| case.note(response));
    }

    /// Writes down the next `count` events of one watch, however they are spread over responses, and that no
    /// revision was spread over two (unless in marked fragments). Gives the last response's header revision.
    pub(crate) async fn events(&mut self, case: &mut Case, count: usize) -> i64 {
        let mut events: Vec<Event> = Vec::new();
        let mut whole = true;
        let mut in_fragments = false;
        let mut header = 0;
        while events.len() < count {
            let response = match self.message().await {
                Ok(response) => response,
                Err(status) => {
                    case.refusal(&status);
                    break;
                }
            };
            header = response.header.as_ref().map_or(0, |header| header.revision);
            let first = response
                .events
                .first()
                .and_then(|event| event.kv.as_ref())
                .map(|kv| kv.mod_revision);
            let last = events
                .last()
                .and_then(|event| event.kv.as_ref())
                .map(|kv| kv.mod_revision);
            whole &= in_fragments || last.is_none() || first > last;
            let newest = response
                .events
                .iter()
                .filter_map(|event| event.kv.as_ref())
                .map(|kv| kv.mod_revision)
                .max();
            whole &= newest <= Some(header);
            in_fragments = response.fragment;
            events.extend(response.events);
        }
        events.normalise(self.base);
        events.iter().for_each(|event| case.note(event));
        case.note(("revisions came whole", whole, "more", events.len() > count));
        header - self.base
    }

    /// Writes down that nothing comes for a while.
    pub(crate) async fn silence(&mut self, case: &mut Case) {
        match tokio::time::timeout(SILENCE, self.receive()).await {
            Err(_) => case.note("silence"),
            Ok(Ok(Some(mut response))) => {
                response.normalise(self.base);
                case.note(("not silent", response));
            }
            Ok(other) => case.note(("ended", other)),
        }
    }
}
