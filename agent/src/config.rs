//! The agent's configuration: file, then environment, then flags; the later wins.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use serde::{Deserialize, Serialize, Serializer};

/// One process a host: BGP, IPAM pools, routes and eBPF policy.
#[derive(Debug, Parser)]
#[command(name = "margay-agent", version, about)]
pub struct Flags {
    /// Configuration file (TOML). A missing file is an error only where this flag or variable names it.
    #[arg(long, env = "MARGAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of this host's Node resource. Default: the nodename file, else the host name in lower case.
    #[arg(long, env = "NODENAME")]
    pub node_name: Option<String>,
    /// etcd endpoints, comma separated. None anywhere: the embedded store is run.
    #[arg(long, env = "ETCD_ENDPOINTS", value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,
    /// Unix socket of the local API.
    #[arg(long, env = "MARGAY_AGENT_SOCKET")]
    pub socket: Option<PathBuf>,
    /// IPv4 address of this node with its prefix length, for the Node resource.
    #[arg(long, env = "IP")]
    pub ipv4_address: Option<String>,
    /// IPv6 address of this node with its prefix length, for the Node resource.
    #[arg(long, env = "IP6")]
    pub ipv6_address: Option<String>,
    /// AS number of this node, for the Node resource.
    #[arg(long, env = "AS")]
    pub as_number: Option<u32>,
    /// error, warn, info, debug or trace, or a filter such as `info,bgpd=debug`.
    #[arg(long, env = "MARGAY_LOG")]
    pub log: Option<String>,
    /// As Calico: `hash`, or an address. Default: the node's IPv4 address.
    #[arg(long, env = "CALICO_ROUTER_ID")]
    pub router_id: Option<String>,
    /// Read the configuration, print it with its defaults, and exit.
    #[arg(long)]
    pub check: bool,
}

/// The whole configuration with its defaults. Keys are in kebab case in the file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[derive(Default)]
pub struct Config {
    /// Name of this host's Node resource; filled by [`Config::load`].
    pub node_name: String,
    /// Filter for the log, as `--log`.
    pub log: Option<String>,
    /// Where the resources are.
    pub datastore: DatastoreConfig,
    /// What is written into this host's Node resource.
    pub node: NodeConfig,
    /// The BGP speaker.
    pub bgp: BgpConfig,
    /// Programs, routes and neighbours.
    pub dataplane: DataplaneConfig,
    /// The local API.
    pub api: ApiConfig,
    /// Liveness and readiness.
    pub health: HealthConfig,
    /// Prometheus metrics.
    pub metrics: MetricsConfig,
    /// Files that the agent keeps.
    pub paths: PathsConfig,
}

/// `[datastore]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DatastoreConfig {
    /// etcd endpoints, e.g. `http://10.0.0.1:2379`. Empty: run the embedded store.
    pub endpoints: Vec<String>,
    /// CA certificate (PEM file).
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM file).
    pub cert_file: Option<PathBuf>,
    /// Client key (PEM file).
    pub key_file: Option<PathBuf>,
    /// User; needs a password.
    pub username: Option<String>,
    /// Password; needs a user.
    #[serde(serialize_with = "hidden")]
    pub password: Option<String>,
    /// Write the status of endpoints under Felix's keys.
    pub report_endpoints: bool,
    /// The store that the agent runs where no endpoint is given.
    pub embedded: EmbeddedConfig,
}

impl Default for DatastoreConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            username: None,
            password: None,
            report_endpoints: true,
            embedded: EmbeddedConfig::default(),
        }
    }
}

/// `[datastore.embedded]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EmbeddedConfig {
    /// Address of the embedded store.
    pub listen: SocketAddr,
    /// Its file.
    pub data: PathBuf,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 2379)),
            data: "/var/lib/margay/store.redb".into(),
        }
    }
}

/// `[node]`: values for the Node resource; what the resource already says is kept where a key is absent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[derive(Default)]
pub struct NodeConfig {
    /// IPv4 address with prefix length.
    pub ipv4_address: Option<String>,
    /// IPv6 address with prefix length.
    pub ipv6_address: Option<String>,
    /// AS number.
    pub as_number: Option<u32>,
}

/// `[bgp]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BgpConfig {
    /// Run the speaker.
    pub enabled: bool,
    /// Hold time offered to peers, in seconds: 0 or 3 and more.
    pub hold_time_s: u16,
    /// How long routes stay deferred and stale after a restart, in seconds, where no resource says otherwise.
    pub restart_time_s: u16,
    /// Install learned routes in the kernel.
    pub install_routes: bool,
    /// `hash`, an address, or nothing: the node's IPv4 address. As the variable `CALICO_ROUTER_ID`.
    pub router_id: Option<String>,
    /// Passwords that resources refer to: `<secret name>/<key>` below this directory.
    pub secrets_dir: PathBuf,
}

impl Default for BgpConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            hold_time_s: 90,
            restart_time_s: 120,
            install_routes: true,
            router_id: None,
            secrets_dir: "/etc/margay/secrets".into(),
        }
    }
}

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// TCX links only.
    Tcx,
    /// clsact filters only.
    Clsact,
}

/// What happens to a packet from a workload to its own host that egress policy allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum EndpointToHost {
    /// Dropped.
    Drop,
    /// Left to the host's own rules.
    Return,
    /// Accepted.
    Accept,
}

/// `[dataplane]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataplaneConfig {
    /// Run the dataplane.
    pub enabled: bool,
    /// How programs are attached.
    pub attach: Attach,
    /// Where programs, links and maps are pinned.
    pub pin_dir: PathBuf,
    /// Prefix of workload interfaces.
    pub interface_prefix: String,
    /// As Felix's `defaultEndpointToHostAction`.
    pub endpoint_to_host_action: EndpointToHost,
    /// Drop TCP packets of flows that were never seen opening, instead of judging them both ways.
    pub strict_mid_flow: bool,
    /// How often everything is read back and repaired, in seconds.
    pub resync_interval_s: u64,
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            attach: Attach::Auto,
            pin_dir: "/sys/fs/bpf/margay".into(),
            interface_prefix: "cali".into(),
            endpoint_to_host_action: EndpointToHost::Drop,
            strict_mid_flow: false,
            resync_interval_s: 90,
        }
    }
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiConfig {
    /// Unix socket.
    pub socket: PathBuf,
    /// Group that may use it besides root; by default `margay` where it exists.
    pub group: Option<String>,
    /// How many flow events are kept for readers.
    pub flows_kept: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            socket: "/run/margay/agent.sock".into(),
            group: None,
            flows_kept: 16_384,
        }
    }
}

/// `[health]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HealthConfig {
    /// Serve `/liveness` and `/readiness`.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9099)),
        }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsConfig {
    /// Serve `/metrics`.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9091)),
        }
    }
}

/// `[paths]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PathsConfig {
    /// The node's name for CNI plugins, as Calico writes it.
    pub nodename_file: PathBuf,
    /// One file for each endpoint that is up.
    pub endpoint_status_dir: PathBuf,
    /// The last good view of the datastore.
    pub snapshot: PathBuf,
    /// State that a boot must clear.
    pub run_dir: PathBuf,
}

impl Default for PathsConfig {
    fn default() -> Self {
        Self {
            nodename_file: "/var/lib/calico/nodename".into(),
            endpoint_status_dir: "/var/run/calico/endpoint-status".into(),
            snapshot: "/var/lib/margay/snapshot.json".into(),
            run_dir: "/run/margay".into(),
        }
    }
}

/// What is printed says that there is a password, and not which.
fn hidden<S: Serializer>(password: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    password.as_ref().map(|_| "(set)").serialize(serializer)
}

/// Read where no `--config` names a file; it may be absent.
pub const CONFIG_PATH_DEFAULT: &str = "/etc/margay/agent.toml";

impl Config {
    /// The configuration of file, environment and flags together, checked.
    pub fn load(flags: &Flags) -> anyhow::Result<Self> {
        let mut config = match &flags.config {
            Some(path) => Self::read(path)?,
            None if Path::new(CONFIG_PATH_DEFAULT).exists() => Self::read(Path::new(CONFIG_PATH_DEFAULT))?,
            None => Self::default(),
        };
        config.overlay(flags);
        if config.node_name.is_empty() {
            config.node_name = node_name_of_host(&config.paths.nodename_file)?;
        }
        config.check()?;
        Ok(config)
    }

    /// As the text of a file, passwords hidden.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).map_err(anyhow::Error::from)
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// The text of a file. Errors name line and key.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(anyhow::Error::from)
    }

    fn overlay(&mut self, flags: &Flags) {
        if let Some(name) = &flags.node_name {
            self.node_name.clone_from(name);
        }
        if !flags.etcd_endpoints.is_empty() {
            self.datastore.endpoints.clone_from(&flags.etcd_endpoints);
        }
        if let Some(socket) = &flags.socket {
            self.api.socket.clone_from(socket);
        }
        for (field, given) in [
            (&mut self.node.ipv4_address, &flags.ipv4_address),
            (&mut self.node.ipv6_address, &flags.ipv6_address),
        ] {
            // Calico's environment has these for what is done here where nothing is set.
            let given = given
                .as_ref()
                .filter(|text| !text.is_empty() && *text != "autodetect");
            if given.is_some() {
                *field = given.cloned();
            }
        }
        if flags.as_number.is_some() {
            self.node.as_number = flags.as_number;
        }
        if flags.router_id.is_some() {
            self.bgp.router_id.clone_from(&flags.router_id);
        }
        if flags.log.is_some() {
            self.log.clone_from(&flags.log);
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        let name_ok = !self.node_name.is_empty()
            && self.node_name.len() <= 253
            && self
                .node_name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
        if !name_ok {
            bail!(
                "node-name = '{}': use lower-case letters, digits, '-' and '.', at most 253",
                self.node_name
            );
        }
        if self.bgp.hold_time_s == 1 || self.bgp.hold_time_s == 2 {
            bail!(
                "bgp.hold-time-s = {}: RFC 4271 allows 0 or 3 and more",
                self.bgp.hold_time_s
            );
        }
        if self.bgp.restart_time_s > 4095 {
            bail!(
                "bgp.restart-time-s = {}: RFC 4724 has 12 bits, at most 4095",
                self.bgp.restart_time_s
            );
        }
        if self.dataplane.interface_prefix.is_empty() || self.dataplane.interface_prefix.len() > 11 {
            bail!(
                "dataplane.interface-prefix = '{}': 1 to 11 characters",
                self.dataplane.interface_prefix
            );
        }
        if self.datastore.username.is_some() != self.datastore.password.is_some() {
            bail!("datastore.username and datastore.password: set both or neither");
        }
        for (key, value, v4) in [
            ("ipv4-address", &self.node.ipv4_address, true),
            ("ipv6-address", &self.node.ipv6_address, false),
        ] {
            let Some(value) = value else { continue };
            let address: Option<IpAddr> = value.split('/').next().and_then(|a| a.parse().ok());
            if address.is_none_or(|a| a.is_ipv4() != v4) {
                bail!(
                    "node.{key} = '{value}': not an address of that family, e.g. 192.0.2.1/24 or 2001:db8::1/64"
                );
            }
        }
        Ok(())
    }
}

fn node_name_of_host(nodename_file: &Path) -> anyhow::Result<String> {
    if let Ok(name) = std::fs::read_to_string(nodename_file) {
        let name = name.trim();
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
    }
    let name = nix::unistd::gethostname().context("cannot read the host name: set --node-name")?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Flags {
        Flags::parse_from(["margay-agent"].iter().chain(args))
    }

    #[test]
    fn unknown_key_is_named_with_its_line() {
        let error = Config::parse("[bgp]\nhold-time = 9\n").unwrap_err().to_string();
        assert!(error.contains("hold-time") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn what_is_printed_can_be_read_and_tells_no_password() {
        let text = "[datastore]\nusername = 'u'\npassword = 'hush'\n[bgp]\nhold-time-s = 9\n";
        let config = Config::parse(text).unwrap();
        let printed = config.to_toml().unwrap();
        assert!(
            !printed.contains("hush") && printed.contains("hold-time-s = 9"),
            "{printed}"
        );
        let mut again = Config::parse(&printed).unwrap();
        again.datastore.password.clone_from(&config.datastore.password);
        assert_eq!(again, config);
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(
            &path,
            "node-name = 'from-file'\n[datastore]\nendpoints = ['http://127.0.0.1:1']\n",
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let config = Config::load(&flags(&["--config", path])).unwrap();
        assert_eq!(config.node_name, "from-file");
        let config = Config::load(&flags(&[
            "--config",
            path,
            "--node-name",
            "n",
            "--etcd-endpoints",
            "http://a:1,http://b:1",
        ]))
        .unwrap();
        assert_eq!(config.node_name, "n");
        assert_eq!(config.datastore.endpoints, ["http://a:1", "http://b:1"]);
    }

    #[test]
    fn a_wrong_value_names_key_and_rule() {
        for (args, wanted) in [
            (["--node-name", "UPPER"], "node-name"),
            (["--node-name", ""], "node-name"),
        ] {
            let error = Config::load(&flags(&args)).map(|c| c.node_name);
            match error {
                Ok(name) => assert!(args[1].is_empty() && !name.is_empty()),
                Err(error) => assert!(error.to_string().contains(wanted), "{error}"),
            }
        }
        for text in ["", "autodetect"] {
            let config = Config::load(&flags(&["--node-name", "n", "--ipv4-address", text])).unwrap();
            assert_eq!(config.node.ipv4_address, None, "as Calico's IP={text}");
        }
        let error = Config::load(&flags(&["--node-name", "n", "--ipv4-address", "2001:db8::1"])).unwrap_err();
        assert!(error.to_string().contains("node.ipv4-address"), "{error}");
    }
}
