//! What a workload is called: in the store, on the host, and in the status directory.

use api::meta::LABEL_NAMESPACE;
use api::v3::workload_endpoint::WorkloadEndpointSpec;
use sha1::{Digest, Sha1};

use crate::config::{NetworkConfig, Parameters};
use crate::error::{CniError, Code, Context as _};

/// Characters of a digest or container id in a host interface's name.
const INTERFACE_SUFFIX_CHARS: usize = 11;
/// What host interfaces' names start with where nobody says otherwise.
const INTERFACE_PREFIX: &str = "cali";
/// The longest interface name that Linux takes, in bytes.
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// Namespace of endpoints without an orchestrator that knows namespaces.
const DEFAULT_NAMESPACE: &str = "default";

/// Who asks for an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orchestrator {
    Kubernetes,
    Cni,
}

impl Orchestrator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "k8s",
            Self::Cni => "cni",
        }
    }
}

/// The names of a workload's endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) orchestrator: Orchestrator,
    pub(crate) node: String,
    pub(crate) namespace: String,
    /// Empty for other orchestrators than Kubernetes.
    pub(crate) pod: String,
    pub(crate) container_id: String,
    /// The interface's name in the container.
    pub(crate) endpoint: String,
    /// Of the WorkloadEndpoint.
    pub(crate) resource_name: String,
    /// The host's end of the link.
    pub(crate) host_interface: String,
    /// Of the addresses' allocation.
    pub(crate) handle_id: String,
}

impl Identity {
    pub(crate) fn of(config: &NetworkConfig, parameters: &Parameters) -> Result<Self, CniError> {
        Self::at(config, parameters, &|name| std::env::var(name).ok())
    }

    fn at(
        config: &NetworkConfig,
        parameters: &Parameters,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CniError> {
        let node = config.node_name()?;
        let container_id = parameters.container_id.clone();
        let argument = |name: &str| parameters.args.get(name).filter(|value| !value.is_empty());
        let (orchestrator, namespace, pod) = match (argument("K8S_POD_NAME"), argument("K8S_POD_NAMESPACE")) {
            (Some(pod), Some(namespace)) => (Orchestrator::Kubernetes, namespace.clone(), pod.clone()),
            _ => {
                let labelled = config
                    .runtime_labels()
                    .into_iter()
                    .find(|(key, _)| key == LABEL_NAMESPACE);
                let namespace = labelled
                    .map(|(_, value)| value)
                    .or_else(|| environment("CNI_TEST_NAMESPACE"))
                    .filter(|namespace| !namespace.is_empty());
                (
                    Orchestrator::Cni,
                    namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
                    String::new(),
                )
            }
        };
        let host_interface = match orchestrator {
            Orchestrator::Kubernetes => {
                let prefixes = environment("FELIX_INTERFACEPREFIX").unwrap_or_default();
                let first = prefixes
                    .split(',')
                    .next()
                    .map(str::trim)
                    .filter(|prefix| !prefix.is_empty());
                let digest = Sha1::digest(format!("{namespace}.{pod}"));
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                interface_name(first.unwrap_or(INTERFACE_PREFIX), &hex)
            }
            Orchestrator::Cni => interface_name(INTERFACE_PREFIX, &container_id),
        };
        let spec = WorkloadEndpointSpec {
            orchestrator: orchestrator.name().to_owned(),
            node: node.clone(),
            pod: pod.clone(),
            container_id: container_id.clone(),
            endpoint: parameters.interface.clone(),
            ..WorkloadEndpointSpec::default()
        };
        let resource_name = api::workload_name::build(&spec).cni(
            Code::InvalidEnvironment,
            "the workload endpoint has no valid name",
        )?;
        Ok(Self {
            orchestrator,
            node,
            namespace,
            pod,
            handle_id: format!("{}.{container_id}", config.name),
            container_id,
            endpoint: parameters.interface.clone(),
            resource_name,
            host_interface,
        })
    }

    /// The agent's file for this endpoint: it is there when policy is in force.
    pub(crate) fn status_file_name(&self) -> String {
        let third = if self.orchestrator == Orchestrator::Kubernetes {
            &self.pod
        } else {
            &self.container_id
        };
        let workload = format!("{}/{third}", self.namespace);
        [self.orchestrator.name(), &workload, &self.endpoint]
            .map(path_escape)
            .join(" ")
    }
}

fn interface_name(prefix: &str, suffix: &str) -> String {
    let suffix: String = suffix.chars().take(INTERFACE_SUFFIX_CHARS).collect();
    let mut name = format!("{prefix}{suffix}");
    name.truncate(INTERFACE_NAME_BYTES_MAX);
    name
}

/// Escapes a segment of a URL's path as Go does: RFC 3986's unreserved characters and `$&+=:@` stay.
fn path_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+=:@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A label as Calico takes it from Mesos: other characters become `-`, those at the ends that may not stand there go.
pub(crate) fn sanitised(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut replaced = false;
    for c in text.chars() {
        if allowed(c) {
            out.push(c);
        } else if !replaced {
            out.push('-');
        }
        replaced = !allowed(c);
    }
    out.trim_matches(['-', '_', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(args: &[(&str, &str)], environment: &[(&str, &str)]) -> Identity {
        let config = NetworkConfig::parse(r#"{"name":"net1","nodename":"node-1"}"#).unwrap();
        let parameters = Parameters {
            container_id: "0123456789abcdef".into(),
            interface: "eth0".into(),
            args: args
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Parameters::default()
        };
        let get = |name: &str| {
            environment
                .iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| (*v).to_owned())
        };
        Identity::at(&config, &parameters, &get).unwrap()
    }

    #[test]
    fn plain_containers() {
        let identity = identity(&[("K8S_POD_NAME", "p")], &[]);
        assert_eq!(identity.resource_name, "node--1-cni-0123456789abcdef-eth0");
        assert_eq!(identity.host_interface, "cali0123456789a");
        assert_eq!(identity.handle_id, "net1.0123456789abcdef");
        assert_eq!(identity.status_file_name(), "cni default%2F0123456789abcdef eth0");
    }

    #[test]
    fn pods() {
        let args = [("K8S_POD_NAME", "a-b"), ("K8S_POD_NAMESPACE", "default")];
        let pod = identity(&args, &[]);
        assert_eq!(pod.resource_name, "node--1-k8s-a--b-eth0");
        // sha1("default.a-b")
        assert_eq!(pod.host_interface, "cali8add75710be");
        assert_eq!(pod.status_file_name(), "k8s default%2Fa-b eth0");
        let prefixed = identity(&args, &[("FELIX_INTERFACEPREFIX", "cni,tap")]);
        assert_eq!(prefixed.host_interface, "cni8add75710be");
    }

    #[test]
    fn labels_are_sanitised() {
        assert_eq!(sanitised("a b/c"), "a-b-c");
        assert_eq!(sanitised("__x!!y.."), "x-y");
    }
}
