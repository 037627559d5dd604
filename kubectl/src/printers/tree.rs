//! Whole objects as YAML or JSON, without managed fields unless they are asked for.

use apimachinery::codec::yaml;
use serde_json::Value;

/// Takes `metadata.managedFields` from an object, and from the items of a list.
pub fn tidy(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        tidy(item);
    }
}

/// YAML as the server prints it.
pub fn yaml(value: &Value) -> String {
    let text = yaml::encode(value);
    if text.ends_with('\n') { text } else { text + "\n" }
}
