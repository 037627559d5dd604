//! Pod templates of deployments, sets and jobs.

use serde_json::Value;

use super::containers::{self, Containers};
use super::page::Page;
use super::volumes;
use crate::fields::Fields;

/// Writes a template.
pub fn describe(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    if template.is_null() {
        return page.part(1, super::page::UNSET);
    }
    page.labels("  Labels", template.at("metadata.labels"));
    if template.map("metadata.annotations").is_some() {
        page.annotations("  Annotations", template.at("metadata.annotations"));
    }
    let spec = template.at("spec");
    if !spec.text("serviceAccountName").is_empty() {
        page.field(1, "Service Account", spec.text("serviceAccountName"));
    }
    let list = |label, field| Containers { label, list: spec.list(field), statuses: &[], pod: None, indent: "  " };
    if !spec.list("initContainers").is_empty() {
        list("Init Containers", "initContainers").describe(page);
    }
    list("Containers", "containers").describe(page);
    volumes::describe(page, "  ", spec.list("volumes"));
    containers::spread(page, "  ", spec.list("topologySpreadConstraints"));
    if !spec.text("priorityClassName").is_empty() {
        page.field(1, "Priority Class Name", spec.text("priorityClassName"));
    }
    page.labels("  Node-Selectors", spec.at("nodeSelector"));
    containers::tolerations(page, "  Tolerations", spec.list("tolerations"));
}
