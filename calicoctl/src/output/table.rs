//! Plain tables with elastic columns.

/// The narrowest column.
const WIDTH_MIN: usize = 5;
/// Spaces after the longest cell.
const PADDING: usize = 3;

/// Headings and rows; every cell is padded, also the last of a line.
pub(crate) fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(i))
                .map(|cell| cell.chars().count());
            let longest = cells.max().unwrap_or(0).max(heading.chars().count());
            WIDTH_MIN.max(longest + PADDING)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text: String = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push('\n');
        text
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elastic_columns() {
        let rows = vec![vec!["a".to_owned(), "long cell".to_owned()]];
        assert_eq!(
            render(&["N", "X"], &rows),
            "N    X           \na    long cell   \n"
        );
        assert_eq!(render(&["NAME"], &[]), "NAME   \n");
    }
}
