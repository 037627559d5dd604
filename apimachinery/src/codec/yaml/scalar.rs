//! Strings in each of YAML's styles, with long lines folded at blanks as Kubernetes' YAML writer does it.

use super::style::{is_break, is_printable};

/// From this column on a line is folded at the next blank.
const WIDTH: usize = 80;

/// A writer that knows its column. Without an indentation nothing is folded.
struct Folding<'a> {
    out: &'a mut String,
    column: usize,
    indent: Option<usize>,
}

impl<'a> Folding<'a> {
    fn new(out: &'a mut String, indent: Option<usize>) -> Self {
        let line = out.rfind('\n').map_or(0, |at| at + 1);
        let column = out[line..].chars().count();
        Self { out, column, indent }
    }

    fn push(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    /// Whether the line is long enough to be folded.
    fn is_full(&self) -> bool {
        self.indent.is_some() && self.column > WIDTH
    }

    fn fold(&mut self) {
        let indent = self.indent.unwrap_or_default();
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.column = indent;
    }
}

/// Without quotes.
pub fn plain(out: &mut String, text: &str, indent: Option<usize>) {
    let mut folding = Folding::new(out, indent);
    let (mut spaces, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        if c == ' ' && !spaces && folding.is_full() && chars.peek() != Some(&' ') {
            folding.fold();
        } else {
            folding.push(c);
        }
        spaces = c == ' ';
    }
}

/// Between single quotes.
pub fn single_quoted(out: &mut String, text: &str, indent: Option<usize>) {
    let mut folding = Folding::new(out, indent);
    folding.push('\'');
    let (mut spaces, mut first, mut chars) = (false, true, text.chars().peekable());
    while let Some(c) = chars.next() {
        let inner = !first && chars.peek().is_some_and(|next| *next != ' ');
        if c == ' ' && !spaces && inner && folding.is_full() {
            folding.fold();
        } else {
            if c == '\'' {
                folding.push('\'');
            }
            folding.push(c);
        }
        (spaces, first) = (c == ' ', false);
    }
    folding.push('\'');
}

/// Between double quotes.
pub fn double_quoted(out: &mut String, text: &str, indent: Option<usize>) {
    let mut folding = Folding::new(out, indent);
    folding.push('"');
    let (mut spaces, mut first, mut chars) = (false, true, text.chars().peekable());
    while let Some(c) = chars.next() {
        if !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
            escape(&mut folding, c);
        } else if c == ' ' && !spaces && !first && chars.peek().is_some() && folding.is_full() {
            folding.fold();
            if chars.peek() == Some(&' ') {
                folding.push('\\');
            }
        } else {
            folding.push(c);
        }
        (spaces, first) = (c == ' ', false);
    }
    folding.push('"');
}

fn escape(folding: &mut Folding<'_>, c: char) {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => '\0',
    };
    let before = folding.out.len();
    folding.out.push('\\');
    match u32::from(c) {
        _ if short != '\0' => folding.out.push(short),
        code @ 0..=0xff => folding.out.push_str(&format!("x{code:02X}")),
        code @ 0x100..=0xffff => folding.out.push_str(&format!("u{code:04X}")),
        code => folding.out.push_str(&format!("U{code:08X}")),
    }
    folding.column += folding.out.len() - before;
}

/// As lines of their own.
pub fn literal(out: &mut String, text: &str, indent: usize) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    let body = match text.strip_suffix('\n') {
        None => {
            out.push('-');
            text
        }
        Some(body) => {
            if body.is_empty() || body.ends_with('\n') {
                out.push('+');
            }
            body
        }
    };
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            out.push_str(line);
        }
    }
}
