//! Plain JSON, without a schema.

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::DecodeError;
use super::typed::{At, Untyped};

/// Reads one JSON value. Of a key that appears twice the last value is kept. Nesting deeper than 127 levels is refused.
///
/// # Errors
/// What is not JSON, with the message of Go's decoder where there is one.
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    decode_tracked(body).map(|(value, _)| value)
}

/// As [`decode`], and names every key that appears twice by its path.
///
/// # Errors
/// As [`decode`].
pub fn decode_tracked(body: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut duplicates = Vec::new();
    let mut de = serde_json::Deserializer::from_slice(body);
    let seed = Untyped { at: At::root(), duplicates: Some(&mut duplicates) };
    let value = seed.deserialize(&mut de).and_then(|value| de.end().map(|()| value));
    value.map(|value| (value, duplicates)).map_err(|error| syntax_error(&error, body))
}

/// Writes JSON without blanks.
pub fn encode(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value has only string keys")
}

/// Go's words for what is wrong.
pub(super) fn syntax_error(error: &serde_json::Error, body: &[u8]) -> DecodeError {
    let text = match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
        serde_json::error::Category::Syntax => match offending(error, body) {
            Some(found) => format!("invalid character {:?}: {error}", char::from(found)).replace('"', "'"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    };
    DecodeError::Json(text)
}

fn offending(error: &serde_json::Error, body: &[u8]) -> Option<u8> {
    let line = body.split(|b| *b == b'\n').nth(error.line().checked_sub(1)?)?;
    line.get(error.column().checked_sub(1)?).copied().filter(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicate_keys_are_named_by_their_path() {
        let (value, duplicates) = decode_tracked(br#"{"a":{"b":1,"b":2},"c":[{"d":1,"d":1}]}"#).expect("JSON");
        assert_eq!(value, json!({"a": {"b": 2}, "c": [{"d": 1}]}));
        assert_eq!(duplicates, ["a.b", "c[0].d"]);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for body in [&b"{"[..], b"{]", b"", b"{} {}", b"nul", b"{\"a\":01}"] {
            assert!(decode(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let deep = [vec![b'['; 1000], vec![b']'; 1000]].concat();
        assert!(matches!(decode(&deep), Err(DecodeError::Json(_))));
    }
}
