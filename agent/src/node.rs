//! This host's Node resource: created where it is missing, completed where it says nothing.

use std::net::IpAddr;
use std::path::Path;

use api::v3::node::{NodeAddress, NodeAddressType, NodeBgpSpec};
use api::{AsNumber, Node, ObjectMeta};
use datastore::Resources;

use crate::config::NodeConfig;

/// Added to the cluster's type list.
const CLUSTER_TYPE: &str = "bgp";

/// Registers the host: makes sure that the datastore is initialised, and that the Node has at least what
/// `configured` says, or where that says nothing and the Node neither, the addresses found on the host.
///
/// # Errors
/// When the store does not answer or refuses.
pub(crate) async fn register(
    resources: &Resources,
    name: &str,
    configured: &NodeConfig,
) -> datastore::Result<()> {
    // The version stays unset: it would make other versions' calicoctl refuse to work.
    resources.ensure_initialized("", CLUSTER_TYPE).await?;
    let found = found_addresses();
    match resources.get::<Node>("", name).await {
        Err(datastore::Error::DoesNotExist { .. }) => {
            let mut node = Node {
                metadata: ObjectMeta::named(name),
                ..Node::default()
            };
            complete(&mut node, configured, &found);
            match resources.create(node).await {
                Ok(_) => tracing::info!(node = name, "node registered"),
                Err(datastore::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    resources
        .modify::<Node>("", name, |node| complete(node, configured, &found))
        .await?;
    Ok(())
}

/// Fills in a node; true where anything changed. Configured values win over what is there; found ones do not.
fn complete(node: &mut Node, configured: &NodeConfig, found: &[(bool, String)]) -> bool {
    let before = node.spec.clone();
    let bgp = node.spec.bgp.get_or_insert_with(NodeBgpSpec::default);
    if let Some(number) = configured.as_number {
        bgp.as_number = Some(AsNumber(number));
    }
    for (field, wanted, v4) in [
        (&mut bgp.ipv4_address, &configured.ipv4_address, true),
        (&mut bgp.ipv6_address, &configured.ipv6_address, false),
    ] {
        if let Some(wanted) = wanted {
            field.clone_from(wanted);
        } else if field.is_empty()
            && let Some((_, address)) = found.iter().find(|(family, _)| *family == v4)
        {
            field.clone_from(address);
        }
    }
    let own = [bgp.ipv4_address.clone(), bgp.ipv6_address.clone()];
    if *bgp == NodeBgpSpec::default() {
        // An empty `bgp` is invalid.
        node.spec.bgp = None;
    }
    let kind = Some(NodeAddressType::CalicoNodeIp);
    node.spec.addresses.retain(|address| address.r#type != kind);
    for text in own.iter().filter(|text| !text.is_empty()).rev() {
        // Listed without host bits set, as its check demands: the bare address.
        let address = text.split('/').next().unwrap_or_default().to_owned();
        node.spec.addresses.insert(
            0,
            NodeAddress {
                address,
                r#type: kind,
            },
        );
    }
    node.spec != before
}

/// Interfaces whose addresses are no node's: those of workloads, bridges of container runtimes, tunnels. Calico's
/// autodetection passes over the same.
const NOT_OF_THE_NODE: [&str; 16] = [
    "cali",
    "docker",
    "br-",
    "cbr",
    "cni",
    "dummy",
    "flannel",
    "kube-ipvs",
    "lxcbr",
    "nodelocaldns",
    "tunl",
    "veth",
    "virbr",
    "vxlan.",
    "weave",
    "wireguard.",
];

/// The first global address of each family on an interface that is up and may be the node's, with its prefix length.
/// The first item of a pair says whether it is IPv4.
fn found_addresses() -> Vec<(bool, String)> {
    let found = || -> Result<Vec<(bool, String)>, netlink::Error> {
        let mut connection = netlink::Connection::open()?;
        let links: Vec<u32> = connection
            .links()?
            .into_iter()
            .filter(|link| link.up && may_be_of_the_node(&link.name))
            .map(|link| link.index)
            .collect();
        let mut addresses: Vec<_> = connection
            .addresses()?
            .into_iter()
            .filter(|address| links.contains(&address.interface) && is_global(address.address.addr()))
            .collect();
        addresses.sort_by_key(|address| address.interface);
        let texts = addresses
            .into_iter()
            .map(|a| (a.address.addr().is_ipv4(), a.address.to_string()));
        Ok(texts.collect())
    };
    found().unwrap_or_else(|error| {
        tracing::warn!(%error, "the host's addresses cannot be read: set node.ipv4-address and node.ipv6-address");
        Vec::new()
    })
}

fn may_be_of_the_node(interface: &str) -> bool {
    interface != "lo" && !NOT_OF_THE_NODE.iter().any(|prefix| interface.starts_with(prefix))
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

/// Writes the node's name where CNI plugins look for it.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_nodename(path: &Path, name: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there.trim() == name) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, name)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(v4: Option<&str>, asn: Option<u32>) -> NodeConfig {
        NodeConfig {
            ipv4_address: v4.map(Into::into),
            ipv6_address: None,
            as_number: asn,
        }
    }

    #[test]
    fn configured_wins_found_fills_and_the_rest_stays() {
        let found = [
            (true, "192.0.2.9/24".to_owned()),
            (false, "2001:db8::9/64".to_owned()),
        ];
        let mut node = Node::default();
        assert!(complete(&mut node, &configured(None, None), &found));
        let bgp = node.spec.bgp.clone().unwrap();
        assert_eq!(
            (bgp.ipv4_address.as_str(), bgp.ipv6_address.as_str()),
            ("192.0.2.9/24", "2001:db8::9/64")
        );
        assert_eq!(node.spec.addresses.len(), 2);
        assert_eq!(node.spec.addresses[0].address, "192.0.2.9");

        assert!(complete(
            &mut node,
            &configured(Some("10.0.0.1/31"), Some(65001)),
            &found
        ));
        let bgp = node.spec.bgp.clone().unwrap();
        assert_eq!(
            (bgp.ipv4_address.as_str(), bgp.as_number),
            ("10.0.0.1/31", Some(AsNumber(65001)))
        );
        assert_eq!(bgp.ipv6_address, "2001:db8::9/64");
        assert!(
            !complete(&mut node, &configured(Some("10.0.0.1/31"), None), &found),
            "nothing changes twice"
        );
    }

    #[test]
    fn bridges_and_tunnels_have_no_node_address() {
        assert!(may_be_of_the_node("eth0") && may_be_of_the_node("bond0") && may_be_of_the_node("lan"));
        assert!(
            ["lo", "cali0123", "docker0", "vxlan.calico", "veth1"]
                .iter()
                .all(|name| !may_be_of_the_node(name))
        );
    }

    #[test]
    fn nothing_known_is_no_empty_bgp() {
        let mut node = Node::default();
        assert!(!complete(&mut node, &configured(None, None), &[]));
        assert_eq!(node.spec.bgp, None);
    }
}
