//! The network configuration on standard input, and the parameters in the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{CniError, Code, Context as _};

/// The largest configuration that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// How long the agent may take where the configuration does not say, in seconds.
const POLICY_SETUP_TIMEOUT_SECONDS_DEFAULT: u64 = 30;
/// Types of IPAM that are served here.
const IPAM_TYPES: [&str; 2] = ["calico-ipam", "margay-ipam"];
/// Where the agent leaves the node's name.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";
/// Where the agent leaves the MTU.
const MTU_FILE: &str = "/var/lib/calico/mtu";

/// The keys that we read; others are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NetworkConfig {
    #[serde(rename = "cniVersion")]
    pub(crate) cni_version: String,
    pub(crate) name: String,
    pub(crate) ipam: IpamConfig,
    pub(crate) mtu: u32,
    pub(crate) require_mtu_file: bool,
    nodename: String,
    nodename_file: String,
    nodename_file_optional: bool,
    hostname: String,
    datastore_type: String,
    etcd_endpoints: String,
    etcd_discovery_srv: String,
    etcd_authority: String,
    etcd_scheme: String,
    etcd_key_file: String,
    etcd_cert_file: String,
    etcd_ca_cert_file: String,
    pub(crate) log_level: String,
    pub(crate) log_file_path: String,
    pub(crate) policy: PolicyConfig,
    pub(crate) container_settings: ContainerSettings,
    ipam_lock_file: String,
    policy_setup_timeout_seconds: Option<i64>,
    endpoint_status_dir: String,
    args: BTreeMap<String, Value>,
    #[serde(rename = "prevResult")]
    pub(crate) prev_result: Option<Value>,
}

/// The `ipam` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IpamConfig {
    r#type: String,
    #[serde(deserialize_with = "switch")]
    assign_ipv4: Option<bool>,
    #[serde(deserialize_with = "switch")]
    assign_ipv6: Option<bool>,
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
}

/// The `policy` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PolicyConfig {
    pub(crate) r#type: String,
}

/// The `container_settings` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerSettings {
    pub(crate) allow_ip_forwarding: bool,
}

/// `"true"` and `"false"` are strings in this section; plain booleans are taken too.
fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Bool(value) => Some(value),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

impl NetworkConfig {
    /// Reads and checks a configuration.
    pub(crate) fn read(input: impl std::io::Read) -> Result<Self, CniError> {
        use std::io::Read as _;
        let mut text = String::new();
        input.take(CONFIG_BYTES_MAX).read_to_string(&mut text).cni(
            Code::Io,
            "cannot read the network configuration from standard input",
        )?;
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        serde_json::from_str(text).cni(Code::Decode, "the network configuration is not valid JSON")
    }

    /// Checks what every command but VERSION needs.
    pub(crate) fn check(&self) -> Result<(), CniError> {
        let bad = |field: &str, reason: String| {
            Err(CniError::new(
                Code::InvalidConfig,
                "invalid network configuration",
                format!("{field}: {reason}"),
            ))
        };
        if self.name.is_empty() {
            return bad("name", "is required".to_owned());
        }
        if !matches!(self.datastore_type.as_str(), "" | "etcdv3") {
            let reason = format!("{:?} is not supported: use \"etcdv3\"", self.datastore_type);
            return bad("datastore_type", reason);
        }
        if !self.etcd_discovery_srv.is_empty() {
            return bad(
                "etcd_discovery_srv",
                "is not supported: list the members in etcd_endpoints".to_owned(),
            );
        }
        if !IPAM_TYPES.contains(&self.ipam.r#type.as_str()) {
            let reason = format!(
                "{:?} is not served by this plugin: use \"calico-ipam\"",
                self.ipam.r#type
            );
            return bad("ipam.type", reason);
        }
        if !self.policy.r#type.is_empty() {
            let reason = format!(
                "{:?} is not supported yet: leave the policy section out",
                self.policy.r#type
            );
            return bad("policy.type", reason);
        }
        if self
            .policy_setup_timeout_seconds
            .is_some_and(|seconds| seconds < 0)
        {
            return bad("policy_setup_timeout_seconds", "must not be negative".to_owned());
        }
        if !self.ipam.wants_ipv4() && !self.ipam.wants_ipv6() {
            return bad("ipam", "neither assign_ipv4 nor assign_ipv6 is on".to_owned());
        }
        Ok(())
    }

    /// How long the agent may take to put policy in force. 0 means the default: a workload is never let run unfiltered.
    pub(crate) fn policy_setup_timeout(&self) -> std::time::Duration {
        let asked = self
            .policy_setup_timeout_seconds
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0);
        std::time::Duration::from_secs(asked.unwrap_or(POLICY_SETUP_TIMEOUT_SECONDS_DEFAULT))
    }

    /// Where the agent says that an endpoint's policy is in force.
    pub(crate) fn endpoint_status_dir(&self) -> PathBuf {
        or_default(&self.endpoint_status_dir, "/var/run/calico/endpoint-status")
    }

    /// The lock that serialises address management on this host.
    pub(crate) fn ipam_lock_file(&self) -> PathBuf {
        or_default(&self.ipam_lock_file, "/var/run/calico/ipam.lock")
    }

    /// The node's name: given, from the agent's file, or the host's.
    pub(crate) fn node_name(&self) -> Result<String, CniError> {
        if !self.nodename.is_empty() {
            return Ok(self.nodename.clone());
        }
        let path = or_default(&self.nodename_file, NODENAME_FILE);
        match std::fs::read_to_string(&path) {
            Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
            Ok(_) => {}
            Err(_) if self.nodename_file_optional => {}
            Err(error) => {
                let details = format!(
                    "{}: {error}; check that the agent runs on this host and that the file's directory is mounted",
                    path.display()
                );
                return Err(CniError::new(
                    Code::TryAgainLater,
                    "the node's name is not known",
                    details,
                ));
            }
        }
        if !self.hostname.is_empty() {
            return Ok(self.hostname.clone());
        }
        let host = nix::unistd::gethostname().cni(Code::Io, "cannot read the host's name")?;
        Ok(host.to_string_lossy().trim().to_lowercase())
    }

    /// The MTU of workload links; `None` leaves it to the kernel.
    pub(crate) fn mtu(&self) -> Result<Option<u32>, CniError> {
        if self.mtu > 0 {
            return Ok(Some(self.mtu));
        }
        match std::fs::read_to_string(MTU_FILE) {
            Ok(text) => {
                let mtu = text
                    .trim()
                    .parse()
                    .cni(Code::InvalidConfig, format!("{MTU_FILE} holds no number"))?;
                Ok((mtu > 0).then_some(mtu))
            }
            Err(error) if self.require_mtu_file => Err(CniError::new(
                Code::TryAgainLater,
                format!("{MTU_FILE} is required"),
                error,
            )),
            Err(_) => Ok(None),
        }
    }

    /// How to reach the store.
    pub(crate) fn datastore(&self) -> Result<datastore::ClientConfig, CniError> {
        let mut config = if !self.etcd_endpoints.is_empty() {
            datastore::ClientConfig::from_endpoint_list(&self.etcd_endpoints)
        } else if !self.etcd_authority.is_empty() {
            let scheme = if self.etcd_scheme.is_empty() {
                "http"
            } else {
                &self.etcd_scheme
            };
            datastore::ClientConfig::new([format!("{scheme}://{}", self.etcd_authority)])
        } else {
            datastore::ClientConfig::default()
        };
        let file = |path: &str| (!path.is_empty()).then(|| datastore::Pem::File(PathBuf::from(path)));
        config.ca = file(&self.etcd_ca_cert_file);
        config.cert = file(&self.etcd_cert_file);
        config.key = file(&self.etcd_key_file);
        Ok(config)
    }

    /// Labels that the runtime gives the endpoint: those of Mesos' network information.
    pub(crate) fn runtime_labels(&self) -> Vec<(String, String)> {
        #[derive(Deserialize)]
        struct Label {
            key: String,
            #[serde(default)]
            value: String,
        }
        let labels = self
            .args
            .get("org.apache.mesos")
            .and_then(|mesos| mesos.pointer("/network_info/labels/labels"))
            .and_then(|labels| Vec::<Label>::deserialize(labels).ok());
        labels
            .unwrap_or_default()
            .into_iter()
            .map(|label| (label.key, label.value))
            .collect()
    }
}

impl IpamConfig {
    pub(crate) fn wants_ipv4(&self) -> bool {
        self.assign_ipv4 != Some(false)
    }

    pub(crate) fn wants_ipv6(&self) -> bool {
        self.assign_ipv6 == Some(true)
    }
}

fn or_default(given: &str, default: &str) -> PathBuf {
    PathBuf::from(if given.is_empty() { default } else { given })
}

/// What the runtime asks for, from the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    pub(crate) container_id: String,
    /// Empty where the runtime gives none.
    pub(crate) netns: String,
    pub(crate) interface: String,
    /// `CNI_ARGS`.
    pub(crate) args: BTreeMap<String, String>,
}

/// The longest interface name that Linux takes, in bytes.
const INTERFACE_NAME_BYTES_MAX: usize = 15;

impl Parameters {
    /// From the environment; `netns_required` for ADD and CHECK.
    pub(crate) fn read(netns_required: bool) -> Result<Self, CniError> {
        Self::from(|name| std::env::var(name).unwrap_or_default(), netns_required)
    }

    fn from(get: impl Fn(&str) -> String, netns_required: bool) -> Result<Self, CniError> {
        let bad = |name: &str, reason: &str| {
            CniError::new(
                Code::InvalidEnvironment,
                "invalid environment",
                format!("{name} {reason}"),
            )
        };
        let container_id = get("CNI_CONTAINERID");
        let plain = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if !plain(&container_id) {
            return Err(bad(
                "CNI_CONTAINERID",
                "must start with a letter or digit and hold only those, '_', '.' and '-'",
            ));
        }
        let interface = get("CNI_IFNAME");
        let named = !interface.is_empty() && interface.len() <= INTERFACE_NAME_BYTES_MAX;
        if !named || interface == "." || interface == ".." || interface.contains(['/', ':', ' ', '\t', '\n'])
        {
            return Err(bad("CNI_IFNAME", "must be an interface name of at most 15 bytes"));
        }
        let netns = get("CNI_NETNS");
        if netns_required && netns.is_empty() {
            return Err(bad("CNI_NETNS", "is required"));
        }
        let mut args = BTreeMap::new();
        for pair in get("CNI_ARGS").split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(bad("CNI_ARGS", "must be KEY=VALUE pairs separated by ';'"));
            };
            args.insert(key.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self {
            container_id,
            netns,
            interface,
            args,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(container: &str, interface: &str, args: &str) -> Result<Parameters, CniError> {
        let get = |name: &str| match name {
            "CNI_CONTAINERID" => container.to_owned(),
            "CNI_IFNAME" => interface.to_owned(),
            "CNI_ARGS" => args.to_owned(),
            _ => String::new(),
        };
        Parameters::from(get, false)
    }

    #[test]
    fn parameters_are_checked() {
        let good = parameters("a1b2", "eth0", "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.0.0.1").unwrap();
        assert_eq!(good.args["IP"], "10.0.0.1");
        for (container, interface, args) in [
            ("", "eth0", ""),
            ("-a", "eth0", ""),
            ("a b", "eth0", ""),
            ("a", "", ""),
            ("a", "a/b", ""),
            ("a", "sixteen-bytes-xx", ""),
            ("a", "eth0", "x"),
        ] {
            let error = parameters(container, interface, args).unwrap_err();
            assert_eq!(
                error.code,
                Code::InvalidEnvironment,
                "{container:?} {interface:?} {args:?}"
            );
        }
        assert!(Parameters::from(|_| "a".to_owned(), true).is_err_and(|e| e.details.contains("CNI_ARGS")));
    }

    #[test]
    fn configuration_defaults_and_refusals() {
        let minimal = r#"{"name":"net","ipam":{"type":"calico-ipam"}}"#;
        let config = NetworkConfig::parse(minimal).unwrap();
        config.check().unwrap();
        assert!(config.ipam.wants_ipv4() && !config.ipam.wants_ipv6());
        assert_eq!(config.policy_setup_timeout().as_secs(), 30);
        let cases = [
            (r#"{"ipam":{"type":"calico-ipam"}}"#, "name"),
            (r#"{"name":"n","ipam":{"type":"host-local"}}"#, "ipam.type"),
            (
                r#"{"name":"n","datastore_type":"kubernetes","ipam":{"type":"calico-ipam"}}"#,
                "datastore_type",
            ),
            (
                r#"{"name":"n","policy":{"type":"k8s"},"ipam":{"type":"calico-ipam"}}"#,
                "policy.type",
            ),
            (
                r#"{"name":"n","policy_setup_timeout_seconds":-1,"ipam":{"type":"calico-ipam"}}"#,
                "policy_setup",
            ),
            (
                r#"{"name":"n","ipam":{"type":"calico-ipam","assign_ipv4":"false"}}"#,
                "ipam:",
            ),
        ];
        for (text, field) in cases {
            let error = NetworkConfig::parse(text).unwrap().check().unwrap_err();
            assert!(
                error.code == Code::InvalidConfig && error.details.starts_with(field),
                "{error:?}"
            );
        }
        assert_eq!(NetworkConfig::parse("{").unwrap_err().code, Code::Decode);
    }

    #[test]
    fn mesos_labels() {
        let text = r#"{"args":{"org.apache.mesos":{"network_info":{"labels":{"labels":[
            {"key":"app","value":"web"},{"key":"bare"}]}}}}}"#;
        let labels = NetworkConfig::parse(text).unwrap().runtime_labels();
        assert_eq!(
            labels,
            [("app".into(), "web".into()), ("bare".into(), String::new())]
        );
        let none = NetworkConfig::parse(r#"{"args":{"org.apache.mesos":7}}"#)
            .unwrap()
            .runtime_labels();
        assert!(none.is_empty());
    }
}
