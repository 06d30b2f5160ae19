//! Addresses that a host has from another host's block.

use api::ipam_model::AllocationBlock;

use crate::output::boxes;

const HEADINGS: [&str; 6] = [
    "IP",
    "BORROWING-NODE",
    "BLOCK",
    "BLOCK OWNER",
    "TYPE",
    "ALLOCATED-TO",
];

pub(super) fn render(blocks: &[AllocationBlock]) -> String {
    let mut rows = Vec::new();
    let mut without_node = 0;
    for block in blocks {
        let owner = block
            .affinity
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .map_or("", |(_, owner)| owner);
        for (ordinal, index) in block.allocations.iter().enumerate() {
            let Some(attribute) = index
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| block.attributes.get(index))
            else {
                continue;
            };
            if attribute.released_at.is_some() {
                continue;
            }
            let text = |key: &str| attribute.secondary.get(key).map(String::as_str);
            let Some(node) = text("node") else {
                without_node += 1;
                continue;
            };
            if node == owner {
                continue;
            }
            let (kind, name) = match (text("vmi"), text("pod")) {
                (Some(vmi), _) => ("vmi", Some(vmi)),
                (None, Some(pod)) => ("pod", Some(pod)),
                (None, None) => (text("type").unwrap_or_default(), None),
            };
            let to = name.map_or_else(String::new, |name| {
                format!("{}/{name}", text("namespace").unwrap_or_default())
            });
            rows.push(vec![
                ipam::block::address(&block.cidr, ordinal)
                    .map(|ip| ip.to_string())
                    .unwrap_or_default(),
                node.to_owned(),
                block.cidr.to_string(),
                owner.to_owned(),
                kind.to_owned(),
                to,
            ]);
        }
    }
    let mut text = boxes::table(&HEADINGS, &rows, &[]);
    if without_node > 0 {
        text.push_str(&format!(
            "\nNote: found {without_node} IP allocations without an explicit node association. Unable to determine if they \
             are borrowed.\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample::block;
    use super::*;

    #[test]
    fn rows_and_note() {
        let text = render(&[block()]);
        assert!(
            text.contains("| 10.0.0.1 | node-2         | 10.0.0.0/29 | node-1      | pod  | default/pod-a |"),
            "{text}"
        );
        assert!(!text.contains("10.0.0.0 |"), "{text}");
        let mut anonymous = block();
        anonymous.attributes[1].secondary.remove("node");
        let text = render(&[anonymous]);
        assert!(text.ends_with("\nNote: found 1 IP allocations without an explicit node association. Unable to determine if they are borrowed.\n"), "{text}");
    }
}
