//! Where the datastore is: `calicoctl.cfg`, or the environment when there is no such file.

use std::path::Path;

use datastore::{ClientConfig, Pem};
use serde::Deserialize;

use crate::arguments::CONFIG_PATH_DEFAULT;
use crate::failure::Failure;

const FILE_KIND: &str = "CalicoAPIConfig";

/// The file's envelope.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct ConfigFile {
    kind: String,
    api_version: String,
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    spec: Settings,
}

/// Connection settings. Those of the Kubernetes datastore are known, so that files that hold both still read.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Settings {
    datastore_type: String,
    etcd_endpoints: String,
    etcd_discovery_srv: String,
    etcd_username: String,
    etcd_password: String,
    etcd_key_file: String,
    etcd_cert_file: String,
    #[serde(rename = "etcdCACertFile")]
    etcd_ca_cert_file: String,
    etcd_key: String,
    etcd_cert: String,
    #[serde(rename = "etcdCACert")]
    etcd_ca_cert: String,
    kubeconfig: String,
    kubeconfig_inline: String,
    #[serde(rename = "k8sAPIEndpoint")]
    k8s_api_endpoint: String,
    k8s_key_file: String,
    k8s_cert_file: String,
    #[serde(rename = "k8sCAFile")]
    k8s_ca_file: String,
    #[serde(rename = "k8sAPIToken")]
    k8s_api_token: String,
    #[serde(rename = "k8sInsecureSkipTLSVerify")]
    k8s_insecure_skip_tls_verify: bool,
    k8s_disable_node_poll: bool,
    #[serde(rename = "usePodCIDR")]
    use_pod_cidr: bool,
    #[serde(rename = "k8sClientQPS")]
    k8s_client_qps: Option<serde_json::Number>,
    k8s_client_burst: i64,
    k8s_current_context: String,
    #[serde(rename = "calicoAPIGroup")]
    calico_api_group: String,
}

impl Settings {
    /// From the file if it is there, else from the environment.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_file(path, &text),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(CONFIG_PATH_DEFAULT) =>
            {
                Ok(Self::from_environment(|name| std::env::var(name).ok()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::on_stdout(format!(
                "Error reading config file: {}",
                path.display()
            ))),
            Err(error) => Err(Failure::on_stdout(format!(
                "Error reading config file: {}: {error}",
                path.display()
            ))),
        }
    }

    fn from_file(path: &Path, text: &str) -> Result<Self, Failure> {
        let failed =
            |reason: String| Failure::on_stdout(format!("Failed to create Calico API client: {reason}"));
        let options = serde_saphyr::options! { with_snippet: false };
        let file: ConfigFile = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| failed(format!("syntax error in {}: {error}", path.display())))?;
        if file.api_version != api::API_VERSION {
            return Err(failed(format!(
                "invalid config file: unknown APIVersion '{}'",
                file.api_version
            )));
        }
        if file.kind != FILE_KIND {
            return Err(failed(format!(
                "invalid config file: expected kind '{FILE_KIND}', got '{}'",
                file.kind
            )));
        }
        Ok(file.spec)
    }

    /// A variable with the prefix `CALICO_` wins over the plain one.
    fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| {
            variable(&format!("CALICO_{name}"))
                .filter(|value| !value.is_empty())
                .or_else(|| variable(name))
                .unwrap_or_default()
        };
        Self {
            datastore_type: text("DATASTORE_TYPE"),
            etcd_endpoints: text("ETCD_ENDPOINTS"),
            etcd_discovery_srv: text("ETCD_DISCOVERY_SRV"),
            etcd_username: text("ETCD_USERNAME"),
            etcd_password: text("ETCD_PASSWORD"),
            etcd_key_file: text("ETCD_KEY_FILE"),
            etcd_cert_file: text("ETCD_CERT_FILE"),
            etcd_ca_cert_file: text("ETCD_CA_CERT_FILE"),
            ..Self::default()
        }
    }

    /// The client's settings, or what is wrong with these.
    pub(crate) fn client(&self) -> Result<ClientConfig, String> {
        let etcd = !self.etcd_endpoints.is_empty() || !self.etcd_discovery_srv.is_empty();
        match self.datastore_type.as_str() {
            "etcdv3" => {}
            "" if etcd => {}
            "" | "kubernetes" => {
                return Err("the Kubernetes datastore is not supported by this calicoctl: set datastoreType to etcdv3 \
                     and etcdEndpoints in the config file, or DATASTORE_TYPE=etcdv3 and ETCD_ENDPOINTS"
                    .to_owned());
            }
            other => return Err(format!("unknown datastore type: {other}")),
        }
        if !self.etcd_endpoints.is_empty() && !self.etcd_discovery_srv.is_empty() {
            return Err(
                "multiple discovery or bootstrap options specified, use either \"etcdEndpoints\" or \"etcdDiscoverySrv\""
                    .to_owned(),
            );
        }
        if !self.etcd_discovery_srv.is_empty() {
            return Err(
                "etcdDiscoverySrv is not supported by this calicoctl: list the members in etcdEndpoints"
                    .to_owned(),
            );
        }
        let mut config = ClientConfig::from_endpoint_list(&self.etcd_endpoints);
        if config.endpoints.is_empty() {
            return Err("no etcd endpoints specified".to_owned());
        }
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        config.username = set(&self.etcd_username);
        config.password = set(&self.etcd_password);
        let pem = |file: &str, inline: &str| {
            set(inline)
                .map(Pem::Inline)
                .or_else(|| set(file).map(|path| Pem::File(path.into())))
        };
        let files = [&self.etcd_key_file, &self.etcd_cert_file, &self.etcd_ca_cert_file];
        let inline = [&self.etcd_key, &self.etcd_cert, &self.etcd_ca_cert];
        if files.iter().any(|f| !f.is_empty()) && inline.iter().any(|i| !i.is_empty()) {
            return Err("cannot mix inline certificate-key and certificate / key files".to_owned());
        }
        config.key = pem(&self.etcd_key_file, &self.etcd_key);
        config.cert = pem(&self.etcd_cert_file, &self.etcd_cert);
        config.ca = pem(&self.etcd_ca_cert_file, &self.etcd_ca_cert);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Settings, String> {
        Settings::from_file(Path::new("x.cfg"), text).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn file() {
        let settings = from_text(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n  datastoreType: etcdv3\n  \
             etcdEndpoints: http://a:2379, http://b:2379\n  etcdUsername: u\n  etcdPassword: p\n",
        );
        // `metadata:` without a value is what many files have.
        let client = settings.unwrap().client().unwrap();
        assert_eq!(client.endpoints, ["http://a:2379", "http://b:2379"]);
        assert_eq!(
            (client.username.as_deref(), client.password.as_deref()),
            (Some("u"), Some("p"))
        );
        for (text, part) in [
            ("kind: CalicoAPIConfig\nspec: {}\n", "unknown APIVersion ''"),
            (
                "apiVersion: projectcalico.org/v3\nkind: X\n",
                "expected kind 'CalicoAPIConfig', got 'X'",
            ),
            (
                "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {other: 1}\n",
                "syntax error in x.cfg: ",
            ),
            ("a: [", "syntax error in x.cfg: "),
        ] {
            let error = from_text(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn environment() {
        let with = |pairs: &'static [(&str, &str)]| {
            Settings::from_environment(move |name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        let endpoints = |pairs| with(pairs).client().map(|client| client.endpoints.join(" "));
        assert_eq!(
            endpoints(&[("ETCD_ENDPOINTS", "http://a:1")]),
            Ok("http://a:1".to_owned())
        );
        assert_eq!(
            endpoints(&[
                ("ETCD_ENDPOINTS", "http://a:1"),
                ("CALICO_ETCD_ENDPOINTS", "http://b:1")
            ]),
            Ok("http://b:1".to_owned())
        );
        assert_eq!(
            endpoints(&[("DATASTORE_TYPE", "etcdv3")]),
            Err("no etcd endpoints specified".to_owned())
        );
        assert_eq!(
            endpoints(&[("DATASTORE_TYPE", "x")]),
            Err("unknown datastore type: x".to_owned())
        );
        assert!(
            endpoints(&[])
                .unwrap_err()
                .starts_with("the Kubernetes datastore is not supported")
        );
        assert!(
            endpoints(&[("ETCD_ENDPOINTS", "http://a:1"), ("ETCD_DISCOVERY_SRV", "x")])
                .unwrap_err()
                .starts_with("multiple discovery or bootstrap options specified")
        );
    }
}
