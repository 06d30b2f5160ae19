//! The transaction core against a naive model: whole copies of the key space, one for each revision.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Failure, apply, check};
use crate::server::lease::Leases;
use crate::server::mvcc::index::Index;
use crate::server::mvcc::range::select;
use crate::server::mvcc::records::{Record, Records, RecordsMut};
use crate::server::mvcc::{FIRST_REVISION, Horizon, NEVER_COMPACTED, Revision};
use crate::server::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::server::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::server::pb::etcdserverpb::request_op::Request;
use crate::server::pb::etcdserverpb::response_op::Response;
use crate::server::pb::etcdserverpb::*;
use crate::server::pb::mvccpb::{KeyValue, event::EventType};
use crate::server::refusal::Refusal;
use crate::server::txn::write::Writing;

/// Records in memory.
#[derive(Default)]
struct Memory(BTreeMap<(i64, i64), Record>);

impl Records for Memory {
    type Error = Infallible;

    fn value(&self, revision: Revision) -> Result<Bytes, Infallible> {
        match &self.0[&(revision.main, revision.sub)] {
            Record::Put(kv) => Ok(kv.value.clone()),
            Record::Deletion(_) => panic!("a deletion has no value"),
        }
    }
}

impl RecordsMut for Memory {
    fn append(&mut self, revision: Revision, record: &Record) -> Result<(), Infallible> {
        let stored = Record::decode(revision, &record.encode()).unwrap();
        assert_eq!(&stored, record, "a record reads back as it was written");
        assert!(
            self.0.insert((revision.main, revision.sub), stored).is_none(),
            "a revision is used once"
        );
        Ok(())
    }
}

type Keys = BTreeMap<Bytes, KeyValue>;

/// The core under test.
struct Core {
    index: Index,
    records: Memory,
    leases: Leases,
    horizon: Horizon,
}

/// The model: what every revision held.
struct Model {
    revisions: BTreeMap<i64, Keys>,
    current: i64,
    compacted: i64,
}

const LEASE: i64 = 5;

impl Core {
    fn new() -> Self {
        let horizon = Horizon {
            current: FIRST_REVISION,
            compacted: NEVER_COMPACTED,
        };
        let mut leases = Leases::default();
        leases.grant(LEASE, 100, 0).unwrap();
        Self {
            index: Index::default(),
            records: Memory::default(),
            leases,
            horizon,
        }
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        check::txn(request)?;
        let mut writing = Writing {
            index: &mut self.index,
            records: &mut self.records,
            leases: &mut self.leases,
            horizon: self.horizon,
            events: Vec::new(),
        };
        let answer = apply::txn(&mut writing, request);
        let changed = !writing.events.is_empty();
        match answer {
            Ok(answer) => {
                self.horizon.current += i64::from(changed);
                Ok(answer)
            }
            Err(Failure::Refused(refusal)) => {
                assert!(!changed, "a refused transaction changes nothing");
                Err(refusal)
            }
            Err(Failure::Storage(never)) => match never {},
        }
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        match select(&self.index, self.horizon, request)?.load(&self.records, request) {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }

    fn compact(&mut self, revision: i64) {
        for gone in self.index.compact(revision) {
            assert!(
                self.records.0.remove(&(gone.main, gone.sub)).is_some(),
                "a record is removed once"
            );
        }
        self.horizon.compacted = revision;
    }
}

fn in_span(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    if end.is_empty() {
        key == start
    } else {
        key >= start && (end.as_ref() == [0] || key < end)
    }
}

impl Model {
    fn new() -> Self {
        let revisions = BTreeMap::from([(FIRST_REVISION, Keys::new())]);
        Self {
            revisions,
            current: FIRST_REVISION,
            compacted: NEVER_COMPACTED,
        }
    }

    fn now(&self) -> &Keys {
        &self.revisions[&self.current]
    }

    fn range(&self, keys: &Keys, header: i64, request: &RangeRequest) -> RangeResponse {
        let mut found: Vec<KeyValue> = keys
            .values()
            .filter(|kv| in_span(&kv.key, &request.key, &request.range_end))
            .cloned()
            .collect();
        let count = found.len() as i64;
        let limit = if request.limit > 0 {
            request.limit as usize
        } else {
            usize::MAX
        };
        let mut more = false;
        if request.count_only {
            found.clear();
        } else {
            if request.sort_order != SortOrder::None as i32 {
                let target = SortTarget::try_from(request.sort_target).unwrap();
                let rank = |kv: &KeyValue| match target {
                    SortTarget::Key => (kv.key.clone(), 0),
                    SortTarget::Version => (Bytes::new(), kv.version),
                    SortTarget::Create => (Bytes::new(), kv.create_revision),
                    SortTarget::Mod => (Bytes::new(), kv.mod_revision),
                    SortTarget::Value => (kv.value.clone(), 0),
                };
                // Equal ones stay in the order of their keys, also when descending.
                if request.sort_order == SortOrder::Descend as i32 {
                    found.sort_by_key(|kv| std::cmp::Reverse(rank(kv)));
                } else {
                    found.sort_by_key(rank);
                }
            }
            more = found.len() > limit;
            found.truncate(limit);
            if request.keys_only {
                found.iter_mut().for_each(|kv| kv.value = Bytes::new());
            }
        }
        let header = Some(ResponseHeader {
            revision: header,
            ..Default::default()
        });
        RangeResponse {
            header,
            kvs: found,
            more,
            count,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let absent = KeyValue::default();
        let is_value = compare.target == CompareTarget::Value as i32;
        let mut found: Vec<&KeyValue> = self
            .now()
            .values()
            .filter(|kv| in_span(&kv.key, &compare.key, &compare.range_end))
            .collect();
        if found.is_empty() {
            if is_value {
                return false;
            }
            found.push(&absent);
        }
        found.iter().all(|kv| {
            let ordering = match compare.target_union.as_ref().unwrap() {
                TargetUnion::Version(given) => kv.version.cmp(given),
                TargetUnion::CreateRevision(given) => kv.create_revision.cmp(given),
                TargetUnion::ModRevision(given) => kv.mod_revision.cmp(given),
                TargetUnion::Lease(given) => kv.lease.cmp(given),
                TargetUnion::Value(given) => kv.value.cmp(given),
            };
            match CompareResult::try_from(compare.result).unwrap() {
                CompareResult::Equal => ordering.is_eq(),
                CompareResult::NotEqual => ordering.is_ne(),
                CompareResult::Greater => ordering.is_gt(),
                CompareResult::Less => ordering.is_lt(),
            }
        })
    }

    /// A transaction that the core accepted.
    fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let mut keys = self.now().clone();
        let next = self.current + 1;
        let mut changed = false;
        let mut responses = Vec::new();
        for op in if succeeded {
            &request.success
        } else {
            &request.failure
        } {
            let header = |changed: bool| {
                let revision = if changed { next } else { next - 1 };
                Some(ResponseHeader {
                    revision,
                    ..Default::default()
                })
            };
            responses.push(match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    let own = if range.revision == 0 {
                        &keys
                    } else {
                        &self.revisions[&range.revision]
                    };
                    let revision = if changed { next } else { next - 1 };
                    Response::ResponseRange(self.range(own, revision, range))
                }
                Request::RequestPut(put) => {
                    let previous = keys.get(&put.key).cloned();
                    let kv = KeyValue {
                        key: put.key.clone(),
                        create_revision: previous.as_ref().map_or(next, |kv| kv.create_revision),
                        mod_revision: next,
                        version: previous.as_ref().map_or(1, |kv| kv.version + 1),
                        value: put.value.clone(),
                        lease: put.lease,
                    };
                    keys.insert(put.key.clone(), kv);
                    changed = true;
                    Response::ResponsePut(PutResponse {
                        header: header(true),
                        prev_kv: previous.filter(|_| put.prev_kv),
                    })
                }
                Request::RequestDeleteRange(delete) => {
                    let gone: Vec<KeyValue> = keys
                        .values()
                        .filter(|kv| in_span(&kv.key, &delete.key, &delete.range_end))
                        .cloned()
                        .collect();
                    for kv in &gone {
                        keys.remove(&kv.key);
                    }
                    changed |= !gone.is_empty();
                    Response::ResponseDeleteRange(DeleteRangeResponse {
                        header: header(changed),
                        deleted: gone.len() as i64,
                        prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
                    })
                }
                Request::RequestTxn(_) => unreachable!("the model has no nested transactions"),
            });
        }
        if changed {
            self.current = next;
            self.revisions.insert(next, keys);
        }
        TxnResponse {
            header: Some(ResponseHeader {
                revision: self.current,
                ..Default::default()
            }),
            succeeded,
            responses: responses
                .into_iter()
                .map(|response| ResponseOp {
                    response: Some(response),
                })
                .collect(),
        }
    }

    fn readable(&self, revision: i64) -> Result<i64, Refusal> {
        match revision {
            0 => Ok(self.current),
            r if r > self.current => Err(Refusal::FutureRevision),
            r if r < self.compacted => Err(Refusal::Compacted),
            r => Ok(r),
        }
    }
}

/// Everything that can be read is as the model has it, and events from the oldest readable revision on lead from
/// there to now.
fn agree(core: &Core, model: &Model) {
    let everything = |revision| RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..Default::default()
    };
    let oldest = model.compacted.max(FIRST_REVISION);
    for (revision, keys) in model.revisions.range(oldest..) {
        let found = core.range(&everything(*revision)).unwrap();
        assert_eq!(
            found,
            model.range(keys, model.current, &everything(*revision)),
            "at revision {revision}"
        );
    }
    let mut replayed = model.revisions[&oldest].clone();
    for ((main, sub), record) in core.records.0.range((oldest + 1, 0)..) {
        let event = record.clone().event(Revision {
            main: *main,
            sub: *sub,
        });
        let kv = event.kv.unwrap();
        assert_eq!(kv.mod_revision, *main);
        if event.r#type == EventType::Delete as i32 {
            assert!(replayed.remove(&kv.key).is_some(), "what is deleted was there");
        } else {
            replayed.insert(kv.key.clone(), kv);
        }
    }
    assert_eq!(&replayed, model.now());
    let leased: BTreeSet<Bytes> = model
        .now()
        .values()
        .filter(|kv| kv.lease == LEASE)
        .map(|kv| kv.key.clone())
        .collect();
    assert_eq!(
        core.leases.state(LEASE, 0).unwrap().keys,
        leased.into_iter().collect::<Vec<_>>()
    );
}

#[derive(Clone, Debug)]
enum Step {
    Txn(TxnRequest),
    Range(RangeRequest),
    /// Compacts this many revisions before the newest.
    Compact(i64),
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "b", "bb", "c", "d", "\0"]).prop_map(Bytes::from)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "", "", "b", "c", "e", "\0"]).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "1", "2", "33"]).prop_map(Bytes::from)
}

/// Ranges name revisions from the oldest there may be; a sort by something else than the key always has a
/// direction, because etcd cuts such a range before it sorts it.
fn range() -> impl Strategy<Value = RangeRequest> {
    let revision = prop_oneof![3 => Just(0), 1 => 1..40_i64];
    (
        key(),
        end(),
        revision,
        0..3_i64,
        (0..3, 0..5),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(key, range_end, revision, limit, (sort_order, sort_target), (keys_only, count_only))| {
                RangeRequest {
                    key,
                    range_end,
                    revision,
                    limit,
                    sort_order,
                    sort_target: if sort_order == 0 { 0 } else { sort_target },
                    keys_only,
                    count_only,
                    ..Default::default()
                }
            },
        )
}

fn op() -> impl Strategy<Value = RequestOp> {
    let put = (key(), value(), any::<(bool, bool)>()).prop_map(|(key, value, (prev_kv, leased))| {
        let lease = if leased { LEASE } else { 0 };
        Request::RequestPut(PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ..Default::default()
        })
    });
    let delete = (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| {
        Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        })
    });
    let request = prop_oneof![4 => put, 2 => delete, 2 => range().prop_map(Request::RequestRange)];
    request.prop_map(|request| RequestOp {
        request: Some(request),
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0..4_i64).prop_map(TargetUnion::Version),
        (0..20_i64).prop_map(TargetUnion::CreateRevision),
        (0..20_i64).prop_map(TargetUnion::ModRevision),
        (4..7_i64).prop_map(TargetUnion::Lease),
        value().prop_map(TargetUnion::Value),
    ];
    (key(), end(), 0..4, union).prop_map(|(key, range_end, result, union)| {
        let target = match union {
            TargetUnion::Version(_) => CompareTarget::Version,
            TargetUnion::CreateRevision(_) => CompareTarget::Create,
            TargetUnion::ModRevision(_) => CompareTarget::Mod,
            TargetUnion::Value(_) => CompareTarget::Value,
            TargetUnion::Lease(_) => CompareTarget::Lease,
        };
        Compare {
            result,
            target: target.into(),
            key,
            range_end,
            target_union: Some(union),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let txn = (
        prop::collection::vec(compare(), 0..2),
        prop::collection::vec(op(), 0..5),
        prop::collection::vec(op(), 0..3),
    )
        .prop_map(|(compare, success, failure)| {
            Step::Txn(TxnRequest {
                compare,
                success,
                failure,
            })
        });
    prop_oneof![8 => txn, 2 => range().prop_map(Step::Range), 1 => (0..6_i64).prop_map(Step::Compact)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_model(steps in prop::collection::vec(step(), 1..40)) {
        let (mut core, mut model) = (Core::new(), Model::new());
        for step in steps {
            match step {
                Step::Txn(request) => {
                    if let Ok(answer) = core.txn(&request) {
                        prop_assert_eq!(answer, model.txn(&request));
                    }
                }
                Step::Range(request) => {
                    let expected = model.readable(request.revision).map(|revision| {
                        model.range(&model.revisions[&revision], model.current, &request)
                    });
                    prop_assert_eq!(core.range(&request), expected);
                }
                Step::Compact(back) => {
                    let revision = (model.current - back).max(FIRST_REVISION);
                    if revision > model.compacted {
                        model.compacted = revision;
                        core.compact(revision);
                    }
                }
            }
            agree(&core, &model);
        }
    }
}
