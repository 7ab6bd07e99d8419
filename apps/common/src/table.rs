//! Aligned columns for people. Cells in, text out.

use std::fmt;

/// A table with a header line. The first column is aligned to the left, the others to the right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns aligned to the left.
    left: usize,
}

impl Table {
    /// A table of these columns.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()], left: 1 }
    }

    /// Aligns the first `columns` to the left: those that hold words.
    #[must_use]
    pub fn words(mut self, columns: usize) -> Self {
        self.left = columns;
        self
    }

    /// Appends a row; cells that are missing are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        (0..columns).map(|column| width(column).unwrap_or(0)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let gap = if column > 0 { "  " } else { "" };
                line += &if column < self.left {
                    format!("{gap}{cell:<width$}")
                } else {
                    format!("{gap}{cell:>width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Lines of a table that grows while the app runs: columns keep their width, and the header comes
/// again now and then.
#[derive(Clone, Debug)]
pub struct Live {
    header: Vec<String>,
    lines: usize,
}

/// Lines between two headers.
const PAGE: usize = 20;
/// Narrowest column.
const NARROWEST: usize = 8;

impl Live {
    /// A table of these columns.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|cell| (*cell).to_owned()).collect(), lines: 0 }
    }

    /// The text of the next line, with the header before it where it is due; without a final line
    /// break.
    pub fn line(&mut self, cells: &[String]) -> String {
        let align = |cells: &[String]| -> String {
            let width = |at: usize| self.header.get(at).map_or(0, String::len).max(NARROWEST);
            let cells = cells.iter().enumerate();
            let line: Vec<_> = cells.map(|(at, cell)| format!("{cell:>0$}", width(at))).collect();
            line.join(" ")
        };
        let line = match self.lines % PAGE {
            0 => format!("{}\n{}", align(&self.header), align(cells)),
            _ => align(cells),
        };
        self.lines += 1;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["port", "rx", "drop"]);
        table.row(["0 null:", "1.488", "0"]);
        table.row(["total"]);
        assert_eq!(table.to_string(), "port        rx  drop\n0 null:  1.488     0\ntotal\n");
    }

    #[test]
    fn columns_of_words_are_aligned_to_the_left() {
        let mut table = Table::new(&["port", "driver", "queues"]).words(2);
        table.row(["eth0", "igb", "8"]);
        assert_eq!(table.to_string(), "port  driver  queues\neth0  igb          8\n");
    }

    #[test]
    fn a_live_table_repeats_its_header() {
        let mut live = Live::new(&["time", "Mpps"]);
        let row = ["1.0".to_owned(), "3.2".to_owned()];
        assert_eq!(live.line(&row), "    time     Mpps\n     1.0      3.2");
        let headers = (1..=PAGE).filter(|_| live.line(&row).contains("Mpps")).count();
        assert_eq!(headers, 1);
    }
}
