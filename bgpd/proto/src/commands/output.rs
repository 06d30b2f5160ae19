//! Tables, JSON and YAML.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, TableStyle};
use serde::Serialize;

use super::CommandError;

/// Spaces between columns.
const GAP: usize = 2;
/// Cells that hold nothing.
pub(super) const NONE: &str = "-";

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table of what matters most
    Ps,
    /// A table of everything
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

/// Writes to standard output at once.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => CommandError::Closed,
            _ => CommandError::Print(error.to_string()),
        })
}

/// The document of a value, or nothing where a table is wanted.
pub(super) fn document<T: Serialize>(value: &T, format: Format) -> Result<Option<String>, CommandError> {
    let failed = |error: String| CommandError::Print(error);
    match format {
        Format::Ps | Format::Wide => Ok(None),
        Format::Json => {
            let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.to_string()))?;
            Ok(Some(format!("{text}\n")))
        }
        Format::Yaml => {
            let value = serde_json::to_value(value).map_err(|error| failed(error.to_string()))?;
            let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
            let mut text = String::new();
            serde_saphyr::to_fmt_writer_with_options(&mut text, &value, options)
                .map_err(|error| failed(error.to_string()))?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Ok(Some(text))
        }
    }
}

/// Headings and rows. On a terminal, cells are wrapped so that the table fits it.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut probe = Table::new();
    probe.set_content_arrangement(ContentArrangement::Dynamic);
    let width = probe.width().map(usize::from);
    table_of_width(headings, rows, width)
}

fn table_of_width(headings: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let widths = widths(headings, rows);
    let needed = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    match width {
        Some(width) if needed > width => wrapped(headings, rows, width),
        _ => {
            let mut text = line(headings.iter().copied(), &widths);
            for row in rows {
                text.push_str(&line(row.iter().map(String::as_str), &widths));
            }
            text
        }
    }
}

/// How wide columns have to be.
pub(super) fn widths(headings: &[&str], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (cell, width) in row.iter().zip(&mut widths) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// Cells padded to widths, without spaces at the end.
pub(super) fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let gap = " ".repeat(GAP);
    let cells: Vec<String> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    format!("{}\n", cells.join(&gap).trim_end())
}

fn wrapped(headings: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    let gap = u16::try_from(GAP).unwrap_or_default();
    for column in table.column_iter_mut() {
        column.set_padding((0, gap));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number of seconds as people read it: `00:12:03`, `3d04h`.
pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours:02}h")
    } else {
        format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
    }
}

/// The text, or a dash for none.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() {
        NONE.to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_narrow_as_its_cells_and_wraps_where_the_terminal_is_narrower() {
        let rows = vec![
            vec!["10.0.0.1".to_owned(), "a reason of many words".to_owned()],
            vec!["10.0.0.100".to_owned(), String::new()],
        ];
        assert_eq!(
            table_of_width(&["PEER", "REASON"], &rows, None),
            "PEER        REASON\n10.0.0.1    a reason of many words\n10.0.0.100\n"
        );
        let narrow = table_of_width(&["PEER", "REASON"], &rows, Some(26));
        assert!(narrow.lines().all(|line| line.chars().count() <= 26), "{narrow}");
        for word in ["10.0.0.1", "10.0.0.100", "a", "reason", "of", "many", "words"] {
            assert!(
                narrow.split_whitespace().any(|found| found == word),
                "{word}: {narrow}"
            );
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration(0), "00:00:00");
        assert_eq!(duration(3_723), "01:02:03");
        assert_eq!(duration(86_400 * 3 + 3600 * 4), "3d04h");
    }
}
