//! In which style a string is written: plain where it reads back as the same string, with quotes elsewhere, and as a
//! block of lines where it has several.

/// A style of strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// The style of a text; keys have no blocks.
pub fn of(text: &str, block_allowed: bool) -> Style {
    let found = Found::in_text(text);
    if found.line_breaks {
        let literal = block_allowed && !found.trailing_space && !found.space_break && !found.special;
        return if literal { Style::Literal } else { Style::Double };
    }
    if found.special || is_typed(text) {
        return Style::Double;
    }
    let plain = !found.indicators && !text.starts_with(' ') && !text.ends_with(' ');
    if plain { Style::Plain } else { Style::Single }
}

/// What of a text matters for its style.
#[derive(Default)]
struct Found {
    /// Something that would be YAML's own.
    indicators: bool,
    line_breaks: bool,
    /// What can only be written with a backslash.
    special: bool,
    trailing_space: bool,
    /// A blank at the end of a line.
    space_break: bool,
}

impl Found {
    fn in_text(text: &str) -> Self {
        let mut found = Self { indicators: text.starts_with("---") || text.starts_with("..."), ..Self::default() };
        let (mut before, mut chars) = (None, text.chars().peekable());
        while let Some(c) = chars.next() {
            let blank_after = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            let blank_before = before.is_none_or(|before: char| matches!(before, ' ' | '\t') || is_break(before));
            found.indicators |= match c {
                '?' | '-' => before.is_none() && blank_after,
                ':' => blank_after,
                '#' => blank_before,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    before.is_none()
                }
                _ => false,
            };
            found.special |= !is_printable(c);
            if is_break(c) {
                found.line_breaks = true;
                found.space_break |= before == Some(' ');
            }
            found.trailing_space |= c == ' ' && chars.peek().is_none();
            before = Some(c);
        }
        found
    }
}

/// What ends a line.
pub fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What is written as it is.
pub fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

const WORDS: [&str; 31] = [
    "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO",
    "off", "Off", "OFF", "true", "True", "TRUE", "false", "False", "FALSE", ".nan", ".NaN", ".NAN", "<<",
];

/// Whether the text without quotes would be read as something other than a string.
fn is_typed(text: &str) -> bool {
    if WORDS.contains(&text) || matches!(text.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let Some(first) = text.bytes().next() else { return true };
    if !first.is_ascii_digit() && !matches!(first, b'+' | b'-' | b'.') {
        return false;
    }
    is_number(text) || is_base60(text) || is_date(text)
}

fn is_number(text: &str) -> bool {
    let plain = text.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    if plain.len() - unsigned.len() > 1 || unsigned.is_empty() {
        return false;
    }
    let radix = |prefix: &str, radix: u32| {
        unsigned
            .strip_prefix(prefix)
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)))
    };
    if radix("0x", 16) || radix("0o", 8) || radix("0b", 2) {
        return true;
    }
    let shaped = unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    shaped && unsigned.parse::<f64>().is_ok()
}

/// YAML 1.1 reads `1:30` as a number of sixtieths.
fn is_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    digits(first)
        && !rest.is_empty()
        && rest.iter().all(|part| {
            matches!(part.len(), 1 | 2) && digits(part) && part.as_bytes()[0] < b'6' + u8::from(part.len() == 1) * 4
        })
}

/// `2006-01-02`, or that with a time.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    date && (crate::time::Moment::parse(text).is_some()
        || crate::time::Moment::parse(&format!("{text}T00:00:00Z")).is_some()
        || crate::time::Moment::parse(&text.replacen(' ', "T", 1)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_has_the_style_of_the_original() {
        for (text, style) in [
            ("word", Style::Plain),
            ("a b", Style::Plain),
            ("<a>&b", Style::Plain),
            ("é ☃", Style::Plain),
            ("=", Style::Plain),
            ("nULL", Style::Plain),
            (" x", Style::Single),
            ("a: b", Style::Single),
            ("a:", Style::Single),
            ("a #b", Style::Single),
            ("- a", Style::Single),
            ("@x", Style::Single),
            ("{x", Style::Single),
            ("'x' \"y\"", Style::Single),
            ("", Style::Double),
            ("y", Style::Double),
            ("1e3", Style::Double),
            ("0x1F", Style::Double),
            ("1_000", Style::Double),
            ("12:30:45", Style::Double),
            ("2026-01-02", Style::Double),
            ("a\tb", Style::Double),
            ("😀", Style::Double),
            ("a \nb", Style::Double),
            ("a\nb ", Style::Double),
            ("a\nb", Style::Literal),
            (" a\nb\n", Style::Literal),
        ] {
            assert_eq!(of(text, true), style, "{text:?}");
        }
        assert_eq!(of("a\nb", false), Style::Double);
    }
}
