//! The columns of each kind: one row a column, one list of headings a format.

use api::v3::ip_pool::EncapMode;
use api::v3::workload_endpoint::IpNat;
use api::{AnyResource, Kind};

use super::Format;
use crate::go_text::{cut, float};

/// The longest cell of a list of networks.
const NETS_CHARS_MAX: usize = 80;

/// What cells need beyond the object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// The fabric's AS, or `unknown`.
    pub(crate) as_number: String,
    /// Whether the namespace stands first.
    pub(crate) namespaces: bool,
}

pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) cell: fn(&AnyResource, &Context) -> String,
}

/// The columns of a kind: those of the narrow and of the wide table, and all.
struct KindColumns {
    narrow: &'static [&'static str],
    wide: &'static [&'static str],
    all: &'static [Column],
}

/// A column of one kind; the object and the context are bound to the given names.
macro_rules! column {
    ($kind:ident, $heading:literal, |$object:ident, $context:ident| $cell:expr) => {
        Column {
            heading: $heading,
            cell: |any, $context| match any {
                AnyResource::$kind($object) => $cell,
                _ => String::new(),
            },
        }
    };
    ($kind:ident, $heading:literal, |$object:ident| $cell:expr) => {
        column!($kind, $heading, |$object, _context| $cell)
    };
}

const NAME: Column = Column {
    heading: "NAME",
    cell: |any, _| any.metadata().name.clone(),
};
const NAMESPACE: Column = Column {
    heading: "NAMESPACE",
    cell: |any, _| any.metadata().namespace.clone(),
};

macro_rules! policy_columns {
    ($kind:ident, $($more:expr),*) => {
        KindColumns {
            narrow: &["NAME", "TIER"],
            wide: &["NAME", "TIER", "ORDER", "SELECTOR"],
            all: &[
                NAME,
                column!($kind, "TIER", |o| o.spec.tier.clone()),
                column!($kind, "ORDER", |o| order(o.spec.order)),
                column!($kind, "SELECTOR", |o| o.spec.selector.clone()),
                $($more),*
            ],
        }
    };
}

static BGP_CONFIGURATION: KindColumns = KindColumns {
    narrow: &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
    wide: &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
    all: &[
        NAME,
        column!(BgpConfiguration, "LOGSEVERITY", |o| o
            .spec
            .log_severity_screen
            .clone()),
        column!(BgpConfiguration, "MESHENABLED", |o| or_dash(
            o.spec.node_to_node_mesh_enabled
        )),
        column!(BgpConfiguration, "ASNUMBER", |o| or_dash(o.spec.as_number)),
    ],
};
static BGP_FILTER: KindColumns = KindColumns {
    narrow: BGP_FILTER_HEADINGS,
    wide: BGP_FILTER_HEADINGS,
    all: &[
        NAME,
        column!(BgpFilter, "NUMEXPORTV4", |o| o.spec.export_v4.len().to_string()),
        column!(BgpFilter, "NUMIMPORTV4", |o| o.spec.import_v4.len().to_string()),
        column!(BgpFilter, "NUMEXPORTV6", |o| o.spec.export_v6.len().to_string()),
        column!(BgpFilter, "NUMIMPORTV6", |o| o.spec.import_v6.len().to_string()),
    ],
};
const BGP_FILTER_HEADINGS: &[&str] = &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"];
static BGP_PEER: KindColumns = KindColumns {
    narrow: &["NAME", "PEERIP", "NODE", "ASN"],
    wide: &["NAME", "PEERIP", "NODE", "ASN"],
    all: &[
        NAME,
        column!(BgpPeer, "PEERIP", |o| o.spec.peer_ip.clone()),
        column!(
            BgpPeer,
            "NODE",
            |o| match (o.spec.node.as_str(), o.spec.node_selector.as_str()) {
                ("", "") => "(global)".to_owned(),
                ("", selector) => selector.to_owned(),
                (node, _) => node.to_owned(),
            }
        ),
        column!(BgpPeer, "ASN", |o| o.spec.as_number.to_string()),
    ],
};
static CLUSTER_INFORMATION: KindColumns = KindColumns {
    narrow: &[
        "NAME",
        "CLUSTERGUID",
        "CLUSTERTYPE",
        "CALICOVERSION",
        "DATASTOREREADY",
    ],
    wide: &[
        "NAME",
        "CLUSTERGUID",
        "CLUSTERTYPE",
        "CALICOVERSION",
        "DATASTOREREADY",
    ],
    all: &[
        NAME,
        column!(ClusterInformation, "CLUSTERGUID", |o| o.spec.cluster_guid.clone()),
        column!(ClusterInformation, "CLUSTERTYPE", |o| o.spec.cluster_type.clone()),
        column!(ClusterInformation, "CALICOVERSION", |o| o
            .spec
            .calico_version
            .clone()),
        column!(ClusterInformation, "DATASTOREREADY", |o| or_dash(
            o.spec.datastore_ready
        )),
    ],
};
static GLOBAL_NETWORK_POLICY: KindColumns = policy_columns!(GlobalNetworkPolicy,);
static NETWORK_POLICY: KindColumns = policy_columns!(NetworkPolicy, NAMESPACE);
static GLOBAL_NETWORK_SET: KindColumns = KindColumns {
    narrow: &["NAME"],
    wide: &["NAME", "NETS"],
    all: &[NAME, column!(GlobalNetworkSet, "NETS", |o| nets(&o.spec.nets))],
};
static NETWORK_SET: KindColumns = KindColumns {
    narrow: &["NAME"],
    wide: &["NAME", "NETS"],
    all: &[
        NAME,
        column!(NetworkSet, "NETS", |o| nets(&o.spec.nets)),
        NAMESPACE,
    ],
};
static HOST_ENDPOINT: KindColumns = KindColumns {
    narrow: &["NAME", "NODE"],
    wide: &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
    all: &[
        NAME,
        column!(HostEndpoint, "NODE", |o| o.spec.node.clone()),
        column!(HostEndpoint, "INTERFACE", |o| o.spec.interface_name.clone()),
        column!(HostEndpoint, "IPS", |o| o.spec.expected_ips.join(",")),
        column!(HostEndpoint, "PROFILES", |o| o.spec.profiles.join(",")),
    ],
};
static IPAM_CONFIGURATION: KindColumns = KindColumns {
    narrow: &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS"],
    wide: &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
    all: &[
        NAME,
        column!(IpamConfiguration, "STRICTAFFINITY", |o| o
            .spec
            .strict_affinity
            .to_string()),
        column!(IpamConfiguration, "AUTOALLOCATEBLOCKS", |o| o
            .spec
            .auto_allocate_blocks
            .to_string()),
        column!(IpamConfiguration, "MAXBLOCKSPERHOST", |o| o
            .spec
            .max_blocks_per_host
            .to_string()),
    ],
};
static IP_POOL: KindColumns = KindColumns {
    narrow: &["NAME", "CIDR", "SELECTOR"],
    wide: &[
        "NAME",
        "CIDR",
        "NAT",
        "IPIPMODE",
        "VXLANMODE",
        "DISABLED",
        "DISABLEBGPEXPORT",
        "SELECTOR",
        "ASSIGNMENTMODE",
    ],
    all: &[
        NAME,
        column!(IpPool, "CIDR", |o| o.spec.cidr.clone()),
        column!(IpPool, "NAT", |o| o.spec.nat_outgoing.to_string()),
        column!(IpPool, "IPIPMODE", |o| o
            .spec
            .ipip_mode
            .unwrap_or(EncapMode::Never)
            .to_string()),
        column!(IpPool, "VXLANMODE", |o| o
            .spec
            .vxlan_mode
            .unwrap_or(EncapMode::Never)
            .to_string()),
        column!(IpPool, "DISABLED", |o| o.spec.disabled.to_string()),
        column!(IpPool, "DISABLEBGPEXPORT", |o| o
            .spec
            .disable_bgp_export
            .to_string()),
        column!(IpPool, "SELECTOR", |o| o.spec.node_selector.clone()),
        column!(IpPool, "ASSIGNMENTMODE", |o| o
            .spec
            .assignment_mode
            .map(|m| m.to_string())
            .unwrap_or_default()),
    ],
};
static NODE: KindColumns = KindColumns {
    narrow: &["NAME"],
    wide: &["NAME", "ASN", "IPV4", "IPV6"],
    all: &[
        NAME,
        column!(Node, "ASN", |o, context| match &o.spec.bgp {
            None => String::new(),
            Some(bgp) => bgp
                .as_number
                .map_or_else(|| format!("({})", context.as_number), |own| own.to_string()),
        }),
        column!(Node, "IPV4", |o| o
            .spec
            .bgp
            .as_ref()
            .map(|bgp| bgp.ipv4_address.clone())
            .unwrap_or_default()),
        column!(Node, "IPV6", |o| o
            .spec
            .bgp
            .as_ref()
            .map(|bgp| bgp.ipv6_address.clone())
            .unwrap_or_default()),
    ],
};
static PROFILE: KindColumns = KindColumns {
    narrow: &["NAME"],
    wide: &["NAME", "LABELS"],
    all: &[
        NAME,
        column!(Profile, "LABELS", |o| {
            let labels: Vec<String> = o
                .spec
                .labels_to_apply
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            labels.join(",")
        }),
    ],
};
static TIER: KindColumns = KindColumns {
    narrow: &["NAME", "ORDER"],
    wide: &["NAME", "ORDER"],
    all: &[NAME, column!(Tier, "ORDER", |o| order(o.spec.order))],
};
static WORKLOAD_ENDPOINT: KindColumns = KindColumns {
    narrow: &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
    wide: &[
        "NAME",
        "WORKLOAD",
        "NODE",
        "NETWORKS",
        "INTERFACE",
        "PROFILES",
        "NATS",
    ],
    all: &[
        NAME,
        column!(WorkloadEndpoint, "WORKLOAD", |o| {
            if o.spec.workload.is_empty() {
                o.spec.pod.clone()
            } else {
                o.spec.workload.clone()
            }
        }),
        column!(WorkloadEndpoint, "NODE", |o| o.spec.node.clone()),
        column!(WorkloadEndpoint, "NETWORKS", |o| o.spec.ip_networks.join(",")),
        column!(WorkloadEndpoint, "INTERFACE", |o| o.spec.interface_name.clone()),
        column!(WorkloadEndpoint, "PROFILES", |o| o.spec.profiles.join(",")),
        column!(WorkloadEndpoint, "NATS", |o| {
            let nat = |nat: &IpNat| format!("{{{} {}}}", nat.internal_ip, nat.external_ip);
            o.spec.ip_nats.iter().map(nat).collect::<Vec<_>>().join(",")
        }),
        column!(WorkloadEndpoint, "ORCHESTRATOR", |o| o.spec.orchestrator.clone()),
        NAMESPACE,
    ],
};
/// Kinds that the command line does not handle.
static NAME_ONLY: KindColumns = KindColumns {
    narrow: &["NAME"],
    wide: &["NAME"],
    all: &[NAME],
};

fn columns_of(kind: Kind) -> &'static KindColumns {
    match kind {
        Kind::BgpConfiguration => &BGP_CONFIGURATION,
        Kind::BgpFilter => &BGP_FILTER,
        Kind::BgpPeer => &BGP_PEER,
        Kind::ClusterInformation => &CLUSTER_INFORMATION,
        Kind::GlobalNetworkPolicy => &GLOBAL_NETWORK_POLICY,
        Kind::GlobalNetworkSet => &GLOBAL_NETWORK_SET,
        Kind::HostEndpoint => &HOST_ENDPOINT,
        Kind::IpamConfiguration => &IPAM_CONFIGURATION,
        Kind::IpPool => &IP_POOL,
        Kind::NetworkPolicy => &NETWORK_POLICY,
        Kind::NetworkSet => &NETWORK_SET,
        Kind::Node => &NODE,
        Kind::Profile => &PROFILE,
        Kind::Tier => &TIER,
        Kind::WorkloadEndpoint => &WORKLOAD_ENDPOINT,
        Kind::BlockAffinity | Kind::IpamBlock | Kind::IpamHandle => &NAME_ONLY,
    }
}

/// The columns of a table.
pub(super) fn chosen(kind: Kind, format: &Format, context: &Context) -> Result<Vec<&'static Column>, String> {
    let columns = columns_of(kind);
    let find = |heading: &str| columns.all.iter().find(|column| column.heading == heading);
    let headings: Vec<&str> = match format {
        Format::CustomColumns(headings) => headings.iter().map(String::as_str).collect(),
        Format::Wide => columns.wide.to_vec(),
        _ => columns.narrow.to_vec(),
    };
    let namespace = find("NAMESPACE").filter(|_| context.namespaces && !headings.contains(&"NAMESPACE"));
    let mut found: Vec<&Column> = namespace.into_iter().collect();
    for heading in headings {
        found.push(find(heading).ok_or_else(|| {
            let valid: Vec<&str> = columns.all.iter().map(|column| column.heading).collect();
            format!(
                "unknown heading {heading}, valid values are: {}",
                valid.join(", ")
            )
        })?);
    }
    Ok(found)
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn order(order: Option<f64>) -> String {
    order.map_or_else(|| "<nil>".to_owned(), float)
}

fn nets(nets: &[String]) -> String {
    cut(&nets.join(","), NETS_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_heading_has_a_column() {
        for kind in Kind::ALL {
            for format in [Format::Ps, Format::Wide] {
                let columns = chosen(*kind, &format, &Context::default());
                assert!(columns.is_ok_and(|columns| !columns.is_empty()), "{kind}");
            }
        }
        let custom = Format::CustomColumns(vec!["NAME".to_owned(), "Cidr".to_owned()]);
        let error = chosen(Kind::IpPool, &custom, &Context::default()).map(|columns| columns.len());
        assert!(
            error.is_err_and(|error| error.starts_with("unknown heading Cidr, valid values are: NAME, CIDR"))
        );
    }

    #[test]
    fn cells() {
        assert_eq!(order(None), "<nil>");
        assert_eq!(order(Some(1_000_000.0)), "1e+06");
        assert_eq!(nets(&vec!["10.0.0.0/16".to_owned(); 10]).len(), NETS_CHARS_MAX);
    }
}
