//! One node made again in a lab that is up: its namespaces, its links with both their ends, what it runs.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::links::Batch;
use super::up::{bring_up_interfaces, run_exec_lines, start_command, start_node};
use crate::running::RunningLab;
use crate::topology::SWITCH;

/// The kernel removes a dead namespace's interfaces, and with them their other ends, some time later.
const REMOVAL_WAIT_MAX: Duration = Duration::from_secs(10);
const REMOVAL_POLL: Duration = Duration::from_millis(50);

/// Ends a node: every process and interface of it.
pub fn end_node(lab: &RunningLab, node: &str) -> anyhow::Result<()> {
    lab.dir.live_holder(node)?.kill_and_wait()
}

/// Makes a node that was ended again. Its neighbours lost their ends of its links: these get what the
/// neighbours' `exec` lines that name the interface say.
pub fn restart_node(lab: &RunningLab, node: &str) -> anyhow::Result<()> {
    let topology = &lab.topology;
    let definition = topology
        .nodes
        .get(node)
        .with_context(|| format!("there is no node {node:?}"))?;
    let index = topology.nodes.get_index_of(node).unwrap_or_default();
    let links: Vec<_> = topology
        .links
        .iter()
        .filter(|l| l.ends.iter().any(|e| e.node == node))
        .collect();
    let holder = start_node(&lab.dir, topology, node, Some(definition))?;

    let end = Instant::now() + REMOVAL_WAIT_MAX;
    loop {
        let mut wiring = Batch::default();
        wiring.management(index, &holder);
        let made = wiring.run_in(&lab.dir.live_holder(SWITCH)?);
        match made {
            Ok(()) => break,
            Err(e) if Instant::now() > end => {
                return Err(e.context("the old node's interfaces are still there"));
            }
            Err(_) => std::thread::sleep(REMOVAL_POLL),
        }
    }
    for link in links {
        let [a, b] = &link.ends;
        let end = Instant::now() + REMOVAL_WAIT_MAX;
        loop {
            let mut wiring = Batch::default();
            wiring.link(
                link,
                [&lab.dir.live_holder(&a.node)?, &lab.dir.live_holder(&b.node)?],
            );
            match wiring.run_in(&lab.dir.live_holder(SWITCH)?) {
                Ok(()) => break,
                Err(e) if Instant::now() > end => return Err(e.context("the old link is still there")),
                Err(_) => std::thread::sleep(REMOVAL_POLL),
            }
        }
        for neighbour in link.ends.iter().filter(|e| e.node != node) {
            let mut local = Batch::default();
            local.set_up(&neighbour.interface);
            local.run_in(&lab.dir.live_holder(&neighbour.node)?)?;
            let lines: Vec<Vec<String>> = topology
                .nodes
                .get(&neighbour.node)
                .into_iter()
                .flat_map(|n| &n.exec)
                .filter(|line| line.contains(&neighbour.interface))
                .cloned()
                .collect();
            run_exec_lines(&lab.state, &topology.name, &neighbour.node, &lines)?;
        }
    }
    bring_up_interfaces(topology, node, definition, &holder)?;
    start_command(&lab.state, &topology.name, node, definition)?;
    run_exec_lines(&lab.state, &topology.name, node, &definition.exec)
}
