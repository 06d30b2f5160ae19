//! Results as the specification's versions have them.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::version::{Layout, Version};

/// What ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddResult {
    pub(crate) host_interface: String,
    pub(crate) interface: String,
    pub(crate) mac: String,
    pub(crate) mtu: u32,
    pub(crate) sandbox: String,
    pub(crate) addresses: Vec<IpNet>,
}

/// The container's interface in the list of interfaces.
const CONTAINER_INTERFACE: usize = 1;

impl AddResult {
    /// The JSON that goes to standard output.
    pub(crate) fn to_json(&self, version: Version) -> Value {
        if version.layout == Layout::Single {
            return self.single(version);
        }
        let ips: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| {
                let mut ip = Map::new();
                if version.layout == Layout::Lists {
                    ip.insert(
                        "version".into(),
                        json!(if address.addr().is_ipv4() { "4" } else { "6" }),
                    );
                }
                ip.insert("interface".into(), json!(CONTAINER_INTERFACE));
                ip.insert("address".into(), json!(address.to_string()));
                Value::Object(ip)
            })
            .collect();
        let mut container = json!({"name": self.interface, "mac": self.mac, "sandbox": self.sandbox});
        if version.layout == Layout::Plain
            && let Some(container) = container.as_object_mut()
        {
            container.insert("mtu".into(), json!(self.mtu));
        }
        json!({
            "cniVersion": version.text,
            "interfaces": [{"name": self.host_interface}, container],
            "ips": ips,
            "dns": {},
        })
    }

    /// One address a family.
    fn single(&self, version: Version) -> Value {
        let mut result = Map::from_iter([("cniVersion".to_owned(), json!(version.text))]);
        for address in &self.addresses {
            let field = if address.addr().is_ipv4() { "ip4" } else { "ip6" };
            result
                .entry(field)
                .or_insert_with(|| json!({"ip": address.to_string()}));
        }
        result.insert("dns".into(), json!({}));
        Value::Object(result)
    }
}

/// The addresses of an earlier result, whatever its version.
pub(crate) fn addresses_of(result: &Value) -> Vec<String> {
    let listed = result
        .get("ips")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.get("address"));
    let single = ["ip4", "ip6"]
        .into_iter()
        .filter_map(|field| result.get(field)?.get("ip"));
    listed
        .chain(single)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::negotiate;

    fn result() -> AddResult {
        AddResult {
            host_interface: "cali1".into(),
            interface: "eth0".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            sandbox: "/run/netns/x".into(),
            addresses: vec!["10.0.0.1/32".parse().unwrap(), "fd00::1/128".parse().unwrap()],
        }
    }

    #[test]
    fn layouts() {
        let plain = result().to_json(negotiate("1.0.0").unwrap());
        assert_eq!(plain["ips"][1], json!({"interface": 1, "address": "fd00::1/128"}));
        assert_eq!(plain["interfaces"][1]["mtu"], 1500);
        let lists = result().to_json(negotiate("0.3.1").unwrap());
        assert_eq!(
            lists["ips"][1],
            json!({"version": "6", "interface": 1, "address": "fd00::1/128"})
        );
        assert!(lists["interfaces"][1].get("mtu").is_none());
        let single = result().to_json(negotiate("").unwrap());
        assert_eq!(
            single,
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.1/32"}, "ip6": {"ip": "fd00::1/128"}, "dns": {}})
        );
        for value in [plain, lists, single] {
            assert_eq!(addresses_of(&value), ["10.0.0.1/32", "fd00::1/128"]);
        }
    }

    #[test]
    fn unknown_versions_are_refused() {
        for version in ["1.1.0", "0.5.0", "x"] {
            assert_eq!(negotiate(version).unwrap_err().code as u32, 1);
        }
    }
}
