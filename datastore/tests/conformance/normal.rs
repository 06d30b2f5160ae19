//! Takes out of an answer what is a server's own: its ids, its term, and where its revisions start.

use datastore::server::pb::etcdserverpb::response_op::Response;
use datastore::server::pb::etcdserverpb::*;
use datastore::server::pb::mvccpb::{Event, KeyValue};

pub(crate) trait Normal {
    fn normalise(&mut self, base: i64);
}

/// Revisions below this do not belong to the case: zero and the marks for "none".
fn relative(revision: &mut i64, base: i64) {
    if *revision > 0 {
        *revision -= base;
    }
}

impl Normal for ResponseHeader {
    fn normalise(&mut self, base: i64) {
        // Whether an id is there must be equal, the id itself is not.
        self.cluster_id = u64::from(self.cluster_id != 0);
        self.member_id = u64::from(self.member_id != 0);
        self.raft_term = u64::from(self.raft_term != 0);
        relative(&mut self.revision, base);
    }
}

impl<T: Normal> Normal for Option<T> {
    fn normalise(&mut self, base: i64) {
        if let Some(inner) = self {
            inner.normalise(base);
        }
    }
}

impl<T: Normal> Normal for Vec<T> {
    fn normalise(&mut self, base: i64) {
        self.iter_mut().for_each(|item| item.normalise(base));
    }
}

impl Normal for KeyValue {
    fn normalise(&mut self, base: i64) {
        relative(&mut self.create_revision, base);
        relative(&mut self.mod_revision, base);
        if self.value.len() > 1000 {
            self.value = format!("{} bytes", self.value.len()).into();
        }
    }
}

impl Normal for Event {
    fn normalise(&mut self, base: i64) {
        self.kv.normalise(base);
        self.prev_kv.normalise(base);
    }
}

impl Normal for RangeResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.kvs.normalise(base);
    }
}

impl Normal for PutResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.prev_kv.normalise(base);
    }
}

impl Normal for DeleteRangeResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.prev_kvs.normalise(base);
    }
}

impl Normal for TxnResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.responses.normalise(base);
    }
}

impl Normal for ResponseOp {
    fn normalise(&mut self, base: i64) {
        match &mut self.response {
            Some(Response::ResponseRange(answer)) => answer.normalise(base),
            Some(Response::ResponsePut(answer)) => answer.normalise(base),
            Some(Response::ResponseDeleteRange(answer)) => answer.normalise(base),
            Some(Response::ResponseTxn(answer)) => answer.normalise(base),
            None => {}
        }
    }
}

impl Normal for WatchResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.events.normalise(base);
        relative(&mut self.compact_revision, base);
    }
}

impl Normal for LeaseTimeToLiveResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.keys.sort();
        // A second may have passed since the grant.
        if self.ttl == self.granted_ttl {
            self.ttl -= 1;
        }
    }
}

impl Normal for LeaseLeasesResponse {
    fn normalise(&mut self, base: i64) {
        self.header.normalise(base);
        self.leases.sort_by_key(|lease| lease.id);
    }
}

macro_rules! header_only {
    ($($message:ty),+ $(,)?) => {
        $(impl Normal for $message {
            fn normalise(&mut self, base: i64) {
                self.header.normalise(base);
            }
        })+
    };
}

header_only!(
    CompactionResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    AlarmResponse,
    DefragmentResponse,
    HashKvResponse,
    AuthenticateResponse,
    AuthUserListResponse,
    AuthRoleListResponse,
    AuthDisableResponse,
);
