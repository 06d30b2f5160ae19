//! Which pools a request may be served from. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::IpPool;
use api::selector::Selector;
use api::v3::ip_pool::{AllowedUse, AssignmentMode, BLOCK_SIZE_V4, BLOCK_SIZE_V6};
use datastore::key::Family;
use ipnet::IpNet;

use crate::error::{Error, Result};

/// A pool with its fields in usable form.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The resource's name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// The prefix length of its blocks.
    pub block_size: u8,
    /// Addresses may be taken from it.
    pub enabled: bool,
    /// Taken without naming the pool.
    pub automatic: bool,
    /// What its addresses may be used for.
    pub uses: Vec<AllowedUse>,
    node_selector: String,
    namespace_selector: String,
}

type Labels = BTreeMap<String, String>;

impl Pool {
    /// `None` when the range cannot be read or cannot be cut into blocks: such a pool gives nothing.
    pub fn new(pool: &IpPool) -> Option<Self> {
        let spec = &pool.spec;
        let cidr: IpNet = spec.cidr.parse::<IpNet>().ok()?.trunc();
        let default_size = match Family::of(&cidr) {
            Family::V4 => BLOCK_SIZE_V4,
            Family::V6 => BLOCK_SIZE_V6,
        };
        let block_size = if spec.block_size == 0 {
            default_size
        } else {
            spec.block_size
        };
        if block_size > cidr.max_prefix_len() || block_size < cidr.prefix_len() {
            return None;
        }
        let not_allocatable = pool
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .any(|condition| condition.r#type == "Allocatable" && condition.status == "False");
        let uses = if spec.allowed_uses.is_empty() {
            vec![AllowedUse::Workload, AllowedUse::Tunnel]
        } else {
            spec.allowed_uses.clone()
        };
        Some(Self {
            name: pool.metadata.name.clone(),
            cidr,
            block_size,
            enabled: pool.metadata.deletion_timestamp.is_none() && !spec.disabled && !not_allocatable,
            automatic: spec.assignment_mode != Some(AssignmentMode::Manual),
            uses,
            node_selector: spec.node_selector.clone(),
            namespace_selector: spec.namespace_selector.clone(),
        })
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(&self.cidr)
    }

    /// Whether it may serve this node.
    pub fn selects_node(&self, labels: &Labels) -> Result<bool> {
        self.selects("nodeSelector", &self.node_selector, labels)
    }

    fn selects_namespace(&self, labels: &Labels) -> Result<bool> {
        self.selects("namespaceSelector", &self.namespace_selector, labels)
    }

    fn selects(&self, field: &'static str, selector: &str, labels: &Labels) -> Result<bool> {
        match Selector::parse(selector) {
            Ok(parsed) => Ok(parsed.matches(labels)),
            Err(e) => Err(Error::BadSelector {
                pool: self.name.clone(),
                field,
                selector: selector.to_owned(),
                reason: e.to_string(),
            }),
        }
    }

    /// The block of an address of this pool.
    pub fn block_of(&self, address: IpAddr) -> Option<IpNet> {
        crate::block::containing(address, self.block_size).filter(|block| self.cidr.contains(block))
    }
}

/// The pool, if any, that an address lies in.
pub(crate) fn pool_of(pools: &[Pool], address: IpAddr) -> Option<&Pool> {
    pools.iter().find(|pool| pool.cidr.contains(&address))
}

/// What pools are chosen by.
#[derive(Debug, Clone)]
pub struct PoolRequest<'a> {
    /// Only these, in this order; their selectors and assignment mode do not count then.
    pub asked_for: &'a [IpNet],
    /// The family.
    pub family: Family,
    /// The host, for the error.
    pub host: &'a str,
    /// The host's labels.
    pub node_labels: &'a Labels,
    /// The namespace's labels; none is no label.
    pub namespace_labels: &'a Labels,
    /// What the addresses are for.
    pub intended_use: AllowedUse,
}

/// The pools that may serve a request, in the order of use. `pools` is in the store's order.
///
/// # Errors
/// When a selector cannot be read, or nothing is left.
pub fn determine_pools(pools: &[Pool], request: &PoolRequest<'_>) -> Result<Vec<Pool>> {
    let enabled: Vec<&Pool> = pools
        .iter()
        .filter(|p| p.enabled && p.family() == request.family)
        .collect();
    if enabled.is_empty() {
        return Err(Error::NoQualifiedPool);
    }
    let mut matching = Vec::new();
    if request.asked_for.is_empty() {
        for pool in enabled {
            if pool.automatic
                && pool.selects_node(request.node_labels)?
                && pool.selects_namespace(request.namespace_labels)?
            {
                matching.push(pool);
            }
        }
    } else {
        for &asked in request.asked_for {
            if Family::of(&asked) != request.family {
                return Err(Error::PoolFamily {
                    pool: asked,
                    family: request.family,
                });
            }
            let pool = enabled.iter().find(|pool| pool.cidr == asked.trunc());
            matching.push(*pool.ok_or(Error::PoolNotEnabled(asked))?);
        }
    }
    if matching.is_empty() {
        return Err(Error::NoPoolsForNode(request.host.to_owned()));
    }
    let allowed: Vec<Pool> = matching
        .into_iter()
        .filter(|pool| pool.uses.contains(&request.intended_use))
        .cloned()
        .collect();
    if allowed.is_empty() {
        Err(Error::NoPoolForUse(request.intended_use))
    } else {
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use api::ObjectMeta;

    use super::*;

    fn pool(name: &str, cidr: &str, change: impl FnOnce(&mut IpPool)) -> Pool {
        let mut pool = IpPool {
            metadata: ObjectMeta::named(name),
            ..IpPool::default()
        };
        pool.spec.cidr = cidr.into();
        change(&mut pool);
        Pool::new(&pool).unwrap()
    }

    fn names(
        pools: &[Pool],
        asked_for: &[&str],
        rack: &str,
        intended_use: AllowedUse,
    ) -> Result<Vec<String>> {
        let asked_for: Vec<IpNet> = asked_for.iter().map(|c| c.parse().unwrap()).collect();
        let node_labels = Labels::from([("rack".to_owned(), rack.to_owned())]);
        let request = PoolRequest {
            asked_for: &asked_for,
            family: Family::V4,
            host: "n",
            node_labels: &node_labels,
            namespace_labels: &Labels::new(),
            intended_use,
        };
        determine_pools(pools, &request).map(|pools| pools.into_iter().map(|p| p.name).collect())
    }

    #[test]
    fn selection_follows_the_rules() {
        let pools = [
            pool("a", "10.0.0.0/24", |p| {
                p.spec.node_selector = "rack == '1'".into()
            }),
            pool("b", "10.0.1.0/24", |_| {}),
            pool("c", "10.0.2.0/24", |p| p.spec.disabled = true),
            pool("d", "10.0.3.0/24", |p| {
                p.spec.assignment_mode = Some(AssignmentMode::Manual)
            }),
            pool("e", "10.0.4.0/24", |p| {
                p.spec.namespace_selector = "env == 'prod'".into()
            }),
            pool("f", "10.0.5.0/24", |p| {
                p.spec.allowed_uses = vec![AllowedUse::Tunnel]
            }),
            pool("g", "fd00::/64", |_| {}),
        ];
        use AllowedUse::{LoadBalancer, Tunnel, Workload};
        assert_eq!(names(&pools, &[], "1", Workload).unwrap(), ["a", "b"]);
        assert_eq!(names(&pools, &[], "2", Workload).unwrap(), ["b"]);
        assert_eq!(names(&pools, &[], "2", Tunnel).unwrap(), ["b", "f"]);
        let none = names(&pools, &[], "2", LoadBalancer).unwrap_err().to_string();
        assert_eq!(
            none,
            "cannot find a qualified ippool, no pools match the required use (LoadBalancer)"
        );
        // Asked for, selectors and mode do not count, in the order of asking.
        assert_eq!(
            names(&pools, &["10.0.3.0/24", "10.0.0.0/24"], "2", Workload).unwrap(),
            ["d", "a"]
        );
        let disabled = names(&pools, &["10.0.2.0/24"], "2", Workload)
            .unwrap_err()
            .to_string();
        assert_eq!(
            disabled,
            "the given pool (10.0.2.0/24) does not exist, or is not enabled"
        );
        assert!(matches!(
            names(&pools, &["fd00::/64"], "2", Workload),
            Err(Error::PoolFamily { .. })
        ));
    }

    #[test]
    fn nothing_left_is_said_precisely() {
        assert_eq!(
            names(&[], &[], "1", AllowedUse::Workload)
                .unwrap_err()
                .to_string(),
            "cannot find a qualified ippool"
        );
        let pools = [pool("a", "10.0.0.0/24", |p| {
            p.spec.node_selector = "rack == '1'".into()
        })];
        let none = names(&pools, &[], "2", AllowedUse::Workload)
            .unwrap_err()
            .to_string();
        assert_eq!(none, "no configured Calico pools for node n");
        let pools = [pool("a", "10.0.0.0/24", |p| {
            p.spec.node_selector = "rack ==".into()
        })];
        let bad = names(&pools, &[], "2", AllowedUse::Workload)
            .unwrap_err()
            .to_string();
        assert!(bad.contains("IPPool(a)") && bad.contains("nodeSelector"), "{bad}");
    }
}
