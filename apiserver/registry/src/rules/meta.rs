//! Rules for `metadata`, the same for every kind but for the form of the name.

use apimachinery::names;
use serde_json::Value;

use crate::node::Node;

const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Which names finalizers may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Finalizers {
    /// Those of Kubernetes itself, and others with the domain of whom they belong to.
    Known,
    /// Any qualified name.
    Qualified,
}

/// The form of a kind's names.
pub type NameRule = fn(&str) -> Vec<String>;

/// `metadata` of an object to be created.
pub fn validate(metadata: Node<'_>, namespaced: bool, rule: NameRule, finalizers: Finalizers) {
    for message in generate_name(metadata.get("generateName").str(), rule) {
        metadata.get("generateName").invalid(message);
    }
    let name = metadata.get("name");
    if name.is_empty() {
        name.required("name or generateName is required");
    } else {
        name.check(rule);
    }
    let namespace = metadata.get("namespace");
    if namespaced {
        namespace.need_check(names::dns1123_label);
    } else if !namespace.is_empty() {
        namespace.forbidden("not allowed on this type");
    }
    metadata.get("generation").non_negative();
    common(metadata, finalizers);
}

fn generate_name(prefix: &str, rule: NameRule) -> Vec<String> {
    if prefix.is_empty() { Vec::new() } else { rule(&names::as_prefix(prefix)) }
}

fn common(metadata: Node<'_>, allowed: Finalizers) {
    labels(metadata.get("labels"));
    annotations(metadata.get("annotations"));
    owner_references(metadata.get("ownerReferences"));
    finalizers(metadata.get("finalizers"), allowed);
}

/// Labels: every failure stands at the map itself.
pub fn labels(labels: Node<'_>) {
    for (key, value) in labels.value.as_object().into_iter().flatten() {
        for message in names::qualified_name(key) {
            labels.invalid_value(key.as_str(), message);
        }
        let text = value.as_str().unwrap_or("");
        for message in names::label_value(text) {
            labels.invalid_value(text, message);
        }
    }
}

/// Annotations: keys are qualified names in any case, and all together have a size.
pub fn annotations(annotations: Node<'_>) {
    let mut total = 0;
    for (key, value) in annotations.value.as_object().into_iter().flatten() {
        for message in names::qualified_name(&key.to_lowercase()) {
            annotations.invalid_value(key.as_str(), message);
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_MAX {
        annotations.too_long(ANNOTATIONS_MAX);
    }
}

fn owner_references(references: Node<'_>) {
    let mut controllers = 0;
    for reference in references.items() {
        let at = |field: &'static str| references.named(field).with(reference.get(field).value);
        let version = reference.get("apiVersion").str();
        if version.rsplit('/').next().unwrap_or("").is_empty() {
            at("apiVersion").invalid("version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if at(field).is_empty() {
                at(field).invalid_value("", "must not be empty");
            }
        }
        if version == "v1" && reference.get("kind").str() == "Event" {
            references.invalid("Event is disallowed from being an owner");
        }
        controllers += usize::from(reference.get("controller").bool());
    }
    if controllers > 1 {
        references.invalid("Only one reference can have Controller set to true");
    }
}

fn finalizers(finalizers: Node<'_>, allowed: Finalizers) {
    let mut orphan = false;
    let mut foreground = false;
    for finalizer in finalizers.items() {
        let name = finalizer.str();
        for message in names::qualified_name(name) {
            finalizers.invalid_value(name, message);
        }
        let any = allowed == Finalizers::Qualified || name.contains('/');
        if !any && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified");
        }
        orphan |= name == "orphan";
        foreground |= name == "foregroundDeletion";
    }
    if orphan && foreground {
        finalizers.invalid("finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// What an update may not change.
pub fn validate_update(metadata: Node<'_>, old: &Value) {
    validate_update_of(metadata, old, Finalizers::Known);
}

/// As [`validate_update`], for a kind with other finalizers.
pub fn validate_update_of(metadata: Node<'_>, old: &Value, finalizers: Finalizers) {
    const IMMUTABLE: [&str; 6] =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in IMMUTABLE {
        metadata.get(field).immutable(&old[field]);
    }
    if metadata.get("generation").int() < old["generation"].as_i64().unwrap_or(0) {
        metadata.get("generation").invalid("must not be decremented");
    }
    if !old["deletionTimestamp"].is_null() {
        let known = old["finalizers"].as_array().map_or(&[][..], Vec::as_slice);
        let added: Vec<&str> =
            metadata.get("finalizers").items().filter(|f| !known.contains(f.value)).map(Node::str).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            metadata.get("finalizers").forbidden(&detail);
        }
    }
    common(metadata, finalizers);
}
