//! References to fields of the pod itself.

use apimachinery::names;

use crate::node::Node;

/// Fields that an environment variable may show.
pub const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file of a downward API volume may show.
pub const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields that are known at all.
const KNOWN: [&str; 16] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "spec.host",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.hostNetwork",
];
const CONTAINER_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

/// The parts of `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once("['")?;
    rest.strip_suffix("']").map(|key| (field, key))
}

/// A `core.v1 ObjectFieldSelector`.
pub fn field_ref(reference: Node<'_>, allowed: &[&str]) {
    let path = reference.get("fieldPath");
    if !reference.get("apiVersion").need() || !path.need() {
        return;
    }
    match subscript(path.str()) {
        Some(("metadata.annotations", key)) => {
            for message in names::qualified_name(&key.to_lowercase()) {
                path.invalid_value(key, message);
            }
        }
        Some(("metadata.labels", key)) => {
            for message in names::qualified_name(key) {
                path.invalid_value(key, message);
            }
        }
        Some(_) => path.invalid("does not support subscript"),
        None if !KNOWN.contains(&path.str()) => {
            path.invalid(format!("error converting fieldPath: field label not supported: {}", path.str()));
        }
        None => path.one_of(allowed),
    }
}

/// A `core.v1 ResourceFieldSelector`.
pub fn resource_field_ref(reference: Node<'_>, for_volume: bool) {
    let resource = reference.get("resource");
    if for_volume && reference.get("containerName").is_empty() {
        reference.get("containerName").required("");
    } else if resource.is_empty() {
        resource.required("");
    } else if resource.str().starts_with("limits.hugepages-") || resource.str().starts_with("requests.hugepages-") {
        divisor(
            reference.get("divisor"),
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
        );
    } else if CONTAINER_RESOURCES.contains(&resource.str()) {
        let units: &[&str] = if resource.str().ends_with("cpu") {
            &["1m", "1"]
        } else {
            &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
        };
        divisor(reference.get("divisor"), units);
    } else {
        resource.not_supported(&CONTAINER_RESOURCES);
    }
}

fn divisor(divisor: Node<'_>, units: &[&str]) {
    let text = divisor.str();
    if !(text.is_empty() || text == "0" || units.contains(&text)) {
        divisor.invalid(format!("only divisor's values {} are supported with the resource", units.join(", ")));
    }
}
