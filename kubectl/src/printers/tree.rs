//! Whole objects as YAML or JSON, with sorted keys and without managed fields.

use apimachinery::codec::yaml;
use serde::Serialize;
use serde_json::{Map, Value};

/// The object as it is shown: keys sorted, `metadata.managedFields` left out.
pub fn tidy(value: &Value, managed_fields: bool) -> Value {
    let mut value = sorted(value);
    if !managed_fields {
        strip(&mut value);
        for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
            strip(item);
        }
    }
    value
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// The value with the keys of all its objects in order.
pub fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|key| (key.clone(), sorted(&object[key]))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// JSON with four spaces of indent.
pub fn json(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter));
    debug_assert!(written.is_ok(), "a value is always JSON");
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

/// YAML as the server prints it.
pub fn yaml(value: &Value) -> String {
    let text = yaml::encode(value);
    if text.ends_with('\n') { text } else { text + "\n" }
}
