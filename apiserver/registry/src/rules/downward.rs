//! References to fields of the pod itself.

use apimachinery::names;

use crate::node::Node;
use crate::rules::resources;

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
/// Fields that are known at all. `spec.host` is the old name of `spec.nodeName`.
const KNOWN: [&str; 15] = [
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

/// A `core.v1 ObjectFieldSelector`. A bad subscript is reported at the reference.
pub fn field_ref(reference: Node<'_>, allowed: &[&str]) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if !version.need() || !path.need() {
        return;
    }
    if version.str() != "v1" {
        path.invalid(format!("error converting fieldPath: unsupported pod version: {}", version.str()));
        return;
    }
    let subscripted = |rule: fn(&str) -> Vec<String>, key: &str| {
        for message in rule(key) {
            reference.invalid_value(key, message);
        }
    };
    match subscript(path.str()) {
        Some(("metadata.annotations", key)) => subscripted(names::qualified_name, &key.to_lowercase()),
        Some(("metadata.labels", key)) => subscripted(names::qualified_name, key),
        Some(_) => {
            path.invalid(format!("error converting fieldPath: field label does not support subscript: {}", path.str()));
        }
        None if !KNOWN.contains(&path.str()) => {
            path.invalid(format!("error converting fieldPath: field label not supported: {}", path.str()));
        }
        None if path.str() == "spec.host" && allowed.contains(&"spec.nodeName") => {}
        None => path.one_of(allowed),
    }
}

/// Divisors of amounts that are counted in bytes.
const BYTE_UNITS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// A `core.v1 ResourceFieldSelector`.
pub fn resource_field_ref(reference: Node<'_>, for_volume: bool) {
    let (resource, container) = (reference.get("resource"), reference.get("containerName"));
    let hugepages = ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.str().starts_with(p));
    let known = CONTAINER_RESOURCES.contains(&resource.str());
    if for_volume && container.is_empty() {
        container.required("");
    } else if resource.is_empty() {
        resource.required("");
    } else if !known && !hugepages {
        resource.not_supported(&CONTAINER_RESOURCES);
    }
    if known || hugepages {
        let units: &[&str] = if resource.str().ends_with("cpu") { &["1m", "1"] } else { &BYTE_UNITS };
        divisor(reference.get("divisor"), units);
    }
}

fn divisor(divisor: Node<'_>, units: &[&str]) {
    let Some(quantity) = resources::parse(divisor.value).filter(|q| !q.is_zero()) else { return };
    if !units.contains(&quantity.to_string().as_str()) {
        divisor.invalid(format!("only divisor's values {} are supported with the resource", units.join(", ")));
    }
}
