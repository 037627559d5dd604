//! Persistent volume claims, also as templates.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::{object, set};
use crate::node::Node;
use crate::rules::{labels, resources};
use crate::strategy::Kind;

pub const KIND: Kind = Kind {
    group: "",
    resource: "persistentvolumeclaims",
    default,
    create: |claim| claim["status"] = json!({"phase": "Pending"}),
    validate: |root| spec(root.get("spec")),
    transition,
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
    let mut alone = false;
    for mode in modes.items() {
        if ACCESS_MODES.contains(&mode.str()) {
            alone |= mode.str() == "ReadWriteOncePod";
        } else {
            modes.with(mode.value).not_supported(&ACCESS_MODES);
        }
    }
    if alone && modes.len() > 1 {
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
    for field in ["dataSource", "dataSourceRef"] {
        data_source(spec.get(field));
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
    } else {
        source.get("apiGroup").check_if_set(names::dns1123_subdomain);
    }
}

/// A bound claim's spec is fixed, but for a larger size.
fn transition(root: Node<'_>, old: &Value) {
    let (spec, before) = (root.get("spec"), &old["spec"]);
    let fixed = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.remove("volumeAttributesClassName");
            if before["volumeName"].as_str().is_none_or(str::is_empty) {
                map.remove("volumeName");
            }
            if let Some(requests) =
                map.get_mut("resources").and_then(|r| r.get_mut("requests")).and_then(Value::as_object_mut)
            {
                requests.remove("storage");
            }
            map.retain(|_, v| !v.is_null());
        }
        v
    };
    if fixed(spec.value) != fixed(before) {
        spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let (new_size, old_size) =
        (&spec.value["resources"]["requests"]["storage"], &before["resources"]["requests"]["storage"]);
    let (Some(new), Some(was)) = (resources::parse(new_size), resources::parse(old_size)) else { return };
    let at = spec.get("resources").get("requests").get("storage");
    if new < was {
        at.forbidden("field can not be less than status.capacity");
    } else if new > was && old["status"]["phase"] != "Bound" {
        spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}
