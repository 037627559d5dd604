//! YAML as Kubernetes reads and writes it: YAML 1.1 scalars (`yes`, `on`, `0644`), anchors and merge keys on the way
//! in; sorted keys, lists at their key's indentation and quotes only where needed on the way out.

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::DecodeError;
use super::typed::{At, Untyped};

/// Reads one document. Of a key that appears twice the last value is kept.
///
/// # Errors
/// What is not YAML, or not UTF-8.
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    decode_tracked(body).map(|(value, _)| value)
}

/// As [`decode`], and says which keys appear twice.
///
/// # Errors
/// As [`decode`].
pub fn decode_tracked(body: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::Yaml("yaml: invalid UTF-8".into()))?;
    let mut duplicates = Vec::new();
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
    };
    let strict = parse(text, options.clone(), &mut duplicates);
    let Err(error) = strict else { return strict.map(|value| (value, duplicates)).map_err(|e| failed(&e)) };
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
    };
    let value = parse(text, options, &mut duplicates).map_err(|error| failed(&error))?;
    Ok((value, vec![format!("yaml: unmarshal errors: {error}")]))
}

fn failed(error: &serde_saphyr::Error) -> DecodeError {
    DecodeError::Yaml(format!("yaml: {error}"))
}

fn parse(
    text: &str,
    options: serde_saphyr::Options,
    duplicates: &mut Vec<String>,
) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |de| {
        Untyped { at: At::root(), duplicates: Some(duplicates) }.deserialize(de)
    })
}

/// The documents of a stream, as text; those that hold nothing but blanks and comments are left out.
pub fn documents(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut position) = (0, 0);
    for line in text.split_inclusive('\n') {
        if is_separator(line) {
            found.push(&text[start..position]);
            start = position + line.len();
        }
        position += line.len();
    }
    found.push(&text[start..]);
    found
        .retain(|document| document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')));
    found
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.trim().is_empty() || rest.trim_start().starts_with('#'))
}

/// Writes one document.
pub fn encode(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => write_list(&mut out, items, 0),
        scalar => {
            write_scalar(&mut out, scalar, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n(' ', depth));
}

fn write_map(out: &mut String, map: &serde_json::Map<String, Value>, depth: usize) {
    for (place, (key, value)) in map.iter().enumerate() {
        if place > 0 {
            indent(out, depth);
        }
        write_text(out, key, None);
        out.push(':');
        write_after_key(out, value, depth);
    }
}

fn write_after_key(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            indent(out, depth + 2);
            write_map(out, map, depth + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            indent(out, depth);
            write_list(out, items, depth);
        }
        scalar => {
            out.push(' ');
            write_scalar(out, scalar, depth);
            out.push('\n');
        }
    }
}

fn write_list(out: &mut String, items: &[Value], depth: usize) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            indent(out, depth);
        }
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => write_map(out, map, depth + 2),
            Value::Array(items) if !items.is_empty() => write_list(out, items, depth + 2),
            scalar => {
                write_scalar(out, scalar, depth);
                out.push('\n');
            }
        }
    }
}

fn write_scalar(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::String(text) => write_text(out, text, Some(depth)),
        // Empty lists and maps, numbers, booleans and null are written as in JSON.
        other => out.push_str(&other.to_string()),
    }
}

/// Writes a string; `block` is the indentation of what it belongs to, where a block of lines may stand.
fn write_text(out: &mut String, text: &str, block: Option<usize>) {
    match style_of(text, block.is_some()) {
        Style::Plain => out.push_str(text),
        Style::Single => {
            out.push('\'');
            out.push_str(&text.replace('\'', "''"));
            out.push('\'');
        }
        Style::Double => write_double_quoted(out, text),
        Style::Literal => write_literal(out, text, block.unwrap_or_default()),
    }
}

enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn style_of(text: &str, block_allowed: bool) -> Style {
    if text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}' || c == '\u{85}') {
        return Style::Double;
    }
    if text.contains('\n') {
        let blank_ends = text.starts_with([' ', '\n', '\t']) || text.contains(" \n") || text.ends_with(' ');
        return if block_allowed && !blank_ends { Style::Literal } else { Style::Double };
    }
    if is_typed(text) {
        return Style::Double;
    }
    if is_plain(text) { Style::Plain } else { Style::Single }
}

/// Whether the text without quotes would be read as something other than a string.
fn is_typed(text: &str) -> bool {
    const WORDS: [&str; 13] = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", "<<"];
    let lower = text.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) || matches!(lower.trim_start_matches(['+', '-']), ".inf") {
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

fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (first, last) = (bytes[0], bytes[bytes.len() - 1]);
    if first == b' ' || last == b' ' || text.contains('\t') {
        return false;
    }
    if text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    let indicator = b"#,[]{}&*!|>'\"%@`".contains(&first);
    let dash = b"-?:".contains(&first) && (bytes.len() == 1 || bytes[1] == b' ');
    if indicator || dash || last == b':' {
        return false;
    }
    !text.contains(": ") && !text.contains(" #")
}

fn write_literal(out: &mut String, text: &str, depth: usize) {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let chomp = match () {
        () if !text.ends_with('\n') => "|-",
        () if text.ends_with("\n\n") => "|+",
        () => "|",
    };
    out.push_str(chomp);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth + 2);
            out.push_str(line);
        }
    }
}

fn write_double_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c if u32::from(c) < 0x100 && c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{feff}' => out.push_str("\\uFEFF"),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_read_as_kubernetes_reads_them() {
        let text = b"a: yes\nb: off\nc: 0644\nd: \"no\"\ne: 1.5\nf: ~\ng: 2001-01-01\nh: 1e3\n";
        let want =
            json!({"a": true, "b": false, "c": 420, "d": "no", "e": 1.5, "f": null, "g": "2001-01-01", "h": 1000});
        assert_eq!(decode(text).expect("YAML"), want);
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = b"base: &base {x: 1, y: 2}\nuse:\n  <<: *base\n  y: 3\nlist: [*base]\n";
        let want = json!({"base": {"x": 1, "y": 2}, "use": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}]});
        let mut got = decode(text).expect("YAML");
        // `y` is a boolean in YAML 1.1 where it is a value, and a key here.
        got.sort_all_objects();
        assert_eq!(got, want);
    }

    #[test]
    fn duplicate_keys_are_told_and_the_last_value_is_kept() {
        let (value, duplicates) = decode_tracked(b"a: 1\na: 2\n").expect("YAML");
        assert_eq!(value, json!({"a": 2}));
        assert_eq!(duplicates.len(), 1);
    }

    #[test]
    fn streams_are_cut_into_documents() {
        assert_eq!(documents("---\na: 1\n---\n# nothing\n---\nb: 2\n"), ["a: 1\n", "b: 2\n"]);
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({
            "plain": "text", "empty": "", "number": "12", "octal": "0644", "bool": "yes", "null": "null", "time": "2001-01-01T00:00:00Z",
            "colon": "a: b", "hash": "a #b", "star": "*", "lines": "one\ntwo\n", "open": "one\ntwo", "more": "one\n\n", "blank": " x",
            "quote": "it's", "base60": "1:30", "dash": "- a", "list": [1, "a", [], {}, [1, 2], {"k": "v", "l": [null]}], "map": {}, "ctl": "a\u{1}b",
            "indent": "  a\nb", "tab": "a\tb", "3": 1, "trailing": "a \nb",
        });
        let text = encode(&value);
        assert_eq!(decode(text.as_bytes()).expect(&text), value, "{text}");
    }
}
