//! Persistent volumes.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{object, set, set_empty, volume_source};
use crate::kinds::volume_claim;
use crate::node::Node;
use crate::rules::{affinity, resources, volume};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "",
    resource: "persistentvolumes",
    default,
    create: |volume| {
        let now = volume["metadata"]["creationTimestamp"].clone();
        volume["status"] = json!({"phase": "Pending"});
        if !now.is_null() {
            volume["status"]["lastPhaseTransitionTime"] = now;
        }
    },
    validate: |root| validate(root.get("spec")),
    transition,
    ..Kind::PLAIN
};

fn default(persistent: &mut Value) {
    set_empty(object(persistent, "status"), "phase", "Pending");
    let spec = object(persistent, "spec");
    set_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    volume_source(spec);
}

fn validate(spec: Node<'_>) {
    volume_claim::access_modes(spec.get("accessModes"));
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        capacity.required("");
    }
    if capacity.value.get("storage").is_none_or(Value::is_null) || capacity.len() > 1 {
        capacity.not_supported(&["storage"]);
    }
    for (_, amount) in capacity.entries() {
        if resources::sign(amount.value).is_le() {
            amount.invalid("must be greater than zero");
        }
    }
    spec.get("persistentVolumeReclaimPolicy").one_of(&["Delete", "Recycle", "Retain"]);
    let required = spec.get("nodeAffinity").get("required");
    if spec.get("nodeAffinity").is_set() {
        if required.is_set() {
            affinity::node_selector(required);
        } else {
            required.required("must specify required node constraints");
        }
    }
    volume::persistent_source(spec);
    if spec.get("local").is_set() && !spec.get("nodeAffinity").is_set() {
        spec.get("nodeAffinity").required("Local volume requires node affinity");
    }
    if spec.get("hostPath").get("path").str() == "/" && spec.get("persistentVolumeReclaimPolicy").str() == "Recycle" {
        spec.get("persistentVolumeReclaimPolicy").forbidden("may not be 'recycle' for a hostPath mount of '/'");
    }
    spec.get("storageClassName").check_if_set(names::dns1123_subdomain);
    spec.get("volumeMode").one_of_if_set(&["Block", "Filesystem"]);
    spec.get("volumeAttributesClassName").check_if_set(names::dns1123_subdomain);
}

/// The source is fixed, and so are the mode and, once set, the affinity.
fn transition(root: Node<'_>, old: &Value) {
    const MAY: [&str; 9] = [
        "capacity",
        "accessModes",
        "claimRef",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "mountOptions",
        "volumeMode",
        "nodeAffinity",
        "volumeAttributesClassName",
    ];
    let (spec, before) = (root.get("spec"), &old["spec"]);
    let source = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.retain(|k, v| !MAY.contains(&k.as_str()) && !v.is_null());
        }
        v
    };
    if source(spec.value) != source(before) {
        spec.forbidden("spec.persistentvolumesource is immutable after creation");
    }
    spec.get("volumeMode").immutable(&before["volumeMode"]);
    if !before["nodeAffinity"].is_null() && spec.value["nodeAffinity"] != before["nodeAffinity"] {
        spec.get("nodeAffinity").invalid("field is immutable");
    }
}
