//! How full pools and blocks are, and who has an address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::ipam_model::AllocationBlock;
use datastore::Kv;
use datastore::key::{BlockKey, BlockList};
use ipnet::IpNet;

use crate::error::Result;
use crate::pool::{Pool, pool_of};
use crate::{Ipam, block};

/// The name of the entry that holds blocks of no pool.
pub const ORPHANED_BLOCKS: &str = "orphaned allocation blocks";

/// How full a pool is.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolUtilisation {
    /// The pool's name, or [`ORPHANED_BLOCKS`].
    pub name: String,
    /// Its range; `0.0.0.0/0` for the entry of orphaned blocks.
    pub cidr: IpNet,
    /// All its addresses.
    pub capacity: u128,
    /// Those that cannot be given: assigned, or cooling down.
    pub in_use: u128,
    /// Those that can.
    pub available: u128,
    /// Its blocks, in address order.
    pub blocks: Vec<BlockUtilisation>,
}

/// How full a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockUtilisation {
    /// The block.
    pub cidr: IpNet,
    /// Who has claimed it: `host:node-1`.
    pub affinity: Option<String>,
    /// All its addresses.
    pub capacity: usize,
    /// Those that cannot be given: assigned, or cooling down.
    pub in_use: usize,
    /// Those that can.
    pub available: usize,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The handle, if any.
    pub handle: Option<String>,
    /// What was recorded with it.
    pub attributes: BTreeMap<String, String>,
    /// Of the other owner during a live migration.
    pub alternate_attributes: BTreeMap<String, String>,
    /// It was released and cools down: nobody has it.
    pub cooling_down: bool,
    /// Its block.
    pub block: IpNet,
    /// The holder of the block: `host:node-1`.
    pub block_affinity: Option<String>,
}

impl BlockUtilisation {
    fn new(stored: &AllocationBlock) -> Self {
        let capacity = block::size(&stored.cidr);
        let available = block::free_count(stored).min(capacity);
        Self {
            cidr: stored.cidr,
            affinity: stored.affinity.clone(),
            capacity,
            in_use: capacity - available,
            available,
        }
    }
}

impl PoolUtilisation {
    fn new(pool: &Pool) -> Self {
        let bits = u32::from(pool.cidr.max_prefix_len() - pool.cidr.prefix_len());
        let capacity = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        Self {
            name: pool.name.clone(),
            cidr: pool.cidr,
            capacity,
            in_use: 0,
            available: capacity,
            blocks: Vec::new(),
        }
    }

    fn add(&mut self, block: BlockUtilisation) {
        let in_use = u128::try_from(block.in_use).unwrap_or(u128::MAX);
        self.in_use = self.in_use.saturating_add(in_use);
        self.available = self.available.saturating_sub(in_use);
        self.blocks.push(block);
    }
}

impl Ipam {
    /// How full pools are, in the store's order. `only`: names or ranges of pools; empty is all, and then blocks of no
    /// pool come last under [`ORPHANED_BLOCKS`], if there are any.
    ///
    /// # Errors
    /// That of the store.
    pub async fn utilisation(&self, only: &[String]) -> Result<Vec<PoolUtilisation>> {
        let mut pools = self.pools().await?;
        if !only.is_empty() {
            pools.retain(|pool| {
                only.iter()
                    .any(|wanted| *wanted == pool.name || *wanted == pool.cidr.to_string())
            });
        }
        let mut figures: Vec<PoolUtilisation> = pools.iter().map(PoolUtilisation::new).collect();
        let mut orphans = PoolUtilisation {
            name: ORPHANED_BLOCKS.to_owned(),
            cidr: IpNet::V4(ipnet::Ipv4Net::default()),
            capacity: 0,
            in_use: 0,
            available: 0,
            blocks: Vec::new(),
        };
        for stored in self.blocks().await? {
            let figure = BlockUtilisation::new(&stored.value);
            let cidr = stored.key.cidr;
            let home = figures
                .iter_mut()
                .find(|pool| pool.cidr.contains(&cidr) || cidr.contains(&pool.cidr));
            match home {
                Some(pool) => pool.add(figure),
                None => orphans.blocks.push(figure),
            }
        }
        if only.is_empty() && !orphans.blocks.is_empty() {
            figures.push(orphans);
        }
        for pool in &mut figures {
            pool.blocks.sort_by_key(|b| b.cidr);
        }
        Ok(figures)
    }

    /// All blocks that can be read and used, with what has cooled down released (in memory alone).
    ///
    /// # Errors
    /// That of the store.
    pub async fn blocks(&self) -> Result<Vec<Kv<BlockKey>>> {
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let now = self.now();
        let mut blocks = self.client.list(&BlockList::default()).await?.items;
        blocks.retain(|stored| match block::usable(&stored.value, &stored.key.cidr) {
            Ok(()) => true,
            Err(defect) => {
                tracing::warn!(block = %stored.key.cidr, %defect, "a malformed block is passed over");
                false
            }
        });
        for stored in &mut blocks {
            block::normalise(&mut stored.value, cooldown_seconds, now);
        }
        Ok(blocks)
    }

    /// Who has an address; `None` if nobody has, or it lies in no enabled pool.
    ///
    /// # Errors
    /// That of the store.
    pub async fn owner_of(&self, address: IpAddr) -> Result<Option<Owner>> {
        let mut pools = self.pools().await?;
        pools.retain(|pool| pool.enabled);
        let Some(cidr) = pool_of(&pools, address).and_then(|pool| pool.block_of(address)) else {
            return Ok(None);
        };
        let cooldown_seconds = self.config().await?.ip_cooldown_seconds;
        let stored = match self.read_block(cidr, cooldown_seconds).await {
            Err(e) if e.is_missing() => return Ok(None),
            other => other?,
        };
        let attribute =
            block::ordinal(&cidr, address).and_then(|ordinal| block::attribute(&stored.value, ordinal));
        Ok(attribute.map(|attribute| Owner {
            handle: attribute.handle_id.clone(),
            attributes: attribute.secondary.clone(),
            alternate_attributes: attribute.alternate_owner_attrs.clone(),
            cooling_down: attribute.released_at.is_some(),
            block: cidr,
            block_affinity: stored.value.affinity.clone(),
        }))
    }
}
