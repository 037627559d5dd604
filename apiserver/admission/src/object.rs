//! Reading and changing fields of objects that are plain JSON.

pub(crate) use apimachinery::tree::{items, text};
use serde_json::{Map, Value};

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
