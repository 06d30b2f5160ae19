//! DEL: takes away whatever is there. Running it again, or with the container long gone, is fine.

use crate::address;
use crate::config::{NetworkConfig, Parameters};
use crate::error::CniError;
use crate::identity::Identity;
use crate::link;
use crate::store::Store;

pub(super) fn run(config: &NetworkConfig, parameters: &Parameters) -> Result<(), CniError> {
    let identity = Identity::of(config, parameters)?;
    // The link goes even if the store is away; the runtime calls again for the rest.
    let inside = link::delete_container_end(&parameters.netns, &parameters.interface);
    let store = Store::open(config)?;
    let endpoint = store.delete_endpoint(&identity);
    // A newer sandbox of the pod has a host interface of the same name.
    let outside = match endpoint {
        Ok(true) => link::delete_host_end(&identity.host_interface),
        _ => Ok(()),
    };
    let addresses = address::release_all(&store, config, &identity);
    inside.and(endpoint.map(|_| ())).and(outside).and(addresses)
}
