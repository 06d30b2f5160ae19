//! Many hosts at once, some of which die half way: no address is given twice, and everything given can be found.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::ipam_model::AffinityState;
use datastore::key::{AffinityKey, AffinityList, BlockList, HandleList};
use ipam::block::Release;
use ipam::{AssignIpRequest, AutoAssignRequest, Error, Ipam, block};
use ipnet::IpNet;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use store::Fabric;

on_both_stores!(
    nothing_is_given_twice,
    hosts_that_die_leave_nothing_that_cannot_be_found,
    one_block_wanted_by_all
);

const HOSTS: usize = 6;
const TASKS_PER_HOST: usize = 2;
const ROUNDS: usize = 12;

/// Who has what, as the callers see it.
#[derive(Default)]
struct Ledger(Mutex<HashMap<IpAddr, String>>);

impl Ledger {
    fn given(&self, address: IpAddr, handle: &str) {
        let before = self.0.lock().unwrap().insert(address, handle.to_owned());
        assert!(
            before.is_none(),
            "{address} was given to {handle} while {before:?} has it"
        );
    }

    fn released(&self, address: IpAddr) {
        assert!(self.0.lock().unwrap().remove(&address).is_some());
    }
}

fn request(host: &str, handle: &str, ipv4: usize) -> AutoAssignRequest {
    AutoAssignRequest {
        ipv4,
        ..AutoAssignRequest::for_workload(host, handle)
    }
}

/// What must hold in the store whenever nobody is writing. Gives the addresses in use by handle.
async fn check(f: &Fabric, deaths: bool) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let blocks = f.client.list(&BlockList::default()).await.unwrap().items;
    let handles: BTreeMap<String, BTreeMap<String, u32>> = f
        .client
        .list(&HandleList)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|kv| (kv.key.id, kv.value.block))
        .collect();
    let affinities: BTreeMap<AffinityKey, AffinityState> = f
        .client
        .list(&AffinityList::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|kv| (kv.key, kv.value.state()))
        .collect();

    let mut in_use: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut counts: BTreeMap<(String, String), u32> = BTreeMap::new();
    for stored in &blocks {
        let cidr = stored.key.cidr;
        assert_eq!(block::consistent(&stored.value, &cidr), Ok(()));
        if let Some(affinity) = &stored.value.affinity {
            let host = affinity.strip_prefix("host:").unwrap();
            assert!(
                affinities.contains_key(&AffinityKey::host(host, cidr)),
                "{cidr} cannot be found by {host}"
            );
        } else {
            assert!(!block::is_empty(&stored.value), "{cidr} is nobody's and empty");
        }
        for ordinal in 0..block::size(&cidr) {
            let Some(attribute) = block::attribute(&stored.value, ordinal) else {
                continue;
            };
            let handle = attribute.handle_id.clone().unwrap();
            let address = block::address(&cidr, ordinal).unwrap();
            assert!(in_use.entry(handle.clone()).or_default().insert(address));
            *counts.entry((handle, cidr.to_string())).or_default() += 1;
        }
    }
    for ((handle, cidr), count) in &counts {
        let counted = handles
            .get(handle)
            .and_then(|blocks| blocks.get(cidr))
            .copied()
            .unwrap_or(0);
        assert!(
            counted >= *count,
            "{handle} has {count} addresses in {cidr}, and counts {counted}"
        );
    }
    for (key, state) in &affinities {
        let ours = blocks.iter().any(|b| {
            b.key.cidr == key.cidr && b.value.affinity.as_deref() == Some(key.affinity_text().as_str())
        });
        assert!(
            ours || *state != AffinityState::Confirmed,
            "{key} is confirmed, but the block denies it"
        );
        assert!(ours || deaths, "{key} ({state:?}) is left over");
    }
    if !deaths {
        for (handle, blocks) in &handles {
            for (cidr, counted) in blocks {
                let count = counts.get(&(handle.clone(), cidr.clone())).copied().unwrap_or(0);
                assert_eq!(*counted, count, "{handle} in {cidr}");
            }
        }
    }
    in_use
}

async fn fabric(f: &Fabric) {
    for host in 0..HOSTS {
        f.node(&format!("n{host}"), &[]).await;
    }
    // 16 blocks of 8 addresses for 6 hosts: claims collide, and some have to borrow.
    f.pool("p", "10.0.0.0/25", |p| p.spec.block_size = 29).await;
}

async fn nothing_is_given_twice(f: &Fabric) {
    fabric(f).await;
    let ledger = Arc::new(Ledger::default());
    let mut tasks = Vec::new();
    for host in 0..HOSTS {
        for task in 0..TASKS_PER_HOST {
            let (ipam, ledger) = (f.ipam.clone(), ledger.clone());
            tasks.push(tokio::spawn(
                async move { churn(&ipam, &ledger, host, task).await },
            ));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    let in_use = check(f, false).await;
    let stored: BTreeMap<IpAddr, String> = in_use
        .into_iter()
        .flat_map(|(handle, addresses)| addresses.into_iter().map(move |a| (a, handle.clone())))
        .collect();
    let told: BTreeMap<IpAddr, String> = ledger.0.lock().unwrap().clone().into_iter().collect();
    assert_eq!(stored, told);
}

async fn churn(ipam: &Ipam, ledger: &Ledger, host: usize, task: usize) {
    let mut random = StdRng::seed_from_u64((host * 100 + task) as u64);
    let name = format!("n{host}");
    let mut mine: Vec<(String, Vec<IpAddr>)> = Vec::new();
    for round in 0..ROUNDS {
        match random.random_range(0..10) {
            0..5 => {
                let handle = format!("net.{host}-{task}-{round}");
                let wanted = random.random_range(1..4);
                let assigned = ipam
                    .auto_assign(&request(&name, &handle, wanted))
                    .await
                    .unwrap()
                    .ipv4
                    .unwrap();
                let addresses: Vec<IpAddr> = assigned.addresses.iter().map(IpNet::addr).collect();
                addresses
                    .iter()
                    .for_each(|address| ledger.given(*address, &handle));
                if !addresses.is_empty() {
                    mine.push((handle, addresses));
                }
            }
            5 => {
                let address: IpAddr = format!("10.0.0.{}", random.random_range(0..128)).parse().unwrap();
                let handle = format!("net.{host}-{task}-{round}");
                let one = AssignIpRequest {
                    address,
                    handle: Some(handle.clone()),
                    attributes: BTreeMap::new(),
                    host: name.clone(),
                    intended_use: None,
                };
                match ipam.assign_ip(&one).await {
                    Ok(()) => {
                        ledger.given(address, &handle);
                        mine.push((handle, vec![address]));
                    }
                    Err(Error::AlreadyAssigned(_)) => {}
                    Err(e) => panic!("{e}"),
                }
            }
            6..8 if !mine.is_empty() => {
                let (handle, addresses) = mine.swap_remove(random.random_range(0..mine.len()));
                // Off the books first: from the moment of the release somebody else may get them.
                addresses.iter().for_each(|address| ledger.released(*address));
                assert_eq!(
                    ipam.release_by_handle(&handle).await.unwrap() as usize,
                    addresses.len()
                );
            }
            8 if !mine.is_empty() => {
                let (_, addresses) = mine.swap_remove(random.random_range(0..mine.len()));
                addresses.iter().for_each(|address| ledger.released(*address));
                let releases: Vec<Release> = addresses.iter().copied().map(Release::address).collect();
                let result = ipam.release_ips(&releases).await.unwrap();
                assert!(result.error.is_none(), "{:?}", result.error);
                assert_eq!(result.released.len(), addresses.len());
            }
            9 => {
                // Gives empty blocks up while others want them.
                let _ = ipam
                    .release_host_affinities(&name, ipam::AffinityType::Host, true)
                    .await;
            }
            _ => {}
        }
    }
}

async fn hosts_that_die_leave_nothing_that_cannot_be_found(f: &Fabric) {
    fabric(f).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..8 {
        let mut tasks = Vec::new();
        for host in 0..HOSTS {
            let ipam = f.ipam.clone();
            let deadline = Duration::from_millis(random.random_range(2..60));
            tasks.push(tokio::spawn(async move {
                let name = format!("n{host}");
                // Dropped at any of its writes.
                let _ = tokio::time::timeout(deadline, async {
                    for n in 0..10 {
                        let handle = format!("net.{host}-{round}-{n}");
                        let _ = ipam.auto_assign(&request(&name, &handle, 2)).await;
                        if n % 2 == 0 {
                            let _ = ipam.release_by_handle(&handle).await;
                        }
                        if n == 5 {
                            let _ = ipam
                                .release_host_affinities(&name, ipam::AffinityType::Host, true)
                                .await;
                        }
                    }
                })
                .await;
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        check(f, true).await;
    }
    // Every address can be released by its handle, and every host can still work.
    for handle in check(f, true).await.into_keys() {
        f.ipam.release_by_handle(&handle).await.unwrap();
    }
    assert!(check(f, true).await.is_empty());
    for host in 0..HOSTS {
        let assigned = f
            .ipam
            .auto_assign(&request(&format!("n{host}"), "net.last", 8))
            .await
            .unwrap()
            .ipv4
            .unwrap();
        assert_eq!(assigned.addresses.len(), 8, "{:?}", assigned.messages);
    }
    for host in 0..HOSTS {
        f.ipam.remove_host(&format!("n{host}")).await.unwrap();
    }
    f.ipam.release_by_handle("net.last").await.unwrap();
    assert!(
        f.client
            .list(&BlockList::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        f.client
            .list(&AffinityList::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn one_block_wanted_by_all(f: &Fabric) {
    for host in 0..HOSTS {
        f.node(&format!("n{host}"), &[]).await;
    }
    f.pool("p", "10.0.0.0/27", |p| p.spec.block_size = 27).await;
    let mut tasks = Vec::new();
    for n in 0..40 {
        let ipam = f.ipam.clone();
        tasks.push(tokio::spawn(async move {
            let request = request(&format!("n{}", n % HOSTS), &format!("net.{n}"), 1);
            ipam.auto_assign(&request).await.unwrap().ipv4.unwrap().addresses
        }));
    }
    let mut given = Vec::new();
    for task in tasks {
        given.extend(task.await.unwrap());
    }
    let distinct: BTreeSet<IpAddr> = given.iter().map(IpNet::addr).collect();
    assert_eq!(given.len(), 32, "the whole block, and no more");
    assert_eq!(distinct.len(), 32);
    assert_eq!(check(f, false).await.len(), 32);
}
