//! Taking addresses: any ([`Ipam::auto_assign`]) or one in particular ([`Ipam::assign_ip`]).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;

use api::Node;
use api::v3::ip_pool::AllowedUse;
use datastore::Kv;
use datastore::key::{AffinityKey, AffinityList, AffinityType, BlockKey, Family};
use ipnet::IpNet;

use crate::claim::Assignment;
use crate::error::{Error, Result};
use crate::generator::BlockGenerator;
use crate::pool::{Pool, PoolRequest, determine_pools, pool_of};
use crate::{BLOCKS_PER_HOST_MAX_DEFAULT, Ipam, LOAD_BALANCER_HOST, RETRIES_MAX, back_off, block};

/// A request for any addresses.
#[derive(Debug, Clone)]
pub struct AutoAssignRequest {
    /// How many IPv4 addresses.
    pub ipv4: usize,
    /// How many IPv6 addresses; tried after IPv4 succeeded.
    pub ipv6: usize,
    /// The owner, by whom they are found and released.
    pub handle: Option<String>,
    /// What is recorded with each address: `node`, `pod`, `namespace`, `type`, `timestamp`, ...
    pub attributes: BTreeMap<String, String>,
    /// The host that will have them.
    pub host: String,
    /// Only from these IPv4 pools, in this order.
    pub ipv4_pools: Vec<IpNet>,
    /// Only from these IPv6 pools, in this order.
    pub ipv6_pools: Vec<IpNet>,
    /// A lower limit of blocks than the configuration's; 0 for none.
    pub blocks_per_host_max: u32,
    /// What they are for.
    pub intended_use: AllowedUse,
    /// Labels of the workload's namespace, for pools that select namespaces.
    pub namespace_labels: BTreeMap<String, String>,
}

impl AutoAssignRequest {
    /// Addresses for a workload on `host`; without any until `ipv4` or `ipv6` is set.
    pub fn for_workload(host: impl Into<String>, handle: impl Into<String>) -> Self {
        Self {
            ipv4: 0,
            ipv6: 0,
            handle: Some(handle.into()),
            attributes: BTreeMap::new(),
            host: host.into(),
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            blocks_per_host_max: 0,
            intended_use: AllowedUse::Workload,
            namespace_labels: BTreeMap::new(),
        }
    }
}

/// What was assigned. Fewer addresses than asked for are no error: see [`FamilyAssignment::shortfall`].
#[derive(Debug, Clone, Default)]
pub struct AutoAssignResult {
    /// Of IPv4, if any was asked for.
    pub ipv4: Option<FamilyAssignment>,
    /// Of IPv6, if any was asked for and IPv4 met no limit.
    pub ipv6: Option<FamilyAssignment>,
}

/// What was assigned of one family.
#[derive(Debug, Clone)]
pub struct FamilyAssignment {
    /// Which.
    pub family: Family,
    /// The addresses, each with the prefix length of its block.
    pub addresses: Vec<IpNet>,
    /// How many were asked for.
    pub requested: usize,
    /// Why there are fewer.
    pub messages: Vec<String>,
    /// Whether the host's block limit was the reason.
    pub block_limit_reached: bool,
}

/// Fewer addresses than asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Shortfall(String);

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FamilyAssignment {
    /// Why not all were assigned, if so.
    pub fn shortfall(&self) -> Option<Shortfall> {
        if self.addresses.len() >= self.requested {
            return None;
        }
        let mut text = format!(
            "Assigned {} out of {} requested {} addresses",
            self.addresses.len(),
            self.requested,
            self.family
        );
        for message in &self.messages {
            text.push_str("; ");
            text.push_str(message);
        }
        Some(Shortfall(text))
    }

    fn missing(&self) -> usize {
        self.requested.saturating_sub(self.addresses.len())
    }
}

/// A request for one address in particular.
#[derive(Debug, Clone)]
pub struct AssignIpRequest {
    /// Which.
    pub address: IpAddr,
    /// The owner.
    pub handle: Option<String>,
    /// What is recorded with it.
    pub attributes: BTreeMap<String, String>,
    /// The host that will have it.
    pub host: String,
    /// What it is for; `None` is for anything.
    pub intended_use: Option<AllowedUse>,
}

fn affinity_type(intended_use: AllowedUse) -> AffinityType {
    if intended_use == AllowedUse::LoadBalancer {
        AffinityType::Virtual
    } else {
        AffinityType::Host
    }
}

impl Ipam {
    /// All pools that can be used, in the store's order.
    pub(crate) async fn pools(&self) -> Result<Vec<Pool>> {
        Ok(self
            .resources
            .list_all::<api::IpPool>()
            .await?
            .iter()
            .filter_map(Pool::new)
            .collect())
    }

    /// The labels of the host; of the virtual host, none.
    pub(crate) async fn node_labels(
        &self,
        host: &str,
        kind: AffinityType,
    ) -> Result<BTreeMap<String, String>> {
        if kind == AffinityType::Virtual && host == LOAD_BALANCER_HOST {
            return Ok(BTreeMap::new());
        }
        let node: Node = self.resources.get("", host).await?;
        Ok(node.metadata.labels)
    }

    /// Takes addresses from the host's blocks, claims blocks where those are full, and, unless affinity is strict,
    /// borrows from blocks of others.
    ///
    /// # Errors
    /// When no pool may serve the request, or that of the store. Addresses assigned before the error stay with the
    /// handle: release them by it.
    pub async fn auto_assign(&self, request: &AutoAssignRequest) -> Result<AutoAssignResult> {
        let mut result = AutoAssignResult::default();
        if request.ipv4 > 0 {
            let assigned = self.auto_assign_family(request, Family::V4, request.ipv4).await?;
            let go_on = !assigned.block_limit_reached;
            result.ipv4 = Some(assigned);
            if !go_on {
                return Ok(result);
            }
        }
        if request.ipv6 > 0 {
            result.ipv6 = Some(self.auto_assign_family(request, Family::V6, request.ipv6).await?);
        }
        Ok(result)
    }

    async fn auto_assign_family(
        &self,
        request: &AutoAssignRequest,
        family: Family,
        requested: usize,
    ) -> Result<FamilyAssignment> {
        let mut assignment = self.prepare(request, family).await?;
        let mut result = FamilyAssignment {
            family,
            addresses: Vec::new(),
            requested,
            messages: Vec::new(),
            block_limit_reached: false,
        };
        while result.missing() > 0 {
            let stored = match self.find_or_claim(&mut assignment, 1).await {
                Ok(found) => found,
                Err(Error::NoFreeBlocks) => {
                    if assignment.config.strict_affinity {
                        result
                            .messages
                            .push("No more free affine blocks and strict affinity enabled".into());
                    }
                    break;
                }
                Err(Error::BlockLimit) => {
                    result.messages.push(format!(
                        "Need to allocate an IPAM block but could not - limit of {} blocks reached for this node",
                        assignment.blocks_max
                    ));
                    result.block_limit_reached = true;
                    return Ok(result);
                }
                Err(e) => return Err(e),
            };
            assignment.owned.insert(stored.key.cidr);
            match self
                .assign_from_block(&assignment, stored, result.missing(), true)
                .await
            {
                Ok(addresses) => result.addresses.extend(addresses),
                Err(error) => {
                    tracing::warn!(%error, "cannot assign from a block");
                    result
                        .messages
                        .push("Failed to assign IPs in newly allocated block".into());
                }
            }
        }
        if result.missing() > 0 && !assignment.config.strict_affinity {
            self.borrow(&assignment, &mut result).await?;
        }
        Ok(result)
    }

    async fn prepare<'a>(&self, request: &'a AutoAssignRequest, family: Family) -> Result<Assignment<'a>> {
        let config = self.config().await?;
        let kind = affinity_type(request.intended_use);
        let all_pools = self.pools().await?;
        let node_labels = self.node_labels(&request.host, kind).await?;
        let pools = determine_pools(
            &all_pools,
            &PoolRequest {
                asked_for: if family == Family::V4 {
                    &request.ipv4_pools
                } else {
                    &request.ipv6_pools
                },
                family,
                host: &request.host,
                node_labels: &node_labels,
                namespace_labels: &request.namespace_labels,
                intended_use: request.intended_use,
            },
        )?;
        let list = AffinityList {
            kind,
            host: Some(request.host.clone()),
            family: Some(family),
        };
        let mut remaining = VecDeque::new();
        for affinity in self.client.list(&list).await?.items {
            let cidr = affinity.key.cidr;
            if pools.iter().any(|pool| pool.cidr.contains(&cidr)) {
                remaining.push_back(cidr);
            } else {
                self.release_if_deselected(&affinity.key, &all_pools, &node_labels)
                    .await;
            }
        }
        let blocks_max = match (config.max_blocks_per_host, request.blocks_per_host_max) {
            (0, 0) => BLOCKS_PER_HOST_MAX_DEFAULT,
            (configured, 0) => configured,
            (0, asked) => asked,
            (configured, asked) => configured.min(asked),
        };
        Ok(Assignment {
            request,
            family,
            kind,
            config,
            pools,
            owned: remaining.iter().copied().collect(),
            remaining,
            blocks_max: usize::try_from(blocks_max).unwrap_or(usize::MAX),
        })
    }

    /// Gives up an empty block whose pool does not select the node any more.
    async fn release_if_deselected(
        &self,
        key: &AffinityKey,
        pools: &[Pool],
        node_labels: &BTreeMap<String, String>,
    ) {
        let Some(pool) = pool_of(pools, key.cidr.network()).filter(|pool| pool.enabled) else {
            return;
        };
        if !matches!(pool.selects_node(node_labels), Ok(false)) {
            return;
        }
        if let Err(error) = self.release_block_affinity_retrying(key, true).await {
            tracing::debug!(affinity = %key, %error, "a block that the pool no longer selects stays");
        }
    }

    /// Takes up to `wanted` addresses of a block, which is read again when another writer is faster.
    async fn assign_from_block(
        &self,
        assignment: &Assignment<'_>,
        stored: Kv<BlockKey>,
        wanted: usize,
        check_affinity: bool,
    ) -> Result<Vec<IpNet>> {
        let request = assignment.request;
        let cidr = stored.key.cidr;
        let ours = format!("{}:{}", assignment.kind.as_str(), request.host);
        let mut next = Some(stored);
        for attempt in 0..RETRIES_MAX {
            back_off(attempt).await;
            let mut stored = match next.take() {
                Some(stored) => stored,
                None => {
                    self.read_block(cidr, assignment.config.ip_cooldown_seconds)
                        .await?
                }
            };
            if check_affinity && assignment.config.strict_affinity {
                block::check_affinity(&stored.value, &ours)?;
            }
            let handle = request.handle.as_deref();
            let taken = block::auto_assign(&mut stored.value, wanted, handle, &request.attributes, |_| true);
            if taken.is_empty() {
                return Ok(taken);
            }
            match self.write_assigned(&stored, handle, taken.len()).await {
                Ok(()) => return Ok(taken),
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::RetriesExhausted)
    }

    /// The handle first, then the block; if that fails, the handle back.
    async fn write_assigned(&self, stored: &Kv<BlockKey>, handle: Option<&str>, count: usize) -> Result<()> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(handle) = handle {
            self.increment_handle(handle, stored.key.cidr, count).await?;
        }
        let Err(error) = self.update_block(stored).await else {
            return Ok(());
        };
        if let Some(handle) = handle {
            self.decrement_released(handle, stored.key.cidr, count, None)
                .await;
        }
        Err(error)
    }

    /// Takes what is missing from blocks that are somebody else's, or nobody's.
    async fn borrow(&self, assignment: &Assignment<'_>, result: &mut FamilyAssignment) -> Result<()> {
        let now = self.now();
        for pool in &assignment.pools {
            for cidr in BlockGenerator::new(pool.cidr, pool.block_size, &assignment.request.host, now) {
                if result.missing() == 0 {
                    return Ok(());
                }
                let stored = match self.read_block(cidr, assignment.config.ip_cooldown_seconds).await {
                    Ok(stored) => stored,
                    Err(Error::Datastore(e)) if e.is_unavailable() => return Err(e.into()),
                    Err(_) => continue,
                };
                match self
                    .assign_from_block(assignment, stored, result.missing(), false)
                    .await
                {
                    Ok(addresses) => result.addresses.extend(addresses),
                    Err(error) => tracing::debug!(block = %cidr, %error, "cannot borrow from a block"),
                }
            }
        }
        if result.missing() > 0 {
            let pools: Vec<String> = assignment
                .pools
                .iter()
                .map(|pool| pool.cidr.to_string())
                .collect();
            result
                .messages
                .push(format!("No IPs available in pools: [{}]", pools.join(" ")));
        }
        Ok(())
    }

    /// Takes one address in particular. Its block is claimed for the host if there is none; selectors, assignment mode
    /// and limits do not count.
    ///
    /// # Errors
    /// [`Error::AlreadyAssigned`], [`Error::NotInPool`], or that of the store.
    pub async fn assign_ip(&self, request: &AssignIpRequest) -> Result<()> {
        let address = request.address;
        let pools = self.pools().await?;
        let pool = pools
            .iter()
            .find(|pool| pool.enabled && pool.cidr.contains(&address))
            .ok_or(Error::NotInPool(address))?;
        if let Some(wanted) = request.intended_use
            && !pool.uses.contains(&wanted)
        {
            return Err(Error::UseNotAllowed {
                address,
                pool: pool.name.clone(),
                wanted,
            });
        }
        let cidr = pool.block_of(address).ok_or(Error::NotInPool(address))?;
        let config = self.config().await?;
        let kind = request.intended_use.map_or(AffinityType::Host, affinity_type);
        let key = AffinityKey {
            kind,
            host: request.host.clone(),
            cidr,
        };
        for attempt in 0..RETRIES_MAX {
            back_off(attempt).await;
            let mut stored = match self.read_block(cidr, config.ip_cooldown_seconds).await {
                Err(e) if e.is_missing() => match self.claim_block(&key, config.ip_cooldown_seconds).await {
                    // Another host was faster: from its block, then.
                    Err(Error::ClaimConflict(_)) => continue,
                    // It was there a moment ago, and went with its last address.
                    Err(e) if e.is_conflict() || e.is_missing() => continue,
                    other => other?,
                },
                other => other?,
            };
            if config.strict_affinity {
                block::check_affinity(&stored.value, &key.affinity_text())?;
            }
            block::assign(
                &mut stored.value,
                address,
                request.handle.as_deref(),
                &request.attributes,
            )?;
            match self.write_assigned(&stored, request.handle.as_deref(), 1).await {
                Err(e) if e.is_conflict() || e.is_missing() => {}
                other => return other,
            }
        }
        Err(Error::RetriesExhausted)
    }
}
