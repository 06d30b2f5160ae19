//! Handles: in which blocks an owner has addresses, and how many.
//!
//! The count goes up before the block is written and down after, so that a crash leaves it too high, never an address
//! that nobody finds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::ipam_model::Handle;
use datastore::Kv;
use datastore::key::{BlockKey, HandleKey, HandleList};
use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::{Ipam, RETRIES_MAX, block};

impl Ipam {
    pub(crate) async fn increment_handle(&self, id: &str, cidr: IpNet, by: u32) -> Result<()> {
        let key = HandleKey::new(id);
        for _ in 0..RETRIES_MAX {
            let written = match self.client.get(&key).await {
                Ok(mut stored) => {
                    let count = stored.value.block.entry(cidr.to_string()).or_default();
                    *count = count.saturating_add(by);
                    self.client.update(&stored).await.map(|_| ())
                }
                Err(e) if e.is_does_not_exist() => {
                    let handle = Handle {
                        block: BTreeMap::from([(cidr.to_string(), by)]),
                        ..Handle::default()
                    };
                    self.client.create(key.clone(), &handle).await.map(|_| ())
                }
                Err(e) => Err(e),
            };
            match written {
                Ok(()) => return Ok(()),
                Err(e) if e.is_conflict() || e.is_already_exists() || e.is_does_not_exist() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// `known`: the handle as an earlier list gave it, which saves a read.
    pub(crate) async fn decrement_handle(
        &self,
        id: &str,
        cidr: IpNet,
        by: u32,
        known: Option<Kv<HandleKey>>,
    ) -> Result<()> {
        let key = HandleKey::new(id);
        let mut known = known;
        for _ in 0..RETRIES_MAX {
            let mut stored = match known.take() {
                Some(stored) => stored,
                None => self.client.get(&key).await?,
            };
            let count = stored.value.block.get(&cidr.to_string()).copied().unwrap_or(0);
            let left = count
                .checked_sub(by)
                .filter(|_| count > 0)
                .ok_or_else(|| Error::HandleUnderflow {
                    handle: id.to_owned(),
                    block: cidr,
                    by,
                    count,
                })?;
            if left == 0 {
                stored.value.block.remove(&cidr.to_string());
            } else {
                stored.value.block.insert(cidr.to_string(), left);
            }
            let written = if stored.value.block.is_empty() {
                self.client.delete(&key, Some(stored.revision)).await.map(|_| ())
            } else {
                self.client.update(&stored).await.map(|_| ())
            };
            match written {
                Ok(()) => return Ok(()),
                Err(e) if e.is_does_not_exist() => return Ok(()),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// As [`Ipam::decrement_handle`], where the addresses are released already: an error is a count too high.
    pub(crate) async fn decrement_released(
        &self,
        id: &str,
        cidr: IpNet,
        by: u32,
        known: Option<Kv<HandleKey>>,
    ) {
        if let Err(error) = self.decrement_handle(id, cidr, by, known).await {
            tracing::warn!(handle = id, block = %cidr, %error, "a handle counts more addresses than it has");
        }
    }

    pub(crate) async fn all_handles(&self) -> Result<BTreeMap<String, Kv<HandleKey>>> {
        let listed = self.client.list(&HandleList).await?;
        Ok(listed
            .items
            .into_iter()
            .map(|kv| (kv.key.id.clone(), kv))
            .collect())
    }

    /// The addresses that a handle has. Blocks that cannot be read are passed over.
    ///
    /// # Errors
    /// When there is no such handle, or that of the store.
    pub async fn ips_by_handle(&self, id: &str) -> Result<Vec<IpAddr>> {
        let handle = self.client.get(&HandleKey::new(id)).await?;
        let mut addresses = Vec::new();
        for cidr in handle.value.block.keys() {
            let Ok(cidr) = cidr.parse::<IpNet>() else {
                tracing::warn!(handle = id, block = cidr, "a handle names a block that is none");
                continue;
            };
            match self.client.get(&BlockKey::new(cidr)).await {
                Ok(stored) => addresses.extend(block::addresses_of_handle(&stored.value, id)),
                Err(error) => tracing::warn!(handle = id, block = %cidr, %error, "a block is passed over"),
            }
        }
        Ok(addresses)
    }
}
