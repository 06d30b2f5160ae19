//! Giving addresses back: some ([`Ipam::release_ips`]), or all of an owner ([`Ipam::release_by_handle`]).
//!
//! The block first, the handle second: see [`crate::Ipam::ips_by_handle`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use datastore::Kv;
use datastore::key::{AffinityKey, AffinityType, BlockKey, BlockList, Family, HandleKey, affinity_of};
use futures::{StreamExt, stream};
use ipnet::IpNet;

use crate::block::{self, Release};
use crate::error::{Error, Result};
use crate::pool::{Pool, pool_of};
use crate::{Ipam, RETRIES_MAX};

/// One address to release; see [`Release`].
pub type ReleaseOptions = Release;

/// From this many addresses on, all handles are read with one list.
const PREFETCH_HANDLES_FROM: usize = 3;
/// How many blocks are worked on at once, at most.
const PARALLEL_BLOCKS_MAX: usize = 16;

/// What was released.
#[derive(Debug, Default)]
pub struct ReleaseResult {
    /// Addresses that nobody had.
    pub unallocated: Vec<IpAddr>,
    /// Addresses that were released.
    pub released: Vec<IpAddr>,
    /// The first error; other blocks were worked on all the same.
    pub error: Option<Error>,
}

impl Release {
    /// This address, whoever has it.
    pub fn address(address: IpAddr) -> Self {
        Self {
            address,
            handle: None,
            sequence_number: None,
        }
    }
}

impl Ipam {
    /// Releases addresses, of whichever pools.
    ///
    /// # Errors
    /// When pools, configuration or blocks cannot be read. An error about one block is in the result.
    pub async fn release_ips(&self, requests: &[Release]) -> Result<ReleaseResult> {
        let pools = self.pools().await?;
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let mut result = ReleaseResult::default();
        let by_block = self.group_by_block(requests, &pools, &mut result).await?;
        let handles = if requests.len() >= PREFETCH_HANDLES_FROM {
            self.all_handles().await?
        } else {
            BTreeMap::new()
        };

        let parallel = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(PARALLEL_BLOCKS_MAX);
        let (pools, handles) = (&pools, &handles);
        let mut outcomes = stream::iter(by_block)
            .map(|(cidr, requests)| async move {
                self.release_in_block(cidr, &requests, cooldown_seconds, pools, handles)
                    .await
            })
            .buffer_unordered(parallel);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(outcome) => {
                    result.unallocated.extend(outcome.unallocated);
                    result.released.extend(outcome.released);
                }
                Err(e) => {
                    result.error.get_or_insert(e);
                }
            }
        }
        Ok(result)
    }

    async fn group_by_block(
        &self,
        requests: &[Release],
        pools: &[Pool],
        result: &mut ReleaseResult,
    ) -> Result<BTreeMap<IpNet, Vec<Release>>> {
        let mut by_block: BTreeMap<IpNet, Vec<Release>> = BTreeMap::new();
        let mut blocks: BTreeMap<Family, Vec<IpNet>> = BTreeMap::new();
        for request in requests {
            let address = request.address;
            let mut cidr = pool_of(pools, address).and_then(|pool| pool.block_of(address));
            if cidr.is_none() {
                // Its pool is gone: the block may still be there.
                let family = Family::of_address(&address);
                if let std::collections::btree_map::Entry::Vacant(entry) = blocks.entry(family) {
                    let listed = self.client.list(&BlockList { family: Some(family) }).await?;
                    entry.insert(listed.items.into_iter().map(|kv| kv.key.cidr).collect());
                }
                cidr = blocks
                    .get(&family)
                    .and_then(|all| all.iter().find(|b| b.contains(&address)).copied());
            }
            match cidr {
                Some(cidr) => by_block.entry(cidr).or_default().push(request.clone()),
                None => result.unallocated.push(address),
            }
        }
        Ok(by_block)
    }

    async fn release_in_block(
        &self,
        cidr: IpNet,
        requests: &[Release],
        cooldown_seconds: u32,
        pools: &[Pool],
        handles: &BTreeMap<String, Kv<HandleKey>>,
    ) -> Result<block::Released> {
        for _ in 0..RETRIES_MAX {
            let mut stored = match self.read_block(cidr, cooldown_seconds).await {
                Err(e) if e.is_missing() => {
                    let unallocated = requests.iter().map(|r| r.address).collect();
                    return Ok(block::Released {
                        unallocated,
                        ..block::Released::default()
                    });
                }
                other => other?,
            };
            let outcome = block::release(&mut stored.value, requests, self.now())?;
            if outcome.released.is_empty() {
                return Ok(outcome);
            }
            match self.write_released(&mut stored, cooldown_seconds).await {
                Ok(()) => {
                    for (handle, count) in &outcome.by_handle {
                        let known = handles.get(handle).cloned();
                        self.decrement_released(handle, cidr, *count, known).await;
                    }
                    self.release_if_pool_moved_on(&stored, pools).await;
                    return Ok(outcome);
                }
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// Writes the block, or deletes it if it is nobody's and nobody has an address.
    async fn write_released(&self, stored: &mut Kv<BlockKey>, cooldown_seconds: u32) -> Result<()> {
        block::normalise(&mut stored.value, cooldown_seconds, self.now());
        if stored.value.affinity.is_some() || !block::is_empty(&stored.value) {
            self.update_block(stored).await?;
            return Ok(());
        }
        match self.client.delete(&stored.key, Some(stored.revision)).await {
            Err(e) if !e.is_does_not_exist() => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Gives up the block, if it is empty and its pool no longer selects the node that has it.
    async fn release_if_pool_moved_on(&self, stored: &Kv<BlockKey>, pools: &[Pool]) {
        let Some((AffinityType::Host, host)) = stored.value.affinity.as_deref().and_then(affinity_of) else {
            return;
        };
        if !block::is_empty(&stored.value) {
            return;
        }
        let Some(pool) = pool_of(pools, stored.key.cidr.network()) else {
            return;
        };
        let Ok(labels) = self.node_labels(host, AffinityType::Host).await else {
            return;
        };
        if matches!(pool.selects_node(&labels), Ok(false)) {
            let key = AffinityKey::host(host, stored.key.cidr);
            if let Err(error) = self.release_block_affinity_retrying(&key, true).await {
                tracing::debug!(affinity = %key, %error, "a block that the pool no longer selects stays");
            }
        }
    }

    /// Releases all addresses of an owner; gives their number.
    ///
    /// # Errors
    /// When there is no such handle ([`Error::is_missing`]), or that of the store.
    pub async fn release_by_handle(&self, handle: &str) -> Result<u32> {
        let stored = self.client.get(&HandleKey::new(handle)).await?;
        let pools = self.pools().await?;
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let mut released = 0u32;
        for cidr in stored.value.block.keys() {
            let Ok(cidr) = cidr.parse::<IpNet>() else {
                tracing::warn!(handle, block = cidr, "a handle names a block that is none");
                continue;
            };
            let count = self
                .release_handle_in_block(handle, cidr, cooldown_seconds, &pools)
                .await?;
            released = released.saturating_add(count);
        }
        Ok(released)
    }

    async fn release_handle_in_block(
        &self,
        handle: &str,
        cidr: IpNet,
        cooldown_seconds: u32,
        pools: &[Pool],
    ) -> Result<u32> {
        for _ in 0..RETRIES_MAX {
            let mut stored = match self.read_block(cidr, cooldown_seconds).await {
                Err(e) if e.is_missing() => return Ok(0),
                other => other?,
            };
            let count = block::release_by_handle(&mut stored.value, handle, self.now());
            if count == 0 {
                return Ok(0);
            }
            match self.write_released(&mut stored, cooldown_seconds).await {
                Ok(()) => {
                    self.decrement_released(handle, cidr, count, None).await;
                    self.release_if_pool_moved_on(&stored, pools).await;
                    return Ok(count);
                }
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::RetriesExhausted)
    }
}
