//! Namespaces, whose content is removed before they are.

use apimachinery::names;
use serde_json::{Value, json};

use crate::defaults::object;
use crate::node::Node;
use crate::strategy::{Kind, Looks};

pub const KIND: Kind = Kind {
    group: "",
    resource: "namespaces",
    name: names::dns1123_label,
    default,
    create,
    update: |namespace, old| {
        // Finalizers are changed through their own subresource.
        namespace["spec"] = old["spec"].clone();
    },
    validate: |root| finalizers(root.get("spec").get("finalizers")),
    status,
    fields: |namespace| vec![("status.phase", namespace["status"]["phase"].as_str().unwrap_or("").to_owned())],
    looks: Looks::AS_NEW,
    ..Kind::PLAIN
};

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const OWN_FINALIZER: &str = "kubernetes";

/// Every namespace carries its name as a label, to be selected by.
fn default(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if name.as_str().is_some_and(|n| !n.is_empty()) {
        object(object(namespace, "metadata"), "labels")[NAME_LABEL] = name;
    }
}

fn create(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let spec = object(namespace, "spec");
    let mut list = spec["finalizers"].as_array().cloned().unwrap_or_default();
    if !list.iter().any(|f| f == OWN_FINALIZER) {
        list.push(OWN_FINALIZER.into());
    }
    spec["finalizers"] = list.into();
}

fn finalizers(list: Node<'_>) {
    list.items().for_each(|name| finalizer(name, list));
}

/// A finalizer's name, whose failures are reported at `at`.
fn finalizer(name: Node<'_>, at: Node<'_>) {
    for message in names::qualified_name(name.str()) {
        at.invalid_value(name.str(), message);
    }
    if !name.str().contains('/') && !matches!(name.str(), OWN_FINALIZER | "orphan" | "foregroundDeletion") {
        at.invalid_value(name.str(), "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn status(root: Node<'_>, _old: &Value) {
    // Kubernetes reports the phase with a capital.
    let phase = root.get("status").get("Phase").with(root.get("status").get("phase").value);
    let deleted = root.get("metadata").get("deletionTimestamp").is_set();
    if deleted && phase.str() != "Terminating" {
        phase.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
    if !deleted && phase.str() != "Active" {
        phase.invalid("may only be 'Active' if `deletionTimestamp` is empty");
    }
}

/// The rules of `namespaces/finalize`, which changes the finalizers alone.
pub fn validate_finalize(namespace: &Value, old: &Value) -> apimachinery::field::ErrorList {
    crate::node::collect(namespace, |root| {
        crate::rules::meta::validate_update(root.get("metadata"), &old["metadata"]);
        // Here each is reported at its own place.
        root.get("spec").get("finalizers").items().for_each(|finalizer| self::finalizer(finalizer, finalizer));
    })
}
