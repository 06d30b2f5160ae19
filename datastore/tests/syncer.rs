//! The syncer against a real etcd and our own store that is killed, compacted, emptied and locked.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use api::{ClusterInformation, IpPool, ObjectMeta};
use datastore::key::{HandleKey, KeyRange};
use datastore::syncer::{Event, Handle, HealthState, Options, Status, Syncer};
use datastore::{Client, ClientConfig, Key, Resources};
use store::{Program, Store};
use tokio::sync::mpsc;

on_both_stores!(
    a_snapshot_then_changes,
    an_uninitialised_store_is_waited_for,
    a_store_that_is_away_changes_nothing,
    a_compaction_during_an_outage_tells_only_differences,
    a_watch_whose_resume_point_is_compacted_lists_again,
    an_emptied_data_directory_deletes_nothing,
    a_prefix_deleted_at_once_deletes_nothing,
    a_lock_freezes_the_view,
    a_slow_consumer_loses_no_last_state,
    large_answers_come_in_fragments,
    a_silent_store_is_noticed
);

const WAIT_MAX: Duration = Duration::from_secs(15);
/// Long enough for several polls of a frozen syncer.
const QUIET: Duration = Duration::from_millis(700);
const FREEZE_POLL: Duration = Duration::from_millis(150);

struct Follower {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    keys: BTreeMap<String, i64>,
    statuses: Vec<Status>,
    deletions: usize,
}

impl Follower {
    fn start(store: &Store, options: Options) -> Self {
        Self::start_with(store.config(), options)
    }

    fn start_with(config: ClientConfig, mut options: Options) -> Self {
        options.freeze_poll = FREEZE_POLL;
        let (handle, events) = Syncer::start(config, options);
        Self {
            handle,
            events,
            keys: BTreeMap::new(),
            statuses: Vec::new(),
            deletions: 0,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Status(status) => self.statuses.push(status),
            Event::Updates(updates) => {
                for update in updates {
                    if update.value.is_some() {
                        self.keys.insert(update.key.path(), update.revision);
                    } else {
                        self.deletions += 1;
                        self.keys.remove(&update.key.path());
                    }
                }
            }
        }
    }

    /// Takes events until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        while !done(self) {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("the syncer ended while waiting for {what}"),
                Err(_) => panic!("no {what}: {:?}, {:?}", self.keys, self.handle.health().borrow()),
            }
        }
    }

    async fn in_sync(&mut self) {
        self.until("InSync", |f| f.statuses.contains(&Status::InSync))
            .await;
    }

    async fn health(&self, state: HealthState) -> String {
        let mut health = self.handle.health();
        let reached = tokio::time::timeout(WAIT_MAX, health.wait_for(|h| h.state == state)).await;
        let detail =
            reached.unwrap_or_else(|_| panic!("never {state:?}: {:?}", self.handle.health().borrow()));
        detail.unwrap().detail.clone()
    }

    /// Nothing is taken away for a while.
    async fn keeps_what_it_has(&mut self) {
        let (keys, deletions) = (self.keys.clone(), self.deletions);
        let deadline = tokio::time::Instant::now() + QUIET;
        while let Ok(event) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            self.take(event.expect("the syncer runs"));
        }
        assert_eq!(self.deletions, deletions);
        assert_eq!(self.keys, keys);
    }
}

fn options() -> Options {
    Options::ranges([KeyRange::Prefix("/calico/ipam/v2/handle/".into())])
}

async fn put_handles(client: &Client, numbers: std::ops::Range<usize>) {
    let value = api::ipam_model::Handle::default();
    let puts = numbers.map(|n| client.apply(HandleKey::new(format!("h{n}")), &value, None));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
}

async fn initialised(store: Store) -> (Store, Client) {
    let client = store.client().await;
    Resources::new(client.clone())
        .ensure_initialized("", "")
        .await
        .unwrap();
    (store, client)
}

async fn a_snapshot_then_changes(store: Store) {
    let (store, client) = initialised(store).await;
    put_handles(&client, 0..5).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    assert_eq!(
        follower.statuses,
        [Status::WaitForDatastore, Status::ResyncInProgress, Status::InSync]
    );
    assert_eq!(follower.keys.len(), 6);
    put_handles(&client, 5..6).await;
    client.delete(&HandleKey::new("h0"), None).await.unwrap();
    follower
        .until("both changes", |f| {
            f.keys.contains_key("/calico/ipam/v2/handle/h5") && f.deletions == 1
        })
        .await;
    assert_eq!(follower.health(HealthState::InSync).await, "");
}

async fn an_uninitialised_store_is_waited_for(store: Store) {
    let mut follower = Follower::start(&store, Options::felix());
    let reason = follower.health(HealthState::Frozen).await;
    assert!(reason.contains("not initialised"), "{reason}");
    let resources = Resources::new(store.client().await);
    resources.ensure_initialized("", "").await.unwrap();
    let mut pool = IpPool {
        metadata: ObjectMeta::named("p"),
        ..IpPool::default()
    };
    pool.spec.cidr = "10.0.0.0/16".into();
    resources.create(pool).await.unwrap();
    follower.in_sync().await;
    follower
        .until("the pool", |f| f.keys.keys().any(|k| k.ends_with("/ippools/p")))
        .await;
}

async fn a_store_that_is_away_changes_nothing(store: Store) {
    let (mut store, client) = initialised(store).await;
    put_handles(&client, 0..5).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    store.kill();
    follower.health(HealthState::WaitForDatastore).await;
    follower.keeps_what_it_has().await;
    store.run().await;
    put_handles(&client, 7..8).await;
    follower
        .until("the change after the outage", |f| {
            f.keys.contains_key("/calico/ipam/v2/handle/h7")
        })
        .await;
    assert_eq!(follower.deletions, 0);
}

async fn a_compaction_during_an_outage_tells_only_differences(store: Store) {
    let (store, client) = initialised(store).await;
    put_handles(&client, 0..20).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("view");
    let mut follower = Follower::start(&store, options().with_snapshot(&file));
    follower.in_sync().await;
    follower.handle.shutdown().await;
    assert!(file.exists());

    client.delete(&HandleKey::new("h3"), None).await.unwrap();
    put_handles(&client, 20..21).await;
    let (header, _) = client.etcd().get("/x", None).await.unwrap();
    store.etcdctl(&["compact", &header.revision.to_string()]);

    let mut follower = Follower::start(&store, options().with_snapshot(&file));
    follower
        .until("the saved view", |f| f.statuses.contains(&Status::FromSnapshot))
        .await;
    assert_eq!(follower.keys.len(), 21);
    let before = follower.keys.clone();
    follower.in_sync().await;
    assert_eq!(follower.deletions, 1);
    let told: Vec<_> = follower
        .keys
        .iter()
        .filter(|(k, r)| before.get(*k) != Some(r))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

async fn a_watch_whose_resume_point_is_compacted_lists_again(store: Store) {
    let (mut store, client) = initialised(store).await;
    put_handles(&client, 0..5).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    store.kill();
    follower.health(HealthState::WaitForDatastore).await;
    // Grow the backoff, so that the changes below happen before the syncer is back.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    store.run().await;
    client.delete(&HandleKey::new("h1"), None).await.unwrap();
    put_handles(&client, 10..40).await;
    let (header, _) = client.etcd().get("/x", None).await.unwrap();
    store.etcdctl(&["compact", &header.revision.to_string()]);
    follower
        .until("everything", |f| f.keys.len() == 35 && f.deletions == 1)
        .await;
    put_handles(&client, 50..51).await;
    follower
        .until("a change after it", |f| {
            f.keys.contains_key("/calico/ipam/v2/handle/h50")
        })
        .await;
}

async fn an_emptied_data_directory_deletes_nothing(store: Store) {
    let (mut store, client) = initialised(store).await;
    put_handles(&client, 0..30).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    store.kill();
    store.empty();
    store.run().await;
    let reason = follower.health(HealthState::Frozen).await;
    // An emptied etcd keeps its cluster id, which follows from its configuration; our store makes a new one.
    let expected = match store.program {
        Program::Etcd => "went back",
        Program::Margay => "belong to cluster",
    };
    assert!(reason.contains(expected), "{reason}");
    // Also when someone initialises the empty store.
    Resources::new(client.clone())
        .ensure_initialized("", "")
        .await
        .unwrap();
    follower.keeps_what_it_has().await;
    assert_eq!(follower.deletions, 0);
    assert_eq!(follower.keys.len(), 31);

    follower.handle.accept_new_history();
    follower
        .until("the new history", |f| f.keys.len() == 1 && f.deletions == 30)
        .await;
    follower.health(HealthState::InSync).await;
}

async fn a_prefix_deleted_at_once_deletes_nothing(store: Store) {
    let (store, client) = initialised(store).await;
    put_handles(&client, 0..30).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    client.clean().await.unwrap();
    let reason = follower.health(HealthState::Frozen).await;
    assert!(reason.contains("ClusterInformation"), "{reason}");
    follower.keeps_what_it_has().await;
    assert_eq!(follower.deletions, 0);
    // Initialised again, the store is believed.
    put_handles(&client, 0..2).await;
    Resources::new(client.clone())
        .ensure_initialized("", "")
        .await
        .unwrap();
    follower
        .until("the store's state", |f| f.keys.len() == 3 && f.deletions == 28)
        .await;
}

async fn a_lock_freezes_the_view(store: Store) {
    let (store, client) = initialised(store).await;
    put_handles(&client, 0..3).await;
    let resources = Resources::new(client.clone());
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    let ready = |ready: bool| {
        let resources = resources.clone();
        async move {
            resources
                .modify::<ClusterInformation>("", "default", |c| {
                    c.spec.datastore_ready = Some(ready);
                    true
                })
                .await
                .unwrap();
        }
    };
    ready(false).await;
    let reason = follower.health(HealthState::Frozen).await;
    assert!(reason.contains("datastoreReady: false"), "{reason}");
    client.delete(&HandleKey::new("h0"), None).await.unwrap();
    follower.keeps_what_it_has().await;
    ready(true).await;
    follower.until("the deletion", |f| f.deletions == 1).await;
}

async fn a_slow_consumer_loses_no_last_state(store: Store) {
    let (store, client) = initialised(store).await;
    let mut slow = options();
    slow.channel_batches = 1;
    slow.batch_updates_max = 2;
    let mut follower = Follower::start(&store, slow);
    follower.in_sync().await;
    let mut last = BTreeMap::new();
    for round in 0..40 {
        for n in 0..5 {
            let mut value = api::ipam_model::Handle::default();
            value.block.insert("10.0.0.0/26".into(), round);
            let key = HandleKey::new(format!("h{n}"));
            let kv = client.apply(key.clone(), &value, None).await.unwrap();
            last.insert(key.path(), kv.revision);
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(follower.handle.pending() <= 6, "{}", follower.handle.pending());
    follower
        .until("the last states", |f| {
            last.iter().all(|(k, r)| f.keys.get(k) == Some(r))
        })
        .await;
}

async fn large_answers_come_in_fragments(store: Store) {
    let (mut store, _client) = initialised(store).await;
    let mut follower = Follower::start(&store, options());
    follower.in_sync().await;
    store.kill();
    follower.health(HealthState::WaitForDatastore).await;
    // Grow the backoff: what is written before the syncer is back comes as one answer, above etcd's 2 MiB a fragment.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    store.run().await;
    for name in ["a", "b", "c"] {
        big_transaction(&store, name).await;
    }
    follower
        .until("all keys of the transactions", |f| f.keys.len() == 181)
        .await;
}

/// Sixty keys of 20 kB in one revision, made by a transaction through etcdctl.
async fn big_transaction(store: &Store, name: &str) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let padding = "x".repeat(20_000);
    let mut text = "\n".to_owned();
    for n in 0..60 {
        text.push_str(&format!(
            "put /calico/ipam/v2/handle/{name}{n} '{{\"pad\":\"{padding}\"}}'\n"
        ));
    }
    text.push_str("\n\n");
    let endpoint = store.endpoint();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoint, "txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A process that stands still keeps its connections open: only the pings tell.
async fn a_silent_store_is_noticed(store: Store) {
    let (store, client) = initialised(store).await;
    put_handles(&client, 0..3).await;
    let second = Duration::from_secs(1);
    let config = ClientConfig {
        keep_alive_interval: second,
        keep_alive_timeout: second,
        request_timeout: second,
        ..store.config()
    };
    let impatient = Client::connect(&config).await.unwrap();
    let mut follower = Follower::start_with(config, options());
    follower.in_sync().await;
    follower.health(HealthState::InSync).await;
    store.signal("STOP");
    follower.health(HealthState::WaitForDatastore).await;
    let error = impatient.get(&HandleKey::new("h0")).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    follower.keeps_what_it_has().await;
    store.signal("CONT");
    put_handles(&client, 3..4).await;
    follower
        .until("the change afterwards", |f| {
            f.keys.contains_key("/calico/ipam/v2/handle/h3")
        })
        .await;
    assert_eq!(follower.deletions, 0);
}

/// A member without a leader would go on serving watches in which nothing happens.
#[tokio::test]
async fn a_member_without_a_leader_is_not_believed() {
    let mut members = Store::start_cluster().await;
    let client = members[0].client().await;
    Resources::new(client.clone())
        .ensure_initialized("", "")
        .await
        .unwrap();
    put_handles(&client, 0..3).await;
    let mut follower = Follower::start(&members[0], options());
    follower.in_sync().await;
    follower.health(HealthState::InSync).await;
    members[1].kill();
    members[2].kill();
    let reason = follower.health(HealthState::WaitForDatastore).await;
    assert!(
        reason.contains("leader") || reason.contains("did not answer"),
        "{reason}"
    );
    follower.keeps_what_it_has().await;
    members[1].spawn();
    members[2].spawn();
    for member in &members {
        member.wait_until_up().await;
    }
    put_handles(&client, 3..4).await;
    follower
        .until("the change afterwards", |f| {
            f.keys.contains_key("/calico/ipam/v2/handle/h3")
        })
        .await;
    assert_eq!(follower.deletions, 0);
}

/// One member of three goes, whichever the client was connected to.
#[tokio::test]
async fn a_lost_member_is_passed_over() {
    let mut members = Store::start_cluster().await;
    let config = ClientConfig {
        endpoints: members.iter().map(Store::endpoint).collect(),
        ..members[0].config()
    };
    let client = Client::connect(&config).await.unwrap();
    Resources::new(client.clone())
        .ensure_initialized("", "")
        .await
        .unwrap();
    let mut follower = Follower::start_with(config, options());
    follower.in_sync().await;
    for (n, victim) in [0, 1, 2].into_iter().enumerate() {
        members[victim].kill();
        let key = HandleKey::new(format!("h{n}"));
        // The cluster may be choosing a leader.
        let mut written = false;
        for _ in 0..50 {
            written = client
                .apply(key.clone(), &api::ipam_model::Handle::default(), None)
                .await
                .is_ok();
            if written {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(written, "the other two take no writes");
        follower
            .until("the change", |f| f.keys.contains_key(&key.path()))
            .await;
        members[victim].spawn();
        members[victim].wait_until_up().await;
    }
    assert_eq!(follower.deletions, 0);
}
