//! Persistent volume claims, also as templates.

use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use crate::defaults::{object, set};
use crate::node::Node;
use crate::rules::{labels, resources};
use crate::strategy::{Kind, Looks};
use crate::warnings;

pub const KIND: Kind = Kind {
    group: "",
    resource: "persistentvolumeclaims",
    warnings: |root, _| warnings::claim(root),
    default,
    create: |claim| claim["status"] = json!({"phase": "Pending"}),
    validate: |root| spec(root.get("spec")),
    transition,
    status,
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The defaults, of a template of a claim too.
pub fn default(claim: &mut Value) {
    crate::defaults::set_empty(object(claim, "status"), "phase", "Pending");
    let spec = object(claim, "spec");
    set(spec, "volumeMode", "Filesystem");
    data_sources(spec);
}

/// `dataSource` and `dataSourceRef` say the same, unless a namespace is named.
fn data_sources(spec: &mut Value) {
    if !spec["dataSource"].is_null() && spec["dataSourceRef"].is_null() {
        spec["dataSourceRef"] = spec["dataSource"].clone();
    } else if spec["dataSource"].is_null()
        && spec["dataSourceRef"].is_object()
        && spec["dataSourceRef"]["namespace"].as_str().is_none_or(str::is_empty)
    {
        spec["dataSource"] = spec["dataSourceRef"].clone();
    }
}

/// A template of a claim.
pub fn template(claim: Node<'_>) {
    crate::rules::meta::labels(claim.get("metadata").get("labels"));
    crate::rules::meta::annotations(claim.get("metadata").get("annotations"));
    spec(claim.get("spec"));
}

/// `accessModes` of claims and volumes.
pub fn access_modes(modes: Node<'_>) {
    if modes.is_empty() {
        modes.required("at least 1 access mode is required");
    }
    let (mut alone, mut shared) = (false, false);
    for mode in modes.items() {
        match mode.str() {
            "ReadWriteOncePod" => alone = true,
            other if ACCESS_MODES.contains(&other) => shared = true,
            _ => modes.with(mode.value).not_supported(&ACCESS_MODES),
        }
    }
    if alone && shared {
        modes.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

/// A `core.v1 PersistentVolumeClaimSpec`.
pub fn spec(spec: Node<'_>) {
    access_modes(spec.get("accessModes"));
    labels::selector(spec.get("selector"));
    let storage = spec.get("resources").get("requests").value.get("storage").filter(|v| !v.is_null());
    let at = spec.get("resources").entry("storage");
    match storage {
        None => at.required(""),
        Some(amount) => {
            let at = at.with(amount);
            if resources::sign(amount).is_le() {
                at.invalid("must be greater than zero");
            }
        }
    }
    let class = spec.get("storageClassName");
    if !class.is_empty() {
        class.check(names::dns1123_subdomain);
    }
    spec.get("volumeMode").one_of_if_set(&["Block", "Filesystem"]);
    let attributes = spec.get("volumeAttributesClassName");
    attributes.check_if_set(names::dns1123_subdomain);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    data_source(source);
    data_source(reference);
    let elsewhere = reference.get("namespace");
    elsewhere.check_if_set(names::dns1123_label);
    if !source.is_set() || !reference.is_set() {
        return;
    }
    let same = ["apiGroup", "kind", "name"].iter().all(|field| source.value[*field] == reference.value[*field]);
    if !elsewhere.is_empty() {
        spec.invalid_value("spec.dataSource", "may not be specified when dataSourceRef.namespace is specified");
    } else if !same {
        spec.invalid_value("spec.dataSource", "must match dataSourceRef");
    }
}

fn data_source(source: Node<'_>) {
    if !source.is_set() {
        return;
    }
    source.get("name").need();
    source.get("kind").need();
    if source.get("apiGroup").is_empty() && source.get("kind").str() != "PersistentVolumeClaim" {
        source.invalid("must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    source.get("apiGroup").check_if_set(names::dns1123_subdomain);
}

/// The old way to name a storage class.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A claim's spec is fixed, but for what its controllers fill in and, once it is bound, its size and attributes.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, before) = (root.get("spec"), &old["spec"]);
    let (mut now, mut was) = (spec.value.clone(), before.clone());
    if before["volumeName"].as_str().is_none_or(str::is_empty) {
        was["volumeName"] = now["volumeName"].clone();
    }
    class_update(root, old, &mut now);
    if root.get("status").get("phase").str() == "Bound" {
        if now["resources"]["requests"].is_object() {
            now["resources"]["requests"]["storage"] = before["resources"]["requests"]["storage"].clone();
        }
        if !now["volumeAttributesClassName"].is_null() {
            now["volumeAttributesClassName"] = before["volumeAttributesClassName"].clone();
        }
    }
    for value in [&mut now, &mut was] {
        if let Some(map) = value.as_object_mut() {
            map.retain(|_, v| !v.is_null());
        }
    }
    if now != was {
        spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    size_update(spec, old);
    root.get("volumeMode").with(spec.get("volumeMode").value).immutable(&before["volumeMode"]);
    let attributes = spec.get("volumeAttributesClassName");
    if !before["volumeAttributesClassName"].is_null() && attributes.is_empty() {
        attributes.forbidden("update from non-nil value to nil or an empty string is forbidden");
    }
}

/// A class may come where there is none, also from the annotation that named it once.
fn class_update(root: Node<'_>, old: &Value, now: &mut Value) {
    let annotation = |obj: &Value| obj["metadata"]["annotations"][CLASS].clone();
    let (from, to) = (annotation(old), annotation(root.value));
    let class = now["storageClassName"].clone();
    if !old["spec"]["storageClassName"].is_null() || class.is_null() {
        annotation_is_fixed(root, &from, &to);
        return;
    }
    let moved = !from.is_null() && class == from && (to.is_null() || to == from);
    if !moved {
        annotation_is_fixed(root, &from, &to);
    }
    if moved || from.is_null() || class == from {
        now["storageClassName"] = Value::Null;
    }
}

fn annotation_is_fixed(root: Node<'_>, from: &Value, to: &Value) {
    if from.as_str().unwrap_or("") != to.as_str().unwrap_or("") {
        root.get("metadata").get("annotations").entry(CLASS).invalid("field is immutable");
    }
}

/// A size may shrink again only down to what the volume has.
fn size_update(spec: Node<'_>, old: &Value) {
    let at = spec.get("resources").get("requests").get("storage");
    let size = |v: &Value| resources::parse(v).unwrap_or(Quantity::ZERO);
    let (new, was) = (size(at.value), size(&old["spec"]["resources"]["requests"]["storage"]));
    if new < was && new <= size(&old["status"]["capacity"]["storage"]) {
        at.forbidden("field can not be less than status.capacity");
    }
}

/// What controllers tell of a claim's size.
fn status(root: Node<'_>, _old: &Value) {
    const STATES: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let status = root.get("status");
    for (_, amount) in status.get("capacity").entries() {
        if resources::sign(amount.value).is_lt() {
            amount.invalid("must be a valid resource quantity");
        }
    }
    let states = status.get("allocatedResourceStatus").with(status.get("allocatedResourceStatuses").value);
    for (resource, state) in states.entries() {
        resource_key(states, resource);
        if !STATES.contains(&state.str()) {
            states.not_supported_value(resource, &STATES);
        }
    }
    let allocated = status.get("allocatedResources");
    for (resource, amount) in allocated.entries() {
        if resource_key(allocated, resource) && resources::sign(amount.value).is_lt() {
            amount.invalid("must be a valid resource quantity");
        }
    }
}

/// Of Kubernetes' own resources a claim has storage only. Tells whether the name is good.
fn resource_key(at: Node<'_>, resource: &str) -> bool {
    let messages = names::qualified_name(resource);
    let well_formed = messages.is_empty();
    for message in messages {
        at.invalid_value(resource, message);
    }
    let foreign = !resources::is_native(resource) || resource == "storage";
    if well_formed && !foreign {
        at.not_supported_value(resource, &["storage"]);
    }
    well_formed && foreign
}
