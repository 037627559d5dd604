//! YAML as Kubernetes reads and writes it: YAML 1.1 scalars (`yes`, `on`, `0644`), anchors and merge keys on the way
//! in; sorted keys, lists at their key's indentation, quotes only where needed and long lines folded on the way out.

mod scalar;
mod style;

use std::cmp::Ordering;

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::DecodeError;
use super::typed::{At, Untyped};
use style::Style;

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
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort_by(|a, b| natural_order(a, b));
    for (place, key) in keys.into_iter().enumerate() {
        if place > 0 {
            indent(out, depth);
        }
        write_text(out, key, None);
        out.push(':');
        write_after_key(out, &map[key], depth);
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

/// Writes a string; `block` is the indentation of what it belongs to, where it may take several lines.
fn write_text(out: &mut String, text: &str, block: Option<usize>) {
    let lines = block.map(|depth| depth + 2);
    match style::of(text, block.is_some()) {
        Style::Plain => scalar::plain(out, text, lines),
        Style::Single => scalar::single_quoted(out, text, lines),
        Style::Double => scalar::double_quoted(out, text, lines),
        Style::Literal => scalar::literal(out, text, lines.unwrap_or_default()),
    }
}

/// Numbers within keys are ordered by their size, and letters come after everything else.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    match (a[at].is_alphabetic(), b[at].is_alphabetic()) {
        (true, true) => return a[at].cmp(&b[at]),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero counts only behind another digit.
    let zero = a[at] == '0' || b[at] == '0';
    let before = a[..at].iter().rev().take_while(|c| c.is_ascii_digit());
    let lead = u64::from(zero && before.clone().any(|c| *c != '0'));
    let number = |text: &[char]| {
        let digits = text[at..].iter().map_while(|c| c.to_digit(10));
        let count = digits.clone().count();
        (digits.fold(lead, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(digit))), count)
    };
    number(&a).cmp(&number(&b)).then(a[at].cmp(&b[at]))
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
    fn keys_are_in_their_natural_order() {
        let value = json!({"a10": 1, "a2": 1, "a": 1, "aB": 1, "a_b": 1, "ab": 1, "a01": 1, "1": 1});
        let text = encode(&value);
        let keys: Vec<&str> = text.lines().filter_map(|line| line.split_once(':')).map(|(key, _)| key).collect();
        assert_eq!(keys, ["\"1\"", "a", "a_b", "a01", "a2", "a10", "aB", "ab"]);
    }

    #[test]
    fn long_lines_are_folded_at_blanks() {
        let long = "word ".repeat(25).trim_end().to_owned();
        let value = json!({"a": long, "b": format!("x: {long}"), "c": format!("\t{long}"), "l": [long]});
        let text = encode(&value);
        let first = "word ".repeat(16);
        assert!(text.starts_with(&format!("a: {}\n  word", first.trim_end())), "{text}");
        assert!(text.contains("\nb: 'x: word") && text.contains("\nc: \"\\tword"), "{text}");
        assert_eq!(decode(text.as_bytes()).expect(&text), value, "{text}");
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
