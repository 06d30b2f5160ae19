//! Workloads: network namespaces on hosts, connected by the CNI plugin as a container runtime would.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fabric::{Fabric, Probe, Workload};
use crate::node::enter::NETNS_DIR;
use crate::running::RunningLab;

/// The interface that a workload gets.
const INTERFACE: &str = "eth0";
/// How long a runtime waits for the plugin.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Container runtimes name containers by 256 bits.
const CONTAINER_ID_BYTES: usize = 32;
/// Where the labels of an endpoint are in the configuration of a runtime other than Kubernetes.
const LABELS_POINTER: [&str; 3] = ["org.apache.mesos", "network_info", "labels"];

/// A workload that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: String,
    /// What the plugin knows it by.
    pub container_id: String,
    /// The host's end of its link.
    pub host_interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Makes a workload's namespace, connects it, and starts its server.
pub fn add(lab: &RunningLab, fabric: &Fabric, workload: &Workload) -> anyhow::Result<WorkloadRecord> {
    let name = &workload.name;
    let context = || format!("workload {name}");
    lab.run(&workload.host, &["ip", "netns", "add", name])
        .with_context(context)?;
    let container_id = container_id()?;
    let text = plugin(lab, fabric, workload, "ADD", &container_id).with_context(context)?;
    let record = parse_result(workload, container_id, &text).with_context(context)?;
    start_server(lab, workload).with_context(context)?;
    Ok(record)
}

/// Ends a workload's processes, disconnects it, and removes its namespace.
pub fn remove(lab: &RunningLab, fabric: &Fabric, record: &WorkloadRecord) -> anyhow::Result<()> {
    let workload = fabric
        .workload(&record.name)
        .with_context(|| format!("no workload {:?}", record.name))?;
    let context = || format!("workload {}", record.name);
    let script = "for p in $(ip netns pids \"$1\"); do kill -9 \"$p\"; done";
    lab.run(&record.host, &["sh", "-c", script, "sh", &record.name])
        .with_context(context)?;
    plugin(lab, fabric, workload, "DEL", &record.container_id).with_context(context)?;
    lab.run(&record.host, &["ip", "netns", "delete", &record.name])
        .with_context(context)?;
    Ok(())
}

/// Workloads that are connected, as last recorded.
pub fn records(lab: &RunningLab) -> anyhow::Result<Vec<WorkloadRecord>> {
    lab.dir.read("workloads.json").map(Option::unwrap_or_default)
}

/// Remembers the workloads.
pub fn record(lab: &RunningLab, records: &[WorkloadRecord]) -> anyhow::Result<()> {
    lab.dir.write("workloads.json", &records)
}

/// Runs the plugin in the host's namespaces by the CNI convention: environment and configuration on standard
/// input.
fn plugin(
    lab: &RunningLab,
    fabric: &Fabric,
    workload: &Workload,
    command: &str,
    container_id: &str,
) -> anyhow::Result<String> {
    let config = configuration(fabric, workload);
    let program = config["type"]
        .as_str()
        .context("the CNI configuration has no type")?
        .to_string();
    let variables = [
        format!("CNI_COMMAND={command}"),
        format!("CNI_CONTAINERID={container_id}"),
        format!("CNI_NETNS={NETNS_DIR}/{}", workload.name),
        format!("CNI_IFNAME={INTERFACE}"),
        "CNI_PATH=/run/lab/bin".to_string(),
    ];
    let mut arguments = vec!["env"];
    arguments.extend(variables.iter().map(String::as_str));
    arguments.push(&program);
    lab.run_with_input(
        &workload.host,
        None,
        &arguments,
        config.to_string().as_bytes(),
        PLUGIN_TIMEOUT,
    )
}

/// The network's configuration with what is this workload's own.
fn configuration(fabric: &Fabric, workload: &Workload) -> Value {
    let mut config = fabric.cni.clone();
    for (key, pool) in [
        ("ipv4_pools", &workload.pools.v4),
        ("ipv6_pools", &workload.pools.v6),
    ] {
        if let Some(pool) = pool {
            config["ipam"][key] = json!([pool]);
        }
    }
    let labels: Vec<Value> = workload
        .labels
        .iter()
        .map(|(k, v)| json!({"key": k, "value": v}))
        .collect();
    let [orchestrator, network, list] = LABELS_POINTER;
    config["args"] = json!({ orchestrator: { network: { list: { "labels": labels } } } });
    config
}

#[derive(Deserialize)]
struct PluginResult {
    interfaces: Vec<PluginInterface>,
    ips: Vec<PluginAddress>,
}

#[derive(Deserialize)]
struct PluginInterface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct PluginAddress {
    address: IpNet,
}

fn parse_result(workload: &Workload, container_id: String, text: &str) -> anyhow::Result<WorkloadRecord> {
    let result: PluginResult =
        serde_json::from_str(text).with_context(|| format!("the plugin's result: {text}"))?;
    let host_end = result
        .interfaces
        .iter()
        .find(|i| i.sandbox.is_empty())
        .context("no host interface in the result")?;
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
    anyhow::ensure!(
        addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6),
        "an address of each family was asked for, the plugin gave {addresses:?}"
    );
    Ok(WorkloadRecord {
        name: workload.name.clone(),
        host: workload.host.clone(),
        container_id,
        host_interface: host_end.name.clone(),
        addresses,
    })
}

/// The server answers on the ports that are probed, in the workload's network namespace.
fn start_server(lab: &RunningLab, workload: &Workload) -> anyhow::Result<()> {
    let ports: Vec<String> = Probe::ALL
        .iter()
        .filter_map(|p| p.port())
        .map(|p| p.to_string())
        .collect();
    let script = "setsid nsenter --net=\"$1\" lab traffic serve --name \"$2\" --ports \"$3\" \
                  </dev/null >>\"/var/log/workload-$2.log\" 2>&1 &";
    let netns = format!("{NETNS_DIR}/{}", workload.name);
    lab.run(
        &workload.host,
        &["sh", "-c", script, "sh", &netns, &workload.name, &ports.join(",")],
    )?;
    Ok(())
}

fn container_id() -> anyhow::Result<String> {
    let mut bytes = [0u8; CONTAINER_ID_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("reading random bytes")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::Pools;

    fn workload() -> Workload {
        Workload {
            name: "web1".into(),
            host: "host1".into(),
            labels: [("role".to_string(), "web".to_string())].into_iter().collect(),
            pools: Pools {
                v4: Some("tiny".into()),
                v6: None,
            },
            borrowed: false,
        }
    }

    #[test]
    fn a_result_is_read_and_must_have_both_families() {
        let text = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"cali0123"},
            {"name":"eth0","mac":"0a:00:00:00:00:01","sandbox":"/run/netns/web1"}],
            "ips":[{"address":"10.65.0.1/26","interface":1},{"address":"fd00:65::1/122","interface":1}]}"#;
        let record = parse_result(&workload(), "id".into(), text).unwrap();
        assert_eq!(record.host_interface, "cali0123");
        assert_eq!(record.addresses.len(), 2);
        let v4_only = text.replace(r#",{"address":"fd00:65::1/122","interface":1}"#, "");
        assert!(
            parse_result(&workload(), "id".into(), &v4_only)
                .unwrap_err()
                .to_string()
                .contains("each family")
        );
    }

    #[test]
    fn labels_and_pools_are_added_to_the_configuration() {
        let topology =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../containerlab/two-rack.clab.yml");
        let topology = crate::topology::Topology::load(&topology, None).unwrap();
        let fabric = Fabric::load(&topology).unwrap().unwrap();
        let config = configuration(&fabric, &workload());
        assert_eq!(config["ipam"]["ipv4_pools"], json!(["tiny"]));
        assert_eq!(config["ipam"]["assign_ipv6"], "true");
        let labels = &config["args"]["org.apache.mesos"]["network_info"]["labels"]["labels"];
        assert_eq!(*labels, json!([{"key": "role", "value": "web"}]));
        assert_ne!(container_id().unwrap(), container_id().unwrap());
    }
}
