//! Deleting a pool or a node, with all that hangs on it.

use std::net::IpAddr;
use std::time::Duration;

use api::{BgpConfiguration, BgpPeer, HostEndpoint, IpPool, Node, Resource, WorkloadEndpoint};
use datastore::client::KeyRange;
use datastore::key::RESOURCE_ROOT;

use crate::Ipam;
use crate::block::Release;
use crate::error::Result;
use crate::pool::Pool;

/// The pause between disabling a pool and releasing its blocks, in which requests that saw it enabled end.
const DISABLE_PAUSE: Duration = Duration::from_millis(500);

impl Ipam {
    /// Deletes a pool: disables it, takes its blocks from their hosts, and deletes the resource. Addresses in use stay
    /// with their owners, in blocks of nobody. A `resource_version` that is not empty must be the pool's.
    ///
    /// # Errors
    /// When the pool is not there or has changed, or that of the store.
    pub async fn delete_pool(&self, name: &str, resource_version: &str) -> Result<IpPool> {
        let mut pool: IpPool = self.resources.get("", name).await?;
        let mut revision = resource_version.to_owned();
        if !pool.spec.disabled {
            if !revision.is_empty() {
                pool.metadata.resource_version.clone_from(&revision);
            }
            pool.spec.disabled = true;
            pool = self.resources.update(pool).await?;
            if !revision.is_empty() {
                revision.clone_from(&pool.metadata.resource_version);
            }
        }
        tokio::time::sleep(DISABLE_PAUSE).await;
        if let Some(pool) = Pool::new(&pool) {
            self.release_pool_affinities(pool.cidr).await?;
        }
        Ok(self.resources.delete("", name, &revision).await?)
    }

    /// Deletes a node: releases the addresses of its workloads and tunnels, deletes their endpoints, gives up its
    /// blocks, deletes the peers, configuration and host endpoints that name it, and the resource.
    ///
    /// # Errors
    /// When the node is not there or has changed, or that of the store.
    pub async fn delete_node(&self, name: &str, resource_version: &str) -> Result<Node> {
        let node: Node = self.resources.get("", name).await?;
        if !resource_version.is_empty() && resource_version != node.metadata.resource_version {
            return Err(datastore::Error::UpdateConflict {
                id: format!("Node({name})"),
            }
            .into());
        }
        let mut endpoints = self.resources.list_all::<WorkloadEndpoint>().await?;
        endpoints.retain(|endpoint| endpoint.spec.node == name);
        let mut addresses: Vec<IpAddr> = tunnel_addresses(&node);
        for endpoint in &endpoints {
            let networks = endpoint.spec.ip_networks.iter();
            addresses.extend(
                networks
                    .filter_map(|text| api::net::parse_net(text))
                    .map(|net| net.addr()),
            );
        }
        let releases: Vec<Release> = addresses.into_iter().map(Release::address).collect();
        if let Some(error) = self.release_ips(&releases).await?.error {
            tracing::warn!(node = name, %error, "not every address of the node is released");
        }
        for endpoint in endpoints {
            self.delete_if_there(&endpoint).await?;
        }
        self.remove_host(name).await?;
        for peer in self
            .resources
            .list_all::<BgpPeer>()
            .await?
            .iter()
            .filter(|peer| peer.spec.node == name)
        {
            self.delete_if_there(peer).await?;
        }
        missing_is_fine(
            self.resources
                .delete::<BgpConfiguration>("", &format!("node.{name}"), "")
                .await,
        )?;
        let felix = format!("{RESOURCE_ROOT}felixconfigurations/node.{name}");
        self.client.etcd().delete_range(&KeyRange::Exact(felix)).await?;
        for endpoint in self
            .resources
            .list_all::<HostEndpoint>()
            .await?
            .iter()
            .filter(|e| e.spec.node == name)
        {
            self.delete_if_there(endpoint).await?;
        }
        Ok(self.resources.delete("", name, resource_version).await?)
    }

    async fn delete_if_there<R: Resource>(&self, object: &R) -> Result<()> {
        let metadata = object.metadata();
        missing_is_fine(
            self.resources
                .delete::<R>(&metadata.namespace, &metadata.name, "")
                .await,
        )
    }
}

fn missing_is_fine<T>(outcome: datastore::Result<T>) -> Result<()> {
    match outcome {
        Err(e) if !e.is_does_not_exist() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Addresses of the node's own tunnel devices.
fn tunnel_addresses(node: &Node) -> Vec<IpAddr> {
    let bgp = node
        .spec
        .bgp
        .as_ref()
        .map(|bgp| bgp.ipv4_ipip_tunnel_addr.as_str());
    let wireguard = node
        .spec
        .wireguard
        .as_ref()
        .map(|wireguard| wireguard.interface_ipv4_address.as_str());
    [bgp, Some(node.spec.ipv4_vxlan_tunnel_addr.as_str()), wireguard]
        .into_iter()
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect()
}
