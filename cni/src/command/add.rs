//! ADD: address, link, endpoint, policy, routes; or nothing of it.

use api::{ObjectMeta, WorkloadEndpoint};
use ipnet::IpNet;

use crate::address::{self, AddressRequest};
use crate::config::{NetworkConfig, Parameters};
use crate::error::CniError;
use crate::identity::{Identity, sanitised};
use crate::link::{self, LinkSpec};
use crate::result::AddResult;
use crate::status;
use crate::store::Store;

pub(super) fn run(config: &NetworkConfig, parameters: &Parameters) -> Result<AddResult, CniError> {
    // What the caller got wrong is said before anything is made.
    let identity = Identity::of(config, parameters)?;
    let mtu = config.mtu()?;
    let request = AddressRequest::of(config, parameters, &identity)?;
    link::open_netns(&parameters.netns)?;
    let store = Store::open(config)?;

    let existing = store
        .endpoint(&identity)?
        .filter(|endpoint| endpoint.spec.container_id == identity.container_id);
    if let Some(endpoint) = existing {
        if let Some(result) = join_network(&store, config, parameters, &identity, endpoint)? {
            return Ok(result);
        }
        // What an attempt that was cut off has left.
        tracing::warn!(
            endpoint = identity.resource_name,
            "cleaning up after an unfinished ADD"
        );
        store.delete_endpoint(&identity)?;
    }
    address::release(&store, config, &identity)?;

    let mut undo = Undo {
        store: &store,
        config,
        identity: &identity,
        endpoint: false,
        link: false,
        done: false,
    };
    let addresses = address::assign(&store, config, &request)?;
    let spec = LinkSpec {
        host_interface: &identity.host_interface,
        interface: &parameters.interface,
        netns: &parameters.netns,
        mtu,
        addresses: &addresses,
        forwarding: config.container_settings.allow_ip_forwarding,
    };
    undo.link = true;
    let container = link::create(spec)?;
    store.ensure_profile(&config.name, identity.orchestrator)?;
    undo.endpoint = true;
    store.apply_endpoint(endpoint(config, &identity, &addresses, &container.mac))?;
    status::wait(
        &config.endpoint_status_dir(),
        &identity.status_file_name(),
        &identity.host_interface,
        &addresses,
        config.policy_setup_timeout(),
        || link::host_end_is_up(&identity.host_interface),
    )?;
    link::ensure_host_routes(&identity.host_interface, &addresses)?;
    undo.done = true;
    Ok(AddResult {
        host_interface: identity.host_interface.clone(),
        interface: parameters.interface.clone(),
        mac: container.mac,
        mtu: container.mtu,
        sandbox: parameters.netns.clone(),
        addresses,
    })
}

/// A container that has its interface already joins a further network: it gets that network's profile.
/// `None` if the interface is not there as the endpoint says.
fn join_network(
    store: &Store,
    config: &NetworkConfig,
    parameters: &Parameters,
    identity: &Identity,
    mut endpoint: WorkloadEndpoint,
) -> Result<Option<AddResult>, CniError> {
    let addresses: Vec<IpNet> = endpoint
        .spec
        .ip_networks
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    let there = link::container_has(&parameters.netns, &parameters.interface, &addresses)?;
    let Some(container) = there.filter(|_| !addresses.is_empty()) else {
        return Ok(None);
    };
    if !link::host_end_is_up(&identity.host_interface)? {
        return Ok(None);
    }
    if !endpoint.spec.profiles.contains(&config.name) {
        store.ensure_profile(&config.name, identity.orchestrator)?;
        endpoint.spec.profiles.push(config.name.clone());
        store.apply_endpoint(endpoint)?;
    }
    Ok(Some(AddResult {
        host_interface: identity.host_interface.clone(),
        interface: parameters.interface.clone(),
        mac: container.mac,
        mtu: container.mtu,
        sandbox: parameters.netns.clone(),
        addresses,
    }))
}

fn endpoint(config: &NetworkConfig, identity: &Identity, addresses: &[IpNet], mac: &str) -> WorkloadEndpoint {
    let metadata = ObjectMeta::namespaced(identity.namespace.clone(), identity.resource_name.clone());
    let mut endpoint = WorkloadEndpoint::new(metadata, Default::default());
    for (key, value) in config.runtime_labels() {
        let key = sanitised(&key);
        if !key.is_empty() {
            endpoint.metadata.labels.insert(key, sanitised(&value));
        }
    }
    let spec = &mut endpoint.spec;
    spec.orchestrator = identity.orchestrator.name().to_owned();
    spec.node = identity.node.clone();
    spec.pod = identity.pod.clone();
    spec.container_id = identity.container_id.clone();
    spec.endpoint = identity.endpoint.clone();
    spec.ip_networks = addresses.iter().map(ToString::to_string).collect();
    spec.profiles = vec![config.name.clone()];
    spec.interface_name = identity.host_interface.clone();
    spec.mac = mac.to_owned();
    endpoint
}

/// Takes back what was made, unless all of it was.
struct Undo<'a> {
    store: &'a Store,
    config: &'a NetworkConfig,
    identity: &'a Identity,
    endpoint: bool,
    link: bool,
    done: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        tracing::info!(
            endpoint = self.identity.resource_name,
            "taking back an ADD that failed"
        );
        let mut failures = Vec::new();
        if self.endpoint {
            failures.extend(self.store.delete_endpoint(self.identity).err());
        }
        if self.link {
            failures.extend(link::delete_host_end(&self.identity.host_interface).err());
        }
        failures.extend(address::release(self.store, self.config, self.identity).err());
        for error in failures {
            tracing::error!(%error, "something of a failed ADD is left; DEL takes it away");
        }
    }
}
