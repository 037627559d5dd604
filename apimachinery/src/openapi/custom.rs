//! The models of custom resources: the schemas of their definitions, in the words that each version of OpenAPI has.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::schemas::Components;
use crate::schema::Type;

/// What version 2 has no words for, and what its clients would take for something else.
const NOT_IN_V2: [&str; 5] = ["nullable", "oneOf", "anyOf", "allOf", "not"];
/// What says how a value is made up.
const STRUCTURE: [&str; 4] = ["type", "items", "properties", "additionalProperties"];

/// The model of a custom resource.
pub(super) fn model(components: &mut Components, ty: &Type, schema: &Value) -> Value {
    let mut model = schema.clone();
    adapt(components, &mut model, true);
    let gvk = ty.gvk.iter().map(|gvk| json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind}));
    model["type"] = "object".into();
    model["x-kubernetes-group-version-kind"] = gvk.collect();
    model
}

fn is_set(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Brings a schema to the dialect, at every depth. A resource of its own has a kind and metadata.
fn adapt(components: &mut Components, schema: &mut Value, resource: bool) {
    let Value::Object(map) = schema else { return };
    let v2 = components.dialect == Dialect::V2;
    if v2 {
        // A client of version 2 would refuse null, and fields that are not named.
        if is_set(map, "nullable") || (is_set(map, "x-kubernetes-preserve-unknown-fields") && !resource) {
            STRUCTURE.iter().for_each(|key| drop(map.remove(*key)));
        }
        NOT_IN_V2.iter().for_each(|key| drop(map.remove(*key)));
    }
    if is_set(map, "x-kubernetes-int-or-string") {
        map.insert("format".into(), "int-or-string".into());
        if !v2 && !map.contains_key("anyOf") {
            map.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(key) {
            adapt(components, below, false);
        }
    }
    for (_, below) in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        adapt(components, below, false);
    }
    if resource || is_set(map, "x-kubernetes-embedded-resource") {
        identify(components, map);
    }
}

/// The fields that every object has.
fn identify(components: &mut Components, schema: &mut Map<String, Value>) {
    let link = components.link_named("meta.v1.ObjectMeta");
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    for name in ["apiVersion", "kind"] {
        if properties[name].is_null() {
            properties[name] = json!({"type": "string"});
        }
    }
    let text = properties["metadata"]["description"].take();
    properties["metadata"] = match (components.dialect, text) {
        (Dialect::V3, Value::String(text)) => json!({"description": text, "allOf": [link]}),
        (Dialect::V2, Value::String(text)) => {
            let mut link = link;
            link["description"] = text.into();
            link
        }
        _ => link,
    };
}
