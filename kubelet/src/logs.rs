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
    use proptest::collection::vec;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn the_tail_is_the_last_lines_in_however_many_pieces_they_came(
            lines in vec(vec("[a-z ]{0,8}", 1..4), 0..8),
            count in 0..10_usize,
        ) {
            let record = |piece: &str, last: bool| format!("t stdout {} {piece}\n", if last { "F" } else { "P" });
            let of = |line: &Vec<String>| -> String {
                line.iter().enumerate().map(|(index, piece)| record(piece, index + 1 == line.len())).collect()
            };
            let content: String = lines.iter().map(of).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), content).unwrap();
            let expected: String =
                lines.iter().skip(lines.len().saturating_sub(count)).map(|line| line.concat() + "\n").collect();
            prop_assert_eq!(tail(file.path(), count, 1000).unwrap(), expected);
        }

        #[test]
        fn a_log_may_hold_any_bytes(content in vec(any::<u8>(), 0..200), count in 0..10_usize) {
            let offset = reader::tail_offset(&content, count);
            prop_assert!(offset == 0 || content[offset - 1] == b'\n' || offset == content.len());
            for line in content.split(|byte| *byte == b'\n') {
                prop_assert!(parse(line).is_none_or(|record| line.ends_with(record.text)));
            }
        }
    }
}
