//! Columns aligned as Docker's: each as wide as its widest cell and three spaces, the last one ragged.

/// Rows being gathered.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The text, without the last line end.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        lines.join("\n")
    }

    /// Prints it.
    pub fn print(&self) -> anyhow::Result<()> {
        super::line(self.render())
    }
}

/// Lines whose cells are parted by tabs, as a table.
#[must_use]
pub fn aligned(lines: &[String]) -> String {
    let rows = lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    Table { rows }.render()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
        text.push_str(cell);
        if n + 1 < row.len() {
            text.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "ID"]);
        table.row(["longer".into(), "1".into()]);
        table.row(["ä".into(), "22".into()]);
        assert_eq!(table.render(), "NAME     ID\nlonger   1\nä        22");
    }
}
