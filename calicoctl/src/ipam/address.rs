//! Who has an address.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use api::ipam_model::{AllocationAttribute, AllocationBlock};

/// The attribute of an address in these blocks.
fn attribute(ip: IpAddr, blocks: &[AllocationBlock]) -> Option<&AllocationAttribute> {
    let block = blocks.iter().find(|block| block.cidr.contains(&ip))?;
    let ordinal = match (ip, block.cidr.network()) {
        (IpAddr::V4(ip), IpAddr::V4(first)) => u128::from(ip.to_bits().checked_sub(first.to_bits())?),
        (IpAddr::V6(ip), IpAddr::V6(first)) => ip.to_bits().checked_sub(first.to_bits())?,
        _ => return None,
    };
    let index = (*block.allocations.get(usize::try_from(ordinal).ok()?)?)?;
    block.attributes.get(usize::try_from(index).ok()?)
}

pub(super) fn describe(ip: IpAddr, blocks: &[AllocationBlock]) -> Result<String, String> {
    let Some(attribute) = attribute(ip, blocks) else {
        return Ok(format!("{ip} is not assigned\n"));
    };
    if attribute.released_at.is_some() {
        return Err(format!("address {ip} is in cooldown"));
    }
    let mut text = format!("IP {ip} is in use\n");
    let _ = writeln!(
        text,
        "Handle ID: {}",
        attribute.handle_id.as_deref().unwrap_or("<none>")
    );
    if attribute.secondary.is_empty() {
        text.push_str("No Active Owner attributes defined\n");
    } else {
        owner(&mut text, "Active", &attribute.secondary);
    }
    if !attribute.alternate_owner_attrs.is_empty() {
        owner(&mut text, "Alternate", &attribute.alternate_owner_attrs);
    }
    Ok(text)
}

fn owner(text: &mut String, which: &str, attributes: &BTreeMap<String, String>) {
    let _ = writeln!(text, "{which} Owner Attributes:");
    for (key, value) in attributes {
        let _ = writeln!(text, "  {key}: {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::block;
    use super::*;

    #[test]
    fn as_the_reference_prints_it() {
        let of = |ip: &str| describe(ip.parse().unwrap(), &[block()]);
        assert_eq!(
            of("10.0.0.1").unwrap(),
            "IP 10.0.0.1 is in use\nHandle ID: k8s-pod-network.0123\nActive Owner Attributes:\n  namespace: default\n  \
             node: node-2\n  pod: pod-a\nAlternate Owner Attributes:\n  namespace: default\n  node: node-3\n"
        );
        assert_eq!(of("10.0.0.2").unwrap(), "10.0.0.2 is not assigned\n");
        assert_eq!(of("192.168.0.1").unwrap(), "192.168.0.1 is not assigned\n");
        assert_eq!(of("10.0.0.3").unwrap_err(), "address 10.0.0.3 is in cooldown");
    }

    #[test]
    fn without_handle_and_attributes() {
        let mut block = block();
        block.attributes[0] = AllocationAttribute::default();
        assert_eq!(
            describe("10.0.0.0".parse().unwrap(), &[block]).unwrap(),
            "IP 10.0.0.0 is in use\nHandle ID: <none>\nNo Active Owner attributes defined\n"
        );
    }
}
