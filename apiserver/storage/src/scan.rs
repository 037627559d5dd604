//! Finds parts of an object's JSON without parsing it: the store looks at `metadata` and at a few selectable fields only.
//!
//! The bytes are JSON that the apiserver itself has written or accepted, so the scanner does not validate: on bytes that
//! are not JSON it answers `None`, never panics.

use std::borrow::Cow;
use std::ops::Range;

/// The value of the member `name` of the object that starts at `open` (the index of its `{`).
fn member(json: &[u8], open: usize, name: &str) -> Option<Range<usize>> {
    let mut at = skip_space(json, open.checked_add(1)?);
    while json.get(at) == Some(&b'"') {
        let key_end = skip_string(json, at)?;
        let key = json.get(at + 1..key_end - 1)?;
        at = skip_space(json, key_end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        let start = skip_space(json, at + 1);
        let end = skip_value(json, start)?;
        if key == name.as_bytes() {
            return Some(start..end);
        }
        at = skip_space(json, end);
        if json.get(at) != Some(&b',') {
            return None;
        }
        at = skip_space(json, at + 1);
    }
    None
}

fn skip_space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The index after the string whose opening quote is at `at`.
fn skip_string(json: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let hit = from + memchr::memchr2(b'"', b'\\', json.get(from..)?)?;
        if json[hit] == b'"' {
            return Some(hit + 1);
        }
        from = hit + 2;
    }
}

/// The index after the value that starts at `at`.
fn skip_value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => skip_string(json, at),
        b'{' | b'[' => skip_nested(json, at),
        _ => {
            let rest = &json[at..];
            let length = rest.iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))?;
            Some(at + length)
        }
    }
}

fn skip_nested(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = skip_string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Where the value at a path of object members is; `None` when any of them is missing.
pub fn range(json: &[u8], path: &[&str]) -> Option<Range<usize>> {
    let mut open = skip_space(json, 0);
    let mut found = open..json.len();
    for name in path {
        if json.get(open) != Some(&b'{') {
            return None;
        }
        found = member(json, open, name)?;
        open = found.start;
    }
    Some(found)
}

/// The value at a path as text: a string's content, or the literal of a number or boolean.
pub fn text<'a>(json: &'a [u8], path: &[&str]) -> Option<Cow<'a, str>> {
    literal(json.get(range(json, path)?)?)
}

/// A raw value as text, as [`text`].
pub fn literal(raw: &[u8]) -> Option<Cow<'_, str>> {
    match raw.first()? {
        b'"' => unquote(raw),
        b'{' | b'[' => None,
        _ => std::str::from_utf8(raw).ok().filter(|text| *text != "null").map(Cow::Borrowed),
    }
}

fn unquote(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.get(1..raw.len() - 1)?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(raw).ok().map(Cow::Owned)
}

/// Where the store writes to and reads from in an object's JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The index after the `{` of `metadata`.
    pub metadata: usize,
    /// Whether `metadata` is `{}`.
    pub metadata_is_empty: bool,
    /// The raw value of `metadata.labels`; empty when there are none.
    pub labels: Range<usize>,
}

/// The outline of an object; `None` when it has no `metadata` object.
pub fn outline(json: &[u8]) -> Option<Outline> {
    let open = skip_space(json, 0);
    let metadata = member(json, open, "metadata")?;
    if json.get(metadata.start) != Some(&b'{') {
        return None;
    }
    let inside = skip_space(json, metadata.start + 1);
    Some(Outline {
        metadata: metadata.start + 1,
        metadata_is_empty: json.get(inside) == Some(&b'}'),
        labels: member(json, metadata.start, "labels").unwrap_or(0..0),
    })
}

/// The value of one key of a flat JSON object of strings without escapes: `metadata.labels`, whose syntax needs none.
pub fn label<'a>(labels: &'a [u8], key: &str) -> Option<&'a str> {
    if labels.is_empty() {
        return None;
    }
    let range = member(labels, 0, key)?;
    std::str::from_utf8(labels.get(range.start + 1..range.end - 1)?).ok()
}

/// The keys and values of a flat JSON object of strings.
pub fn each_label<'a>(labels: &'a [u8], mut visit: impl FnMut(Cow<'a, str>, Cow<'a, str>)) {
    let mut at = skip_space(labels, 1);
    while labels.get(at) == Some(&b'"') {
        let Some(key_end) = skip_string(labels, at) else { return };
        let start = skip_space(labels, skip_space(labels, key_end) + 1);
        let Some(end) = skip_value(labels, start) else { return };
        if let (Some(key), Some(value)) = (unquote(&labels[at..key_end]), unquote(&labels[start..end])) {
            visit(key, value);
        }
        at = skip_space(labels, end);
        if labels.get(at) != Some(&b',') {
            return;
        }
        at = skip_space(labels, at + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &[u8] = br#"{"apiVersion":"v1", "kind":"Pod","metadata":{"annotations":{"a":"}\"{"},"labels":{"app":"web","x/y":""},"name":"p"},"spec":{"containers":[{"name":"c"}],"hostNetwork":true,"nodeName":"n\u0031"}}"#;

    #[test]
    fn paths_are_found_past_nested_values_and_escapes() {
        assert_eq!(text(POD, &["spec", "nodeName"]).as_deref(), Some("n1"));
        assert_eq!(text(POD, &["spec", "hostNetwork"]).as_deref(), Some("true"));
        assert_eq!(text(POD, &["metadata", "name"]).as_deref(), Some("p"));
        assert_eq!(text(POD, &["spec", "absent"]), None);
        assert_eq!(text(POD, &["kind", "deeper"]), None);
    }

    #[test]
    fn the_outline_finds_metadata_and_labels() {
        let outline = outline(POD).expect("an outline");
        assert!(POD[outline.metadata..].starts_with(br#""annotations""#));
        let labels = &POD[outline.labels];
        assert_eq!(label(labels, "app"), Some("web"));
        assert_eq!(label(labels, "x/y"), Some(""));
        assert_eq!(label(labels, "z"), None);
        let mut seen = Vec::new();
        each_label(labels, |k, v| seen.push(format!("{k}={v}")));
        assert_eq!(seen, ["app=web", "x/y="]);
    }

    #[test]
    fn bytes_that_are_not_json_are_answered_with_nothing() {
        for bytes in
            [&b""[..], b"{", b"{\"", b"{\"metadata", b"{\"metadata\":", b"{\"metadata\":{\"labels\":{", b"\"\\"]
        {
            assert_eq!(outline(bytes), None);
            assert_eq!(range(bytes, &["metadata", "labels"]), None);
        }
    }
}
