//! Tables with borders: `+ - |`.

use comfy_table::{Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};

/// Headings and rows, left aligned except for the columns in `right`.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let line = || LineStyle::new('+', '-', '+', '+');
    let content = || ContentLineStyle::new('|', '|', '|');
    let style = TableStyle::new()
        .top_border(line())
        .header_lines(content())
        .header_separator(line())
        .content_lines(content())
        .bottom_border(line());
    let mut table = Table::new();
    table.load_style(style);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(i, text)| {
            let alignment = if right.contains(&i) {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            };
            Cell::new(text).set_alignment(alignment)
        }));
    }
    format!("{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_and_alignment() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()]];
        assert_eq!(
            table(&["X", "NUM"], &rows, &[1]),
            "+---+-----+\n| X | NUM |\n+---+-----+\n| a |   1 |\n+---+-----+\n"
        );
    }
}
