//! Classes of storage and of a volume's attributes, and what drivers say of nodes.

use serde_json::Value;

use super::Subject;
use super::page::{NONE, Page, UNSET, go_list, joined, truth};
use super::time::rfc1123;
use crate::fields::{self, Fields};

const DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Writes a storage class.
pub fn describe(subject: &Subject<'_>) -> Page {
    let (class, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(class));
    let annotations = class.at("metadata.annotations");
    let default = DEFAULT.iter().any(|key| annotations[*key] == "true");
    page.field(0, "IsDefaultClass", if default { "Yes" } else { "No" });
    page.field(0, "Annotations", joined(annotations));
    page.field(0, "Provisioner", class.text("provisioner"));
    page.field(0, "Parameters", joined(class.at("parameters")));
    page.field(0, "AllowVolumeExpansion", class.at("allowVolumeExpansion").as_bool().map_or(UNSET, truth));
    match class.texts("mountOptions").as_slice() {
        [] => page.field(0, "MountOptions", NONE),
        options => {
            page.line(0, "MountOptions:");
            options.iter().for_each(|option| page.line(1, option));
        }
    }
    for (label, field) in [("ReclaimPolicy", "reclaimPolicy"), ("VolumeBindingMode", "volumeBindingMode")] {
        if class.has(field) {
            page.field(0, label, class.text(field));
        }
    }
    if class.has("allowedTopologies") {
        topologies(&mut page, class.list("allowedTopologies"));
    }
    page
}

fn topologies(page: &mut Page, terms: &[Value]) {
    page.field(0, "AllowedTopologies", if terms.is_empty() { NONE } else { "" });
    for (index, term) in terms.iter().enumerate() {
        let requirement = |requirement: &Value| match requirement.texts("values").as_slice() {
            [] => format!("{} in", requirement.text("key")),
            values => format!("{} in [{}]", requirement.text("key"), values.join(", ")),
        };
        let lines: Vec<String> = term.list("matchLabelExpressions").iter().map(requirement).collect();
        page.block_at("  ", &format!("Term {index}"), &lines);
    }
}

/// Writes a class of a volume's attributes.
pub fn attributes_class(subject: &Subject<'_>) -> Page {
    let (class, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(class));
    page.field(0, "Annotations", joined(class.at("metadata.annotations")));
    page.field(0, "DriverName", class.text("driverName"));
    page.field(0, "Parameters", joined(class.at("parameters")));
    page
}

/// Writes the drivers of a node.
pub fn csi_node(subject: &Subject<'_>) -> Page {
    let (node, mut page) = (subject.object, Page::default());
    page.field(0, "Name", fields::name(node));
    page.tags(node);
    page.field(0, "CreationTimestamp", rfc1123(node.at("metadata.creationTimestamp")));
    page.line(0, "Spec:");
    if node.has("spec.drivers") {
        page.line(1, "Drivers:");
    }
    for driver in node.list("spec.drivers") {
        page.line(2, format_args!("{}:", driver.text("name")));
        page.field(3, "Node ID", driver.text("nodeID"));
        if driver.has("allocatable.count") {
            page.line(3, "Allocatables:");
            page.field(4, "Count", driver.int("allocatable.count"));
        }
        if driver.has("topologyKeys") {
            page.field(3, "Topology Keys", go_list(&driver.texts("topologyKeys")));
        }
    }
    page
}
