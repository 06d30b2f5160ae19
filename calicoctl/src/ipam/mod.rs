//! `ipam show`.

mod address;
mod borrowed;
mod utilisation;

use api::Kind;
use api::ipam_model::IpamConfig;
use datastore::Resources;
use ipam::Ipam;

use crate::arguments::{Global, IpamShowOptions};
use crate::datastore_session;
use crate::failure::{Failure, print};
use crate::output::boxes;

pub(crate) async fn show(global: &Global, options: &IpamShowOptions) -> Result<(), Failure> {
    let ip = match &options.ip {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Failure::on_stdout(format!(
                "Error executing command: invalid IP address specified: {text}"
            ))
        })?),
    };
    let resources = datastore_session::open(global, &options.connection).await?;
    let ipam = Ipam::new(resources.client().clone());
    let text = if let Some(ip) = ip {
        let owner = ipam.owner_of(ip).await.map_err(Failure::new)?;
        address::describe(ip, owner.as_ref()).map_err(Failure::new)?
    } else if !options.show_blocks && options.show_borrowed {
        let blocks = ipam.blocks().await.map_err(Failure::new)?;
        let blocks: Vec<_> = blocks.into_iter().map(|stored| stored.value).collect();
        borrowed::render(&blocks)
    } else if !options.show_blocks && options.show_configuration {
        configuration(&ipam.config().await.map_err(Failure::new)?)
    } else {
        let pools = ipam.utilisation(&[]).await.map_err(Failure::new)?;
        utilisation::render(&pools, options.show_blocks)
    };
    print(&text)
}

/// Deletes a resource with all that hangs on it: a pool's blocks are given up, a node's addresses released.
pub(crate) async fn delete(
    resources: &Resources,
    kind: Kind,
    namespace: &str,
    name: &str,
    resource_version: &str,
) -> Result<(), datastore::Error> {
    let ipam = Ipam::new(resources.client().clone());
    let outcome = match kind {
        Kind::IpPool if !name.is_empty() => ipam.delete_pool(name, resource_version).await.map(|_| ()),
        Kind::Node if !name.is_empty() => ipam.delete_node(name, resource_version).await.map(|_| ()),
        _ => {
            return resources
                .delete_any(kind, namespace, name, resource_version)
                .await
                .map(|_| ());
        }
    };
    outcome.map_err(|error| match error {
        ipam::Error::Datastore(error) => error,
        other => datastore::Error::Unsupported {
            operation: "delete",
            id: api::kinds::resource_id(kind, namespace, name),
            reason: other.to_string(),
        },
    })
}

fn configuration(config: &IpamConfig) -> String {
    let persistence = config
        .kube_virt_vm_address_persistence
        .map_or("Enabled", |switch| switch.as_str());
    let rows = [
        ("StrictAffinity", config.strict_affinity.to_string()),
        ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ("KubeVirtVMAddressPersistence", persistence.to_owned()),
        ("IPCooldownSeconds", config.ip_cooldown_seconds.to_string()),
    ]
    .map(|(name, value)| vec![name.to_owned(), value]);
    boxes::table(&["PROPERTY", "VALUE"], &rows, &[])
}

/// Blocks for tests.
#[cfg(test)]
mod sample {
    use api::ipam_model::AllocationBlock;

    /// A block of eight addresses, of which three are taken: by a tunnel, by a pod, and one that cools down.
    pub(super) fn block() -> AllocationBlock {
        api::store::decode_value(
            br#"{"cidr":"10.0.0.0/29","affinity":"host:node-1","allocations":[0,1,null,2,null,null,null,null],
            "unallocated":[2,4,5,6,7],"attributes":[
            {"handle_id":"ipip-tunnel-addr-node-1","secondary":{"node":"node-1","type":"ipipTunnelAddress"}},
            {"handle_id":"k8s-pod-network.0123","secondary":{"pod":"pod-a","namespace":"default","node":"node-2"},
             "alternateOwnerAttrs":{"namespace":"default","node":"node-3"}},
            {"releasedAt":"2026-08-22T10:20:00Z"}],"sequenceNumber":3,"deleted":false}"#,
        )
        .unwrap()
    }
}
