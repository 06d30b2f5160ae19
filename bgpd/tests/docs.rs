//! The tests that the documents name are there.

#![expect(clippy::unwrap_used, reason = "a test ends with its first error")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents with tables whose last column names tests.
const DOCUMENTS: [&str; 2] = ["bgp-conformance.md", "bgp-calico-semantics.md"];
/// Where tests are, from the repository's top. A path in a document is in one of the first four.
const SOURCES: [&str; 5] = [
    "bgpd/tests",
    "bgpd",
    ".",
    "agent/src/fabric/tests",
    "integration-lab",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of functions in some text.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after = text.split("fn ").skip(1);
    after.map(move |rest| rest.split(|c| !is_name(c)).next().unwrap_or_default())
}

/// What the last column of a document's tables has.
fn cells(document: &str) -> impl Iterator<Item = &str> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
}

#[test]
fn the_tests_that_documents_name_are_there() {
    let mut files = Vec::new();
    for directory in [
        "bgpd/src",
        "bgpd/tests",
        "bgpd/benches",
        "agent",
        "integration-lab",
    ] {
        sources(&top().join(directory), &mut files);
    }
    let texts: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let known: BTreeSet<&str> = texts.iter().flat_map(|text| functions(text)).collect();
    let mut missing = Vec::new();
    let mut named = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(top().join("docs").join(document)).unwrap();
        for cell in cells(&text) {
            let words = cell.split(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c)));
            for word in words.map(|word| word.trim_matches('.')) {
                // Names of tests are sentences.
                let is_test = word.matches('_').count() >= 2 && !word.contains(['.', '/']);
                let is_file = word.ends_with(".rs");
                named += usize::from(is_test || is_file);
                let is_there = match is_file {
                    true => SOURCES.iter().any(|place| top().join(place).join(word).is_file()),
                    false => known.contains(word),
                };
                if (is_test || is_file) && !is_there {
                    missing.push(format!("{document}: {word}"));
                }
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    assert!(named > 200, "only {named} tests and files are named");
}
