//! From nodes and links to a fabric that serves: resources, agents, sessions, workloads.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::deploy::Progress;
use crate::fabric::{Fabric, SpeakerKind};
use crate::observe::sessions;
use crate::running::RunningLab;
use crate::workloads;

const STORE_WAIT_MAX: Duration = Duration::from_secs(20);
const SESSIONS_WAIT_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(250);

/// Brings the fabric of a lab into service.
pub fn provision(lab: &RunningLab, progress: Progress) -> anyhow::Result<()> {
    let fabric = lab.fabric()?;
    eventually(STORE_WAIT_MAX, || store_is_healthy(lab, fabric)).context("waiting for the store")?;
    for directory in &fabric.resources {
        let said = apply(lab, fabric, directory)?;
        progress(&format!("{}: {}", directory.display(), said.trim()));
    }
    for (node, speaker) in fabric.agents() {
        let start: Vec<&str> = speaker.start.iter().map(String::as_str).collect();
        lab.run(node, &start).context("starting an agent")?;
    }
    let began = Instant::now();
    eventually(SESSIONS_WAIT_MAX, || all_established(lab, fabric)).context("waiting for BGP")?;
    let took = began.elapsed().as_secs_f64();
    progress(&format!(
        "BGP: {} sessions established after {took:.1} s",
        fabric.sessions.len()
    ));

    let mut records = Vec::new();
    for workload in &fabric.workloads {
        let record = workloads::add(lab, fabric, workload)?;
        let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
        progress(&format!(
            "workload {} on {}: {}",
            record.name,
            record.host,
            addresses.join(" ")
        ));
        records.push(record);
        // One by one: `down` and `verify` see what is there even if the next fails.
        workloads::record(lab, &records)?;
    }
    for pending in &fabric.pending_affinities {
        let family = if pending.block.addr().is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        };
        let block = pending.block.to_string().replace('/', "-");
        let key = format!("/calico/ipam/v2/host/{}/{family}/block/{block}", pending.host);
        etcdctl(
            lab,
            fabric,
            &["put", &key, r#"{"state":"pending","deleted":false}"#],
        )?;
        progress(&format!(
            "affinity of {} for {} left pending",
            pending.host, pending.block
        ));
    }
    Ok(())
}

/// Applies a file or directory of the machine with calicoctl in the store's node.
pub fn apply(lab: &RunningLab, fabric: &Fabric, path: &std::path::Path) -> anyhow::Result<String> {
    // The node does not see the machine's directories: the documents go through standard input, in the order
    // in which calicoctl walks a directory.
    let mut documents = String::new();
    for file in files_of(path)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        if !documents.is_empty() {
            documents.push_str("\n---\n");
        }
        documents.push_str(&text);
    }
    let arguments = ["calicoctl", "apply", "-f", "-"];
    let limit = Duration::from_secs(60);
    lab.run_with_input(&fabric.store_node, None, &arguments, documents.as_bytes(), limit)
        .with_context(|| format!("applying {}", path.display()))
}

fn files_of(path: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<_> = std::fs::read_dir(path)
        .with_context(|| format!("reading {}", path.display()))?
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Runs etcdctl against the lab's store, in the store's node.
pub fn etcdctl(lab: &RunningLab, fabric: &Fabric, arguments: &[&str]) -> anyhow::Result<String> {
    let endpoints = format!("--endpoints={}", fabric.store_endpoint);
    let mut line = vec!["etcdctl", endpoints.as_str()];
    line.extend(arguments);
    lab.run(&fabric.store_node, &line)
}

fn store_is_healthy(lab: &RunningLab, fabric: &Fabric) -> anyhow::Result<()> {
    etcdctl(lab, fabric, &["endpoint", "health"]).map(|_| ())
}

/// Fails with the first session that is not established at either end.
pub fn all_established(lab: &RunningLab, fabric: &Fabric) -> anyhow::Result<()> {
    for (node, speaker) in &fabric.speakers {
        let seen = sessions::read(lab, node, speaker.kind)?;
        for session in &fabric.sessions {
            let [a, b] = &session.ends;
            for peer in [(a, b), (b, a)]
                .iter()
                .filter(|(own, _)| own.node == *node)
                .map(|(_, peer)| peer)
            {
                match seen.get(&peer.address) {
                    Some(view) if view.established => {}
                    Some(view) => bail!("{node}: session with {} is {}", peer.address, view.state),
                    None => bail!("{node}: no session with {}{}", peer.address, hint(speaker.kind)),
                }
            }
        }
    }
    Ok(())
}

fn hint(kind: SpeakerKind) -> &'static str {
    match kind {
        SpeakerKind::Agent => " (see `lab logs`)",
        _ => "",
    }
}

/// Calls `check` until it succeeds, or returns its last error.
pub fn eventually<T>(limit: Duration, mut check: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() > end => return Err(e.context(format!("still after {limit:?}"))),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}
