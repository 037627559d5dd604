//! Containers' logs in CRI's format: `<time> <stream> <P|F> <text>`; P marks a line that goes on in the next record.

pub mod reader;
pub mod rotate;

use std::path::Path;

use jiff::Timestamp;

/// One record of a log file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    pub time: &'a str,
    pub stderr: bool,
    /// Whether the line ends here.
    pub full: bool,
    pub text: &'a [u8],
}

impl Record<'_> {
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// Parses a record, without its newline.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let full = parts.next()?.split(|byte| *byte == b':').next()? != b"P";
    Some(Record { time, stderr, full, text: parts.next().unwrap_or_default() })
}

/// The last lines of a log as text, at most so many bytes.
pub fn tail(path: &Path, lines: usize, bytes: usize) -> std::io::Result<String> {
    let content = std::fs::read(path)?;
    let mut text = Vec::new();
    let start = reader::tail_offset(&content, lines);
    for record in content[start..].split(|byte| *byte == b'\n').filter_map(parse) {
        text.extend_from_slice(record.text);
        if record.full {
            text.push(b'\n');
        }
    }
    let from = text.len().saturating_sub(bytes);
    Ok(String::from_utf8_lossy(&text[from..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parsed() {
        let record = parse(b"2026-01-01T00:00:00.000000001Z stderr P hello  world").unwrap();
        assert_eq!((record.stderr, record.full, record.text), (true, false, b"hello  world".as_slice()));
        assert_eq!(record.timestamp().unwrap().subsec_nanosecond(), 1);
        assert_eq!(parse(b"2026-01-01T00:00:00Z stdout F ").unwrap().text, b"");
        for bad in [b"".as_slice(), b"x", b"2026-01-01T00:00:00Z other F a", b"\xff stdout F a"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn the_tail_joins_partial_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "t stdout F one\nt stdout P tw\nt stdout F o\nt stdout F three\n").unwrap();
        assert_eq!(tail(file.path(), 2, 100).unwrap(), "two\nthree\n");
        assert_eq!(tail(file.path(), 9, 4).unwrap(), "ree\n");
    }
}
