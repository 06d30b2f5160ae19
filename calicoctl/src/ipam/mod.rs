//! `ipam show`.

mod address;
mod borrowed;
mod utilisation;

use api::IpPool;
use api::ipam_model::{AllocationBlock, IpamConfig};
use datastore::Resources;
use datastore::key::{BlockList, IpamConfigKey};

use crate::arguments::{Global, IpamShowOptions};
use crate::datastore_session;
use crate::failure::Failure;
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
    let text = if let Some(ip) = ip {
        address::describe(ip, &blocks(&resources).await?).map_err(Failure::new)?
    } else if !options.show_blocks && options.show_borrowed {
        borrowed::render(&blocks(&resources).await?)
    } else if !options.show_blocks && options.show_configuration {
        configuration(&config(&resources).await?)
    } else {
        let pools = resources.list_all::<IpPool>().await?;
        utilisation::render(&pools, &blocks(&resources).await?, options.show_blocks)
    };
    print!("{text}");
    Ok(())
}

async fn blocks(resources: &Resources) -> Result<Vec<AllocationBlock>, Failure> {
    let listed = resources.client().list(&BlockList::default()).await?;
    Ok(listed.items.into_iter().map(|kv| kv.value).collect())
}

async fn config(resources: &Resources) -> Result<IpamConfig, Failure> {
    match resources.client().get(&IpamConfigKey).await {
        Ok(kv) => Ok(kv.value),
        Err(error) if error.is_does_not_exist() => Ok(IpamConfig::default()),
        Err(error) => Err(error.into()),
    }
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
