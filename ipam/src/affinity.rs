//! Claiming blocks for a host and giving them up.
//!
//! A block is created only after a pending affinity exists, and an affinity is deleted only after its block was
//! deleted or disowned; so every block of a host can be found through its affinities, whenever a crash comes. Where
//! the two disagree, the block is right.

use api::ipam_model::{Affinity, AffinityState};
use datastore::Kv;
use datastore::client::KeyRange;
use datastore::key::{AffinityKey, AffinityList, AffinityType, BlockKey, Family};
use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::pool::{Pool, pool_of};
use crate::{Ipam, RETRIES_MAX, block};

/// The host's marker, which very old releases wrote.
const HOST_MARKER_ROOT: &str = "/calico/ipam/v2/host/";

/// What came of claiming a range.
#[derive(Debug, Default)]
pub struct ClaimResult {
    /// Blocks that are the host's now.
    pub claimed: Vec<IpNet>,
    /// Blocks that are somebody else's.
    pub failed: Vec<IpNet>,
}

/// When a block may be released.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReleaseBlock {
    pub(crate) must_be_empty: bool,
    /// Only if the block is still at this sequence number.
    pub(crate) sequence_number: Option<u64>,
}

impl Ipam {
    /// A block as it is stored, after releasing what has cooled down.
    pub(crate) async fn read_block(&self, cidr: IpNet, cooldown_seconds: u32) -> Result<Kv<BlockKey>> {
        let mut stored = self.client.get(&BlockKey::new(cidr)).await?;
        block::usable(&stored.value, &stored.key.cidr)
            .map_err(|defect| Error::Malformed { block: cidr, defect })?;
        block::normalise(&mut stored.value, cooldown_seconds, self.now());
        Ok(stored)
    }

    /// Writes a block back; every write moves its sequence number.
    pub(crate) async fn update_block(&self, stored: &Kv<BlockKey>) -> Result<Kv<BlockKey>> {
        let mut stored = stored.clone();
        stored.value.sequence_number = stored.value.sequence_number.wrapping_add(1);
        Ok(self.client.update(&stored).await?)
    }

    /// The claim on a block, made or renewed as pending unless it is confirmed.
    pub(crate) async fn pending_affinity(&self, key: &AffinityKey) -> Result<Kv<AffinityKey>> {
        match self
            .client
            .create(key.clone(), &Affinity::new(AffinityState::Pending))
            .await
        {
            Err(e) if e.is_already_exists() => {}
            other => return Ok(other?),
        }
        let stored = self.client.get(key).await?;
        if stored.value.state() == AffinityState::Confirmed {
            return Ok(stored);
        }
        self.set_affinity(&stored, AffinityState::Pending).await
    }

    async fn set_affinity(&self, stored: &Kv<AffinityKey>, state: AffinityState) -> Result<Kv<AffinityKey>> {
        let mut stored = stored.clone();
        stored.value.state = Some(state);
        Ok(self.client.update(&stored).await?)
    }

    /// Creates the block of a pending affinity, or takes the existing one if it is ours.
    pub(crate) async fn claim_affine_block(
        &self,
        affinity: &Kv<AffinityKey>,
        cooldown_seconds: u32,
    ) -> Result<Kv<BlockKey>> {
        let cidr = affinity.key.cidr;
        let ours = affinity.key.affinity_text();
        let fresh = block::new(cidr, Some(ours.clone()), self.now());
        match self.client.create(BlockKey::new(cidr), &fresh).await {
            Ok(created) => {
                self.confirm_affinity(affinity).await?;
                return Ok(created);
            }
            Err(e) if e.is_already_exists() => {}
            Err(e) => return Err(e.into()),
        }
        let existing = self.read_block(cidr, cooldown_seconds).await?;
        if existing.value.affinity.as_deref() == Some(ours.as_str()) {
            self.confirm_affinity(affinity).await?;
            return Ok(existing);
        }
        self.drop_affinity(affinity).await;
        Err(Error::ClaimConflict(cidr))
    }

    async fn confirm_affinity(&self, affinity: &Kv<AffinityKey>) -> Result<()> {
        let Err(error) = self.set_affinity(affinity, AffinityState::Confirmed).await else {
            return Ok(());
        };
        // Somebody else who works for this host may have confirmed it.
        match self.client.get(&affinity.key).await {
            Ok(stored) if stored.value.state() == AffinityState::Confirmed => Ok(()),
            _ => Err(error),
        }
    }

    async fn drop_affinity(&self, affinity: &Kv<AffinityKey>) {
        if let Err(error) = self.client.delete(&affinity.key, Some(affinity.revision)).await
            && !error.is_does_not_exist()
        {
            tracing::debug!(affinity = %affinity.key, %error, "a void affinity is left behind");
        }
    }

    /// The block of an affinity, whatever state a crash left both in.
    pub(crate) async fn block_from_affinity(
        &self,
        affinity: &Kv<AffinityKey>,
        cooldown_seconds: u32,
    ) -> Result<Kv<BlockKey>> {
        let cidr = affinity.key.cidr;
        let stored = match self.read_block(cidr, cooldown_seconds).await {
            Err(e) if e.is_missing() => {
                let pending = self.set_affinity(affinity, AffinityState::Pending).await?;
                return self.claim_affine_block(&pending, cooldown_seconds).await;
            }
            other => other?,
        };
        if stored.value.affinity.as_deref() != Some(affinity.key.affinity_text().as_str()) {
            self.drop_affinity(affinity).await;
            return Err(Error::StaleAffinity(cidr));
        }
        if affinity.value.state() == AffinityState::Confirmed {
            return Ok(stored);
        }
        let pending = self.set_affinity(affinity, AffinityState::Pending).await?;
        // Moves the block's revision, so that a releaser that is half way through fails.
        let stored = self.update_block(&stored).await?;
        self.set_affinity(&pending, AffinityState::Confirmed).await?;
        Ok(stored)
    }

    /// Gives a block up: deletes it if nobody has an address, else leaves it without affinity.
    pub(crate) async fn release_block_affinity(&self, key: &AffinityKey, how: ReleaseBlock) -> Result<()> {
        let affinity = self.client.get(key).await?;
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let mut stored = self.read_block(key.cidr, cooldown_seconds).await?;
        if how
            .sequence_number
            .is_some_and(|seen| seen != stored.value.sequence_number)
        {
            return Err(Error::BlockChanged(key.cidr));
        }
        if stored.value.affinity.as_deref() != Some(key.affinity_text().as_str()) {
            self.drop_affinity(&affinity).await;
            return Err(Error::ClaimConflict(key.cidr));
        }
        let empty = block::is_empty(&stored.value);
        if how.must_be_empty && !empty {
            return Err(Error::BlockNotEmpty(key.cidr));
        }
        let affinity = self
            .set_affinity(&affinity, AffinityState::PendingDeletion)
            .await?;
        if empty {
            missing_is_fine(
                self.client
                    .delete(&stored.key, Some(stored.revision))
                    .await
                    .map(|_| ()),
            )?;
        } else {
            stored.value.affinity = None;
            stored.value.affinity_claim_time = None;
            self.update_block(&stored).await?;
        }
        missing_is_fine(self.client.delete(key, Some(affinity.revision)).await.map(|_| ()))
    }

    /// As [`Ipam::release_block_affinity`], repeated while other writers are faster. A claim without a block (left by
    /// a crash) goes too.
    pub(crate) async fn release_block_affinity_retrying(
        &self,
        key: &AffinityKey,
        must_be_empty: bool,
    ) -> Result<()> {
        let how = ReleaseBlock {
            must_be_empty,
            sequence_number: None,
        };
        for _ in 0..RETRIES_MAX {
            match self.release_block_affinity(key, how).await {
                Err(e) if e.is_conflict() => {}
                Err(e) if e.is_missing() => match self.client.get(key).await {
                    Ok(orphan) => match self.client.delete(key, Some(orphan.revision)).await {
                        Err(e) if e.is_conflict() => {}
                        other => return missing_is_fine(other.map(|_| ())),
                    },
                    Err(e) if e.is_does_not_exist() => return Ok(()),
                    Err(e) => return Err(e.into()),
                },
                Err(Error::ClaimConflict(_)) => return Ok(()),
                other => return other,
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// Claims every block of a range for a host. The range must lie in a pool and be a block at least.
    ///
    /// # Errors
    /// When the range is none that can be claimed, or that of the store.
    pub async fn claim_affinity(&self, cidr: IpNet, host: &str, kind: AffinityType) -> Result<ClaimResult> {
        let pools = self.pools().await?;
        let pool = claimable(&pools, cidr)?;
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let mut result = ClaimResult::default();
        for block in blocks_of(pool, cidr)? {
            let key = AffinityKey {
                kind,
                host: host.to_owned(),
                cidr: block,
            };
            match self.claim_block(&key, cooldown_seconds).await {
                Ok(_) => result.claimed.push(block),
                Err(Error::ClaimConflict(_)) => result.failed.push(block),
                Err(e) => return Err(e),
            }
        }
        Ok(result)
    }

    /// Claims one block, again while other writers are faster.
    pub(crate) async fn claim_block(&self, key: &AffinityKey, cooldown_seconds: u32) -> Result<Kv<BlockKey>> {
        for _ in 0..RETRIES_MAX {
            let claimed = match self.pending_affinity(key).await {
                Ok(affinity) => self.claim_affine_block(&affinity, cooldown_seconds).await,
                Err(e) => Err(e),
            };
            match claimed {
                Err(e) if e.is_conflict() || e.is_missing() => {}
                other => return other,
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// Gives up every block of a range that the host has. Those it does not have are passed over.
    ///
    /// # Errors
    /// When a block is not empty and has to be, or that of the store.
    pub async fn release_affinity(
        &self,
        cidr: IpNet,
        host: &str,
        kind: AffinityType,
        must_be_empty: bool,
    ) -> Result<()> {
        let pools = self.pools().await?;
        let pool = claimable(&pools, cidr)?;
        for block in blocks_of(pool, cidr)? {
            let key = AffinityKey {
                kind,
                host: host.to_owned(),
                cidr: block,
            };
            self.release_block_affinity_retrying(&key, must_be_empty).await?;
        }
        Ok(())
    }

    /// Gives up all blocks of a host, of both families; goes on after an error.
    ///
    /// # Errors
    /// The last one.
    pub async fn release_host_affinities(
        &self,
        host: &str,
        kind: AffinityType,
        must_be_empty: bool,
    ) -> Result<()> {
        let mut outcome = Ok(());
        for family in Family::BOTH {
            let list = AffinityList {
                kind,
                host: Some(host.to_owned()),
                family: Some(family),
            };
            for affinity in self.client.list(&list).await?.items {
                if let Err(e) = self
                    .release_block_affinity_retrying(&affinity.key, must_be_empty)
                    .await
                {
                    tracing::warn!(affinity = %affinity.key, error = %e, "a block is not released");
                    outcome = Err(e);
                }
            }
        }
        outcome
    }

    /// Gives up all blocks in a range, whichever host has them, also those in use. Addresses stay assigned.
    ///
    /// # Errors
    /// The last one.
    pub async fn release_pool_affinities(&self, pool: IpNet) -> Result<()> {
        let mut outcome = Ok(());
        let list = AffinityList {
            family: Some(Family::of(&pool)),
            ..AffinityList::default()
        };
        for affinity in self.client.list(&list).await?.items {
            if pool.contains(&affinity.key.cidr)
                && let Err(e) = self.release_block_affinity_retrying(&affinity.key, false).await
            {
                tracing::warn!(affinity = %affinity.key, error = %e, "a block is not released");
                outcome = Err(e);
            }
        }
        outcome
    }

    /// Forgets a host: gives up its blocks and removes its marker.
    ///
    /// # Errors
    /// The last one.
    pub async fn remove_host(&self, host: &str) -> Result<()> {
        self.release_host_affinities(host, AffinityType::Host, false)
            .await?;
        self.client
            .etcd()
            .delete_range(&KeyRange::Exact(format!("{HOST_MARKER_ROOT}{host}")))
            .await?;
        Ok(())
    }
}

fn missing_is_fine(outcome: datastore::Result<()>) -> Result<()> {
    match outcome {
        Err(e) if e.is_does_not_exist() => Ok(()),
        other => Ok(other?),
    }
}

/// The pool of a range that is a block at least.
fn claimable(pools: &[Pool], cidr: IpNet) -> Result<&Pool> {
    pool_of(pools, cidr.network())
        .filter(|pool| pool.cidr.contains(&cidr) && cidr.prefix_len() <= pool.block_size)
        .ok_or(Error::NotAClaimableRange(cidr))
}

fn blocks_of(pool: &Pool, cidr: IpNet) -> Result<impl Iterator<Item = IpNet> + use<>> {
    cidr.trunc()
        .subnets(pool.block_size)
        .map_err(|_| Error::NotAClaimableRange(cidr))
}
