//! Cutting a file into documents.

/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 10 * 1024 * 1024;

const SEPARATOR: &str = "\n---";

/// One document and the line that it starts on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// From 1.
    pub(super) line: u64,
}

/// Splits at lines that start with `---`; the rest of such a line is discarded.
pub(super) fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some(text);
    let mut line = 1;
    std::iter::from_fn(move || {
        let text = rest?;
        let start = line;
        match text.split_once(SEPARATOR) {
            None => {
                rest = None;
                Some(Document { text, line: start })
            }
            Some((document, after)) => {
                let discarded = after.find('\n').map_or(after.len(), |end| end + 1);
                rest = after.get(discarded..);
                line += newlines(document) + 2;
                Some(Document {
                    text: document,
                    line: start,
                })
            }
        }
    })
}

fn newlines(text: &str) -> u64 {
    text.bytes().fold(0, |count, b| count + u64::from(b == b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<(&str, u64)> {
        documents(text)
            .map(|document| (document.text, document.line))
            .collect()
    }

    #[test]
    fn separators() {
        assert_eq!(
            split("a: 1\n---\nb: 2\nc: 3\n--- # x\nd: 4\n"),
            [("a: 1", 1), ("b: 2\nc: 3", 3), ("d: 4\n", 6)]
        );
        assert_eq!(split("---\na: 1"), [("---\na: 1", 1)]);
        assert_eq!(split("a\n---"), [("a", 1), ("", 3)]);
        assert_eq!(split(""), [("", 1)]);
    }
}
