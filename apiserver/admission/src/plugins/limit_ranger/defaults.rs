//! Default requests and limits of containers.

use apimachinery::meta;
use serde_json::{Map, Value};

use crate::object::{object_mut, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const PREFIX: &str = "LimitRanger plugin set: ";

/// Gives each container of the pod what it does not say itself, and notes in an annotation what was given.
pub(super) fn apply(limit: &Value, pod: &mut Value) {
    if text(limit, "/type") != "Container" {
        return;
    }
    let empty = Map::new();
    let map = |field: &str| limit.get(field).and_then(Value::as_object).unwrap_or(&empty);
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            let resources = object_mut(container, "resources");
            for (field, defaults, noun) in
                [("requests", map("defaultRequest"), "request"), ("limits", map("default"), "limit")]
            {
                let set = fill(resources, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {noun} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let before = meta::annotation(pod, ANNOTATION).map(|before| format!("{before}; "));
        let text = format!("{}{}", before.unwrap_or_else(|| PREFIX.to_owned()), notes.join("; "));
        meta::set_annotation(pod, ANNOTATION, &text);
    }
}

/// Sets what is not set; the names of what was.
fn fill(resources: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing = |name: &&String| resources.get(field).and_then(|have| have.get(name.as_str())).is_none();
    let set: Vec<String> = defaults.keys().filter(missing).cloned().collect();
    for name in &set {
        object_mut(resources, field)[name] = defaults[name].clone();
    }
    set
}
