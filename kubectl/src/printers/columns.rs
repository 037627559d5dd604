//! Elastic tab stops: cells that end in a tab line up with those above and below them, as Go's tabwriter does it.

/// How wide columns are.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub minimum: usize,
    pub padding: usize,
}

/// Tables.
pub const TABLE: Style = Style { minimum: 6, padding: 3 };
/// Descriptions, and the histories of roll-outs.
pub const DESCRIPTION: Style = Style { minimum: 0, padding: 2 };

/// Replaces the tabs of a text by spaces.
pub fn align(text: &str, style: Style) -> String {
    Columns::new(style).align(text, false)
}

/// Columns that do not become narrower from one text to the next.
pub struct Columns {
    style: Style,
    widest: Vec<usize>,
}

impl Columns {
    /// Columns that have no width yet.
    pub fn new(style: Style) -> Self {
        Self { style, widest: Vec::new() }
    }

    /// Replaces the tabs of a text by spaces; `remember` keeps the widths of earlier texts.
    pub fn align(&mut self, text: &str, remember: bool) -> String {
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        let mut out = String::with_capacity(text.len() * 2);
        self.block(&lines, &mut Vec::new(), remember, &mut out);
        out
    }

    fn block(&mut self, lines: &[Vec<&str>], widths: &mut Vec<usize>, remember: bool, out: &mut String) {
        let column = widths.len();
        let (mut start, mut at) = (0, 0);
        while at < lines.len() {
            if column + 1 >= lines[at].len() {
                at += 1;
                continue;
            }
            write_lines(&lines[start..at], widths, out);
            start = at;
            let mut width = self.style.minimum;
            while let Some(line) = lines.get(at).filter(|line| column + 1 < line.len()) {
                width = width.max(line[column].chars().count() + self.style.padding);
                at += 1;
            }
            widths.push(if remember { self.remembered(column, width) } else { width });
            self.block(&lines[start..at], widths, remember, out);
            widths.pop();
            start = at;
        }
        write_lines(&lines[start..], widths, out);
    }

    fn remembered(&mut self, column: usize, width: usize) -> usize {
        if self.widest.len() <= column {
            self.widest.resize(column + 1, 0);
        }
        self.widest[column] = self.widest[column].max(width);
        self.widest[column]
    }
}

fn write_lines(lines: &[Vec<&str>], widths: &[usize], out: &mut String) {
    for line in lines {
        for (index, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(index).filter(|_| index + 1 < line.len()) {
                let used = cell.chars().count();
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_line_up_within_their_block() {
        let text = "Name:\tx\nLong name:\ty\nPlain\nA:\tz\n";
        assert_eq!(align(text, DESCRIPTION), "Name:       x\nLong name:  y\nPlain\nA:  z\n");
    }

    #[test]
    fn tables_have_narrowest_columns() {
        assert_eq!(align("A\tB\n1\t2\n", TABLE), "A     B\n1     2\n");
    }

    #[test]
    fn columns_that_are_remembered_stay_wide() {
        let mut columns = Columns::new(TABLE);
        assert_eq!(columns.align("A-long-name\tB\n", true), "A-long-name   B\n");
        assert_eq!(columns.align("a\tb\n", true), "a             b\n");
        assert_eq!(columns.align("an-even-longer-name\tb\n", true), "an-even-longer-name   b\n");
    }
}
