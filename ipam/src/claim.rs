//! Finding a block with room for a host: one of its own, a new one, or an empty one of another host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::ipam_model::IpamConfig;
use datastore::Kv;
use datastore::key::{AffinityKey, AffinityType, BlockKey, BlockList, Family};
use ipnet::IpNet;

use crate::affinity::ReleaseBlock;
use crate::assign::AutoAssignRequest;
use crate::error::{Error, Result};
use crate::generator::BlockGenerator;
use crate::pool::Pool;
use crate::{Ipam, RECLAIM_AGE_MIN_SECONDS, RETRIES_MAX, back_off, block};

/// One family's request, with all that was read for it.
pub(crate) struct Assignment<'a> {
    pub(crate) request: &'a AutoAssignRequest,
    pub(crate) family: Family,
    pub(crate) kind: AffinityType,
    pub(crate) config: IpamConfig,
    pub(crate) pools: Vec<Pool>,
    /// Blocks of the host in `pools`, not looked at yet.
    pub(crate) remaining: VecDeque<IpNet>,
    /// All blocks of the host in `pools`.
    pub(crate) owned: BTreeSet<IpNet>,
    pub(crate) blocks_max: usize,
}

impl Ipam {
    /// A block of the host with room, or a new one.
    pub(crate) async fn find_or_claim(
        &self,
        assignment: &mut Assignment<'_>,
        wanted: usize,
    ) -> Result<Kv<BlockKey>> {
        while let Some(cidr) = assignment.remaining.pop_front() {
            if let Some(stored) = self.own_block(assignment, cidr).await
                && block::free_count(&stored.value) >= wanted
            {
                return Ok(stored);
            }
        }
        if assignment.owned.len() >= assignment.blocks_max {
            return Err(Error::BlockLimit);
        }
        if !assignment.config.auto_allocate_blocks {
            return Err(Error::NoBlockClaimed);
        }
        for attempt in 0..RETRIES_MAX {
            back_off(attempt).await;
            let cidr = self.find_usable_block(assignment).await?;
            let key = AffinityKey {
                kind: assignment.kind,
                host: assignment.request.host.clone(),
                cidr,
            };
            match self.take_block(&key, assignment.config.ip_cooldown_seconds).await {
                Ok(stored) if block::free_count(&stored.value) >= wanted => return Ok(stored),
                // It had room when it was listed: others on this host were faster. Calico gives up here.
                Ok(_) => {}
                Err(Error::ClaimConflict(_) | Error::StaleAffinity(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// A block that an affinity says is the host's, or `None` if it is not, or cannot be had.
    async fn own_block(&self, assignment: &Assignment<'_>, cidr: IpNet) -> Option<Kv<BlockKey>> {
        let key = AffinityKey {
            kind: assignment.kind,
            host: assignment.request.host.clone(),
            cidr,
        };
        for attempt in 0..RETRIES_MAX {
            back_off(attempt).await;
            let affinity = match self.client.get(&key).await {
                Ok(affinity) => affinity,
                Err(error) => {
                    tracing::debug!(affinity = %key, %error, "an affinity is passed over");
                    return None;
                }
            };
            match self
                .block_from_affinity(&affinity, assignment.config.ip_cooldown_seconds)
                .await
            {
                Ok(stored) => return Some(stored),
                Err(e) if e.is_conflict() => {}
                Err(error) => {
                    tracing::debug!(affinity = %key, %error, "a block is passed over");
                    return None;
                }
            }
        }
        None
    }

    async fn take_block(&self, key: &AffinityKey, cooldown_seconds: u32) -> Result<Kv<BlockKey>> {
        for attempt in 0..RETRIES_MAX {
            back_off(attempt).await;
            let taken = match self.pending_affinity(key).await {
                Ok(affinity) => self.block_from_affinity(&affinity, cooldown_seconds).await,
                Err(e) => Err(e),
            };
            match taken {
                Err(e) if e.is_conflict() || e.is_missing() => {}
                other => return other,
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// The first block, in the host's order, that nobody has; else an empty one that another host has had for a while.
    async fn find_usable_block(&self, assignment: &Assignment<'_>) -> Result<IpNet> {
        let ours = format!("{}:{}", assignment.kind.as_str(), assignment.request.host);
        let now = self.now();
        let list = BlockList {
            family: Some(assignment.family),
        };
        let mut blocks: BTreeMap<IpNet, Kv<BlockKey>> = BTreeMap::new();
        for mut stored in self.client.list(&list).await?.items {
            block::normalise(&mut stored.value, assignment.config.ip_cooldown_seconds, now);
            blocks.insert(stored.key.cidr, stored);
        }
        let mut candidates = Vec::new();
        for pool in &assignment.pools {
            for cidr in BlockGenerator::new(pool.cidr, pool.block_size, &assignment.request.host, now) {
                let Some(stored) = blocks.get(&cidr) else {
                    return Ok(cidr);
                };
                if block::free_count(&stored.value) == 0 || block::usable(&stored.value, &cidr).is_err() {
                    continue;
                }
                if stored.value.affinity.as_deref() == Some(ours.as_str()) {
                    return Ok(cidr);
                }
                if block::is_empty(&stored.value) {
                    candidates.push(stored);
                }
            }
        }
        for stored in candidates {
            let claimed = stored.value.affinity_claim_time.map_or(0, api::Time::as_second);
            if now.as_second().saturating_sub(claimed) < RECLAIM_AGE_MIN_SECONDS {
                continue;
            }
            let holder = stored
                .value
                .affinity
                .as_deref()
                .and_then(datastore::key::affinity_of);
            let Some((kind, host)) = holder else { continue };
            let key = AffinityKey {
                kind,
                host: host.to_owned(),
                cidr: stored.key.cidr,
            };
            let how = ReleaseBlock {
                must_be_empty: true,
                sequence_number: Some(stored.value.sequence_number),
            };
            match self.release_block_affinity(&key, how).await {
                Ok(()) => return Ok(stored.key.cidr),
                Err(error) => tracing::debug!(affinity = %key, %error, "an empty block cannot be reclaimed"),
            }
        }
        Err(Error::NoFreeBlocks)
    }
}
