//! Quantities of resources: their names, signs and relations.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use crate::node::Node;

const STANDARD_CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const STANDARD_QUOTA: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const INTEGER: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const ALL_STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// The quantity of a field, as text or as a number.
pub fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(s) => s.parse().ok(),
        Value::Number(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

/// The amount in thousandths, rounded up, where it is finer than that.
pub fn rounded_to_milli(value: &Value) -> Option<String> {
    let quantity = parse(value)?;
    let rounded = Quantity::from_millis(quantity.milli_value(), quantity.format());
    // Amounts that are whole are never finer, whatever their size.
    (!quantity.is_integer() && rounded != quantity).then(|| rounded.to_string())
}

/// Whether a quantity is below (less), at (equal) or above zero; a malformed or absent one counts as zero.
pub fn sign(value: &Value) -> Ordering {
    parse(value).map_or(Ordering::Equal, |q| q.cmp(&Quantity::ZERO))
}

pub fn is_hugepages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_standard(name: &str) -> bool {
    ALL_STANDARD.contains(&name) || is_hugepages(name)
}

/// A resource that Kubernetes defines itself.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of a device plugin and its like: `vendor.example/thing`.
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_integer(name: &str) -> bool {
    INTEGER.contains(&name) || is_extended(name)
}

/// Whether more of a resource can be promised than there is.
pub fn overcommits(name: &str) -> bool {
    is_native(name) && !is_hugepages(name)
}

/// A resource's name anywhere; tells whether it is well formed.
pub fn name(node: Node<'_>, name: &str) -> bool {
    let messages = names::qualified_name(name);
    let well_formed = messages.is_empty();
    for message in messages {
        node.invalid_value(name, message);
    }
    if well_formed && !name.contains('/') && !is_standard(name) {
        node.invalid_value(name, "must be a standard resource type or fully qualified");
        return false;
    }
    well_formed
}

/// A resource's name in a container's requests and limits.
pub fn container_name(node: Node<'_>, resource: &str) {
    name(node, resource);
    if !resource.contains('/') {
        if !STANDARD_CONTAINER.contains(&resource) && !is_hugepages(resource) {
            node.invalid_value(resource, "must be a standard resource for containers");
        }
    } else if !is_native(resource) && !is_extended(resource) {
        node.invalid_value(resource, "doesn't follow extended resource name standard");
    }
}

/// Whether a quota can count a resource of that name without a domain.
pub fn is_quota_name(resource: &str) -> bool {
    STANDARD_QUOTA.contains(&resource) || resource.contains("hugepages-")
}

/// A resource's name in a quota. `count/<resource>` counts objects.
pub fn quota_name(node: Node<'_>, resource: &str) {
    name(node, resource);
    if !resource.contains('/') && !is_quota_name(resource) {
        node.invalid_value(resource, "must be a standard resource for quota");
    }
}

/// Not below zero, and whole where the resource is counted.
pub fn quantity(node: Node<'_>, resource: &str) {
    let Some(quantity) = parse(node.value) else { return };
    if quantity < Quantity::ZERO {
        node.invalid("must be greater than or equal to 0");
    }
    if is_integer(resource) && quantity.milli_value() % 1000 != 0 {
        node.invalid("must be an integer");
    }
}

/// Requests and limits of a container.
pub fn requirements(resources: Node<'_>) {
    requirements_of(resources, container_name);
}

/// Requests and limits of a pod as a whole.
pub fn requirements_of_pod(resources: Node<'_>) {
    requirements_of(resources, |node, resource| {
        if name(node, resource) && !matches!(resource, "cpu" | "memory") && !is_hugepages(resource) {
            node.not_supported_value(resource, &["cpu", "hugepages-", "memory"]);
        }
    });
}

/// What running a pod takes beside its containers. Kubernetes checks it as the limits of a container, and reports it there.
pub fn overhead(overhead: Node<'_>) {
    let limits = overhead.get("limits").with(overhead.value);
    for (resource, limit) in limits.entries() {
        container_name(limit, resource);
        quantity(limit, resource);
        hugepages(limit, resource);
    }
    if limits.entries().any(|(k, _)| is_hugepages(k)) && !limits.entries().any(|(k, _)| k == "cpu" || k == "memory") {
        overhead.forbidden("HugePages require cpu or memory");
    }
}

/// What the containers of a pod request together, by resource: those that run side by side are added up, and the largest of those
/// that run before, with what then runs beside it, counts where it is more (KEP-753).
pub fn sum_of_requests(spec: &Value) -> BTreeMap<String, Quantity> {
    let list = |field: &str| spec[field].as_array().map_or(&[][..], Vec::as_slice);
    let mut sum = BTreeMap::new();
    list("containers").iter().for_each(|container| add(&mut sum, &requests(container)));
    let (mut beside, mut most) = (BTreeMap::new(), BTreeMap::new());
    for container in list("initContainers") {
        let own = requests(container);
        let mut now = beside.clone();
        add(&mut now, &own);
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            beside.clone_from(&now);
        }
        for (resource, amount) in now {
            let known = most.entry(resource).or_insert(Quantity::ZERO);
            *known = (*known).max(amount);
        }
    }
    for (resource, amount) in most {
        let known = sum.entry(resource).or_insert(Quantity::ZERO);
        *known = (*known).max(amount);
    }
    sum
}

fn requests(container: &Value) -> BTreeMap<String, Quantity> {
    let requests = container["resources"]["requests"].as_object().into_iter().flatten();
    requests.filter_map(|(resource, amount)| Some((resource.clone(), parse(amount)?))).collect()
}

fn add(sum: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (resource, amount) in more {
        let known = sum.entry(resource.clone()).or_insert(Quantity::ZERO);
        *known = *known + *amount;
    }
}

/// Requests and limits whose resources are named by a rule.
fn requirements_of(resources: Node<'_>, container_name: fn(Node<'_>, &str)) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for (resource, limit) in limits.entries() {
        container_name(limit, resource);
        quantity(limit, resource);
        hugepages(limit, resource);
    }
    for (resource, request) in requests.entries() {
        container_name(request, resource);
        quantity(request, resource);
        hugepages(request, resource);
        compare(requests, limits, resource, request.value);
    }
    let uses = |wanted: fn(&str) -> bool| [limits, requests].iter().any(|l| l.entries().any(|(k, _)| wanted(k)));
    if uses(is_hugepages) && !uses(|k| k == "cpu" || k == "memory") {
        resources.forbidden("HugePages require cpu or memory");
    }
}

fn hugepages(node: Node<'_>, resource: &str) {
    let Some(size) = resource.strip_prefix("hugepages-") else { return };
    let fits = match (size.parse::<Quantity>(), parse(node.value)) {
        (Ok(page), Some(amount)) => page.value() > 0 && amount.value() % page.value() == 0,
        _ => false,
    };
    if !fits {
        node.invalid(format!("{} is not positive integer multiple of {resource}", node.str()));
    }
}

fn compare(requests: Node<'_>, limits: Node<'_>, resource: &str, request: &Value) {
    let limit = &limits.value[resource];
    let (Some(amount), Some(bound)) = (parse(request), parse(limit)) else {
        if limit.is_null() && !overcommits(resource) {
            limits.required("Limit must be set for non overcommitable resources");
        }
        return;
    };
    if !overcommits(resource) && amount != bound {
        requests.invalid_value(request.clone(), format!("must be equal to {resource} limit of {limit}"));
    } else if amount > bound {
        requests.invalid_value(request.clone(), format!("must be less than or equal to {resource} limit of {limit}"));
    }
}
