//! IP pools: what can be said without the other pools.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Checks, FieldError};
use crate::v3::ip_pool::{AllowedUse, EncapMode, IpPool};

/// Link-local ranges (RFC 3927, RFC 4291 section 2.5.6), in which no pool may lie.
const LINK_LOCAL_V4: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16);
const LINK_LOCAL_V6: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

pub(crate) fn ip_pool(pool: &IpPool, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "spec");
    let spec = &pool.spec;
    if spec.cidr.is_empty() {
        checks.missing("cidr", "IPPool CIDR must be specified");
    } else {
        match spec.cidr.parse::<IpNet>() {
            Err(_) => checks.error("cidr", &spec.cidr, "IPPool CIDR must be a valid subnet"),
            Ok(cidr) => range(&mut checks, pool, cidr),
        }
    }
    let encapsulates = |mode: Option<EncapMode>| mode.is_some_and(|mode| mode != EncapMode::Never);
    let (ipip, vxlan) = (encapsulates(spec.ipip_mode), encapsulates(spec.vxlan_mode));
    let mode = |mode: Option<EncapMode>| mode.unwrap_or(EncapMode::Never);
    checks.require(
        !(ipip && vxlan),
        "vxlanMode",
        mode(spec.vxlan_mode),
        "ipipMode and vxlanMode cannot both be enabled on one pool: set one of them to Never",
    );
    checks.selector("nodeSelector", &spec.node_selector);
    checks.selector("namespaceSelector", &spec.namespace_selector);
    let mut seen = BTreeSet::new();
    for (i, allowed) in spec.allowed_uses.iter().enumerate() {
        checks.require(
            seen.insert(allowed),
            &format!("allowedUses[{i}]"),
            allowed,
            "the value is listed twice: remove one",
        );
    }
    checks.require(
        spec.namespace_selector.is_empty() || !spec.allowed_uses.contains(&AllowedUse::Tunnel),
        "namespaceSelector",
        &spec.namespace_selector,
        "cannot be combined with the allowed use Tunnel: set allowedUses to [Workload]",
    );
    if spec.allowed_uses.contains(&AllowedUse::LoadBalancer) {
        checks.require(
            spec.allowed_uses.len() == 1,
            "allowedUses",
            "LoadBalancer",
            "LoadBalancer cannot be combined with another use",
        );
        checks.require(
            !ipip,
            "ipipMode",
            mode(spec.ipip_mode),
            "must be Never for a LoadBalancer pool",
        );
        checks.require(
            !vxlan,
            "vxlanMode",
            mode(spec.vxlan_mode),
            "must be Never for a LoadBalancer pool",
        );
        checks.require(
            !spec.disable_bgp_export,
            "disableBGPExport",
            true,
            "must be false for a LoadBalancer pool",
        );
        checks.require(
            spec.node_selector.is_empty() || spec.node_selector == "all()",
            "nodeSelector",
            &spec.node_selector,
            "must be all() for a LoadBalancer pool",
        );
    }
}

fn range(checks: &mut Checks<'_>, pool: &IpPool, cidr: IpNet) {
    let spec = &pool.spec;
    checks.require(
        cidr.addr() == cidr.network(),
        "cidr",
        &spec.cidr,
        "IPPool CIDR is not strictly masked",
    );
    let (link_local, sizes, family) = match cidr {
        IpNet::V4(_) => (IpNet::V4(LINK_LOCAL_V4), 20..=32, "IPv4"),
        IpNet::V6(_) => (IpNet::V6(LINK_LOCAL_V6), 116..=128, "IPv6"),
    };
    if cidr.contains(&link_local) || link_local.contains(&cidr) {
        checks.error(
            "cidr",
            &spec.cidr,
            format!("IPPool CIDR overlaps with {family} Link Local range {link_local}"),
        );
    }
    checks.require(
        matches!(cidr, IpNet::V4(_)) || matches!(spec.ipip_mode, None | Some(EncapMode::Never)),
        "ipipMode",
        spec.ipip_mode.unwrap_or(EncapMode::Never),
        "IPIP is not supported on an IPv6 IP pool: set ipipMode to Never",
    );
    // 0 is what defaulting fills in.
    if spec.block_size == 0 {
        return;
    }
    if !sizes.contains(&spec.block_size) {
        checks.error(
            "blockSize",
            spec.block_size,
            format!(
                "the block size of an {family} pool must be {} to {}",
                sizes.start(),
                sizes.end()
            ),
        );
    } else if !spec.disabled && cidr.prefix_len() > spec.block_size {
        checks.error(
            "cidr",
            &spec.cidr,
            format!(
                "IP pool size is too small for its block size of /{}",
                spec.block_size
            ),
        );
    }
}
