//! CHECK: compares what is there with what ADD made.

use ipnet::IpNet;

use crate::config::{NetworkConfig, Parameters};
use crate::error::{CniError, Code};
use crate::identity::Identity;
use crate::link::{self, LinkSpec};
use crate::result::addresses_of;
use crate::store::Store;

pub(super) fn run(config: &NetworkConfig, parameters: &Parameters) -> Result<(), CniError> {
    let identity = Identity::of(config, parameters)?;
    let store = Store::open(config)?;
    let Some(endpoint) = store.endpoint(&identity)? else {
        let details = format!(
            "WorkloadEndpoint({}/{}) does not exist",
            identity.namespace, identity.resource_name
        );
        return Err(CniError::new(
            Code::UnknownContainer,
            "the container has no endpoint",
            details,
        ));
    };
    let mut found = Vec::new();
    let spec = &endpoint.spec;
    for (field, stored, expected) in [
        ("containerID", &spec.container_id, &identity.container_id),
        ("interfaceName", &spec.interface_name, &identity.host_interface),
    ] {
        if stored != expected {
            found.push(format!(
                "the endpoint's {field} is {stored:?}, expected {expected:?}"
            ));
        }
    }
    let addresses: Vec<IpNet> = spec
        .ip_networks
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect();
    if addresses.is_empty() {
        found.push("the endpoint has no address".to_owned());
    }
    for earlier in config.prev_result.iter().flat_map(addresses_of) {
        let kept = earlier
            .parse::<IpNet>()
            .is_ok_and(|net| addresses.iter().any(|a| a.addr() == net.addr()));
        if !kept {
            found.push(format!("the endpoint no longer has {earlier}, which ADD gave"));
        }
    }
    found.extend(link::differences(LinkSpec {
        host_interface: &identity.host_interface,
        interface: &parameters.interface,
        netns: &parameters.netns,
        mtu: None,
        addresses: &addresses,
        forwarding: config.container_settings.allow_ip_forwarding,
    })?);
    if found.is_empty() {
        return Ok(());
    }
    Err(CniError::new(
        Code::CheckFailed,
        "the container's network is not as ADD made it",
        found.join("; "),
    ))
}
