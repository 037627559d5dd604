//! Subresources that change one part of an object and leave the rest: a pod's resources and ephemeral containers, the approval of a
//! certificate request.
//!
//! KEP-1287 (in-place resize), KEP-277 (ephemeral containers), KEP-1513 (certificate signing requests).

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::update::Part;

/// Keeps everything of the object as it was, but the part.
pub fn prepare(part: Part, value: &mut Value, old: &Value) {
    let wanted = std::mem::replace(value, old.clone());
    value["metadata"]["managedFields"] = wanted["metadata"]["managedFields"].clone();
    match part {
        Part::EphemeralContainers => {
            value["spec"]["ephemeralContainers"] = wanted["spec"]["ephemeralContainers"].clone();
        }
        Part::Resize => {
            for list in ["containers", "initContainers"] {
                resize(&mut value["spec"][list], &wanted["spec"][list]);
            }
            if value["spec"]["containers"] != old["spec"]["containers"] {
                let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
                value["metadata"]["generation"] = (generation + 1).into();
            }
        }
        Part::Approval => approve(value, &wanted),
        Part::Main | Part::Status => {}
    }
    remove_nulls(value);
}

fn remove_nulls(value: &mut Value) {
    for section in ["metadata", "spec", "status"] {
        if let Some(map) = value.get_mut(section).and_then(Value::as_object_mut) {
            map.retain(|_, field| !field.is_null());
        }
    }
}

fn resize(containers: &mut Value, wanted: &Value) {
    for container in containers.as_array_mut().into_iter().flatten() {
        let same_name = |other: &&Value| other["name"] == container["name"];
        let Some(found) = wanted.as_array().into_iter().flatten().find(same_name) else { continue };
        container["resources"] = found["resources"].clone();
        if !found["resizePolicy"].is_null() {
            container["resizePolicy"] = found["resizePolicy"].clone();
        }
    }
}

/// Only the conditions that approve or deny may be changed; a new one gets the time.
fn approve(value: &mut Value, wanted: &Value) {
    let now = apimachinery::time::now_rfc3339();
    let mut conditions = wanted["status"]["conditions"].clone();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        for field in ["lastUpdateTime", "lastTransitionTime"] {
            if condition[field].is_null() {
                condition[field] = now.as_str().into();
            }
        }
    }
    if !value["status"].is_object() {
        value["status"] = json!({});
    }
    value["status"]["conditions"] = conditions;
}

/// The rules of the part.
pub fn validate(part: Part, value: &Value, old: &Value) -> ErrorList {
    match part {
        Part::EphemeralContainers => ephemeral(value, old),
        Part::Approval => approval(value),
        Part::Resize | Part::Main | Part::Status => Vec::new(),
    }
}

/// Ephemeral containers are added, never changed or removed.
fn ephemeral(value: &Value, old: &Value) -> ErrorList {
    let path = Path::new("spec").child("ephemeralContainers");
    let list = |object: &Value| object["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
    let (new, before) = (list(value), list(old));
    let mut errors = ErrorList::new();
    for (index, container) in before.iter().enumerate() {
        match new.iter().find(|other| other["name"] == container["name"]) {
            None => errors.push(Error::forbidden(
                &path,
                format!("existing ephemeral containers {} may not be removed", container["name"]),
            )),
            Some(other) if other != container => {
                errors.push(Error::forbidden(
                    &path.index(index),
                    format!("existing ephemeral containers {} may not be changed", container["name"]),
                ));
            }
            Some(_) => {}
        }
    }
    for (index, container) in new.iter().enumerate() {
        let at = path.index(index);
        for required in ["name", "image"] {
            if container[required].as_str().is_none_or(str::is_empty) {
                errors.push(Error::required(&at.child(required), ""));
            }
        }
        for forbidden in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if !container[forbidden].is_null() {
                errors.push(Error::forbidden(&at.child(forbidden), "cannot be set for an Ephemeral Container"));
            }
        }
        let target = &container["targetContainerName"];
        let exists = value["spec"]["containers"].as_array().into_iter().flatten().any(|c| c["name"] == *target);
        if !target.is_null() && !exists {
            errors.push(Error::not_found(&at.child("targetContainerName"), target.clone()));
        }
    }
    errors
}

fn approval(value: &Value) -> ErrorList {
    let path = Path::new("status").child("conditions");
    let has = |kind: &str| value["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == kind);
    if has("Approved") && has("Denied") {
        return vec![Error::invalid(&path, "Denied", "Approved and Denied conditions are mutually exclusive")];
    }
    Vec::new()
}
