//! Range reads: selection in the index, then values for what is returned.

use bytes::Bytes;

use super::Horizon;
use super::index::{Index, Version};
use super::records::Records;
use super::span::Span;
use crate::server::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::server::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::server::pb::mvccpb::KeyValue;
use crate::server::refusal::Refusal;

/// What the index says that a range holds, before values are read.
#[derive(Debug)]
pub(crate) struct Selection {
    found: Vec<(Bytes, Version)>,
    count: usize,
    revision: i64,
}

/// The revision that a read asked for, checked against what can be read.
pub(crate) fn readable(asked: i64, horizon: Horizon) -> Result<i64, Refusal> {
    if asked > horizon.current {
        return Err(Refusal::FutureRevision);
    }
    let revision = if asked <= 0 { horizon.current } else { asked };
    if revision < horizon.compacted {
        return Err(Refusal::Compacted);
    }
    Ok(revision)
}

/// Finds the keys of a range. `horizon.current` is also the revision that the answer reports.
pub(crate) fn select(index: &Index, horizon: Horizon, request: &RangeRequest) -> Result<Selection, Refusal> {
    let at = readable(request.revision, horizon)?;
    let span = Span::new(&request.key, &request.range_end);
    let keys = index.span_at(&span, at);
    if request.count_only {
        return Ok(Selection {
            found: Vec::new(),
            count: keys.count(),
            revision: horizon.current,
        });
    }
    let fetched = fetch_limit(request);
    let mut count = 0;
    let mut found = Vec::new();
    for (key, version) in keys {
        count += 1;
        if fetched.is_none_or(|limit| found.len() < limit) {
            found.push((key.clone(), version));
        }
    }
    found.retain(|(_, version)| within_bounds(version, request));
    Ok(Selection {
        found,
        count,
        revision: horizon.current,
    })
}

/// How many keys to fetch before sorting: one more than the limit, so that `more` is known. All of them where
/// an order or a bound is asked for; an order by something else than the key, with no direction, sorts only
/// what was fetched (as etcd does).
fn fetch_limit(request: &RangeRequest) -> Option<usize> {
    let bounded = request.sort_order != SortOrder::None as i32
        || [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ]
        .iter()
        .any(|bound| *bound != 0);
    if bounded || request.limit <= 0 {
        return None;
    }
    Some(limit_of(request).saturating_add(1))
}

fn limit_of(request: &RangeRequest) -> usize {
    usize::try_from(request.limit).unwrap_or(usize::MAX)
}

fn within_bounds(version: &Version, request: &RangeRequest) -> bool {
    let modified = version.revision.main;
    let created = version.created;
    (request.max_mod_revision == 0 || modified <= request.max_mod_revision)
        && (request.min_mod_revision == 0 || modified >= request.min_mod_revision)
        && (request.max_create_revision == 0 || created <= request.max_create_revision)
        && (request.min_create_revision == 0 || created >= request.min_create_revision)
}

impl Selection {
    /// Sorts, cuts to the limit and reads the values.
    pub(crate) fn load<R: Records>(
        self,
        records: &R,
        request: &RangeRequest,
    ) -> Result<RangeResponse, R::Error> {
        let Self {
            mut found,
            count,
            revision,
        } = self;
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        let order = match SortOrder::try_from(request.sort_order) {
            Ok(SortOrder::None) | Err(_) if target != SortTarget::Key => SortOrder::Ascend,
            Ok(order) => order,
            Err(_) => SortOrder::None,
        };
        let mut values: Option<Vec<Bytes>> = None;
        match (order, target) {
            (SortOrder::None, _) => {}
            (_, SortTarget::Value) => {
                let mut with_values = found
                    .into_iter()
                    .map(|(key, version)| Ok((records.value(version.revision)?, key, version)))
                    .collect::<Result<Vec<_>, R::Error>>()?;
                with_values.sort_by(|a, b| directed(order, a.0.cmp(&b.0)));
                let mut sorted_values = Vec::with_capacity(with_values.len());
                found = with_values
                    .into_iter()
                    .map(|(value, key, version)| {
                        sorted_values.push(value);
                        (key, version)
                    })
                    .collect();
                values = Some(sorted_values);
            }
            (_, SortTarget::Key) => found.sort_by(|a, b| directed(order, a.0.cmp(&b.0))),
            (_, SortTarget::Version) => found.sort_by(|a, b| directed(order, a.1.count.cmp(&b.1.count))),
            (_, SortTarget::Create) => found.sort_by(|a, b| directed(order, a.1.created.cmp(&b.1.created))),
            (_, SortTarget::Mod) => {
                found.sort_by(|a, b| directed(order, a.1.revision.main.cmp(&b.1.revision.main)));
            }
        }
        let mut more = false;
        if request.limit > 0 && found.len() > limit_of(request) {
            found.truncate(limit_of(request));
            more = true;
        }
        let mut values = values.map(Vec::into_iter);
        let kvs = found
            .into_iter()
            .map(|(key, version)| {
                let read = values.as_mut().and_then(Iterator::next);
                let value = match read {
                    _ if request.keys_only => Bytes::new(),
                    Some(value) => value,
                    None => records.value(version.revision)?,
                };
                Ok(key_value(key, version, value))
            })
            .collect::<Result<Vec<_>, R::Error>>()?;
        Ok(RangeResponse {
            header: Some(ResponseHeader {
                revision,
                ..ResponseHeader::default()
            }),
            kvs,
            more,
            count: i64::try_from(count).unwrap_or(i64::MAX),
        })
    }
}

fn directed(order: SortOrder, ordering: std::cmp::Ordering) -> std::cmp::Ordering {
    if order == SortOrder::Descend {
        ordering.reverse()
    } else {
        ordering
    }
}

/// A version with its value, as the API shows it.
pub(crate) fn key_value(key: Bytes, version: Version, value: Bytes) -> KeyValue {
    KeyValue {
        key,
        create_revision: version.created,
        mod_revision: version.revision.main,
        version: version.count,
        value,
        lease: version.lease,
    }
}

/// One key's version and value at a revision, if it is alive there.
pub(crate) fn key_at<R: Records>(
    index: &Index,
    records: &R,
    key: &Bytes,
    revision: i64,
) -> Result<Option<KeyValue>, R::Error> {
    let Some(version) = index.at(key, revision) else {
        return Ok(None);
    };
    let value = records.value(version.revision)?;
    Ok(Some(key_value(key.clone(), version, value)))
}
