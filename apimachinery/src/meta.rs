//! An object's metadata: reading it from a JSON value, and changing it there.
//!
//! What is absent reads as empty (`""`, `0`, `None`), as in Go; setting an empty text removes the field.

use serde_json::{Map, Value};

pub use crate::time::{now_rfc3339, now_rfc3339_micro};

fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// The metadata, made if there is none. An object that is not a JSON object, or whose metadata is not one, becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(map) = object else { unreachable!("made above") };
    let metadata = map.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    let Value::Object(metadata) = metadata else { unreachable!("made above") };
    metadata
}

fn text<'v>(object: &'v Value, key: &str) -> &'v str {
    metadata(object).and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

fn set_text(object: &mut Value, key: &str, value: &str) {
    if value.is_empty() {
        remove(object, key);
    } else {
        metadata_mut(object).insert(key.to_owned(), value.into());
    }
}

/// Removes a field of the metadata.
pub fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(key)
}

pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// Sets `apiVersion` and `kind`.
pub fn set_kind(object: &mut Value, api_version: &str, kind: &str) {
    if let Value::Object(map) = object {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
    }
}

/// Group and version of an `apiVersion`: `("apps", "v1")`, `("", "v1")`.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn set_name(object: &mut Value, name: &str) {
    set_text(object, "name", name);
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn set_namespace(object: &mut Value, namespace: &str) {
    set_text(object, "namespace", namespace);
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn set_uid(object: &mut Value, uid: &str) {
    set_text(object, "uid", uid);
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn set_resource_version(object: &mut Value, version: &str) {
    set_text(object, "resourceVersion", version);
}

pub fn generation(object: &Value) -> i64 {
    metadata(object).and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// Sets the generation; 0 removes it.
pub fn set_generation(object: &mut Value, generation: i64) {
    if generation == 0 {
        remove(object, "generation");
    } else {
        metadata_mut(object).insert("generation".into(), generation.into());
    }
}

pub fn creation_timestamp(object: &Value) -> &str {
    text(object, "creationTimestamp")
}

pub fn set_creation_timestamp(object: &mut Value, time: &str) {
    set_text(object, "creationTimestamp", time);
}

/// When the object's deletion was asked for; `None` while it lives.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    Some(text(object, "deletionTimestamp")).filter(|time| !time.is_empty())
}

pub fn set_deletion_timestamp(object: &mut Value, time: &str) {
    set_text(object, "deletionTimestamp", time);
}

pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    metadata(object)?.get("deletionGracePeriodSeconds")?.as_i64()
}

pub fn set_deletion_grace_period_seconds(object: &mut Value, seconds: Option<i64>) {
    match seconds {
        Some(seconds) => {
            metadata_mut(object).insert("deletionGracePeriodSeconds".into(), seconds.into());
        }
        None => {
            remove(object, "deletionGracePeriodSeconds");
        }
    }
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

/// The value of a label.
pub fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    labels(object)?.get(key)?.as_str()
}

/// The value of an annotation.
pub fn annotation<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    annotations(object)?.get(key)?.as_str()
}

pub fn set_label(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "labels", key, value);
}

pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    set_entry(object, "annotations", key, value);
}

fn set_entry(object: &mut Value, map: &str, key: &str, value: &str) {
    let entries = metadata_mut(object).entry(map).or_insert_with(|| Value::Object(Map::new()));
    if !entries.is_object() {
        *entries = Value::Object(Map::new());
    }
    if let Value::Object(entries) = entries {
        entries.insert(key.to_owned(), value.into());
    }
}

pub fn remove_annotation(object: &mut Value, key: &str) -> Option<Value> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?.remove(key)
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "finalizers").iter().filter_map(Value::as_str)
}

pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).any(|one| one == finalizer)
}

/// Sets the finalizers; none removes the field.
pub fn set_finalizers<S: Into<String>>(object: &mut Value, finalizers: impl IntoIterator<Item = S>) {
    let all: Vec<Value> = finalizers.into_iter().map(|one| Value::String(one.into())).collect();
    set_list(object, "finalizers", all);
}

pub fn owner_references(object: &Value) -> &[Value] {
    list(object, "ownerReferences")
}

/// The owner that manages the object, if one does.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}

pub fn managed_fields(object: &Value) -> &[Value] {
    list(object, "managedFields")
}

/// Sets the managed fields; none removes the field.
pub fn set_managed_fields(object: &mut Value, entries: Vec<Value>) {
    set_list(object, "managedFields", entries);
}

fn list<'v>(object: &'v Value, key: &str) -> &'v [Value] {
    metadata(object).and_then(|m| m.get(key)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn set_list(object: &mut Value, key: &str, items: Vec<Value>) {
    if items.is_empty() {
        remove(object, key);
    } else {
        metadata_mut(object).insert(key.to_owned(), Value::Array(items));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_reads_as_empty() {
        let object = json!({"metadata": {"name": "x"}});
        assert_eq!((name(&object), namespace(&object), generation(&object)), ("x", "", 0));
        assert_eq!(deletion_timestamp(&object), None);
        assert!(labels(&object).is_none() && owner_references(&object).is_empty());
        assert_eq!(finalizers(&json!(null)).count(), 0);
    }

    #[test]
    fn setting_makes_the_metadata_and_emptying_removes() {
        let mut object = json!({"kind": "Pod"});
        set_name(&mut object, "x");
        set_label(&mut object, "a", "b");
        set_generation(&mut object, 2);
        set_finalizers(&mut object, ["f"]);
        assert_eq!(
            object,
            json!({"kind": "Pod", "metadata": {"name": "x", "labels": {"a": "b"}, "generation": 2, "finalizers": ["f"]}})
        );
        set_name(&mut object, "");
        set_generation(&mut object, 0);
        set_finalizers(&mut object, Vec::<String>::new());
        assert_eq!(object, json!({"kind": "Pod", "metadata": {"labels": {"a": "b"}}}));
    }
}
