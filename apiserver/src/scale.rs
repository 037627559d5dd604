//! The `Scale` subresource: the number of replicas of an object as `autoscaling/v1` shows it.
//!
//! Kubernetes documentation, "Horizontal Pod Autoscaling", the scale subresource.

use apimachinery::{labels, meta};
use serde_json::{Map, Value, json};

/// Copies of an object's metadata that identify it.
fn identity(object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata.insert(field.into(), value.clone());
        }
    }
    Value::Object(metadata)
}

/// The selector of an object's pods, as text.
fn selector(object: &Value) -> String {
    match &object["spec"]["selector"] {
        // A ReplicationController selects by a plain map.
        Value::Object(map) if meta::kind(object) == "ReplicationController" => {
            labels::Selector::from_map(map).to_string()
        }
        Value::Null => String::new(),
        selector => labels::Selector::from_label_selector(Some(selector)).map(|s| s.to_string()).unwrap_or_default(),
    }
}

/// The scale of an object.
pub fn get(object: &Value) -> Value {
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    let selector = selector(object);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    let spec = if replicas == 0 { json!({}) } else { json!({"replicas": replicas}) };
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": identity(object), "spec": spec, "status": status})
}

/// The object with another number of replicas.
pub fn set(object: &mut Value, replicas: i64) {
    object["spec"]["replicas"] = replicas.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        let object = json!({"kind": "Deployment", "metadata": {"name": "d", "uid": "u", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}}}, "status": {"replicas": 2}});
        let scale = get(&object);
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=d"}));
        assert_eq!(scale["metadata"], json!({"name": "d", "uid": "u"}));
    }
}
