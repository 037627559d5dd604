//! Persistent volumes.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{object, set, set_empty, volume_source};
use crate::kinds::volume_claim;
use crate::node::Node;
use crate::rules::{affinity, resources, volume};
use crate::strategy::{Kind, Looks, Object};
use crate::warnings;

pub const KIND: Kind = Kind {
    group: "",
    resource: "persistentvolumes",
    warnings: |root, _| warnings::volume(root),
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
    looks: Looks { metadata_update: false, metadata: 2, object: Object::Twice },
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
    capacity(spec.get("capacity"));
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        policy.one_of(&["Delete", "Recycle", "Retain"]);
    }
    let (affinity, required) = (spec.get("nodeAffinity"), spec.get("nodeAffinity").get("required"));
    if affinity.is_set() {
        if required.is_set() {
            affinity::node_selector(required);
        } else {
            required.required("must specify required node constraints");
        }
    }
    volume::persistent_source(spec);
    if spec.get("local").is_set() && !affinity.is_set() {
        affinity.required("Local volume requires node affinity");
    }
    if is_root(spec.get("hostPath").get("path").str()) && policy.str() == "Recycle" {
        policy.forbidden("may not be 'recycle' for a hostPath mount of '/'");
    }
    spec.get("storageClassName").check_if_set(names::dns1123_subdomain);
    spec.get("volumeMode").one_of_if_set(&["Block", "Filesystem"]);
    let attributes = spec.get("volumeAttributesClassName");
    if attributes.is_set() {
        attributes.need_check(names::dns1123_subdomain);
        if !spec.get("csi").is_set() {
            spec.get("csi").required("has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(capacity: Node<'_>) {
    if capacity.is_empty() {
        capacity.required("");
    }
    if capacity.value.get("storage").is_none_or(Value::is_null) || capacity.len() > 1 {
        capacity.not_supported(&["storage"]);
    }
    for (_, amount) in capacity.entries() {
        if resources::sign(amount.value).is_lt() {
            amount.invalid("must be a valid resource quantity");
        }
        if resources::sign(amount.value).is_le() {
            amount.invalid("must be greater than zero");
        }
    }
}

/// Whether a path leads to `/`, however it is written.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

/// Fields of the spec beside the source.
const BESIDE: [&str; 9] = [
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

/// The source is fixed, and so are the mode and, once set, the affinity. Kubernetes reports some of it at names that are no
/// paths.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, before) = (root.get("spec"), &old["spec"]);
    let source = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.retain(|k, v| !BESIDE.contains(&k.as_str()) && !v.is_null());
        }
        // A secret for expansion may come later.
        if before["csi"].is_object() && before["csi"]["controllerExpandSecretRef"].is_null() {
            v["csi"].as_object_mut().map(|csi| csi.remove("controllerExpandSecretRef"));
        }
        v
    };
    if source(spec.value) != source(before) {
        spec.get("persistentvolumesource").forbidden("spec.persistentvolumesource is immutable after creation");
    }
    root.get("volumeMode").with(spec.get("volumeMode").value).immutable(&before["volumeMode"]);
    let affinity = &before["nodeAffinity"];
    if !affinity.is_null() && !is_same_affinity(&spec.value["nodeAffinity"], affinity) {
        let at = root.get("nodeAffinity").with(spec.get("nodeAffinity").value);
        at.invalid("field is immutable, except for updating from beta label to GA");
    }
    let attributes = spec.get("volumeAttributesClassName");
    if !before["volumeAttributesClassName"].is_null() && !attributes.is_set() {
        attributes.forbidden("update from non-nil value to nil is forbidden");
    }
}

/// Equal, where an old name of a node's label may have become the one that replaced it.
fn is_same_affinity(new: &Value, old: &Value) -> bool {
    const RENAMED: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(k, v)| {
                    let renamed = k == "key" && RENAMED.iter().any(|(o, n)| b.get(k) == Some(&json!(o)) && v == n);
                    renamed || b.get(k).is_some_and(|w| is_same_affinity(v, w))
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(v, w)| is_same_affinity(v, w))
        }
        _ => new == old,
    }
}
