//! Addresses for a container.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::IpPool;
use api::v3::ip_pool::AllowedUse;
use ipam::{AssignIpRequest, AutoAssignRequest, Error, FamilyAssignment, Ipam};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::config::{NetworkConfig, Parameters};
use crate::error::{CniError, Code};
use crate::identity::{Identity, Orchestrator};
use crate::lock;
use crate::store::{Store, failed as store_failed};

/// How long an assignment may take, from when the lock is held.
const ASSIGN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(90);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct AddressRequest {
    /// Exactly this address, by `IP` in `CNI_ARGS`.
    exactly: Option<IpAddr>,
    any: AutoAssignRequest,
    /// Names or ranges of pools.
    ipv4_pools: Vec<String>,
    ipv6_pools: Vec<String>,
}

impl AddressRequest {
    pub(crate) fn of(
        config: &NetworkConfig,
        parameters: &Parameters,
        identity: &Identity,
    ) -> Result<Self, CniError> {
        let exactly = match parameters.args.get("IP").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse::<IpAddr>().map_err(|error| {
                let details = format!("CNI_ARGS: IP={text}: {error}");
                CniError::new(Code::InvalidEnvironment, "invalid environment", details)
            })?),
        };
        let mut any = AutoAssignRequest::for_workload(&identity.node, &identity.handle_id);
        any.ipv4 = usize::from(config.ipam.wants_ipv4());
        any.ipv6 = usize::from(config.ipam.wants_ipv6());
        any.attributes = attributes(identity, Timestamp::now());
        Ok(Self {
            exactly,
            any,
            ipv4_pools: config.ipam.ipv4_pools.clone(),
            ipv6_pools: config.ipam.ipv6_pools.clone(),
        })
    }
}

/// What is recorded with each address.
fn attributes(identity: &Identity, now: Timestamp) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), identity.node.clone()),
        // As Go prints a time.
        (
            "timestamp".to_owned(),
            now.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        ),
    ]);
    if identity.orchestrator == Orchestrator::Kubernetes {
        attributes.insert("pod".to_owned(), identity.pod.clone());
        attributes.insert("namespace".to_owned(), identity.namespace.clone());
    }
    attributes
}

/// Takes one address of each family asked for: all, or none.
pub(crate) fn assign(
    store: &Store,
    config: &NetworkConfig,
    request: &AddressRequest,
) -> Result<Vec<IpNet>, CniError> {
    let ipam = Ipam::new(store.client().clone());
    let mut request = request.clone();
    request.any.ipv4_pools = pools(store, &request.ipv4_pools, "ipam.ipv4_pools", true)?;
    request.any.ipv6_pools = pools(store, &request.ipv6_pools, "ipam.ipv6_pools", false)?;
    let _lock = lock::acquire(&config.ipam_lock_file());
    let assigned =
        store.block_on(async { tokio::time::timeout(ASSIGN_TIME_MAX, take(&ipam, &request)).await });
    assigned.unwrap_or_else(|_| {
        let details = format!(
            "address management took longer than {} s",
            ASSIGN_TIME_MAX.as_secs()
        );
        Err(CniError::new(
            Code::TryAgainLater,
            "cannot assign an address",
            details,
        ))
    })
}

async fn take(ipam: &Ipam, request: &AddressRequest) -> Result<Vec<IpNet>, CniError> {
    if let Some(address) = request.exactly {
        let exact = AssignIpRequest {
            address,
            handle: request.any.handle.clone(),
            attributes: request.any.attributes.clone(),
            host: request.any.host.clone(),
            intended_use: Some(AllowedUse::Workload),
        };
        ipam.assign_ip(&exact)
            .await
            .map_err(|e| failed(&format!("assign {address}"), e))?;
        return Ok(vec![IpNet::from(address)]);
    }
    let assigned = ipam
        .auto_assign(&request.any)
        .await
        .map_err(|e| failed("assign an address", e))?;
    let shortfall = [&assigned.ipv4, &assigned.ipv6]
        .into_iter()
        .flatten()
        .find_map(|family| family.shortfall().map(|s| s.to_string()));
    if let Some(details) = shortfall {
        return Err(CniError::new(Code::Ipam, "no address is free", details));
    }
    let addresses = |family: Option<FamilyAssignment>| family.into_iter().flat_map(|family| family.addresses);
    // The container has single addresses, whatever the block that they are from.
    Ok(addresses(assigned.ipv4)
        .chain(addresses(assigned.ipv6))
        .map(|net| IpNet::from(net.addr()))
        .collect())
}

/// The ranges of pools given by name or range.
fn pools(store: &Store, given: &[String], field: &str, v4: bool) -> Result<Vec<IpNet>, CniError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let bad = |text: &str, reason: &str| {
        let details = format!("{field}: {text:?} {reason}");
        CniError::new(Code::InvalidConfig, "invalid network configuration", details)
    };
    let known = store.list::<IpPool>("the address pools")?;
    let mut ranges = Vec::with_capacity(given.len());
    for text in given {
        let range = match text.parse::<IpNet>() {
            Ok(range) => range.trunc(),
            Err(_) => {
                let pool = known.iter().find(|pool| pool.metadata.name == *text);
                let pool = pool.ok_or_else(|| bad(text, "is neither a CIDR nor the name of a pool"))?;
                pool.spec
                    .cidr
                    .parse::<IpNet>()
                    .map_err(|_| bad(text, "is a pool whose range is no CIDR"))?
                    .trunc()
            }
        };
        if matches!(range, IpNet::V4(_)) != v4 {
            return Err(bad(text, "is of the other address family"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// Gives back what the container's handle has; nothing is fine.
pub(crate) fn release(store: &Store, config: &NetworkConfig, identity: &Identity) -> Result<(), CniError> {
    release_handles(store, config, &[&identity.handle_id])
}

/// The same, and what older versions of Calico's plugin recorded under other handles.
pub(crate) fn release_all(
    store: &Store,
    config: &NetworkConfig,
    identity: &Identity,
) -> Result<(), CniError> {
    let legacy = match identity.orchestrator {
        Orchestrator::Kubernetes => format!("{}.{}", identity.namespace, identity.pod),
        Orchestrator::Cni => identity.container_id.clone(),
    };
    release_handles(store, config, &[&identity.handle_id, &legacy])
}

fn release_handles(store: &Store, config: &NetworkConfig, handles: &[&str]) -> Result<(), CniError> {
    let ipam = Ipam::new(store.client().clone());
    let _lock = lock::acquire(&config.ipam_lock_file());
    let mut outcome = Ok(());
    for handle in handles {
        match store.block_on(ipam.release_by_handle(handle)) {
            Ok(_) => {}
            Err(error) if error.is_missing() => {}
            Err(error) => outcome = outcome.and(Err(failed("release the addresses", error))),
        }
    }
    outcome
}

fn failed(what: &str, error: Error) -> CniError {
    match error {
        Error::Datastore(error) if error.is_unavailable() => store_failed(what, error),
        error => CniError::new(Code::Ipam, format!("cannot {what}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_as_go_writes_them() {
        let identity = Identity {
            orchestrator: Orchestrator::Kubernetes,
            node: "n1".into(),
            namespace: "blue".into(),
            pod: "p".into(),
            container_id: "c".into(),
            endpoint: "eth0".into(),
            resource_name: String::new(),
            host_interface: String::new(),
            handle_id: String::new(),
        };
        let now: Timestamp = "2026-01-02T03:04:05.120Z".parse().unwrap();
        let attributes = attributes(&identity, now);
        assert_eq!(attributes["timestamp"], "2026-01-02 03:04:05.12 +0000 UTC");
        let whole = super::attributes(&identity, "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(whole["timestamp"], "2026-01-02 03:04:05 +0000 UTC");
        assert_eq!(
            (attributes["pod"].as_str(), attributes["namespace"].as_str()),
            ("p", "blue")
        );
    }
}
