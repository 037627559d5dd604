//! Default requests and limits of containers.

use apimachinery::meta;
use serde_json::{Map, Value};

use crate::object::{items, object_mut, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const PREFIX: &str = "LimitRanger plugin set: ";

/// Gives each container of the pod what it does not say itself, and notes in an annotation what was given.
pub(super) fn apply(range: &Value, pod: &mut Value) {
    let (requests, limits) = (merged(range, "defaultRequest"), merged(range, "default"));
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            let resources = object_mut(container, "resources");
            for (field, defaults, noun) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(resources, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {noun} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        meta::set_annotation(pod, ANNOTATION, &format!("{PREFIX}{}", notes.join("; ")));
    }
}

/// The amounts of a field of all items for containers, the last of each name.
fn merged(range: &Value, field: &str) -> Map<String, Value> {
    let containers = items(range, "/spec/limits").iter().filter(|limit| text(limit, "/type") == "Container");
    let maps = containers.filter_map(|limit| limit.get(field)?.as_object());
    maps.flatten().map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// Sets what is not set; the names of what was, sorted.
fn fill(resources: &mut Value, field: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing = |name: &&String| resources.get(field).and_then(|have| have.get(name.as_str())).is_none();
    let mut set: Vec<String> = defaults.keys().filter(missing).cloned().collect();
    for name in &set {
        object_mut(resources, field)[name] = defaults[name].clone();
    }
    set.sort();
    set
}
