//! One case on one server: it asks, and writes down each answer in a form that does not depend on the server.

use std::fmt::Debug;
use std::time::Duration;

use datastore::server::pb::etcdserverpb::auth_client::AuthClient;
use datastore::server::pb::etcdserverpb::cluster_client::ClusterClient;
use datastore::server::pb::etcdserverpb::kv_client::KvClient;
use datastore::server::pb::etcdserverpb::lease_client::LeaseClient;
use datastore::server::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use datastore::server::pb::etcdserverpb::request_op::Request;
use datastore::server::pb::etcdserverpb::watch_client::WatchClient;
use datastore::server::pb::etcdserverpb::*;
use futures::future::BoxFuture;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::normal::Normal;
use crate::servers::{Embedded, Etcd};
use crate::watching::Watching;

const CASE_SECONDS_MAX: u64 = 30;

pub(crate) type CaseFn = for<'a> fn(&'a mut Case) -> BoxFuture<'a, ()>;

/// Runs the cases in order on a fresh pair of servers and reports every difference.
pub(crate) async fn compare(group: &str, cases: &[(&str, CaseFn)]) {
    let (etcd, embedded) = tokio::join!(Etcd::start(), Embedded::start());
    let mut differences = Vec::new();
    for (name, case) in cases {
        let expected = transcript(&etcd.url, *case).await;
        let found = transcript(&embedded.url, *case).await;
        assert!(!expected.is_empty(), "case {group}::{name} asked nothing");
        if let Some(difference) = difference(&expected, &found) {
            differences.push(format!("case {group}::{name}\n{difference}"));
        }
    }
    embedded.server.shutdown().await;
    assert!(
        differences.is_empty(),
        "{} of {} cases differ:\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}

fn difference(expected: &[String], found: &[String]) -> Option<String> {
    let lines = expected.len().max(found.len());
    let nothing = "(nothing)".to_owned();
    let at = (0..lines).find(|line| expected.get(*line) != found.get(*line))?;
    let [expected, found] = [expected, found].map(|transcript| transcript.get(at).unwrap_or(&nothing));
    Some(format!(
        "  step {}\n    etcd:  {expected}\n    store: {found}",
        at + 1
    ))
}

async fn transcript(url: &str, case: CaseFn) -> Vec<String> {
    let mut run = Case::new(url).await;
    let done = tokio::time::timeout(Duration::from_secs(CASE_SECONDS_MAX), case(&mut run)).await;
    if done.is_err() {
        run.transcript.push(format!("no end within {CASE_SECONDS_MAX} s"));
    }
    run.transcript
}

/// Declares a group: its test runs the named functions of the module.
#[macro_export]
macro_rules! group {
    ($group:ident: $($case:ident),+ $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $group() {
            let cases: &[(&str, $crate::case::CaseFn)] =
                &[$((stringify!($case), |case| Box::pin($case(case)))),+];
            $crate::case::compare(stringify!($group), cases).await;
        }
    };
}

pub(crate) struct Case {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) lease: LeaseClient<Channel>,
    pub(crate) maintenance: MaintenanceClient<Channel>,
    pub(crate) cluster: ClusterClient<Channel>,
    pub(crate) auth: AuthClient<Channel>,
    watch: WatchClient<Channel>,
    /// The revision at the case's start; answers are written down relative to it.
    pub(crate) base: i64,
    pub(crate) transcript: Vec<String>,
}

pub(crate) type Answer<T> = Result<Response<T>, Status>;

impl Case {
    async fn new(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned())
            .expect("a URL")
            .connect()
            .await
            .expect("a server");
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        // What earlier cases left behind is gone.
        let all = DeleteRangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            prev_kv: false,
        };
        let base = kv
            .delete_range(all)
            .await
            .expect("a clean start")
            .into_inner()
            .header
            .expect("a header")
            .revision;
        Self {
            kv,
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
            watch: WatchClient::new(channel).max_decoding_message_size(usize::MAX),
            base,
            transcript: Vec::new(),
        }
    }

    /// Writes down anything.
    pub(crate) fn note(&mut self, what: impl Debug) {
        self.transcript.push(format!("{what:?}"));
    }

    /// Writes down an answer: the message without what is the server's own, or the code and words of a refusal.
    pub(crate) fn answer<T: Normal + Clone + Debug>(&mut self, answer: Answer<T>) -> Option<T> {
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                let mut normal = answer.clone();
                normal.normalise(self.base);
                self.note(&normal);
                Some(answer)
            }
            Err(status) => {
                self.refusal(&status);
                None
            }
        }
    }

    pub(crate) fn refusal(&mut self, status: &Status) {
        assert!(
            !matches!(status.code(), Code::Unavailable | Code::Unknown),
            "the server is away: {status:?}"
        );
        self.note((status.code(), status.message()));
    }

    pub(crate) async fn range(&mut self, request: RangeRequest) -> Option<RangeResponse> {
        let answer = self.kv.range(request).await;
        self.answer(answer)
    }

    pub(crate) async fn get(&mut self, key: &str) -> Option<RangeResponse> {
        self.range(range(key)).await
    }

    /// Everything that is there.
    pub(crate) async fn all(&mut self) -> Option<RangeResponse> {
        self.range(RangeRequest {
            range_end: vec![0].into(),
            ..range("\0")
        })
        .await
    }

    pub(crate) async fn put(&mut self, request: PutRequest) -> Option<PutResponse> {
        let answer = self.kv.put(request).await;
        self.answer(answer)
    }

    pub(crate) async fn set(&mut self, key: &str, value: &str) {
        self.put(put(key, value)).await;
    }

    pub(crate) async fn delete(&mut self, request: DeleteRangeRequest) -> Option<DeleteRangeResponse> {
        let answer = self.kv.delete_range(request).await;
        self.answer(answer)
    }

    pub(crate) async fn txn(&mut self, request: TxnRequest) -> Option<TxnResponse> {
        let answer = self.kv.txn(request).await;
        self.answer(answer)
    }

    /// Compacts at a revision relative to the case's start.
    pub(crate) async fn compact(&mut self, relative: i64, physical: bool) {
        let request = CompactionRequest {
            revision: self.base + relative,
            physical,
        };
        let answer = self.kv.compact(request).await;
        self.answer(answer);
    }

    pub(crate) async fn grant(&mut self, id: i64, ttl: i64) -> Option<LeaseGrantResponse> {
        let answer = self.lease.lease_grant(LeaseGrantRequest { id, ttl }).await;
        self.answer(answer)
    }

    pub(crate) async fn revoke(&mut self, id: i64) {
        let answer = self.lease.lease_revoke(LeaseRevokeRequest { id }).await;
        self.answer(answer);
    }

    /// Opens a watch stream.
    pub(crate) fn watching(&mut self) -> Watching {
        Watching::open(self.watch.clone(), self.base)
    }
}

pub(crate) fn range(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn prefix(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: after(key).into(),
        ..Default::default()
    }
}

/// The end of the range of all keys that start so.
pub(crate) fn after(key: &str) -> String {
    let mut end = key.to_owned().into_bytes();
    *end.last_mut().expect("a key") += 1;
    String::from_utf8(end).expect("an ASCII key")
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

pub(crate) fn op_range(key: &str) -> RequestOp {
    op(Request::RequestRange(range(key)))
}

pub(crate) fn op_put(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(put(key, value)))
}

pub(crate) fn op_delete(key: &str) -> RequestOp {
    op(Request::RequestDeleteRange(delete(key)))
}

pub(crate) fn op_txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        compare,
        success,
        failure,
    }))
}

pub(crate) fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}
