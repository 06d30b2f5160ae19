//! Who has an address.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipam::Owner;

pub(super) fn describe(ip: IpAddr, owner: Option<&Owner>) -> Result<String, String> {
    let Some(owner) = owner else {
        return Ok(format!("{ip} is not assigned\n"));
    };
    if owner.cooling_down {
        return Err(format!("address {ip} is in cooldown"));
    }
    let mut text = format!("IP {ip} is in use\n");
    let _ = writeln!(text, "Handle ID: {}", owner.handle.as_deref().unwrap_or("<none>"));
    if owner.attributes.is_empty() {
        text.push_str("No Active Owner attributes defined\n");
    } else {
        attributes(&mut text, "Active", &owner.attributes);
    }
    if !owner.alternate_attributes.is_empty() {
        attributes(&mut text, "Alternate", &owner.alternate_attributes);
    }
    Ok(text)
}

fn attributes(text: &mut String, which: &str, attributes: &BTreeMap<String, String>) {
    let _ = writeln!(text, "{which} Owner Attributes:");
    for (key, value) in attributes {
        let _ = writeln!(text, "  {key}: {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(handle: Option<&str>, attributes: &[(&str, &str)], alternate: &[(&str, &str)]) -> Owner {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        Owner {
            handle: handle.map(str::to_owned),
            attributes: map(attributes),
            alternate_attributes: map(alternate),
            cooling_down: false,
            block: "10.0.0.0/29".parse().unwrap(),
            block_affinity: None,
        }
    }

    #[test]
    fn as_the_reference_prints_it() {
        let of = |owner: Option<&Owner>| describe("10.0.0.1".parse().unwrap(), owner);
        let pod = owner(
            Some("k8s-pod-network.0123"),
            &[("pod", "pod-a"), ("node", "node-2")],
            &[("node", "node-3")],
        );
        assert_eq!(
            of(Some(&pod)).unwrap(),
            "IP 10.0.0.1 is in use\nHandle ID: k8s-pod-network.0123\nActive Owner Attributes:\n  node: node-2\n  pod: \
             pod-a\nAlternate Owner Attributes:\n  node: node-3\n"
        );
        assert_eq!(of(None).unwrap(), "10.0.0.1 is not assigned\n");
        let cooling = Owner {
            cooling_down: true,
            ..pod
        };
        assert_eq!(of(Some(&cooling)).unwrap_err(), "address 10.0.0.1 is in cooldown");
        assert_eq!(
            of(Some(&owner(None, &[], &[]))).unwrap(),
            "IP 10.0.0.1 is in use\nHandle ID: <none>\nNo Active Owner attributes defined\n"
        );
    }
}
