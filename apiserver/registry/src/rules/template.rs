//! Pod templates of the workloads.

use serde_json::Value;

use crate::node::Node;
use crate::rules::{annotations, labels, meta, pod};

/// A `core.v1 PodTemplateSpec`.
pub fn template(template: Node<'_>) {
    let metadata = template.get("metadata");
    meta::labels(template.get("labels").with(metadata.get("labels").value));
    // Kubernetes reports what is wrong with the metadata beside it.
    let (own, spec) = (template.get("annotations").with(metadata.get("annotations").value), template.get("spec"));
    meta::annotations(own);
    annotations::of_pod(own, spec);
    pod::spec(spec, None);
    annotations::agree(own, spec);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden("ephemeral containers not allowed in pod template");
    }
}

/// The template's labels must be what the selector selects.
pub fn selected(template: Node<'_>, selector: &Value) {
    let labels = template.get("metadata").get("labels");
    if !labels::matches(selector, labels.value) {
        labels.invalid("`selector` does not match template `labels`");
    }
}

/// Pods of a workload that replaces them restart always, and have no end.
pub fn runs_forever(template: Node<'_>) {
    let spec = template.get("spec");
    if spec.get("restartPolicy").str() != "Always" && !spec.get("restartPolicy").is_empty() {
        spec.get("restartPolicy").not_supported(&["Always"]);
    }
    if spec.get("activeDeadlineSeconds").is_set() {
        spec.get("activeDeadlineSeconds").forbidden("activeDeadlineSeconds in this workload is not supported");
    }
}
