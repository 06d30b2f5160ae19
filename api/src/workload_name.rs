//! Names of workload endpoints, which are computed from their spec.
//!
//! `node-1`, orchestrator `k8s`, pod `pod-name`, endpoint `eth0` give `node--1-k8s-pod--name-eth0`.

use crate::v3::workload_endpoint::WorkloadEndpointSpec;
use crate::validate::FieldError;

/// Parts of a whole name.
const PARTS: usize = 4;

/// The fields of the spec that make up the name, in order; `None` repeats the orchestrator.
fn segments(spec: &WorkloadEndpointSpec) -> [(&'static str, &str); PARTS] {
    let third = match spec.orchestrator.as_str() {
        "k8s" => ("pod", spec.pod.as_str()),
        "cni" => ("containerID", spec.container_id.as_str()),
        "libnetwork" => ("orchestrator", "libnetwork"),
        _ => ("workload", spec.workload.as_str()),
    };
    [
        ("node", &spec.node),
        ("orchestrator", &spec.orchestrator),
        third,
        ("endpoint", &spec.endpoint),
    ]
}

/// `-` becomes `--`; a part may not start or end with one, as the separator could not be told apart.
fn escape(field: &str, part: &str) -> Result<String, FieldError> {
    for (at_edge, edge) in [(part.starts_with('-'), "begin"), (part.ends_with('-'), "end")] {
        if at_edge {
            return Err(FieldError::new(
                field,
                part,
                format!("field must not {edge} with a '-'"),
            ));
        }
    }
    Ok(part.replace('-', "--"))
}

/// The name of an endpoint with this spec.
///
/// # Errors
/// When a field that is part of the name is missing, or starts or ends with `-`. The field is named without `spec.`.
pub fn build(spec: &WorkloadEndpointSpec) -> Result<String, WorkloadNameError> {
    let mut parts = Vec::with_capacity(PARTS);
    for (field, part) in segments(spec) {
        if part.is_empty() {
            return Err(WorkloadNameError::new(field, part, "field should be assigned"));
        }
        parts.push(escape(field, part).map_err(|e| WorkloadNameError::new(field, part, &e.reason))?);
    }
    Ok(parts.join("-"))
}

/// The start that all names with the given parts have: up to the first part that is missing, and a `-`.
///
/// # Errors
/// When the node is missing, or a part starts or ends with `-`.
pub fn prefix(spec: &WorkloadEndpointSpec) -> Result<String, WorkloadNameError> {
    if spec.node.is_empty() {
        return Err(WorkloadNameError::new("node", "", "field should be assigned"));
    }
    let mut name = String::new();
    for (i, (field, part)) in segments(spec).into_iter().enumerate() {
        if part.is_empty() {
            return Ok(name);
        }
        name.push_str(&escape(field, part).map_err(|e| WorkloadNameError::new(field, part, &e.reason))?);
        if i + 1 < PARTS {
            name.push('-');
        }
    }
    Ok(name)
}

/// Why an endpoint has no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error with field {field} = '{value}' ({reason})")]
pub struct WorkloadNameError {
    /// Field of the spec.
    pub field: &'static str,
    /// What stands there.
    pub value: String,
    /// Why it is refused.
    pub reason: String,
}

impl WorkloadNameError {
    fn new(field: &'static str, value: &str, reason: &str) -> Self {
        Self {
            field,
            value: value.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// The parts of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadName {
    /// The host.
    pub node: String,
    /// `k8s`, `cni`, ...
    pub orchestrator: String,
    /// Pod, container or workload, by orchestrator.
    pub workload: String,
    /// Interface in the workload.
    pub endpoint: String,
}

/// Splits a name into one to four parts; the last is empty after a trailing `-`. `None` for more than four.
#[must_use]
pub fn parts(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut chars = name.chars().peekable();
    // A part never starts with '-', so one at the very start is no separator.
    let mut first = true;
    while let Some(c) = chars.next() {
        let last = parts.last_mut()?;
        match c {
            '-' if first => last.push('-'),
            '-' if chars.peek() == Some(&'-') => {
                chars.next();
                last.push('-');
            }
            '-' => parts.push(String::new()),
            c => last.push(c),
        }
        first = false;
    }
    (parts.len() <= PARTS).then_some(parts)
}

/// Splits a whole name; `None` unless it has exactly four parts.
#[must_use]
pub fn parse(name: &str) -> Option<WorkloadName> {
    if name.len() < 2 * PARTS - 1 {
        return None;
    }
    let [node, orchestrator, workload, endpoint] = <[String; PARTS]>::try_from(parts(name)?).ok()?;
    Some(WorkloadName {
        node,
        orchestrator,
        workload,
        endpoint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(orchestrator: &str) -> WorkloadEndpointSpec {
        WorkloadEndpointSpec {
            node: "node-1".to_owned(),
            orchestrator: orchestrator.to_owned(),
            pod: "pod-name".to_owned(),
            container_id: "abcdefa0123456".to_owned(),
            workload: "wl".to_owned(),
            endpoint: "eth0".to_owned(),
            ..WorkloadEndpointSpec::default()
        }
    }

    #[test]
    fn names() {
        for (orchestrator, name) in [
            ("k8s", "node--1-k8s-pod--name-eth0"),
            ("cni", "node--1-cni-abcdefa0123456-eth0"),
            ("libnetwork", "node--1-libnetwork-libnetwork-eth0"),
            ("other", "node--1-other-wl-eth0"),
        ] {
            assert_eq!(build(&spec(orchestrator)).unwrap(), name);
            let parsed = parse(name).unwrap();
            assert_eq!(
                (parsed.node.as_str(), parsed.orchestrator.as_str()),
                ("node-1", orchestrator)
            );
            assert_eq!(parsed.endpoint, "eth0");
        }
        assert_eq!(parse("node--1-k8s-pod--name-eth0").unwrap().workload, "pod-name");
    }

    #[test]
    fn bad_parts() {
        let mut edge = spec("k8s");
        edge.pod = "-x".to_owned();
        assert_eq!(
            build(&edge).unwrap_err().to_string(),
            "error with field pod = '-x' (field must not begin with a '-')"
        );
        edge.pod = "x-".to_owned();
        assert_eq!(build(&edge).unwrap_err().reason, "field must not end with a '-'");
        edge.pod.clear();
        assert_eq!(build(&edge).unwrap_err().reason, "field should be assigned");
        assert_eq!(prefix(&edge).unwrap(), "node--1-k8s-");
        edge.node.clear();
        assert_eq!(prefix(&edge).unwrap_err().field, "node");
    }

    #[test]
    fn parsing() {
        assert_eq!(
            parts("a-b-"),
            Some(vec!["a".to_owned(), "b".to_owned(), String::new()])
        );
        assert_eq!(parts("a-b-c-d-e"), None);
        assert_eq!(parse("a-b-c"), None);
        assert_eq!(parse(""), None);
        assert!(parse("a-b-c-d").is_some());
    }

    proptest::proptest! {
        #[test]
        fn names_come_apart_as_they_were_put_together(
            node in "[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?",
            pod in "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?",
            endpoint in "[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?",
        ) {
            let spec = WorkloadEndpointSpec { node, pod, endpoint, ..spec("k8s") };
            let parsed = parse(&build(&spec).unwrap()).unwrap();
            proptest::prop_assert_eq!((parsed.node, parsed.workload, parsed.endpoint), (spec.node, spec.pod, spec.endpoint));
        }

        #[test]
        fn any_text_parses_or_not(name in "[a-z-]{0,20}") {
            if let Some(parsed) = parts(&name) {
                proptest::prop_assert!(parsed.len() <= PARTS);
            }
        }
    }
}
