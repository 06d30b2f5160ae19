//! The edge: lists and watches the store and feeds the view, over and over.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchOptions, WatchStream};
use rand::Rng;
use tokio::time::Instant;

use super::Shared;
use super::health::{Health, HealthState};
use super::options::{Options, envelope};
use super::view::{CLUSTER_INFORMATION, Change, Entry, Verdict};
use crate::client::etcd::{Etcd, header_of, malformed, raw_kv};
use crate::client::{ClientConfig, RawKv};
use crate::error::{Error, Result};

/// The first pause after a failure; it doubles up to the longest one, and each is cut by up to a half at random.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// See [`BACKOFF_MIN`].
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How often a silent watch is asked for a sign of life.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);
/// A watch that gave none for this long is opened again.
const SILENCE_MAX: Duration = Duration::from_secs(65);
/// How often a list starts again because its revision was compacted between two ranges.
const LIST_RESTARTS_MAX: usize = 3;
/// The most events that the fragments of one answer may add up to.
const FRAGMENT_EVENTS_MAX: usize = 10_000_000;

/// Follows until stopped.
pub(super) async fn run(shared: Arc<Shared>, config: ClientConfig, options: Options) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let reached = tokio::select! {
            outcome = session(&shared, &config, &options, &mut backoff) => outcome,
            () = shared.stop.cancelled() => return,
        };
        let error = match reached {
            Ok(()) => continue,
            Err(error) => error,
        };
        tracing::warn!(%error, "lost the datastore, the view stays as it is");
        shared.report(HealthState::WaitForDatastore, error.to_string());
        let pause = rand::rng().random_range(backoff / 2..=backoff);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection: verify, list if needed, watch; ends with the reason why it cannot go on.
async fn session(
    shared: &Shared,
    config: &ClientConfig,
    options: &Options,
    backoff: &mut Duration,
) -> Result<()> {
    let etcd = Etcd::connect(config).await?;
    loop {
        let mut verdict = probe(shared, &etcd).await?;
        if verdict == Verdict::Relist {
            shared.report(HealthState::Resync, String::new());
            verdict = list(shared, &etcd, options).await?;
        }
        if let Verdict::Frozen(reason) = verdict {
            shared.report(HealthState::Frozen, reason.to_string());
            tokio::select! {
                () = tokio::time::sleep(options.freeze_poll) => {}
                () = shared.accepted.notified() => {}
            }
            continue;
        }
        let Some(resume) = shared.with_view(|view| view.resume_revision()) else {
            continue;
        };
        let stream = open_watch(&etcd, options, resume.saturating_add(1)).await?;
        *backoff = BACKOFF_MIN;
        shared.report(HealthState::InSync, String::new());
        follow(shared, &etcd, stream).await?;
    }
}

/// A linearizable read of ClusterInformation: is this still the store that we know, and is it ready?
async fn probe(shared: &Shared, etcd: &Etcd) -> Result<Verdict> {
    let (header, found) = etcd.get(CLUSTER_INFORMATION, None).await?;
    let entry = found.map(entry);
    Ok(shared.with_view(|view| view.probed(header, entry.as_ref())))
}

/// Reads all ranges as of one revision.
async fn list(shared: &Shared, etcd: &Etcd, options: &Options) -> Result<Verdict> {
    let mut restarts = 0;
    loop {
        match list_once(etcd, options).await {
            Err(e) if e.is_compacted() && restarts < LIST_RESTARTS_MAX => restarts += 1,
            Err(e) => return Err(e),
            Ok((header, items)) => {
                tracing::info!(
                    keys = items.len(),
                    revision = header.revision,
                    "listed the datastore"
                );
                return Ok(shared.with_view(|view| view.listed(header, items)));
            }
        }
    }
}

async fn list_once(etcd: &Etcd, options: &Options) -> Result<(crate::client::Header, Vec<(String, Entry)>)> {
    let mut all = Vec::new();
    let mut first: Option<crate::client::Header> = None;
    for range in &options.ranges {
        let (header, found) = etcd.list(range, first.map(|h| h.revision)).await?;
        let first = first.get_or_insert(header);
        if first.cluster_id != header.cluster_id {
            return Err(malformed("the endpoints belong to different clusters"));
        }
        all.extend(found.into_iter().map(|kv| (kv.key.clone(), entry(kv))));
    }
    let header = first.ok_or_else(|| malformed("nothing to follow"))?;
    Ok((header, all))
}

async fn open_watch(etcd: &Etcd, options: &Options, from: i64) -> Result<WatchStream> {
    let (start, end) = envelope(&options.ranges);
    let request = WatchOptions::new()
        .with_range(end)
        .with_start_revision(from)
        .with_fragment();
    let timeout = etcd.config().request_timeout;
    let mut client = etcd.watch_client();
    let opened = tokio::time::timeout(timeout, client.watch(start, Some(request))).await;
    match opened {
        Ok(stream) => Ok(stream?),
        Err(_) => Err(Error::Timeout {
            operation: "a watch",
            seconds: timeout.as_secs(),
            endpoints: etcd.config().endpoint_text(),
        }),
    }
}

/// Feeds the view from a watch until a list or another connection is needed.
async fn follow(shared: &Shared, etcd: &Etcd, mut stream: WatchStream) -> Result<()> {
    let mut fragments: Vec<PbEvent> = Vec::new();
    let mut heard = Instant::now();
    let mut ask = tokio::time::interval_at(heard + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    loop {
        let response: PbWatchResponse = tokio::select! {
            message = stream.message() => match message? {
                Some(response) => response.0,
                None => return Err(malformed("the store closed the watch")),
            },
            _ = ask.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(malformed("the watch fell silent"));
                }
                stream.request_progress().await?;
                continue;
            }
            () = shared.accepted.notified() => return Ok(()),
        };
        heard = Instant::now();
        if response.canceled {
            return canceled(shared, &response);
        }
        fragments.extend(response.events);
        if response.fragment {
            if fragments.len() > FRAGMENT_EVENTS_MAX {
                return Err(malformed("an answer of the watch has too many fragments"));
            }
            continue;
        }
        let header = header_of(response.header.as_ref())?;
        let changes = std::mem::take(&mut fragments)
            .into_iter()
            .filter_map(change)
            .collect::<Result<Vec<_>>>()?;
        let verdict = shared.with_view(|view| view.changed(header, changes));
        let verdict = if verdict == Verdict::Verify {
            probe(shared, etcd).await?
        } else {
            verdict
        };
        match verdict {
            Verdict::Continue => shared.report(HealthState::InSync, String::new()),
            Verdict::Verify | Verdict::Relist | Verdict::Frozen(_) => return Ok(()),
        }
    }
}

/// The server ended the watch: compacted, without a leader, or not permitted.
fn canceled(shared: &Shared, response: &PbWatchResponse) -> Result<()> {
    if response.compact_revision > 0 {
        tracing::info!(
            compacted = response.compact_revision,
            "the resume point was compacted away, listing again"
        );
        shared.with_view(super::view::View::compacted);
        return Ok(());
    }
    let reason = if response.cancel_reason.is_empty() {
        "no reason given"
    } else {
        &response.cancel_reason
    };
    Err(malformed(&format!("the store cancelled the watch: {reason}")))
}

/// A deletion's key-value has the key and the revision of the deletion alone.
fn change(event: PbEvent) -> Option<Result<Change>> {
    const PUT: i32 = 0;
    const DELETE: i32 = 1;
    let Some(kv) = event.kv else {
        return Some(Err(malformed("an event without a key")));
    };
    let revision = kv.mod_revision;
    let kv = match raw_kv(kv) {
        Ok(kv) => kv,
        Err(error) => {
            tracing::warn!(%error, "an event is passed over");
            return None;
        }
    };
    Some(match event.r#type {
        PUT => Ok(Change {
            key: kv.key.clone(),
            revision,
            entry: Some(entry(kv)),
        }),
        DELETE => Ok(Change {
            key: kv.key,
            revision,
            entry: None,
        }),
        other => Err(malformed(&format!("an event of unknown type {other}"))),
    })
}

fn entry(kv: RawKv) -> Entry {
    Entry {
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        value: kv.value,
    }
}

impl Shared {
    fn report(&self, state: HealthState, detail: String) {
        let revision = self.with_view(|view| view.resume_revision()).unwrap_or(0);
        let health = Health {
            state,
            detail,
            revision,
        };
        self.health.send_if_modified(|now| {
            let changed = *now != health;
            if changed {
                *now = health;
            }
            changed
        });
    }
}
