//! The strict decoder: what a person's file may hold, and where its errors point.

use api::file::decode;
use api::{AnyResource, Kind};
use proptest::prelude::*;

fn ids(name: &str, text: &str) -> Vec<String> {
    let decoded = decode(name, text);
    assert_eq!(decoded.error, None);
    decoded
        .resources
        .iter()
        .map(|r| format!("{}@{}", r.resource.id(), r.line))
        .collect()
}

fn error(text: &str) -> String {
    decode("f.yaml", text)
        .error
        .map(|error| error.to_string())
        .unwrap_or_default()
}

const POOL: &str = "kind: IPPool
apiVersion: projectcalico.org/v3
metadata:
  name: a
spec:
  cidr: 10.0.0.0/16
";

#[test]
fn one_object_as_yaml_and_json() {
    assert_eq!(ids("f", POOL), ["IPPool(a)@1"]);
    let json = r#"{"kind": "IPPool", "apiVersion": "projectcalico.org/v3",
    "metadata": {"name": "a", "labels": {"e": "\ud83d\ude00"}, "annotations": null},
	"spec": {"cidr": "10.0.0.0/16", "blockSize": 26, "disabled": false}}"#;
    let decoded = decode("f", json);
    assert_eq!(decoded.error, None);
    let AnyResource::IpPool(pool) = &decoded.resources[0].resource else {
        panic!("not a pool")
    };
    assert_eq!(pool.spec.cidr, "10.0.0.0/16");
    assert_eq!(pool.metadata.labels["e"], "\u{1f600}");
}

#[test]
fn documents_lists_and_arrays() {
    let text = format!(
        "# comment\n{POOL}---\n---\n# nothing\n--- # more\nkind: TierList\napiVersion: projectcalico.org/v3\nmetadata: \
         {{resourceVersion: \"7\"}}\nitems:\n- kind: Tier\n  apiVersion: projectcalico.org/v3\n  metadata: {{name: \
         t1}}\n- metadata:\n    name: t2\n---\n- {{kind: Node, apiVersion: projectcalico.org/v3, metadata: {{name: \
         n}}}}\n"
    );
    assert_eq!(
        ids("f", &text),
        ["IPPool(a)@2", "Tier(t1)@16", "Tier(t2)@19", "Node(n)@22"]
    );
    assert_eq!(ids("f", ""), Vec::<String>::new());
    assert_eq!(ids("f", "# only a comment\n"), Vec::<String>::new());
    assert_eq!(ids("f", &format!("---\n{POOL}")), ["IPPool(a)@2"]);
    assert_eq!(
        ids(
            "f",
            "kind: TierList\napiVersion: projectcalico.org/v3\nitems: null\n"
        ),
        Vec::<String>::new()
    );
}

#[test]
fn errors_name_file_line_resource_and_field() {
    let with = |line: &str| format!("{POOL}{line}\n");
    for (text, expected) in [
        (
            with("  invented: 1"),
            "f.yaml:7: IPPool(a): field spec.invented: field in document is not recognized or is in the wrong location: invented",
        ),
        (with("status:\n  conditions:\n  - typo: x"), "f.yaml:9: IPPool(a): field status.conditions[0].typo: "),
        (with("  cidr: 10.1.0.0/16"), "f.yaml:7: syntax error: "),
        (with("  blockSize: big"), "f.yaml:7: IPPool(a): field spec.blockSize: "),
        (with("  ipipMode: Sometimes"), "f.yaml:7: IPPool(a): field spec.ipipMode: \"Sometimes\" is not allowed here"),
        (with("  nodeSelector: [a"), "f.yaml:7"),
        (format!("{POOL}---\nkind: Pod\napiVersion: v1\n"), "f.yaml:8: unknown resource type (Pod) and/or version (v1)"),
        (POOL.replace("/v3", "/v1"), "f.yaml:1: unknown resource type (IPPool) and/or version (projectcalico.org/v1)"),
        ("just text".to_owned(), "f.yaml:1: expected a resource"),
        ("kind: Tier\napiVersion: projectcalico.org/v3\nstatus: {}\nspec: {}\nstats: {}\n".to_owned(), "f.yaml:5: Tier(): field stats: "),
        (
            "kind: NetworkSet\napiVersion: projectcalico.org/v3\nmetadata: {name: s, namespace: n}\nstatus:\n  x: 1\n".to_owned(),
            "f.yaml:4: NetworkSet(n/s): field status: ",
        ),
        (
            "kind: TierList\napiVersion: projectcalico.org/v3\nitem: []\n".to_owned(),
            "f.yaml:3: TierList: field item: ",
        ),
        (
            "kind: Tier\napiVersion: projectcalico.org/v3\nmetadata:\n  labels:\n    example.com/x: 5\n".to_owned(),
            "f.yaml:5: Tier(): field metadata.labels.example.com/x: ",
        ),
        (
            "kind: Profile\napiVersion: projectcalico.org/v3\nmetadata: {name: p}\nspec:\n  ingress:\n  - action: Allow\n  - action: Allow\n    protocol: TCP\n    destination:\n      ports: [80, x y]\n".to_owned(),
            "f.yaml:10: Profile(p): field spec.ingress[1].destination.ports[1]: ",
        ),
    ] {
        let found = error(&text);
        assert!(found.starts_with(expected), "expected {expected}\nfound    {found}");
    }
}

#[test]
fn what_stands_before_an_error_is_kept() {
    let decoded = decode(
        "f",
        &format!("{POOL}---\n{}---\n{POOL}", POOL.replace("cidr", "cdir")),
    );
    assert_eq!(decoded.resources.len(), 1);
    assert_eq!(decoded.error.as_ref().and_then(|e| e.line), Some(13));
    let items =
        "kind: TierList\napiVersion: projectcalico.org/v3\nitems:\n- metadata: {name: a}\n- metdata: {}\n";
    let decoded = decode("f", items);
    assert_eq!(decoded.resources.len(), 1);
    assert_eq!(decoded.error.as_ref().and_then(|e| e.line), Some(5));
}

#[test]
fn validation_errors_find_their_lines() {
    let text = "kind: NetworkPolicy
apiVersion: projectcalico.org/v3
metadata:
  name: p
  namespace: n
spec:
  selector: a == b
  ingress:
  - action: Allow
    source:
      nets:
      - 10.0.0.0/8
      - 10.0.0.1/8
";
    let decoded = decode("p.yaml", text);
    let resource = &decoded.resources[0];
    let errors: Vec<String> = resource
        .resource
        .validate()
        .iter()
        .map(|e| resource.field_error(e).to_string())
        .collect();
    assert_eq!(
        errors,
        [
            "p.yaml:7: NetworkPolicy(n/p): field spec.selector = 'a == b': invalid selector: expected string",
            "p.yaml:13: NetworkPolicy(n/p): field spec.ingress[0].source.nets[1] = '10.0.0.1/8': the address has bits \
             outside its prefix: write 10.0.0.0/8",
        ]
    );
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(10_000),
    ] {
        assert!(!error(&text).is_empty());
    }
}

#[test]
fn every_kind_decodes_from_its_name() {
    for kind in Kind::ALL {
        let namespace = if kind.namespaced() { ", namespace: n" } else { "" };
        let text = format!(
            "kind: {kind}\napiVersion: projectcalico.org/v3\nmetadata: {{name: x{namespace}}}\nspec: {{}}\n"
        );
        let decoded = decode("f", &text);
        assert_eq!(decoded.error, None);
        assert_eq!(decoded.resources[0].resource.kind(), *kind);
        assert_eq!(Kind::from_plural(kind.plural()), Some(*kind));
        for alias in kind.row().aliases {
            assert_eq!(Kind::from_alias(&alias.to_uppercase()), Some(*kind), "{alias}");
        }
    }
}

proptest! {
    #[test]
    fn random_text_never_panics(text in "(\\PC|\n|\t|- |: |---|\\{|\\}|\\[|\\]|\"|'|&a|\\*a|<<){0,60}") {
        let _ = decode("f", &text);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode("f", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_broken_file_never_panics(at in 0_usize..POOL.len(), byte in any::<char>()) {
        let mut text = POOL.to_owned();
        text.replace_range(at..=at, &byte.to_string());
        let _ = decode("f", &text);
    }
}
