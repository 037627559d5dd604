//! Reading and changing fields of objects that are plain JSON.

use serde_json::{Map, Value};

/// The string at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The items of the list at a JSON pointer; none if there is no list.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The object below a field, made if it is not there.
pub(crate) fn object_mut<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    let child = &mut value[field];
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    child
}

/// Appends to a list field, made if it is not there.
pub(crate) fn push(value: &mut Value, field: &str, item: Value) {
    match value.get_mut(field) {
        Some(Value::Array(list)) => list.push(item),
        _ => value[field] = Value::Array(vec![item]),
    }
}

/// The containers of a pod spec, of all three sorts.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["/initContainers", "/containers", "/ephemeralContainers"].into_iter().flat_map(|list| items(spec, list))
}
