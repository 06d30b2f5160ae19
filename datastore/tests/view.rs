//! The syncer's core by replay: no store, no time, no tasks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use bytes::Bytes;
use datastore::client::Header;
use datastore::key::{AnyKey, KeyRange};
use datastore::syncer::view::{Change, Entry, Freeze, History, Input, Verdict, View};
use datastore::syncer::{Event, Options, Status};
use proptest::prelude::*;

const INFO: &str = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
const READY: &str = r#"{"kind":"ClusterInformation","spec":{"datastoreReady":true}}"#;
const LOCKED: &str = r#"{"kind":"ClusterInformation","spec":{"datastoreReady":false}}"#;

fn handle(n: u8) -> String {
    format!("/calico/ipam/v2/handle/h{n}")
}

fn ranges() -> Vec<KeyRange> {
    Options::ranges([KeyRange::Prefix("/calico/ipam/v2/handle/".into())]).ranges
}

fn header(revision: i64) -> Header {
    Header {
        cluster_id: 1,
        member_id: 1,
        revision,
    }
}

fn entry(value: &str, create_revision: i64, mod_revision: i64) -> Entry {
    Entry {
        mod_revision,
        create_revision,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn handle_value(count: i64) -> String {
    format!(r#"{{"block":{{"10.0.0.0/26":{count}}},"deleted":false}}"#)
}

fn put(key: &str, value: &str, revision: i64) -> Change {
    Change {
        key: key.into(),
        revision,
        entry: Some(entry(value, revision, revision)),
    }
}

fn delete(key: &str, revision: i64) -> Change {
    Change {
        key: key.into(),
        revision,
        entry: None,
    }
}

/// What a consumer knows after draining the view: revision by key.
#[derive(Default, Debug, PartialEq)]
struct Consumer {
    keys: BTreeMap<String, i64>,
    statuses: Vec<Status>,
    deletions: usize,
}

impl Consumer {
    fn take(&mut self, view: &mut View, events_max: usize) {
        for _ in 0..events_max {
            match view.next_event(3) {
                None => return,
                Some(Event::Status(status)) => self.statuses.push(status),
                Some(Event::Updates(updates)) => {
                    for update in updates {
                        match update.value {
                            Some(_) => {
                                self.keys.insert(update.key.path(), update.revision);
                            }
                            None => {
                                self.deletions += 1;
                                assert!(
                                    self.keys.remove(&update.key.path()).is_some(),
                                    "an unknown key is deleted"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    fn drain(&mut self, view: &mut View) {
        self.take(view, usize::MAX);
    }
}

/// A view in sync at revision 10 with two handles.
fn in_sync() -> (View, Consumer) {
    let mut view = View::new(ranges());
    let items = vec![
        (INFO.to_owned(), entry(READY, 2, 2)),
        (handle(1), entry(&handle_value(1), 5, 5)),
        (handle(2), entry(&handle_value(2), 6, 6)),
    ];
    assert_eq!(
        view.handle(Input::Probed {
            header: header(10),
            cluster_information: Some(entry(READY, 2, 2))
        }),
        Verdict::Relist
    );
    assert_eq!(view.listed(header(10), items), Verdict::Continue);
    let mut consumer = Consumer::default();
    consumer.drain(&mut view);
    assert_eq!(
        consumer.statuses,
        [Status::WaitForDatastore, Status::ResyncInProgress, Status::InSync]
    );
    assert_eq!(consumer.keys.len(), 3);
    (view, consumer)
}

#[test]
fn values_are_typed() {
    let mut view = View::new(ranges());
    let items = vec![
        (INFO.to_owned(), entry(READY, 2, 2)),
        (handle(1), entry("{\"block\":7}", 5, 5)),
    ];
    view.listed(header(10), items);
    let mut found = 0;
    while let Some(event) = view.next_event(10) {
        if let Event::Updates(updates) = event {
            for update in updates {
                match &update.key {
                    AnyKey::Handle(_) => assert!(update.value.unwrap().unwrap_err().contains("block")),
                    key => assert!(update.value.unwrap().is_ok(), "{key}"),
                }
                found += 1;
            }
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn a_relist_tells_only_differences() {
    let (mut view, mut consumer) = in_sync();
    assert_eq!(view.handle(Input::Compacted), Verdict::Relist);
    assert_eq!(view.resume_revision(), None);
    let items = vec![
        (INFO.to_owned(), entry(READY, 2, 2)),
        (handle(1), entry(&handle_value(1), 5, 5)),
        (handle(3), entry(&handle_value(3), 17, 17)),
    ];
    assert_eq!(view.listed(header(20), items), Verdict::Continue);
    assert_eq!(view.pending(), 2);
    consumer.drain(&mut view);
    assert_eq!(
        consumer.keys.keys().cloned().collect::<Vec<_>>(),
        [handle(1), handle(3), INFO.to_owned()]
    );
    assert_eq!(consumer.deletions, 1);
    assert_eq!(view.resume_revision(), Some(20));
}

#[test]
fn an_emptied_store_deletes_nothing() {
    let (mut view, mut consumer) = in_sync();
    // The same cluster id (it follows from the configuration), a young history.
    let verdict = view.probed(header(1), None);
    assert_eq!(verdict, Verdict::Frozen(Freeze::WentBack { seen: 10, now: 1 }));
    assert_eq!(
        view.listed(header(1), vec![]),
        Verdict::Frozen(Freeze::WentBack { seen: 10, now: 1 })
    );
    assert_eq!(
        view.listed(header(11), vec![]),
        Verdict::Frozen(Freeze::NoClusterInformation)
    );
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 0);
    assert_eq!(consumer.keys.len(), 3);
    // It is filled again, past the revision that we knew: now what is gone is gone.
    let items = vec![
        (INFO.to_owned(), entry(READY, 3, 3)),
        (handle(1), entry(&handle_value(9), 4, 4)),
    ];
    assert_eq!(
        view.probed(header(12), Some(&entry(READY, 3, 3))),
        Verdict::Relist
    );
    assert_eq!(view.listed(header(12), items), Verdict::Continue);
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 1);
    assert_eq!(consumer.keys[&handle(1)], 4);
    assert!(view.freeze().is_none());
}

#[test]
fn another_cluster_deletes_nothing_until_it_is_accepted() {
    let (mut view, mut consumer) = in_sync();
    let other = Header {
        cluster_id: 2,
        member_id: 1,
        revision: 500,
    };
    let items = vec![(INFO.to_owned(), entry(READY, 2, 2))];
    let frozen = Verdict::Frozen(Freeze::OtherCluster { seen: 1, now: 2 });
    assert_eq!(view.probed(other, Some(&entry(READY, 2, 2))), frozen);
    assert_eq!(view.listed(other, items.clone()), frozen);
    assert_eq!(view.changed(other, vec![delete(&handle(1), 500)]), frozen);
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 0);
    view.handle(Input::AcceptNewHistory);
    assert_eq!(view.probed(other, Some(&entry(READY, 2, 2))), Verdict::Relist);
    assert_eq!(view.listed(other, items), Verdict::Continue);
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 2);
}

#[test]
fn the_revision_that_ends_a_cluster_is_not_applied() {
    let (mut view, mut consumer) = in_sync();
    let changes = vec![
        put(&handle(3), &handle_value(3), 11),
        delete(&handle(1), 12),
        delete(&handle(2), 12),
        delete(INFO, 12),
    ];
    assert_eq!(
        view.changed(header(12), changes),
        Verdict::Frozen(Freeze::NoClusterInformation)
    );
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 0);
    assert_eq!(consumer.keys.len(), 4, "what came before it is");
    assert_eq!(
        view.probed(header(13), None),
        Verdict::Frozen(Freeze::NoClusterInformation)
    );
}

#[test]
fn a_lock_freezes_and_its_end_thaws() {
    let (mut view, mut consumer) = in_sync();
    let changes = vec![put(INFO, LOCKED, 11), delete(&handle(1), 12)];
    assert_eq!(
        view.changed(header(12), changes),
        Verdict::Frozen(Freeze::NotReady)
    );
    assert_eq!(
        view.changed(header(13), vec![delete(&handle(2), 13)]),
        Verdict::Frozen(Freeze::NotReady)
    );
    assert_eq!(
        view.probed(header(13), Some(&entry(LOCKED, 2, 11))),
        Verdict::Frozen(Freeze::NotReady)
    );
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 0);
    let items = vec![
        (INFO.to_owned(), entry(READY, 2, 14)),
        (handle(2), entry(&handle_value(2), 6, 6)),
    ];
    assert_eq!(
        view.probed(header(14), Some(&entry(READY, 2, 14))),
        Verdict::Relist
    );
    assert_eq!(view.listed(header(14), items), Verdict::Continue);
    consumer.drain(&mut view);
    assert_eq!(consumer.deletions, 1);
}

#[test]
fn progress_never_moves_the_resume_point() {
    let (mut view, _) = in_sync();
    assert_eq!(view.changed(header(5000), vec![]), Verdict::Continue);
    assert_eq!(view.resume_revision(), Some(10));
    assert_eq!(view.changed(header(5), vec![]), Verdict::Verify);
    assert_eq!(
        view.changed(header(5000), vec![put(&handle(3), &handle_value(3), 4000)]),
        Verdict::Continue
    );
    assert_eq!(view.resume_revision(), Some(4000));
}

#[test]
fn a_cluster_made_again_while_we_were_away_is_listed() {
    let (mut view, _) = in_sync();
    assert_eq!(
        view.probed(header(10), Some(&entry(READY, 2, 2))),
        Verdict::Continue
    );
    assert_eq!(
        view.probed(header(900), Some(&entry(READY, 800, 800))),
        Verdict::Relist
    );
}

#[test]
fn a_saved_view_is_told_before_the_store_is_asked() {
    let saved = vec![
        (handle(1), entry(&handle_value(1), 5, 5)),
        (handle(2), entry(&handle_value(2), 6, 6)),
    ];
    let mut view = View::restore(
        ranges(),
        History {
            cluster_id: 1,
            revision: 10,
        },
        saved,
    );
    let mut consumer = Consumer::default();
    consumer.drain(&mut view);
    assert_eq!(
        consumer.statuses,
        [Status::WaitForDatastore, Status::FromSnapshot]
    );
    assert_eq!(consumer.keys.len(), 2);
    assert_eq!(view.resume_revision(), None, "a list is needed all the same");
    // An emptied store does not take it away.
    assert!(matches!(view.probed(header(3), None), Verdict::Frozen(_)));
    let items = vec![
        (INFO.to_owned(), entry(READY, 2, 2)),
        (handle(1), entry(&handle_value(1), 5, 5)),
    ];
    assert_eq!(view.listed(header(30), items), Verdict::Continue);
    consumer.drain(&mut view);
    assert_eq!(consumer.statuses.last(), Some(&Status::InSync));
    assert_eq!(consumer.deletions, 1);
}

#[test]
fn a_slow_consumer_gets_the_last_state_of_each_key() {
    let (mut view, mut consumer) = in_sync();
    for revision in 11..10_000 {
        let key = handle(u8::try_from(revision % 5).unwrap());
        let change = if revision % 7 == 0 {
            delete(&key, revision)
        } else {
            put(&key, &handle_value(revision), revision)
        };
        view.changed(header(revision), vec![change]);
    }
    assert!(view.pending() <= 6, "{}", view.pending());
    consumer.drain(&mut view);
    let told: Vec<_> = consumer.keys.clone().into_iter().collect();
    let (_, entries) = view.contents();
    let have: Vec<_> = entries
        .iter()
        .map(|(key, entry)| (key.clone(), entry.mod_revision))
        .collect();
    assert_eq!(told, have);
}

#[test]
fn a_recording_replays_to_the_same_end() {
    let inputs = vec![
        Input::Listed {
            header: header(10),
            items: vec![
                (INFO.to_owned(), entry(READY, 2, 2)),
                (handle(1), entry(&handle_value(1), 5, 5)),
            ],
        },
        Input::Changed {
            header: header(11),
            changes: vec![put(&handle(2), &handle_value(2), 11)],
        },
        Input::Probed {
            header: header(11),
            cluster_information: Some(entry(READY, 2, 2)),
        },
        Input::Changed {
            header: header(12),
            changes: vec![delete(&handle(1), 12)],
        },
        Input::Compacted,
    ];
    let lines: Vec<String> = inputs.iter().map(|i| serde_json::to_string(i).unwrap()).collect();
    let (mut live, mut replayed) = (View::new(ranges()), View::new(ranges()));
    for (input, line) in inputs.into_iter().zip(&lines) {
        assert_eq!(
            live.handle(input),
            replayed.handle(serde_json::from_str(line).unwrap())
        );
    }
    let (mut a, mut b) = (Consumer::default(), Consumer::default());
    a.drain(&mut live);
    b.drain(&mut replayed);
    assert_eq!(a, b);
    assert_eq!(a.keys.len(), 2);
}

/// What may happen between store, syncer and consumer.
#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Delete(u8),
    /// The watch tells up to this many revisions.
    Watch(u8),
    /// The connection breaks; the watch tells some again.
    Reconnect(u8),
    Compact,
    Lock,
    Unlock,
    /// The consumer takes up to this many events.
    Consume(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..6).prop_map(Step::Put),
        5 => (0u8..6).prop_map(Step::Delete),
        6 => (1u8..8).prop_map(Step::Watch),
        2 => (0u8..4).prop_map(Step::Reconnect),
        1 => Just(Step::Compact),
        1 => Just(Step::Lock),
        1 => Just(Step::Unlock),
        4 => (1u8..4).prop_map(Step::Consume),
    ]
}

#[derive(Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<String, Entry>,
    log: Vec<Change>,
}

impl Store {
    fn put(&mut self, key: &str, value: &str) {
        self.revision += 1;
        let created = self.keys.get(key).map_or(self.revision, |e| e.create_revision);
        let entry = entry(value, created, self.revision);
        self.keys.insert(key.into(), entry.clone());
        self.log.push(Change {
            key: key.into(),
            revision: self.revision,
            entry: Some(entry),
        });
    }

    fn delete(&mut self, key: &str) {
        if self.keys.remove(key).is_some() {
            self.revision += 1;
            self.log.push(delete(key, self.revision));
        }
    }

    fn list(&self, view: &mut View) -> Verdict {
        view.listed(header(self.revision), self.keys.clone())
    }

    fn probe(&self, view: &mut View) -> Verdict {
        view.probed(header(self.revision), self.keys.get(INFO))
    }

    fn since(&self, revision: i64, revisions_max: usize) -> Vec<Change> {
        self.log
            .iter()
            .filter(|c| c.revision > revision)
            .take(revisions_max)
            .cloned()
            .collect()
    }
}

fn settle(store: &Store, view: &mut View) {
    let mut verdict = store.probe(view);
    if verdict == Verdict::Relist {
        verdict = store.list(view);
    }
    if verdict == Verdict::Continue {
        let resume = view.resume_revision().unwrap();
        view.changed(header(store.revision), store.since(resume, usize::MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_consumer_ends_with_what_the_store_has(steps in proptest::collection::vec(step(), 0..120)) {
        let mut store = Store::default();
        store.put(INFO, READY);
        let mut view = View::new(ranges());
        let mut consumer = Consumer::default();
        settle(&store, &mut view);
        for step in steps {
            match step {
                Step::Put(n) => store.put(&handle(n), &handle_value(store.revision)),
                Step::Delete(n) => store.delete(&handle(n)),
                Step::Lock => store.put(INFO, LOCKED),
                Step::Unlock => store.put(INFO, READY),
                Step::Watch(n) => {
                    if let Some(resume) = view.resume_revision() {
                        view.changed(header(store.revision), store.since(resume, n.into()));
                    }
                }
                Step::Reconnect(again) => {
                    if store.probe(&mut view) == Verdict::Continue {
                        let resume = view.resume_revision().unwrap();
                        let changes = store.since(resume - i64::from(again), usize::from(again) + 2);
                        view.changed(header(store.revision), changes);
                    }
                }
                Step::Compact => {
                    view.compacted();
                    store.list(&mut view);
                }
                Step::Consume(n) => consumer.take(&mut view, n.into()),
            }
            prop_assert!(view.pending() <= 7);
        }
        store.put(INFO, READY);
        // The log may lead through a lock, which ends in a list.
        settle(&store, &mut view);
        settle(&store, &mut view);
        consumer.drain(&mut view);
        let have: BTreeMap<String, i64> = store.keys.iter().map(|(k, e)| (k.clone(), e.mod_revision)).collect();
        prop_assert_eq!(&consumer.keys, &have);
        prop_assert_eq!(consumer.statuses.last(), Some(&Status::InSync));
    }
}
