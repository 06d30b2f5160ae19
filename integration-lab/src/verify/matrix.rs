//! The matrix: every workload to every other by every probe, the verdict and, for denials, what decided it at
//! the enforcing host.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Report;
use super::shown::Shown;
use crate::fabric::{Direction, Fabric, Family, Probe, Verdict, Workload, expected};
use crate::observe::flows::{self, Flow};
use crate::running::RunningLab;
use crate::traffic::probe::{PROBES_MAX, Seen, Target};
use crate::workloads::{self, WorkloadRecord};
use anyhow::{Context, bail};

/// A workload as it is declared and as it is.
type Placed<'a> = (&'a Workload, &'a WorkloadRecord);

/// One cell of the matrix.
struct Cell<'a> {
    from: Placed<'a>,
    to: Placed<'a>,
    probe: Probe,
    family: Family,
    source: IpAddr,
    destination: IpAddr,
    verdict: &'a Verdict,
}

pub(super) fn check(lab: &RunningLab, fabric: &Fabric, report: &mut Report) -> anyhow::Result<()> {
    let records = workloads::records(lab)?;
    let placed = fabric
        .workloads
        .iter()
        .map(|w| {
            Ok((
                w,
                records
                    .iter()
                    .find(|r| r.name == w.name)
                    .context(format!("{} is not there", w.name))?,
            ))
        })
        .collect::<anyhow::Result<Vec<Placed>>>()?;
    let cells = cells(fabric, &placed)?;
    let before = newest_sequences(lab, fabric);
    let seen = probe_all(lab, &placed, &cells)?;
    let flows: HashMap<&str, Vec<Flow>> = before
        .into_iter()
        .filter_map(|(host, newest)| Some((host, flows::denials(lab, host, newest).ok()?)))
        .collect();

    let names: Vec<&str> = placed.iter().map(|p| p.0.name.as_str()).collect();
    let mut shown = Shown::default();
    for (cell, seen) in cells.iter().zip(&seen) {
        judge(cell, seen, &flows, report, &mut shown);
    }
    report.section(
        "Verdicts: source in rows, destination in columns",
        shown.matrix(&names),
    );
    report.section(
        "Denials, and what decided each as the enforcing host reports it",
        shown.denials(),
    );
    Ok(())
}

fn cells<'a>(fabric: &'a Fabric, placed: &[Placed<'a>]) -> anyhow::Result<Vec<Cell<'a>>> {
    let mut cells = Vec::new();
    for from in placed {
        for to in placed.iter().filter(|to| to.0.name != from.0.name) {
            for family in [Family::V4, Family::V6] {
                for probe in Probe::ALL {
                    let verdict =
                        expected(&fabric.expectations, from.0, to.0, probe).context("incomplete table")?;
                    let (source, destination) = (address(from.1, family)?, address(to.1, family)?);
                    cells.push(Cell {
                        from: *from,
                        to: *to,
                        probe,
                        family,
                        source,
                        destination,
                        verdict,
                    });
                }
            }
        }
    }
    Ok(cells)
}

fn address(record: &WorkloadRecord, family: Family) -> anyhow::Result<IpAddr> {
    let of_family = |a: &&IpAddr| a.is_ipv4() == (family == Family::V4);
    record
        .addresses
        .iter()
        .find(of_family)
        .copied()
        .with_context(|| format!("{} has no {family} address", record.name))
}

/// The newest event of each host before the probes. A host whose events cannot be read is absent.
fn newest_sequences<'a>(lab: &RunningLab, fabric: &'a Fabric) -> HashMap<&'a str, u64> {
    let hosts = fabric.agents().map(|(host, _)| host.as_str());
    hosts
        .filter_map(|host| Some((host, flows::newest(lab, host).ok()?)))
        .collect()
}

/// All probes, from all workloads at once; the result is in the order of the cells.
fn probe_all(lab: &RunningLab, placed: &[Placed], cells: &[Cell]) -> anyhow::Result<Vec<Seen>> {
    let mut answers: HashMap<&str, std::vec::IntoIter<Seen>> = HashMap::new();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = placed
            .iter()
            .map(|(workload, record)| {
                let targets: Vec<Target> = cells
                    .iter()
                    .filter(|c| c.from.0.name == workload.name)
                    .map(|c| Target {
                        address: c.destination,
                        probe: c.probe,
                        name: c.to.0.name.clone(),
                    })
                    .collect();
                (workload, scope.spawn(move || probe_from(lab, record, &targets)))
            })
            .collect();
        for (workload, thread) in threads {
            let seen = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of probes failed"))??;
            answers.insert(workload.name.as_str(), seen.into_iter());
        }
        Ok(())
    })?;
    cells
        .iter()
        .map(|c| {
            answers
                .get_mut(c.from.0.name.as_str())
                .and_then(Iterator::next)
                .context("a probe without answer")
        })
        .collect()
}

fn probe_from(lab: &RunningLab, record: &WorkloadRecord, targets: &[Target]) -> anyhow::Result<Vec<Seen>> {
    let input = serde_json::to_vec(targets)?;
    let arguments = ["lab", "traffic", "probe"];
    let text = lab.run_with_input(&record.host, Some(&record.name), &arguments, &input, PROBES_MAX)?;
    let seen: Vec<Seen> = serde_json::from_str(&text).context("the probes' answers")?;
    if seen.len() != targets.len() {
        bail!(
            "{} probes from {}, {} answers",
            targets.len(),
            record.name,
            seen.len()
        );
    }
    Ok(seen)
}

fn judge(cell: &Cell, seen: &Seen, flows: &HashMap<&str, Vec<Flow>>, report: &mut Report, shown: &mut Shown) {
    let subject = format!(
        "{} to {}, {} {}",
        cell.from.0.name, cell.to.0.name, cell.probe, cell.family
    );
    let (word, letter) = match seen {
        Seen::Allow => ("allow".to_string(), '+'),
        Seen::Deny => ("deny".to_string(), '-'),
        Seen::Other(what) => (format!("error: {what}"), '?'),
    };
    let expected = match cell.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny(_) => "deny",
    };
    report.compare("verdicts", subject.clone(), expected, &word);
    let letter = if word == expected { letter } else { '!' };
    shown
        .letters
        .entry((cell.from.0.name.clone(), cell.to.0.name.clone()))
        .or_default()
        .push(letter);

    let Verdict::Deny(denial) = cell.verdict else {
        return;
    };
    let host = match denial.at {
        Direction::Egress => &cell.from.1.host,
        Direction::Ingress => &cell.to.1.host,
    };
    let event = flows.get(host.as_str()).map(|events| {
        let of_cell = |f: &&Flow| f.action == "deny" && f.is_of(cell.source, cell.destination, cell.probe);
        events.iter().rev().find(of_cell)
    });
    let (decider, agrees) = match event {
        Some(Some(flow)) => (flow.describe(), flow.agrees_with(denial, cell.family)),
        Some(None) => ("no flow event".to_string(), false),
        None => ("flow events cannot be read".to_string(), false),
    };
    shown
        .denials
        .entry((
            cell.from.0.name.clone(),
            cell.to.0.name.clone(),
            host.clone(),
            decider.clone(),
        ))
        .or_default()
        .push((cell.family, cell.probe));
    report.add(
        "deciders",
        format!("{subject}, at {host}"),
        &denial.describe(cell.family),
        &decider,
        agrees,
    );
}
