//! Bytes in, bytes out: the etcd calls that the typed client is made of.
//!
//! Every write is a transaction on one key that compares its version or ModRevision. Nothing here unwraps what a
//! server sends: a malformed answer is an error.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbResponseHeader, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::config::ClientConfig;
use crate::error::{Error, Result, StoreError};

/// How many keys one page of a list asks for.
pub const PAGE_KEYS: i64 = 1000;
/// The largest answer that is accepted; a page of the largest blocks is far below it.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;
/// How often a request that did no harm is repeated, beyond once an endpoint.
const EXTRA_ATTEMPTS: usize = 2;
/// The pause before a repetition.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often a list starts again because its revision was compacted between two pages.
const LIST_RESTARTS_MAX: usize = 3;

/// One key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawKv {
    /// The etcd key.
    pub key: String,
    /// The stored bytes.
    pub value: Bytes,
    /// The revision of its last change: what compare-and-swap compares.
    pub mod_revision: i64,
    /// The revision that created it.
    pub create_revision: i64,
}

/// What an answer says about the member that gave it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Which cluster.
    pub cluster_id: u64,
    /// Which member of it.
    pub member_id: u64,
    /// The store's revision at that moment.
    pub revision: i64,
}

impl From<&PbResponseHeader> for Header {
    fn from(header: &PbResponseHeader) -> Self {
        Self {
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            revision: header.revision,
        }
    }
}

/// What is read at once: one key, or all that start with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyRange {
    /// Exactly this key.
    Exact(String),
    /// All keys that start with this.
    Prefix(String),
}

impl KeyRange {
    /// The key or the prefix.
    pub fn start(&self) -> &str {
        match self {
            Self::Exact(key) | Self::Prefix(key) => key,
        }
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::Exact(exact) => key == exact,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }

    /// The first key after the range.
    pub(crate) fn end(&self) -> Vec<u8> {
        match self {
            Self::Exact(key) => key_after(key.as_bytes()),
            Self::Prefix(prefix) => prefix_end(prefix.as_bytes()),
        }
    }
}

fn key_after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Why a compare-and-swap was not done.
#[derive(Debug)]
pub enum Refused {
    /// Create: the key exists. Update, delete: it changed. With what is there now.
    Changed(RawKv),
    /// Update, delete: no such key.
    Missing,
}

/// A connection to the store.
#[derive(Clone)]
pub struct Etcd {
    client: etcd_client::Client,
    config: ClientConfig,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// Prepares the connection. Without a user nothing is sent yet; with one, it logs in.
    pub async fn connect(config: &ClientConfig) -> Result<Self> {
        let options = config.connect_options()?;
        let connect = etcd_client::Client::connect(&config.endpoints, Some(options));
        let client = tokio::time::timeout(config.request_timeout, connect)
            .await
            .map_err(|_| timed_out("connect", config))?
            .map_err(Error::from)?;
        Ok(Self {
            client,
            config: config.clone(),
        })
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) fn watch_client(&self) -> etcd_client::WatchClient {
        self.client
            .watch_client()
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    fn kv(&self) -> etcd_client::KvClient {
        self.client
            .kv_client()
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// One key, linearizable; `revision` asks for its state back then.
    pub async fn get(&self, key: &str, revision: Option<i64>) -> Result<(Header, Option<RawKv>)> {
        let response = self
            .attempt("a read", true, || {
                let mut kv = self.kv();
                let options = revision.map(|r| GetOptions::new().with_revision(r));
                async move { kv.get(key, options).await }
            })
            .await?
            .0;
        let header = header_of(response.header.as_ref())?;
        let kv = response.kvs.into_iter().next().map(raw_kv).transpose()?;
        Ok((header, kv))
    }

    /// All keys of a range, linearizable, in key order, all as of one revision however many pages it takes. The header
    /// is the first page's.
    pub async fn list(&self, range: &KeyRange, revision: Option<i64>) -> Result<(Header, Vec<RawKv>)> {
        let mut restarts = 0;
        loop {
            match self.list_once(range, revision).await {
                Err(e) if e.is_compacted() && revision.is_none() && restarts < LIST_RESTARTS_MAX => {
                    restarts += 1
                }
                other => return other,
            }
        }
    }

    async fn list_once(&self, range: &KeyRange, revision: Option<i64>) -> Result<(Header, Vec<RawKv>)> {
        let end = range.end();
        let mut start = range.start().as_bytes().to_vec();
        let mut all = Vec::new();
        let mut first: Option<Header> = None;
        loop {
            let at = first.map(|h| revision.unwrap_or(h.revision)).or(revision);
            let page = self
                .attempt("a list", true, || {
                    let mut kv = self.kv();
                    let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS);
                    if let Some(at) = at {
                        options = options.with_revision(at);
                    }
                    let start = start.clone();
                    async move { kv.get(start, Some(options)).await }
                })
                .await?
                .0;
            let header = header_of(page.header.as_ref())?;
            let first = first.get_or_insert(header);
            if first.cluster_id != header.cluster_id {
                return Err(malformed("two pages of a list came from different clusters"));
            }
            let Some(last) = page.kvs.last() else {
                return Ok((*first, all));
            };
            start = key_after(&last.key);
            for kv in page.kvs {
                match raw_kv(kv) {
                    Ok(kv) => all.push(kv),
                    Err(e) => {
                        tracing::warn!(error = %e, range = range.start(), "a stored key is passed over")
                    }
                }
            }
            if !page.more {
                return Ok((*first, all));
            }
        }
    }

    /// Writes a key that must not exist yet; gives its new revision.
    pub async fn create(&self, key: &str, value: &[u8], lease: Option<i64>) -> Result<Result<i64, Refused>> {
        let absent = Compare::version(key, CompareOp::Equal, 0);
        let outcome = self
            .swap("a create", Some(absent), put(key, value, lease), key)
            .await?;
        outcome.written()
    }

    /// Replaces a key that must still be at `mod_revision`; gives its new revision.
    pub async fn update(
        &self,
        key: &str,
        value: &[u8],
        mod_revision: i64,
        lease: Option<i64>,
    ) -> Result<Result<i64, Refused>> {
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, mod_revision);
        let outcome = self
            .swap("an update", Some(unchanged), put(key, value, lease), key)
            .await?;
        outcome.written()
    }

    /// Writes a key whatever is there; gives its new revision.
    pub async fn put(&self, key: &str, value: &[u8], lease: Option<i64>) -> Result<i64> {
        // Done twice it leaves the same value, so it may be repeated.
        let response = self
            .attempt("a write", true, || {
                let mut kv = self.kv();
                let options = lease.map(|lease| PutOptions::new().with_lease(lease));
                async move { kv.put(key, value, options).await }
            })
            .await?
            .0;
        Ok(header_of(response.header.as_ref())?.revision)
    }

    /// Removes a key, if given only when it is still at `mod_revision`; gives what it was.
    pub async fn delete(&self, key: &str, mod_revision: Option<i64>) -> Result<Result<RawKv, Refused>> {
        let compare = mod_revision.map(|r| Compare::mod_revision(key, CompareOp::Equal, r));
        let delete = TxnOp::delete(key, Some(DeleteOptions::new().with_prev_key()));
        let outcome = self.swap("a delete", compare, delete, key).await?;
        match (outcome.succeeded, outcome.operation) {
            (true, Some(PbTxnOpResponse::ResponseDeleteRange(deleted))) => {
                match deleted.prev_kvs.into_iter().next() {
                    Some(kv) => Ok(Ok(raw_kv(kv)?)),
                    None => Ok(Err(Refused::Missing)),
                }
            }
            (false, operation) => Ok(Err(refusal(operation)?)),
            _ => Err(malformed("a delete was answered by something else")),
        }
    }

    /// Removes all keys of a range; gives their number.
    pub async fn delete_range(&self, range: &KeyRange) -> Result<i64> {
        let response = self
            .attempt("a delete", true, || {
                let mut kv = self.kv();
                let options = DeleteOptions::new().with_range(range.end());
                let start = range.start().to_owned();
                async move { kv.delete(start, Some(options)).await }
            })
            .await?
            .0;
        Ok(response.deleted)
    }

    /// A lease of this many seconds; nothing keeps it alive.
    pub async fn grant_lease(&self, seconds: i64) -> Result<i64> {
        let response = self
            .attempt("a lease", true, || {
                let mut lease = self.client.lease_client();
                async move { lease.grant(seconds, None).await }
            })
            .await?;
        Ok(response.id())
    }

    /// Compare, then `operation` or a read of the key.
    async fn swap(
        &self,
        what: &'static str,
        compare: Option<Compare>,
        operation: TxnOp,
        key: &str,
    ) -> Result<Outcome> {
        let txn = Txn::new()
            .when(compare.into_iter().collect::<Vec<_>>())
            .and_then(vec![operation])
            .or_else(vec![TxnOp::get(key, None)]);
        let response: PbTxnResponse = self
            .attempt(what, false, || {
                let mut kv = self.kv();
                let txn = txn.clone();
                async move { kv.txn(txn).await }
            })
            .await?
            .0;
        Ok(Outcome {
            succeeded: response.succeeded,
            revision: header_of(response.header.as_ref())?.revision,
            operation: response.responses.into_iter().next().and_then(|r| r.response),
        })
    }

    /// Sends a request within the time limit. `repeatable`: doing it twice is harmless, so that it is sent again when a
    /// member fails; any other is sent again only if it surely reached none.
    async fn attempt<T, F, Fut>(&self, what: &'static str, repeatable: bool, mut send: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let deadline = Instant::now() + self.config.request_timeout;
        let mut left = self.config.endpoints.len() + EXTRA_ATTEMPTS;
        loop {
            let error = match tokio::time::timeout_at(deadline, send()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => Error::from(error),
                Err(_) => return Err(timed_out(what, &self.config)),
            };
            left = left.saturating_sub(1);
            let again = match &error {
                Error::Store(e) => e.never_sent || (repeatable && e.code == Some(tonic::Code::Unavailable)),
                _ => false,
            };
            if !again || left == 0 || Instant::now() + RETRY_PAUSE >= deadline {
                return Err(error);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

struct Outcome {
    succeeded: bool,
    revision: i64,
    operation: Option<PbTxnOpResponse>,
}

impl Outcome {
    fn written(self) -> Result<Result<i64, Refused>> {
        if self.succeeded {
            Ok(Ok(self.revision))
        } else {
            Ok(Err(refusal(self.operation)?))
        }
    }
}

fn refusal(operation: Option<PbTxnOpResponse>) -> Result<Refused> {
    match operation {
        Some(PbTxnOpResponse::ResponseRange(range)) => match range.kvs.into_iter().next() {
            Some(kv) => Ok(Refused::Changed(raw_kv(kv)?)),
            None => Ok(Refused::Missing),
        },
        _ => Err(malformed(
            "a refused transaction was answered by something else than a read",
        )),
    }
}

fn put(key: &str, value: &[u8], lease: Option<i64>) -> TxnOp {
    TxnOp::put(key, value, lease.map(|lease| PutOptions::new().with_lease(lease)))
}

pub(crate) fn raw_kv(kv: PbKeyValue) -> Result<RawKv> {
    let key = String::from_utf8(kv.key).map_err(|e| {
        malformed(&format!(
            "key {} is not UTF-8",
            String::from_utf8_lossy(e.as_bytes())
        ))
    })?;
    Ok(RawKv {
        key,
        value: Bytes::from(kv.value),
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
    })
}

pub(crate) fn header_of(header: Option<&PbResponseHeader>) -> Result<Header> {
    header
        .map(Header::from)
        .ok_or_else(|| malformed("an answer had no header"))
}

pub(crate) fn malformed(text: &str) -> Error {
    Error::Store(Box::new(StoreError {
        code: Some(tonic::Code::Internal),
        text: text.to_owned(),
        never_sent: false,
    }))
}

fn timed_out(operation: &'static str, config: &ClientConfig) -> Error {
    Error::Timeout {
        operation,
        seconds: config.request_timeout.as_secs(),
        endpoints: config.endpoint_text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(prefix_end(b"/a/"), b"/a0");
        assert_eq!(prefix_end(&[0x61, 0xff]), b"b");
        assert_eq!(prefix_end(&[0xff]), vec![0]);
    }
}
